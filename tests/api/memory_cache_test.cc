/* SPDX-License-Identifier: MIT */
/* A cached window answers as plain accesses do, whatever happens to the map; and is quick about it only where it may be. */
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include <flatview/memory.h>

#include "api/machine.h"

namespace {

const MemTxAttrs kAttrs = MEMTXATTRS_UNSPECIFIED;

class Cache : public Machine {
protected:
    void SetUp() override
    {
        Machine::SetUp();
        for (unsigned i = 0; i < 2; i++) {
            ASSERT_EQ(0, memory_region_init_ram(&ram[i], "ram", 0x1000));
            for (unsigned at = 0; at < 0x1000; at++) {
                host(i)[at] = static_cast<uint8_t>(at * (i ? 3 : 1) + i);
            }
        }
        ASSERT_EQ(0, memory_region_add_subregion(&root, 0x8000, &ram[0]));
        ASSERT_EQ(0, address_space_cache_init(&cache, &as, 0x8100, 0x100));
    }

    void TearDown() override
    {
        address_space_cache_destroy(&cache);
        for (auto &r : ram) {
            if (memory_region_get_parent(&r)) {
                ASSERT_EQ(0, memory_region_del_subregion(&root, &r));
            }
            int err = memory_region_destroy(&r);
            ASSERT_TRUE(err == 0 || err == -EINVAL);
            ASSERT_EQ(0, memory_region_quiesce(&r));
        }
        Machine::TearDown();
    }

    uint8_t *host(unsigned i)
    {
        return static_cast<uint8_t *>(memory_region_get_ram_ptr(&ram[i]));
    }

    /* Every typed access and both bulk ones at an offset of the window, against the plain ones. */
    void compare(hwaddr at)
    {
        const hwaddr addr = 0x8100 + at;
        uint8_t b[2] = {1, 1};
        uint16_t w[2] = {1, 1};
        uint32_t l[2] = {1, 1};
        uint64_t q[2] = {1, 1};
        uint8_t bytes[2][24] = {};

#define COMPARE(op, v, n) \
        if (at + (n) <= 0x100) { \
            EXPECT_EQ(address_space_##op(&as, addr, kAttrs, &v[0]), address_space_##op##_cached(&cache, at, kAttrs, &v[1])); \
            EXPECT_EQ(v[0], v[1]) << #op << " " << at; \
        } else { \
            EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_##op##_cached(&cache, at, kAttrs, &v[1])) << #op << " " << at; \
        }
        COMPARE(ldub, b, 1)
        COMPARE(lduw_le, w, 2)
        COMPARE(lduw_be, w, 2)
        COMPARE(ldl_le, l, 4)
        COMPARE(ldl_be, l, 4)
        COMPARE(ldq_le, q, 8)
        COMPARE(ldq_be, q, 8)
#undef COMPARE
        if (at + 24 <= 0x100) {
            EXPECT_EQ(address_space_read(&as, addr, kAttrs, bytes[0], 24),
                      address_space_read_cached(&cache, at, kAttrs, bytes[1], 24));
            EXPECT_EQ(0, memcmp(bytes[0], bytes[1], 24));
        }
    }

    void compare_all()
    {
        for (hwaddr at : {0, 1, 7, 0x50, 0xf8, 0xf9, 0xfc, 0xfd, 0xfe, 0xff, 0x100, 0x101}) {
            compare(at);
        }
    }

    MemoryRegion ram[2];
    MemoryRegionCache cache = {};
};

TEST_F(Cache, ItFollowsTheMapByItself)
{
    compare_all();
    ASSERT_EQ(0, memory_region_add_subregion_overlap(&root, 0x8000, &ram[1], 1)); /* other RAM on top */
    compare_all();
    uint8_t byte = 0;
    EXPECT_EQ(MEMTX_OK, address_space_ldub_cached(&cache, 0, kAttrs, &byte));
    EXPECT_EQ(host(1)[0x100], byte);
    ASSERT_EQ(0, memory_region_set_address(&ram[1], 0x8180)); /* in two */
    compare_all();
    ASSERT_EQ(0, memory_region_set_enabled(&ram[1], false));
    compare_all();
    ASSERT_EQ(0, memory_region_set_enabled(&ram[0], false)); /* a hole */
    compare_all();
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldub_cached(&cache, 0, kAttrs, &byte));
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x8100)); /* a device */
    compare_all();
    EXPECT_EQ(MEMTX_OK, address_space_ldub_cached(&cache, 0x44, kAttrs, &byte));
    EXPECT_EQ(0x44, byte);
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x1000));
    ASSERT_EQ(0, memory_region_set_enabled(&ram[0], true));
    compare_all();
}

TEST_F(Cache, StoresGoWhereLoadsComeFrom)
{
    EXPECT_EQ(MEMTX_OK, address_space_stb_cached(&cache, 0, kAttrs, 0x11));
    EXPECT_EQ(MEMTX_OK, address_space_stw_be_cached(&cache, 2, kAttrs, 0x2233));
    EXPECT_EQ(MEMTX_OK, address_space_stw_le_cached(&cache, 4, kAttrs, 0x2233));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le_cached(&cache, 8, kAttrs, 0x44556677));
    EXPECT_EQ(MEMTX_OK, address_space_stl_be_cached(&cache, 12, kAttrs, 0x44556677));
    EXPECT_EQ(MEMTX_OK, address_space_stq_be_cached(&cache, 0xf8, kAttrs, 0x0102030405060708));
    EXPECT_EQ(MEMTX_OK, address_space_stq_le_cached(&cache, 0x11, kAttrs, 0x0102030405060708));
    const uint8_t expected[] = {0x11, 0x01, 0x22, 0x33, 0x33, 0x22, 6, 7, 0x77, 0x66, 0x55, 0x44, 0x44, 0x55, 0x66, 0x77};
    EXPECT_EQ(0, memcmp(expected, host(0) + 0x100, sizeof(expected)));
    EXPECT_EQ(8, host(0)[0x1ff]);
    EXPECT_EQ(8, host(0)[0x111]);
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_stl_le_cached(&cache, 0xfd, kAttrs, 0)) << "nor a part of it";
    EXPECT_EQ(6, host(0)[0x1fd]);
    const uint8_t bytes[4] = {9, 9, 9, 9};
    EXPECT_EQ(MEMTX_OK, address_space_write_cached(&cache, 0x20, kAttrs, bytes, 4));
    EXPECT_EQ(9, host(0)[0x123]);
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_write_cached(&cache, 0xff, kAttrs, bytes, 4));
    EXPECT_EQ(8, host(0)[0x1ff]);

    ASSERT_EQ(0, memory_region_set_readonly(&ram[0], true));
    EXPECT_EQ(MEMTX_ACCESS_ERROR, address_space_stl_le_cached(&cache, 0, kAttrs, 0));
    EXPECT_EQ(MEMTX_ACCESS_ERROR, address_space_write_cached(&cache, 0, kAttrs, bytes, 4));
    EXPECT_EQ(0x11, host(0)[0x100]);
    ASSERT_EQ(0, memory_region_set_readonly(&ram[0], false));
    ASSERT_EQ(0, memory_region_set_enabled(&ram[0], false));
    ASSERT_EQ(0, memory_region_set_address(&dev[1].mr, 0x8100));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le_cached(&cache, 8, kAttrs, 0x1234));
    EXPECT_EQ(0x1234u, dev[1].written);
    EXPECT_EQ(8u, dev[1].written_at);
}

TEST_F(Cache, AWindowOfNothingAndBadArgumentsAreRefused)
{
    MemoryRegionCache none = {};
    uint32_t value = 5;

    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldl_le_cached(&none, 0, kAttrs, &value));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_stl_le_cached(&none, 0, kAttrs, 1));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_read_cached(&none, 0, kAttrs, &value, 1));
    EXPECT_EQ(MEMTX_OK, address_space_read_cached(&none, 0, kAttrs, nullptr, 0));
    EXPECT_EQ(5u, value);
    EXPECT_EQ(-EINVAL, address_space_cache_init(&none, &as, 0, 0));
    EXPECT_EQ(-EINVAL, address_space_cache_init(&none, &as, 2, UINT64_MAX));
    EXPECT_EQ(-EINVAL, address_space_cache_init(&none, nullptr, 0, 1));
    EXPECT_EQ(-EINVAL, address_space_cache_init(nullptr, &as, 0, 1));
    address_space_cache_destroy(&cache);
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldl_le_cached(&cache, 0, kAttrs, &value));
    EXPECT_EQ(0, address_space_cache_init(&none, &as, 1, UINT64_MAX)) << "up to the end of the space";
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldl_le_cached(&none, UINT64_MAX - 2, kAttrs, &value));
}

TEST_F(Cache, ItHoldsNothing)
{
    uint8_t byte;

    ASSERT_EQ(MEMTX_OK, address_space_ldub_cached(&cache, 0, kAttrs, &byte));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &ram[0]));
    ASSERT_EQ(0, memory_region_destroy(&ram[0]));
    EXPECT_EQ(0, memory_region_quiesce(&ram[0]));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldub_cached(&cache, 0, kAttrs, &byte));
}

TEST_F(Cache, StoresToLoggedRamAreMarkedWhateverWayTheyTake)
{
    uint32_t value = 0;
    auto dirty = [&](hwaddr at) {
        DirtyBitmapSnapshot *snapshot = nullptr;
        EXPECT_EQ(0, memory_region_snapshot_and_clear_dirty(&ram[0], 0, 0x1000, DIRTY_MEMORY_VGA, &snapshot));
        bool is = memory_region_snapshot_get_dirty(snapshot, at, 1);
        memory_region_snapshot_free(snapshot);
        return is;
    };

    ASSERT_EQ(0, memory_region_set_dirty_granule(&ram[0], DIRTY_MEMORY_VGA, 64));
    ASSERT_EQ(MEMTX_OK, address_space_stl_le_cached(&cache, 0, kAttrs, 1)); /* fills it, without the hook */
    ASSERT_EQ(0, memory_region_set_log(&ram[0], true, DIRTY_MEMORY_VGA));
    ASSERT_EQ(0, memory_dirty_log_wait());
    dirty(0);
    EXPECT_FALSE(dirty(0x100));
    ASSERT_EQ(MEMTX_OK, address_space_stl_le_cached(&cache, 0, kAttrs, 2));
    EXPECT_TRUE(dirty(0x100));
    ASSERT_EQ(MEMTX_OK, address_space_write_cached(&cache, 0x40, kAttrs, &value, 4));
    EXPECT_TRUE(dirty(0x140));
    ASSERT_EQ(MEMTX_OK, address_space_ldl_le_cached(&cache, 0, kAttrs, &value));
    EXPECT_EQ(2u, value);
    memory_read_begin();
    uint32_t *ring = static_cast<uint32_t *>(address_space_cache_ptr(&cache, 0x80, 8, true));
    ASSERT_NE(nullptr, ring);
    ring[1] = 3;
    EXPECT_EQ(0, address_space_cache_invalidate(&cache, 0x84, 4));
    memory_read_end();
    EXPECT_TRUE(dirty(0x184));
    ASSERT_EQ(0, memory_region_set_log(&ram[0], false, DIRTY_MEMORY_VGA));
}

TEST_F(Cache, WhatWasWrittenIsMarkedWhereThePointerLed)
{
    auto dirty = [&](unsigned i, hwaddr at) { return memory_region_get_dirty(&ram[i], at, 1, DIRTY_MEMORY_VGA); };

    for (auto &r : ram) {
        ASSERT_EQ(0, memory_region_set_dirty_granule(&r, DIRTY_MEMORY_VGA, 64));
        ASSERT_EQ(0, memory_region_set_log(&r, true, DIRTY_MEMORY_VGA));
        ASSERT_EQ(0, memory_dirty_log_wait());
        ASSERT_EQ(0, memory_region_reset_dirty(&r, 0, 0x1000, DIRTY_MEMORY_VGA));
    }
    memory_read_begin();
    uint32_t *ring = static_cast<uint32_t *>(address_space_cache_ptr(&cache, 0x80, 8, true));
    ASSERT_NE(nullptr, ring);
    ASSERT_EQ(0, memory_region_del_subregion(&root, &ram[0]));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x8000, &ram[1]));
    ASSERT_EQ(MEMTX_OK, address_space_stl_le_cached(&cache, 0, kAttrs, 1)); /* the window leads to the other now */
    ASSERT_NE(nullptr, address_space_cache_ptr(&cache, 0x80, 8, false));
    ring[1] = 3;
    EXPECT_EQ(0, address_space_cache_invalidate(&cache, 0x84, 4));
    memory_read_end();
    EXPECT_TRUE(dirty(0, 0x184));
    EXPECT_FALSE(dirty(1, 0x184));
    EXPECT_TRUE(dirty(1, 0x100));
    EXPECT_FALSE(dirty(0, 0x100));
    for (auto &r : ram) {
        ASSERT_EQ(0, memory_region_set_log(&r, false, DIRTY_MEMORY_VGA));
    }
}

TEST_F(Cache, APointerIsForAReadSectionAndPlainRam)
{
    EXPECT_EQ(nullptr, address_space_cache_ptr(&cache, 0, 4, false)) << "outside";
    EXPECT_EQ(-EINVAL, address_space_cache_invalidate(&cache, 0, 4));
    memory_read_begin();
    EXPECT_EQ(-EINVAL, address_space_cache_invalidate(&cache, 0, 4)) << "nothing was ever looked up";
    EXPECT_EQ(host(0) + 0x1f0, address_space_cache_ptr(&cache, 0xf0, 0x10, true));
    EXPECT_EQ(nullptr, address_space_cache_ptr(&cache, 0xf0, 0x11, true));
    EXPECT_EQ(nullptr, address_space_cache_ptr(&cache, 0xf0, 0, true));
    ASSERT_EQ(0, memory_region_set_readonly(&ram[0], true));
    EXPECT_EQ(nullptr, address_space_cache_ptr(&cache, 0, 4, true));
    EXPECT_EQ(host(0) + 0x100, address_space_cache_ptr(&cache, 0, 4, false));
    ASSERT_EQ(0, memory_region_set_readonly(&ram[0], false));
    ASSERT_EQ(0, memory_region_set_enabled(&ram[0], false));
    EXPECT_EQ(nullptr, address_space_cache_ptr(&cache, 0, 4, false));
    memory_read_end();
}

/* Windows over RAM that comes and goes, and is spoiled when it is released. */
struct Module {
    MemoryRegion mr;
    uint8_t *bytes;
};

TEST_F(Cache, RacingWithUnplugItReadsWhatIsThereOrNothing)
{
    static std::atomic<int> alive;
    std::atomic<bool> stop{false};
    std::atomic<int> hits{0}, misses{0};
    std::vector<std::thread> threads;
    auto plug = [&] {
        Module *m = static_cast<Module *>(malloc(sizeof(*m)));
        m->bytes = static_cast<uint8_t *>(malloc(0x1000));
        memset(m->bytes, 0x77, 0x1000);
        alive++;
        EXPECT_EQ(0, memory_region_init_ram_ptr(&m->mr, "module", 0x1000, m->bytes));
        EXPECT_EQ(0, memory_region_set_release(&m->mr, [](MemoryRegion *mr) {
            Module *gone = reinterpret_cast<Module *>(mr);
            memset(gone->bytes, 0xee, 0x1000);
            free(gone->bytes);
            free(gone);
            alive--;
        }));
        EXPECT_EQ(0, memory_region_add_subregion(&root, 0x20000, &m->mr));
        return m;
    };

    for (int t = 0; t < 2; t++) {
        threads.emplace_back([&] {
            MemoryRegionCache mine = {};
            uint32_t value;

            EXPECT_EQ(0, address_space_cache_init(&mine, &as, 0x20400, 0x100));
            while (!stop) {
                value = 0;
                MemTxResult result = address_space_ldl_le_cached(&mine, 0x10, kAttrs, &value);
                if (result == MEMTX_OK) {
                    EXPECT_EQ(0x77777777u, value);
                    hits++;
                } else {
                    EXPECT_EQ(MEMTX_DECODE_ERROR, result);
                    misses++;
                }
                result = address_space_stl_le_cached(&mine, 0x10, kAttrs, 0x77777777);
                EXPECT_TRUE(result == MEMTX_OK || result == MEMTX_DECODE_ERROR);
            }
        });
    }
    for (int round = 0; round < 300 || !hits || !misses; round++) {
        Module *m = plug();
        std::this_thread::yield();
        ASSERT_EQ(0, memory_region_del_subregion(&root, &m->mr));
        ASSERT_EQ(0, memory_region_destroy(&m->mr));
        std::this_thread::yield();
    }
    stop = true;
    for (auto &t : threads) {
        t.join();
    }
    while (alive) {
        ASSERT_EQ(0, memory_reclaim());
    }
}

} // namespace
