/* SPDX-License-Identifier: MIT */
/*
 * coalesced.c - writes that go to a ring, and flushes.
 *
 * Invariant: a ring is delivered by one thread at a time, in order (coalesced_ring.h). A thread waits for another's flush only if
 * nothing that the other's callbacks may want is its own: no ring that it delivers itself, no lock of a region, not the topology
 * lock. So among flushes there is no circle; what a thread does without is a flush that another one is about to finish.
 * Established by: may_wait(). Relied on by: vCPUs, which flush in the middle of whatever they do.
 *
 * Context: in a read section, which keeps the region, its ring and its ops.
 */
#include "access/bus.h"

#include <errno.h>

#include "access/dispatch.h"
#include "base/reader.h"
#include "base/sabotage.h"
#include "base/soon.h"
#include "publish/transaction.h"
#include "topology/coalesced_ring.h"
#include "topology/plane_set.h"

#define COLLECT_TRIES 8

/* Rings that this thread delivers just now, innermost first. */
typedef struct Delivery {
    const CoalescedRing *ring;
    struct Delivery *up;
} Delivery;

static __thread Delivery *deliveries;

static CoalescedRing *ring_of(const MemoryRegion *mr)
{
    RegionPlanes *planes = reader_load(&mr->planes);

    return planes ? reader_load(&planes->ring) : NULL;
}

static bool is_delivering(const CoalescedRing *ring)
{
    const Delivery *at;

    for (at = deliveries; at && at->ring != ring; at = at->up) {
    }
    return at;
}

static bool may_wait(void)
{
    const CallFrame *frame;

    for (frame = call_chain; frame && !frame->locked; frame = frame->up) {
    }
    return !deliveries && !frame && !txn_holds_lock();
}

static void deliver(CoalescedRing *ring, const CoalescedWrite *write)
{
    const FlatRange range = {
        .first = write->offset,
        .last = write->offset + (write->size - 1),
        .mr = ring->mr,
        .offset = write->offset,
        .bias = write->bias,
        .ops = ring->mr->ops,
        .flags = write->flags,
    };

    (void)call_write_queued(&range, write->offset, write->size, write->attrs, write->value); /* nobody asks any more */
}

static void drain(CoalescedRing *ring, bool wait)
{
    Delivery delivery = {ring, deliveries};
    CoalescedWrite write;
    uint64_t until;

    if (is_delivering(ring) || !coalesced_ring_take(ring, wait, &until)) {
        return;
    }
    deliveries = &delivery;
    while (coalesced_ring_next(ring, until, &write)) {
        deliver(ring, &write);
        coalesced_ring_delivered(ring);
    }
    deliveries = delivery.up;
    coalesced_ring_give_back(ring);
}

/* Each ring that is queued now, once. It stays queued while it is drained, for others who must see what waits in it. */
static void flush_queued(bool wait)
{
    uint64_t until = coalesced_ring_last_ticket(), ticket = 0;
    CoalescedRing *ring;

    while ((ring = coalesced_ring_next_queued(ticket, until, &ticket))) {
        drain(ring, wait);
        coalesced_ring_settle(ring);
    }
}

/* What accelerators have not handed in yet comes first. A ring without room stands in the way of all that is behind: it is
   the accelerator's one ring. So all are delivered, and it is asked again; not for ever, if this thread cannot wait. */
static void collect(void)
{
    unsigned tries = COLLECT_TRIES;

    while (coalesced_collect() && tries-- > 0) {
        flush_queued(may_wait());
    }
}

void coalesced_flush(const MemoryRegion *mr)
{
    CoalescedRing *ring = ring_of(mr);

    if (ring) {
        collect();
        if (coalesced_ring_busy(ring)) {
            drain(ring, may_wait());
        }
    }
}

void coalesced_flush_all(void)
{
    collect();
    flush_queued(may_wait());
}

/* ---- in time ---- */

static void wake_worker(void);

/* One of them is under way as long as the list is armed. */
static SoonWork soon;
static ReaderDeferred later;

static void flush_in_time(void)
{
    reader_enter();
    flush_queued(false); /* it has other things to do than to wait */
    reader_exit();
    if (!coalesced_ring_disarm()) {
        wake_worker();
    }
}

static void run_soon(SoonWork *work)
{
    (void)work;
    flush_in_time();
}

static void run_later(ReaderDeferred *deferred)
{
    (void)deferred;
    flush_in_time();
}

static void wake_worker(void)
{
    if (!soon_run(&soon, run_soon)) {
        reader_defer(&later, run_later);
    }
}

/* ---- writes ---- */

static bool is_coalesced(const MemoryRegion *mr, hwaddr offset, unsigned size)
{
    RegionPlanes *planes = reader_load(&mr->planes);
    const PlaneSet *set = planes ? reader_load(&planes->seen[MEMORY_PLANE_COALESCED]) : NULL;
    uint32_t i;

    if (!set) {
        return false;
    }
    i = plane_set_ending_from(set, offset);
    return i < set->n && set->items[i].first <= offset && set->items[i].last - offset >= size - 1;
}

bool coalesced_take_write(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs, uint64_t value,
                          MemTxResult *ret_result)
{
    CoalescedRing *ring = ring_of(range->mr);
    const CoalescedWrite write = {offset, value, range->bias, range->flags, size, attrs};

    if (!ring) {
        return false;
    }
    if (!is_coalesced(range->mr, offset, size) || splitter_check(range, offset, size, attrs, true) != MEMTX_OK) {
        coalesced_flush(range->mr);
        return false;
    }
    *ret_result = MEMTX_OK;
    if (sabotage_turn(SABOTAGE_DROP_COALESCED, 256)) {
        return true;
    }
    while (!coalesced_ring_put(ring, &write, MEMORY_COALESCED_RING)) {
        bool wait = may_wait();

        drain(ring, wait);
        if (!wait && coalesced_ring_waiting(ring) >= MEMORY_COALESCED_RING) {
            *ret_result = MEMTX_ERROR; /* it is full of what this thread, or one that it cannot wait for, has to deliver */
            return true;
        }
    }
    if (coalesced_ring_queue(ring)) {
        wake_worker();
    }
    return true;
}

/* ---- writes that others have collected ---- */

/* Whether the range is coalesced still is not asked: the ring is the region's for good, and delivers what was. Nor is the device:
   who hands in may hold the topology lock, or the one of his ring. accepts() is asked when the write is delivered. */
int coalesced_queue(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs, uint64_t value, bool withdrawn)
{
    const CoalescedWrite write = {offset, dispatch_order(range, value, size, false), range->bias, range->flags, size, attrs};
    CoalescedRing *ring = range->ops && !(range->flags & (FLAT_INTERPOSED | FLAT_IOMMU)) ? ring_of(range->mr) : NULL;

    if (!ring || eventfd_is_for(range, offset, size, write.value)) {
        return -ENOENT;
    }
    if (splitter_check_shape(range, offset, size, true) != MEMTX_OK) {
        return -EACCES;
    }
    if (!coalesced_ring_put(ring, &write, withdrawn ? COALESCED_RING_ROOM : MEMORY_COALESCED_RING)) {
        return -ENOBUFS;
    }
    if (coalesced_ring_queue(ring)) {
        wake_worker();
    }
    return 0;
}

size_t coalesced_room(const MemoryRegion *mr)
{
    const CoalescedRing *ring = ring_of(mr);

    return ring ? COALESCED_RING_ROOM - coalesced_ring_waiting(ring) : 0;
}
