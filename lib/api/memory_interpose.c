/* SPDX-License-Identifier: MIT */
/*
 * memory_interpose.c - interposers: check the contract, begin, change, end.
 *
 * Invariant: only a container is an interposer, and its ops have a callback and a byte order; so it is in no range itself, and who
 * finds it behind one need not ask.
 */
#include <errno.h>

#include <flatview/memory_interpose.h>

#include "access/interpose.h"
#include "publish/change.h"

static bool is_complete(const MemoryInterposerOps *ops)
{
    return ops && (ops->read || ops->write) &&
           (ops->endianness == MEMORY_LITTLE_ENDIAN || ops->endianness == MEMORY_BIG_ENDIAN);
}

int memory_region_init_interposer(MemoryRegion *mr, const MemoryInterposerOps *ops, const char *name, uint64_t size)
{
    int err = is_complete(ops) ? memory_region_init(mr, name, size) : -EINVAL;

    if (err == 0) {
        mr->interposer = ops; /* nobody else knows the region yet */
    }
    return err;
}

int memory_region_set_interposer(MemoryRegion *mr, const MemoryInterposerOps *ops)
{
    int err, end;

    if (!mr || (ops && !is_complete(ops))) {
        return -EINVAL;
    }
    err = txn_begin();
    if (err < 0) {
        return err;
    }
    err = region_adopt(mr);
    if (err == 0) {
        err = mr->kind == MEMORY_KIND_CONTAINER ? change_interposer(mr, ops) : -EINVAL;
    }
    end = txn_end();
    return err < 0 ? err : end;
}

bool memory_region_is_interposer(const MemoryRegion *mr)
{
    return region_peek(mr->interposer);
}

MemTxResult memory_interposer_pass_read(MemoryInterposed *access, uint64_t *ret_data)
{
    return interpose_pass_read(access, ret_data);
}

MemTxResult memory_interposer_pass_write(MemoryInterposed *access, uint64_t data)
{
    return interpose_pass_write(access, data);
}

MemoryRegion *memory_interposed_region(const MemoryInterposed *access, hwaddr *ret_offset)
{
    return interpose_region(access, ret_offset);
}
