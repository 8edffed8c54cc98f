/* SPDX-License-Identifier: MIT */
/*
 * thread_cache.c - the miss.
 *
 * Invariant: see thread_cache.h. An entry carries the generation of the view in which its range was found, never the one
 * that the cell announced: between the two stores of a publication they differ, and only the former says what was seen.
 */
#include "access/thread_cache.h"

__thread ThreadCache thread_cache __attribute__((aligned(64)));

const FlatRange *thread_cache_fill(const FlatView *view, hwaddr addr)
{
    const FlatRange *range = view_find(view->root, addr);
    ThreadCacheEntry *entry;

    if (!range) {
        return NULL;
    }
    entry = range->flags & FLAT_DIRECT_READ ? &thread_cache.memory : &thread_cache.device;
    entry->gen = view->gen;
    entry->first = range->first;
    entry->span = range->last - range->first;
#ifdef FLATVIEW_SABOTAGE
    if (sabotaged(SABOTAGE_STALE_CACHE)) {
        entry->copy = *range;
        entry->range = &entry->copy;
        return range; /* for this access: a callback's own accesses may fill the entry anew under way */
    }
#endif
    entry->range = range;
    return range;
}
