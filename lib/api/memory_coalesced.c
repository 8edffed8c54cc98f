/* SPDX-License-Identifier: MIT */
/*
 * memory_coalesced.c - coalesced ranges, and asking for what waits.
 *
 * Invariant: the coalesced ranges of a region are disjoint, and lie inside it as it was when they were added. A region that ever
 * had one has a ring, and REGION_HOOK_COALESCED for good: a thread that found a range of a view before it was cleared may put a
 * write into the ring afterwards, and must not overtake it with its next one.
 * Established by: may_add(), add(). Relied on by: dispatch, which searches by the ends of ranges.
 */
#include <errno.h>

#include <flatview/address_space.h>
#include <flatview/memory_coalesced.h>

#include "access/coalesced.h"
#include "access/dispatch.h"
#include "api/mutator.h"
#include "base/reader.h"
#include "publish/change.h"
#include "publish/plane.h"
#include "topology/coalesced_ring.h"

static bool is_mmio(const MemoryRegion *mr)
{
    return mr->kind == MEMORY_KIND_IO && mr->ops;
}

static int may_add(const MemoryRegion *mr, AddrRange range)
{
    const PlaneSet *set = plane_now(mr, MEMORY_PLANE_COALESCED);
    AddrRange own;
    uint32_t i;

    if (!region_extent(mr, &own) || range.last > own.last) {
        return -ERANGE;
    }
    for (i = 0; set && i < set->n; i++) {
        const PlaneItem *item = &set->items[i];

        if (!(item->flags & PLANE_ITEM_GONE) && range_overlaps(range, (AddrRange){item->first, item->last})) {
            return -EEXIST;
        }
    }
    return 0;
}

static int make_ring(MemoryRegion *mr)
{
    RegionPlanes *planes = plane_region(mr);
    CoalescedRing *ring;

    if (!planes) {
        return -ENOMEM;
    }
    if (!planes->ring) {
        ring = coalesced_ring_new(mr);
        if (!ring) {
            return -ENOMEM;
        }
        writer_publish(&planes->ring, ring);
    }
    return 0;
}

static int add(MemoryRegion *mr, AddrRange range)
{
    const PlaneItem item = {.first = range.first, .last = range.last};
    int err = is_mmio(mr) ? may_add(mr, range) : -EINVAL;

    if (err == 0) {
        err = make_ring(mr);
    }
    if (err == 0) {
        err = change_hooks(mr, REGION_HOOK_COALESCED, 0);
    }
    return err < 0 ? err : plane_add(mr, MEMORY_PLANE_COALESCED, &item);
}

static int clear(MemoryRegion *mr)
{
    const PlaneSet *set = plane_now(mr, MEMORY_PLANE_COALESCED);
    int err = is_mmio(mr) ? 0 : -EINVAL;
    uint32_t i;

    for (i = 0; set && i < set->n && err == 0; i++) {
        if (!(set->items[i].flags & PLANE_ITEM_GONE)) {
            err = plane_remove(mr, MEMORY_PLANE_COALESCED, i);
            set = plane_now(mr, MEMORY_PLANE_COALESCED);
        }
    }
    return err;
}

/* All of the edits of this level, or none. */
static int end_all(int err)
{
    if (err < 0) {
        txn_abort();
        return err;
    }
    return txn_end();
}

int memory_region_add_coalescing(MemoryRegion *mr, hwaddr offset, uint64_t size)
{
    AddrRange range = {offset, offset + (size - 1)};
    int err;

    if (!size) {
        return -EINVAL;
    }
    if (size == UINT64_MAX && offset == 0) {
        range.last = UINT64_MAX; /* 2^64 */
    }
    if (range.last < offset) {
        return -ERANGE;
    }
    err = mutator_begin(mr);
    return err < 0 ? err : end_all(add(mr, range));
}

int memory_region_set_coalescing(MemoryRegion *mr)
{
    AddrRange own;
    int err = mutator_begin(mr);

    if (err < 0) {
        return err;
    }
    err = clear(mr);
    if (err == 0) {
        err = region_extent(mr, &own) ? add(mr, own) : -ERANGE;
    }
    return end_all(err);
}

int memory_region_clear_coalescing(MemoryRegion *mr)
{
    int err = memory_region_flush_coalesced(mr);

    if (err == 0) {
        err = mutator_begin(mr);
    }
    return err < 0 ? err : end_all(clear(mr));
}

static int change_flush(MemoryRegion *mr, bool flush)
{
    int err = mutator_begin(mr);

    if (err < 0) {
        return err;
    }
    if (mr->kind != MEMORY_KIND_IO) {
        return end_all(-EINVAL);
    }
    return end_all(change_hooks(mr, flush ? REGION_HOOK_FLUSH : 0, flush ? 0 : REGION_HOOK_FLUSH));
}

int memory_region_set_flush_coalesced(MemoryRegion *mr)
{
    return change_flush(mr, true);
}

int memory_region_clear_flush_coalesced(MemoryRegion *mr)
{
    return change_flush(mr, false);
}

int memory_region_flush_coalesced(MemoryRegion *mr)
{
    uint8_t state = mr ? region_peek(mr->state) : REGION_STATE_NONE;

    if (state == REGION_STATE_STATIC) {
        return 0; /* carries nothing yet */
    }
    if (state != REGION_STATE_LIVE) {
        return -EINVAL;
    }
    reader_enter();
    coalesced_flush(mr);
    reader_exit();
    return 0;
}

int address_space_flush_coalesced(AddressSpace *as)
{
    if (!as || !as->space) {
        return -EINVAL;
    }
    reader_enter();
    coalesced_flush_all();
    reader_exit();
    return 0;
}

/* ---- accelerators ---- */

int address_space_queue_coalesced(AddressSpace *as, hwaddr addr, unsigned size, uint64_t value, MemTxAttrs attrs, bool withdrawn)
{
    const FlatRange *range;
    int ret = -ENOENT;

    if (!as || !as->space || !size || size > 8 || size & (size - 1)) {
        return -EINVAL;
    }
    reader_enter();
    range = thread_cache_find(cell_view(space_cell(as)), addr);
    if (dispatch_holds(range, addr, size)) {
        ret = coalesced_queue(range, range->offset + (addr - range->first), size, attrs, value, withdrawn);
    }
    reader_exit();
    return ret;
}

size_t memory_region_coalesced_room(const MemoryRegion *mr)
{
    size_t room = 0;

    if (mr && region_peek(mr->state) == REGION_STATE_LIVE) {
        reader_enter();
        room = coalesced_room(mr);
        reader_exit();
    }
    return room;
}

int memory_coalesced_source_register(MemoryCoalescedSource *source)
{
    return source && source->collect ? coalesced_source_add(source) : -EINVAL;
}

int memory_coalesced_source_unregister(MemoryCoalescedSource *source)
{
    return source ? coalesced_source_remove(source) : -EINVAL;
}
