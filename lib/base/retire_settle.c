/* SPDX-License-Identifier: MIT */
/*
 * retire_settle.c - objects past their grace period: free, or kept for a pin.
 *
 * Invariant: part (b) of retire.h's. A settled object is held by the newest pin of its line (of all lines, if it has
 * none) whose generation lies in its lifetime, or there is no such pin and it is free. A pin is linked exactly while
 * its version is settled and its count is not zero. Both under settle_lock.
 * Established by: retire_settle(), for entries whose grace period is over, in the order of the queue.
 * Relied on by:   flatview_ref(); memory_region_quiesce(), through the tickets.
 *
 * Deciding (b) once, at settling, suffices because pins of a replaced version cannot begin once its grace period has
 * ended: who pins either found the version in a read section, which is over, or holds a pin already. And every version
 * of the line older than the object's death was retired in the object's flush or before, hence was settled before the
 * object.
 *
 * (c) is asked last, when (a) and (b) are past, for then no new hold can begin: who found the object is out of its
 * section and its pin, so only who holds it may hold it once more. The one who takes the count to zero after that was
 * noted in it (RETIRE_PIN_RETIRED) is alone in seeing so, and hands the object on.
 *
 * Objects of no line need the pins of all lines. A version of another line that is still current then is no pin yet,
 * and need not be: the commit that withdrew the object did not replace it, so it does not reach it.
 *
 * An object of a line goes from here straight to its free function, which is ours. One of no line may run user code, so
 * it is called from retire_drain_ready() only, with no lock held and outside read sections.
 */
#include "base/retire.h"

#include <assert.h>
#include <pthread.h>
#include <stddef.h>

#include "base/lock.h"
#include "base/retire_inner.h"
#include "base/sabotage.h"

/* In head->kind once it hangs on a pin: its bytes are in figures.pinned. */
#define KIND_HELD (1u << 31)

/* Entries settled under one hold of the lock: retire_unpin() may wait that long. */
enum { SETTLE_BATCH = 256 };

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
static pthread_cond_t done_cond = PTHREAD_COND_INITIALIZER; /* with settle_lock */

/* Under settle_lock. */
static HeadFifo ripe = {.end = &ripe.first};
static HeadFifo ready = {.end = &ready.first};
static RetireHead *counted; /* few: destroyed, and still mapped */
static uint64_t settled_seq; /* of the newest settled entry; also read without the lock */
static RetirePin *all_newest;
static Waiter *waiters;
static Running *running;

static __thread bool releasing;

static inline RetirePin *pin_of(RetireHead *head)
{
    return container_of(head, RetirePin, head);
}

static inline uint64_t pin_gen(const RetirePin *pin)
{
    return pin->head.birth;
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
                retire_line_put(run, refs);
            }
            run = line;
            refs = 0;
        }
        refs++;
        head->free(head);
    }
    if (run) {
        retire_line_put(run, refs);
    }
    if (retired) {
        figure_add(retire_figures.retired, -retired);
    }
    if (pinned) {
        figure_add(retire_figures.pinned, -pinned);
    }
}

/* Objects of no line, one after the other. Two threads may do so at once. */
void retire_drain_ready(void)
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
        figure_add(*(was_held ? &retire_figures.pinned : &retire_figures.retired), -bytes);

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

    if (head->birth >= head->death) {
        return false; /* no view ever showed it */
    }
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

    /* Lines die at different times, so a later death does not mean a later birth: find the place. It is near the
       end. */
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

/* Past (a) and (b), of no line: is it ready, or kept by its count? Under settle_lock. */
static bool make_ready(RetireHead *head)
{
    RetireCounted *object = container_of(head, RetireCounted, head);

    /* Acquire: what was done with it before the last hold ended happens before its end. Release: as in settle_one(). */
    if ((head->kind & ~KIND_HELD) == RETIRE_COUNTED &&
        __atomic_fetch_or(&object->count, RETIRE_PIN_RETIRED, __ATOMIC_ACQ_REL) != 0) {
        head->next = counted;
        counted = head;
        return false;
    }
    fifo_append(&ready, head);
    return true;
}

/* ---- settling ---- */

/* Past its grace period: hold it, hand it over, or put it in front of *dead. Returns the bytes now held. */
static uint64_t settle_one(RetireHead *head, RetireHead **dead)
{
    RetireLine *line = head->line;
    bool kept;

    if ((head->kind & ~KIND_HELD) == RETIRE_PIN) {
        /* Acquire: if the count was zero, what the last unpinner did with the version happens before its end. Release:
           the links below are ordered by settle_lock, which the unpinner that ends the pin takes. */
        kept = __atomic_fetch_or(&pin_of(head)->count, RETIRE_PIN_RETIRED, __ATOMIC_ACQ_REL) != 0;
        if (kept) {
            pin_link(pin_of(head));
        }
    } else if (line) {
        kept = hold(head, line->newest);
    } else {
        kept = hold(head, all_newest);
        if (!kept && make_ready(head)) {
            return 0;
        }
        kept = true;
    }
    if (kept) {
        head->kind |= KIND_HELD;
        return head->bytes;
    }
    head->next = *dead;
    *dead = head;
    return 0;
}

void retire_settle(uint64_t mark)
{
    RetireHead *head, *dead;
    uint64_t held_bytes;
    bool more;
    int n;

    do {
        dead = NULL;
        held_bytes = 0;
        lock_acquire(&settle_lock);
        retire_take_queue(&ripe);
        for (n = 0; n < SETTLE_BATCH && ripe.first && ripe.first->seq <= mark; n++) {
            head = fifo_pop(&ripe);
            figure_set(settled_seq, head->seq);
            held_bytes += settle_one(head, &dead);
        }
        more = ripe.first && ripe.first->seq <= mark;
        if (held_bytes) {
            figure_add(retire_figures.pinned, held_bytes);
            figure_add(retire_figures.retired, -held_bytes);
        }
        lock_release(&settle_lock);
        free_list(dead);
    } while (more);
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
    /* We alone saw the last pin of a settled version go, and no new one can come: the end is ours. settle_one() set the
       flag under settle_lock and linked the pin before it gave the lock back. */
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
            handed_over |= make_ready(head);
        }
    }
    pin_unlink(pin);
    lock_release(&settle_lock);

    pin->head.next = dead;
    free_list(&pin->head);
    if (handed_over) {
        retire_kick();
    }
}

/* ---- counts ---- */

void retire_hold(RetireCounted *object)
{
    /* Relaxed, as in retire_pin(). */
    __atomic_fetch_add(&object->count, 1, __ATOMIC_RELAXED);
}

void retire_unhold(RetireCounted *object)
{
    RetireHead **link;
    uint64_t before = __atomic_fetch_sub(&object->count, 1, __ATOMIC_ACQ_REL);

    assert((before & ~RETIRE_PIN_RETIRED) && "given back more often than held");
    if (before != (RETIRE_PIN_RETIRED | 1)) {
        return;
    }
    lock_acquire(&settle_lock);
    for (link = &counted; *link != &object->head; link = &(*link)->next) {
    }
    *link = object->head.next;
    fifo_append(&ready, &object->head);
    lock_release(&settle_lock);
    retire_kick();
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

    if (seq > settled_seq || in_list(ready.first, seq) || in_list(counted, seq)) {
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

uint64_t retire_settled_seq(void)
{
    return figure_get(settled_seq);
}
