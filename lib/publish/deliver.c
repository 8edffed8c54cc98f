/* SPDX-License-Identifier: MIT */
/*
 * deliver.c - who is called, with what, in which order.
 *
 * Invariant: of one commit, a listener hears begin, prepare, removals, additions, commit, in this order and all of them,
 * unless someone refuses: then begin, prepare, abort if it had agreed, nothing more if it was the one. Over all listeners
 * of all spaces: additions ascend in (priority, seq), removals descend. The list of a space does not change while a round
 * runs: registering is refused and unregistering is put off to round_end().
 * Established by: the round functions, called by the commit in its numbered steps.
 * Relied on by:   accelerators: at no instant do they map what dispatch would not honour.
 *
 * Earlier designs let an unregistered listener drop out at once, with sentinels in the list. It then had to be decided for
 * each phase what it had already been promised; finishing the round first needs no such table.
 */
#include "publish/deliver.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/sabotage.h"
#include "publish/delta.h"
#include "publish/log_tell.h"
#include "publish/plane_delta.h"
#include "publish/transaction.h"

static struct {
    MemoryListener **at;
    size_t n, cap;
    MemoryListener *leaving; /* linked by round_next */
} round_;

static uint64_t last_seq;       /* guarded by the topology lock */
static uint64_t live_listeners; /* written under it, read anywhere */

/* ---- what one listener is told ---- */

static int tell_prepare(MemoryListener *listener)
{
    if (listener->begin) {
        listener->begin(listener);
    }
    return listener->prepare ? listener->prepare(listener, listener->delta) : 0;
}

static void tell_span_del(MemoryListener *listener, const MemorySpan *span)
{
    size_t i;

#ifdef FLATVIEW_SABOTAGE
    static unsigned turn;

    if (sabotaged(SABOTAGE_DROP_EVENT) && span->n_old && ++turn % 64 == 0) {
        return;
    }
#endif
    if (listener->span_del && span->n_old) {
        listener->span_del(listener, span);
    }
    for (i = 0; listener->region_del && i < span->n_old; i++) {
        listener->region_del(listener, &span->old_sections[i]);
    }
}

static void tell_span_add(MemoryListener *listener, const MemorySpan *span)
{
    size_t i;

    if (listener->span_add && span->n_new) {
        listener->span_add(listener, span);
    }
    for (i = 0; listener->region_add && i < span->n_new; i++) {
        listener->region_add(listener, &span->new_sections[i]);
    }
}

static void tell_removals(MemoryListener *listener)
{
    const MemoryDelta *delta = listener->delta;
    size_t i;

    plane_tell_removals(listener, delta);
    for (i = 0; i < delta->n_spans; i++) {
        tell_span_del(listener, &delta->spans[i]);
    }
}

/* The whole new view, ascending: what lies in a span is new, all else is unchanged (delta.c). */
static void tell_all(MemoryListener *listener)
{
    const MemoryDelta *delta = listener->delta;
    const MemorySpan *span = delta->spans, *end = delta->spans + delta->n_spans;
    MemoryRegionSection section;
    const FlatRange *r;
    ViewIter it;

    for (r = view_iter_first(&it, delta->new_view->root, 0); r; r = view_iter_next(&it)) {
        while (span < end && (span->last < r->first || !span->n_new)) {
            span++;
        }
        if (span == end || r->first < span->first) {
            section = flat_range_section(r);
            listener->region_nop(listener, &section);
        } else if (r->first == span->new_sections[0].offset_within_address_space) {
            tell_span_add(listener, span); /* all of the span's ranges, of which this is the first */
        }
    }
}

static void tell_additions(MemoryListener *listener)
{
    const MemoryDelta *delta = listener->delta;
    size_t i;

    if (listener->region_nop && delta->n_spans) {
        tell_all(listener);
    } else {
        for (i = 0; i < delta->n_spans; i++) {
            tell_span_add(listener, &delta->spans[i]);
        }
    }
    plane_tell_additions(listener, delta);
}

static void tell_commit(MemoryListener *listener)
{
    if (listener->commit) {
        listener->commit(listener);
    }
    listener->delta = NULL;
}

static void tell_abort(MemoryListener *listener)
{
    if (listener->abort) {
        listener->abort(listener, listener->delta);
    }
    listener->delta = NULL;
}

/* ---- a round ---- */

void round_reset(void)
{
    round_.n = 0;
}

int round_add_space(Space *space, const MemoryDelta *delta)
{
    MemoryListener *listener;

    if (mem_vec_reserve((void **)&round_.at, &round_.cap, round_.n + space->n_listeners, sizeof(*round_.at)) < 0) {
        return -ENOMEM;
    }
    for (listener = space->listeners; listener; listener = listener->next) {
        if (delta->n_spans || plane_wanted(listener) & plane_delta_changed(delta)) {
            listener->delta = delta;
            round_.at[round_.n++] = listener;
        }
    }
    return 0;
}

static int listener_order(const MemoryListener *a, const MemoryListener *b)
{
    if (a->priority != b->priority) {
        return a->priority < b->priority ? -1 : 1;
    }
    return a->seq < b->seq ? -1 : a->seq > b->seq;
}

static int round_order(const void *a, const void *b)
{
    return listener_order(*(MemoryListener *const *)a, *(MemoryListener *const *)b);
}

int round_prepare(void)
{
    size_t i, done;
    int err = 0;

    if (!round_.n) {
        return 0;
    }
    if (round_.n > 1) {
        qsort(round_.at, round_.n, sizeof(*round_.at), round_order);
    }
    txn_set_delivering(true);
    for (done = 0; done < round_.n; done++) {
        err = tell_prepare(round_.at[done]);
        if (err < 0) {
            break;
        }
        err = 0;
    }
    if (err < 0) {
        for (i = done; i-- > 0;) {
            tell_abort(round_.at[i]);
        }
    }
    txn_set_delivering(false);
    return err;
}

void round_remove(void)
{
    size_t i;

    if (!round_.n) {
        return;
    }
    txn_set_delivering(true);
    for (i = round_.n; i-- > 0;) {
        tell_removals(round_.at[i]);
    }
    txn_set_delivering(false);
}

void round_add(void)
{
    size_t i;

    if (!round_.n) {
        return;
    }
    txn_set_delivering(true);
    for (i = 0; i < round_.n; i++) {
        tell_additions(round_.at[i]);
    }
    txn_set_delivering(false);
}

void round_commit(void)
{
    size_t i;

    if (!round_.n) {
        return;
    }
    txn_set_delivering(true);
    for (i = 0; i < round_.n; i++) {
        tell_commit(round_.at[i]);
    }
    txn_set_delivering(false);
}

void round_end(void)
{
    MemoryListener *listener;

    round_.n = 0;
    while ((listener = round_.leaving)) {
        round_.leaving = listener->round_next;
        listener_leave(listener);
    }
}

/* ---- one listener ---- */

static void listener_link(MemoryListener *listener, Space *space)
{
    MemoryListener *after = space->listeners_last;

    listener->seq = ++last_seq;
    while (after && listener_order(after, listener) > 0) {
        after = after->prev;
    }
    listener->prev = after;
    listener->next = after ? after->next : space->listeners;
    *(listener->prev ? &listener->prev->next : &space->listeners) = listener;
    *(listener->next ? &listener->next->prev : &space->listeners_last) = listener;
    space_count_listener(space, plane_wanted(listener), 1);
    log_count_listener(listener, 1);
    listener->space = space;
    listener->state = LISTENER_REGISTERED;
    __atomic_store_n(&live_listeners, live_listeners + 1, __ATOMIC_RELAXED);
}

static void listener_unlink(MemoryListener *listener)
{
    Space *space = listener->space;

    *(listener->prev ? &listener->prev->next : &space->listeners) = listener->next;
    *(listener->next ? &listener->next->prev : &space->listeners_last) = listener->prev;
    space_count_listener(space, plane_wanted(listener), -1);
    log_count_listener(listener, -1);
    listener->next = listener->prev = NULL;
    listener->space = NULL;
    listener->state = LISTENER_NONE;
    __atomic_store_n(&live_listeners, live_listeners - 1, __ATOMIC_RELAXED);
}

uint64_t listener_live_count(void)
{
    return __atomic_load_n(&live_listeners, __ATOMIC_RELAXED);
}

int listener_join(MemoryListener *listener, Space *space)
{
    FlatView *view = cell_view(space->seen_cell);
    MemoryDelta delta = {.as = space->as, .new_view = view};
    int err;

    delta_reset();
    err = delta_add(&delta, NULL, view->root, ADDR_RANGE_ALL);
    if (err < 0) {
        return err;
    }
    delta_finish();
    plane_delta_reset();
    err = plane_delta_add(&delta, NULL, view->root, NULL, plane_wanted(listener));
    if (err < 0) {
        return err;
    }
    plane_delta_finish();
    listener->delta = &delta;
    txn_set_delivering(true);
    err = tell_prepare(listener);
    if (err >= 0) {
        err = log_global_on() && listener->log_global_start ? listener->log_global_start(listener) : 0;
        if (err < 0) {
            tell_abort(listener);
        }
    }
    if (err >= 0) {
        err = 0;
        listener_link(listener, space);
        tell_additions(listener);
        tell_commit(listener);
    }
    txn_set_delivering(false);
    listener->delta = NULL;
    round_end(); /* it may have left again from its own callback */
    return err;
}

/* Descending, without memory to fail: each range is a span of its own. */
static void tell_inverse(MemoryListener *listener, const ViewNode *node)
{
    unsigned i;

    for (i = node ? node->n : 0; i-- > 0;) {
        if (node->level) {
            tell_inverse(listener, view_inner_children(node)[i]);
        } else {
            const FlatRange *r = &view_leaf_ranges(node)[i];
            MemoryRegionSection section = flat_range_section(r);
            MemorySpan span = {.first = r->first, .last = r->last, .n_old = 1, .old_sections = &section};

            tell_span_del(listener, &span);
        }
    }
}

void listener_leave(MemoryListener *listener)
{
    Space *space = listener->space;

    listener->state = LISTENER_LEAVING;
    txn_set_delivering(true);
    if (listener->begin) {
        listener->begin(listener);
    }
    /* What it was told of: after a refused commit space->cell may still be one that nobody has seen. */
    plane_tell_inverse(listener, cell_view(space->seen_cell)->root);
    tell_inverse(listener, cell_view(space->seen_cell)->root);
    if (log_global_on() && listener->log_global_stop) {
        listener->log_global_stop(listener);
    }
    tell_commit(listener);
    listener_unlink(listener);
    txn_set_delivering(false);
    txn_defer_detached(listener);
}

void listener_leave_later(MemoryListener *listener)
{
    listener->state = LISTENER_LEAVING;
    listener->round_next = round_.leaving;
    round_.leaving = listener;
}
