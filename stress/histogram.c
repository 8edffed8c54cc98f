/* SPDX-License-Identifier: MIT */
/*
 * histogram.c - log-linear buckets: values below 16 exactly, above that the top five bits of the value.
 *
 * Invariant: bucket_of() is monotonous and bucket_top(bucket_of(v)) >= v, so a percentile never flatters.
 * One writer per histogram; the atomics only keep a concurrent reader from seeing half a count.
 */
#include "histogram.h"

static unsigned bucket_of(uint64_t value)
{
    unsigned log;

    if (value < 16) {
        return (unsigned)value;
    }
    log = 63 - (unsigned)__builtin_clzll(value);
    return (log - 3) * 16 + (unsigned)(value >> (log - 4) & 15);
}

static uint64_t bucket_top(unsigned bucket)
{
    unsigned log = bucket / 16 + 3;

    if (bucket < 16) {
        return bucket;
    }
    return ((uint64_t)(16 + bucket % 16) << (log - 4)) + ((UINT64_C(1) << (log - 4)) - 1);
}

void histogram_add(Histogram *h, uint64_t value)
{
    uint64_t *count = &h->count[bucket_of(value)];

    __atomic_store_n(count, *count + 1, __ATOMIC_RELAXED);
    if (value > h->max) {
        __atomic_store_n(&h->max, value, __ATOMIC_RELAXED);
    }
}

void histogram_merge(Histogram *h, const Histogram *other)
{
    uint64_t max = __atomic_load_n(&other->max, __ATOMIC_RELAXED);

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        h->count[i] += __atomic_load_n(&other->count[i], __ATOMIC_RELAXED);
    }
    h->max = max > h->max ? max : h->max;
}

uint64_t histogram_percentile(const Histogram *h, unsigned per_mille)
{
    uint64_t total = 0, below = 0;
    unsigned bucket;

    for (bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        total += h->count[bucket];
    }
    for (bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        below += h->count[bucket];
        if (below && below * 1000 >= total * per_mille) {
            return bucket_top(bucket) < h->max ? bucket_top(bucket) : h->max;
        }
    }
    return h->max;
}
