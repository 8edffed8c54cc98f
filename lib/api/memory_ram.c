/* SPDX-License-Identifier: MIT */
/*
 * memory_ram.c - RAM that grows and shrinks in place.
 *
 * Invariant: a block that is resizable has used <= size, and its region is never larger than used. Established by: init, the
 * functions here, and memory_region_set_size(). Relied on by: views, whose ranges must have memory, and collectors, who see no bit beyond.
 */
#include <errno.h>

#include <flatview/memory_ram.h>

#include "publish/logging.h"
#include "topology/dirty_log.h"
#include "topology/region.h"

int memory_region_ram_resize(MemoryRegion *mr, uint64_t size)
{
    const RamBlock *block;
    int err;

    if (!mr) {
        return -EINVAL;
    }
    err = txn_begin();
    if (err < 0) {
        return err;
    }
    block = mr->block;
    err = mr->state == REGION_STATE_LIVE && block && block->resizable && size <= block->size ? change_ram_size(mr, size) :
                                                                                              -EINVAL;
    if (err < 0) {
        txn_end();
        return err;
    }
    return txn_end();
}

uint64_t memory_region_ram_max_size(const MemoryRegion *mr)
{
    const RamBlock *block = mr ? mr->block : NULL;

    return block ? block->size : 0;
}
