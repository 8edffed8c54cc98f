/* SPDX-License-Identifier: MIT */
/*
 * commit.c - the commit, in numbered steps.
 *
 * Invariant: everything that can fail (memory, limits, listeners) happens in steps 1 to 3, before anything is visible to a
 * reader or irrevocable for a listener; steps 4 to 8 cannot fail.
 * Established by: commit_run(), under the topology lock. Relied on by: txn_end(), which on error only has to undo.
 *
 *   1. stage     next versions of what changed (stage.c)
 *   2. plan      views, deltas, who is to be told: all memory
 *   3. prepare   listeners may refuse
 *   4. remove    high priority to low; old views current
 *   5. publish   every space
 *   6. add       low priority to high; new views current
 *   7. commit    low to high
 *   8. retire    what was replaced, oldest view of each line first
 *
 * No step waits for a reader (R5): this may run in a read section.
 */
#include "publish/commit.h"

#include <errno.h>

#include "base/mem.h"
#include "base/sabotage.h"
#include "publish/change.h"
#include "publish/deliver.h"
#include "publish/delta.h"
#include "publish/log_tell.h"
#include "publish/logging.h"
#include "publish/plane_delta.h"
#include "publish/stage.h"
#include "publish/transaction.h"
#include "topology/dirty_log.h"
#include "topology/release.h"
#include "view/interposal.h"

#define KEEP_SPANS 4096 /* memory for this many stays with a cell */

static FlatView *next_view(const ViewCell *cell)
{
    return cell->next_view ? cell->next_view : cell->current;
}

/*
 * Where the next version can differ from the current one. What is painted at the edge of a span may join the range beyond
 * it, which is then another range, too: so one address more on each side.
 */
static AddrRange changed_window(const ViewCell *cell)
{
    AddrRange hull = cell->hull;

    hull.first -= hull.first != 0;
    hull.last += hull.last != UINT64_MAX;
    return hull;
}

/* A cell that is touched and not edited shows something whose planes change. */
static int plan_views(void)
{
    ViewCell *cell;
    int err = 0;

    for (cell = txn.touched; cell && err == 0; cell = cell->touched_next) {
        cell->has_delta = false;
        if (!cell->n_users) {
            continue;
        }
        if (cell->editing) {
            err = cell_prepare_view(cell);
        }
        if (cell->n_listening && cell->current && err == 0) {
            cell->has_delta = true;
            cell->delta = (MemoryDelta){.old_view = cell->current, .new_view = next_view(cell)};
            err = delta_add(&cell->delta, cell->current->root, next_view(cell)->root, changed_window(cell));
        }
    }
    return err;
}

/* A space that turns to another cell sees all of that as a change, as far as the two differ. */
static int plan_moved(void)
{
    Space *space;
    int err;

    for (space = txn.moved; space; space = space->moved_next) {
        if (space->cell == space->seen_cell || !space->n_listeners) {
            continue;
        }
        space->delta = (MemoryDelta){
            .as = space->as, .old_view = space->seen_cell->current, .new_view = next_view(space->cell)};
        err = delta_add(&space->delta, space->delta.old_view->root, space->delta.new_view->root, ADDR_RANGE_ALL);
        if (err < 0) {
            return err;
        }
    }
    return 0;
}

static unsigned wanted_of(const size_t n_wanting[MEMORY_PLANE_COUNT])
{
    unsigned plane, wanted = 0;

    for (plane = 0; plane < MEMORY_PLANE_COUNT; plane++) {
        wanted |= (unsigned)(n_wanting[plane] != 0) << plane;
    }
    return wanted;
}

static int plan_planes_of(MemoryDelta *delta, const ViewCell *cell, unsigned wanted)
{
    return wanted ? plane_delta_add(delta, delta->old_view->root, delta->new_view->root, cell, wanted) : 0;
}

/* With the spans of all views known. */
static int plan_planes(void)
{
    ViewCell *cell;
    Space *space;
    int err = 0;

    for (cell = txn.touched; cell && err == 0; cell = cell->touched_next) {
        if (cell->has_delta) {
            err = plan_planes_of(&cell->delta, cell, wanted_of(cell->n_wanting));
        }
    }
    for (space = txn.moved; space && err == 0; space = space->moved_next) {
        if (space->cell != space->seen_cell && space->n_listeners) {
            err = plan_planes_of(&space->delta, space->cell, wanted_of(space->n_wanting));
        }
    }
    return err;
}

static bool tells_something(const MemoryDelta *delta)
{
    return delta->n_spans || plane_delta_changed(delta);
}

static int plan_round(void)
{
    ViewCell *cell;
    Space *space;
    int err = 0;

    for (cell = txn.touched; cell && err == 0; cell = cell->touched_next) {
        if (!cell->has_delta || !tells_something(&cell->delta)) {
            continue;
        }
        for (space = cell->users; space && err == 0; space = space->user_next) {
            if (space->n_listeners && space->seen_cell == cell) {
                space->delta = cell->delta; /* computed once, told to each with its own name */
                space->delta.as = space->as;
                err = round_add_space(space, &space->delta);
            }
        }
    }
    for (space = txn.moved; space && err == 0; space = space->moved_next) {
        if (space->cell != space->seen_cell && space->n_listeners && tells_something(&space->delta)) {
            err = round_add_space(space, &space->delta);
        }
    }
    return err;
}

static int plan(void)
{
    int err;

    delta_reset();
    plane_delta_reset();
    round_reset();
    err = plan_views();
    if (err == 0) {
        err = plan_moved();
    }
    if (err == 0 && delta_any()) {
        delta_finish();
        err = plan_planes();
    }
    if (err == 0) {
        plane_delta_finish();
        err = plan_round();
    }
    return err;
}

static void publish(void)
{
    ViewCell *cell;
    Space *space;

    dirty_log_raise(); /* who finds a range in what is published here marks what it stores there */
    plane_publish();
    for (cell = txn.touched; cell; cell = cell->touched_next) {
        if (cell->next_view) {
            cell_publish(cell);
        }
    }
    for (space = txn.moved; space; space = space->moved_next) {
        if (space->cell != space->seen_cell) {
            /* A release: whoever finds the cell finds its first version, published just above. */
            writer_publish(&space->as->cell, (void *)space->cell);
        }
    }
}

/* A view goes before the nodes that only it reached, regions go last: base/retire.h settles in this order. */
static void retire_all(void)
{
    ViewCell *cell;
    Space *space;
    size_t i;

    plane_retire();
    while ((cell = txn.touched)) {
        txn.touched = cell->touched_next;
        cell->touched = false;
        cell->saved_root = NULL;
        cell->n_spans = 0;
        cell->dirty_all = false;
        if (cell->cap_spans > KEEP_SPANS) {
            mem_vec_free((void **)&cell->spans, &cell->cap_spans, sizeof(*cell->spans));
        }
        if (cell->next_view) {
            cell_retire_replaced(cell);
        }
        if (!cell->n_users) {
            if (cell->fresh) {
                cell_discard(cell);
            } else {
                cell_drop_edit(cell);
                cell_retire(cell);
            }
        }
    }
    while ((space = txn.moved)) {
        txn.moved = space->moved_next;
        space->moved = false;
        space->seen_cell = space->cell;
        chain_free(space->saved_chain);
        space->saved_chain = NULL;
    }
    if (!txn.late) {
        return; /* a load of a million regions is not read again for this */
    }
    for (i = 0; i < txn.n_undo; i++) {
        if (txn.undo[i].op == UNDO_HOOKS) {
            change_hooks_settle(txn.undo[i].mr);
        } else if (txn.undo[i].op == UNDO_WINDOW) {
            change_window_settle(&txn.undo[i]);
        }
        logging_committed(&txn.undo[i]);
    }
    for (i = 0; i < txn.n_undo; i++) {
        if (txn.undo[i].op == UNDO_DESTROY) {
            interposal_forget(txn.undo[i].mr, generation_newest());
            region_retire(txn.undo[i].mr);
        }
    }
}

/* No transaction is open any more as far as cells know: what they show is what is current. */
static void sweep_interposals(void)
{
    const Space *space;
    const FlatRange *r;
    ViewIter it;

    interposal_sweep_begin();
    for (space = all_spaces.first; space; space = space->next) {
        if (space->cell->users != space) {
            continue; /* one user of a cell will do */
        }
        for (r = view_iter_first(&it, space->cell->current->root, 0); r; r = view_iter_next(&it)) {
            interposal_mark(r->interposal);
        }
    }
    interposal_sweep_end(generation_newest());
}

int commit_run(void)
{
    int err = stage_all(); /* 1 */

    if (err == 0) {
        err = plane_stage();
    }
    if (err == 0) {
        err = plan(); /* 2 */
    }
    if (err == 0) {
        err = log_global_tell(); /* 3 */
    }
    if (err == 0) {
        err = round_prepare();
        if (err < 0) {
            log_global_cancel();
        }
    }
    if (err < 0) {
        round_end();
        return err;
    }
    if (sabotaged(SABOTAGE_EARLY_ADD)) {
        round_remove();
        round_add();
        publish();
    } else if (sabotaged(SABOTAGE_LATE_DEL)) {
        publish();
        round_remove();
        round_add();
    } else {
        round_remove(); /* 4 */
        publish();      /* 5 */
        round_add();    /* 6 */
    }
    round_commit(); /* 7 */
    log_global_done();
    retire_all();   /* 8 */
    if (__builtin_expect(interposal_is_sweep_due(), 0)) {
        sweep_interposals();
    }
    round_end();
    return 0;
}
