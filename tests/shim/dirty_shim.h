/* SPDX-License-Identifier: MIT */
/*
 * dirty_shim.h - topology/dirty_bitmap.h, and the race of base/reader.h's asymmetric fence.
 */
#ifndef FLATVIEW_TESTS_DIRTY_SHIM_H
#define FLATVIEW_TESTS_DIRTY_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ShimBitmap ShimBitmap;

ShimBitmap *dirty_shim_new(uint64_t n_bits);
void dirty_shim_free(ShimBitmap *map);
bool dirty_shim_test(const ShimBitmap *map, uint64_t bit);
void dirty_shim_set(ShimBitmap *map, uint64_t first, uint64_t last);
bool dirty_shim_any(const ShimBitmap *map, uint64_t first, uint64_t last);
bool dirty_shim_read(const ShimBitmap *map, uint64_t first, uint64_t last, uint64_t *out);
bool dirty_shim_take(ShimBitmap *map, uint64_t first, uint64_t last, uint64_t *out);
void dirty_shim_put(ShimBitmap *map, uint64_t first, uint64_t last, const uint64_t *taken);
bool dirty_shim_clear(ShimBitmap *map, uint64_t first, uint64_t last);
void dirty_shim_merge(ShimBitmap *map, uint64_t first, const uint64_t *foreign, uint64_t from, uint64_t n);
bool dirty_shim_run(const uint64_t *words, uint64_t bit, uint64_t end, uint64_t *ret_first, uint64_t *ret_last);
bool dirty_shim_word_beyond_is_clean(const ShimBitmap *map, uint64_t n_bits); /* no bit at or after n_bits */

/* One thread stores a number and marks it, as dispatch does; another takes the mark and copies the number. Returns how many
   times the copy was older than the last store although the mark was clear: stores that nobody will ever copy. */
uint64_t dirty_shim_race(double seconds, bool fence, uint64_t *ret_rounds);

#ifdef __cplusplus
}
#endif

#endif
