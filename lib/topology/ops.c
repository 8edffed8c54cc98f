/* SPDX-License-Identifier: MIT */
/*
 * ops.c - is an ops table complete, and what may dispatch skip for it?
 *
 * Invariant: a region that is live has ops that passed ops_check(), and its io_flags are what that returned. Dispatch
 * relies on both without looking again: sizes are powers of two with min <= max, the byte order is one of two, and a FAST
 * bit means that an aligned access of that size needs no check and no conversion but the byte order.
 */
#include <errno.h>

#include "topology/region.h"

static bool is_size(unsigned size)
{
    return size == 1 || size == 2 || size == 4 || size == 8;
}

int ops_check(const MemoryRegionOps *ops, uint32_t *ret_io_flags)
{
    uint32_t flags = 0;
    unsigned log2size;

    if (!ops) {
        *ret_io_flags = 0;
        return 0;
    }
    if (!is_size(ops->valid.min_access_size) || !is_size(ops->valid.max_access_size) ||
        !is_size(ops->impl.min_access_size) || !is_size(ops->impl.max_access_size) ||
        ops->valid.min_access_size > ops->valid.max_access_size ||
        ops->impl.min_access_size > ops->impl.max_access_size) {
        return -EINVAL;
    }
    if (ops->endianness != MEMORY_LITTLE_ENDIAN && ops->endianness != MEMORY_BIG_ENDIAN) {
        return -EINVAL;
    }
    if (ops->impl.narrow_write != MEMORY_NARROW_WRITE_REFUSE && ops->impl.narrow_write != MEMORY_NARROW_WRITE_MERGE &&
        ops->impl.narrow_write != MEMORY_NARROW_WRITE_EXTEND) {
        return -EINVAL;
    }
    if (ops->read || ops->read_with_attrs) {
        flags |= REGION_IO_CAN_READ;
    }
    if (ops->write || ops->write_with_attrs) {
        flags |= REGION_IO_CAN_WRITE;
    }
    if (!flags) {
        return -EINVAL; /* forgotten, most likely; who means it says so: NULL ops */
    }
    for (log2size = 0; log2size <= 3; log2size++) {
        unsigned size = 1u << log2size;

        if (ops->valid.accepts || size < ops->valid.min_access_size || size > ops->valid.max_access_size ||
            size < ops->impl.min_access_size || size > ops->impl.max_access_size) {
            continue;
        }
        if (ops->read && !ops->read_with_attrs) {
            flags |= REGION_IO_FAST_READ(log2size);
        }
        if (ops->write && !ops->write_with_attrs) {
            flags |= REGION_IO_FAST_WRITE(log2size);
        }
    }
    if (ops->endianness == MEMORY_BIG_ENDIAN) {
        flags |= REGION_IO_BIG_ENDIAN;
    }
    *ret_io_flags = flags;
    return 0;
}
