/* SPDX-License-Identifier: MIT */
/*
 * calls.h - what a region says about calls of its callbacks: re-entrancy, a lock, a count of those in flight.
 *
 * Made when the region first says something, freed with it. Policy, guard and lock are written under the topology lock with
 * region_poke() and read by calls with region_peek(): a call is under the old or the new.
 */
#ifndef FLATVIEW_TOPOLOGY_CALLS_H
#define FLATVIEW_TOPOLOGY_CALLS_H

#include <flatview/memory_reentrancy.h>
#include <flatview/memory_serial.h>

#include "topology/region.h"

typedef struct RegionCalls {
    const void *guard;     /* never NULL: the region, if it named none */
    MemoryLock *lock;
    uint64_t policy;       /* MemoryReentrancy */
    /* guarded by the stops lock */
    uint64_t counting;     /* how often counting has begun where calls might have been in flight uncounted */
    bool settled;          /* those are over */
    bool leaving;          /* counting has ended, or will with the open transaction */
    uint64_t stopper;      /* who stopped it */
    struct RegionCalls *stop_next, **stop_pprev; /* of those stopped with MEMORY_STOP_WAIT */

    /* Atomic: how many are in flight, and CALLS_*. On a line of its own, for it is written by all who call. */
    uint64_t word __attribute__((aligned(64)));
} RegionCalls;

#define CALLS_STOPPED (UINT64_C(1) << 63)
#define CALLS_WAIT (UINT64_C(1) << 62) /* with CALLS_STOPPED: new calls wait */
#define CALLS_NUMBER (CALLS_WAIT - 1)

/* What the region has said; NULL: nothing. Any thread that may see the region. */
static inline RegionCalls *region_calls(const MemoryRegion *mr)
{
    return (RegionCalls *)__atomic_load_n(&mr->calls, __ATOMIC_ACQUIRE);
}

/* The same, made if there is none. -ENOMEM: NULL. Under the topology lock. */
RegionCalls *region_calls_make(MemoryRegion *mr);
void region_calls_free(RegionCalls *calls); /* nobody can call any more; NULL is a no-op */

/* May a call begin? false: it is stopped, and not to be waited for (CALLS_WAIT is not set, or may_wait is false). */
bool calls_enter(RegionCalls *calls, bool may_wait);
void calls_leave(RegionCalls *calls);

/*
 * Counting, for who changes REGION_HOOK_COUNT. A region can be stopped while it is counted, settled and not leaving; so what a
 * stop finds at 0 is all that there is, and what has been stopped stays counted until it is resumed.
 */
uint64_t calls_count_begin(RegionCalls *calls, bool settled); /* a number for calls_count_settle() */
void calls_count_settle(RegionCalls *calls, uint64_t counting); /* a grace period after it came into force */
uint64_t calls_count_unsettled(const RegionCalls *calls);     /* that number, as long as it has not settled, or 0 */
int calls_count_end(RegionCalls *calls);                      /* -EBUSY if it is stopped */
void calls_count_put_back(RegionCalls *calls, bool counted);  /* that end, or that begin, is undone */

/* 0 when none is in flight; -EBUSY if it is stopped, -EINVAL if it cannot be. */
int calls_stop(RegionCalls *calls, bool callers_wait);
int calls_resume(RegionCalls *calls); /* -EINVAL if it is not stopped, -EBUSY while calls_stop() waits */
bool calls_are_stopped(const RegionCalls *calls);

/* Has this thread stopped a region so that readers wait for it? Then it must not wait for readers. */
bool calls_make_readers_wait(void);

#endif
