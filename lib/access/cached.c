/* SPDX-License-Identifier: MIT */
/*
 * cached.c - windows that remember where they lead: looking it up anew.
 *
 * Invariant: as in cached.h. What is remembered carries the generation of the view in which it was found, never the one that
 * the cell announced (thread_cache.c says why). Lock: none.
 *
 * A window in an IOMMU region is asked about in the order in which it leads on: that its view is current keeps the region alive,
 * and so the table; that the table has not taken the entry back keeps the space alive to which it leads; that the view of that
 * one is current keeps the memory. An entry is taken over from what the thread remembers (iommu.c), not asked for: so that the
 * table hears of each access that it did not permit, or of which it keeps books, once, from dispatch.
 */
#include "access/cached.h"

#include <string.h>

#include "access/dirty.h"
#include "access/reach.h"
#include "access/thread_cache.h"
#include "topology/iommu.h"

static void take_memory(MemoryRegionCache *cache, const FlatRange *range, hwaddr at, hwaddr window_at)
{
    cache->host = range->host + (at - range->first);
    cache->mr = range->mr;
    cache->offset = range->offset + (at - range->first) - window_at;
    cache->writable = range_is_direct(range, true);
    cache->unasked = cache->writable && !(region_hooks(range->mr) & REGION_HOOK_LOG);
}

static void look_up(MemoryRegionCache *cache, const FlatView *view)
{
    const FlatRange *range = view_find(view->root, cache->addr);
    unsigned i;

    cache->gen = view->gen;
    cache->iommu = NULL;
    memset(cache->limit, 0, sizeof(cache->limit));
    if (!range || range->last - cache->addr < cache->len - 1) {
        return;
    }
    if (range->flags & FLAT_IOMMU) {
        cache->iommu = range->mr;
        cache->iova = range->offset + (cache->addr - range->first);
        cache->readonly = range->flags & FLAT_READONLY;
        cache->target_as = NULL;
        return;
    }
    if (!range_is_direct(range, false)) {
        return;
    }
    for (i = 0; i < 4; i++) {
        hwaddr short_of = (1u << i) - 1;

        cache->limit[i] = cache->len > short_of ? cache->len - short_of : 0;
    }
    take_memory(cache, range, cache->addr, 0);
}

/* ---- in an IOMMU region ---- */

static bool stretch_holds(const MemoryRegionCache *cache, hwaddr offset, hwaddr size)
{
    return offset >= cache->first && offset <= cache->last && cache->last - offset >= size - 1;
}

static bool stretch_serves(MemoryRegionCache *cache, hwaddr offset, hwaddr size, bool is_write, MemTxAttrs attrs)
{
    const IommuRegion *iommu = cache->iommu->iommu;

    return cache->target_as && stretch_holds(cache, offset, size) && (cache->perm & (is_write ? IOMMU_WO : IOMMU_RO)) &&
           iommu_index(iommu, cache->iommu, attrs) == cache->index &&
           iommu_unchanged(&iommu->table[cache->index], (AddrRange){cache->entry_first, cache->entry_last}, cache->seq,
                           &cache->seq) &&
           cell_gen(space_cell(cache->target_as)) == cache->target_gen;
}

/* The stretch around offset, if this thread knows its entry and that leads to plain RAM. */
static void take_stretch(MemoryRegionCache *cache, hwaddr offset, const IommuTrail *trail)
{
    const IOMMUTLBEntry *entry = &trail->entry;
    hwaddr iova = cache->iova + offset, addr = entry->translated_addr + (iova - entry->iova), before, after;
    const FlatView *view = cell_view(space_cell(entry->target_as));
    const FlatRange *range = addr >= entry->translated_addr ? thread_cache_find(view, addr) : NULL;

    if (!range || (range->flags & FLAT_IOMMU) || !range_is_direct(range, false)) {
        cache->target_as = NULL;
        return;
    }
    before = addr - range->first < iova - entry->iova ? addr - range->first : iova - entry->iova;
    after = range->last - addr < entry->last - iova ? range->last - addr : entry->last - iova;
    before = before < offset ? before : offset;
    after = after < cache->len - 1 - offset ? after : cache->len - 1 - offset;
    cache->first = offset - before;
    cache->last = offset + after;
    take_memory(cache, range, addr - before, cache->first);
    cache->entry_first = entry->iova;
    cache->entry_last = entry->last;
    cache->index = trail->index;
    cache->perm = (uint8_t)(entry->perm & (cache->readonly ? IOMMU_RO : IOMMU_RW));
    cache->seq = trail->seq;
    cache->target_as = entry->target_as;
    cache->target_gen = view->gen;
}

static uint8_t *find_stretch(MemoryRegionCache *cache, hwaddr offset, hwaddr size, bool is_write, MemTxAttrs attrs)
{
    IommuTrail trail;

    if (!stretch_serves(cache, offset, size, is_write, attrs)) {
        if (!iommu_remembered(cache->iommu, cache->iova + offset, is_write, attrs, &trail)) {
            return NULL;
        }
        take_stretch(cache, offset, &trail);
        if (!cache->target_as || !stretch_holds(cache, offset, size) || (is_write && !(cache->perm & IOMMU_WO))) {
            return NULL;
        }
    }
    return cache->host + (offset - cache->first);
}

/* ---- */

uint8_t *cached_find(MemoryRegionCache *cache, hwaddr offset, hwaddr size, bool is_write, MemTxAttrs attrs)
{
    const FlatView *view;
    uint8_t *host = NULL;

    if (!cached_holds(cache, offset, size)) {
        return NULL; /* so there is a space */
    }
    view = cell_view(space_cell(cache->as));
    if (cache->gen != view->gen) {
        look_up(cache, view);
    }
    if (cache->limit[0]) {
        host = cache->host + offset;
    } else if (cache->iommu) {
        host = find_stretch(cache, offset, size, is_write, attrs);
    }
    return is_write && host && !cache->writable ? NULL : host;
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
    host = cached_find(cache, offset, len, is_write, attrs);
    if (host) {
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

void *cached_ptr(MemoryRegionCache *cache, hwaddr offset, hwaddr len, bool is_write)
{
    const MemTxAttrs attrs = MEMTXATTRS_UNSPECIFIED;
    uint8_t *host = cached_find(cache, offset, len, is_write, attrs);
    IOMMUTLBEntry entry;

    /* With an IOMMU region it may be the first that this thread does there: then nobody but us asks the table. */
    if (!host && cached_holds(cache, offset, len) && cache->iommu && !(is_write && cache->readonly) &&
        iommu_translate(cache->iommu, cache->iova + offset, is_write, attrs, &entry) == MEMTX_OK) {
        host = cached_find(cache, offset, len, is_write, attrs);
    }
    if (host && is_write) {
        cache->lent_mr = cache->mr;
        cache->lent_offset = cache->offset;
        cache->lent_first = cache->iommu ? cache->first : 0;
        cache->lent_last = cache->iommu ? cache->last : cache->len - 1;
    }
    return host;
}

bool cached_written(const MemoryRegionCache *cache, hwaddr offset, hwaddr len)
{
    if (!cached_holds(cache, offset, len) || !cache->lent_mr || offset < cache->lent_first || offset > cache->lent_last ||
        (len && cache->lent_last - offset < len - 1)) {
        return false;
    }
    if (len) {
        dirty_mark_region(cache->lent_mr, cache->lent_offset + offset, len);
    }
    return true;
}
