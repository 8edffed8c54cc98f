/* SPDX-License-Identifier: MIT */
/*
 * actor.h - a device whose callbacks are what the test says, for tests of what happens around callbacks.
 */
#ifndef FLATVIEW_TESTS_API_ACTOR_H
#define FLATVIEW_TESTS_API_ACTOR_H

#include <functional>

#include "machine.h"

struct Actor {
    MemoryRegion mr;
    std::function<MemTxResult(hwaddr addr, uint64_t *data, unsigned size)> on_read;
    std::function<MemTxResult(hwaddr addr, uint64_t data, unsigned size)> on_write;
};

inline Actor *actor_of(MemoryRegion *mr)
{
    return reinterpret_cast<Actor *>(mr); /* its first member */
}

inline const MemoryRegionOps *actor_ops()
{
    static const MemoryRegionOps ops = [] {
        MemoryRegionOps o = {};
        o.read_with_attrs = [](MemoryRegion *mr, hwaddr addr, uint64_t *data, unsigned size, MemTxAttrs) {
            return actor_of(mr)->on_read ? actor_of(mr)->on_read(addr, data, size) : MEMTX_OK;
        };
        o.write_with_attrs = [](MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size, MemTxAttrs) {
            return actor_of(mr)->on_write ? actor_of(mr)->on_write(addr, data, size) : MEMTX_OK;
        };
        o.endianness = MEMORY_LITTLE_ENDIAN;
        o.valid.min_access_size = o.impl.min_access_size = 1;
        o.valid.max_access_size = o.impl.max_access_size = 8;
        return o;
    }();
    return &ops;
}

/* Three actors of 0x100 bytes at 0x1000, 0x2000, 0x3000, and 64 KiB of RAM at 0x10000. */
class Actors : public testing::Test {
protected:
    static constexpr hwaddr A = 0x1000, B = 0x2000, C = 0x3000, RAM = 0x10000;

    void SetUp() override
    {
        ASSERT_EQ(0, memory_region_init(&root, "root", UINT64_MAX));
        for (unsigned i = 0; i < 3; i++) {
            ASSERT_EQ(0, memory_region_init_io(&actor[i].mr, actor_ops(), i == 0 ? "a" : i == 1 ? "b" : "c", 0x100));
            ASSERT_EQ(0, memory_region_add_subregion(&root, (i + 1) * 0x1000u, &actor[i].mr));
        }
        ASSERT_EQ(0, memory_region_init_ram(&ram, "ram", 0x10000));
        ASSERT_EQ(0, memory_region_add_subregion(&root, RAM, &ram));
        ASSERT_EQ(0, address_space_init(&as, &root, "memory"));
    }

    void TearDown() override
    {
        ASSERT_EQ(0, address_space_destroy(&as, nullptr));
        for (MemoryRegion *mr : {&a.mr, &b.mr, &c.mr, &ram}) {
            if (memory_region_get_parent(mr)) {
                ASSERT_EQ(0, memory_region_del_subregion(memory_region_get_parent(mr), mr));
            }
            ASSERT_EQ(0, memory_region_destroy(mr));
        }
        ASSERT_EQ(0, memory_region_destroy(&root));
        for (MemoryRegion *mr : {&a.mr, &b.mr, &c.mr, &ram, &root}) {
            ASSERT_EQ(0, memory_region_quiesce(mr));
        }
    }

    MemTxResult store(hwaddr addr, uint32_t value)
    {
        return address_space_stl_le(&as, addr, MEMTXATTRS_UNSPECIFIED, value);
    }

    MemTxResult load(hwaddr addr, uint32_t *value)
    {
        return address_space_ldl_le(&as, addr, MEMTXATTRS_UNSPECIFIED, value);
    }

    MemTxResult load(hwaddr addr)
    {
        uint32_t value;
        return load(addr, &value);
    }

    MemoryRegion root, ram;
    Actor actor[3];
    Actor &a = actor[0], &b = actor[1], &c = actor[2];
    AddressSpace as = {};
};

#endif
