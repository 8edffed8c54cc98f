/* SPDX-License-Identifier: MIT */
/*
 * The dirty log as a user sees it: who marks, who collects, what is counted, what is refused.
 */
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "api/machine.h"

namespace {

constexpr hwaddr Base = 0x100000, Page = 4096, Pages = 100, Size = Pages * Page;

struct SnapshotFree {
    void operator()(DirtyBitmapSnapshot *s) const { memory_region_snapshot_free(s); }
};
using Snapshot = std::unique_ptr<DirtyBitmapSnapshot, SnapshotFree>;

Snapshot collect(MemoryRegion *mr, unsigned client, hwaddr addr = 0, uint64_t size = 0)
{
    DirtyBitmapSnapshot *s = nullptr;
    EXPECT_EQ(0, memory_region_snapshot_and_clear_dirty(mr, addr, size ? size : memory_region_size(mr), client, &s));
    return Snapshot(s);
}

/* "first+size first+size", in hex. */
std::string runs(const Snapshot &s)
{
    std::ostringstream out;
    hwaddr addr = 0;
    uint64_t size;

    for (; memory_region_snapshot_next_dirty(s.get(), addr, &addr, &size); addr += size) {
        out << (out.tellp() ? " " : "") << std::hex << addr << "+" << size;
    }
    return out.str();
}

std::string dirty(MemoryRegion *mr, unsigned client)
{
    return runs(collect(mr, client));
}

class Dirty : public Machine {
protected:
    void SetUp() override
    {
        Machine::SetUp();
        ASSERT_EQ(0, memory_region_init_ram(&ram, "ram", Size));
        ASSERT_EQ(0, memory_region_add_subregion(&root, Base, &ram));
        host = static_cast<uint8_t *>(memory_region_get_ram_ptr(&ram));
    }
    void TearDown() override
    {
        if (memory_region_get_parent(&ram)) {
            EXPECT_EQ(0, memory_region_del_subregion(&root, &ram));
        }
        EXPECT_EQ(0, memory_region_destroy(&ram));
        EXPECT_EQ(0, memory_region_quiesce(&ram));
        Machine::TearDown();
    }
    /* On, and what is dirty from the beginning taken away. */
    void Begin(unsigned client)
    {
        ASSERT_EQ(0, memory_region_set_log(&ram, true, client));
        ASSERT_EQ(0, memory_dirty_log_wait());
        EXPECT_EQ("0+64000", dirty(&ram, client)) << "nobody has seen any of it";
        EXPECT_EQ("", dirty(&ram, client));
    }
    void Store(hwaddr offset, uint32_t value = 1)
    {
        ASSERT_EQ(MEMTX_OK, address_space_stl_le(&as, Base + offset, MEMTXATTRS_UNSPECIFIED, value));
    }

    MemoryRegion ram;
    uint8_t *host;
};

TEST_F(Dirty, StoresOfEveryKindAreMarkedWhereTheyWent)
{
    std::vector<uint8_t> buf(3 * Page, 7);

    Store(0); /* the thread remembers the range from before the log was on */
    Begin(DIRTY_MEMORY_MIGRATION);
    Store(5 * Page);
    EXPECT_EQ("5000+1000", dirty(&ram, DIRTY_MEMORY_MIGRATION));
    EXPECT_EQ(MEMTX_OK, address_space_stb(&as, Base + 64 * Page - 1, MEMTXATTRS_UNSPECIFIED, 1));
    EXPECT_EQ("3f000+1000", dirty(&ram, DIRTY_MEMORY_MIGRATION));
    EXPECT_EQ(MEMTX_OK, address_space_stq_be(&as, Base + 64 * Page - 4, MEMTXATTRS_UNSPECIFIED, 1)) << "over a boundary";
    EXPECT_EQ("3f000+2000", dirty(&ram, DIRTY_MEMORY_MIGRATION));
    EXPECT_EQ(MEMTX_OK, address_space_write(&as, Base + 10 * Page + 1, MEMTXATTRS_UNSPECIFIED, buf.data(), buf.size()));
    EXPECT_EQ("a000+4000", dirty(&ram, DIRTY_MEMORY_MIGRATION));
    EXPECT_EQ(MEMTX_OK, address_space_write(&as, Base + 2 * Page, MEMTXATTRS_UNSPECIFIED, buf.data(), Page));
    EXPECT_EQ("2000+1000", dirty(&ram, DIRTY_MEMORY_MIGRATION));
    EXPECT_EQ(0, memory_region_set_dirty(&ram, 7 * Page + 5, Page));
    EXPECT_EQ("7000+2000", dirty(&ram, DIRTY_MEMORY_MIGRATION));
    EXPECT_EQ("", dirty(&ram, DIRTY_MEMORY_MIGRATION));
}

TEST_F(Dirty, LoadsAndFailedStoresMarkNothing)
{
    uint32_t value;

    Begin(DIRTY_MEMORY_VGA);
    EXPECT_EQ(MEMTX_OK, address_space_ldl_le(&as, Base, MEMTXATTRS_UNSPECIFIED, &value));
    EXPECT_EQ(0, memory_region_set_readonly(&ram, true));
    EXPECT_NE(MEMTX_OK, address_space_stl_le(&as, Base, MEMTXATTRS_UNSPECIFIED, 1));
    EXPECT_EQ("", dirty(&ram, DIRTY_MEMORY_VGA));
}

TEST_F(Dirty, EachClientHasItsOwnBits)
{
    Begin(DIRTY_MEMORY_VGA);
    Begin(DIRTY_MEMORY_MIGRATION);
    Store(Page);
    EXPECT_EQ("1000+1000", dirty(&ram, DIRTY_MEMORY_VGA));
    Store(3 * Page);
    EXPECT_EQ("3000+1000", dirty(&ram, DIRTY_MEMORY_VGA));
    EXPECT_EQ("1000+1000 3000+1000", dirty(&ram, DIRTY_MEMORY_MIGRATION));
    EXPECT_EQ(5, memory_region_get_dirty_log_mask(&ram));
    DirtyBitmapSnapshot *s;
    EXPECT_EQ(-EINVAL, memory_region_snapshot_dirty(&ram, 0, Size, DIRTY_MEMORY_CODE, &s)) << "never in force";
}

TEST_F(Dirty, GranuleIsOfTheClient)
{
    EXPECT_EQ(4096u, memory_region_get_dirty_granule(&ram, DIRTY_MEMORY_VGA));
    EXPECT_EQ(0, memory_region_set_dirty_granule(&ram, DIRTY_MEMORY_VGA, 64));
    EXPECT_EQ(0, memory_region_set_dirty_granule(&ram, DIRTY_MEMORY_CODE, 1 << 16));
    Begin(DIRTY_MEMORY_VGA);
    Begin(DIRTY_MEMORY_CODE);
    Store(0x1040);
    Store(0x6003c);
    EXPECT_EQ("1040+40 60000+40", dirty(&ram, DIRTY_MEMORY_VGA));
    EXPECT_EQ("0+10000 60000+4000", dirty(&ram, DIRTY_MEMORY_CODE)) << "the last one is cut short";
    EXPECT_EQ(-EBUSY, memory_region_set_dirty_granule(&ram, DIRTY_MEMORY_VGA, 128));
    EXPECT_EQ(0, memory_region_set_log(&ram, false, DIRTY_MEMORY_VGA));
    EXPECT_EQ(0, memory_region_set_dirty_granule(&ram, DIRTY_MEMORY_VGA, 1 << 13));
    Begin(DIRTY_MEMORY_VGA);
    Store(0x1040);
    EXPECT_EQ("0+2000", dirty(&ram, DIRTY_MEMORY_VGA));
    for (uint64_t bad : {UINT64_C(0), UINT64_C(1), UINT64_C(32), UINT64_C(4097), UINT64_C(3) << 12, UINT64_C(1) << 31}) {
        EXPECT_EQ(-EINVAL, memory_region_set_dirty_granule(&ram, DIRTY_MEMORY_CODE, bad));
    }
    EXPECT_EQ(0u, memory_region_get_dirty_granule(&dev[0].mr, DIRTY_MEMORY_VGA));
}

TEST_F(Dirty, UsersAreCounted)
{
    Begin(DIRTY_MEMORY_VGA);
    EXPECT_EQ(0, memory_region_set_log(&ram, true, DIRTY_MEMORY_VGA));
    EXPECT_EQ("", dirty(&ram, DIRTY_MEMORY_VGA)) << "a second user begins with what the first has";
    EXPECT_EQ(0, memory_region_set_log(&ram, false, DIRTY_MEMORY_VGA));
    EXPECT_TRUE(memory_region_is_logging(&ram, DIRTY_MEMORY_VGA));
    Store(0);
    EXPECT_EQ("0+1000", dirty(&ram, DIRTY_MEMORY_VGA));
    EXPECT_EQ(0, memory_region_set_log(&ram, false, DIRTY_MEMORY_VGA));
    EXPECT_FALSE(memory_region_is_logging(&ram, DIRTY_MEMORY_VGA));
    EXPECT_EQ(-EINVAL, memory_region_set_log(&ram, false, DIRTY_MEMORY_VGA));
    Store(0);
    EXPECT_EQ("", dirty(&ram, DIRTY_MEMORY_VGA)) << "nobody asked any more";
    Begin(DIRTY_MEMORY_VGA);
}

TEST_F(Dirty, WhatWasMarkedBeforeTheEndCanStillBeCollected)
{
    Begin(DIRTY_MEMORY_VGA);
    Store(Page);
    EXPECT_EQ(0, memory_region_set_log(&ram, false, DIRTY_MEMORY_VGA));
    EXPECT_EQ("1000+1000", dirty(&ram, DIRTY_MEMORY_VGA));
}

TEST_F(Dirty, TheLogFollowsTheRegionAndNotTheAddress)
{
    MemoryRegion alias;

    ASSERT_EQ(0, memory_region_init_alias(&alias, "alias", &ram, 8 * Page, 8 * Page));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x4000000, &alias));
    Begin(DIRTY_MEMORY_MIGRATION);
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x4000000 + Page, MEMTXATTRS_UNSPECIFIED, 1));
    Store(2 * Page);
    ASSERT_EQ(0, memory_region_set_address(&ram, 2 * Base));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 2 * Base + 4 * Page, MEMTXATTRS_UNSPECIFIED, 1));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &ram));
    EXPECT_TRUE(memory_region_is_logging(&ram, DIRTY_MEMORY_MIGRATION)) << "the mask survives";
    EXPECT_EQ("2000+1000 4000+1000 9000+1000", dirty(&ram, DIRTY_MEMORY_MIGRATION));
    ASSERT_EQ(0, memory_region_add_subregion(&root, Base, &ram));
    Store(0);
    EXPECT_EQ("0+1000", dirty(&ram, DIRTY_MEMORY_MIGRATION));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &alias));
    ASSERT_EQ(0, memory_region_destroy(&alias));
    ASSERT_EQ(0, memory_region_quiesce(&alias));
}

TEST_F(Dirty, TogglingRendersNothing)
{
    std::string text = text_of(&as);
    FlatView *before = address_space_get_flatview(&as), *after;

    ASSERT_EQ(0, memory_region_set_log(&ram, true, DIRTY_MEMORY_VGA));
    after = address_space_get_flatview(&as);
    EXPECT_EQ(text, text_of(&as));
    EXPECT_EQ(0, flatview_diff(before, after,
                               [](const MemoryRegionSection *, const MemoryRegionSection *, void *) { return 1; }, nullptr));
    flatview_unref(before);
    flatview_unref(after);
}

TEST_F(Dirty, AnAbortTakesItBack)
{
    Begin(DIRTY_MEMORY_VGA);
    ASSERT_EQ(0, memory_transaction_begin());
    EXPECT_EQ(0, memory_region_set_log(&ram, false, DIRTY_MEMORY_VGA));
    EXPECT_EQ(0, memory_region_set_log(&ram, true, DIRTY_MEMORY_CODE));
    EXPECT_EQ(0, memory_region_set_dirty_granule(&ram, DIRTY_MEMORY_MIGRATION, 64));
    EXPECT_EQ(2, memory_region_get_dirty_log_mask(&ram));
    Store(Page); /* still marked: it may all be taken back */
    ASSERT_EQ(0, memory_transaction_begin());
    EXPECT_EQ(0, memory_region_set_log(&ram, true, DIRTY_MEMORY_VGA));
    memory_transaction_abort();
    Store(3 * Page);
    memory_transaction_abort();
    EXPECT_EQ(1, memory_region_get_dirty_log_mask(&ram));
    EXPECT_EQ(4096u, memory_region_get_dirty_granule(&ram, DIRTY_MEMORY_MIGRATION));
    Store(5 * Page);
    EXPECT_EQ("1000+1000 3000+1000 5000+1000", dirty(&ram, DIRTY_MEMORY_VGA));
    DirtyBitmapSnapshot *s;
    EXPECT_EQ(-EINVAL, memory_region_snapshot_dirty(&ram, 0, Size, DIRTY_MEMORY_CODE, &s));
}

TEST_F(Dirty, OffAndOnInOneTransactionLosesNothing)
{
    Begin(DIRTY_MEMORY_VGA);
    Store(Page);
    ASSERT_EQ(0, memory_transaction_begin());
    EXPECT_EQ(0, memory_region_set_log(&ram, false, DIRTY_MEMORY_VGA));
    Store(2 * Page);
    EXPECT_EQ(0, memory_region_set_log(&ram, true, DIRTY_MEMORY_VGA));
    Store(3 * Page);
    ASSERT_EQ(0, memory_transaction_commit());
    EXPECT_EQ("1000+3000", dirty(&ram, DIRTY_MEMORY_VGA));
}

/* A store that began before the log was on, and is not over when the first collect is. */
TEST_F(Dirty, UntilEarlierStoresAreOverEverythingStaysDirty)
{
    std::atomic<int> stage{0};
    std::thread reader([&] {
        memory_read_begin();
        stage = 1;
        while (stage != 2) {
            std::this_thread::yield();
        }
        host[9 * Page] = 1; /* as dispatch would, having found no hook when it looked */
        memory_read_end();
    });
    while (stage != 1) {
        std::this_thread::yield();
    }
    ASSERT_EQ(0, memory_region_set_log(&ram, true, DIRTY_MEMORY_MIGRATION));
    EXPECT_EQ("0+64000", dirty(&ram, DIRTY_MEMORY_MIGRATION));
    EXPECT_EQ(0, memory_region_reset_dirty(&ram, 0, Size, DIRTY_MEMORY_MIGRATION));
    EXPECT_EQ("0+64000", dirty(&ram, DIRTY_MEMORY_MIGRATION)) << "reported, and not cleared";
    stage = 2;
    reader.join();
    EXPECT_EQ(0, memory_dirty_log_wait());
    EXPECT_EQ("0+64000", dirty(&ram, DIRTY_MEMORY_MIGRATION)) << "among it the page of that store";
    EXPECT_EQ("", dirty(&ram, DIRTY_MEMORY_MIGRATION));
}

TEST_F(Dirty, ItSettlesWithoutAnybodyWaiting)
{
    ASSERT_EQ(0, memory_region_set_log(&ram, true, DIRTY_MEMORY_MIGRATION));
    for (int i = 0; i < 10000 && dirty(&ram, DIRTY_MEMORY_MIGRATION) != ""; i++) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_EQ("", dirty(&ram, DIRTY_MEMORY_MIGRATION));
}

TEST_F(Dirty, WaitingIsRefusedWhereItWouldWaitForItself)
{
    memory_read_begin();
    EXPECT_EQ(-EDEADLK, memory_dirty_log_wait());
    memory_read_end();
    ASSERT_EQ(0, memory_transaction_begin());
    EXPECT_EQ(-EDEADLK, memory_dirty_log_wait());
    memory_transaction_abort();
    EXPECT_EQ(0, memory_dirty_log_wait());
}

TEST_F(Dirty, ACollectOfAPartLeavesTheRest)
{
    Begin(DIRTY_MEMORY_VGA);
    EXPECT_EQ(0, memory_region_set_dirty(&ram, 0, Size));
    Snapshot s = collect(&ram, DIRTY_MEMORY_VGA, 3 * Page + 100, 2 * Page);
    EXPECT_EQ("3000+3000", runs(s)) << "all that is clean now, though less was asked for";
    EXPECT_TRUE(memory_region_snapshot_get_dirty(s.get(), 3 * Page + 100, 1));
    EXPECT_TRUE(memory_region_snapshot_get_dirty(s.get(), 0, 4 * Page));
    EXPECT_FALSE(memory_region_snapshot_get_dirty(s.get(), 0, 3 * Page)) << "not asked for";
    EXPECT_FALSE(memory_region_snapshot_get_dirty(s.get(), 6 * Page, Size));
    EXPECT_FALSE(memory_region_snapshot_get_dirty(s.get(), 4 * Page, 0));
    EXPECT_EQ("0+3000 6000+5e000", dirty(&ram, DIRTY_MEMORY_VGA)) << "whole granules are clean";
}

TEST_F(Dirty, AStoreBesideTheBytesThatWereAskedForIsNotLost)
{
    Begin(DIRTY_MEMORY_VGA);
    Store(0x10);
    Snapshot s = collect(&ram, DIRTY_MEMORY_VGA, 0x800, 0x800);
    EXPECT_EQ("0+1000", runs(s)) << "its granule was cleared with them";
    EXPECT_TRUE(memory_region_snapshot_get_dirty(s.get(), 0x10, 4));
    EXPECT_EQ("", dirty(&ram, DIRTY_MEMORY_VGA));
}

TEST_F(Dirty, LookingAndResetting)
{
    DirtyBitmapSnapshot *s;

    Begin(DIRTY_MEMORY_VGA);
    EXPECT_FALSE(memory_region_get_dirty(&ram, 0, Size, DIRTY_MEMORY_VGA));
    EXPECT_EQ(0, memory_region_set_dirty(&ram, 2 * Page, 6 * Page));
    EXPECT_TRUE(memory_region_get_dirty(&ram, 7 * Page + 1, 1, DIRTY_MEMORY_VGA));
    EXPECT_FALSE(memory_region_get_dirty(&ram, 8 * Page, Size - 8 * Page, DIRTY_MEMORY_VGA));
    ASSERT_EQ(0, memory_region_snapshot_dirty(&ram, 0, Size, DIRTY_MEMORY_VGA, &s));
    EXPECT_EQ("2000+6000", runs(Snapshot(s)));
    EXPECT_EQ(0, memory_region_reset_dirty(&ram, 3 * Page - 1, 2 * Page, DIRTY_MEMORY_VGA)) << "one whole page";
    EXPECT_EQ("2000+1000 4000+4000", dirty(&ram, DIRTY_MEMORY_VGA));
    EXPECT_EQ(0, memory_region_set_dirty(&ram, 99 * Page, Page));
    EXPECT_EQ(0, memory_region_reset_dirty(&ram, 99 * Page, Page, DIRTY_MEMORY_VGA));
    EXPECT_EQ("", dirty(&ram, DIRTY_MEMORY_VGA));
}

TEST_F(Dirty, ForeignBitmapsOfAnyPageAndAlignment)
{
    const uint64_t odd[2] = {UINT64_C(1) << 63 | 5, 1}; /* pages 0, 2, 63, 64 */
    EXPECT_EQ(0, memory_region_set_dirty_granule(&ram, DIRTY_MEMORY_CODE, 64));
    EXPECT_EQ(0, memory_region_set_dirty_granule(&ram, DIRTY_MEMORY_VGA, 1 << 14));
    Begin(DIRTY_MEMORY_MIGRATION);
    Begin(DIRTY_MEMORY_CODE);
    Begin(DIRTY_MEMORY_VGA);
    EXPECT_EQ(0, memory_region_merge_dirty(&ram, 0, ~0u, 4096, odd, 0, 65));
    EXPECT_EQ("0+1000 2000+1000 3f000+2000", dirty(&ram, DIRTY_MEMORY_MIGRATION));
    EXPECT_EQ("0+1000 2000+1000 3f000+2000", dirty(&ram, DIRTY_MEMORY_CODE));
    EXPECT_EQ("0+4000 3c000+8000", dirty(&ram, DIRTY_MEMORY_VGA));
    EXPECT_EQ(0, memory_region_merge_dirty(&ram, 10 * Page, 1u << DIRTY_MEMORY_MIGRATION, 4096, odd, 2, 62));
    EXPECT_EQ("a000+1000 47000+1000", dirty(&ram, DIRTY_MEMORY_MIGRATION));
    EXPECT_EQ("", dirty(&ram, DIRTY_MEMORY_CODE)) << "not told";
    EXPECT_EQ(0, memory_region_merge_dirty(&ram, 10 * Page + 64, ~0u, 4096, odd, 2, 2));
    EXPECT_EQ("a000+2000", dirty(&ram, DIRTY_MEMORY_MIGRATION)) << "a page of theirs lies on two of ours";
    EXPECT_EQ("a040+1000", dirty(&ram, DIRTY_MEMORY_CODE));
    EXPECT_EQ(0, memory_region_merge_dirty(&ram, 99 * Page, ~0u, 4096, odd, 0, 65)) << "beyond the end: ignored";
    EXPECT_EQ("63000+1000", dirty(&ram, DIRTY_MEMORY_MIGRATION));
    EXPECT_EQ(0, memory_region_merge_dirty(&ram, 8 * Page, ~0u, 1 << 16, odd, 2, 1));
    EXPECT_EQ("8000+10000", dirty(&ram, DIRTY_MEMORY_MIGRATION)) << "their pages are larger";
    EXPECT_EQ(0, memory_region_merge_dirty(&ram, Size, ~0u, 4096, odd, 0, 65));
    EXPECT_EQ("", dirty(&ram, DIRTY_MEMORY_MIGRATION));
}

TEST_F(Dirty, BadRequestsAreRefused)
{
    MemoryRegion alias, empty, never = MemoryRegion();
    const uint64_t bits = 1;
    DirtyBitmapSnapshot *s = nullptr;

    ASSERT_EQ(0, memory_region_init_alias(&alias, "alias", &ram, 0, Size));
    ASSERT_EQ(0, memory_region_init_ram(&empty, "empty", 0));
    for (MemoryRegion *mr : {&root, &dev[0].mr, &alias, &empty, &never, (MemoryRegion *)nullptr}) {
        EXPECT_EQ(-EINVAL, memory_region_set_log(mr, true, DIRTY_MEMORY_VGA));
        EXPECT_EQ(-EINVAL, memory_region_set_dirty(mr, 0, 1));
        EXPECT_EQ(-EINVAL, memory_region_reset_dirty(mr, 0, 1, DIRTY_MEMORY_VGA));
        EXPECT_EQ(-EINVAL, memory_region_merge_dirty(mr, 0, ~0u, 4096, &bits, 0, 1));
        EXPECT_EQ(-EINVAL, memory_region_snapshot_and_clear_dirty(mr, 0, 1, DIRTY_MEMORY_VGA, &s));
        EXPECT_EQ(-EINVAL, memory_region_set_dirty_granule(mr, DIRTY_MEMORY_VGA, 4096));
        EXPECT_FALSE(memory_region_get_dirty(mr, 0, 1, DIRTY_MEMORY_VGA));
        EXPECT_FALSE(memory_region_is_logging(mr, DIRTY_MEMORY_VGA));
    }
    EXPECT_EQ(-EINVAL, memory_region_set_log(&ram, true, 3));
    EXPECT_EQ(-EINVAL, memory_region_set_log(&ram, false, DIRTY_MEMORY_VGA)) << "one less than none";
    Begin(DIRTY_MEMORY_VGA);
    EXPECT_EQ(-EINVAL, memory_region_set_dirty(&ram, Size, 1));
    EXPECT_EQ(-EINVAL, memory_region_set_dirty(&ram, 1, Size));
    EXPECT_EQ(-EINVAL, memory_region_set_dirty(&ram, 1, UINT64_MAX));
    EXPECT_EQ(-EINVAL, memory_region_set_dirty(&ram, 0, 0));
    EXPECT_EQ(-EINVAL, memory_region_snapshot_dirty(&ram, 0, Size + 1, DIRTY_MEMORY_VGA, &s));
    EXPECT_EQ(-EINVAL, memory_region_snapshot_dirty(&ram, 0, Size, 3, &s));
    EXPECT_EQ(-EINVAL, memory_region_reset_dirty(&ram, 0, Size, 3));
    EXPECT_EQ(-EINVAL, memory_region_merge_dirty(&ram, 0, ~0u, 4095, &bits, 0, 1));
    EXPECT_EQ(-EINVAL, memory_region_merge_dirty(&ram, 0, ~0u, 4096, nullptr, 0, 1));
    EXPECT_EQ(-EINVAL, memory_region_merge_dirty(&ram, 0, ~0u, 4096, &bits, 2, UINT64_MAX));
    EXPECT_EQ(nullptr, s);
    EXPECT_EQ("", dirty(&ram, DIRTY_MEMORY_VGA)) << "and nothing was marked";
    for (MemoryRegion *mr : {&alias, &empty}) {
        EXPECT_EQ(0, memory_region_destroy(mr));
        EXPECT_EQ(0, memory_region_quiesce(mr));
    }
    memory_region_snapshot_free(nullptr);
}

} // namespace
