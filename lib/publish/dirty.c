/* SPDX-License-Identifier: MIT */
/*
 * dirty.c - dirty spans.
 *
 * Invariant: an address at which the next version of a cell may differ from what its edit (or, without one, its current
 * view) has, lies in a span of the cell, or dirty_all is set. Too many spans cost time; a missing one would be a wrong
 * map, so whatever cannot be recorded exactly is recorded larger.
 * Established by: dirty_mark() around each change. Relied on by: staging, which renders spans and nothing else.
 *
 * The walk goes through the tree as it is at the call. A change that hides is marked before, one that shows is marked
 * after; one that moves, both times, or at once for both places where nothing above depends on which it is. Since
 * substitution of roots (render_root()) never shifts an address, a window seen at a cell's root is the window of its view.
 */
#include "publish/dirty.h"

#include <stdlib.h>

#include "base/mem.h"
#include "publish/transaction.h"

void dirty_touch(ViewCell *cell)
{
    if (!cell->touched && cell != &empty_cell) {
        cell->touched = true;
        cell->hull = (AddrRange){UINT64_MAX, 0};
        cell->touched_next = txn.touched;
        txn.touched = cell;
    }
}

enum { SORT_FEW = 8 }; /* spans up to which qsort() costs more than it saves */

static bool grow_span(AddrRange *span, AddrRange by)
{
    /* Overlapping or adjacent. The +1s cannot wrap: the other test has failed when they would. */
    bool meets = (by.first <= span->last || by.first == span->last + 1) &&
                 (span->first <= by.last || span->first == by.last + 1);

    if (meets) {
        span->first = by.first < span->first ? by.first : span->first;
        span->last = by.last > span->last ? by.last : span->last;
    }
    return meets;
}

void dirty_cell(ViewCell *cell, AddrRange span)
{
    dirty_touch(cell);
    cell->hull.first = span.first < cell->hull.first ? span.first : cell->hull.first;
    cell->hull.last = span.last > cell->hull.last ? span.last : cell->hull.last;
    if (cell->dirty_all || (cell->n_spans && grow_span(&cell->spans[cell->n_spans - 1], span))) {
        return;
    }
    if (mem_vec_reserve((void **)&cell->spans, &cell->cap_spans, cell->n_spans + 1, sizeof(*cell->spans)) < 0) {
        cell->dirty_all = true;
        return;
    }
    cell->spans[cell->n_spans++] = span;
}

static int span_order(const void *a, const void *b)
{
    hwaddr x = ((const AddrRange *)a)->first, y = ((const AddrRange *)b)->first;

    return x < y ? -1 : x > y;
}

static void sort_few(AddrRange *spans, size_t n)
{
    size_t i, k;

    for (i = 1; i < n; i++) {
        AddrRange span = spans[i];

        for (k = i; k && spans[k - 1].first > span.first; k--) {
            spans[k] = spans[k - 1];
        }
        spans[k] = span;
    }
}

void dirty_settle(ViewCell *cell)
{
    size_t i, n = 0;

    if (cell->dirty_all || cell->n_spans < 2) {
        return;
    }
    if (cell->n_spans == 2 && !grow_span(&cell->spans[0], cell->spans[1])) { /* what moves one region */
        if (cell->spans[1].first < cell->spans[0].first) {
            AddrRange span = cell->spans[0];

            cell->spans[0] = cell->spans[1];
            cell->spans[1] = span;
        }
        return;
    }
    if (cell->n_spans <= SORT_FEW) {
        sort_few(cell->spans, cell->n_spans);
    } else {
        qsort(cell->spans, cell->n_spans, sizeof(*cell->spans), span_order);
    }
    for (i = 1; i < cell->n_spans; i++) {
        if (!grow_span(&cell->spans[n], cell->spans[i])) {
            cell->spans[++n] = cell->spans[i];
        }
    }
    cell->n_spans = n + 1;
}

static void dirt_at_root(const MemoryRegion *root, AddrRange window)
{
    Space *space = root->rooted;

    if (space->dirt_serial != txn.serial) {
        space->dirt_serial = txn.serial;
        space->dirt = window;
    } else {
        space->dirt.first = window.first < space->dirt.first ? window.first : space->dirt.first;
        space->dirt.last = window.last > space->dirt.last ? window.last : space->dirt.last;
    }
}

/*
 * Is alias a way for spaces to be resolved to what it shows, and nothing else? Then the cell of its target is their cell, what is
 * marked there is marked for them, and nobody else looks through it.
 */
static bool is_quiet(const MemoryRegion *alias, const ViewCell *cell)
{
    const MemoryRegion *mr;
    const ChainLink *link;

    for (mr = alias; mr; mr = mr->parent) {
        if (mr->cell || mr->aliases) {
            return false;
        }
        for (link = mr->chains; link; link = link->next) {
            if (link->space->cell != cell) {
                return false;
            }
        }
    }
    return true;
}

/* A machine has a bus master for each device, and each of them an alias of the whole memory: following all of those for every BAR
   that moves would make the cost of the change that of the machine. So the quiet ones stand first in the list. */
MemoryRegion *dirty_loud_aliases(MemoryRegion *root)
{
    ViewCell *cell = root->cell;
    MemoryRegion *alias, *next, *loud = NULL;

    if (cell->shape == region_shape) {
        return cell->loud_aliases;
    }
    for (alias = root->aliases; alias; alias = next) {
        next = alias->alias_next;
        if (is_quiet(alias, cell)) {
            region_alias_to_front(alias);
        } else if (!loud) {
            loud = alias;
        }
    }
    cell->loud_aliases = loud;
    cell->shape = region_shape;
    return loud;
}

/* A window of mr may have changed. absolute: the window and mr's own offset, at which a root is painted. */
static inline void mark_at_root(const MemoryRegion *mr, AddrRange absolute)
{
    if (mr->cell) {
        dirty_cell(mr->cell, absolute);
    }
    if (mr->rooted) {
        dirt_at_root(mr, absolute);
    }
}

static bool mark_visit(MemoryRegion *mr, AddrRange window, MemoryRegion **aliases, void *arg)
{
    (void)arg;
    if (mr->cell && mr->aliases) {
        *aliases = dirty_loud_aliases(mr);
    }
    if ((mr->cell || mr->rooted) && range_shift_up(window, mr->addr, &window)) {
        mark_at_root(mr, window);
    }
    return true;
}

/* Is mr's window seen through aliases as well? A PCI bus has one for each slice of the low megabyte, and few changes lie in
   any of them. */
static bool is_aliased(MemoryRegion *mr, AddrRange window)
{
    const MemoryRegion *alias = mr->cell && mr->aliases ? dirty_loud_aliases(mr) : mr->aliases;

    while (alias && !(region_alias_shows(alias, window) && alias->enabled)) {
        alias = alias->alias_next;
    }
    return alias;
}

/*
 * The way up as most windows have it: through parents alone. Marks what it passes, up to the first region that is seen
 * through aliases as well, which is not marked: NULL if there is none, and all is done. window becomes that of the region.
 */
static MemoryRegion *mark_straight(MemoryRegion *mr, AddrRange *window)
{
    AddrRange own;

    for (; mr; mr = mr->parent) {
        if (!mr->enabled || !region_extent(mr, &own) || !range_intersect(*window, own, window)) {
            return NULL;
        }
        if (mr->aliases && is_aliased(mr, *window)) {
            return mr;
        }
        if (!range_shift_up(*window, mr->addr, window)) {
            return NULL;
        }
        mark_at_root(mr, *window);
    }
    return NULL;
}

void dirty_mark(MemoryRegion *mr, AddrRange window)
{
    ViewCell *cell;
    Space *space;

    mr = mark_straight(mr, &window);
    if (mr && !region_walk_up(mr, window, mark_visit, NULL)) {
        for (space = all_spaces.first; space; space = space->next) {
            dirty_cell(space->cell, ADDR_RANGE_ALL);
            dirty_cell(space->seen_cell, ADDR_RANGE_ALL);
            dirt_at_root(space->root, ADDR_RANGE_ALL);
        }
        /* One that all spaces have left in this transaction is still its root's, and they may come back to it. */
        for (cell = txn.touched; cell; cell = cell->touched_next) {
            dirty_cell(cell, ADDR_RANGE_ALL);
        }
    }
}

/* Both windows of a region, followed upward together. budget: for regions, on all ways. */
typedef struct Pair {
    AddrRange a, b;
} Pair;

#define PAIR_DEPTH 4
#define PAIR_BUDGET 64

static bool mark_pair(MemoryRegion *mr, Pair at, unsigned depth, unsigned *budget);

static bool alias_window(const MemoryRegion *alias, AddrRange window, AddrRange *ret)
{
    AddrRange own, shown;

    return region_extent(alias, &own) && range_shift_up(own, alias->alias_offset, &shown) &&
           range_intersect(window, shown, &shown) && range_shift_down(shown, alias->alias_offset, ret);
}

static bool mark_pair_aliases(MemoryRegion *mr, Pair at, unsigned depth, unsigned *budget)
{
    MemoryRegion *alias = mr->cell ? dirty_loud_aliases(mr) : mr->aliases;

    for (; alias; alias = alias->alias_next) {
        bool in_a = region_alias_shows(alias, at.a), in_b = region_alias_shows(alias, at.b);
        Pair seen;

        if ((!in_a && !in_b) || !alias->enabled) {
            continue;
        }
        if (!in_a || !in_b || !alias_window(alias, at.a, &seen.a) || !alias_window(alias, at.b, &seen.b) ||
            depth == PAIR_DEPTH || !mark_pair(alias, seen, depth + 1, budget)) {
            return false;
        }
    }
    return true;
}

/* False where the two part, or there are many ways: what is above is then not all marked. */
static bool mark_pair(MemoryRegion *mr, Pair at, unsigned depth, unsigned *budget)
{
    AddrRange own;

    for (; mr; mr = mr->parent) {
        if (!mr->enabled || !region_extent(mr, &own)) {
            return true;
        }
        if (!*budget || !range_intersect(at.a, own, &at.a) || !range_intersect(at.b, own, &at.b)) {
            return false;
        }
        --*budget;
        if (mr->aliases && !mark_pair_aliases(mr, at, depth, budget)) {
            return false;
        }
        if (!range_shift_up(at.a, mr->addr, &at.a) || !range_shift_up(at.b, mr->addr, &at.b)) {
            return false;
        }
        mark_at_root(mr, at.a);
        mark_at_root(mr, at.b);
    }
    return true;
}

/*
 * A region that is seen through its parent alone, as most are, takes all ways up from there with its old place and with its
 * new one: one walk will do. Where that fails, what it has marked is marked once more.
 */
void dirty_mark_move(MemoryRegion *mr, hwaddr from)
{
    unsigned budget = PAIR_BUDGET;
    AddrRange own;
    Pair at;

    if (!mr->enabled || !region_extent(mr, &own)) {
        return;
    }
    if (range_shift_up(own, from, &at.a) && range_shift_up(own, mr->addr, &at.b) &&
        mark_pair(mr->parent, at, 0, &budget)) {
        return;
    }
    if (range_shift_up(own, from, &at.a)) {
        dirty_mark(mr->parent, at.a);
    }
    dirty_mark(mr, own);
}

static void renew_cell(ViewCell *cell)
{
    dirty_touch(cell);
    cell->renew = true;
}

static bool renew_visit(MemoryRegion *mr, AddrRange window, MemoryRegion **aliases, void *arg)
{
    (void)window;
    (void)arg;
    if (mr->cell) {
        if (mr->aliases) {
            *aliases = dirty_loud_aliases(mr);
        }
        renew_cell(mr->cell);
    }
    return true;
}

/* The tree may have changed in this transaction so that mr is no longer below a cell that still shows it; but then that
   change has marked the cell, which gets its new generation by that. */
void dirty_renew(MemoryRegion *mr)
{
    AddrRange own;
    Space *space;

    if (region_extent(mr, &own) && !region_walk_up(mr, own, renew_visit, NULL)) {
        for (space = all_spaces.first; space; space = space->next) {
            renew_cell(space->cell);
            renew_cell(space->seen_cell);
        }
    }
}

void dirty_mark_whole(MemoryRegion *mr)
{
    AddrRange own;

    if (region_extent(mr, &own)) {
        dirty_mark(mr, own);
    }
}

void dirty_resolve_space(Space *space)
{
    if (!space->resolve) {
        space->resolve = true;
        space->resolve_next = txn.resolve;
        txn.resolve = space;
    }
}

void dirty_resolve(MemoryRegion *mr)
{
    ChainLink *link;

    for (link = mr->chains; link; link = link->next) {
        dirty_resolve_space(link->space);
    }
    /* What the parent resolves to depends on its children only while at most one is enabled. With three or more, before
       the change of one of them or after it, there are two or more on the other side, too. */
    if (mr->parent && mr->parent->n_enabled_children <= 2) {
        for (link = mr->parent->chains; link; link = link->next) {
            dirty_resolve_space(link->space);
        }
    }
}
