/* SPDX-License-Identifier: MIT */
/* Every allocation of a mapping fails once, the first, the second, until it is made: each time -ENOMEM and nothing kept. */
#include <gtest/gtest.h>

#include <cerrno>
#include <functional>
#include <vector>

#include <flatview/memory.h>

#include "api/machine.h"
#include "shim/mem_shim.h"
#include "unit/settled.h"

namespace {

const MemTxAttrs kAttrs = MEMTXATTRS_UNSPECIFIED;

class DmaFailure : public Machine {
protected:
    void SetUp() override
    {
        Machine::SetUp();
        ASSERT_EQ(0, memory_region_init_ram(&ram, "ram", 0x1000));
        ASSERT_EQ(0, memory_region_add_subregion(&root, 0x8000, &ram));
    }

    void TearDown() override
    {
        ASSERT_EQ(0, memory_region_del_subregion(&root, &ram));
        ASSERT_EQ(0, memory_region_destroy(&ram));
        ASSERT_EQ(0, memory_region_quiesce(&ram)) << "no failed mapping holds it";
        Machine::TearDown();
    }

    /* How many failures it took. */
    unsigned fail_everywhere(const std::function<int()> &map)
    {
        unsigned n = 0;
        int err;

        for (;;) {
            uint64_t before = settled_bytes();
            n++;
            mem_shim_fail_nth(n, n % 2);
            err = map();
            mem_shim_fail_nth(0, false);
            if (err == 0) {
                return n - 1;
            }
            EXPECT_EQ(-ENOMEM, err);
            EXPECT_EQ(before, settled_bytes());
            EXPECT_EQ(0u, address_space_get_bounce_used(&as));
        }
    }

    MemoryRegion ram;
};

TEST_F(DmaFailure, OfAListOfManyPieces)
{
    std::vector<MemoryMapRange> ranges;
    MemoryMapping m = {};

    for (hwaddr i = 0; i < 100; i++) {
        ranges.push_back({i % 10 == 9 ? 0x1000 + i : 0x8000 + i % 2 * 0x100 + i, 1});
    }
    unsigned failures = fail_everywhere([&] {
        return address_space_map_sg(&as, ranges.data(), ranges.size(), MEMORY_MAP_READ_WRITE, kAttrs, &m);
    });
    EXPECT_GE(failures, 4u) << "the list grows, and there are copies";
    EXPECT_EQ(10u, address_space_get_bounce_used(&as));
    EXPECT_EQ(0, address_space_unmap_sg(&m, m.len, nullptr));
}

TEST_F(DmaFailure, OfAPointer)
{
    hwaddr len = 16;
    void *host;

    EXPECT_EQ(2u, fail_everywhere([&] {
        return address_space_map(&as, 0x8000, &len, MEMORY_MAP_READ, kAttrs, &host);
    })) << "the record, and the table of the first one";
    EXPECT_EQ(0, address_space_unmap(&as, host, len, MEMORY_MAP_READ, 0, nullptr));
    EXPECT_EQ(2u, fail_everywhere([&] {
        return address_space_map(&as, 0x1000, &len, MEMORY_MAP_READ, kAttrs, &host);
    })) << "the record, and the copy";
    EXPECT_EQ(0, address_space_unmap(&as, host, len, MEMORY_MAP_READ, 0, nullptr));
}

TEST_F(DmaFailure, OneRangeOfRamAllocatesNothing)
{
    MemoryMapRange range = {0x8000, 0x1000};
    MemoryMapping m = {};

    EXPECT_EQ(0u, fail_everywhere([&] {
        return address_space_map_sg(&as, &range, 1, MEMORY_MAP_READ_WRITE, kAttrs, &m);
    }));
    EXPECT_EQ(0, address_space_unmap_sg(&m, m.len, nullptr));
}

TEST_F(DmaFailure, OfPopulation)
{
    RamDiscardSource source = {};
    MemoryRegionSection section = {};

    section.mr = &ram;
    auto any = [](const MemoryRegionSection *, void *) { return 0; };
    EXPECT_EQ(1u, fail_everywhere([&] { return memory_region_replay_populated(&section, any, nullptr); }))
        << "what a region keeps once somebody has asked";
    EXPECT_EQ(1u, fail_everywhere([&] {
        int err = memory_region_add_ram_discard_source(&ram, &source, 0x100, false);
        EXPECT_EQ(err == 0, memory_region_has_ram_discard_source(&ram));
        return err;
    })) << "the source's bits";
    EXPECT_EQ(0u, fail_everywhere([&] { return ram_discard_source_populate(&source, 0, 0x800); }));
    EXPECT_EQ(0u, fail_everywhere([&] { return ram_discard_source_discard(&source, 0x300, 0x100); }));
    EXPECT_EQ(0u, fail_everywhere([&] { return memory_region_del_ram_discard_source(&ram, &source); }));
}

} // namespace
