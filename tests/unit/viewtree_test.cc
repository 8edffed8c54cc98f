/* SPDX-License-Identifier: MIT */
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <numeric>
#include <random>
#include <vector>

#include "shim/viewtree_shim.h"

namespace {

VtRange range(uint64_t first, uint64_t last, uint32_t region = 0, uint64_t offset = 0)
{
    return VtRange{first, last, offset, region, 0};
}

std::vector<VtRange> walk(VtLine *line, unsigned version, uint64_t from = 0)
{
    std::vector<VtRange> out(vt_count(line, version) + 1);
    out.resize(vt_walk(line, version, from, out.data(), out.size()));
    return out;
}

std::string text(const std::vector<VtRange> &ranges)
{
    std::string out;
    for (const VtRange &r : ranges) {
        char line[128];
        snprintf(line, sizeof(line), "%llx-%llx:%u@%llx ", (unsigned long long)r.first, (unsigned long long)r.last, r.region,
                 (unsigned long long)r.offset);
        out += line;
    }
    return out;
}

class Viewtree : public testing::Test
{
  protected:
    VtLine *line = vt_new();

    void TearDown() override
    {
        vt_fail_nth(0, false);
        EXPECT_EQ(vt_free(line), 0) << "bytes left behind";
    }

    void begin(unsigned base)
    {
        vt_begin(line, base);
    }

    void fill(const VtRange &r)
    {
        ASSERT_EQ(vt_fill(line, &r), 0);
    }

    void clear(uint64_t first, uint64_t last)
    {
        ASSERT_EQ(vt_clear(line, first, last), 0);
    }

    unsigned commit()
    {
        unsigned version = vt_commit(line);
        vt_check(line, version);
        return version;
    }

    /* n ranges of 8 addresses, 16 apart, that do not join */
    unsigned load(const std::vector<uint64_t> &order)
    {
        begin(0);
        for (uint64_t i : order) {
            fill(range(i * 16, i * 16 + 7));
        }
        return commit();
    }
};

std::vector<uint64_t> ascending(size_t n)
{
    std::vector<uint64_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    return order;
}

std::vector<uint64_t> shuffled(size_t n)
{
    std::vector<uint64_t> order = ascending(n);
    std::shuffle(order.begin(), order.end(), std::mt19937_64(7));
    return order;
}

} // namespace

TEST_F(Viewtree, AnEmptyTreeShowsNothing)
{
    VtRange r;
    EXPECT_FALSE(vt_find(line, 0, 0, &r));
    EXPECT_FALSE(vt_find(line, 0, UINT64_MAX, &r));
    EXPECT_FALSE(vt_lower(line, 0, 0, &r));
    EXPECT_TRUE(walk(line, 0).empty());
    begin(0);
    clear(0, UINT64_MAX);
    EXPECT_EQ(commit(), 1u);
    EXPECT_EQ(vt_bytes(line, 1), 0u);
}

TEST_F(Viewtree, OneRangeMayBeTheWholeSpace)
{
    VtRange r;
    begin(0);
    fill(range(0, UINT64_MAX, 2));
    unsigned v = commit();
    EXPECT_TRUE(vt_find(line, v, 0, &r));
    EXPECT_TRUE(vt_find(line, v, UINT64_MAX, &r));
    EXPECT_EQ(r.first, 0u);
    EXPECT_EQ(r.last, UINT64_MAX);
}

TEST_F(Viewtree, BytesAtBothEndsAreFound)
{
    VtRange r;
    begin(0);
    fill(range(0, 0, 2));
    fill(range(UINT64_MAX, UINT64_MAX, 4));
    unsigned v = commit();
    EXPECT_TRUE(vt_find(line, v, 0, &r));
    EXPECT_EQ(r.region, 2u);
    EXPECT_FALSE(vt_find(line, v, 1, &r));
    EXPECT_FALSE(vt_find(line, v, UINT64_MAX - 1, &r));
    EXPECT_TRUE(vt_find(line, v, UINT64_MAX, &r));
    EXPECT_EQ(r.region, 4u);
    EXPECT_TRUE(vt_lower(line, v, 1, &r));
    EXPECT_EQ(r.region, 4u);
}

TEST_F(Viewtree, PaintGoesIntoHolesOnly)
{
    begin(0);
    fill(range(10, 19, 1, 0));
    fill(range(30, 39, 1, 100));
    fill(range(5, 50, 3, 0));
    unsigned v = commit();
    EXPECT_EQ(text(walk(line, v)), "5-9:3@0 a-13:1@0 14-1d:3@f 1e-27:1@64 28-32:3@23 ");
}

TEST_F(Viewtree, PaintOverWhatIsCoveredCopiesNothing)
{
    begin(0);
    fill(range(10, 19));
    fill(range(20, 29, 1));
    unsigned v = commit();
    begin(v);
    fill(range(12, 27, 3));
    clear(0, 9);
    clear(30, UINT64_MAX);
    EXPECT_EQ(vt_replaced(line), 0u);
    vt_abort(line);
}

TEST_F(Viewtree, ClearingCutsWhatStraddlesTheSpan)
{
    begin(0);
    fill(range(10, 19, 1, 100));
    fill(range(20, 29, 3, 0));
    fill(range(30, 39, 5, 0));
    clear(15, 34);
    unsigned v = commit();
    EXPECT_EQ(text(walk(line, v)), "a-e:1@64 23-27:5@5 ");
}

TEST_F(Viewtree, AHolePunchedInOneRangeIsHealedByPaint)
{
    begin(0);
    fill(range(0, 999, 1, 5000));
    unsigned v1 = commit();
    begin(v1);
    clear(400, 499);
    unsigned v2 = commit();
    EXPECT_EQ(text(walk(line, v2)), "0-18f:1@1388 1f4-3e7:1@157c ");
    begin(v2);
    fill(range(0, 999, 1, 5000));
    unsigned v3 = commit();
    EXPECT_EQ(text(walk(line, v3)), text(walk(line, v1)));
}

TEST_F(Viewtree, ANeighbourJoinsOnlyIfAllGoesOn)
{
    begin(0);
    fill(range(0, 9, 1, 0));
    fill(range(10, 19, 1, 10)); /* joins */
    fill(range(20, 29, 1, 21)); /* offset jumps */
    VtRange flagged = range(30, 39, 1, 31);
    flagged.flags = 1;
    fill(flagged);              /* flags differ */
    fill(range(40, 49, 3, 41)); /* another region */
    fill(range(51, 59, 3, 52)); /* a gap */
    unsigned v = commit();
    EXPECT_EQ(text(walk(line, v)), "0-13:1@0 14-1d:1@15 1e-27:1@1f 28-31:3@29 33-3b:3@34 ");
}

TEST_F(Viewtree, NeighboursJoinAcrossLeaves)
{
    /* Bytes of one region with holes between them fill many leaves; the holes, filled, make one range of it all. */
    const unsigned n = 2000;
    begin(0);
    for (unsigned i = 0; i < n; i += 2) {
        fill(range(i, i, 1, i));
    }
    vt_check_open(line);
    for (uint64_t i : shuffled(n)) {
        fill(range(i, i, 1, i));
    }
    unsigned v = commit();
    EXPECT_EQ(text(walk(line, v)), "0-7cf:1@0 ");
    EXPECT_EQ(vt_height(line, v), 1u);
}

TEST_F(Viewtree, ARangeMayCrossTheDivisionsOfLeavesThatWereEmptied)
{
    unsigned v = load(ascending(1000));
    begin(v);
    for (uint64_t i = 1; i < 999; i++) {
        clear(i * 16, i * 16 + 7);
        vt_check_open(line);
    }
    fill(range(100, 900 * 16, 5));
    vt_check_open(line);
    clear(200, 300);
    v = commit();
    VtRange r;
    EXPECT_TRUE(vt_find(line, v, 150, &r) && vt_find(line, v, 700 * 16, &r));
    EXPECT_FALSE(vt_find(line, v, 250, &r));
}

TEST_F(Viewtree, WhatIsTakenAwayIsDated)
{
    begin(0);
    fill(range(10, 19, 2));
    fill(range(20, 29, 4));
    unsigned v = commit();
    EXPECT_EQ(vt_region_last_gen(line, 2), 0u);
    begin(v);
    clear(15, 16);
    v = commit();
    EXPECT_EQ(vt_region_last_gen(line, 2), 1u + v);
    EXPECT_EQ(vt_region_last_gen(line, 4), 0u);
}

TEST_F(Viewtree, ANodeIsCopiedOncePerEdit)
{
    unsigned v = load(ascending(5000));
    begin(v);
    for (unsigned k = 0; k < 100; k++) {
        clear(2500 * 16, 2500 * 16 + 7);
        fill(range(2500 * 16, 2500 * 16 + 7, 3, k));
    }
    EXPECT_EQ(vt_replaced(line), vt_height(line, v));
    v = commit();
    EXPECT_TRUE(vt_lifetimes_hold(line, v - 1) && vt_lifetimes_hold(line, v));
}

TEST_F(Viewtree, WhatIsPaintedInPlaceOfOneRangeTakesItsEntry)
{
    unsigned v = load(ascending(5000));
    size_t bytes = vt_bytes(line, v);
    for (uint64_t i : {0, 1, 15, 16, 2500, 4999}) {
        begin(v);
        vt_clear_later(line, i * 16, i * 16 + 15);
        fill(range(i * 16 + 4, i * 16 + 13, 3, 77));
        ASSERT_EQ(vt_settle(line), 0);
        vt_check_open(line);
        EXPECT_EQ(vt_replaced(line), vt_height(line, v)) << i;
        std::vector<VtRange> expected = walk(line, v);
        expected[i] = range(i * 16 + 4, i * 16 + 13, 3, 77);
        v = commit();
        EXPECT_EQ(text(walk(line, v)), text(expected)) << i;
        EXPECT_EQ(vt_bytes(line, v), bytes);
        EXPECT_EQ(vt_region_last_gen(line, 0), 1u + v) << "who makes way is told";
    }
}

TEST_F(Viewtree, WhatIsOwedIsClearedEvenIfNothingIsPaintedThere)
{
    unsigned v = load(ascending(100));
    std::vector<VtRange> expected = walk(line, v);
    expected.erase(expected.begin() + 10, expected.begin() + 62);
    begin(v);
    vt_clear_later(line, 160, 991);
    ASSERT_EQ(vt_settle(line), 0);
    EXPECT_EQ(text(walk(line, commit())), text(expected));
}

TEST_F(Viewtree, BulkLoadsLeaveFullNodes)
{
    const size_t n = 30000;
    std::vector<uint64_t> order = ascending(n);
    unsigned up = load(order);
    std::reverse(order.begin(), order.end());
    unsigned down = load(order);
    unsigned random = load(shuffled(n));
    begin(0);
    fill(range(UINT64_MAX - 7, UINT64_MAX));
    for (uint64_t i = 0; i < n; i++) {
        fill(range(i * 16, i * 16 + 7));
    }
    unsigned inside = commit();
    EXPECT_LE(vt_bytes(line, up), n * 80);
    EXPECT_LE(vt_bytes(line, down), n * 80);
    EXPECT_LE(vt_bytes(line, inside), n * 100);
    EXPECT_LE(vt_bytes(line, random), n * 130);
}

TEST_F(Viewtree, RemovingNearlyAllLeavesASmallTree)
{
    for (bool at_random : {false, true}) {
        std::vector<uint64_t> order = at_random ? shuffled(20000) : ascending(20000);
        unsigned v = load(at_random ? shuffled(20000) : ascending(20000));
        begin(v);
        for (size_t i = 0; i + 10 < order.size(); i++) {
            clear(order[i] * 16, order[i] * 16 + 7);
            if (i % 97 == 0) {
                vt_check_open(line);
            }
        }
        v = commit();
        EXPECT_EQ(vt_count(line, v), 10u);
        EXPECT_LE(vt_height(line, v), 2u);
        EXPECT_LE(vt_bytes(line, v), 8192u);
    }
}

TEST_F(Viewtree, WideClearsLeaveAWellFormedRest)
{
    std::mt19937_64 random(3);
    const uint64_t n = 40000;
    unsigned v = load(ascending(n));
    for (unsigned k = 0; k < 40; k++) {
        uint64_t a = random() % (n * 16), b = random() % (n * 16);
        begin(v);
        clear(std::min(a, b), std::max(a, b));
        vt_check_open(line);
        std::vector<VtRange> expected;
        for (VtRange r : walk(line, v)) {
            VtRange head = r, tail = r;
            if (r.last < std::min(a, b) || r.first > std::max(a, b)) {
                expected.push_back(r);
                continue;
            }
            if (r.first < std::min(a, b)) {
                head.last = std::min(a, b) - 1;
                expected.push_back(head);
            }
            if (r.last > std::max(a, b)) {
                tail.first = std::max(a, b) + 1;
                tail.offset += tail.first - r.first;
                expected.push_back(tail);
            }
        }
        unsigned next = commit();
        ASSERT_EQ(text(walk(line, next)), text(expected));
        v = next;
        /* more of it, so that the tree gets thin on both sides; then forget that */
        begin(v);
        clear(std::min(a, b) / 2, std::max(a, b));
        vt_check_open(line);
        clear(std::min(a, b), std::max(a, b) + (n * 16 - std::max(a, b)) / 2);
        vt_check_open(line);
        vt_abort(line);
        if (vt_count(line, v) < 50) {
            v = load(ascending(n));
        }
    }
}

TEST_F(Viewtree, ABackgroundUnderManyIsOneRangePerHole)
{
    const size_t n = 20000;
    begin(0);
    for (uint64_t i : shuffled(n)) {
        fill(range(i * 16, i * 16 + 7));
    }
    fill(range(0, UINT64_MAX, 2));
    unsigned v = commit();
    EXPECT_EQ(vt_count(line, v), 2 * n);
}

TEST_F(Viewtree, AnAbortedEditLeavesTheBaseAsItWas)
{
    unsigned v = load(ascending(3000));
    std::string before = text(walk(line, v));
    begin(v);
    for (uint64_t i = 0; i < 3000; i += 3) {
        clear(i * 16, i * 16 + 3);
        fill(range(i * 16 + 8, i * 16 + 12, 5, i));
    }
    vt_abort(line);
    EXPECT_EQ(text(walk(line, v)), before);
    EXPECT_TRUE(vt_lifetimes_hold(line, v));
}

TEST_F(Viewtree, EveryAllocationMayFail)
{
    /* Full leaves and full inner nodes in the way: splits up to a new root, merges, borrowing. */
    unsigned v = load(ascending(16 * 32));
    std::string before = text(walk(line, v));
    std::mt19937_64 random(11);
    unsigned failed = 0;
    bool done = false;

    for (uint64_t nth = 1; !done; nth++) {
        int err = 0;
        begin(v);
        vt_fail_nth(nth, nth % 2 == 0);
        for (uint64_t i = 0; i < 16 * 32 && !err; i += 5) {
            VtRange r = range(i * 16 + 10, i * 16 + 12, 3, i);
            err = vt_fill(line, &r);
        }
        for (uint64_t i = 100; i < 400 && !err; i++) {
            err = vt_clear(line, i * 16, i * 16 + 7);
        }
        if (!err) {
            err = vt_clear(line, 1000, 4003);
        }
        for (uint64_t i = 420; i < 500 && !err; i += 3) {
            VtRange r = range(i * 16 + 1, i * 16 + 7, 3, 1000 + i);
            vt_clear_later(line, i * 16, i * 16 + 9);
            err = vt_fill(line, &r);
        }
        vt_fail_nth(0, false);
        done = !err;
        if (err) {
            ASSERT_EQ(err, -ENOMEM);
            failed++;
        }
        vt_abort(line);
        ASSERT_EQ(text(walk(line, v)), before) << "allocation " << nth;
    }
    EXPECT_GT(failed, 50u);
}

TEST_F(Viewtree, WhatWasReplacedIsFreedThroughTheQueue)
{
    size_t replaced;
    EXPECT_EQ(vt_retire_two_versions(500, &replaced), 0);
    EXPECT_GT(replaced, 20u);
}
