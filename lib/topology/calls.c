/* SPDX-License-Identifier: MIT */
/*
 * calls.c - counting the calls of a region, and stopping them.
 *
 * Invariant: once CALLS_STOPPED has been set in a word, its number only falls until it is cleared again; so when it has come
 * to 0 there is no call. Entering is one compare-and-swap from a word that is not stopped; leaving is an atomic
 * subtraction, a release, and the one who waits for the number reads it with acquire: what the calls did is seen by who
 * stopped them.
 * Established by: calls_enter(), calls_leave(). Relied on by: memory_region_stop_calls().
 *
 * The stops lock is for who waits, on either side, and for the list of those who make readers wait; a call that nobody
 * stops never comes near it.
 */
#include "topology/calls.h"

#include <errno.h>

#include "base/live.h"
#include "base/mem.h"
#include "base/sabotage.h"

static Lock stops_lock = LOCK_INITIALIZER(LOCK_RANK_LEAF, "stops");
static pthread_cond_t stops_changed = PTHREAD_COND_INITIALIZER; /* a stopped region was resumed, or came to rest */
static RegionCalls *waited_for;                                 /* guarded by the stops lock */
static uint64_t n_waited_for;                                   /* the same, read anywhere */
static uint64_t last_thread;
static __thread uint64_t this_thread; /* 0: not asked for yet */

static uint64_t thread_number(void)
{
    if (!this_thread) {
        this_thread = __atomic_add_fetch(&last_thread, 1, __ATOMIC_RELAXED);
    }
    return this_thread;
}

RegionCalls *region_calls_make(MemoryRegion *mr)
{
    RegionCalls *calls = mr->calls;

    lock_assert_held(&topology_lock);
    if (!calls) {
        calls = mem_zalloc(sizeof(*calls));
        if (calls) {
            calls->guard = mr;
            __atomic_store_n(&mr->calls, (void *)calls, __ATOMIC_RELEASE);
        }
    }
    return calls;
}

/* Under the stops lock. */
static void forget_stop(RegionCalls *calls)
{
    if (calls->stop_pprev) {
        *calls->stop_pprev = calls->stop_next;
        if (calls->stop_next) {
            calls->stop_next->stop_pprev = calls->stop_pprev;
        }
        calls->stop_pprev = NULL;
        __atomic_store_n(&n_waited_for, n_waited_for - 1, __ATOMIC_RELAXED);
    }
}

void region_calls_free(RegionCalls *calls)
{
    if (calls) {
        if (calls_are_stopped(calls)) {
            live_sub(LIVE_STOPPED, 1);
        }
        if (calls->stop_pprev) { /* destroyed while stopped, and nobody was waiting: it would not be free yet */
            lock_acquire(&stops_lock);
            forget_stop(calls);
            lock_release(&stops_lock);
        }
        mem_free(calls, sizeof(*calls));
    }
}

static bool wait_for_resume(RegionCalls *calls)
{
    uint64_t word;

    lock_acquire(&stops_lock);
    for (;;) {
        word = __atomic_load_n(&calls->word, __ATOMIC_RELAXED);
        if ((word & (CALLS_STOPPED | CALLS_WAIT)) != (CALLS_STOPPED | CALLS_WAIT)) {
            break;
        }
        lock_wait(&stops_lock, &stops_changed);
    }
    lock_release(&stops_lock);
    return !(word & CALLS_STOPPED);
}

bool calls_enter(RegionCalls *calls, bool may_wait)
{
    uint64_t word = __atomic_load_n(&calls->word, __ATOMIC_RELAXED);

    for (;;) {
        if (__builtin_expect(word & CALLS_STOPPED, 0)) {
            if (!(word & CALLS_WAIT) || !may_wait || !wait_for_resume(calls)) {
                return false;
            }
            word = __atomic_load_n(&calls->word, __ATOMIC_RELAXED);
        } else if (__atomic_compare_exchange_n(&calls->word, &word, word + 1, true, __ATOMIC_ACQUIRE,
                                               __ATOMIC_RELAXED)) {
            return true; /* the acquire pairs with calls_resume(): what was done at rest is seen */
        }
    }
}

void calls_leave(RegionCalls *calls)
{
    uint64_t word = __atomic_sub_fetch(&calls->word, 1, __ATOMIC_RELEASE);

    if (__builtin_expect((word & CALLS_STOPPED) && !(word & CALLS_NUMBER), 0)) {
        lock_acquire(&stops_lock);
        pthread_cond_broadcast(&stops_changed);
        lock_release(&stops_lock);
    }
}

uint64_t calls_count_begin(RegionCalls *calls, bool settled)
{
    uint64_t counting;

    lock_acquire(&stops_lock);
    counting = ++calls->counting;
    calls->settled = settled;
    calls->leaving = false;
    lock_release(&stops_lock);
    return counting;
}

void calls_count_settle(RegionCalls *calls, uint64_t counting)
{
    lock_acquire(&stops_lock);
    calls->settled |= calls->counting == counting; /* otherwise it has begun anew meanwhile */
    lock_release(&stops_lock);
}

uint64_t calls_count_unsettled(const RegionCalls *calls)
{
    uint64_t counting;

    lock_acquire(&stops_lock);
    counting = calls->settled ? 0 : calls->counting;
    lock_release(&stops_lock);
    return counting;
}

int calls_count_end(RegionCalls *calls)
{
    int err = 0;

    lock_acquire(&stops_lock);
    if (calls_are_stopped(calls)) {
        err = -EBUSY;
    } else {
        calls->leaving = true;
    }
    lock_release(&stops_lock);
    return err;
}

void calls_count_put_back(RegionCalls *calls, bool counted)
{
    lock_acquire(&stops_lock);
    calls->leaving = !counted;
    lock_release(&stops_lock);
}

int calls_stop(RegionCalls *calls, bool callers_wait)
{
    lock_acquire(&stops_lock);
    if (calls_are_stopped(calls)) {
        lock_release(&stops_lock);
        return -EBUSY;
    }
    if (!calls->settled || calls->leaving) {
        lock_release(&stops_lock);
        return -EINVAL;
    }
    live_add(LIVE_STOPPED, 1);
    if (callers_wait) {
        calls->stopper = thread_number();
        calls->stop_next = waited_for;
        calls->stop_pprev = &waited_for;
        if (waited_for) {
            waited_for->stop_pprev = &calls->stop_next;
        }
        waited_for = calls;
        __atomic_store_n(&n_waited_for, n_waited_for + 1, __ATOMIC_RELAXED);
    }
    __atomic_fetch_or(&calls->word, callers_wait ? CALLS_STOPPED | CALLS_WAIT : CALLS_STOPPED, __ATOMIC_RELAXED);
    while (__atomic_load_n(&calls->word, __ATOMIC_ACQUIRE) & CALLS_NUMBER && !sabotaged(SABOTAGE_EARLY_STOP)) {
        lock_wait(&stops_lock, &stops_changed);
    }
    lock_release(&stops_lock);
    return 0;
}

int calls_resume(RegionCalls *calls)
{
    int err = 0;

    lock_acquire(&stops_lock);
    if (!calls_are_stopped(calls)) {
        err = -EINVAL;
    } else if (__atomic_load_n(&calls->word, __ATOMIC_RELAXED) & CALLS_NUMBER && !sabotaged(SABOTAGE_EARLY_STOP)) {
        err = -EBUSY; /* let the one who stops it see 0 once */
    } else {
        forget_stop(calls);
        live_sub(LIVE_STOPPED, 1);
        __atomic_fetch_and(&calls->word, CALLS_NUMBER, __ATOMIC_RELEASE);
        pthread_cond_broadcast(&stops_changed);
    }
    lock_release(&stops_lock);
    return err;
}

bool calls_are_stopped(const RegionCalls *calls)
{
    return __atomic_load_n(&calls->word, __ATOMIC_RELAXED) & CALLS_STOPPED;
}

bool calls_make_readers_wait(void)
{
    const RegionCalls *calls;
    bool found = false;

    if (!__atomic_load_n(&n_waited_for, __ATOMIC_RELAXED)) {
        return false; /* its own it would have seen */
    }
    lock_acquire(&stops_lock);
    for (calls = waited_for; calls && !found; calls = calls->stop_next) {
        found = calls->stopper == thread_number();
    }
    lock_release(&stops_lock);
    return found;
}
