/* SPDX-License-Identifier: MIT */
/*
 * thread_cache.c - the miss.
 *
 * Invariant: see thread_cache.h. An entry carries the generation of the view in which its range was found, never the one
 * that the cell announced: between the two stores of a publication they differ, and only the former says what was seen.
 */
#include "access/thread_cache.h"

__thread ThreadCache thread_cache;

/* Where later accesses find range. Under SABOTAGE_STALE_CACHE a copy: this access goes on with the original, because a
   callback's own accesses may fill the copy anew under way. */
static const FlatRange *kept(const FlatRange *range, bool is_memory)
{
#ifdef FLATVIEW_SABOTAGE
    if (sabotaged(SABOTAGE_STALE_CACHE)) {
        FlatRange *copy = is_memory ? &thread_cache.stale_memory : &thread_cache.stale_device;

        *copy = *range;
        return copy;
    }
#endif
    (void)is_memory;
    return range;
}

static void remember_memory(uint64_t gen, const FlatRange *range)
{
    thread_cache.memory.gen = gen;
    thread_cache.memory.first = range->first;
    thread_cache.memory.limit = range->last - range->first - 7;
    thread_cache.memory.host = range->host;
    thread_cache.memory.range = kept(range, true);
    thread_cache.memory.writable = (range->flags & FLAT_DIRECT_WRITE) && !(region_hooks(range->mr) & REGION_HOOK_LOG);
}

static void remember_device(uint64_t gen, const FlatRange *range)
{
    thread_cache.device.gen = gen;
    thread_cache.device.first = range->first;
    thread_cache.device.span = range->last - range->first;
    thread_cache.device.range = kept(range, false);
    thread_cache.device.flags = thread_cache_device_flags(range);
}

const FlatRange *thread_cache_find(const FlatView *view, hwaddr addr)
{
    const FlatRange *range;

    if (thread_cache_fresh(thread_cache.memory.gen, view->gen) &&
        addr - thread_cache.memory.first <= thread_cache.memory.limit + 7) {
        return thread_cache.memory.range;
    }
    if (thread_cache_fresh(thread_cache.device.gen, view->gen) &&
        addr - thread_cache.device.first <= thread_cache.device.span) {
        return thread_cache.device.range;
    }
    range = view_find(view->root, addr);
    if (!range) {
        return NULL;
    }
    if ((range->flags & (FLAT_DIRECT_READ | FLAT_EXACT)) == FLAT_DIRECT_READ && range->last - range->first >= 7) {
        remember_memory(view->gen, range);
    } else {
        remember_device(view->gen, range);
    }
    return range;
}
