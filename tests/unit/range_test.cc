/* SPDX-License-Identifier: MIT */
#include <gtest/gtest.h>

#include "shim/range_shim.h"

#include <algorithm>
#include <vector>

namespace {

using Wide = unsigned __int128;
constexpr uint64_t Top = UINT64_MAX;

/* Around every boundary that 64 bits have, so that pairs of them make every kind of range. */
const std::vector<uint64_t> kPoints = {0, 1, 2, 0xfff, 0x1000, 0x1001, (1ull << 32) - 1, 1ull << 32, Top / 2,
                                       Top / 2 + 1, Top - 2, Top - 1, Top};

template <typename F> void ForEachRange(F f)
{
    for (uint64_t first : kPoints) {
        for (uint64_t last : kPoints) {
            if (first <= last) {
                f(first, last);
            }
        }
    }
}

TEST(Range, ContainsItsEndsAndNothingBeyond)
{
    ForEachRange([](uint64_t first, uint64_t last) {
        for (uint64_t addr : kPoints) {
            EXPECT_EQ(range_shim_contains(first, last, addr), first <= addr && addr <= last);
        }
    });
}

TEST(Range, IntersectionIsWhatBothContain)
{
    ForEachRange([](uint64_t a, uint64_t b) {
        ForEachRange([=](uint64_t c, uint64_t d) {
            uint64_t got[2] = {42, 43};
            bool some = std::max(a, c) <= std::min(b, d);

            EXPECT_EQ(range_shim_overlaps(a, b, c, d), some);
            ASSERT_EQ(range_shim_intersect(a, b, c, d, got), some);
            EXPECT_EQ(got[0], some ? std::max(a, c) : 42);
            EXPECT_EQ(got[1], some ? std::min(b, d) : 43);
        });
    });
}

TEST(Range, ShiftUpCutsWhatPassesTheTop)
{
    ForEachRange([](uint64_t first, uint64_t last) {
        for (uint64_t delta : kPoints) {
            uint64_t got[2];
            Wide f = Wide(first) + delta, l = Wide(last) + delta;

            ASSERT_EQ(range_shim_shift_up(first, last, delta, got), f <= Top);
            if (f <= Top) {
                EXPECT_EQ(got[0], uint64_t(f));
                EXPECT_EQ(got[1], l <= Top ? uint64_t(l) : Top);
            }
        }
    });
}

TEST(Range, ShiftDownCutsWhatFallsBelowZero)
{
    ForEachRange([](uint64_t first, uint64_t last) {
        for (uint64_t delta : kPoints) {
            uint64_t got[2];

            ASSERT_EQ(range_shim_shift_down(first, last, delta, got), last >= delta);
            if (last >= delta) {
                EXPECT_EQ(got[0], first < delta ? 0 : first - delta);
                EXPECT_EQ(got[1], last - delta);
            }
        }
    });
}

} // namespace
