/* SPDX-License-Identifier: MIT */
/*
 * hooks_test.cc - hooks: in force when the commit returns, known to every later access, and never a reason to render.
 */
#include <gtest/gtest.h>

#include <flatview/memory.h>

#include "shim/hooks_shim.h"

namespace {

int reads;

uint64_t count_read(MemoryRegion *, hwaddr, unsigned)
{
    return ++reads;
}

void ignore_write(MemoryRegion *, hwaddr, uint64_t, unsigned)
{
}

MemoryRegionOps byte_ops()
{
    MemoryRegionOps ops = {};

    ops.read = count_read;
    ops.write = ignore_write;
    ops.endianness = MEMORY_LITTLE_ENDIAN;
    ops.valid.min_access_size = ops.impl.min_access_size = 1;
    ops.valid.max_access_size = ops.impl.max_access_size = 4;
    return ops;
}

const MemoryRegionOps ops = byte_ops();

class Hooks : public testing::Test {
protected:
    void SetUp() override
    {
        ASSERT_EQ(memory_region_init(&root, "root", 0x10000), 0);
        ASSERT_EQ(memory_region_init_ram(&ram, "ram", 0x4000), 0);
        ASSERT_EQ(memory_region_init_io(&dev, &ops, "dev", 0x1000), 0);
        ASSERT_EQ(memory_region_init_alias(&alias, "alias", &dev, 0, 0x1000), 0);
        ASSERT_EQ(memory_region_init(&other_root, "other", 0x10000), 0);
        ASSERT_EQ(memory_region_add_subregion(&root, 0, &ram), 0);
        ASSERT_EQ(memory_region_add_subregion(&root, 0x8000, &dev), 0);
        ASSERT_EQ(memory_region_add_subregion(&other_root, 0x2000, &alias), 0);
        ASSERT_EQ(address_space_init(&as, &root, "as"), 0);
        ASSERT_EQ(address_space_init(&other, &other_root, "other"), 0);
    }

    void TearDown() override
    {
        EXPECT_EQ(address_space_destroy(&as, nullptr), 0);
        EXPECT_EQ(address_space_destroy(&other, nullptr), 0);
        EXPECT_EQ(memory_region_del_subregion(&root, &ram), 0);
        EXPECT_EQ(memory_region_del_subregion(&root, &dev), 0);
        EXPECT_EQ(memory_region_del_subregion(&other_root, &alias), 0);
        for (MemoryRegion *mr : {&alias, &dev, &ram, &root, &other_root}) {
            EXPECT_EQ(memory_region_destroy(mr), 0);
            EXPECT_EQ(memory_region_quiesce(mr), 0);
        }
        EXPECT_EQ(shim_hooks_regions(), 0u) << "a region's end is the end of its hooks";
    }

    uint64_t generation(AddressSpace *space)
    {
        FlatView *view = address_space_get_flatview(space);
        uint64_t gen = flatview_generation(view);

        flatview_unref(view);
        return gen;
    }

    int change(MemoryRegion *mr, uint32_t set, uint32_t clear)
    {
        int err = memory_transaction_begin();

        if (!err) {
            err = shim_hooks_change(mr, set, clear);
            EXPECT_EQ(memory_transaction_commit(), 0);
        }
        return err;
    }

    MemoryRegion root, ram, dev, alias, other_root;
    AddressSpace as, other;
};

TEST_F(Hooks, GiveEveryCellThatShowsTheRegionANewGenerationOfTheSameTree)
{
    uint64_t gen = generation(&as), other_gen = generation(&other);
    const void *tree = shim_hooks_view_root(&as), *other_tree = shim_hooks_view_root(&other);

    ASSERT_EQ(change(&dev, SHIM_HOOK_EVENTFD, 0), 0);
    EXPECT_GT(generation(&as), gen);
    EXPECT_GT(generation(&other), other_gen) << "it is seen there through an alias";
    EXPECT_EQ(shim_hooks_view_root(&as), tree) << "nothing was rendered";
    EXPECT_EQ(shim_hooks_view_root(&other), other_tree);
    EXPECT_EQ(shim_hooks_in_force(&dev), SHIM_HOOK_EVENTFD);

    other_gen = generation(&other);
    ASSERT_EQ(change(&ram, SHIM_HOOK_LOG, 0), 0);
    EXPECT_EQ(generation(&other), other_gen) << "does not show the memory";
}

TEST_F(Hooks, ASecondOfTheSameKindAndTheEndOfOneCostNoGeneration)
{
    ASSERT_EQ(change(&dev, SHIM_HOOK_EVENTFD, 0), 0);
    uint64_t gen = generation(&as);

    ASSERT_EQ(change(&dev, SHIM_HOOK_EVENTFD, 0), 0);
    EXPECT_EQ(generation(&as), gen);
    ASSERT_EQ(change(&dev, 0, SHIM_HOOK_EVENTFD), 0);
    EXPECT_EQ(generation(&as), gen);
    EXPECT_EQ(shim_hooks_in_force(&dev), 0u);
}

TEST_F(Hooks, OneThatWasInForceStaysInForceThroughAnAbort)
{
    ASSERT_EQ(change(&dev, SHIM_HOOK_EVENTFD, 0), 0);
    ASSERT_EQ(memory_transaction_begin(), 0);
    ASSERT_EQ(shim_hooks_change(&dev, 0, SHIM_HOOK_EVENTFD), 0);
    EXPECT_EQ(shim_hooks_in_force(&dev), SHIM_HOOK_EVENTFD) << "others fill their caches meanwhile";
    ASSERT_EQ(shim_hooks_change(&dev, SHIM_HOOK_LOG, 0), 0);
    EXPECT_EQ(shim_hooks_in_force(&dev), SHIM_HOOK_EVENTFD | SHIM_HOOK_LOG);
    memory_transaction_abort();
    EXPECT_EQ(shim_hooks_in_force(&dev), SHIM_HOOK_EVENTFD);
}

TEST_F(Hooks, ANestedAbortTakesItsOwnBackAndTheRestCommits)
{
    ASSERT_EQ(memory_transaction_begin(), 0);
    ASSERT_EQ(shim_hooks_change(&dev, SHIM_HOOK_EVENTFD, 0), 0);
    ASSERT_EQ(memory_transaction_begin(), 0);
    ASSERT_EQ(shim_hooks_change(&dev, SHIM_HOOK_LOG, SHIM_HOOK_EVENTFD), 0);
    memory_transaction_abort();
    ASSERT_EQ(memory_transaction_commit(), 0);
    EXPECT_EQ(shim_hooks_in_force(&dev), SHIM_HOOK_EVENTFD);
}

TEST_F(Hooks, WhatNobodyShowsIsHookedForFree)
{
    MemoryRegion loose;

    ASSERT_EQ(memory_region_init_io(&loose, &ops, "loose", 0x100), 0);
    uint64_t gen = generation(&as);

    ASSERT_EQ(change(&loose, SHIM_HOOK_EVENTFD, 0), 0);
    EXPECT_EQ(generation(&as), gen);
    EXPECT_EQ(shim_hooks_in_force(&loose), SHIM_HOOK_EVENTFD);
    ASSERT_EQ(memory_region_destroy(&loose), 0);
    ASSERT_EQ(memory_region_quiesce(&loose), 0);
}

TEST_F(Hooks, AHookedDeviceStillAnswers)
{
    uint8_t value = 0;

    ASSERT_EQ(address_space_ldub(&as, 0x8000, MEMTXATTRS_UNSPECIFIED, &value), MEMTX_OK);
    ASSERT_EQ(change(&dev, SHIM_HOOK_EVENTFD, 0), 0);
    int before = reads;

    ASSERT_EQ(address_space_ldub(&as, 0x8000, MEMTXATTRS_UNSPECIFIED, &value), MEMTX_OK);
    EXPECT_EQ(reads, before + 1);
    EXPECT_EQ(address_space_stb(&as, 0x8000, MEMTXATTRS_UNSPECIFIED, 1), MEMTX_OK);
}

}
