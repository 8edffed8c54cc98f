/* SPDX-License-Identifier: MIT */
/*
 * range_shim.h - base/range.h with ranges as pairs of numbers.
 */
#ifndef FLATVIEW_TESTS_RANGE_SHIM_H
#define FLATVIEW_TESTS_RANGE_SHIM_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

bool range_shim_contains(uint64_t first, uint64_t last, uint64_t addr);
bool range_shim_overlaps(uint64_t a_first, uint64_t a_last, uint64_t b_first, uint64_t b_last);
/* ret[0] and ret[1] are first and last; untouched if false */
bool range_shim_intersect(uint64_t a_first, uint64_t a_last, uint64_t b_first, uint64_t b_last, uint64_t ret[2]);
bool range_shim_shift_up(uint64_t first, uint64_t last, uint64_t delta, uint64_t ret[2]);
bool range_shim_shift_down(uint64_t first, uint64_t last, uint64_t delta, uint64_t ret[2]);

#ifdef __cplusplus
}
#endif

#endif
