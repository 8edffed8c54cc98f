/* SPDX-License-Identifier: MIT */
/*
 * walk.c - what shows a region: upward through parents, and from alias targets to their aliases.
 *
 * Invariant: a region met on the way up shows, or would if all were enabled, the window that the walk began with, at the
 * window that the walk came with. "Is shown by" may have circles: a bus may show a window of itself. Followed with windows
 * they end where the window does not show its own place, and region_makes_loop() is asked before each link to keep it so;
 * a change of place or of enabled flags can break that inside a transaction, which cannot then commit. And even without
 * circles the ways up may be exponentially many. Hence: whoever follows windows has a budget; whoever asks only whether a
 * region is met marks those it has seen.
 * Relied on by: dirty spans, the checks of mutators. Under the topology lock; nothing here allocates.
 */
#include "topology/region.h"

static uint64_t last_walk; /* guarded by the topology lock */

uint64_t region_walk_begin(void)
{
    return ++last_walk;
}

/* A region that was visited, what of it is seen, and the ways up from it that are still to go. */
typedef struct Branch {
    MemoryRegion *mr;
    AddrRange window;
    MemoryRegion *parent, *alias;
} Branch;

/* Take the next way up that shows something of the window: where it leads, and the window there. False if none is left. */
static bool way_up(Branch *from, MemoryRegion **ret_mr, AddrRange *ret_window, unsigned *budget)
{
    AddrRange own, shown;
    MemoryRegion *mr;

    if (from->parent) {
        mr = from->parent;
        from->parent = NULL;
        if (range_shift_up(from->window, from->mr->addr, ret_window)) {
            *ret_mr = mr;
            return true;
        }
    }
    while (from->alias && *budget) {
        mr = from->alias;
        from->alias = mr->alias_next;
        --*budget;
        if (region_alias_shows(mr, from->window) && mr->enabled && region_extent(mr, &own) &&
            range_shift_up(own, mr->alias_offset, &shown) && range_intersect(from->window, shown, &shown) &&
            range_shift_down(shown, mr->alias_offset, ret_window)) {
            *ret_mr = mr;
            return true;
        }
    }
    return false;
}

bool region_walk_up(MemoryRegion *mr, AddrRange window,
                    bool (*visit)(MemoryRegion *mr, AddrRange window, MemoryRegion **aliases, void *arg), void *arg)
{
    Branch branches[REGION_WALK_BRANCHES]; /* only as much of it is touched as ways fork */
    unsigned n = 0, budget = REGION_WALK_BUDGET;
    MemoryRegion *aliases;
    AddrRange own;

    for (;;) {
        if (!budget || n == REGION_WALK_BRANCHES) {
            return false;
        }
        budget--;
        aliases = mr->aliases;
        if (mr->enabled && region_extent(mr, &own) && range_intersect(window, own, &window) &&
            visit(mr, window, &aliases, arg)) {
            if (aliases) {
                branches[n++] = (Branch){mr, window, mr->parent, aliases};
            } else if (mr->parent && range_shift_up(window, mr->addr, &window)) {
                mr = mr->parent; /* the only way: nothing to remember */
                continue;
            }
        }
        while (n && !way_up(&branches[n - 1], &mr, &window, &budget)) {
            n--;
        }
        if (!n) {
            return budget > 0; /* without any left, a list of aliases may have been cut short */
        }
        if (!branches[n - 1].parent && !branches[n - 1].alias) {
            n--; /* its last way: straight lines of any length need one branch */
        }
    }
}

/* ---- loops ---------------------------------------------------------------------------------------------------- */

/* Regions waiting for their visit, linked through walk_next; each enters once in a walk. */
static void await(MemoryRegion **waiting, MemoryRegion *mr, uint64_t walk)
{
    if (mr && region_walk_first_visit(mr, walk)) {
        mr->walk_next = *waiting;
        *waiting = mr;
    }
}

/* Does anything, at any window, lead up from below to top? Enabled or not. */
static bool leads_up_to(MemoryRegion *below, const MemoryRegion *top)
{
    MemoryRegion *waiting = NULL, *mr, *alias;
    uint64_t walk = region_walk_begin();

    await(&waiting, below, walk);
    while (waiting) {
        mr = waiting;
        waiting = mr->walk_next;
        if (mr == top) {
            return true;
        }
        await(&waiting, mr->parent, walk);
        for (alias = mr->aliases; alias; alias = alias->alias_next) {
            await(&waiting, alias, walk);
        }
    }
    return false;
}

typedef struct Search {
    const MemoryRegion *wanted;
    bool met;
} Search;

static bool search_visit(MemoryRegion *mr, AddrRange window, MemoryRegion **aliases, void *arg)
{
    Search *search = arg;

    (void)window;
    (void)aliases;
    search->met |= mr == search->wanted;
    return !search->met;
}

bool region_makes_loop(MemoryRegion *parent, MemoryRegion *child, hwaddr addr)
{
    Search search = { .wanted = child };
    const MemoryRegion *mr;
    AddrRange place;

    if (parent == child) {
        return true;
    }
    if (!child->children && !child->alias) {
        return false; /* shows nothing else: what most devices add */
    }
    for (mr = parent->parent; mr; mr = mr->parent) {
        if (mr == child) {
            return true; /* whatever the windows: a tree must be one */
        }
    }
    if (!leads_up_to(parent, child) || !child->enabled || !region_extent(child, &place) ||
        !range_shift_up(place, addr, &place)) {
        return false;
    }
    return !region_walk_up(parent, place, search_visit, &search) || search.met;
}
