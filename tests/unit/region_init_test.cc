/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <flatview/memory.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "shim/region_shim.h"

namespace {

uint64_t Read(MemoryRegion *, hwaddr, unsigned)
{
    return 0;
}

void Write(MemoryRegion *, hwaddr, uint64_t, unsigned)
{
}

MemoryRegionOps MakeOps()
{
    MemoryRegionOps ops = MemoryRegionOps();
    ops.read = Read;
    ops.write = Write;
    ops.endianness = MEMORY_BIG_ENDIAN;
    ops.valid.min_access_size = ops.impl.min_access_size = 1;
    ops.valid.max_access_size = ops.impl.max_access_size = 4;
    return ops;
}

uint32_t LegacyRead(MemoryRegion *, hwaddr)
{
    return 0;
}

const MemoryRegionOps ops = MakeOps();
MemoryRegionLegacyOps legacy_ops;
uint8_t memory[4096];

class RegionInit : public testing::Test {
protected:
    void SetUp() override
    {
        legacy_ops.read[0] = LegacyRead;
        legacy_ops.endianness = MEMORY_LITTLE_ENDIAN;
        strcpy(path, "/tmp/flatview-region-init-XXXXXX");
        fd = mkstemp(path);
        ASSERT_GE(fd, 0);
        ASSERT_EQ(ftruncate(fd, 4096), 0);
        ASSERT_EQ(memory_region_init(&target, "target", 0x1000), 0);
    }

    void TearDown() override
    {
        region_shim_fini(&target);
        close(fd);
        unlink(path);
    }

    /* Every way to make a region. */
    std::vector<std::function<int(MemoryRegion *, const char *, uint64_t)>> Inits()
    {
        return {
            [](MemoryRegion *mr, const char *name, uint64_t size) { return memory_region_init(mr, name, size); },
            [](MemoryRegion *mr, const char *name, uint64_t size) { return memory_region_init_io(mr, &ops, name, size); },
            [](MemoryRegion *mr, const char *name, uint64_t size) {
                return memory_region_init_io_legacy(mr, &legacy_ops, name, size);
            },
            [](MemoryRegion *mr, const char *name, uint64_t size) {
                return memory_region_init_reservation(mr, name, size);
            },
            [](MemoryRegion *mr, const char *name, uint64_t size) { return memory_region_init_ram(mr, name, size); },
            [](MemoryRegion *mr, const char *name, uint64_t size) {
                return memory_region_init_ram_memfd(mr, name, size);
            },
            [](MemoryRegion *mr, const char *name, uint64_t size) {
                return memory_region_init_ram_ptr(mr, name, size, memory);
            },
            [this](MemoryRegion *mr, const char *name, uint64_t size) {
                return memory_region_init_ram_from_fd(mr, name, size, fd, 0);
            },
            [this](MemoryRegion *mr, const char *name, uint64_t size) {
                return memory_region_init_ram_from_file(mr, name, size, path);
            },
            [](MemoryRegion *mr, const char *name, uint64_t size) { return memory_region_init_rom(mr, name, size); },
            [](MemoryRegion *mr, const char *name, uint64_t size) {
                return memory_region_init_rom_ptr(mr, name, size, memory);
            },
            [](MemoryRegion *mr, const char *name, uint64_t size) {
                return memory_region_init_rom_device(mr, &ops, name, size);
            },
            [](MemoryRegion *mr, const char *name, uint64_t size) {
                return memory_region_init_ram_device_ptr(mr, name, size, memory);
            },
            [this](MemoryRegion *mr, const char *name, uint64_t size) {
                return memory_region_init_alias(mr, name, &target, 0x10, size);
            },
        };
    }

    MemoryRegion target;
    char path[64];
    int fd;
};

TEST_F(RegionInit, WhateverTheMemoryHeldTheRegionIsFresh)
{
    for (auto &init : Inits()) {
        MemoryRegion mr;
        char name[] = "a name";
        uint64_t live = region_shim_live_count();

        memset(&mr, 0xa5, sizeof(mr));
        ASSERT_EQ(init(&mr, name, 4096), 0);
        name[0] = 'X';
        EXPECT_STREQ(memory_region_name(&mr), "a name");
        EXPECT_EQ(memory_region_size(&mr), 4096u);
        EXPECT_EQ(memory_region_get_addr(&mr), 0u);
        EXPECT_EQ(memory_region_get_priority(&mr), 0);
        EXPECT_TRUE(memory_region_is_enabled(&mr));
        EXPECT_FALSE(memory_region_is_mapped(&mr));
        EXPECT_FALSE(memory_region_is_nonvolatile(&mr));
        EXPECT_EQ(memory_region_get_parent(&mr), nullptr);
        EXPECT_EQ(memory_region_get_dirty_log_mask(&mr), 0);
        EXPECT_EQ(region_shim_live_count(), live + 1);
        region_shim_fini(&mr);
        EXPECT_EQ(region_shim_live_count(), live);
    }
}

TEST_F(RegionInit, NoNameIsTheEmptyName)
{
    for (auto &init : Inits()) {
        MemoryRegion mr;
        ASSERT_EQ(init(&mr, NULL, 4096), 0);
        EXPECT_STREQ(memory_region_name(&mr), "");
        region_shim_fini(&mr);
        ASSERT_EQ(init(&mr, "", 4096), 0);
        EXPECT_STREQ(memory_region_name(&mr), "");
        region_shim_fini(&mr);
    }
}

TEST_F(RegionInit, EmptyRegionsOfEveryKindExist)
{
    for (auto &init : Inits()) {
        MemoryRegion mr;
        ASSERT_EQ(init(&mr, "empty", 0), 0);
        EXPECT_EQ(memory_region_size(&mr), 0u);
        EXPECT_EQ(memory_region_get_ram_ptr(&mr), nullptr);
        EXPECT_EQ(memory_region_get_fd(&mr), -1);
        region_shim_fini(&mr);
    }
}

TEST_F(RegionInit, AFailedInitLeavesTheStructAndNothingBehind)
{
    for (auto &init : Inits()) {
        MemoryRegion mr, before;
        uint64_t live = region_shim_live_count(), bytes = region_shim_live_bytes();
        int probe = dup(0), again, ret, nth;

        close(probe);
        for (nth = 1;; nth++) {
            memset(&mr, 0xa5, sizeof(mr));
            memcpy(&before, &mr, sizeof(mr));
            region_shim_fail_nth(nth);
            ret = init(&mr, "a name", 4096);
            region_shim_fail_nth(0);
            if (ret == 0) {
                break;
            }
            EXPECT_EQ(ret, -ENOMEM);
            EXPECT_EQ(memcmp(&mr, &before, sizeof(mr)), 0);
            EXPECT_EQ(region_shim_live_count(), live);
            EXPECT_EQ(region_shim_live_bytes(), bytes);
            ASSERT_LT(nth, 10);
        }
        EXPECT_GT(nth, 1) << "a name needs memory";
        region_shim_fini(&mr);
        EXPECT_EQ(region_shim_live_bytes(), bytes);
        again = dup(0);
        EXPECT_EQ(again, probe) << "a descriptor was lost";
        close(again);
    }
}

TEST_F(RegionInit, NoRegionNoSuccess)
{
    for (auto &init : Inits()) {
        EXPECT_EQ(init(NULL, "x", 4096), -EINVAL);
    }
}

TEST_F(RegionInit, WholeAddressSpacesAreFineButNotOfMemory)
{
    MemoryRegion mr;

    ASSERT_EQ(memory_region_init(&mr, "x", UINT64_MAX), 0);
    EXPECT_EQ(memory_region_size(&mr), UINT64_MAX);
    region_shim_fini(&mr);
    ASSERT_EQ(memory_region_init_io(&mr, &ops, "x", UINT64_MAX), 0);
    EXPECT_EQ(memory_region_size(&mr), UINT64_MAX);
    region_shim_fini(&mr);
    EXPECT_EQ(memory_region_init_ram(&mr, "x", UINT64_MAX), -EINVAL);
    EXPECT_EQ(memory_region_init_ram_ptr(&mr, "x", UINT64_MAX, memory), -EINVAL);
    EXPECT_EQ(memory_region_init_ram_ptr(&mr, "x", 1, NULL), -EINVAL);
    EXPECT_EQ(memory_region_init_rom_device(&mr, &ops, "x", UINT64_MAX), -EINVAL);
}

TEST_F(RegionInit, KindsAnswerToTheirNames)
{
    MemoryRegion mr;

    ASSERT_EQ(memory_region_init(&mr, "x", 16), 0);
    EXPECT_TRUE(memory_region_is_container(&mr));
    EXPECT_FALSE(memory_region_is_ram(&mr));
    region_shim_fini(&mr);

    ASSERT_EQ(memory_region_init_ram(&mr, "x", 16), 0);
    EXPECT_TRUE(memory_region_is_ram(&mr));
    EXPECT_FALSE(memory_region_is_rom(&mr));
    EXPECT_FALSE(memory_region_is_container(&mr));
    ((uint8_t *)memory_region_get_ram_ptr(&mr))[15] = 1;
    EXPECT_EQ(memory_region_get_fd(&mr), -1);
    region_shim_fini(&mr);

    ASSERT_EQ(memory_region_init_rom_ptr(&mr, "x", 16, memory), 0);
    EXPECT_TRUE(memory_region_is_ram(&mr));
    EXPECT_TRUE(memory_region_is_rom(&mr));
    EXPECT_TRUE(memory_region_is_readonly(&mr));
    EXPECT_EQ(memory_region_get_ram_ptr(&mr), memory);
    region_shim_fini(&mr);

    ASSERT_EQ(memory_region_init_rom_device(&mr, &ops, "x", 16), 0);
    EXPECT_FALSE(memory_region_is_ram(&mr));
    EXPECT_FALSE(memory_region_is_rom(&mr));
    EXPECT_TRUE(memory_region_is_rom_device(&mr));
    EXPECT_TRUE(memory_region_is_romd(&mr));
    EXPECT_NE(memory_region_get_ram_ptr(&mr), nullptr);
    region_shim_fini(&mr);

    ASSERT_EQ(memory_region_init_ram_device_ptr(&mr, "x", 16, memory), 0);
    EXPECT_TRUE(memory_region_is_ram(&mr));
    EXPECT_TRUE(memory_region_is_ram_device(&mr));
    region_shim_fini(&mr);

    ASSERT_EQ(memory_region_init_ram_memfd(&mr, "x", 16), 0);
    EXPECT_TRUE(memory_region_is_ram(&mr));
    EXPECT_GE(memory_region_get_fd(&mr), 0);
    region_shim_fini(&mr);

    ASSERT_EQ(memory_region_init_alias(&mr, "x", &target, 0x10, 16), 0);
    EXPECT_FALSE(memory_region_is_ram(&mr));
    EXPECT_FALSE(memory_region_is_container(&mr));
    EXPECT_EQ(memory_region_get_alias_target(&mr), &target);
    EXPECT_EQ(memory_region_get_alias_offset(&mr), 0x10u);
    EXPECT_EQ(memory_region_get_alias_target(&target), nullptr);
    region_shim_fini(&mr);
}

TEST_F(RegionInit, IncompleteOpsAreRefused)
{
    MemoryRegionOps bad = ops;
    MemoryRegion mr;

    bad.endianness = (MemoryEndianness)0;
    EXPECT_EQ(memory_region_init_io(&mr, &bad, "x", 16), -EINVAL);
    EXPECT_EQ(memory_region_init_rom_device(&mr, &bad, "x", 16), -EINVAL);
    EXPECT_EQ(memory_region_init_rom_device(&mr, NULL, "x", 16), -EINVAL);
    EXPECT_EQ(memory_region_init_io_legacy(&mr, NULL, "x", 16), -EINVAL);
    EXPECT_EQ(memory_region_init_io(&mr, NULL, "x", 16), 0) << "a reservation";
    region_shim_fini(&mr);
}

TEST_F(RegionInit, AnAliasNeedsALiveTarget)
{
    MemoryRegion mr, never = MemoryRegion(), dying;

    EXPECT_EQ(memory_region_init_alias(&mr, "x", NULL, 0, 16), -EINVAL);
    EXPECT_EQ(memory_region_init_alias(&mr, "x", &mr, 0, 16), -EINVAL);
    EXPECT_EQ(memory_region_init_alias(&mr, "x", &never, 0, 16), -EINVAL);
    ASSERT_EQ(memory_region_init(&dying, "dying", 16), 0);
    ASSERT_EQ(memory_transaction_begin(), 0);
    ASSERT_EQ(memory_region_destroy(&dying), 0);
    EXPECT_EQ(memory_region_init_alias(&mr, "x", &dying, 0, 16), -EINVAL);
    memory_transaction_abort();
    EXPECT_EQ(memory_region_init_alias(&mr, "x", &dying, 0, 16), 0) << "it was not destroyed after all";
    EXPECT_EQ(memory_region_destroy(&dying), -EBUSY);
    region_shim_fini(&mr);
    region_shim_fini(&dying);
}

TEST_F(RegionInit, AnAliasMayBeMadeInsideATransaction)
{
    MemoryRegion mr;

    ASSERT_EQ(memory_transaction_begin(), 0);
    EXPECT_EQ(memory_region_init_alias(&mr, "x", &target, 0, 16), 0);
    memory_transaction_abort();
    EXPECT_EQ(memory_region_get_alias_target(&mr), &target) << "making a region is no change of the map";
    EXPECT_EQ(memory_region_destroy(&target), -EBUSY);
    region_shim_fini(&mr);
}

/* ---- the end ---- */

int released;

void Release(MemoryRegion *mr)
{
    released++;
    free(mr);
}

TEST_F(RegionInit, DestroyedRegionsGiveEverythingBack)
{
    uint64_t live = region_shim_live_count();

    released = 0;
    int n = 0;
    for (auto &init : Inits()) {
        MemoryRegion *mr = (MemoryRegion *)malloc(sizeof(*mr));
        ASSERT_EQ(init(mr, "short-lived", 4096), 0);
        ASSERT_EQ(memory_region_set_release(mr, Release), 0);
        EXPECT_EQ(memory_region_destroy(mr), 0);
        n++;
    }
    for (int tries = 0; released < n && tries < 100; tries++) {
        ASSERT_EQ(memory_reclaim(), 0);
    }
    EXPECT_EQ(released, n);
    EXPECT_EQ(region_shim_live_count(), live);
}

/* ---- children ---- */

int Collect(MemoryRegion *child, void *arg)
{
    auto *found = (std::vector<MemoryRegion *> *)arg;
    found->push_back(child);
    return 0;
}

int StopAtOnce(MemoryRegion *, void *arg)
{
    ++*(int *)arg;
    return 7;
}

TEST_F(RegionInit, ChildrenComeTopmostFirst)
{
    MemoryRegion child[5];
    const int priority[5] = { 0, 1, -1, 0, 1 };
    std::vector<MemoryRegion *> found;
    int n = 0;

    EXPECT_EQ(memory_region_foreach_child(&target, Collect, &found), 0);
    EXPECT_TRUE(found.empty());
    for (int i = 0; i < 5; i++) {
        ASSERT_EQ(memory_region_init(&child[i], "child", 16), 0);
        ASSERT_EQ(memory_region_add_subregion_overlap(&target, (hwaddr)(i * 64), &child[i], priority[i]), 0);
    }
    EXPECT_EQ(memory_region_foreach_child(&target, Collect, &found), 0);
    EXPECT_EQ(found, (std::vector<MemoryRegion *>{ &child[4], &child[1], &child[3], &child[0], &child[2] }));
    EXPECT_EQ(memory_region_foreach_child(&target, StopAtOnce, &n), 7);
    EXPECT_EQ(n, 1);
    region_shim_fail_nth(1);
    EXPECT_EQ(memory_region_foreach_child(&target, StopAtOnce, &n), -ENOMEM);
    region_shim_fail_nth(0);
    EXPECT_EQ(n, 1);
    EXPECT_EQ(memory_region_foreach_child(NULL, StopAtOnce, &n), -EINVAL);
    for (MemoryRegion &mr : child) {
        ASSERT_EQ(memory_region_del_subregion(&target, &mr), 0);
        region_shim_fini(&mr);
    }
}

/* ---- asking while others change ---- */

void *Ask(void *arg)
{
    MemoryRegion *mr = (MemoryRegion *)arg;

    for (int i = 0; i < 2000; i++) {
        uint64_t size = memory_region_size(mr);
        EXPECT_TRUE(size == 0 || size == 0x10 || size == 0x100) << size;
        hwaddr addr = memory_region_get_addr(mr);
        EXPECT_TRUE(addr == 0 || addr == 0x200) << addr;
        (void)memory_region_is_enabled(mr);
        (void)memory_region_is_mapped(mr);
        (void)memory_region_is_readonly(mr);
        (void)memory_region_is_nonvolatile(mr);
        (void)memory_region_get_parent(mr);
        (void)memory_region_get_priority(mr);
        (void)memory_region_get_dirty_log_mask(mr);
    }
    return NULL;
}

TEST_F(RegionInit, AnswersMayBeHadWhileOthersChange)
{
    MemoryRegion mr;
    pthread_t thread;

    ASSERT_EQ(memory_region_init_ram(&mr, "x", 0x100), 0);
    ASSERT_EQ(pthread_create(&thread, NULL, Ask, &mr), 0);
    for (int i = 0; i < 200; i++) {
        EXPECT_EQ(memory_region_add_subregion_overlap(&target, i % 2 ? 0x200 : 0, &mr, i), 0);
        EXPECT_EQ(memory_region_set_size(&mr, 0), 0);
        EXPECT_EQ(memory_region_set_size(&mr, 0x100), 0);
        EXPECT_EQ(memory_region_set_size(&mr, 0x10), 0);
        EXPECT_EQ(memory_region_set_enabled(&mr, i % 2), 0);
        EXPECT_EQ(memory_region_set_readonly(&mr, i % 2), 0);
        EXPECT_EQ(memory_region_set_nonvolatile(&mr, i % 2), 0);
        EXPECT_EQ(memory_region_set_log(&mr, i % 2 == 0, DIRTY_MEMORY_VGA), 0);
        EXPECT_EQ(memory_region_set_address(&mr, i % 2 ? 0 : 0x200), 0);
        EXPECT_EQ(memory_region_del_subregion(&target, &mr), 0);
    }
    pthread_join(thread, NULL);
    region_shim_fini(&mr);
}

} // namespace
