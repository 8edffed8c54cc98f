/* SPDX-License-Identifier: MIT */
/*
 * lock.c - mutexes with ranks.
 *
 * Invariant (FLATVIEW_DEBUG_CHECKS): held[] lists what this thread holds, in the order taken, and the ranks in it
 * ascend. So no cycle of threads can wait for each other, whatever the schedule, and a wrong order shows at its first
 * execution rather than at its first deadlock.
 * Established by: lock_acquire(), lock_try(), lock_wait(). Relied on by: everything that takes two locks.
 *
 * lock_try() keeps the same order although it cannot wait: a thread that took a lower rank by luck would wait for a
 * higher one next, with the lower one held.
 */
#include "base/lock.h"

#include <assert.h>

#ifdef FLATVIEW_DEBUG_CHECKS

enum { HELD_MAX = 8 }; /* more than there are ranks */

static __thread const Lock *held[HELD_MAX];
static __thread int n_held;

static bool rank_ascends(const Lock *lock)
{
    return !n_held || held[n_held - 1]->rank < lock->rank;
}

static bool is_held(const Lock *lock)
{
    int i;

    for (i = 0; i < n_held; i++) {
        if (held[i] == lock) {
            return true;
        }
    }
    return false;
}

static void note_taken(const Lock *lock)
{
    assert(n_held < HELD_MAX);
    held[n_held++] = lock;
}

/* Locks may be given back in any order: that cannot make anyone wait. */
static void note_given_back(const Lock *lock)
{
    int i, j;

    for (i = 0; i < n_held && held[i] != lock; i++) {
    }
    assert(i < n_held && "lock is not held by this thread");
    for (j = i + 1; j < n_held; j++) {
        held[j - 1] = held[j];
    }
    n_held--;
}

static void check_order(const Lock *lock)
{
    assert(rank_ascends(lock) && "lock rank must ascend");
    (void)lock;
}

void lock_assert_held(const Lock *lock)
{
    assert(is_held(lock));
    (void)lock;
}

void lock_assert_not_held(const Lock *lock)
{
    assert(!is_held(lock));
    (void)lock;
}

void lock_assert_none_held(void)
{
    assert(!n_held && "a lock of the library is held");
}

void lock_acquire(Lock *lock)
{
    check_order(lock); /* before waiting: the report should not need the deadlock */
    pthread_mutex_lock(&lock->mutex);
    note_taken(lock);
}

bool lock_try(Lock *lock)
{
    check_order(lock);
    if (pthread_mutex_trylock(&lock->mutex)) {
        return false;
    }
    note_taken(lock);
    return true;
}

void lock_release(Lock *lock)
{
    note_given_back(lock);
    pthread_mutex_unlock(&lock->mutex);
}

void lock_wait(Lock *lock, pthread_cond_t *cond)
{
    note_given_back(lock);
    check_order(lock); /* it is taken again on wake-up, above whatever else is held */
    pthread_cond_wait(cond, &lock->mutex);
    note_taken(lock);
}

#endif
