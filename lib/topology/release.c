/* SPDX-License-Identifier: MIT */
/*
 * release.c - destroyed regions on their way back to their owners.
 *
 * Invariant: release runs exactly once for each committed destroy, after every read section that could have found the
 * region has ended, no pinned view of a generation in [first_gen, last_gen) is left, and every region_hold() has had its
 * region_unhold(); nothing in the library touches the struct after the owner's function was called.
 * Established by: region_retire(), at the end of a commit. Relied on by: owners, who free the struct in release.
 */
#include "topology/release.h"

#include "topology/coalesced_ring.h"
#include "topology/plane_set.h"
#include "topology/ram_index.h"

static void release(RetireHead *head)
{
    MemoryRegion *mr = container_of(head, MemoryRegion, retire.head);
    void (*owner)(MemoryRegion *mr) = mr->release;

    region_fini(mr);
    __atomic_store_n(&mr->state, REGION_STATE_RELEASED, __ATOMIC_RELEASE);
    if (owner) {
        owner(mr);
    }
}

void region_retire(MemoryRegion *mr)
{
    const RegionPlanes *planes = mr->planes;

    if (planes && planes->ring) {
        coalesced_ring_kill(planes->ring); /* who has found it on the list is in a read section that began before */
    }
    mr->state = REGION_STATE_DEAD;
    ram_index_remove(mr->block); /* what is dead must be unfindable before its grace period begins */
    /* A region that no view ever showed has an empty interval: a grace period is all it waits for. */
    mr->retire.head = (RetireHead){
        .free = release, .birth = mr->first_gen, .death = mr->last_gen, .bytes = sizeof(*mr), .kind = RETIRE_COUNTED};
    retire_push(&mr->retire.head); /* its count is not touched: mappings go on */
}
