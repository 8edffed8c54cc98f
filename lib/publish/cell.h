/* SPDX-License-Identifier: MIT */
/*
 * cell.h - where readers find the current view of an address space, and what writers keep beside it.
 *
 * A ViewCell is one distinct view with its history; spaces whose roots resolve to the same region share it, so that one
 * commit publishes once for all of them.
 *
 * Invariant: gen is never older than current->gen, and both name a view that was complete when stored. Stores: gen, then
 * current, each a release, by the commit (step 5). A reader whose cached range carries cell->gen has consulted that view
 * without loading current: it is at worst the view of just before, as if the access had come a moment earlier, which R3
 * allows until the commit returns; and that view is alive, because its grace period can begin only after both stores.
 * In this order a thread never goes back: once it has loaded a view from current, gen is at least as new, so nothing older
 * in its cache matches any more. (The other way round it may read the new current, cache that for one range, and hit the
 * old gen with another.)
 *
 * Everything outside the readers' line is guarded by the topology lock.
 */
#ifndef FLATVIEW_PUBLISH_CELL_H
#define FLATVIEW_PUBLISH_CELL_H

#include <flatview/address_space.h>
#include <flatview/memory_listener.h>

#include "base/reader.h"
#include "view/flat_view.h"

struct Space;

typedef struct ViewCell {
    /* readers' line: written by publication only */
    FlatView *current __attribute__((aligned(64)));
    uint64_t gen;
    hwaddr page_mask; /* current->page_mask; atomic, relaxed: a hint */

    /* writers */
    MemoryRegion *root __attribute__((aligned(64))); /* root->cell is this; NULL for the empty cell */
    MemoryRegion *saved_root;                        /* what root was when the transaction began, if it changed */
    MemoryRegion *loud_aliases;                      /* of root: see dirty.c. Valid while region_shape is shape */
    uint64_t shape;
    RetireLine *line;
    struct Space *users; /* spaces that will see this cell when the transaction commits */
    size_t n_users;
    size_t n_listening; /* users that have listeners */
    size_t n_wanting[MEMORY_PLANE_COUNT]; /* users that have listeners of a plane */
    bool fresh;         /* made in this transaction: nobody can see it yet */
    bool renew;         /* a new generation is due, whatever is rendered: has a new root, or shows a newly hooked region */
    bool touched;       /* is in the list of cells that this transaction touched */
    struct ViewCell *touched_next;

    /* what is to be rendered; if memory for the list runs out: everything */
    AddrRange *spans;
    size_t n_spans, cap_spans;
    bool dirty_all;
    AddrRange hull; /* of all that was dirty in this transaction, also what is rendered already; {UINT64_MAX, 0}: nothing */

    /* the next version */
    bool editing;
    ViewEdit edit;
    FlatView *next_view;
    FlatView *old_view; /* between publication and retirement */
    MemoryDelta delta; /* current to next_view; computed once for all users */
    bool has_delta;

    RetireHead retire;
} ViewCell;

/* In a read section (or under the topology lock). Never NULL for a space that was initialised. */
static inline ViewCell *space_cell(AddressSpace *as)
{
    return (ViewCell *)reader_load(&as->cell);
}

static inline FlatView *cell_view(ViewCell *cell)
{
    return reader_load(&cell->current);
}

static inline uint64_t cell_gen(ViewCell *cell)
{
    return reader_load(&cell->gen);
}

static inline hwaddr cell_page_mask(ViewCell *cell)
{
    return __atomic_load_n(&cell->page_mask, __ATOMIC_RELAXED);
}

/* The view of every space whose root shows nothing. Its one version is never replaced. */
extern ViewCell empty_cell;

/* Unique, growing; under the topology lock. */
uint64_t generation_next(void);
uint64_t generation_newest(void);
uint64_t cell_live_count(void); /* distinct views, the empty one not counted; any thread */

/* A cell without users, not yet visible, whose first version is all to be rendered. -ENOMEM: NULL. */
ViewCell *cell_new(MemoryRegion *root);
/* Undo cell_new(): nobody has seen it. */
void cell_discard(ViewCell *cell);
/* Nobody will find it from now on: retire its view, its tree and itself. Cannot fail. */
void cell_retire(ViewCell *cell);
/* Make the next version of an edited cell; 0 or -ENOMEM. */
int cell_prepare_view(ViewCell *cell);
/* Show it to readers. Cannot fail. */
void cell_publish(ViewCell *cell);
/* Retire what cell_publish() replaced. */
void cell_retire_replaced(ViewCell *cell);
/* Forget the next version. */
void cell_drop_edit(ViewCell *cell);

#endif
