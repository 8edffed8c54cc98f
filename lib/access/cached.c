/* SPDX-License-Identifier: MIT */
/*
 * cached.c - windows that remember where they lead: looking it up anew.
 *
 * Invariant: as in cached.h. What is remembered carries the generation of the view in which it was found, never the one that
 * the cell announced (thread_cache.c says why). Lock: none.
 */
#include "access/cached.h"

#include <string.h>

#include "access/dirty.h"
#include "access/reach.h"

static void look_up(MemoryRegionCache *cache, const FlatView *view)
{
    const FlatRange *range = view_find(view->root, cache->addr);
    unsigned i;

    cache->gen = view->gen;
    memset(cache->limit, 0, sizeof(cache->limit));
    if (!range || range->last - cache->addr < cache->len - 1 || !range_is_direct(range, false)) {
        return;
    }
    for (i = 0; i < 4; i++) {
        hwaddr short_of = (1u << i) - 1;

        cache->limit[i] = cache->len > short_of ? cache->len - short_of : 0;
    }
    cache->host = range->host + (cache->addr - range->first);
    cache->mr = range->mr;
    cache->offset = range->offset + (cache->addr - range->first);
    cache->writable = range_is_direct(range, true);
    cache->unasked = cache->writable && !(region_hooks(range->mr) & REGION_HOOK_LOG);
}

bool cached_refresh(MemoryRegionCache *cache, hwaddr offset, hwaddr size)
{
    const FlatView *view;

    if (!cached_holds(cache, offset, size)) {
        return false; /* so there is a space */
    }
    view = cell_view(space_cell(cache->as));
    if (cache->gen != view->gen) {
        look_up(cache, view);
    }
    return cache->limit[0];
}

MemTxResult cached_rw(MemoryRegionCache *cache, hwaddr offset, MemTxAttrs attrs, void *buf, hwaddr len, bool is_write)
{
    MemTxResult result = MEMTX_OK;
    uint8_t *host;

    if (!len) {
        return MEMTX_OK;
    }
    if (!cached_holds(cache, offset, len)) {
        return MEMTX_DECODE_ERROR;
    }
    reader_enter();
    if (cached_refresh(cache, offset, len) && (!is_write || cache->writable)) {
        host = cache->host + offset;
        ram_copy(is_write ? (void *)host : buf, is_write ? buf : (void *)host, len);
        if (is_write) {
            dirty_mark_region(cache->mr, cache->offset + offset, len);
        }
    } else {
        result = dispatch_rw(cache->as, cache->addr + offset, attrs, buf, len, is_write);
    }
    reader_exit();
    return result;
}
