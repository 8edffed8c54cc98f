/* SPDX-License-Identifier: MIT */
/*
 * The log of what an IOMMU's tables have lost: against a model that forgets nothing, and under the hands of a writer.
 */
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include <cerrno>
#include <cstring>

#include <flatview/memory.h>

#include "shim/iommu_shim.h"
#include "shim/mem_shim.h"
#include "unit/settled.h"

namespace {

TEST(Iommu, TheLogNeverForgivesAndForgetsOnlyWhatIsOld)
{
    ShimIommu *iommu = shim_iommu_new(2);
    std::vector<std::pair<hwaddr, hwaddr>> all;
    std::mt19937 random(7);
    unsigned kept = 0;

    for (int round = 0; round < 2000; round++) {
        hwaddr first = random() % 64, last = first + random() % 4;

        all.emplace_back(first, last);
        shim_iommu_invalidate(iommu, 0, first, last);
        ASSERT_EQ(all.size(), shim_iommu_seq(iommu, 0));
        ASSERT_EQ(0u, shim_iommu_seq(iommu, 1)); /* tables have a log each */
        for (int probe = 0; probe < 4; probe++) {
            uint64_t then = all.size() - std::min<size_t>(all.size(), random() % (shim_iommu_log_size() + 8)), now = 0;
            hwaddr from = random() % 64, to = from + random() % 4;
            bool touched = false;

            for (size_t i = then; i < all.size(); i++) {
                touched |= all[i].first <= to && from <= all[i].second;
            }
            bool good = shim_iommu_unchanged(iommu, 0, from, to, then, &now);
            ASSERT_EQ(!touched && all.size() - then <= shim_iommu_log_size(), good) << round;
            if (good) {
                ASSERT_EQ(all.size(), now);
            }
            kept += good && then != all.size();
        }
    }
    EXPECT_GT(kept, 100u); /* or nothing was tested */
    shim_iommu_free(iommu);
}

/* What touched the range is being written over just now. Whoever took the number from such a look would never find it again. */
TEST(Iommu, WhoeverIsRefusedIsRefusedTheNextTimeToo)
{
    ShimIommu *iommu = shim_iommu_new(1);
    uint64_t seq = 0;

    shim_iommu_invalidate(iommu, 0, 0x1000, 0x1fff);
    for (unsigned i = 1; i < shim_iommu_log_size(); i++) {
        shim_iommu_invalidate(iommu, 0, 0x8000, 0x8fff);
    }
    shim_iommu_invalidate_half(iommu, 0, 0x8000, 0x8fff);
    EXPECT_FALSE(shim_iommu_unchanged(iommu, 0, 0x1000, 0x1fff, seq, &seq));
    shim_iommu_invalidate(iommu, 0, 0x8000, 0x8fff);
    EXPECT_FALSE(shim_iommu_unchanged(iommu, 0, 0x1000, 0x1fff, seq, &seq));
    EXPECT_EQ(0u, seq);
    shim_iommu_free(iommu);
}

TEST(Iommu, AnInitWithoutMemoryLeavesTheStructAsItWas)
{
    MemoryRegionIOMMUOps ops = {};
    MemoryRegion mr, before;
    int ret = -ENOMEM;
    uint64_t nth, live = settled_bytes();

    ops.translate = [](MemoryRegion *, hwaddr, IOMMUAccessFlags, unsigned) { return IOMMUTLBEntry(); };
    memset(&mr, 0x5a, sizeof(mr));
    memcpy(&before, &mr, sizeof(mr));
    for (nth = 1; ret == -ENOMEM; nth++) {
        mem_shim_fail_nth(nth, true);
        ret = memory_region_init_iommu(&mr, &ops, "name", 1);
        mem_shim_fail_nth(0, false);
        if (ret < 0) {
            ASSERT_EQ(-ENOMEM, ret);
            ASSERT_EQ(0, memcmp(&before, &mr, sizeof(mr)));
            ASSERT_EQ(live, settled_bytes());
        }
    }
    EXPECT_EQ(0, ret);
    EXPECT_GT(nth, 3u); /* at least two things to fail */
    EXPECT_EQ(0, memory_region_destroy(&mr));
    EXPECT_EQ(0, memory_region_quiesce(&mr));
}

/* A writer whose number n is a known range, and another one each time round the log; so whatever a reader is told can be
   checked, however the two run. */
hwaddr RangeOf(uint64_t n)
{
    return (n + n / shim_iommu_log_size()) % 97;
}

TEST(Iommu, TheLogIsReadWhileItIsWritten)
{
    ShimIommu *iommu = shim_iommu_new(1);
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> wrong{0}, good{0};
    std::vector<std::thread> readers;

    for (unsigned seed = 0; seed < 2; seed++) {
        readers.emplace_back([&, seed] {
            std::mt19937 random(seed);
            while (!stop) {
                uint64_t seq = shim_iommu_seq(iommu, 0), now = 0;
                uint64_t then = seq - std::min<uint64_t>(seq, random() % (shim_iommu_log_size() + 1));
                /* One that is there, so that it is noticed if it is written over while it is looked for; or any. */
                hwaddr range = then < seq && random() % 4 ? RangeOf(then + random() % (seq - then)) : random() % 97;
                if (shim_iommu_unchanged(iommu, 0, range, range, then, &now)) {
                    good++;
                    for (uint64_t n = then; n < now; n++) {
                        wrong += RangeOf(n) == range;
                    }
                }
            }
        });
    }
    for (uint64_t n = 0; n < 5000000 || (good < 1000 && n < 100000000); n++) {
        shim_iommu_invalidate(iommu, 0, RangeOf(n), RangeOf(n));
    }
    stop = true;
    for (auto &reader : readers) {
        reader.join();
    }
    EXPECT_EQ(0u, wrong);
    EXPECT_GE(good, 1000u);
    shim_iommu_free(iommu);
}

} // namespace
