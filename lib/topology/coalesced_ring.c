/* SPDX-License-Identifier: MIT */
/*
 * coalesced_ring.c - writes that wait, and the rings in which some do.
 *
 * Invariant: as in coalesced_ring.h. A producer holds the ring's lock for a few instructions, the taker of a ring holds no lock
 * while it delivers. The list's lock is taken inside a ring's, when that is taken off: so no write can come in between.
 * Established by: the functions here. Relied on by: access/coalesced.c, which delivers, and release.c, which kills.
 *
 * One ring for each region, and not one for each thread, because a thread's entries would have to be merged with those of
 * others by some clock to be delivered in an order that agrees with each; the price is that two vCPUs that write to one
 * device contend for its line, as they would in the device.
 */
#include "topology/coalesced_ring.h"

#include "base/live.h"
#include "base/mem.h"

static Lock list_lock = LOCK_INITIALIZER(LOCK_RANK_LEAF, "coalesced rings");
static CoalescedRing *first, *last;
static uint64_t last_ticket;
static bool armed; /* the worker has been told */

CoalescedRing *coalesced_ring_new(MemoryRegion *mr)
{
    CoalescedRing *ring = mem_zalloc(sizeof(*ring));

    if (ring) {
        ring->lock = (Lock)LOCK_INITIALIZER(LOCK_RANK_COALESCED, "coalesced ring");
        pthread_cond_init(&ring->given_back, NULL);
        ring->mr = mr;
    }
    return ring;
}

void coalesced_ring_free(CoalescedRing *ring)
{
    if (ring) {
        coalesced_ring_kill(ring);
        pthread_cond_destroy(&ring->given_back);
        pthread_mutex_destroy(&ring->lock.mutex);
        mem_free(ring, sizeof(*ring));
    }
}

bool coalesced_ring_put(CoalescedRing *ring, const CoalescedWrite *write, unsigned limit)
{
    bool room;

    lock_acquire(&ring->lock);
    room = ring->tail - __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE) < limit;
    if (room) {
        ring->writes[ring->tail % COALESCED_RING_ROOM] = *write;
        __atomic_store_n(&ring->tail, ring->tail + 1, __ATOMIC_RELEASE);
    }
    lock_release(&ring->lock);
    return room;
}

bool coalesced_ring_take(CoalescedRing *ring, bool may_wait, uint64_t *ret_until)
{
    bool took;

    lock_acquire(&ring->lock);
    while (ring->taken && may_wait) {
        lock_wait(&ring->lock, &ring->given_back);
    }
    took = !ring->taken && ring->head != ring->tail;
    if (took) {
        ring->taken = true;
        *ret_until = ring->tail;
    }
    lock_release(&ring->lock);
    return took;
}

/* The place is free as soon as the write has been copied: the callback may itself need one. */
bool coalesced_ring_next(CoalescedRing *ring, uint64_t until, CoalescedWrite *ret_write)
{
    uint64_t head = ring->head;

    if (head == until) {
        return false;
    }
    *ret_write = ring->writes[head % COALESCED_RING_ROOM];
    __atomic_store_n(&ring->head, head + 1, __ATOMIC_RELEASE);
    return true;
}

void coalesced_ring_delivered(CoalescedRing *ring)
{
    __atomic_store_n(&ring->done, ring->head, __ATOMIC_RELEASE);
}

void coalesced_ring_give_back(CoalescedRing *ring)
{
    lock_acquire(&ring->lock);
    ring->taken = false;
    pthread_cond_broadcast(&ring->given_back);
    lock_release(&ring->lock);
}

/* ---- the list ---- */

bool coalesced_ring_queue(CoalescedRing *ring)
{
    bool tell = false;

    if (__atomic_load_n(&ring->queued, __ATOMIC_ACQUIRE)) {
        return false; /* and stays so until what was put in before has been delivered: coalesced_ring_settle() */
    }
    lock_acquire(&list_lock);
    if (!ring->queued && !ring->dead) {
        live_add(LIVE_COALESCED_WAITING, 1);
        ring->ticket = ++last_ticket;
        ring->next = NULL;
        ring->prev = last;
        *(last ? &last->next : &first) = ring;
        last = ring;
        __atomic_store_n(&ring->queued, true, __ATOMIC_RELEASE);
        tell = !armed;
        armed = true;
    }
    lock_release(&list_lock);
    return tell;
}

static void take_off(CoalescedRing *ring)
{
    if (ring->queued) {
        live_sub(LIVE_COALESCED_WAITING, 1);
        *(ring->prev ? &ring->prev->next : &first) = ring->next;
        *(ring->next ? &ring->next->prev : &last) = ring->prev;
        __atomic_store_n(&ring->queued, false, __ATOMIC_RELEASE);
    }
}

uint64_t coalesced_ring_last_ticket(void)
{
    uint64_t ticket;

    lock_acquire(&list_lock);
    ticket = last_ticket;
    lock_release(&list_lock);
    return ticket;
}

/* Those that stay queued after a flush are few: they are being written to, or delivered, just now. */
CoalescedRing *coalesced_ring_next_queued(uint64_t ticket, uint64_t until, uint64_t *ret_ticket)
{
    CoalescedRing *ring;

    lock_acquire(&list_lock);
    for (ring = first; ring && ring->ticket <= ticket; ring = ring->next) {
    }
    if (ring) {
        *ret_ticket = ring->ticket;
        ring = ring->ticket <= until ? ring : NULL;
    }
    lock_release(&list_lock);
    return ring;
}

/* Who puts a write in later has taken the ring's lock later, and so finds it off the list. */
void coalesced_ring_settle(CoalescedRing *ring)
{
    lock_acquire(&ring->lock);
    if (!coalesced_ring_busy(ring)) {
        lock_acquire(&list_lock);
        take_off(ring);
        lock_release(&list_lock);
    }
    lock_release(&ring->lock);
}

bool coalesced_ring_disarm(void)
{
    bool none;

    lock_acquire(&list_lock);
    none = !first;
    armed = !none;
    lock_release(&list_lock);
    return none;
}

void coalesced_ring_kill(CoalescedRing *ring)
{
    lock_acquire(&list_lock);
    take_off(ring);
    ring->dead = true;
    lock_release(&list_lock);
}
