/* SPDX-License-Identifier: MIT */
/*
 * retire_inner.h - what the two halves of the retire queue know of each other; for retire.c and retire_settle.c only.
 *
 * An object is at any time in exactly one of these places, and moves downwards only:
 *
 *   pending   pushed, its grace period not yet begun     retire.c, under the caller's topology lock
 *   queue     flushed                                    retire.c, under queue_lock, a few instructions
 *   ripe      flushed; the queue's older end             retire_settle.c, under settle_lock, as all below
 *   held      passed (a), kept by (b), on one pin
 *   counted   passed (a) and (b), kept by (c)
 *   ready     passed all that it waits for, of no line
 *   freed
 *
 * queue and ripe are one FIFO cut in two, so that a writer that flushes waits for an O(1) splice and never for a walk.
 * In it seq ascends.
 */
#ifndef FLATVIEW_BASE_RETIRE_INNER_H
#define FLATVIEW_BASE_RETIRE_INNER_H

#include "base/retire.h"

typedef struct HeadFifo {
    RetireHead *first, **end;
} HeadFifo;

static inline void fifo_append(HeadFifo *fifo, RetireHead *head)
{
    head->next = NULL;
    *fifo->end = head;
    fifo->end = &head->next;
}

static inline RetireHead *fifo_pop(HeadFifo *fifo)
{
    RetireHead *head = fifo->first;

    if (head) {
        fifo->first = head->next;
        if (!fifo->first) {
            fifo->end = &fifo->first;
        }
    }
    return head;
}

/* All of from behind all of to. */
static inline void fifo_splice(HeadFifo *to, HeadFifo *from)
{
    if (from->first) {
        *to->end = from->first;
        to->end = from->end;
        *from = (HeadFifo){.end = &from->first};
    }
}

/* Atomic, relaxed: each is a figure, none guards anything. In bytes. */
typedef struct RetireFigures {
    uint64_t retired, retired_peak, pinned;
} RetireFigures;
extern RetireFigures retire_figures;

#define figure_get(f) __atomic_load_n(&(f), __ATOMIC_RELAXED)
#define figure_set(f, v) __atomic_store_n(&(f), (v), __ATOMIC_RELAXED)
#define figure_add(f, v) __atomic_add_fetch(&(f), (v), __ATOMIC_RELAXED)

/* ---- retire.c, for retire_settle.c ---- */

/* Move the whole queue behind ripe. */
void retire_take_queue(HeadFifo *ripe);
/* Give back so many references. */
void retire_line_put(RetireLine *line, uint64_t refs);
/* Something was put on the ready list: let the worker come. Any context. */
void retire_kick(void);

/* ---- retire_settle.c, for retire.c ---- */

/* Settle everything flushed up to mark. A grace period has begun after that flush and ended. */
void retire_settle(uint64_t mark);
/* Run the free functions of objects of no line that are ready. No lock held, outside sections. */
void retire_drain_ready(void);
/* The newest settled entry's seq; a moment old. */
uint64_t retire_settled_seq(void);

#endif
