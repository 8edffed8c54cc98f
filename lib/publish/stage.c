/* SPDX-License-Identifier: MIT */
/*
 * stage.c - which cell each space uses next, and the next version of each cell.
 *
 * Invariant (after stage_all() returned 0): for every space, space->cell is the cell of render_root(space->root); for every
 * cell with users that the transaction touched, the edit (or without one, the current view) equals a rendering of the
 * cell's root from nothing. What readers see, and everything needed to go back to it (seen_cell, saved_chain,
 * saved_root), is untouched.
 * Established by: stage_all(), under the topology lock. Relied on by: the commit, address_space_find_staged().
 */
#include "publish/stage.h"

#include <errno.h>
#include <sched.h>

#include "base/mem.h"
#include "base/sabotage.h"
#include "publish/dirty.h"
#include "publish/plane.h"
#include "publish/transaction.h"
#include "view/render.h"

static bool whole_cell_moves(const ViewCell *cell, const Space *resolving, const MemoryRegion *root)
{
    const Space *user;

    for (user = cell->users; user; user = user->user_next) {
        if (user != resolving && (!user->resolve || render_root(user->root, NULL, NULL) != root)) {
            return false;
        }
    }
    return true;
}

/*
 * All users of a cell turn to the same new root: the cell goes with them. Since substituting a root never changes what
 * is seen, the new root differs from the old one only by what the changes showed at the users' registered roots. Without
 * this, adding a second child to a container that had one would render the whole machine.
 */
static void cell_rename(ViewCell *cell, MemoryRegion *root)
{
    const Space *user, *keeper;

    cell->root->cell = NULL;
    if (!cell->saved_root && !cell->fresh) {
        cell->saved_root = cell->root;
    }
    cell->root = root;
    root->cell = cell;
    dirty_touch(cell);
    for (user = cell->users; user; user = user->user_next) {
        keeper = user->root->rooted;
        if (keeper->dirt_serial == txn.serial) {
            dirty_cell(cell, keeper->dirt);
        }
    }
    cell->renew = true;
}

static void space_moved(Space *space)
{
    if (!space->moved) {
        space->moved = true;
        space->moved_next = txn.moved;
        txn.moved = space;
    }
}

static int resolve(Space *space)
{
    MemoryRegion *root = render_root(space->root, NULL, NULL);
    ViewCell *cell = root ? root->cell : &empty_cell;
    Chain *chain = chain_new(space);

    if (!chain) {
        return -ENOMEM;
    }
    if (!cell && space->cell != &empty_cell && whole_cell_moves(space->cell, space, root)) {
        cell_rename(space->cell, root);
        cell = space->cell;
    }
    if (!cell) {
        cell = cell_new(root);
        if (!cell) {
            chain_free(chain);
            return -ENOMEM;
        }
        dirty_touch(cell);
    }
    if (space->chain) {
        chain_leave(space->chain);
    }
    if (space->moved) {
        chain_free(space->chain);
    } else {
        space->saved_chain = space->chain;
        space_moved(space);
    }
    space->chain = chain;
    chain_enter(chain);
    dirty_touch(space->cell); /* it may have lost its last user */
    space_use_cell(space, cell);
    return 0;
}

#ifdef FLATVIEW_SABOTAGE
/* Show readers a version from which the span has been cleared but into which nothing has been painted yet. */
static void publish_unfinished(ViewCell *cell, AddrRange span)
{
    if (!cell->current || cell->edit.steps) {
        return;
    }
    if (view_edit_clear(&cell->edit, span) < 0 || cell_prepare_view(cell) < 0) {
        cell_drop_edit(cell);
    } else {
        cell_publish(cell);
        cell_retire_replaced(cell);
        sched_yield();
    }
    view_edit_begin(&cell->edit, cell->current->root, cell->current->n_ranges, generation_next(), cell->line);
    cell->editing = true;
}

static void sabotage_spans(ViewCell *cell)
{
    static unsigned turn;
    size_t i, n = 0;

    if (cell->n_spans && sabotaged(SABOTAGE_EARLY_PUBLISH)) {
        publish_unfinished(cell, cell->spans[0]);
    }
    for (i = 0; i < cell->n_spans; i++) {
        if (!sabotaged(SABOTAGE_LOST_SPAN) || ++turn % 64) {
            cell->spans[n++] = cell->spans[i];
        }
    }
    cell->n_spans = n;
}
#endif

/*
 * Spans between which the edit shows nothing become one. What is between them is not dirty, so the tree shows nothing there
 * either, and painting it paints nothing. A region that moves within a hole is so looked for once, as is a run of new ones.
 */
static size_t join_spans(ViewEdit *edit, AddrRange *spans, size_t n_spans)
{
    size_t i, n = 0;

    for (i = 1; i < n_spans; i++) {
        if (view_edit_is_hole(edit, (AddrRange){spans[n].last + 1, spans[i].first - 1})) {
            spans[n].last = spans[i].last;
        } else {
            spans[++n] = spans[i];
        }
    }
    return n + 1;
}

/*
 * First everything is taken away, then everything painted. A region that moves takes its old place's room for its new one, where
 * the two meet in one leaf; span by span, a full leaf would be split by one that moves down, for the instant of having it
 * twice.
 */
static int render_spans(ViewEdit *edit, MemoryRegion *root, AddrRange *spans, size_t n_spans)
{
    size_t i;
    int err = 0;

    n_spans = n_spans > 1 ? join_spans(edit, spans, n_spans) : n_spans;
    if (n_spans == 1) {
        view_edit_clear_later(edit, spans[0]);
        err = render_span(edit, root, spans[0]);
        return err < 0 ? err : view_edit_settle(edit);
    }
    for (i = 0; i < n_spans && err == 0; i++) {
        err = view_edit_clear(edit, spans[i]);
    }
    for (i = 0; i < n_spans && err == 0; i++) {
        err = render_span(edit, root, spans[i]);
    }
    return err;
}

static int render_cell(ViewCell *cell)
{
    AddrRange all = ADDR_RANGE_ALL;
    const FlatView *base = cell->current;
    int err;

    if (!cell->n_spans && !cell->dirty_all && !cell->renew) {
        return 0;
    }
    if (!cell->editing) {
        view_edit_begin(&cell->edit, base ? base->root : NULL, base ? base->n_ranges : 0, generation_next(), cell->line);
        cell->editing = true;
    }
    dirty_settle(cell);
#ifdef FLATVIEW_SABOTAGE
    sabotage_spans(cell);
#endif
    err = cell->dirty_all ? render_spans(&cell->edit, cell->root, &all, 1) :
                            render_spans(&cell->edit, cell->root, cell->spans, cell->n_spans);
    cell->n_spans = 0;
    cell->renew = false;
    /* A failed edit is lost, and with it what earlier calls had put into it. */
    cell->dirty_all = err < 0;
    if (err < 0) {
        cell_drop_edit(cell);
    }
    return err;
}

int stage_all(void)
{
    ViewCell *cell;
    int err;

    while (txn.resolve) {
        Space *space = txn.resolve;

        err = resolve(space);
        if (err < 0) {
            return err;
        }
        txn.resolve = space->resolve_next;
        space->resolve = false;
    }
    for (cell = txn.touched; cell; cell = cell->touched_next) {
        err = cell->n_users ? render_cell(cell) : 0;
        if (err < 0) {
            return err;
        }
    }
    return 0;
}

const ViewNode *stage_root(const Space *space)
{
    const ViewCell *cell = space->cell;

    return cell->editing ? cell->edit.root : cell->current ? cell->current->root : NULL;
}

const FlatRange *stage_find(const Space *space, hwaddr addr)
{
    return view_find(stage_root(space), addr);
}

void stage_forget(void)
{
    ViewCell *cell, *next;
    Space *space;

    plane_forget();
    while (txn.resolve) {
        txn.resolve->resolve = false;
        txn.resolve = txn.resolve->resolve_next;
    }
    while ((space = txn.moved)) {
        txn.moved = space->moved_next;
        space->moved = false;
        chain_leave(space->chain);
        chain_free(space->chain);
        space->chain = space->saved_chain;
        space->saved_chain = NULL;
        if (space->chain) {
            chain_enter(space->chain);
        }
        space_use_cell(space, space->seen_cell);
    }
    /* First let go of every root that this transaction gave a cell to, then give back those it took: the same region may
       be in both sets. */
    for (cell = txn.touched; cell; cell = cell->touched_next) {
        if (cell->saved_root) {
            cell->root->cell = NULL;
        }
    }
    for (cell = txn.touched, txn.touched = NULL; cell; cell = next) {
        next = cell->touched_next;
        cell->touched = false;
        cell->n_spans = 0;
        cell->dirty_all = false;
        cell->renew = false;
        if (cell->fresh) {
            cell_discard(cell);
            continue;
        }
        cell_drop_edit(cell);
        if (cell->saved_root) {
            cell->touched_next = txn.touched;
            txn.touched = cell;
        }
    }
    while ((cell = txn.touched)) {
        txn.touched = cell->touched_next;
        cell->root = cell->saved_root;
        cell->root->cell = cell;
        cell->saved_root = NULL;
    }
}
