/* SPDX-License-Identifier: MIT */
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "shim/viewtree_shim.h"

namespace {

class Viewdiff : public testing::Test
{
  protected:
    VtLine *line = vt_new();
    std::string seen;
    unsigned calls = 0, stop_after = 0;

    void TearDown() override
    {
        EXPECT_EQ(vt_free(line), 0);
    }

    void fill(uint64_t first, uint64_t last, uint32_t region = 0)
    {
        VtRange r = {first, last, 0, region, 0};
        ASSERT_EQ(vt_fill(line, &r), 0);
    }

    unsigned load(uint64_t n)
    {
        vt_begin(line, 0);
        for (uint64_t i = 0; i < n; i++) {
            fill(i * 16, i * 16 + 7);
        }
        return vt_commit(line);
    }

    static int call(const VtRange *old_range, const VtRange *new_range, void *arg)
    {
        Viewdiff *t = static_cast<Viewdiff *>(arg);
        const VtRange *r = old_range ? old_range : new_range;
        char one[64];
        snprintf(one, sizeof(one), "%c%llx-%llx ", old_range ? '-' : '+', (unsigned long long)r->first,
                 (unsigned long long)r->last);
        t->seen += one;
        return ++t->calls == t->stop_after ? 42 : 0;
    }

    int diff(unsigned a, unsigned b, uint64_t first = 0, uint64_t last = UINT64_MAX)
    {
        seen.clear();
        calls = 0;
        return vt_diff(line, a, b, first, last, call, this);
    }

    bool counts()
    {
        diff(0, load(1));
        return vt_diff_entered() > 0;
    }
};

} // namespace

TEST_F(Viewdiff, OfATreeWithItselfLooksAtNothing)
{
    unsigned v = load(5000);
    EXPECT_EQ(diff(v, v), 0);
    EXPECT_EQ(calls, 0u);
    EXPECT_EQ(vt_diff_entered(), 0u);
}

TEST_F(Viewdiff, AgainstTheEmptyTreeIsEverything)
{
    unsigned v = load(3);
    diff(0, v);
    EXPECT_EQ(seen, "+0-7 +10-17 +20-27 ");
    diff(v, 0);
    EXPECT_EQ(seen, "-0-7 -10-17 -20-27 ");
    diff(0, 0);
    EXPECT_EQ(seen, "");
}

TEST_F(Viewdiff, GivesTheOldRangeBeforeTheNewOneAtTheSameAddress)
{
    unsigned v = load(3);
    vt_begin(line, v);
    vt_clear(line, 0x14, 0x17);
    unsigned w = vt_commit(line);
    diff(v, w);
    EXPECT_EQ(seen, "-10-17 +10-13 ");
    diff(w, v);
    EXPECT_EQ(seen, "-10-13 +10-17 ");
}

TEST_F(Viewdiff, EqualRangesInNodesThatDifferAreNoDifference)
{
    unsigned v = load(5000);
    vt_begin(line, v);
    vt_clear(line, 0x100, 0x107);
    fill(0x100, 0x107);
    unsigned w = vt_commit(line);
    diff(v, w);
    EXPECT_EQ(seen, "");
}

TEST_F(Viewdiff, StopsWhenTold)
{
    unsigned v = load(100);
    stop_after = 3;
    EXPECT_EQ(diff(0, v), 42);
    EXPECT_EQ(calls, 3u);
}

TEST_F(Viewdiff, ShowsOnlyWhatOverlapsTheSpan)
{
    unsigned v = load(100);
    diff(0, v, 0x17, 0x30);
    EXPECT_EQ(seen, "+10-17 +20-27 +30-37 ");
    diff(v, 0, 0x18, 0x2f);
    EXPECT_EQ(seen, "-20-27 ");
    diff(0, v, 0x18, 0x1f);
    EXPECT_EQ(seen, "");
}

TEST_F(Viewdiff, OfASmallChangeLooksIntoFewNodes)
{
    if (!counts()) {
        GTEST_SKIP() << "needs debug checks";
    }
    const uint64_t n = 100000;
    std::mt19937_64 random(5);
    unsigned v = load(n);

    for (unsigned k = 0; k < 200; k++) {
        unsigned changes = 1 + random() % 8;
        vt_begin(line, v);
        for (unsigned c = 0; c < changes; c++) {
            uint64_t i = random() % n;
            if (random() % 2) {
                vt_clear(line, i * 16, i * 16 + 15);
            } else {
                fill(i * 16 + 9, i * 16 + 11, 3);
            }
        }
        unsigned w = vt_commit(line);
        diff(v, w);
        /* both paths of each change, and what a merge or split on the way puts out of step: a few leaves a level */
        ASSERT_LE(vt_diff_entered(), changes * 4 * 2 * vt_height(line, v)) << changes << " changes";
        v = w;
    }
}

TEST_F(Viewdiff, ReadsOnAfterWholeSubtreesWentAway)
{
    if (!counts()) {
        GTEST_SKIP() << "needs debug checks";
    }
    const uint64_t n = 100000;
    unsigned v = load(n);
    vt_begin(line, v);
    vt_clear(line, 1000 * 16, 1100 * 16 - 1);
    unsigned w = vt_commit(line);
    diff(v, w);
    EXPECT_EQ(calls, 100u);
    EXPECT_LE(vt_diff_entered(), 100u);
}
