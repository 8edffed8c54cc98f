/* SPDX-License-Identifier: MIT */
/*
 * memory_eventfd.c - adding and deleting ioeventfds.
 *
 * Invariant: no two ioeventfds of a region could match the same write (KVM's rule for what it accepts, so that every
 * accelerator accepts what we do), and each lies inside the region as it was when it was added. REGION_HOOK_EVENTFD is
 * wanted while there is one.
 * Established by: may_add(), here and nowhere else, under the topology lock. Relied on by: dispatch, for which the first
 * match is the only one.
 */
#include <errno.h>

#include <flatview/memory_eventfd.h>

#include "api/mutator.h"
#include "publish/change.h"
#include "publish/plane.h"
#include "topology/eventfd_file.h"

/* -EINVAL if there can be no such ioeventfd on mr. *ret_item has no object yet. */
static int describe(const MemoryRegion *mr, const MemoryRegionEventfd *eventfd, PlaneItem *ret_item)
{
    unsigned size = eventfd->size;

    if (mr->kind != MEMORY_KIND_IO && mr->kind != MEMORY_KIND_ROM_DEVICE) {
        return -EINVAL;
    }
    if (size > 8 || (size & (size - 1)) != 0) {
        return -EINVAL;
    }
    if (eventfd->match_data && (size == 0 || (size < 8 && eventfd->data >> (8 * size)))) {
        return -EINVAL;
    }
    *ret_item = (PlaneItem){.first = eventfd->addr, .last = eventfd->addr + (size ? size - 1 : 0)};
    if (!size) {
        ret_item->flags = PLANE_ITEM_ANY_SIZE;
    }
    if (eventfd->match_data) {
        ret_item->flags = PLANE_ITEM_MATCH;
        ret_item->data = region_bus_order(mr, eventfd->data, size);
    }
    return 0;
}

/* Is there a write that both match? They begin at the same address. */
static bool both_match(const PlaneItem *a, const PlaneItem *b)
{
    if ((a->flags | b->flags) & PLANE_ITEM_ANY_SIZE) {
        return true;
    }
    return a->last == b->last && (!(a->flags & b->flags & PLANE_ITEM_MATCH) || a->data == b->data);
}

static int may_add(const MemoryRegion *mr, const PlaneItem *item)
{
    const PlaneSet *set = plane_now(mr, MEMORY_PLANE_EVENTFD);
    AddrRange own;
    uint32_t i;

    if (!region_extent(mr, &own) || item->last < item->first || item->last > own.last) {
        return -ERANGE;
    }
    for (i = plane_set_at(set, item->first); i != PLANE_NO_ITEM; i = plane_set_at_next(set, i)) {
        if (both_match(&set->items[i], item)) {
            return -EEXIST;
        }
    }
    return 0;
}

static int add_one(MemoryRegion *mr, const MemoryRegionEventfd *eventfd)
{
    EventfdFile *file = NULL;
    PlaneItem item;
    int err = describe(mr, eventfd, &item);

    if (err == 0) {
        err = may_add(mr, &item);
    }
    if (err == 0) {
        err = eventfd_file_new(eventfd->fd, &file);
    }
    if (err == 0) {
        item.object = &file->object;
        err = plane_add(mr, MEMORY_PLANE_EVENTFD, &item);
        if (err < 0) {
            eventfd_file_free(file);
        }
    }
    return err;
}

static int del_one(MemoryRegion *mr, const MemoryRegionEventfd *eventfd)
{
    const PlaneSet *set = plane_now(mr, MEMORY_PLANE_EVENTFD);
    PlaneItem item;
    uint32_t i;
    int err = describe(mr, eventfd, &item);

    if (err < 0) {
        return err;
    }
    for (i = plane_set_at(set, item.first); i != PLANE_NO_ITEM; i = plane_set_at_next(set, i)) {
        const PlaneItem *found = &set->items[i];

        if (plane_item_order(found, &item) == 0 &&
            (eventfd->fd == -1 || eventfd->fd == eventfd_file_of(found)->caller_fd)) {
            return plane_remove(mr, MEMORY_PLANE_EVENTFD, i);
        }
    }
    return -ENOENT;
}

typedef int (*EventfdEdit)(MemoryRegion *mr, const MemoryRegionEventfd *eventfd);

static int edit_all(MemoryRegion *mr, const MemoryRegionEventfd *eventfds, size_t n, EventfdEdit edit)
{
    bool any;
    size_t i;
    int err = mutator_begin(mr);

    if (err < 0) {
        return err;
    }
    for (i = 0; i < n && err == 0; i++) {
        err = edit(mr, &eventfds[i]);
    }
    if (err == 0) {
        any = plane_set_count(plane_now(mr, MEMORY_PLANE_EVENTFD)) != 0;
        err = change_hooks(mr, any ? REGION_HOOK_EVENTFD : 0, any ? 0 : REGION_HOOK_EVENTFD);
    }
    if (err < 0) {
        txn_abort(); /* this level only */
        return err;
    }
    return txn_end();
}

int memory_region_add_eventfds(MemoryRegion *mr, const MemoryRegionEventfd *eventfds, size_t n)
{
    return n && !eventfds ? -EINVAL : edit_all(mr, eventfds, n, add_one);
}

int memory_region_del_eventfds(MemoryRegion *mr, const MemoryRegionEventfd *eventfds, size_t n)
{
    return n && !eventfds ? -EINVAL : edit_all(mr, eventfds, n, del_one);
}

int memory_region_add_eventfd(MemoryRegion *mr, hwaddr addr, unsigned size, bool match_data, uint64_t data, int fd)
{
    const MemoryRegionEventfd eventfd = {addr, size, match_data, data, fd};

    return memory_region_add_eventfds(mr, &eventfd, 1);
}

int memory_region_del_eventfd(MemoryRegion *mr, hwaddr addr, unsigned size, bool match_data, uint64_t data, int fd)
{
    const MemoryRegionEventfd eventfd = {addr, size, match_data, data, fd};

    return memory_region_del_eventfds(mr, &eventfd, 1);
}

size_t memory_region_count_eventfds(MemoryRegion *mr)
{
    size_t n;

    if (!mr) {
        return 0;
    }
    if (txn_holds_lock()) { /* also a listener */
        return plane_set_count(plane_now(mr, MEMORY_PLANE_EVENTFD));
    }
    if (txn_enter() < 0) {
        return 0;
    }
    n = plane_set_count(plane_now(mr, MEMORY_PLANE_EVENTFD));
    txn_leave();
    return n;
}
