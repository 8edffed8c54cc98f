/* SPDX-License-Identifier: MIT */
/*
 * plane_delta.c - from two views and two versions of what their regions carry to lists for listeners.
 *
 * Invariant: an item is told of exactly if one side shows it and the other does not. Both sides are looked at within the same
 * stretches, the view's own spans and the marked ones together; an item counts where it begins; so what both show is found
 * on both sides and drops out, and what only one shows begins in a stretch (plane.h argues why).
 * Established by: plane_delta_add(). Relied on by: listeners, which add and remove without looking.
 *
 * Cost: the ranges and items within the stretches. A move of a device looks at its items twice, an edit at what was edited.
 */
#include "publish/plane_delta.h"

#include <errno.h>

#include "base/mem.h"
#include "topology/region.h"

#define KEEP_BYTES (1u << 20) /* of a vector, between commits */

typedef struct ItemVec {
    MemoryPlaneItem *at;
    size_t n, cap;
} ItemVec;

static struct {
    ItemVec old_side, new_side; /* of the comparison that is going on */
    ItemVec old_items, new_items; /* results, of all deltas in order */
    MemoryDelta **deltas;
    size_t n_deltas, cap_deltas;
} set;

unsigned plane_wanted(const MemoryListener *listener)
{
    return (unsigned)(listener->log_start || listener->log_stop || listener->log_sync || listener->log_clear)
               << MEMORY_PLANE_LOG |
           (unsigned)(listener->coalesced_io_del || listener->coalesced_io_add) << MEMORY_PLANE_COALESCED |
           (unsigned)(listener->eventfd_del || listener->eventfd_add) << MEMORY_PLANE_EVENTFD;
}

static void vec_reset(ItemVec *vec)
{
    vec->n = 0;
    if (vec->cap * sizeof(*vec->at) > KEEP_BYTES) {
        mem_vec_free((void **)&vec->at, &vec->cap, sizeof(*vec->at));
    }
}

void plane_delta_reset(void)
{
    if (!set.n_deltas) {
        return; /* all else is put in after the first of them */
    }
    vec_reset(&set.old_side);
    vec_reset(&set.new_side);
    vec_reset(&set.old_items);
    vec_reset(&set.new_items);
    set.n_deltas = 0;
}

static int vec_push(ItemVec *vec, const MemoryPlaneItem *item)
{
    if (mem_vec_reserve((void **)&vec->at, &vec->cap, vec->n + 1, sizeof(*vec->at)) < 0) {
        return -ENOMEM;
    }
    vec->at[vec->n++] = *item;
    return 0;
}

/* ---- one side ---- */

typedef struct Side {
    ItemVec *vec;
    MemoryPlane plane;
    bool staged;
} Side;

static const PlaneSet *side_set(const Side *side, const MemoryRegion *mr)
{
    const RegionPlanes *planes = mr->planes;

    if (!planes) {
        return NULL;
    }
    return side->staged ? plane_now(mr, side->plane) : planes->seen[side->plane];
}

/* The log is of whole ranges, and its version is a field of the region. A mask of 0 says that the range is there. */
static int list_log(const Side *side, const FlatRange *range, AddrRange span)
{
    MemoryPlaneItem item = {.data = side->staged ? range->mr->dirty_log_mask : range->mr->dirty_log_seen, .fd = -1};

    if (!(range->mr->dirty_log_mask | range->mr->dirty_log_seen) || range->first < span.first ||
        range->flags & FLAT_INTERPOSED) {
        return 0;
    }
    item.section = flat_range_section(range);
    return vec_push(side->vec, &item);
}

static int list_range(const Side *side, const FlatRange *range, AddrRange span)
{
    /* What is interposed traps: an accelerator that knew an item would answer past the interposer. */
    const PlaneSet *items = range->flags & FLAT_INTERPOSED ? NULL : side_set(side, range->mr);
    hwaddr from = range->first > span.first ? range->first : span.first;
    MemoryPlaneItem piece;
    uint32_t i;

    if (!items) {
        return 0;
    }
    from = range->offset + (from - range->first);
    i = side->plane == MEMORY_PLANE_EVENTFD ? plane_set_beginning_from(items, from) : plane_set_ending_from(items, from);
    for (; i < items->n; i++) {
        if (!plane_piece(range, side->plane, &items->items[i], &piece)) {
            if (items->items[i].first > range->offset + (range->last - range->first)) {
                break;
            }
            continue;
        }
        if (piece.section.offset_within_address_space > span.last) {
            break;
        }
        if (piece.section.offset_within_address_space >= span.first && vec_push(side->vec, &piece) < 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

static int list_span(const Side *side, const ViewNode *root, AddrRange span)
{
    const FlatRange *range;
    ViewIter it;
    int err = 0;

    for (range = view_iter_first(&it, root, span.first); range && range->first <= span.last && err == 0;
         range = view_iter_next(&it)) {
        err = side->plane == MEMORY_PLANE_LOG ? list_log(side, range, span) : list_range(side, range, span);
    }
    return err;
}

/* ---- the stretches ---- */

typedef struct Stretches {
    const MemoryDelta *delta;
    const ViewCell *cell;
    MemoryPlane plane;
    size_t i_span, i_mark;
} Stretches;

static bool peek_span(const Stretches *s, AddrRange *ret)
{
    if (s->i_span >= s->delta->n_spans) {
        return false;
    }
    *ret = (AddrRange){s->delta->spans[s->i_span].first, s->delta->spans[s->i_span].last};
    return true;
}

static bool peek_mark(const Stretches *s, AddrRange *ret)
{
    if (!s->cell) {
        *ret = ADDR_RANGE_ALL;
        return s->i_mark == 0;
    }
    return plane_span(s->cell, s->plane, s->i_mark, ret);
}

/* The next stretch: the union of what overlaps, of both kinds. Ascending and disjoint, since each kind is. */
static bool next_stretch(Stretches *s, AddrRange *ret)
{
    AddrRange span, mark;
    bool have_span = peek_span(s, &span), have_mark = peek_mark(s, &mark);

    if (!have_span && !have_mark) {
        return false;
    }
    *ret = have_span && (!have_mark || span.first <= mark.first) ? span : mark;
    while ((have_span && span.first <= ret->last) || (have_mark && mark.first <= ret->last)) {
        if (have_span && span.first <= ret->last) {
            ret->last = span.last > ret->last ? span.last : ret->last;
            s->i_span++;
            have_span = peek_span(s, &span);
        } else {
            ret->last = mark.last > ret->last ? mark.last : ret->last;
            s->i_mark++;
            have_mark = peek_mark(s, &mark);
        }
    }
    return true;
}

/* ---- both sides together ---- */

/* Is it the same place of the same plane, whatever is there? */
static int place_order(MemoryPlane plane, const MemoryPlaneItem *a, const MemoryPlaneItem *b)
{
    const MemoryRegionSection *s = &a->section, *t = &b->section;

    if (s->offset_within_address_space != t->offset_within_address_space) {
        return s->offset_within_address_space < t->offset_within_address_space ? -1 : 1;
    }
    if (plane != MEMORY_PLANE_EVENTFD) {
        return s->last < t->last ? -1 : s->last > t->last;
    }
    /* Of any size (last == first - 1) beside a sized one there is none: only the order of equals has to be one. */
    if (s->last != t->last) {
        return s->last < t->last ? -1 : 1;
    }
    if (a->match_data != b->match_data) {
        return a->match_data < b->match_data ? -1 : 1;
    }
    return a->data < b->data ? -1 : a->data > b->data;
}

static bool is_same_place(const MemoryPlaneItem *a, const MemoryPlaneItem *b)
{
    return a->section.mr == b->section.mr && a->section.offset_within_region == b->section.offset_within_region;
}

static bool is_same(const MemoryPlaneItem *a, const MemoryPlaneItem *b)
{
    return is_same_place(a, b) && a->data == b->data && a->fd == b->fd;
}

/* A range whose flags change is taken away and put in place again, and what its accelerator knows of it goes in between: it is
   another for the log. */
static bool is_same_log(const MemoryPlaneItem *a, const MemoryPlaneItem *b)
{
    const MemoryRegionSection *s = &a->section, *t = &b->section;

    return is_same_place(a, b) && s->readonly == t->readonly && s->nonvolatile == t->nonvolatile && s->romd == t->romd &&
           s->host == t->host;
}

static int compare_sides(MemoryPlane plane, MemoryPlaneDelta *ret)
{
    MemoryPlaneItem *a = set.old_side.at, *b = set.new_side.at;
    MemoryPlaneItem *a_end = a + set.old_side.n, *b_end = b + set.new_side.n;
    size_t n_old = set.old_items.n, n_new = set.new_items.n;
    int err = 0;

    while ((a < a_end || b < b_end) && err == 0) {
        int order = a == a_end ? 1 : b == b_end ? -1 : place_order(plane, a, b);

        if (order == 0 && is_same(a, b) && (plane != MEMORY_PLANE_LOG || is_same_log(a, b))) {
            a++;
            b++;
        } else {
            if (order == 0 && (plane == MEMORY_PLANE_LOG ? is_same_log(a, b) : a->section.mr == b->section.mr)) {
                a->peer = b->data;
                b->peer = a->data;
                a->match_data |= plane == MEMORY_PLANE_LOG;
                b->match_data |= plane == MEMORY_PLANE_LOG;
            }
            if (order <= 0) {
                err = plane == MEMORY_PLANE_LOG && !a->data ? 0 : vec_push(&set.old_items, a);
                a++;
            }
            if (order >= 0 && err == 0) {
                err = plane == MEMORY_PLANE_LOG && !b->data ? 0 : vec_push(&set.new_items, b);
                b++;
            }
        }
    }
    ret->n_old = set.old_items.n - n_old;
    ret->n_new = set.new_items.n - n_new;
    return err;
}

static int compare_plane(MemoryDelta *delta, const ViewNode *old_root, const ViewNode *new_root, const ViewCell *cell,
                         MemoryPlane plane)
{
    const Side old_side = {&set.old_side, plane, false}, new_side = {&set.new_side, plane, true};
    Stretches stretches = {.delta = delta, .cell = cell, .plane = plane};
    AddrRange span;
    int err = 0;

    set.old_side.n = set.new_side.n = 0;
    while (err == 0 && next_stretch(&stretches, &span)) {
        err = list_span(&old_side, old_root, span);
        if (err == 0) {
            err = list_span(&new_side, new_root, span);
        }
    }
    return err < 0 ? err : compare_sides(plane, &delta->planes[plane]);
}

int plane_delta_add(MemoryDelta *delta, const ViewNode *old_root, const ViewNode *new_root, const ViewCell *cell,
                    unsigned wanted)
{
    unsigned plane;
    int err = 0;

    if (mem_vec_reserve((void **)&set.deltas, &set.cap_deltas, set.n_deltas + 1, sizeof(*set.deltas)) < 0) {
        return -ENOMEM;
    }
    set.deltas[set.n_deltas++] = delta;
    for (plane = 0; plane < MEMORY_PLANE_COUNT && err == 0; plane++) {
        delta->planes[plane] = (MemoryPlaneDelta){0};
        if (wanted >> plane & 1 && plane_in_use(plane)) {
            err = compare_plane(delta, old_root, new_root, cell, plane);
        }
    }
    return err;
}

void plane_delta_finish(void)
{
    const MemoryPlaneItem *old_item = set.old_items.at, *new_item = set.new_items.at;
    unsigned plane;
    size_t i;

    for (i = 0; i < set.n_deltas; i++) {
        for (plane = 0; plane < MEMORY_PLANE_COUNT; plane++) {
            MemoryPlaneDelta *delta = &set.deltas[i]->planes[plane];

            delta->old_items = old_item;
            delta->new_items = new_item;
            old_item += delta->n_old;
            new_item += delta->n_new;
        }
    }
}
