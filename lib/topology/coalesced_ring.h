/* SPDX-License-Identifier: MIT */
/*
 * coalesced_ring.h - the writes to one region that wait.
 *
 * Invariant: entries [head, tail) wait, those in [done, head) are being delivered, one at a time, by the one thread that has
 * taken the ring (taken is true); done <= head <= tail <= head + COALESCED_RING_ROOM. tail grows under the lock; head and done
 * are the taker's. So whoever finds done == tail, having loaded done first, knows that all it could have seen being written
 * has been delivered.
 * The half beyond MEMORY_COALESCED_RING is for what accelerators hand in when they must (coalesced_queue()).
 * A ring in which anything waits or is being delivered is queued, on the list of such rings in the order of their tickets,
 * but between a write's coming into it and the return of coalesced_ring_queue() by who put it there, and if its region is
 * dying. It is taken off under its own lock, when all is delivered: so whoever must see all that was written finds also those
 * rings that another thread is about to deliver.
 */
#ifndef FLATVIEW_TOPOLOGY_COALESCED_RING_H
#define FLATVIEW_TOPOLOGY_COALESCED_RING_H

#include <flatview/memory_coalesced.h>
#include <flatview/memory_region.h>

#include "base/lock.h"

#define COALESCED_RING_ROOM (2 * MEMORY_COALESCED_RING)

typedef struct CoalescedWrite {
    hwaddr offset;
    uint64_t value;
    uint64_t bias;  /* of the range in the view in which it was found */
    uint32_t flags; /* likewise */
    uint32_t size;
    MemTxAttrs attrs;
} CoalescedWrite;

typedef struct CoalescedRing {
    Lock lock;
    pthread_cond_t given_back;
    MemoryRegion *mr;
    bool taken;
    uint64_t head, tail, done; /* atomic */

    /* guarded by the list's lock */
    struct CoalescedRing *next, *prev;
    uint64_t ticket; /* of its place in the list: ascending */
    bool dead;
    bool queued; /* atomic */

    CoalescedWrite writes[COALESCED_RING_ROOM];
} CoalescedRing;

CoalescedRing *coalesced_ring_new(MemoryRegion *mr); /* NULL: -ENOMEM */
void coalesced_ring_free(CoalescedRing *ring);       /* nobody can reach it; NULL is a no-op */

/* Append. False: there are as many as limit, or more. */
bool coalesced_ring_put(CoalescedRing *ring, const CoalescedWrite *write, unsigned limit);

static inline uint64_t coalesced_ring_waiting(const CoalescedRing *ring)
{
    uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);

    return __atomic_load_n(&ring->tail, __ATOMIC_RELAXED) - head;
}

/* Does anything wait, or is being delivered, that this thread could have seen being written? */
static inline bool coalesced_ring_busy(const CoalescedRing *ring)
{
    uint64_t done = __atomic_load_n(&ring->done, __ATOMIC_ACQUIRE);

    return done != __atomic_load_n(&ring->tail, __ATOMIC_RELAXED);
}

/* Become the one who delivers. False: nothing waits, or another one delivers and is not to be waited for. *ret_until is how
   far. Then next until it is false, each followed by delivered; then give back. */
bool coalesced_ring_take(CoalescedRing *ring, bool may_wait, uint64_t *ret_until);
bool coalesced_ring_next(CoalescedRing *ring, uint64_t until, CoalescedWrite *ret_write);
void coalesced_ring_delivered(CoalescedRing *ring);
void coalesced_ring_give_back(CoalescedRing *ring);

/* The list. Queue a ring, if it is not; true: nothing was queued and the worker has to be told. */
bool coalesced_ring_queue(CoalescedRing *ring);
/* One that was queued after @ticket (0: before all) and not after @until, the first of them; in a read section, so that its
   region lives until the section ends. It stays queued. NULL: none. */
CoalescedRing *coalesced_ring_next_queued(uint64_t ticket, uint64_t until, uint64_t *ret_ticket);
uint64_t coalesced_ring_last_ticket(void);
/* Take it off, if all of it has been delivered. */
void coalesced_ring_settle(CoalescedRing *ring);
/* What is queued has been seen to: the next one to be queued tells the worker again. False: some are queued still. */
bool coalesced_ring_disarm(void);
/* Its region dies: no longer on the list, never again. Before the grace period of the region begins. */
void coalesced_ring_kill(CoalescedRing *ring);

#endif
