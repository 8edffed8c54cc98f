/* SPDX-License-Identifier: MIT */
/*
 * locate.c - where a region is seen.
 *
 * Invariant: each place at which a view shows a byte of the window lies in one of the stretches that the walk up found in
 * that view's cell; so looking there is enough, and nothing is looked at twice, for stretches of one cell are made disjoint.
 * It is the argument on which dirty spans rest (dirty.c), used the other way: what a change of the region could alter is
 * where it may be.
 * The tree and the views agree under the topology lock outside transactions, and inside after stage_all(). Nothing is kept.
 */
#include "publish/locate.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "publish/stage.h"
#include "publish/transaction.h"

typedef struct Stretch {
    const ViewCell *cell;
    AddrRange range;
} Stretch;

typedef struct Locate {
    const MemoryRegion *mr;
    AddrRange window;
    Stretch *stretches;
    size_t n, cap;
    bool no_memory;
    LocateFn fn;
    void *arg;
} Locate;

static bool locate_visit(MemoryRegion *mr, AddrRange window, MemoryRegion **aliases, void *arg)
{
    Locate *l = arg;

    (void)aliases;
    if (!mr->cell || !range_shift_up(window, mr->addr, &window)) { /* a root is painted at its own offset */
        return true;
    }
    if (mem_vec_reserve((void **)&l->stretches, &l->cap, l->n + 1, sizeof(*l->stretches)) < 0) {
        l->no_memory = true;
        return false;
    }
    l->stretches[l->n++] = (Stretch){mr->cell, window};
    return true;
}

static int stretch_order(const void *a, const void *b)
{
    const Stretch *x = a, *y = b;

    if (x->cell != y->cell) {
        return (uintptr_t)x->cell < (uintptr_t)y->cell ? -1 : 1;
    }
    return x->range.first < y->range.first ? -1 : x->range.first > y->range.first;
}

/* By cell, ascending, disjoint. */
static void settle(Locate *l)
{
    size_t i, n = 0;

    if (l->n < 2) {
        return;
    }
    qsort(l->stretches, l->n, sizeof(*l->stretches), stretch_order);
    for (i = 1; i < l->n; i++) {
        Stretch *last = &l->stretches[n], *next = &l->stretches[i];

        if (next->cell == last->cell && next->range.first <= last->range.last) {
            last->range.last = next->range.last > last->range.last ? next->range.last : last->range.last;
        } else {
            l->stretches[++n] = *next;
        }
    }
    l->n = n + 1;
}

/* What r has of the window. */
static bool piece_of(const Locate *l, const FlatRange *r, FlatRange *ret)
{
    AddrRange part = {r->offset, r->offset + (r->last - r->first)};

    if (r->mr != l->mr || !range_intersect(part, l->window, &part)) {
        return false;
    }
    *ret = flat_range_cut(r, r->first + (part.first - r->offset), r->first + (part.last - r->offset));
    return true;
}

/* done: the last range that was looked at; it may reach into the next stretch. */
static int tell_stretch(const Locate *l, const Space *space, AddrRange stretch, const FlatRange **done)
{
    const FlatRange *r;
    ViewIter it;
    int ret = 0;

    for (r = view_iter_first(&it, stage_root(space), stretch.first); r && r->first <= stretch.last && ret == 0;
         r = view_iter_next(&it)) {
        FlatRange piece;

        if (r != *done && piece_of(l, r, &piece)) {
            MemoryRegionSection section = flat_range_section(&piece);

            ret = l->fn(space->as, &section, l->arg);
        }
        *done = r;
    }
    return ret;
}

static int tell_space(const Locate *l, const Space *space)
{
    size_t low = 0, high = l->n;
    const FlatRange *done = NULL;
    int ret = 0;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if ((uintptr_t)l->stretches[middle].cell < (uintptr_t)space->cell) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (; low < l->n && l->stretches[low].cell == space->cell && ret == 0; low++) {
        ret = tell_stretch(l, space, l->stretches[low].range, &done);
    }
    return ret;
}

int locate_region(MemoryRegion *mr, AddrRange window, LocateFn fn, void *arg)
{
    Locate l = {.mr = mr, .window = window, .fn = fn, .arg = arg};
    const Space *space;
    bool everywhere;
    int ret = 0;

    if (txn_depth) {
        ret = stage_all();
        if (ret < 0) {
            return ret;
        }
    }
    everywhere = !region_walk_up(mr, window, locate_visit, &l); /* shown in too many ways to follow them */
    if (l.no_memory) {
        ret = -ENOMEM;
    }
    settle(&l);
    for (space = all_spaces.first; space && ret == 0; space = space->next) {
        const FlatRange *done = NULL;

        ret = everywhere ? tell_stretch(&l, space, ADDR_RANGE_ALL, &done) : tell_space(&l, space);
    }
    mem_vec_free((void **)&l.stretches, &l.cap, sizeof(*l.stretches));
    return ret;
}
