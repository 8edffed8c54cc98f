/* SPDX-License-Identifier: MIT */
/*
 * thread_cache.h - what this thread looked up last, so that it need not look again.
 *
 * Invariant: an entry of generation g (g != 0) holds a range of the view of generation g, found in a read section of this
 * thread. It is used only in a read section that has seen g to be current, so the range is alive: the grace period
 * that ends its view's life begins after g stopped being what cell_gen() says (publish/cell.h). Outside such a section
 * the pointer is not looked at, however dead it may be; nothing has to be invalidated, by anybody.
 * Established by: thread_cache_find(), thread_cache_find_in(). Relied on by: every access. Lock: none; it is the thread's.
 *
 * Generations are unique over all cells, so one cache serves all spaces, and destroyed and recycled cells too. No view
 * has generation 0: an entry of zeroes is empty.
 *
 * Two entries, chosen by what the range is: guests alternate between memory and a device's registers (a driver's loop
 * does little else), and memory, asked first, pays nothing for the second.
 */
#ifndef FLATVIEW_ACCESS_THREAD_CACHE_H
#define FLATVIEW_ACCESS_THREAD_CACHE_H

#include "base/sabotage.h"
#include "publish/cell.h"

typedef struct ThreadCacheEntry {
    uint64_t gen;
    hwaddr first;
    uint64_t span; /* last - first */
    const FlatRange *range;
#ifdef FLATVIEW_SABOTAGE
    FlatRange copy; /* what range points to under that fault: to be stale, yet not to crash before it is caught */
#endif
} ThreadCacheEntry;

typedef struct ThreadCache {
    ThreadCacheEntry memory; /* ranges that are read directly */
    ThreadCacheEntry device; /* all others */
} ThreadCache;

extern __thread ThreadCache thread_cache __attribute__((tls_model("initial-exec")));

/* Look addr up in a view that this read section may use, and remember. NULL for a hole, which is not remembered. */
const FlatRange *thread_cache_fill(const FlatView *view, hwaddr addr);

static inline bool thread_cache_hits(const ThreadCacheEntry *entry, uint64_t gen, hwaddr addr)
{
    return (entry->gen == gen || (sabotaged(SABOTAGE_STALE_CACHE) && entry->gen != 0)) &&
           addr - entry->first <= entry->span;
}

static inline const FlatRange *thread_cache_look(uint64_t gen, hwaddr addr)
{
    if (__builtin_expect(thread_cache_hits(&thread_cache.memory, gen, addr), 1)) {
        return thread_cache.memory.range;
    }
    if (thread_cache_hits(&thread_cache.device, gen, addr)) {
        return thread_cache.device.range;
    }
    return NULL;
}

/* The range at addr in the current view, or NULL. For one lookup: a second one may consult a newer view. */
static inline const FlatRange *thread_cache_find(ViewCell *cell, hwaddr addr)
{
    const FlatRange *range = thread_cache_look(cell_gen(cell), addr);

    return __builtin_expect(range != NULL, 1) ? range : thread_cache_fill(cell_view(cell), addr);
}

/* The range at addr in the view that the caller loaded, or NULL. For calls that must stay in one view (R1). */
static inline const FlatRange *thread_cache_find_in(const FlatView *view, hwaddr addr)
{
    const FlatRange *range = thread_cache_look(view->gen, addr);

    return range ? range : thread_cache_fill(view, addr);
}

#endif
