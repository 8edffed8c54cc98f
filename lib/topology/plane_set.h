/* SPDX-License-Identifier: MIT */
/*
 * plane_set.h - what a region carries in one plane: ioeventfds, coalesced ranges, log masks.
 *
 * A plane is an attribute of places in a region. It says nothing about what is visible where, so it is in no view; it
 * stays with the region over unmap and remap.
 *
 * Invariant of a set that was sealed: items ascend by (first, last, flags, data), none is GONE, and it is never written
 * again. Before, while a transaction edits it, items may be in any order and those taken out are only marked; so an
 * item keeps its index, and undoing an addition takes away the last one.
 * In both states plane_set_at() finds items by their first offset, by hash.
 */
#ifndef FLATVIEW_TOPOLOGY_PLANE_SET_H
#define FLATVIEW_TOPOLOGY_PLANE_SET_H

#include <flatview/memory_listener.h>
#include <flatview/memory_region.h>

#include "base/range.h"
#include "base/retire.h"

#define PLANE_ITEM_MATCH (1u << 0)    /* eventfd: only data */
#define PLANE_ITEM_ANY_SIZE (1u << 1) /* eventfd: whatever the size of the access; last == first */
#define PLANE_ITEM_GONE (1u << 31)    /* taken out in the open transaction */

#define PLANE_NO_ITEM UINT32_MAX

/* What an item owns; ends through its RetireHead's free function. */
typedef struct PlaneObject {
    RetireHead retire;
} PlaneObject;

typedef struct PlaneItem {
    hwaddr first, last; /* offsets in the region */
    uint64_t data;      /* eventfd: the value to match, of the bytes as a little-endian number; log: the mask */
    uint32_t flags;
    uint32_t below; /* in its bucket: the index of the next item, or PLANE_NO_ITEM */
    PlaneObject *object; /* or NULL */
} PlaneItem;

typedef struct PlaneSet {
    RetireHead retire;
    uint32_t n, cap; /* cap is a power of two, and the number of buckets */
    uint32_t n_gone;
    uint32_t pad;
    PlaneItem items[]; /* cap of them, then the buckets */
} PlaneSet;

/* Planes of one region; made when it is first needed, freed with the region. */
typedef struct RegionPlanes {
    PlaneSet *seen[MEMORY_PLANE_COUNT]; /* what dispatch uses: release and acquire. NULL: nothing */
    struct CoalescedRing *ring; /* likewise. NULL: never had a coalesced range */
    /* under the topology lock */
    PlaneSet *staged[MEMORY_PLANE_COUNT];     /* the next version, if the open transaction edits it */
    AddrRange edited[MEMORY_PLANE_COUNT];     /* hull of what it edits */
    MemoryRegion *mr;
    struct RegionPlanes *next_staged; /* of the transaction's list */
    bool listed;
} RegionPlanes;

/* A copy to be edited, with room for more; NULL copies nothing. NULL: -ENOMEM, or more than 2^30 items. */
PlaneSet *plane_set_copy(const PlaneSet *set, size_t more);
void plane_set_free(PlaneSet *set); /* the set, not its objects; NULL is a no-op */
/* Room for more items; geometric, so that n additions cost O(n). 0, -ENOMEM with everything as before. */
int plane_set_reserve(PlaneSet **set, size_t more);
/* Takes item over; there is room. */
void plane_set_put(PlaneSet *set, const PlaneItem *item);
void plane_set_drop_last(PlaneSet *set); /* the inverse, of the newest */
void plane_set_take_out(PlaneSet *set, uint32_t index);
void plane_set_put_back(PlaneSet *set, uint32_t index); /* the inverse */
void plane_set_seal(PlaneSet *set);

/* Frees sets and objects of a region that nobody can reach any more. */
void region_planes_free(RegionPlanes *planes);

/* Items that regions have in this plane: if 0, nobody need look for any. Any thread; counted where seen becomes set and old ends
   being it, NULL being none. */
uint64_t plane_set_live(MemoryPlane plane);
void plane_set_count_live(MemoryPlane plane, const PlaneSet *set, const PlaneSet *old);

static inline size_t plane_set_count(const PlaneSet *set)
{
    return set ? set->n - set->n_gone : 0;
}

static inline const uint32_t *plane_set_buckets(const PlaneSet *set)
{
    return (const uint32_t *)(const void *)(set->items + set->cap);
}

static inline uint32_t plane_set_bucket(const PlaneSet *set, hwaddr first)
{
    return (uint32_t)((first * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (set->cap - 1);
}

/* Items that begin at first, in no order: plane_set_at(), then plane_set_at_next() until PLANE_NO_ITEM. */
static inline uint32_t plane_set_skip(const PlaneSet *set, uint32_t index, hwaddr first)
{
    while (index != PLANE_NO_ITEM && (set->items[index].first != first || set->items[index].flags & PLANE_ITEM_GONE)) {
        index = set->items[index].below;
    }
    return index;
}

static inline uint32_t plane_set_at(const PlaneSet *set, hwaddr first)
{
    return set ? plane_set_skip(set, plane_set_buckets(set)[plane_set_bucket(set, first)], first) : PLANE_NO_ITEM;
}

static inline uint32_t plane_set_at_next(const PlaneSet *set, uint32_t index)
{
    return plane_set_skip(set, set->items[index].below, set->items[index].first);
}

/* Of a sealed set: the first item that begins at or after offset; and, of one whose items do not overlap, the first that
   ends at or after it. Index n if there is none. */
uint32_t plane_set_beginning_from(const PlaneSet *set, hwaddr offset);
uint32_t plane_set_ending_from(const PlaneSet *set, hwaddr offset);

/* Ascending order of sealed sets. */
int plane_item_order(const PlaneItem *a, const PlaneItem *b);

#endif
