/* SPDX-License-Identifier: MIT */
/*
 * dirty_log.h - what was written to a RAM block since each client asked last.
 *
 * Invariant (ORDERING: R7): a store that dispatch completed before a collect began is in that collect or a later one; when a
 * collect returns, every store that its bits stand for, and every store that left a bit alone because it was set, is visible
 * to the collector.
 *
 * The race. A store to a page that is dirty already should cost a load and a branch. But:
 *
 *     writer     store data;  load bit: set, so leave it
 *     collector  take bit (clear it);  copy page
 *
 * With the data still in the writer's store buffer the collector may clear the bit and copy the old page, and nobody will
 * ever copy the new one. A full fence between the two lines of the writer would do, at five times the price of everything
 * else. So the fence is put on the collector (reader_fence_light(), reader_fence_heavy()): the writer's is the compiler's, and
 * the collector, after it has cleared bits and before it returns them, makes every thread pass a full barrier. Take that point
 * of the writer's thread. Either its load of the bit came before it: then so did its store of the data, in program order,
 * and the barrier has made that visible before the collect returned, hence before the page is copied. Or the load comes after
 * it: then it sees the clearing, finds the bit clear, and sets it for the next collect.
 * A writer that finds its bit clear sets it with release, and the take is an acquire: it needs no argument.
 *
 * Stores that look up their range without knowing of the log. Logging begins with a commit; a thread inside a read section
 * that began before may go on storing unmarked (dispatch looks at REGION_HOOK_LOG, not here). Therefore
 *   - a client that comes into force finds every granule dirty;
 *   - no bit of it can be cleared before a grace period that began after that commit has ended. Until then a collect reports
 *     all, and leaves all. It never waits: whoever collects may hold a lock that such a thread wants in a device's callback.
 *
 * A client's count and mask change in the open transaction; what stores obey (on, map) at its commit only: dirty_log_raise()
 * before publication, dirty_log_settle() after it. So an abort has nothing to take back that a store could have seen.
 */
#ifndef FLATVIEW_TOPOLOGY_DIRTY_LOG_H
#define FLATVIEW_TOPOLOGY_DIRTY_LOG_H

#include "base/reader.h"
#include "base/sabotage.h"
#include "topology/dirty_bitmap.h"
#include "topology/ram_block.h"

/* ---- stores: any thread, in the read section of the lookup, after the store ---- */

void dirty_log_mark_clients(DirtyLog *log, uint32_t on, uint64_t first, uint64_t last);

/* Bytes [offset, offset + len) of the block were written; len > 0. */
static inline void dirty_log_mark(DirtyLog *log, uint64_t offset, uint64_t len)
{
    uint32_t on = __atomic_load_n(&log->on, __ATOMIC_ACQUIRE); /* pairs with dirty_log_raise(): their maps are there */
    uint64_t last = offset + len - 1;
    uint32_t left;

    reader_fence_light(); /* pairs with reader_fence_heavy() in dirty_log_collect() */
    for (left = on; left; left &= left - 1) {
        const DirtyBitmap *map = __atomic_load_n(&log->map[__builtin_ctz(left)], __ATOMIC_ACQUIRE);

        if (offset >> map->shift != last >> map->shift || !dirty_bitmap_test(map, offset >> map->shift)) {
            dirty_log_mark_clients(log, left, offset, last);
            return;
        }
    }
}

/* ---- collecting: any thread, lock-free. Enters a read section, for a granule may be changed ---- */

/* What a collect brings home: bit i of the words stands for granule first + i, in granules of 1 << shift. */
typedef struct DirtyTaken {
    unsigned shift;
    uint64_t first_word_bit; /* the block's bit that is bit 0 of the words */
    uint64_t first, last;    /* bits of the block that were asked for */
    size_t n_words;
    bool any;
    uint64_t *words; /* mem_alloc(n_words * 8) */
} DirtyTaken;

/* Of bytes [first, last] of the block, to whole granules. clear: and clean them. 0, -EINVAL (the client never was in force
   here), -ENOMEM. */
int dirty_log_collect(RamBlock *block, unsigned client, uint64_t first, uint64_t last, bool clear, DirtyTaken *ret_taken);
/* Without looking: the granules that lie wholly inside. True if one was dirty. */
bool dirty_log_clean(RamBlock *block, unsigned client, uint64_t first, uint64_t last);
bool dirty_log_any(RamBlock *block, unsigned client, uint64_t first, uint64_t last);
/* For the clients of the mask that are in force: page i (1 << page_shift bytes) of n pages that begin at offset is dirty if bit
   from + i of the foreign words is set. Pages beyond the block are ignored. */
void dirty_log_merge(RamBlock *block, uint32_t mask, uint64_t offset, unsigned page_shift, const uint64_t *foreign,
                     uint64_t from, uint64_t n);
/* The block had from bytes (topology lock): what it has more is dirty, what it has not any more is clean. */
void dirty_log_resized(RamBlock *block, uint64_t from);

/* ---- who wants it: topology lock ---- */

/* One user more: 0, or -ENOMEM with nothing changed. */
int dirty_log_use(RamBlock *block, unsigned client);
void dirty_log_unuse(RamBlock *block, unsigned client);
void dirty_log_reuse(RamBlock *block, unsigned client); /* take an unuse back: whatever was needed for it is still there */
uint8_t dirty_log_wanted(const RamBlock *block); /* mask of clients with users */
/* The regions whose mask the open transaction changes: the first, and the one after one. NULL: no more. */
MemoryRegion *dirty_log_changed(const MemoryRegion *after);
/* Is any block logged, or will be? Else no listener need hear of it. */
bool dirty_log_in_use(void);
/* Blocks whose clients changed in the open transaction come into force: first, before the commit publishes, those that begin;
   then, after it, those that end. Abort: the first is left out, and what was staged is dropped. */
void dirty_log_raise(void);
void dirty_log_settle(void);

/* ---- all blocks ---- */

/* Between the two a lock is held that anybody may want for a moment. begin: 0, or -ENOMEM and no lock. */
int dirty_log_join_begin(RamBlock *block);
void dirty_log_join_end(RamBlock *block, MemoryRegion *mr);
void dirty_log_join_cancel(void);
void dirty_log_leave(RamBlock *block); /* no-op unless joined; frees the maps */

/* Blocks that join from now on are logged for migration (topology lock). */
void dirty_log_set_global(bool global);
/* Calls fn for each block (or each with users or bits in force) with that lock held: fn may allocate. Returns the first that is
   not 0. */
int dirty_log_foreach(bool logged_only, int (*fn)(RamBlock *block, void *arg), void *arg);

#endif
