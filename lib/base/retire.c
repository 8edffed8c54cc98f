/* SPDX-License-Identifier: MIT */
/*
 * retire.c - what commits replaced, oldest first, until nobody can see it.
 *
 * Invariant: retire.h states it. An object is at any time in exactly one of these places, and moves downwards only:
 *
 *   pending   pushed, its grace period not yet begun     under the caller's topology lock
 *   queue     flushed                                    under queue_lock, a few instructions
 *   ripe      flushed; the queue's older end             under settle_lock
 *   held      passed (a), kept by (b), on one pin        under settle_lock
 *   ready     passed (a) and (b), of no line             under settle_lock
 *   freed
 *
 * queue and ripe are one FIFO cut in two, so that a writer that flushes waits for an O(1) splice and never for a walk. In it
 * seq ascends. An object of a line goes from ripe or held straight to its free function, which is ours; one of no line
 * may run user code, so it is called from drain_ready() only, with no lock held and outside read sections.
 *
 * (a) settle(mark) may touch what has seq <= mark if a grace period began after that seq was flushed: both callers read
 * the mark first and let the grace period begin then. (b) is decided once, at settling. That suffices because pins of a
 * replaced version cannot begin once its grace period has ended: who pins either found the version in a read section,
 * which is over, or holds a pin already. And every version of the line older than the object's death was retired in the
 * object's flush or before, hence was settled before the object.
 *
 * Objects of no line need the pins of all lines. A version of another line that is still current then is no pin yet, and
 * need not be: the commit that withdrew the object did not replace it, so it does not reach it.
 *
 * fork(): the child has neither the worker nor a usable queue; see reader.c. exit(): what is queued then is never freed and
 * release functions do not run; memory_reclaim() beforehand is the way to have them run.
 */
#include "base/retire.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>

#include <flatview/memory_stats.h>

#include "base/lock.h"
#include "base/reader.h"
#include "base/sabotage.h"

/* In head->kind once it hangs on a pin: its bytes are in pinned_bytes. */
#define KIND_HELD (1u << 31)

/* Entries settled under one hold of the lock: retire_unpin() may wait that long. */
enum { SETTLE_BATCH = 256 };

typedef struct HeadFifo {
    RetireHead *first, **end;
} HeadFifo;

typedef struct Waiter {
    uint64_t seq;
    bool done;
    struct Waiter *next;
} Waiter;

typedef struct Running {
    uint64_t seq;
    struct Running *next;
} Running;

static Lock settle_lock = LOCK_INITIALIZER(LOCK_RANK_SETTLE, "retire settle");
static Lock queue_lock = LOCK_INITIALIZER(LOCK_RANK_RETIRE, "retire queue");
static pthread_cond_t done_cond = PTHREAD_COND_INITIALIZER; /* with settle_lock */

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

/* Under settle_lock. */
static HeadFifo ripe = {.end = &ripe.first};
static HeadFifo ready = {.end = &ready.first};
static uint64_t settled_seq; /* of the newest settled entry; also read without the lock */
static RetirePin *all_newest;
static Waiter *waiters;
static Running *running;

static __thread bool releasing;

/* Atomic, relaxed: each is a figure, none guards anything. */
static uint64_t retired_bytes, retired_peak, pinned_bytes, helped;
static uint64_t limit = MEMORY_RECLAIM_DEFAULT_LIMIT;
static int policy = MEMORY_RECLAIM_WAIT;

#define figure_get(f) __atomic_load_n(&(f), __ATOMIC_RELAXED)
#define figure_set(f, v) __atomic_store_n(&(f), (v), __ATOMIC_RELAXED)
#define figure_add(f, v) __atomic_add_fetch(&(f), (v), __ATOMIC_RELAXED)

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

static inline RetirePin *pin_of(RetireHead *head)
{
    return container_of(head, RetirePin, head);
}

static inline uint64_t pin_gen(const RetirePin *pin)
{
    return pin->head.birth;
}

/* ---- lines ---- */

void retire_line_init(RetireLine *line, void (*free_fn)(RetireLine *line))
{
    *line = (RetireLine){.refs = 1, .free = free_fn};
}

static void line_put(RetireLine *line, uint64_t refs)
{
    /* Release: what was done with the line happens before its end. Acquire: by whoever ends it. */
    if (__atomic_sub_fetch(&line->refs, refs, __ATOMIC_ACQ_REL) == 0) {
        line->free(line);
    }
}

void retire_line_unref(RetireLine *line)
{
    line_put(line, 1);
}

/* ---- freeing ---- */

/* Objects of lines: library code that takes leaf locks at most. No lock held here: free functions are not short. */
static void free_list(RetireHead *head)
{
    uint64_t retired = 0, pinned = 0, refs = 0;
    RetireLine *run = NULL, *line;
    RetireHead *next;

    for (; head; head = next) {
        next = head->next;
        line = head->line;
        *(head->kind & KIND_HELD ? &pinned : &retired) += head->bytes;
        if (line != run) {
            if (run) {
                line_put(run, refs);
            }
            run = line;
            refs = 0;
        }
        refs++;
        head->free(head);
    }
    if (run) {
        line_put(run, refs);
    }
    if (retired) {
        figure_add(retired_bytes, -retired);
    }
    if (pinned) {
        figure_add(pinned_bytes, -pinned);
    }
}

/* Objects of no line, one after the other. Two threads may do so at once. */
static void drain_ready(void)
{
    Running me, **link;
    RetireHead *head;
    uint64_t bytes;
    bool was_held;
    Waiter *w;

    if (releasing) {
        return; /* the loop around us goes on */
    }
    releasing = true;
    lock_acquire(&settle_lock);
    while ((head = fifo_pop(&ready))) {
        me = (Running){.seq = head->seq, .next = running};
        running = &me;
        lock_release(&settle_lock);

        bytes = head->bytes;
        was_held = head->kind & KIND_HELD;
        head->free(head);
        figure_add(*(was_held ? &pinned_bytes : &retired_bytes), -bytes);

        lock_acquire(&settle_lock);
        for (link = &running; *link != &me; link = &(*link)->next) {
        }
        *link = me.next;
        for (w = waiters; w; w = w->next) {
            if (w->seq == me.seq) {
                w->done = true;
                pthread_cond_broadcast(&done_cond);
            }
        }
    }
    lock_release(&settle_lock);
    releasing = false;
}

/* ---- pins; all under settle_lock ---- */

/* Hang head on the newest pin of a generation in its lifetime, from this one down.
   An object of no line may so end up on a version of another line that was still current when the object died and that
   cannot show it: kept longer than it must. To ask for pin->head.death <= head->death as well was tried and is wrong:
   one commit gives each line a generation of its own, and the region's death may be the smaller of two. */
static bool hold(RetireHead *head, RetirePin *pin)
{
    RetireHead **list;

    while (pin && pin_gen(pin) >= head->death) {
        pin = head->line ? pin->older : pin->all_older;
    }
    if (!pin || pin_gen(pin) < head->birth) {
        return false; /* older ones have smaller generations still */
    }
    list = head->line ? &pin->held : &pin->held_any;
    head->next = *list;
    *list = head;
    return true;
}

static void pin_link(RetirePin *pin)
{
    RetireLine *line = pin->head.line;
    RetirePin *below;

    assert(!line->newest || pin_gen(line->newest) < pin_gen(pin));
    pin->older = line->newest;
    pin->newer = NULL;
    *(pin->older ? &pin->older->newer : &line->oldest) = pin;
    line->newest = pin;

    /* Lines die at different times, so a later death does not mean a later birth: find the place. It is near the end. */
    pin->all_newer = NULL;
    for (below = all_newest; below && pin_gen(below) > pin_gen(pin); below = below->all_older) {
        pin->all_newer = below;
    }
    pin->all_older = below;
    if (below) {
        below->all_newer = pin;
    }
    *(pin->all_newer ? &pin->all_newer->all_older : &all_newest) = pin;
    pin->held = pin->held_any = NULL;
}

static void pin_unlink(RetirePin *pin)
{
    RetireLine *line = pin->head.line;

    *(pin->older ? &pin->older->newer : &line->oldest) = pin->newer;
    *(pin->newer ? &pin->newer->older : &line->newest) = pin->older;
    if (pin->all_older) {
        pin->all_older->all_newer = pin->all_newer;
    }
    *(pin->all_newer ? &pin->all_newer->all_older : &all_newest) = pin->all_older;
}

/* ---- settling ---- */

/* Past its grace period: hold it, hand it over, or put it in front of *dead. Returns the bytes now held. */
static uint64_t settle_one(RetireHead *head, RetireHead **dead)
{
    RetireLine *line = head->line;
    bool kept;

    if ((head->kind & ~KIND_HELD) == RETIRE_PIN) {
        /* Acquire: if the count was zero, what the last unpinner did with the version happens before its end. Release: the
           links below are ordered by settle_lock, which the unpinner that ends the pin takes. */
        kept = __atomic_fetch_or(&pin_of(head)->count, RETIRE_PIN_RETIRED, __ATOMIC_ACQ_REL) != 0;
        if (kept) {
            pin_link(pin_of(head));
        }
    } else if (line) {
        kept = hold(head, line->newest);
    } else {
        kept = hold(head, all_newest);
        if (!kept) {
            fifo_append(&ready, head);
            return 0;
        }
    }
    if (kept) {
        head->kind |= KIND_HELD;
        return head->bytes;
    }
    head->next = *dead;
    *dead = head;
    return 0;
}

/* Settle everything flushed up to mark. A grace period has begun after that flush and ended. */
static void settle(uint64_t mark)
{
    RetireHead *head, *dead;
    uint64_t held_bytes;
    bool more;
    int n;

    do {
        dead = NULL;
        held_bytes = 0;
        lock_acquire(&settle_lock);
        lock_acquire(&queue_lock);
        fifo_splice(&ripe, &queue);
        lock_release(&queue_lock);
        for (n = 0; n < SETTLE_BATCH && ripe.first && ripe.first->seq <= mark; n++) {
            head = fifo_pop(&ripe);
            figure_set(settled_seq, head->seq);
            held_bytes += settle_one(head, &dead);
        }
        more = ripe.first && ripe.first->seq <= mark;
        if (held_bytes) {
            figure_add(pinned_bytes, held_bytes);
            figure_add(retired_bytes, -held_bytes);
        }
        lock_release(&settle_lock);
        free_list(dead);
    } while (more);
}

/* ---- the worker ---- */

static void work(ReaderDeferred *self)
{
    uint64_t mark;
    bool again;

    lock_acquire(&queue_lock);
    kicked = false; /* what was handed over before is found by drain_ready() below */
    mark = armed_mark;
    lock_release(&queue_lock);

    settle(mark);
    drain_ready();

    /* Once more while anything is unsettled: the next grace period serves all that was flushed meanwhile. */
    lock_acquire(&queue_lock);
    again = kicked || queued_seq > figure_get(settled_seq);
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

/* Something was put on the ready list. */
static void kick(void)
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

    assert(head->kind == RETIRE_OBJECT || (head->kind == RETIRE_PIN && line));
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
    bytes = figure_add(retired_bytes, pending.bytes);
    pending.bytes = 0;
    if (bytes > figure_get(retired_peak)) {
        figure_set(retired_peak, bytes); /* only flushes raise it, one at a time */
    }

    lock_acquire(&queue_lock);
    for (head = pending.pins.first; head; head = head->next) {
        head->seq = ++queued_seq;
    }
    fifo_splice(&queue, &pending.pins);
    start = arm();
    lock_release(&queue_lock);

    if (sabotaged(SABOTAGE_SKIP_GRACE)) {
        settle(queued_seq);
    }
    if (start) {
        reader_defer(&deferred, work);
    }
}

bool retire_over_limit(void)
{
    return !releasing && figure_get(retired_bytes) > figure_get(limit);
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
    settle(mark);
    drain_ready();
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

/* ---- pins ---- */

void retire_pin(RetirePin *pin)
{
    /* Relaxed: if the caller found it in a read section, the grace period orders this before settle_one() looks; if it
       holds a pin, the count is not zero anyway. */
    __atomic_fetch_add(&pin->count, 1, __ATOMIC_RELAXED);
}

void retire_unpin(RetirePin *pin)
{
    RetireHead *dead = NULL, *head, *next;
    bool handed_over = false;
    uint64_t before;

    before = __atomic_fetch_sub(&pin->count, 1, __ATOMIC_ACQ_REL);
    assert(((before & ~RETIRE_PIN_RETIRED) || sabotaged(SABOTAGE_SKIP_GRACE)) && "unpinned more often than pinned");
    if (before != (RETIRE_PIN_RETIRED | 1)) {
        return; /* others hold it, or it is not settled: then settle_one() will see zero */
    }
    /* We alone saw the last pin of a settled version go, and no new one can come: the end is ours. settle_one() set the flag
       under settle_lock and linked the pin before it gave the lock back. */
    lock_acquire(&settle_lock);
    if (sabotaged(SABOTAGE_SKIP_GRACE) && !pin->all_newer && all_newest != pin) {
        lock_release(&settle_lock);
        return; /* pinned after it was freed, which only this sabotage allows */
    }
    for (head = pin->older ? pin->held : NULL; head; head = next) {
        next = head->next;
        if (!hold(head, pin->older)) {
            head->next = dead;
            dead = head;
        }
    }
    if (!pin->older) {
        dead = pin->held; /* as a whole: a large view that was the only one pinned ends without a walk */
    }
    for (head = pin->held_any; head; head = next) {
        next = head->next;
        if (!hold(head, pin->all_older)) {
            fifo_append(&ready, head);
            handed_over = true;
        }
    }
    pin_unlink(pin);
    lock_release(&settle_lock);

    pin->head.next = dead;
    free_list(&pin->head);
    if (handed_over) {
        kick();
    }
}

/* ---- tickets ---- */

static bool in_list(const RetireHead *head, uint64_t seq)
{
    while (head && head->seq != seq) {
        head = head->next;
    }
    return head;
}

/* Under settle_lock. */
static bool unfinished(uint64_t seq)
{
    const RetirePin *pin;
    const Running *r;

    if (seq > settled_seq || in_list(ready.first, seq)) {
        return true;
    }
    for (pin = all_newest; pin; pin = pin->all_older) {
        if (in_list(pin->held_any, seq)) {
            return true;
        }
    }
    for (r = running; r && r->seq != seq; r = r->next) {
    }
    return r;
}

bool retire_is_done(uint64_t seq_ticket)
{
    bool done;

    lock_acquire(&settle_lock);
    done = !unfinished(seq_ticket);
    lock_release(&settle_lock);
    return done;
}

void retire_wait_done(uint64_t seq_ticket)
{
    Waiter me = {.seq = seq_ticket}, **link;

    assert(!releasing && "it may wait for itself");
    lock_assert_none_held();
    lock_acquire(&settle_lock);
    if (!unfinished(seq_ticket)) {
        lock_release(&settle_lock);
        return;
    }
    /* From here on its end cannot be missed, whoever brings it about. */
    me.next = waiters;
    waiters = &me;
    lock_release(&settle_lock);

    retire_help();

    lock_acquire(&settle_lock);
    while (!me.done) {
        lock_wait(&settle_lock, &done_cond);
    }
    for (link = &waiters; *link != &me; link = &(*link)->next) {
    }
    *link = me.next;
    lock_release(&settle_lock);
}

bool retire_releasing(void)
{
    return releasing;
}

void retire_get_stats(RetireStats *ret_stats)
{
    ret_stats->retired_bytes = figure_get(retired_bytes);
    ret_stats->retired_peak = figure_get(retired_peak);
    ret_stats->pinned_bytes = figure_get(pinned_bytes);
    ret_stats->helped = figure_get(helped);
}
