/* SPDX-License-Identifier: MIT */
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <tuple>
#include <vector>

#include "shim/region_shim.h"

namespace {

typedef std::tuple<MemoryRegion *, hwaddr, hwaddr> Visit;

class Walk : public testing::Test {
protected:
    MemoryRegion *Container(uint64_t size)
    {
        regions.emplace_back(new MemoryRegion);
        region_shim_init(regions.back().get(), MEMORY_KIND_CONTAINER, size);
        return regions.back().get();
    }

    MemoryRegion *Alias(MemoryRegion *target, hwaddr offset, uint64_t size)
    {
        regions.emplace_back(new MemoryRegion);
        region_shim_init_alias(regions.back().get(), target, offset, size);
        return regions.back().get();
    }

    static bool Note(MemoryRegion *mr, hwaddr first, hwaddr last, void *arg)
    {
        Walk *walk = (Walk *)arg;
        walk->visits.emplace_back(mr, first, last);
        return mr != walk->stop;
    }

    /* Every visit, in no order that matters. */
    std::vector<Visit> Up(MemoryRegion *mr, hwaddr first, hwaddr last)
    {
        visits.clear();
        complete = region_shim_walk_up(mr, first, last, Note, this);
        std::sort(visits.begin(), visits.end());
        return visits;
    }

    static std::vector<Visit> Sorted(std::vector<Visit> v)
    {
        std::sort(v.begin(), v.end());
        return v;
    }

    void TearDown() override
    {
        for (auto &mr : regions) {
            if (mr->parent) {
                region_shim_unlink(mr.get());
            }
        }
        while (!regions.empty()) {
            region_shim_fini(regions.back().get());
            regions.pop_back();
        }
    }

    std::vector<std::unique_ptr<MemoryRegion>> regions;
    std::vector<Visit> visits;
    MemoryRegion *stop = NULL;
    bool complete = false;
};

TEST_F(Walk, BeginsWithTheRegionItself)
{
    MemoryRegion *mr = Container(0x1000);

    EXPECT_EQ(Up(mr, 0x10, 0x1f), (std::vector<Visit>{ Visit(mr, 0x10, 0x1f) }));
    EXPECT_TRUE(complete);
    EXPECT_EQ(Up(mr, 0xf00, 0x1f00), (std::vector<Visit>{ Visit(mr, 0xf00, 0xfff) })) << "clipped to it";
    EXPECT_EQ(Up(mr, 0x1000, 0x1f00), std::vector<Visit>());
}

TEST_F(Walk, ShiftsAndClipsAtEachParent)
{
    MemoryRegion *top = Container(0x3000), *middle = Container(0x2000), *mr = Container(0x1000);

    region_shim_link(top, middle, 0x1800, 0);
    region_shim_link(middle, mr, 0x1000, 0);
    EXPECT_EQ(Up(mr, 0, 0xfff), Sorted({ Visit(mr, 0, 0xfff), Visit(middle, 0x1000, 0x1fff), Visit(top, 0x2800, 0x2fff) }));
    EXPECT_EQ(Up(mr, 0x800, 0xfff), Sorted({ Visit(mr, 0x800, 0xfff), Visit(middle, 0x1800, 0x1fff) }));
}

TEST_F(Walk, EndsWhereAddressesEnd)
{
    MemoryRegion *top = Container(UINT64_MAX), *mr = Container(UINT64_MAX);

    region_shim_link(top, mr, UINT64_MAX - 0xf, 0);
    EXPECT_EQ(Up(mr, 8, UINT64_MAX), Sorted({ Visit(mr, 8, UINT64_MAX), Visit(top, UINT64_MAX - 7, UINT64_MAX) }));
    EXPECT_EQ(Up(mr, 16, UINT64_MAX), Sorted({ Visit(mr, 16, UINT64_MAX) }));
}

TEST_F(Walk, GoesThroughTheWindowsOfAliases)
{
    MemoryRegion *target = Container(0x10000);
    MemoryRegion *low = Alias(target, 0, 0x1000), *high = Alias(target, 0x8000, 0x1000);
    MemoryRegion *beyond = Alias(target, UINT64_MAX - 1, UINT64_MAX), *empty = Alias(target, 0x800, 0);
    MemoryRegion *bus = Container(UINT64_MAX);

    region_shim_link(bus, high, 0x100000, 0);
    EXPECT_EQ(Up(target, 0x800, 0x87ff), Sorted({ Visit(target, 0x800, 0x87ff), Visit(low, 0x800, 0xfff),
                                                  Visit(high, 0, 0x7ff), Visit(bus, 0x100000, 0x1007ff) }));
    EXPECT_EQ(Up(target, 0x9000, 0xffff), Sorted({ Visit(target, 0x9000, 0xffff) }));
    (void)beyond;
    (void)empty;
}

TEST_F(Walk, StopsAtWhatIsDisabled)
{
    MemoryRegion *top = Container(0x1000), *middle = Container(0x1000), *mr = Container(0x1000);
    MemoryRegion *alias = Alias(mr, 0, 0x1000);

    region_shim_link(top, middle, 0, 0);
    region_shim_link(middle, mr, 0, 0);
    region_shim_enable(middle, false);
    EXPECT_EQ(Up(mr, 0, 0), Sorted({ Visit(mr, 0, 0), Visit(alias, 0, 0) }));
    region_shim_enable(mr, false);
    EXPECT_EQ(Up(mr, 0, 0), std::vector<Visit>());
    EXPECT_TRUE(complete);
}

TEST_F(Walk, StopsWhereTheVisitorSaysSo)
{
    MemoryRegion *top = Container(0x1000), *mr = Container(0x1000), *alias = Alias(mr, 0, 0x1000);
    MemoryRegion *bus = Container(0x1000);

    region_shim_link(top, mr, 0, 0);
    region_shim_link(bus, alias, 0, 0);
    stop = alias;
    EXPECT_EQ(Up(mr, 0, 0), Sorted({ Visit(mr, 0, 0), Visit(top, 0, 0), Visit(alias, 0, 0) }));
    EXPECT_TRUE(complete);
}

TEST_F(Walk, ComesByOnceForEachWay)
{
    MemoryRegion *target = Container(0x1000), *bus = Container(0x10000);
    MemoryRegion *a = Alias(target, 0, 0x1000), *b = Alias(target, 0, 0x1000);

    region_shim_link(bus, a, 0x1000, 0);
    region_shim_link(bus, b, 0x2000, 0);
    EXPECT_EQ(Up(target, 5, 5), Sorted({ Visit(target, 5, 5), Visit(a, 5, 5), Visit(b, 5, 5), Visit(bus, 0x1005, 0x1005),
                                         Visit(bus, 0x2005, 0x2005) }));
}

TEST_F(Walk, NeedsNoRoomForAStraightLine)
{
    MemoryRegion *mr = Container(1), *below = mr;
    unsigned n = region_shim_walk_branches() * 10;

    for (unsigned i = 0; i < n; i++) {
        MemoryRegion *parent = Container(1);
        region_shim_link(parent, below, 0, 0);
        below = parent;
    }
    EXPECT_EQ(Up(mr, 0, 0).size(), n + 1);
    EXPECT_TRUE(complete);
}

TEST_F(Walk, GivesUpWhenWaysMultiply)
{
    MemoryRegion *mr = Container(1), *below = mr;

    for (int i = 0; i < 24; i++) { /* 2^24 ways */
        MemoryRegion *a = Alias(below, 0, 1), *b = Alias(below, 0, 1), *parent = Container(1);
        region_shim_link(parent, a, 0, 0);
        region_shim_link(parent, b, 0, 0);
        below = parent;
    }
    EXPECT_LE(Up(mr, 0, 0).size(), region_shim_walk_budget());
    EXPECT_FALSE(complete);
}

TEST_F(Walk, GivesUpWhenWaysForkTooDeep)
{
    MemoryRegion *mr = Container(1), *below = mr;

    for (unsigned i = 0; i < region_shim_walk_branches() + 1; i++) {
        MemoryRegion *parent = Container(1);
        Alias(below, 0, 1);
        region_shim_link(parent, below, 0, 0);
        below = parent;
    }
    Up(mr, 0, 0);
    EXPECT_FALSE(complete);
}

TEST_F(Walk, ALoopIsToldFromATree)
{
    MemoryRegion *top = Container(0x1000), *middle = Container(0x1000), *leaf = Container(0x1000);

    region_shim_link(top, middle, 0, 0);
    EXPECT_FALSE(region_shim_makes_loop(middle, leaf, 0));
    EXPECT_TRUE(region_shim_makes_loop(middle, middle, 0));
    EXPECT_TRUE(region_shim_makes_loop(middle, top, 0));
    EXPECT_TRUE(region_shim_makes_loop(middle, top, 0x1000)) << "even where nothing of it would show";
    EXPECT_FALSE(region_shim_makes_loop(leaf, top, 0));
    region_shim_enable(top, false);
    EXPECT_TRUE(region_shim_makes_loop(middle, top, 0));
}

TEST_F(Walk, ABusMayShowAWindowOfItselfElsewhere)
{
    MemoryRegion *bus = Container(0x10000), *alias = Alias(bus, 0x1000, 0x1000);

    EXPECT_FALSE(region_shim_makes_loop(bus, alias, 0x8000));
    EXPECT_FALSE(region_shim_makes_loop(bus, alias, 0));
    EXPECT_FALSE(region_shim_makes_loop(bus, alias, 0x2000));
    EXPECT_TRUE(region_shim_makes_loop(bus, alias, 0x1000));
    EXPECT_TRUE(region_shim_makes_loop(bus, alias, 1)) << "one byte";
    EXPECT_TRUE(region_shim_makes_loop(bus, alias, 0x1fff));
}

TEST_F(Walk, ALoopIsFoundThroughContainersAndAliases)
{
    MemoryRegion *bus = Container(0x10000), *card = Container(0x1000), *inner = Container(0x1000);
    MemoryRegion *window = Alias(bus, 0x4000, 0x1000), *again = Alias(window, 0, 0x1000);

    region_shim_link(card, inner, 0, 0);
    region_shim_link(inner, again, 0, 0);
    EXPECT_TRUE(region_shim_makes_loop(bus, card, 0x4000));
    EXPECT_TRUE(region_shim_makes_loop(bus, card, 0x3800));
    EXPECT_FALSE(region_shim_makes_loop(bus, card, 0x5000));
    region_shim_enable(card, false);
    EXPECT_FALSE(region_shim_makes_loop(bus, card, 0x4000)) << "what is not seen cannot be seen in itself";
}

TEST_F(Walk, SearchingForLoopsIsLinear)
{
    MemoryRegion *mr = Container(1), *below = mr, *child = Container(1), *grandchild = Container(1);

    region_shim_link(child, grandchild, 0, 0);
    for (int i = 0; i < 1000; i++) { /* 2^1000 ways */
        MemoryRegion *a = Alias(below, 0, 1), *b = Alias(below, 0, 1), *parent = Container(1);
        region_shim_link(parent, a, 0, 0);
        region_shim_link(parent, b, 0, 0);
        below = parent;
    }
    EXPECT_FALSE(region_shim_makes_loop(mr, child, 0));
}

} // namespace
