/* SPDX-License-Identifier: MIT */
/*
 * cached.h - accesses through a window that remembers where it leads.
 *
 * Invariant: a cache of generation g (g != 0) says what the view of generation g, and the hooks in force with it, show of its
 * window. It is used only in a read section that has seen g to be current, as an entry of the thread's cache
 * (thread_cache.h has the argument); outside such a section its pointers are not followed, however dead they may be.
 * What it says of a stretch behind an IOMMU hangs on two things more (cached.c).
 * Established by: cached_find(). Relied on by: the functions below. Lock: none; a cache is one thread's at a time.
 */
#ifndef FLATVIEW_ACCESS_CACHED_H
#define FLATVIEW_ACCESS_CACHED_H

#include <flatview/memory_cache.h>

#include "access/dispatch.h"
#include "base/sabotage.h"

/* In a read section: size bytes, 1, 2, 4 or 8, at offset are in RAM that is remembered, and the map is still the same. */
DISPATCH_INLINE bool cached_hit(const MemoryRegionCache *cache, hwaddr offset, unsigned size)
{
    return __builtin_expect(offset < cache->limit[__builtin_ctz(size)], 1) &&
           __builtin_expect(cell_gen(space_cell(cache->as)) == cache->gen || sabotaged(SABOTAGE_STALE_WINDOW), 1);
}

/* In a read section: bring the cache up to date if it is not. Host memory of these bytes (size > 0) if they are in plain RAM that
   takes such accesses; stores to it are to be marked unless cache->unasked. NULL: dispatch has the answer, or they are beyond. */
uint8_t *cached_find(MemoryRegionCache *cache, hwaddr offset, hwaddr size, bool is_write, MemTxAttrs attrs);

/* Whether size bytes (> 0) at offset are in the window. */
static inline bool cached_holds(const MemoryRegionCache *cache, hwaddr offset, hwaddr size)
{
    return offset < cache->len && cache->len - offset >= size;
}

/* Bytes, whatever they are in. len may be 0. */
MemTxResult cached_rw(MemoryRegionCache *cache, hwaddr offset, MemTxAttrs attrs, void *buf, hwaddr len, bool is_write);

/* In a read section. The same for a caller who will do the access himself: a translation is asked for; and, for writing, what is to
   be marked is remembered. Then: mark it (len may be 0); false if these bytes are not what was given away. */
void *cached_ptr(MemoryRegionCache *cache, hwaddr offset, hwaddr len, bool is_write);
bool cached_written(const MemoryRegionCache *cache, hwaddr offset, hwaddr len);

#endif
