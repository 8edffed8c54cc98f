/* SPDX-License-Identifier: MIT */
/*
 * retire.c - what commits replaced, oldest first, on its way through its grace period.
 *
 * Invariant: part (a) of retire.h's. retire_settle(mark) is called only after a grace period that began after
 * everything up to mark was flushed: both callers read the mark first and let the grace period begin then. And nothing
 * flushed stays unsettled: while there is such an entry, the worker is armed.
 * Established by: retire_flush(), work(). Relied on by: retire_settle.c, which decides what becomes of it then.
 *
 * One grace period at a time serves all that was flushed before it began: expedited ones interrupt every running
 * reader.
 *
 * fork(): the child has neither the worker nor a usable queue; see reader.c. exit(): what is queued then is never freed
 * and release functions do not run; memory_reclaim() beforehand is the way to have them run.
 */
#include "base/retire.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>

#include <flatview/memory_stats.h>

#include "base/lock.h"
#include "base/reader.h"
#include "base/retire_inner.h"
#include "base/sabotage.h"

static Lock queue_lock = LOCK_INITIALIZER(LOCK_RANK_RETIRE, "retire queue");

/* Under the topology lock of the caller. */
static struct {
    HeadFifo pins, objects;
    uint64_t bytes;
    RetireLine *line;   /* of the last one pushed: references are taken for runs, one before the others are counted */
    uint64_t line_refs; /* to be taken for the run, beyond that one */
} pending = {.pins.end = &pending.pins.first, .objects.end = &pending.objects.first};

/* Under queue_lock. */
static HeadFifo queue = {.end = &queue.first};
static uint64_t queued_seq; /* of the newest flushed entry */
static bool armed;          /* a deferred callback is in flight or running */
static bool kicked;         /* it is to come again once more */
static uint64_t armed_mark;
static ReaderDeferred deferred;

RetireFigures retire_figures;
static uint64_t helped, limit = MEMORY_RECLAIM_DEFAULT_LIMIT; /* figures, too */
static int policy = MEMORY_RECLAIM_WAIT;

void retire_take_queue(HeadFifo *ripe)
{
    lock_acquire(&queue_lock);
    fifo_splice(ripe, &queue);
    lock_release(&queue_lock);
}

/* ---- lines ---- */

void retire_line_init(RetireLine *line, void (*free_fn)(RetireLine *line))
{
    *line = (RetireLine){.refs = 1, .free = free_fn};
}

void retire_line_put(RetireLine *line, uint64_t refs)
{
    /* Release: what was done with the line happens before its end. Acquire: by whoever ends it. */
    if (__atomic_sub_fetch(&line->refs, refs, __ATOMIC_ACQ_REL) == 0) {
        line->free(line);
    }
}

void retire_line_unref(RetireLine *line)
{
    retire_line_put(line, 1);
}

/* ---- the worker ---- */

static void work(ReaderDeferred *self)
{
    uint64_t mark;
    bool again;

    lock_acquire(&queue_lock);
    kicked = false; /* what was handed over before is found by retire_drain_ready() below */
    mark = armed_mark;
    lock_release(&queue_lock);

    retire_settle(mark);
    retire_drain_ready();

    /* Once more while anything is unsettled: the next grace period serves all that was flushed meanwhile. */
    lock_acquire(&queue_lock);
    again = kicked || queued_seq > retire_settled_seq();
    armed = again;
    armed_mark = queued_seq;
    lock_release(&queue_lock);
    if (again) {
        reader_defer(self, work);
    }
}

/* Under queue_lock: to be followed by reader_defer() after its release, if true. */
static bool arm(void)
{
    if (armed) {
        return false;
    }
    armed = true;
    armed_mark = queued_seq;
    return true;
}

void retire_kick(void)
{
    bool start;

    lock_acquire(&queue_lock);
    start = arm();
    if (!start) {
        kicked = true;
    }
    lock_release(&queue_lock);
    if (start) {
        reader_defer(&deferred, work);
    }
}

/* ---- writers ---- */

/* Take what the run of pushes still owes to its line. The run's first reference kept the line alive until now. */
static void pending_end_run(void)
{
    if (pending.line_refs) {
        __atomic_fetch_add(&pending.line->refs, pending.line_refs, __ATOMIC_RELAXED);
    }
    pending.line = NULL;
    pending.line_refs = 0;
}

void retire_push(RetireHead *head)
{
    RetireLine *line = head->line;

    assert(head->kind == RETIRE_OBJECT || (head->kind == RETIRE_PIN) == (line != NULL));
    if (line && line == pending.line) {
        pending.line_refs++;
    } else if (line) {
        pending_end_run();
        pending.line = line;
        __atomic_fetch_add(&line->refs, 1, __ATOMIC_RELAXED);
    }
    pending.bytes += head->bytes;
    fifo_append(head->kind == RETIRE_PIN ? &pending.pins : &pending.objects, head);
}

void retire_flush(void)
{
    RetireHead *head;
    uint64_t bytes;
    bool start;

    /* Pins first: an object that dies together with the version that shows it must find that version's pin. */
    fifo_splice(&pending.pins, &pending.objects);
    if (!pending.pins.first) {
        return;
    }
    pending_end_run();
    /* Counted before anyone can free and subtract it. */
    bytes = figure_add(retire_figures.retired, pending.bytes);
    pending.bytes = 0;
    if (bytes > figure_get(retire_figures.retired_peak)) {
        figure_set(retire_figures.retired_peak, bytes); /* only flushes raise it, one at a time */
    }

    lock_acquire(&queue_lock);
    for (head = pending.pins.first; head; head = head->next) {
        head->seq = ++queued_seq;
    }
    fifo_splice(&queue, &pending.pins);
    start = arm();
    lock_release(&queue_lock);

    if (sabotaged(SABOTAGE_SKIP_GRACE)) {
        retire_settle(queued_seq);
    }
    if (start) {
        reader_defer(&deferred, work);
    }
}

bool retire_over_limit(void)
{
    return !retire_releasing() && figure_get(retire_figures.retired) > figure_get(limit);
}

void retire_help(void)
{
    uint64_t mark;

    lock_assert_none_held();
    if (retire_over_limit()) {
        figure_add(helped, 1);
    }
    lock_acquire(&queue_lock);
    mark = queued_seq;
    lock_release(&queue_lock);
    reader_wait();
    retire_settle(mark);
    retire_drain_ready();
}

int retire_set_limit(uint64_t bytes, int new_policy)
{
    if (new_policy != MEMORY_RECLAIM_WAIT && new_policy != MEMORY_RECLAIM_EAGAIN) {
        return -EINVAL;
    }
    figure_set(limit, bytes);
    figure_set(policy, new_policy);
    return 0;
}

int retire_policy(void)
{
    return figure_get(policy);
}

void retire_get_stats(RetireStats *ret_stats)
{
    ret_stats->retired_bytes = figure_get(retire_figures.retired);
    ret_stats->retired_peak = figure_get(retire_figures.retired_peak);
    ret_stats->pinned_bytes = figure_get(retire_figures.pinned);
    ret_stats->helped = figure_get(helped);
}
