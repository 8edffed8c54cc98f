/* SPDX-License-Identifier: MIT */
/*
 * device.h - a device that counts what reaches it, for guests on real KVM.
 */
#ifndef FLATVIEW_TESTS_KVM_DEVICE_H
#define FLATVIEW_TESTS_KVM_DEVICE_H

#include <atomic>

#include <flatview/memory.h>

#include <gtest/gtest.h>

class Machine;

struct Device {
    MemoryRegion mr; /* first: callbacks find the device by it */
    std::atomic<uint64_t> reads{0}, writes{0}, last{0};
    unsigned last_size = 0;
    void (*on_write)(Device *) = nullptr;
    Machine *machine = nullptr;
};

inline Device *device(MemoryRegion *mr)
{
    return reinterpret_cast<Device *>(mr);
}

inline uint64_t device_read(MemoryRegion *mr, hwaddr addr, unsigned size)
{
    device(mr)->reads++;
    device(mr)->last_size = size;
    return 0x1000000 + addr;
}

inline void device_write(MemoryRegion *mr, hwaddr, uint64_t data, unsigned size)
{
    Device *d = device(mr);

    d->writes++;
    d->last = data;
    d->last_size = size;
    if (d->on_write) {
        d->on_write(d);
    }
}

inline MemoryRegionOps make_ops()
{
    MemoryRegionOps ops = {};

    ops.read = device_read;
    ops.write = device_write;
    ops.endianness = MEMORY_LITTLE_ENDIAN;
    ops.valid.min_access_size = ops.impl.min_access_size = 1;
    ops.valid.max_access_size = ops.impl.max_access_size = 8;
    return ops;
}

inline const MemoryRegionOps device_ops = make_ops();

inline void end(MemoryRegion *mr)
{
    EXPECT_EQ(memory_region_destroy(mr), 0);
    EXPECT_EQ(memory_region_quiesce(mr), 0);
}

#endif
