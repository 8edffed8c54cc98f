/* SPDX-License-Identifier: MIT */
/*
 * lock.h - mutexes with ranks.
 *
 * Invariant (checked in builds with FLATVIEW_DEBUG_CHECKS): a thread takes locks in strictly ascending rank, and gives
 * back only what it holds. docs/LOCKING.md lists each lock; there is one entry here for each.
 */
#ifndef FLATVIEW_BASE_LOCK_H
#define FLATVIEW_BASE_LOCK_H

#include <pthread.h>

#include <flatview/types.h>

enum {
    LOCK_RANK_TOPOLOGY = 10, /* the region tree, transactions, listeners, publication */
    LOCK_RANK_IOMMU = 15,    /* topology/iommu.h: notifiers of one IOMMU region, and telling them */
    LOCK_RANK_POPULATION = 16, /* topology/population.h: who is told what of one region is populated, and telling them */
    LOCK_RANK_SETTLE = 20,   /* base/retire_settle.c: pins and what is kept for them */
    LOCK_RANK_RETIRE = 30,   /* base/retire.c: the queue; leaf, a few instructions */
    LOCK_RANK_COALESCED = 35, /* topology/coalesced_ring.h: what waits in one ring */
    LOCK_RANK_LEAF = 40,     /* any other that calls nothing but the allocator while held */
    LOCK_RANK_MEM = 50,      /* base/mem.c: the list of threads that allocate; with any other held */
};

typedef struct Lock {
    pthread_mutex_t mutex;
    int rank;
    const char *name;
} Lock;

#define LOCK_INITIALIZER(rank_, name_) {PTHREAD_MUTEX_INITIALIZER, (rank_), (name_)}

#ifdef FLATVIEW_DEBUG_CHECKS
void lock_acquire(Lock *lock);
bool lock_try(Lock *lock);
void lock_release(Lock *lock);
void lock_wait(Lock *lock, pthread_cond_t *cond); /* holding it: give it back, sleep, take it again */
void lock_assert_held(const Lock *lock);     /* by this thread */
void lock_assert_not_held(const Lock *lock); /* by this thread */
void lock_assert_none_held(void);            /* no lock of the library */
#else
static inline void lock_acquire(Lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
}

static inline bool lock_try(Lock *lock)
{
    return !pthread_mutex_trylock(&lock->mutex);
}

static inline void lock_release(Lock *lock)
{
    pthread_mutex_unlock(&lock->mutex);
}

static inline void lock_wait(Lock *lock, pthread_cond_t *cond)
{
    pthread_cond_wait(cond, &lock->mutex);
}

static inline void lock_assert_held(const Lock *lock)
{
    (void)lock;
}

static inline void lock_assert_not_held(const Lock *lock)
{
    (void)lock;
}

static inline void lock_assert_none_held(void)
{
}
#endif

#endif
