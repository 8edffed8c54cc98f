/* SPDX-License-Identifier: MIT */
/*
 * dirty_bitmap.c - sets of granules, word by word.
 *
 * Invariant: see dirty_bitmap.h. Every function looks before it writes: a dirty page that is written again, and a clean log
 * that is collected, cost loads of lines that all processors may share, and no store. (A read-modify-write for each page of each
 * store was measured elsewhere to cost more than the store.)
 */
#include "topology/dirty_bitmap.h"

#include "base/mem.h"

DirtyBitmap *dirty_bitmap_new(uint64_t bytes, unsigned shift)
{
    uint64_t n_bits = ((bytes - 1) >> shift) + 1;
    uint64_t n_words = (n_bits - 1) / 64 + 1;
    DirtyBitmap *map;

    if (n_words > (SIZE_MAX - sizeof(*map)) / sizeof(map->words[0])) {
        return NULL;
    }
    map = mem_zalloc(sizeof(*map) + n_words * sizeof(map->words[0]));
    if (map) {
        map->shift = shift;
        map->n_bits = n_bits;
        map->n_words = n_words;
    }
    return map;
}

void dirty_bitmap_free(DirtyBitmap *map)
{
    if (map) {
        mem_free(map, sizeof(*map) + map->n_words * sizeof(map->words[0]));
    }
}

/* ---- one word ------------------------------------------------------------------------------------------------- */

static inline void word_set(DirtyBitmap *map, size_t i, uint64_t bits)
{
    if (bits & ~__atomic_load_n(&map->words[i], __ATOMIC_RELAXED)) {
        __atomic_fetch_or(&map->words[i], bits, __ATOMIC_RELEASE);
    }
}

static inline uint64_t word_take(DirtyBitmap *map, size_t i, uint64_t mask)
{
    if (!(__atomic_load_n(&map->words[i], __ATOMIC_RELAXED) & mask)) {
        return 0;
    }
    /* Of these two, each is a full barrier where it matters (x86); elsewhere the collector's fence comes after it. */
    return mask == UINT64_MAX ? __atomic_exchange_n(&map->words[i], 0, __ATOMIC_ACQ_REL) :
                                __atomic_fetch_and(&map->words[i], ~mask, __ATOMIC_ACQ_REL) & mask;
}

static inline uint64_t word_read(const DirtyBitmap *map, size_t i, uint64_t mask)
{
    return __atomic_load_n(&map->words[i], __ATOMIC_ACQUIRE) & mask;
}

/* ---- ranges --------------------------------------------------------------------------------------------------- */

/* Words [first, last] with the part of each edge that counts. */
typedef struct Words {
    size_t first, last;
    uint64_t first_mask, last_mask;
} Words;

static inline Words words_of(uint64_t first, uint64_t last)
{
    Words w = {
        .first = first / 64,
        .last = last / 64,
        .first_mask = UINT64_MAX << (first % 64),
        .last_mask = UINT64_MAX >> (63 - last % 64),
    };

    if (w.first == w.last) {
        w.first_mask &= w.last_mask;
        w.last_mask = w.first_mask;
    }
    return w;
}

static inline uint64_t words_mask(const Words *w, size_t i)
{
    return i == w->first ? w->first_mask : i == w->last ? w->last_mask : UINT64_MAX;
}

enum { STRIDE = 8 }; /* words of a cache line */

/* The next word at or after i, up to the last, that is not all clean; last + 1 if there is none. Edges may be reported for bits
   outside their mask. */
static inline size_t next_dirty_word(const DirtyBitmap *map, size_t i, size_t last)
{
    const uint64_t *p = map->words;

    while (i <= last) {
        while (i % STRIDE == 0 && last - i >= STRIDE) {
            uint64_t any = __atomic_load_n(&p[i], __ATOMIC_RELAXED) | __atomic_load_n(&p[i + 1], __ATOMIC_RELAXED) |
                           __atomic_load_n(&p[i + 2], __ATOMIC_RELAXED) | __atomic_load_n(&p[i + 3], __ATOMIC_RELAXED) |
                           __atomic_load_n(&p[i + 4], __ATOMIC_RELAXED) | __atomic_load_n(&p[i + 5], __ATOMIC_RELAXED) |
                           __atomic_load_n(&p[i + 6], __ATOMIC_RELAXED) | __atomic_load_n(&p[i + 7], __ATOMIC_RELAXED);

            if (any) {
                break;
            }
            i += STRIDE;
        }
        if (__atomic_load_n(&p[i], __ATOMIC_RELAXED)) {
            return i;
        }
        i++;
    }
    return i;
}

void dirty_bitmap_set(DirtyBitmap *map, uint64_t first, uint64_t last)
{
    Words w = words_of(first, last);
    size_t i;

    for (i = w.first; i <= w.last; i++) {
        word_set(map, i, words_mask(&w, i));
    }
}

bool dirty_bitmap_any(const DirtyBitmap *map, uint64_t first, uint64_t last)
{
    Words w = words_of(first, last);
    size_t i;

    for (i = next_dirty_word(map, w.first, w.last); i <= w.last; i = next_dirty_word(map, i + 1, w.last)) {
        if (word_read(map, i, words_mask(&w, i))) {
            return true;
        }
    }
    return false;
}

bool dirty_bitmap_read(const DirtyBitmap *map, uint64_t first, uint64_t last, uint64_t *out)
{
    Words w = words_of(first, last);
    uint64_t all = 0;
    size_t i;

    for (i = next_dirty_word(map, w.first, w.last); i <= w.last; i = next_dirty_word(map, i + 1, w.last)) {
        out[i - w.first] = word_read(map, i, words_mask(&w, i));
        all |= out[i - w.first];
    }
    return all;
}

bool dirty_bitmap_take(DirtyBitmap *map, uint64_t first, uint64_t last, uint64_t *out)
{
    Words w = words_of(first, last);
    uint64_t all = 0;
    size_t i;

    for (i = next_dirty_word(map, w.first, w.last); i <= w.last; i = next_dirty_word(map, i + 1, w.last)) {
        out[i - w.first] = word_take(map, i, words_mask(&w, i));
        all |= out[i - w.first];
    }
    return all;
}

void dirty_bitmap_put(DirtyBitmap *map, uint64_t first, uint64_t last, const uint64_t *taken)
{
    Words w = words_of(first, last);
    size_t i;

    for (i = w.first; i <= w.last; i++) {
        word_set(map, i, taken[i - w.first]);
    }
}

bool dirty_bitmap_clear(DirtyBitmap *map, uint64_t first, uint64_t last)
{
    Words w = words_of(first, last);
    uint64_t all = 0;
    size_t i;

    for (i = next_dirty_word(map, w.first, w.last); i <= w.last; i = next_dirty_word(map, i + 1, w.last)) {
        all |= word_take(map, i, words_mask(&w, i));
    }
    return all;
}

/* ---- merging -------------------------------------------------------------------------------------------------- */

/* count (1 to 64) foreign bits from bit on, in the low end of the result. */
static inline uint64_t foreign_bits(const uint64_t *foreign, uint64_t bit, unsigned count)
{
    unsigned skip = bit % 64;
    uint64_t bits = foreign[bit / 64] >> skip;

    if (skip + count > 64) {
        bits |= foreign[bit / 64 + 1] << (64 - skip);
    }
    return bits & UINT64_MAX >> (64 - count);
}

/* n whole words from word i on; the foreign side begins skip bits into its first. */
static void merge_words(DirtyBitmap *map, size_t i, const uint64_t *foreign, unsigned skip, size_t n)
{
    const uint64_t *end = foreign + n;
    uint64_t low, high;

    if (!skip) {
        for (; foreign < end; foreign++, i++) {
            if (*foreign) {
                word_set(map, i, *foreign);
            }
        }
        return;
    }
    for (low = *foreign; foreign < end; foreign++, i++, low = high) {
        uint64_t bits;

        high = foreign[1];
        bits = low >> skip | high << (64 - skip);
        if (bits) {
            word_set(map, i, bits);
        }
    }
}

void dirty_bitmap_merge(DirtyBitmap *map, uint64_t first, const uint64_t *foreign, uint64_t from, uint64_t n)
{
    unsigned head = 64 - first % 64; /* bits up to the end of the map's first word */
    uint64_t words;

    if (!n) {
        return;
    }
    if (head < 64 || n < 64) {
        head = n < head ? (unsigned)n : head;
        word_set(map, first / 64, foreign_bits(foreign, from, head) << (first % 64));
        first += head;
        from += head;
        n -= head;
    }
    words = n / 64;
    if (words) {
        merge_words(map, first / 64, foreign + from / 64, from % 64, words);
        first += words * 64;
        from += words * 64;
        n -= words * 64;
    }
    if (n) {
        word_set(map, first / 64, foreign_bits(foreign, from, (unsigned)n));
    }
}

/* The first bit at or after bit that is set, or clear if flip is all ones; end if none before. */
static uint64_t find_bit(const uint64_t *words, uint64_t bit, uint64_t end, uint64_t flip)
{
    while (bit < end) {
        uint64_t w = (words[bit / 64] ^ flip) >> (bit % 64);

        if (w) {
            bit += (unsigned)__builtin_ctzll(w);
            return bit < end ? bit : end;
        }
        bit = (bit | 63) + 1;
    }
    return end;
}

bool dirty_words_run(const uint64_t *words, uint64_t bit, uint64_t end, uint64_t *ret_first, uint64_t *ret_last)
{
    bit = find_bit(words, bit, end, 0);
    if (bit == end) {
        return false;
    }
    *ret_first = bit;
    *ret_last = find_bit(words, bit, end, UINT64_MAX) - 1;
    return true;
}
