/* SPDX-License-Identifier: MIT */
/*
 * storm_history.c - which views were current when.
 *
 * Invariant: clock == 2k: view k is current, and nothing newer has been visible to anybody. clock == 2k + 1: view k or
 * its successor. ring[] holds view k, pinned, from before clock first says 2k until history_trim() finds that no
 * thread can ask for it. An access that reads clock as s before it starts and as e after it ended can have been served
 * by the views
 *
 *     s / 2  ...  (e + 1) / 2        (rounding down)
 *
 * and by no other. No false alarm: (1) To serve it, view k + 1 must have been published before the access loaded it;
 * the store of 2k + 1, in prepare, is ordered before publication on the committing thread, publication is ordered
 * before the load (R3: a release and an acquire), so e >= 2k + 1. (2) s >= 2k + 2 means that this thread has seen what
 * the committing thread stored after publication; by coherence it cannot load view k any more. No miss that matters:
 * the bounds are loose only while one commit stands between its prepare and its first addition.
 *
 * A refused commit takes clock back from 2k + 1 to 2k. That keeps (1) and (2): nothing was published.
 *
 * A commit that changes nothing in the space may publish another view of equal contents without telling listeners. So
 * what is compared is contents, by flatview_diff(), never pointers.
 *
 * Established by: the callbacks here, under the topology lock. Its listener has the lowest priority of all: the last to
 * remove, the first to add, so that its two marks stand close to the publication.
 *
 * hold[] is a hazard: a thread that is about to look at history stores the number of the current view there, then
 * reads clock, while history_trim() reads clock and then all hold[], all of it sequentially consistent. Either the
 * trimmer sees the hold, or its look came first, and then the thread reads a clock no older than the trimmer's bound
 * and, from there on, asks for nothing older. (Fences would say the same; ThreadSanitizer does not understand them.)
 */
#include "storm.h"

#include <stdlib.h>
#include <string.h>

static StormSpace *space_of(MemoryListener *listener)
{
    return container_of(listener, StormSpace, history.listener);
}

static void tell_clock(StormSpace *space, uint64_t clock)
{
    __atomic_store_n(&space->history.clock, clock, __ATOMIC_SEQ_CST);
}

FlatView *history_view(const StormSpace *space, uint64_t k)
{
    return __atomic_load_n(&space->history.ring[k % HISTORY_RING], __ATOMIC_RELAXED);
}

static int first_difference(const MemoryRegionSection *a, const MemoryRegionSection *b, void *arg)
{
    *(MemoryRegionSection *)arg = a ? *a : *b;
    return 1;
}

static void demand_same(StormSpace *space, FlatView *expected, FlatView *found, const char *when)
{
    MemoryRegionSection section;
    char text[SECTION_TEXT];

    if (expected != found && flatview_diff(expected, found, first_difference, &section) != 0) {
        storm_violation("%s: %s, generation %llu is current, which is not what was published last, %llu: see %s",
                        space->name, when, (unsigned long long)flatview_generation(found),
                        (unsigned long long)flatview_generation(expected), section_text(&section, text));
    }
}

static void history_begin(MemoryListener *listener)
{
    StormSpace *space = space_of(listener);
    uint64_t clock = space->history.clock;

    if (clock != UINT64_MAX) {
        demand_same(space, history_view(space, clock / 2), address_space_current(space->as), "before a commit");
    }
}

static int history_prepare(MemoryListener *listener, const MemoryDelta *delta)
{
    StormSpace *space = space_of(listener);
    History *h = &space->history;

    if (delta->as != space->as) {
        storm_violation("%s: a delta of another space", space->name);
    }
    h->promised = delta->new_view;
    h->pending = true;
    if (delta->old_view) {
        tell_clock(space, h->clock + 1);
    }
    return 0;
}

static void history_abort(MemoryListener *listener, const MemoryDelta *delta)
{
    StormSpace *space = space_of(listener);

    (void)delta;
    space->history.pending = false;
    tell_clock(space, space->history.clock - 1);
}

static void record(StormSpace *space)
{
    History *h = &space->history;
    FlatView *view;
    uint64_t k;

    if (!h->pending) {
        return;
    }
    h->pending = false;
    view = address_space_get_flatview(space->as);
    if (view != h->promised) {
        storm_violation("%s: generation %llu was promised, %llu is current when additions begin", space->name,
                        (unsigned long long)flatview_generation(h->promised),
                        (unsigned long long)flatview_generation(view));
    }
    k = h->clock == UINT64_MAX ? 0 : h->clock / 2 + 1;
    if (k - __atomic_load_n(&h->oldest_seen, __ATOMIC_ACQUIRE) >= HISTORY_RING) {
        storm_violation("%s: the history is full: a thread has not moved for %u commits", space->name, HISTORY_RING);
        abort();
    }
    __atomic_store_n(&h->ring[k % HISTORY_RING], view, __ATOMIC_RELAXED);
    tell_clock(space, 2 * k);
}

static void history_span_add(MemoryListener *listener, const MemorySpan *span)
{
    (void)span;
    record(space_of(listener));
}

static void history_commit(MemoryListener *listener)
{
    record(space_of(listener)); /* a commit that only removes has no additions */
}

bool history_start(StormSpace *space)
{
    History *h = &space->history;

    pthread_mutex_init(&h->trim_lock, NULL);
    h->clock = UINT64_MAX;
    h->listener = (MemoryListener){
        .begin = history_begin,
        .prepare = history_prepare,
        .abort = history_abort,
        .span_add = history_span_add,
        .commit = history_commit,
        .priority = MEMORY_LISTENER_PRIORITY_MIN,
        .name = "history",
    };
    return memory_listener_register(&h->listener, space->as) == 0;
}

bool history_stop(StormSpace *space)
{
    History *h = &space->history;

    if (memory_listener_unregister(&h->listener) < 0) {
        return false;
    }
    for (; h->oldest <= h->clock / 2; h->oldest++) {
        flatview_unref(history_view(space, h->oldest));
    }
    return true;
}

/* ---- holding and trimming ---- */

void hold_history(StormThread *t)
{
    for (unsigned i = 0; i < storm.n_spaces; i++) {
        __atomic_store_n(&t->hold[i], history_now(storm.spaces[i]) / 2, __ATOMIC_SEQ_CST);
        (void)__atomic_load_n(&storm.spaces[i]->history.clock, __ATOMIC_SEQ_CST);
    }
}

void drop_history(StormThread *t)
{
    for (unsigned i = 0; i < storm.n_spaces; i++) {
        __atomic_store_n(&t->hold[i], UINT64_MAX, __ATOMIC_RELEASE);
    }
}

static void trim(unsigned i)
{
    StormSpace *space = storm.spaces[i];
    History *h = &space->history;
    uint64_t bound = __atomic_load_n(&h->clock, __ATOMIC_SEQ_CST) / 2;

    for (unsigned t = 0; t < storm.n_threads; t++) {
        uint64_t held = __atomic_load_n(&storm.threads[t]->hold[i], __ATOMIC_SEQ_CST);

        bound = held < bound ? held : bound;
    }
    for (; h->oldest < bound; h->oldest++) {
        flatview_unref(history_view(space, h->oldest));
    }
    __atomic_store_n(&h->oldest_seen, h->oldest, __ATOMIC_RELEASE);
}

void history_trim(void)
{
    for (unsigned i = 0; i < storm.n_spaces; i++) {
        if (pthread_mutex_trylock(&storm.spaces[i]->history.trim_lock) == 0) {
            trim(i);
            pthread_mutex_unlock(&storm.spaces[i]->history.trim_lock);
        }
    }
}

bool history_is_long(unsigned share)
{
    for (unsigned i = 0; i < storm.n_spaces; i++) {
        const StormSpace *space = storm.spaces[i];
        uint64_t waiting = history_now(space) / 2 - __atomic_load_n(&space->history.oldest_seen, __ATOMIC_RELAXED);

        if (waiting > HISTORY_RING / share && waiting < UINT64_MAX / 2) {
            return true;
        }
    }
    return false;
}
