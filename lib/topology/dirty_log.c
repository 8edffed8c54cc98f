/* SPDX-License-Identifier: MIT */
/*
 * dirty_log.c - marking and collecting: the invariant and its proof are in dirty_log.h.
 *
 * A map, once a block has it, stays until the block is freed, or is replaced by one of another granule and retired. So who has
 * loaded a pointer to it in a read section may use it to the end of that.
 */
#include "topology/dirty_log.h"

#include <errno.h>

#include "base/grace.h"
#include "base/mem.h"

/* ---- stores --------------------------------------------------------------------------------------------------- */

void dirty_log_mark_clients(DirtyLog *log, uint32_t on, uint64_t first, uint64_t last)
{
#ifdef FLATVIEW_SABOTAGE
    static __thread unsigned turn;

    if (sabotaged(SABOTAGE_DROP_DIRTY) && ++turn % 16 == 0) {
        return;
    }
#endif
    for (; on; on &= on - 1) {
        DirtyBitmap *map = __atomic_load_n(&log->map[__builtin_ctz(on)], __ATOMIC_ACQUIRE);

        dirty_bitmap_set(map, first >> map->shift, last >> map->shift);
    }
}

/* ---- collecting ----------------------------------------------------------------------------------------------- */

static DirtyBitmap *map_of(RamBlock *block, unsigned client)
{
    return __atomic_load_n(&block->dirty.map[client], __ATOMIC_ACQUIRE);
}

static bool is_settled(const DirtyBitmap *map)
{
    return grace_ended(__atomic_load_n(&map->ticket, __ATOMIC_ACQUIRE));
}

static uint64_t last_bit(const DirtyBitmap *map, uint64_t last)
{
    uint64_t bit = last >> map->shift;

    return bit < map->n_bits ? bit : map->n_bits - 1;
}

/*
 * The client may come into force anew while we clear: its bits were all set then, after the ticket was taken away, and we have
 * cleared what must not be. But whoever saw one of those bits sees the ticket; so look again, and put them back. If it is
 * settled once more by then, the stores in question were all over before we return.
 */
static void take(DirtyBitmap *map, uint64_t first, uint64_t last, DirtyTaken *taken)
{
    if (!is_settled(map)) {
        taken->any = dirty_bitmap_read(map, first, last, taken->words);
        return;
    }
    taken->any = dirty_bitmap_take(map, first, last, taken->words);
    if (taken->any) {
        reader_fence_heavy(); /* pairs with reader_fence_light() in dirty_log_mark() */
        if (!is_settled(map)) {
            dirty_bitmap_put(map, first, last, taken->words);
        }
    }
}

int dirty_log_collect(RamBlock *block, unsigned client, uint64_t first, uint64_t last, bool clear, DirtyTaken *ret_taken)
{
    DirtyTaken taken;
    DirtyBitmap *map;
    int err = 0;

    reader_enter();
    map = map_of(block, client);
    if (!map) {
        reader_exit();
        return -EINVAL;
    }
    taken = (DirtyTaken){.shift = map->shift, .first = first >> map->shift, .last = last_bit(map, last)};
    taken.first_word_bit = taken.first & ~UINT64_C(63);
    taken.n_words = (size_t)(taken.last / 64 - taken.first / 64) + 1;
    taken.words = mem_zalloc(taken.n_words * sizeof(taken.words[0]));
    if (!taken.words) {
        err = -ENOMEM;
    } else if (clear) {
        take(map, taken.first, taken.last, &taken);
    } else {
        taken.any = dirty_bitmap_read(map, taken.first, taken.last, taken.words);
    }
    reader_exit();
    if (err == 0) {
        *ret_taken = taken;
    }
    return err;
}

bool dirty_log_clean(RamBlock *block, unsigned client, uint64_t first, uint64_t last)
{
    DirtyBitmap *map;
    uint64_t from, to;
    bool any = false;

    reader_enter();
    map = map_of(block, client);
    if (map) {
        uint64_t end = last + 1 >= ram_block_bytes(block) ? last_bit(map, last) + 1 :
                                                                (last + 1) >> map->shift; /* the last may be cut short */

        from = (first + (UINT64_C(1) << map->shift) - 1) >> map->shift;
        to = end ? end - 1 : 0;
        if (from < end) {
            if (is_settled(map)) {
                any = dirty_bitmap_clear(map, from, to);
                if (any) {
                    reader_fence_heavy(); /* as in take() */
                    if (!is_settled(map)) {
                        dirty_bitmap_set(map, from, to);
                    }
                }
            } else {
                any = dirty_bitmap_any(map, from, to);
            }
        }
    }
    reader_exit();
    return any;
}

bool dirty_log_any(RamBlock *block, unsigned client, uint64_t first, uint64_t last)
{
    DirtyBitmap *map;
    bool any;

    reader_enter();
    map = map_of(block, client);
    any = map && dirty_bitmap_any(map, first >> map->shift, last_bit(map, last));
    reader_exit();
    return any;
}

/* Granule and page differ, or do not fall together: run by run. */
static void merge_runs(DirtyBitmap *map, uint64_t size, uint64_t offset, unsigned page_shift, const uint64_t *foreign,
                       uint64_t from, uint64_t n)
{
    uint64_t bit = from, first, last;

    while (dirty_words_run(foreign, bit, from + n, &first, &last)) {
        uint64_t begin = offset + ((first - from) << page_shift);
        uint64_t end = offset + ((last - from + 1) << page_shift);

        dirty_bitmap_set(map, begin >> map->shift, ((end < size ? end : size) - 1) >> map->shift);
        bit = last + 1;
    }
}

void dirty_log_merge(RamBlock *block, uint32_t mask, uint64_t offset, unsigned page_shift, const uint64_t *foreign,
                     uint64_t from, uint64_t n)
{
    uint64_t size = ram_block_bytes(block), pages = offset < size ? ((size - offset - 1) >> page_shift) + 1 : 0;
    uint32_t on;

    n = n < pages ? n : pages;
    if (!n) {
        return;
    }
    reader_enter();
    on = __atomic_load_n(&block->dirty.on, __ATOMIC_ACQUIRE) & mask;
    reader_fence_light(); /* the stores behind these bits are as old as the bits: as in dirty_log_mark() */
    for (; on; on &= on - 1) {
        DirtyBitmap *map = map_of(block, (unsigned)__builtin_ctz(on));

        if (map->shift == page_shift && !(offset & ((UINT64_C(1) << page_shift) - 1))) {
            dirty_bitmap_merge(map, offset >> page_shift, foreign, from, n);
        } else {
            merge_runs(map, size, offset, page_shift, foreign, from, n);
        }
    }
    reader_exit();
}

void dirty_log_resized(RamBlock *block, uint64_t from)
{
    uint64_t to = ram_block_bytes(block);
    unsigned client;

    if (from < to) {
        if (sabotage_turn(SABOTAGE_DROP_GROWN, 4)) {
            return;
        }
        reader_enter();
        dirty_log_mark(&block->dirty, from, to - from);
        reader_exit();
        return;
    }
    /* Stores that still reach it through an older view are cut off as well; what appears again is marked above. */
    for (client = 0; client < DIRTY_CLIENTS && from > to; client++) {
        DirtyBitmap *map = map_of(block, client);
        uint64_t first;

        if (map) {
            first = to ? ((to - 1) >> map->shift) + 1 : 0;
            if (first < map->n_bits) {
                dirty_bitmap_clear(map, first, map->n_bits - 1);
            }
        }
    }
}
