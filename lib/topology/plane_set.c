/* SPDX-License-Identifier: MIT */
/*
 * plane_set.c - sets of items, edited by one transaction, then sealed.
 *
 * Invariant: as in plane_set.h; and every item, GONE or not, is in the bucket of its first offset, newer ones before older
 * ones, so that the newest item of all is the first of its bucket.
 * Established by: the functions here, under the topology lock, or before anybody else knows the set.
 * Relied on by:   plane.c, which publishes sealed sets; dispatch, which looks into them without a lock.
 */
#include "topology/plane_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "topology/coalesced_ring.h"

enum {
    MIN_CAP = 4,
    INSERT_FEW = 8, /* items out of place up to which moving the others up is cheaper than sorting all */
};
#define MAX_ITEMS (1u << 20) /* of a region: RetireHead.bytes has 32 bits */

static size_t set_bytes(uint32_t cap)
{
    return sizeof(PlaneSet) + cap * (sizeof(PlaneItem) + sizeof(uint32_t));
}

static uint32_t *buckets(PlaneSet *set)
{
    return (uint32_t *)(void *)(set->items + set->cap);
}

static void set_free(RetireHead *head)
{
    plane_set_free(container_of(head, PlaneSet, retire));
}

static PlaneSet *set_new(size_t want)
{
    uint32_t cap = MIN_CAP;
    PlaneSet *set;

    if (want > MAX_ITEMS) {
        return NULL;
    }
    while (cap < want) {
        cap *= 2;
    }
    set = mem_alloc(set_bytes(cap));
    if (set) {
        *set = (PlaneSet){.cap = cap};
        set->retire = (RetireHead){.free = set_free, .bytes = (uint32_t)set_bytes(cap), .kind = RETIRE_OBJECT};
    }
    return set;
}

/* Oldest first, as in plane_set_put(). */
static void index_all(PlaneSet *set)
{
    uint32_t *bucket = buckets(set), i;

    memset(bucket, 0xff, set->cap * sizeof(*bucket));
    for (i = 0; i < set->n; i++) {
        uint32_t b = plane_set_bucket(set, set->items[i].first);

        set->items[i].below = bucket[b];
        bucket[b] = i;
    }
}

PlaneSet *plane_set_copy(const PlaneSet *set, size_t more)
{
    PlaneSet *copy = set_new((set ? set->n : 0) + more);

    if (!copy) {
        return NULL;
    }
    if (set) {
        copy->n = set->n;
        copy->n_gone = set->n_gone;
        memcpy(copy->items, set->items, set->n * sizeof(set->items[0]));
    }
    index_all(copy);
    return copy;
}

void plane_set_free(PlaneSet *set)
{
    if (set) {
        mem_free(set, set_bytes(set->cap));
    }
}

int plane_set_reserve(PlaneSet **set, size_t more)
{
    PlaneSet *larger;

    if (more <= (*set)->cap - (*set)->n) {
        return 0;
    }
    larger = plane_set_copy(*set, more > (*set)->cap ? more : (*set)->cap);
    if (!larger) {
        return -ENOMEM;
    }
    plane_set_free(*set);
    *set = larger;
    return 0;
}

void plane_set_put(PlaneSet *set, const PlaneItem *item)
{
    uint32_t *bucket = &buckets(set)[plane_set_bucket(set, item->first)];

    set->items[set->n] = *item;
    set->items[set->n].below = *bucket;
    *bucket = set->n++;
}

void plane_set_drop_last(PlaneSet *set)
{
    const PlaneItem *item = &set->items[--set->n];

    buckets(set)[plane_set_bucket(set, item->first)] = item->below;
}

void plane_set_take_out(PlaneSet *set, uint32_t index)
{
    set->items[index].flags |= PLANE_ITEM_GONE;
    set->n_gone++;
}

void plane_set_put_back(PlaneSet *set, uint32_t index)
{
    set->items[index].flags &= ~PLANE_ITEM_GONE;
    set->n_gone--;
}

/* ---- order ---- */

int plane_item_order(const PlaneItem *a, const PlaneItem *b)
{
    if (a->first != b->first) {
        return a->first < b->first ? -1 : 1;
    }
    if (a->last != b->last) {
        return a->last < b->last ? -1 : 1;
    }
    if (a->flags != b->flags) {
        return a->flags < b->flags ? -1 : 1;
    }
    return a->data < b->data ? -1 : a->data > b->data;
}

static int item_order(const void *a, const void *b)
{
    return plane_item_order(a, b);
}

static void drop_gone(PlaneSet *set)
{
    uint32_t i, n = 0;

    for (i = 0; i < set->n && set->n_gone; i++) {
        if (!(set->items[i].flags & PLANE_ITEM_GONE)) {
            set->items[n++] = set->items[i];
        }
    }
    if (set->n_gone) {
        set->n = n;
        set->n_gone = 0;
    }
}

/* Items [0, from) ascend: bring the one at from in. */
static void insert_item(PlaneSet *set, uint32_t from)
{
    PlaneItem item = set->items[from];
    uint32_t low = 0, high = from;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (plane_item_order(&set->items[middle], &item) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    memmove(&set->items[low + 1], &set->items[low], (from - low) * sizeof(item));
    set->items[low] = item;
}

void plane_set_seal(PlaneSet *set)
{
    uint32_t sorted = 1;

    drop_gone(set);
    while (sorted < set->n && plane_item_order(&set->items[sorted - 1], &set->items[sorted]) < 0) {
        sorted++;
    }
    if (set->n > sorted + INSERT_FEW) {
        qsort(set->items, set->n, sizeof(set->items[0]), item_order);
    } else {
        for (; sorted < set->n; sorted++) {
            insert_item(set, sorted);
        }
    }
    index_all(set);
}

uint32_t plane_set_beginning_from(const PlaneSet *set, hwaddr offset)
{
    uint32_t low = 0, high = set->n;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (set->items[middle].first < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

uint32_t plane_set_ending_from(const PlaneSet *set, hwaddr offset)
{
    uint32_t low = 0, high = set->n;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (set->items[middle].last < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* ---- with the region ---- */

static uint64_t live[MEMORY_PLANE_COUNT]; /* atomic */

uint64_t plane_set_live(MemoryPlane plane)
{
    return __atomic_load_n(&live[plane], __ATOMIC_RELAXED);
}

void plane_set_count_live(MemoryPlane plane, const PlaneSet *set, const PlaneSet *old)
{
    __atomic_add_fetch(&live[plane], plane_set_count(set) - plane_set_count(old), __ATOMIC_RELAXED);
}

void region_planes_free(RegionPlanes *planes)
{
    unsigned plane;
    uint32_t i;

    if (!planes) {
        return;
    }
    for (plane = 0; plane < MEMORY_PLANE_COUNT; plane++) {
        PlaneSet *set = planes->seen[plane];

        for (i = 0; set && i < set->n; i++) {
            if (set->items[i].object) {
                set->items[i].object->retire.free(&set->items[i].object->retire);
            }
        }
        if (set) {
            plane_set_count_live(plane, NULL, set);
        }
        plane_set_free(set);
    }
    coalesced_ring_free(planes->ring);
    mem_free(planes, sizeof(*planes));
}
