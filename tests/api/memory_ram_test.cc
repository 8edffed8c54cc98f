/* SPDX-License-Identifier: MIT */
/*
 * RAM that grows and shrinks: what shows, what is dirty, who is told, what an abort takes back.
 */
#include <gtest/gtest.h>

#include <cerrno>
#include <vector>

#include "api/machine.h"

namespace {

constexpr hwaddr Base = 0x100000, Page = 4096, Max = 64 * Page;

std::vector<uint64_t> told;
MemoryRegion *container;
int from_callback;

void resized(MemoryRegion *mr, uint64_t size)
{
    told.push_back(size);
    from_callback = memory_region_set_enabled(container, false);
    EXPECT_EQ(size, memory_region_size(mr));
}

class Resizeable : public Machine {
protected:
    void SetUp() override
    {
        Machine::SetUp();
        told.clear();
        container = &root;
        ASSERT_EQ(0, memory_region_init_resizeable_ram(&ram, "ram", 4 * Page, Max, resized));
        ASSERT_EQ(0, memory_region_add_subregion(&root, Base, &ram));
        ASSERT_EQ(0, memory_region_set_log(&ram, true, DIRTY_MEMORY_MIGRATION));
        ASSERT_EQ(0, memory_dirty_log_wait());
        ASSERT_EQ(4 * Page, Dirty());
        ASSERT_EQ(0u, Dirty());
    }
    void TearDown() override
    {
        ASSERT_EQ(0, memory_region_del_subregion(&root, &ram));
        ASSERT_EQ(0, memory_region_destroy(&ram));
        ASSERT_EQ(0, memory_region_quiesce(&ram));
        Machine::TearDown();
    }
    /* Bytes that were, first of them in first. */
    uint64_t Dirty(hwaddr *first = nullptr)
    {
        DirtyBitmapSnapshot *s;
        uint64_t size, bytes = 0;
        hwaddr addr = 0;

        EXPECT_EQ(0, memory_region_snapshot_and_clear_dirty(&ram, 0, memory_region_size(&ram), DIRTY_MEMORY_MIGRATION, &s));
        for (; memory_region_snapshot_next_dirty(s, addr, &addr, &size); addr += size) {
            if (!bytes && first) {
                *first = addr;
            }
            bytes += size;
        }
        memory_region_snapshot_free(s);
        return bytes;
    }
    MemTxResult Store(hwaddr offset)
    {
        return address_space_stl_le(&as, Base + offset, MEMTXATTRS_UNSPECIFIED, 0x12345678);
    }

    MemoryRegion ram;
};

TEST_F(Resizeable, GrowsInPlaceAndWhatAppearsIsDirty)
{
    void *host = memory_region_get_ram_ptr(&ram);
    hwaddr first = 0;

    EXPECT_EQ(Max, memory_region_ram_max_size(&ram));
    EXPECT_EQ(MEMTX_DECODE_ERROR, Store(4 * Page));
    ASSERT_EQ(0, memory_region_ram_resize(&ram, 10 * Page + 100));
    EXPECT_EQ(std::vector<uint64_t>{10 * Page + 100}, told);
    EXPECT_EQ(-EBUSY, from_callback);
    EXPECT_EQ(host, memory_region_get_ram_ptr(&ram));
    EXPECT_EQ(6 * Page + 100, Dirty(&first));
    EXPECT_EQ(4 * Page, first);
    EXPECT_EQ(MEMTX_OK, Store(10 * Page));
    EXPECT_EQ(100u, Dirty());
    EXPECT_EQ(-EINVAL, memory_region_set_dirty(&ram, 10 * Page + 100, 1)) << "beyond its size";
}

TEST_F(Resizeable, WhatIsCutOffIsNotDirtyAndKeepsItsContent)
{
    uint32_t value = 0;

    ASSERT_EQ(MEMTX_OK, Store(0));
    ASSERT_EQ(MEMTX_OK, Store(3 * Page));
    ASSERT_EQ(0, memory_region_ram_resize(&ram, 2 * Page));
    EXPECT_EQ(MEMTX_DECODE_ERROR, Store(3 * Page));
    EXPECT_EQ(Page, Dirty());
    ASSERT_EQ(0, memory_region_ram_resize(&ram, 4 * Page));
    EXPECT_EQ(2 * Page, Dirty()) << "it has appeared";
    EXPECT_EQ(MEMTX_OK, address_space_ldl_le(&as, Base + 3 * Page, MEMTXATTRS_UNSPECIFIED, &value));
    EXPECT_EQ(0x12345678u, value);
    EXPECT_EQ((std::vector<uint64_t>{2 * Page, 4 * Page}), told);
}

TEST_F(Resizeable, AnAbortLeavesSizeAndBits)
{
    ASSERT_EQ(MEMTX_OK, Store(3 * Page));
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_ram_resize(&ram, Page));
    ASSERT_EQ(0, memory_region_ram_resize(&ram, 8 * Page));
    ASSERT_EQ(0, memory_region_ram_resize(&ram, 0));
    memory_transaction_abort();
    EXPECT_EQ(4 * Page, memory_region_size(&ram));
    EXPECT_TRUE(told.empty());
    EXPECT_EQ(Page, Dirty());
    EXPECT_EQ(MEMTX_OK, Store(3 * Page));
}

TEST_F(Resizeable, SeveralInOneTransactionAreToldOnce)
{
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_ram_resize(&ram, Page));
    ASSERT_EQ(0, memory_region_ram_resize(&ram, 8 * Page));
    ASSERT_EQ(0, memory_transaction_commit());
    EXPECT_EQ(std::vector<uint64_t>{8 * Page}, told);
    EXPECT_EQ(7 * Page, Dirty()) << "three of them were away in between, which nobody can tell from new";
    ASSERT_EQ(0, memory_region_ram_resize(&ram, 8 * Page));
    EXPECT_EQ(1u, told.size()) << "nothing to tell";
}

TEST_F(Resizeable, ToNothingAndBack)
{
    ASSERT_EQ(0, memory_region_ram_resize(&ram, 0));
    EXPECT_EQ(MEMTX_DECODE_ERROR, Store(0));
    ASSERT_EQ(0, memory_region_ram_resize(&ram, Max));
    EXPECT_EQ(MEMTX_OK, Store(Max - 4));
    EXPECT_EQ(Max, Dirty());
}

TEST_F(Resizeable, ARegionNeverShowsMoreThanItsRam)
{
    EXPECT_EQ(-EINVAL, memory_region_set_size(&ram, 5 * Page));
    EXPECT_EQ(0, memory_region_set_size(&ram, Page));
    EXPECT_EQ(0, memory_region_set_size(&ram, 4 * Page));
    EXPECT_TRUE(told.empty());
    EXPECT_EQ(0u, Dirty());
}

TEST_F(Resizeable, BadRequestsAreRefused)
{
    MemoryRegion other;

    EXPECT_EQ(-EINVAL, memory_region_ram_resize(&ram, Max + 1));
    EXPECT_EQ(-EINVAL, memory_region_ram_resize(&dev[0].mr, 1));
    EXPECT_EQ(-EINVAL, memory_region_ram_resize(nullptr, 1));
    EXPECT_EQ(-EINVAL, memory_region_init_resizeable_ram(&other, "x", 2, 1, nullptr));
    EXPECT_EQ(-EINVAL, memory_region_init_resizeable_ram(&other, "x", 0, 0, nullptr));
    EXPECT_EQ(-EINVAL, memory_region_init_resizeable_ram(nullptr, "x", 0, 1, nullptr));
    EXPECT_EQ(-EINVAL, memory_region_init_resizeable_ram(&other, "x", 0, UINT64_MAX, nullptr));
    ASSERT_EQ(0, memory_region_init_ram(&other, "fixed", Page));
    EXPECT_EQ(-EINVAL, memory_region_ram_resize(&other, Page));
    EXPECT_EQ(Page, memory_region_ram_max_size(&other));
    EXPECT_EQ(0u, memory_region_ram_max_size(&root));
    EXPECT_EQ(0, memory_region_destroy(&other));
    EXPECT_EQ(0, memory_region_quiesce(&other));
}

} // namespace
