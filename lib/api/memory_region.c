/* SPDX-License-Identifier: MIT */
/*
 * memory_region.c - the public changes of the tree: check the contract, begin, change, end.
 *
 * Invariant: a request that a guest or a configuration can make wrongly is refused here, with nothing changed; what passes
 * is legal, so the floors below need not ask again.
 */
#include <errno.h>

#include <flatview/memory_coalesced.h>
#include <flatview/memory_population.h>
#include <flatview/memory_region.h>

#include "publish/change.h"
#include "publish/transaction.h"
#include "topology/calls.h"
#include "topology/iommu.h"
#include "topology/ram_block.h"

/* A transaction of one change, or a nested one; @mr is live in it. */
static int begin_on(MemoryRegion *mr)
{
    int err;

    if (!mr) {
        return -EINVAL;
    }
    err = txn_begin();
    if (err == 0) {
        err = region_adopt(mr);
        if (err < 0) {
            txn_end();
        }
    }
    return err;
}

/* A change that failed has left nothing behind, so there is nothing to abort. */
static int end_with(int err)
{
    int end = txn_end();

    return err < 0 ? err : end;
}

static int may_add(MemoryRegion *mr, hwaddr offset, MemoryRegion *child)
{
    int err;

    if (!child || child == mr || mr->kind == MEMORY_KIND_ALIAS) {
        return -EINVAL;
    }
    err = region_adopt(child);
    if (err < 0) {
        return err;
    }
    if (child->parent) {
        return -EBUSY;
    }
    return region_makes_loop(mr, child, offset) ? -ELOOP : 0;
}

int memory_region_add_subregion_overlap(MemoryRegion *mr, hwaddr offset, MemoryRegion *child, int priority)
{
    int err = begin_on(mr);

    if (err < 0) {
        return err;
    }
    err = may_add(mr, offset, child);
    return end_with(err < 0 ? err : change_link(mr, child, offset, priority));
}

int memory_region_add_subregion(MemoryRegion *mr, hwaddr offset, MemoryRegion *child)
{
    return memory_region_add_subregion_overlap(mr, offset, child, 0);
}

int memory_region_del_subregion(MemoryRegion *mr, MemoryRegion *child)
{
    int err = begin_on(mr);

    if (err < 0) {
        return err;
    }
    return end_with(!child || child->parent != mr ? -EINVAL : change_unlink(child));
}

int memory_region_set_address(MemoryRegion *mr, hwaddr addr)
{
    int err = begin_on(mr);

    return err < 0 ? err : end_with(change_addr(mr, addr));
}

int memory_region_set_size(MemoryRegion *mr, uint64_t size)
{
    int err = begin_on(mr);
    const RamBlock *block;

    if (err < 0) {
        return err;
    }
    block = mr->block;
    if (mr->kind == MEMORY_KIND_RAM || mr->kind == MEMORY_KIND_ROM || mr->kind == MEMORY_KIND_ROM_DEVICE ||
        mr->kind == MEMORY_KIND_RAM_DEVICE) {
        /* Without a block: nothing, or of a RAM device memory of which only its owner knows the end. */
        err = size > (block ? ram_block_bytes(block) : 0) || (!block && !mr->size_is_zero) ? -EINVAL : 0;
    }
    return end_with(err < 0 ? err : change_size(mr, size));
}

int memory_region_set_enabled(MemoryRegion *mr, bool enabled)
{
    int err = begin_on(mr);

    return err < 0 ? err : end_with(change_enabled(mr, enabled));
}

int memory_region_set_alias_offset(MemoryRegion *mr, hwaddr offset)
{
    int err = begin_on(mr);

    if (err < 0) {
        return err;
    }
    return end_with(mr->kind != MEMORY_KIND_ALIAS ? -EINVAL : change_alias_offset(mr, offset));
}

int memory_region_set_readonly(MemoryRegion *mr, bool readonly)
{
    int err = begin_on(mr);

    if (err < 0) {
        return err;
    }
    return end_with(mr->kind == MEMORY_KIND_ROM && !readonly ? -EINVAL : change_readonly(mr, readonly));
}

int memory_region_set_nonvolatile(MemoryRegion *mr, bool nonvolatile)
{
    int err = begin_on(mr);

    return err < 0 ? err : end_with(change_nonvolatile(mr, nonvolatile));
}

int memory_region_rom_device_set_romd(MemoryRegion *mr, bool romd)
{
    int err = begin_on(mr);

    if (err < 0) {
        return err;
    }
    return end_with(mr->kind != MEMORY_KIND_ROM_DEVICE ? -EINVAL : change_romd(mr, romd));
}

int memory_region_set_offset(MemoryRegion *mr, hwaddr offset)
{
    int err = begin_on(mr);

    return err < 0 ? err : end_with(change_bias(mr, offset));
}

int memory_region_destroy(MemoryRegion *mr)
{
    int err;

    (void)memory_region_flush_coalesced(mr); /* what was written before is delivered before */
    err = begin_on(mr);
    if (err < 0) {
        return err;
    }
    if (mr->parent || mr->n_children || mr->aliases || mr->rooted || iommu_has_notifiers(mr) ||
        memory_region_has_ram_discard_source(mr)) {
        return end_with(-EBUSY);
    }
    return end_with(change_destroy(mr));
}

int memory_region_quiesce(MemoryRegion *mr)
{
    uint64_t ticket;
    int state, err;

    if (!mr) {
        return -EINVAL;
    }
    if (reader_ongoing() || txn_holds_lock() || retire_releasing() || calls_make_readers_wait()) {
        return -EDEADLK;
    }
    err = txn_enter(); /* destroy on another thread has either pushed the ticket or not yet happened */
    if (err < 0) {
        return err;
    }
    state = __atomic_load_n(&mr->state, __ATOMIC_ACQUIRE);
    ticket = mr->retire.head.seq;
    txn_leave();
    if (state != REGION_STATE_DEAD && state != REGION_STATE_RELEASED) {
        return -EINVAL;
    }
    /* Also for one that was released: the state says so before the owner's function is called, not when it returned. */
    retire_wait_done(ticket);
    return 0;
}
