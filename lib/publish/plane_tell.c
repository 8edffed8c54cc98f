/* SPDX-License-Identifier: MIT */
/*
 * plane_tell.c - calling one listener about planes, in the order of R6.
 *
 * Invariant: additions go from plane 0 up, removals from the last plane down, so that what a range carries comes after the
 * range and goes before it. Established by: the functions here, called by deliver.c around the spans' own calls.
 * Relied on by: accelerators, which attach an ioeventfd to what they have mapped.
 */
#include "publish/plane_delta.h"

#include "base/sabotage.h"
#include "topology/eventfd_file.h"

bool plane_piece(const FlatRange *range, MemoryPlane plane, const PlaneItem *item, MemoryPlaneItem *ret_piece)
{
    AddrRange shown = {range->offset, range->offset + (range->last - range->first)}, own = {item->first, item->last};
    FlatRange cut;

    if (!range_intersect(shown, own, &own)) {
        return false;
    }
    if (plane == MEMORY_PLANE_EVENTFD &&
        (own.first != item->first || own.last != item->last || range->flags & FLAT_READONLY)) {
        return false;
    }
    cut = flat_range_cut(range, range->first + (own.first - range->offset), range->first + (own.last - range->offset));
    *ret_piece = (MemoryPlaneItem){.section = flat_range_section(&cut), .data = item->data, .fd = -1};
    if (plane == MEMORY_PLANE_EVENTFD) {
        ret_piece->match_data = item->flags & PLANE_ITEM_MATCH;
        ret_piece->fd = eventfd_file_of(item)->fd;
        if (item->flags & PLANE_ITEM_ANY_SIZE) {
            ret_piece->section.last = ret_piece->section.offset_within_address_space - 1;
        }
    }
    return true;
}

/*
 * peer is what the same range is logged for on the other side. The final collect is for whatever ends. log_stop is not for a
 * range that goes: its guest may write until span_del, and what logs must go on logging until then.
 */
static void tell_log(MemoryListener *listener, const MemoryPlaneItem *item, bool added)
{
    if (!(item->data & ~item->peer)) {
        return; /* what changes is the other side's to tell */
    }
    if (added) {
        if (listener->log_start) {
            listener->log_start(listener, &item->section, (unsigned)item->peer, (unsigned)item->data);
        }
        return;
    }
    if (listener->log_sync) {
        listener->log_sync(listener, &item->section);
    }
    if (item->match_data && listener->log_stop) {
        listener->log_stop(listener, &item->section, (unsigned)item->data, (unsigned)item->peer);
    }
}

static const enum Sabotage drop[] = {SABOTAGE_DROP_LOG, SABOTAGE_DROP_COALESCED_IO, SABOTAGE_DROP_EVENTFD};

static void tell(MemoryListener *listener, MemoryPlane plane, const MemoryPlaneItem *item, bool added)
{
    const MemoryRegionSection *section = &item->section;
    void (*eventfd)(MemoryListener *, const MemoryRegionSection *, bool, uint64_t, int);
    void (*coalesced)(MemoryListener *, const MemoryRegionSection *, hwaddr, hwaddr);
    hwaddr len;

    if (added && sabotage_turn(drop[plane], 8)) {
        return;
    }
    switch (plane) {
    case MEMORY_PLANE_LOG:
        tell_log(listener, item, added);
        break;
    case MEMORY_PLANE_EVENTFD:
        eventfd = added ? listener->eventfd_add : listener->eventfd_del;
        if (eventfd) {
            eventfd(listener, section, item->match_data, item->data, item->fd);
        }
        break;
    case MEMORY_PLANE_COALESCED:
        coalesced = added ? listener->coalesced_io_add : listener->coalesced_io_del;
        len = section->last - section->offset_within_address_space;
        if (coalesced) {
            coalesced(listener, section, section->offset_within_address_space, len == UINT64_MAX ? len : len + 1);
        }
        break;
    default:
        break;
    }
}

void plane_tell_removals(MemoryListener *listener, const MemoryDelta *delta)
{
    unsigned plane;
    size_t i;

    for (plane = MEMORY_PLANE_COUNT; plane-- > 0;) {
        for (i = 0; i < delta->planes[plane].n_old; i++) {
            tell(listener, plane, &delta->planes[plane].old_items[i], false);
        }
    }
}

void plane_tell_additions(MemoryListener *listener, const MemoryDelta *delta)
{
    unsigned plane;
    size_t i;

    for (plane = 0; plane < MEMORY_PLANE_COUNT; plane++) {
        for (i = 0; i < delta->planes[plane].n_new; i++) {
            tell(listener, plane, &delta->planes[plane].new_items[i], true);
        }
    }
}

static void tell_range_gone(MemoryListener *listener, MemoryPlane plane, const FlatRange *range)
{
    const RegionPlanes *planes = range->mr->planes;
    const PlaneSet *set = planes ? planes->seen[plane] : NULL;
    MemoryPlaneItem piece;
    uint32_t i;

    if (range->flags & FLAT_INTERPOSED) {
        return; /* was not told of */
    }
    if (plane == MEMORY_PLANE_LOG && range->mr->dirty_log_seen) {
        piece = (MemoryPlaneItem){.section = flat_range_section(range), .data = range->mr->dirty_log_seen, .fd = -1};
        tell(listener, plane, &piece, false);
    }
    if (!set) {
        return;
    }
    for (i = plane_set_beginning_from(set, range->offset + (range->last - range->first)); i < set->n; i++) {
        if (set->items[i].first > range->offset + (range->last - range->first)) {
            break; /* several may begin at the last byte */
        }
    }
    while (i-- > 0) {
        if (plane_piece(range, plane, &set->items[i], &piece)) {
            tell(listener, plane, &piece, false);
        } else if (plane != MEMORY_PLANE_EVENTFD || set->items[i].first < range->offset) {
            break;
        }
    }
}

static void tell_node_gone(MemoryListener *listener, MemoryPlane plane, const ViewNode *node)
{
    unsigned i;

    for (i = node ? node->n : 0; i-- > 0;) {
        if (node->level) {
            tell_node_gone(listener, plane, view_inner_children(node)[i]);
        } else {
            tell_range_gone(listener, plane, &view_leaf_ranges(node)[i]);
        }
    }
}

void plane_tell_inverse(MemoryListener *listener, const ViewNode *root)
{
    unsigned wanted = plane_wanted(listener), plane;

    for (plane = MEMORY_PLANE_COUNT; plane-- > 0;) {
        if (wanted >> plane & 1 && plane_in_use(plane)) {
            tell_node_gone(listener, plane, root);
        }
    }
}
