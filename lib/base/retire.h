/* SPDX-License-Identifier: MIT */
/*
 * retire.h - what commits replaced, oldest first, until nobody can see it.
 *
 * Invariant: an object of line L, born in generation b and replaced by generation d, is freed only after (a) a grace
 * period that began after d was published and (b) no pin of L has a generation in [b, d). An object of no line (a
 * region, an address space) waits for such pins of all lines instead. (A version that the flush with d did not replace
 * cannot show the object; if it is pinned it may delay it, but need not.)
 * Sharing is safe because a node is reachable from exactly the views b .. d-1 of its line, and each of those is covered
 * by (a) or (b).
 *
 * (c) An object that is counted (a region, by the mappings of its memory) waits besides for its count to be zero.
 *
 * A pin holds only what it can reach: an object kept by (b) hangs on the newest pin below d, and moves to the next
 * older one, or is freed, when that pin ends. So one pinned view costs at most its own size.
 *
 * Objects embed a RetireHead in a cache line that no reader looks at, so retiring never allocates and never writes to
 * what readers read (R2).
 *
 * Established by: retire_push() + retire_flush(), called by the commit after publication, in ascending death.
 * Relied on by:   read sections, flatview_ref(), memory_region_destroy(), address_space_destroy().
 */
#ifndef FLATVIEW_BASE_RETIRE_H
#define FLATVIEW_BASE_RETIRE_H

#include <flatview/types.h>

typedef struct FlatviewRetireHead RetireHead;
typedef struct FlatviewRetireCounted RetireCounted; /* .head, .count: atomic: holds, and RETIRE_PIN_RETIRED after (b) */

enum RetireKind {
    RETIRE_OBJECT,  /* (a) and (b) */
    RETIRE_PIN,     /* the head of a RetirePin: becomes a pin of its line if its count is not zero, else is freed */
    RETIRE_COUNTED, /* the head of a RetireCounted, of no line: (a), (b) and (c) */
};

/* The versions of one thing, for example the views of one ViewCell. Outlives its cell while pins or retired objects
   name it: counted by those. */
typedef struct RetireLine {
    struct RetirePin *oldest, *newest; /* settled pins, ascending generation; guarded by the settle lock */
    uint64_t refs;                     /* atomic: the owner's, and one for each object and pin that names it */
    void (*free)(struct RetireLine *line);
} RetireLine;

/* Embedded in what can be pinned. */
typedef struct RetirePin {
    RetireHead head;                         /* head.birth is its generation */
    uint64_t count;                          /* atomic: pins, and RETIRE_PIN_RETIRED once it was replaced */
    struct RetirePin *older, *newer;         /* in its line */
    struct RetirePin *all_older, *all_newer; /* in the list of all settled pins, ascending generation */
    RetireHead *held, *held_any;             /* objects of the line; objects of no line */
} RetirePin;

#define RETIRE_PIN_RETIRED (UINT64_C(1) << 63)

void retire_line_init(RetireLine *line, void (*free_fn)(RetireLine *line));
void retire_line_unref(RetireLine *line);

/* Pin: lock-free. The caller is in a read section in which it found the object, or holds a pin already. */
void retire_pin(RetirePin *pin);
/* Unpin: any context; the last one of a replaced version frees what only it reached. Objects of no line, whose free
   function may run user code, are handed to the worker: the caller may be in a read section, or in a listener under the
   topology lock. */
void retire_unpin(RetirePin *pin);

/* Hold, whether retired by now or not: lock-free. The caller found the object in this read section, or through a pin that
   reaches it, or holds it already. */
void retire_hold(RetireCounted *object);
/* Any context, as retire_unpin(): the last one of an object that waits for nothing else hands it to the worker. */
void retire_unhold(RetireCounted *object);

/* Queue an object: under the topology lock. head->{line,birth,death,bytes,kind,free} are set. Takes a reference on
   line. Between two flushes the order does not matter: pins are settled before objects. */
void retire_push(RetireHead *head);
/* After the publication that replaced everything pushed so far: let a grace period begin. Never waits. Under the
   topology lock; head->seq of what was pushed is set on return. All that one commit replaces goes into one flush. */
void retire_flush(void);

/* Over the limit? To be asked outside read sections before a change begins. Never in a release function: it may be what
   others wait for. */
bool retire_over_limit(void);
/* Wait for readers and free what that allows, release functions included (but not from within one). Outside sections
   and all locks. */
void retire_help(void);
int retire_set_limit(uint64_t bytes, int policy); /* MemoryReclaimPolicy */
int retire_policy(void);

/* Objects of no line only. Has the free function of the one with this head->seq (nonzero once flushed) returned? 0:
   there is none, so yes. retire_wait_done() helps, then waits: outside sections, all locks and release functions. */
bool retire_is_done(uint64_t seq_ticket);
void retire_wait_done(uint64_t seq_ticket);
/* Does this thread run the free function of an object of no line just now? */
bool retire_releasing(void);

typedef struct RetireStats {
    uint64_t retired_bytes, retired_peak, pinned_bytes, helped;
} RetireStats;
void retire_get_stats(RetireStats *ret_stats);

#endif
