/* SPDX-License-Identifier: MIT */
/*
 * histogram.h - how long things took: counts in buckets that grow with the value, so that a percentile is right to
 * 1/16.
 *
 * One thread adds; others may read while it does and see every count as it was a moment ago.
 */
#ifndef FLATVIEW_STRESS_HISTOGRAM_H
#define FLATVIEW_STRESS_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BUCKETS (61 * 16)

typedef struct Histogram {
    uint64_t count[HISTOGRAM_BUCKETS]; /* 16 linear buckets for each power of two */
    uint64_t max;
} Histogram;

void histogram_add(Histogram *h, uint64_t value);
void histogram_merge(Histogram *h, const Histogram *other);

/* The least value that @per_mille of a thousand values do not exceed, rounded up to a bucket; 0 if there are none. */
uint64_t histogram_percentile(const Histogram *h, unsigned per_mille);

#endif
