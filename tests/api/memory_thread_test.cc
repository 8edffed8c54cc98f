// SPDX-License-Identifier: MIT
#include <flatview/memory.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <thread>

namespace {

// Each case has a thread of its own: what a thread says about itself lasts.
class MemoryThread : public ::testing::Test {
protected:
    MemoryRegion ram;
    AddressSpace as = {};

    void SetUp() override
    {
        ASSERT_EQ(memory_region_init_ram(&ram, "ram", 4096), 0);
        ASSERT_EQ(address_space_init(&as, &ram, "ram"), 0);
    }

    void TearDown() override
    {
        ASSERT_EQ(address_space_destroy(&as, nullptr), 0);
        ASSERT_EQ(memory_region_destroy(&ram), 0);
        ASSERT_EQ(memory_region_quiesce(&ram), 0);
    }

    MemTxResult access()
    {
        uint32_t value;

        return address_space_ldl_le(&as, 0, MEMTXATTRS_UNSPECIFIED, &value);
    }

    template <typename Fn> static void in_a_thread(Fn fn)
    {
        std::thread(fn).join();
    }
};

TEST_F(MemoryThread, RegistrationsAreCounted)
{
    in_a_thread([&] {
        EXPECT_EQ(memory_thread_unregister(), -EINVAL);
        EXPECT_EQ(memory_thread_register(), 0);
        EXPECT_EQ(memory_thread_register(), 0);
        EXPECT_EQ(access(), MEMTX_OK);
        EXPECT_EQ(memory_thread_unregister(), 0);
        EXPECT_EQ(access(), MEMTX_OK);
        EXPECT_EQ(memory_thread_unregister(), 0);
        EXPECT_EQ(memory_thread_unregister(), -EINVAL);
    });
}

TEST_F(MemoryThread, AnAccessNeedsNoRegistrationAndCountsAsNone)
{
    in_a_thread([&] {
        EXPECT_EQ(access(), MEMTX_OK);
        EXPECT_EQ(memory_thread_unregister(), -EINVAL);
        EXPECT_EQ(access(), MEMTX_OK);
    });
    in_a_thread([&] { // a store or a copy may be the first access, too
        uint32_t value = 7;

        EXPECT_EQ(address_space_stl_le(&as, 0, MEMTXATTRS_UNSPECIFIED, value), MEMTX_OK);
    });
    in_a_thread([&] {
        uint32_t value = 0;

        EXPECT_EQ(address_space_read(&as, 0, MEMTXATTRS_UNSPECIFIED, &value, 4), MEMTX_OK);
        EXPECT_EQ(value, 7u);
    });
}

TEST_F(MemoryThread, AnAccessBringsAThreadBack)
{
    in_a_thread([&] {
        EXPECT_EQ(memory_thread_offline(), 0); // never was online
        EXPECT_EQ(memory_thread_register(), 0);
        EXPECT_EQ(memory_thread_offline(), 0);
        EXPECT_EQ(memory_thread_offline(), 0);
        EXPECT_EQ(access(), MEMTX_OK);
        EXPECT_EQ(memory_thread_offline(), 0);
        EXPECT_EQ(memory_thread_online(), 0);
        EXPECT_EQ(memory_thread_online(), 0);
        EXPECT_EQ(access(), MEMTX_OK);
        EXPECT_EQ(memory_thread_offline(), 0);
        EXPECT_EQ(memory_thread_unregister(), 0); // offline and registered are different things
        EXPECT_EQ(memory_thread_unregister(), -EINVAL);
    });
}

TEST_F(MemoryThread, ReadSectionsNest)
{
    in_a_thread([&] {
        EXPECT_FALSE(memory_read_ongoing());
        memory_read_begin();
        memory_read_begin();
        EXPECT_TRUE(memory_read_ongoing());
        EXPECT_EQ(access(), MEMTX_OK);
        memory_read_end();
        EXPECT_TRUE(memory_read_ongoing());
        memory_read_end();
        EXPECT_FALSE(memory_read_ongoing());
    });
}

TEST_F(MemoryThread, NobodyLeavesInsideAReadSection)
{
    in_a_thread([&] {
        EXPECT_EQ(memory_thread_register(), 0);
        memory_read_begin();
        EXPECT_EQ(memory_thread_offline(), -EBUSY);
        EXPECT_EQ(memory_thread_unregister(), -EBUSY);
        EXPECT_TRUE(memory_read_ongoing());
        memory_read_end();
        EXPECT_EQ(memory_thread_offline(), 0);
        EXPECT_EQ(memory_thread_unregister(), 0);
    });
}

TEST_F(MemoryThread, ACallbackRunsInAReadSection)
{
    static bool ongoing;
    MemoryRegionOps ops = {};
    MemoryRegion io;
    AddressSpace space = {};

    ops.read = [](MemoryRegion *, hwaddr, unsigned) -> uint64_t { return ongoing = memory_read_ongoing(); };
    ops.endianness = MEMORY_LITTLE_ENDIAN;
    ops.valid.min_access_size = ops.impl.min_access_size = 1;
    ops.valid.max_access_size = ops.impl.max_access_size = 4;
    ASSERT_EQ(memory_region_init_io(&io, &ops, "io", 16), 0);
    ASSERT_EQ(address_space_init(&space, &io, "io"), 0);
    for (hwaddr addr : { 0, 4, 5 }) { // first, remembered, refused
        uint32_t value;

        ongoing = false;
        EXPECT_EQ(address_space_ldl_le(&space, addr, MEMTXATTRS_UNSPECIFIED, &value),
                  addr == 5 ? MEMTX_DECODE_ERROR : MEMTX_OK);
        EXPECT_EQ(ongoing, addr != 5);
        EXPECT_FALSE(memory_read_ongoing());
    }
    EXPECT_EQ(address_space_destroy(&space, nullptr), 0);
    EXPECT_EQ(memory_region_destroy(&io), 0);
    EXPECT_EQ(memory_region_quiesce(&io), 0);
}

TEST_F(MemoryThread, AThreadMayEndWithoutAGoodbye)
{
    in_a_thread([&] {
        EXPECT_EQ(memory_thread_register(), 0);
        EXPECT_EQ(access(), MEMTX_OK);
    });
    EXPECT_EQ(memory_reclaim(), 0); // does not wait for the dead
}

} // namespace
