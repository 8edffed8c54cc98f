/* SPDX-License-Identifier: MIT */
/*
 * dirty_bitmap.h - which granules of a RAM block were written, for one client.
 *
 * Invariant: a bit is set after the store that it stands for, with release, and given out by a take with acquire; so whoever
 * got a bit sees the store. A store that finds its bit set already leaves it alone, without any fence: dirty_log.h argues
 * why the collector that clears the bit at that moment loses nothing.
 *
 * Bits are numbered from the beginning of the block; none is ever set beyond n_bits. Ranges of bits are closed.
 * Concurrency: all functions but new and free run in any number of threads at once. Each word is one atomic; a range is not.
 */
#ifndef FLATVIEW_TOPOLOGY_DIRTY_BITMAP_H
#define FLATVIEW_TOPOLOGY_DIRTY_BITMAP_H

#include <flatview/types.h>

typedef struct DirtyBitmap {
    unsigned shift;  /* log2 of the granule */
    uint64_t n_bits; /* > 0 */
    size_t n_words;
    uint64_t ticket;  /* atomic; dirty_log.c: that of the grace period before which no bit may be cleared */
    FlatviewRetireHead retire;
    uint64_t words[] __attribute__((aligned(64)));
} DirtyBitmap;

/* For bytes > 0 in granules of 1 << shift, all clean. NULL: -ENOMEM. */
DirtyBitmap *dirty_bitmap_new(uint64_t bytes, unsigned shift);
void dirty_bitmap_free(DirtyBitmap *map); /* NULL is a no-op */

static inline uint64_t dirty_word(const DirtyBitmap *map, uint64_t bit)
{
    return __atomic_load_n(&map->words[bit / 64], __ATOMIC_RELAXED);
}

static inline bool dirty_bitmap_test(const DirtyBitmap *map, uint64_t bit)
{
    return dirty_word(map, bit) >> (bit % 64) & 1;
}

/* Words that are as they should be already are not written to. */
void dirty_bitmap_set(DirtyBitmap *map, uint64_t first, uint64_t last);
bool dirty_bitmap_any(const DirtyBitmap *map, uint64_t first, uint64_t last);

/*
 * Words out[0] and up are those of the map from the word of first on. Read copies, take also clears what it copied; both write
 * only words that have a bit in the range, so out comes zeroed. put sets what was taken again. True if there was a bit.
 */
bool dirty_bitmap_read(const DirtyBitmap *map, uint64_t first, uint64_t last, uint64_t *out);
bool dirty_bitmap_take(DirtyBitmap *map, uint64_t first, uint64_t last, uint64_t *out);
void dirty_bitmap_put(DirtyBitmap *map, uint64_t first, uint64_t last, const uint64_t *taken);
/* Take without keeping. */
bool dirty_bitmap_clear(DirtyBitmap *map, uint64_t first, uint64_t last);

/* Set bit first + i wherever bit from + i of the foreign words is set, for i < n; word by word whatever the alignment of the
   two to each other. Reads no foreign word that has none of those bits. */
void dirty_bitmap_merge(DirtyBitmap *map, uint64_t first, const uint64_t *foreign, uint64_t from, uint64_t n);

/* The first run of set bits at or after bit, before end, in plain words; false if there is none. */
bool dirty_words_run(const uint64_t *words, uint64_t bit, uint64_t end, uint64_t *ret_first, uint64_t *ret_last);

#endif
