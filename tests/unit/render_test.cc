/* SPDX-License-Identifier: MIT */
#include <gtest/gtest.h>

#include <cerrno>
#include <deque>
#include <string>
#include <vector>

#include "shim/region_shim.h"
#include "shim/render_shim.h"

namespace {

uint8_t memory[0x1000];
MemoryRegionOps ops;

class Render : public testing::Test
{
  protected:
    std::deque<MemoryRegion> regions;
    RtView *view = rt_new(7);
    MemoryRegion *root = container(UINT64_MAX);

    void TearDown() override
    {
        rt_fail_nth(0);
        rt_free(view);
        for (auto mr = regions.rbegin(); mr != regions.rend(); ++mr) {
            if (mr->parent) {
                region_shim_unlink(&*mr);
            }
        }
        for (auto mr = regions.rbegin(); mr != regions.rend(); ++mr) {
            region_shim_fini(&*mr);
        }
    }

    MemoryRegion *region(MemoryRegionKind kind, uint64_t size)
    {
        regions.emplace_back();
        MemoryRegion *mr = &regions.back();
        region_shim_init(mr, kind, size);
        mr->readonly = kind == MEMORY_KIND_ROM;
        if (kind == MEMORY_KIND_IO || kind == MEMORY_KIND_ROM_DEVICE) {
            mr->ops = &ops;
            mr->io_flags = 5;
        }
        if (kind != MEMORY_KIND_IO && kind != MEMORY_KIND_CONTAINER) {
            mr->host = memory;
        }
        return mr;
    }

    MemoryRegion *container(uint64_t size)
    {
        return region(MEMORY_KIND_CONTAINER, size);
    }

    MemoryRegion *io(uint64_t size)
    {
        return region(MEMORY_KIND_IO, size);
    }

    MemoryRegion *ram(uint64_t size)
    {
        return region(MEMORY_KIND_RAM, size);
    }

    MemoryRegion *alias(MemoryRegion *target, hwaddr offset, uint64_t size)
    {
        regions.emplace_back();
        region_shim_init_alias(&regions.back(), target, offset, size);
        return &regions.back();
    }

    MemoryRegion *put(MemoryRegion *parent, hwaddr addr, MemoryRegion *child, int priority = 0)
    {
        region_shim_link(parent, child, addr, priority);
        return child;
    }

    std::vector<RtRange> ranges()
    {
        std::vector<RtRange> out(rt_count(view));
        EXPECT_EQ(rt_ranges(view, out.data(), out.size()), out.size());
        rt_check(view);
        return out;
    }

    std::vector<RtRange> render(MemoryRegion *from)
    {
        EXPECT_EQ(rt_render(view, from, 0, UINT64_MAX), 0);
        return ranges();
    }

    /* "first-last:number@offset " for each range; number: in order of making, the root is 0 */
    std::string shows(MemoryRegion *from)
    {
        std::string out;
        for (const RtRange &r : render(from)) {
            size_t number = 0;
            char one[128];
            while (&regions[number] != r.mr) {
                number++;
            }
            snprintf(one, sizeof(one), "%llx-%llx:%zu@%llx ", (unsigned long long)r.first, (unsigned long long)r.last,
                     number, (unsigned long long)r.offset);
            out += one;
        }
        return out;
    }

    uint32_t flags_of(MemoryRegion *mr)
    {
        put(root, 0x100, mr);
        std::vector<RtRange> all = render(root);
        region_shim_unlink(mr);
        EXPECT_EQ(all.size(), 1u);
        return all.empty() ? ~0u : all[0].flags;
    }
};

} // namespace

TEST_F(Render, HigherPriorityIsOnTopAndAmongEqualsTheLatestAdded)
{
    put(root, 0x10, io(0x10), 1);
    put(root, 0x08, io(0x10), 0);
    put(root, 0x18, io(0x20), 0);
    put(root, 0x1c, io(0x20), 0);
    EXPECT_EQ(shows(root), "8-f:2@0 10-1f:1@0 20-3b:4@4 ");
    region_shim_move(&regions[3], 0x30); /* keeps its place among equals */
    EXPECT_EQ(shows(root), "8-f:2@0 10-1f:1@0 20-3b:4@4 3c-4f:3@c ");
}

TEST_F(Render, AChildCoversItsParentWhateverItsPriority)
{
    MemoryRegion *device = put(root, 0x100, io(0x100));
    put(device, 0x20, io(0x10), -1000);
    EXPECT_EQ(shows(root), "100-11f:1@0 120-12f:2@0 130-1ff:1@30 ");
}

TEST_F(Render, PriorityCountsAmongBrothersOnly)
{
    MemoryRegion *bus = put(root, 0x100, container(0x100), 0);
    put(bus, 0, io(0x100), 1000);
    put(root, 0x180, io(0x10), 1);
    EXPECT_EQ(shows(root), "100-17f:2@0 180-18f:3@0 190-1ff:2@90 ");
}

TEST_F(Render, ChildrenAreClippedToParentsAndToTheSpace)
{
    MemoryRegion *bus = put(root, 0x100, container(0x100));
    put(bus, 0xf0, io(0x1000));
    put(root, UINT64_MAX - 0xf, io(0x1000));
    put(bus, UINT64_MAX, io(0x1000));
    EXPECT_EQ(shows(root), "1f0-1ff:2@0 fffffffffffffff0-ffffffffffffffff:3@0 ");
}

TEST_F(Render, AnAliasShowsAWindowWhereverTheTargetStands)
{
    MemoryRegion *target = ram(0x100);
    put(root, 0x5000, target);
    put(root, 0x1000, alias(target, 0x40, 0x20));
    EXPECT_EQ(shows(root), "1000-101f:1@40 5000-50ff:1@0 ");
    region_shim_unlink(target);
    EXPECT_EQ(shows(root), "1000-101f:1@40 ");
}

TEST_F(Render, AnAliasShowsNothingBeyondItsTarget)
{
    MemoryRegion *target = ram(0x100);
    put(root, 0x1000, alias(target, 0xf0, 0x1000));
    put(root, 0x3000, alias(target, UINT64_MAX - 1, UINT64_MAX));
    EXPECT_EQ(shows(root), "1000-100f:1@f0 ");
}

TEST_F(Render, AnAliasOfAnAliasAddsOffsets)
{
    MemoryRegion *target = ram(0x1000);
    MemoryRegion *inner = alias(target, 0x100, 0x100);
    put(root, 0, alias(inner, 0x80, 0x1000));
    EXPECT_EQ(shows(root), "0-7f:1@180 ");
}

TEST_F(Render, AnAliasOfTheUpperPartOfAWholeSpaceMayStandAtZero)
{
    MemoryRegion *bus = container(UINT64_MAX);
    put(bus, UINT64_MAX - 0xfff, ram(0x1000));
    put(root, 0, alias(bus, UINT64_MAX - 0xfff, 0x1000));
    EXPECT_EQ(shows(root), "0-fff:2@0 ");
}

TEST_F(Render, OnlyTheTargetsOwnFlagHidesItFromAnAlias)
{
    MemoryRegion *bus = container(0x1000), *target = ram(0x100);
    put(bus, 0, target);
    put(root, 0x2000, alias(target, 0, 0x100));
    region_shim_enable(bus, false);
    EXPECT_EQ(shows(root), "2000-20ff:2@0 ");
    region_shim_enable(target, false);
    EXPECT_EQ(shows(root), "");
}

TEST_F(Render, WhatIsDisabledOrOfSizeZeroShowsNothingBelowIt)
{
    MemoryRegion *off = put(root, 0, container(0x100)), *empty = put(root, 0x1000, io(0));
    put(off, 0, io(0x10));
    put(empty, 0, io(0x10));
    put(root, 0x2000, alias(ram(0x100), 0, 0));
    region_shim_enable(off, false);
    EXPECT_EQ(shows(root), "");
}

TEST_F(Render, PiecesOfOneRegionJoinAcrossAliases)
{
    MemoryRegion *target = ram(0x1000);
    put(root, 0, alias(target, 0, 0x400));
    put(root, 0x400, alias(target, 0x400, 0x400));
    put(root, 0x800, alias(target, 0x900, 0x400));
    EXPECT_EQ(shows(root), "0-7ff:1@0 800-bff:1@900 ");
    regions[3].readonly = true;
    EXPECT_EQ(shows(root), "0-3ff:1@0 400-7ff:1@400 800-bff:1@900 ");
}

TEST_F(Render, AnotherBiasKeepsPiecesApart)
{
    MemoryRegion *device = io(0x100);
    put(root, 0, device);
    device->bias = 0x10;
    std::vector<RtRange> all = render(root);
    ASSERT_EQ(all.size(), 1u);
    EXPECT_EQ(all[0].bias, 0x10u);
    EXPECT_EQ(all[0].offset, 0u);
}

TEST_F(Render, FlagsSayHowDispatchReachesIt)
{
    EXPECT_EQ(flags_of(ram(0x100)), uint32_t(RT_ROMD | RT_DIRECT_READ | RT_DIRECT_WRITE));
    EXPECT_EQ(flags_of(region(MEMORY_KIND_ROM, 0x100)), uint32_t(RT_ROMD | RT_DIRECT_READ | RT_READONLY));
    EXPECT_EQ(flags_of(region(MEMORY_KIND_RAM_DEVICE, 0x100)), uint32_t(RT_ROMD | RT_EXACT));
    EXPECT_EQ(flags_of(io(0x100)), uint32_t(RT_ROMD | 5 << RT_IO_SHIFT));
    MemoryRegion *flash = region(MEMORY_KIND_ROM_DEVICE, 0x100);
    EXPECT_EQ(flags_of(flash), uint32_t(RT_ROMD | RT_DIRECT_READ | 5 << RT_IO_SHIFT));
    flash->romd = false;
    EXPECT_EQ(flags_of(flash), uint32_t(5 << RT_IO_SHIFT));
    EXPECT_EQ(flags_of(alias(ram(0x100), 0, 0x100)), uint32_t(RT_ROMD | RT_DIRECT_READ | RT_DIRECT_WRITE));
}

TEST_F(Render, ReadonlyAndNonvolatileGatherOnTheWay)
{
    MemoryRegion *bus = put(root, 0, container(0x1000)), *target = ram(0x100);
    MemoryRegion *window = put(bus, 0x100, alias(target, 0x10, 0x20));
    bus->nonvolatile = true;
    window->readonly = true;
    std::vector<RtRange> all = render(root);
    ASSERT_EQ(all.size(), 1u);
    EXPECT_EQ(all[0].flags, uint32_t(RT_ROMD | RT_DIRECT_READ | RT_READONLY | RT_NONVOLATILE));
    EXPECT_EQ(all[0].host, memory + 0x10);
    EXPECT_EQ(all[0].ops, nullptr);
}

TEST_F(Render, HostIsThatOfTheFirstByteOfEachPiece)
{
    put(root, 0x100, ram(0x100));
    put(root, 0x140, io(0x10), 1);
    std::vector<RtRange> all = render(root);
    ASSERT_EQ(all.size(), 3u);
    EXPECT_EQ(all[0].host, memory);
    EXPECT_EQ(all[1].host, nullptr);
    EXPECT_EQ(all[1].ops, &ops);
    EXPECT_EQ(all[2].host, memory + 0x50);
}

TEST_F(Render, ARootIsPaintedAtItsOwnOffset)
{
    MemoryRegion *bus = put(root, 0x1000, container(0x1000));
    put(bus, 0x10, io(0x10));
    EXPECT_EQ(shows(bus), "1010-101f:2@0 ");
}

TEST_F(Render, ASpanIsAllThatChanges)
{
    put(root, 0, ram(0x1000));
    EXPECT_EQ(shows(root), "0-fff:1@0 ");
    put(root, 0x100, io(0x800), 1);
    EXPECT_EQ(rt_render(view, root, 0x200, 0x2ff), 0);
    std::vector<RtRange> all = ranges();
    ASSERT_EQ(all.size(), 3u);
    EXPECT_EQ(all[1].first, 0x200u);
    EXPECT_EQ(all[1].offset, 0x100u);
    EXPECT_EQ(all[2].first, 0x300u);
    EXPECT_EQ(rt_render(view, NULL, 0x250, UINT64_MAX), 0);
    EXPECT_EQ(ranges().back().last, 0x24fu);
}

TEST_F(Render, DatesWhatComesAndGoes)
{
    MemoryRegion *a = put(root, 0, io(0x10)), *hidden = put(root, 0x100, io(0x10));
    region_shim_enable(hidden, false);
    render(root);
    EXPECT_EQ(a->first_gen, 7u);
    EXPECT_EQ(a->last_gen, 0u);
    EXPECT_EQ(hidden->first_gen, 0u);
    region_shim_unlink(a);
    render(root);
    EXPECT_EQ(a->last_gen, 7u);
}

TEST_F(Render, ManyBrothersThatOverlapAreSorted)
{
    const int n = 300; /* more than fit without an allocation */
    for (int i = 0; i < n; i++) {
        put(root, hwaddr(i), io(1000), i * 37 % 11);
    }
    for (const RtRange &r : render(root)) {
        for (hwaddr addr : {r.first, r.last}) {
            MemoryRegion *top = nullptr;
            for (MemoryRegion &mr : regions) {
                if (&mr != root && mr.addr <= addr && addr <= mr.addr + mr.last &&
                    (!top || mr.priority >= top->priority)) {
                    top = &mr;
                }
            }
            EXPECT_EQ(r.mr, top) << addr;
        }
    }
    EXPECT_GT(rt_count(view), 10u);
    /* no memory for the list */
    rt_fail_nth(1);
    EXPECT_EQ(rt_render(view, root, 0, UINT64_MAX), -ENOMEM);
    rt_fail_nth(0);
}

TEST_F(Render, BrothersThatDoNotOverlapCostAFillEach)
{
    const unsigned n = 5000;
    for (unsigned i = 0; i < n; i++) {
        put(root, i * 16, io(8), int(i % 5));
    }
    render(root);
    EXPECT_EQ(rt_count(view), n);
    EXPECT_LE(rt_steps(view), n + 2u);
}

TEST_F(Render, NestingHasALimit)
{
    MemoryRegion *outer = root;
    unsigned depth;
    for (depth = 1; depth < rt_max_depth() - 1; depth++) {
        outer = put(outer, 0, container(0x1000));
    }
    MemoryRegion *last = put(outer, 0, io(0x10));
    EXPECT_EQ(rt_render(view, root, 0, UINT64_MAX), 0);
    EXPECT_EQ(rt_count(view), 1u);
    put(last, 0, io(0x8));
    EXPECT_EQ(rt_render(view, root, 0, UINT64_MAX), -E2BIG);
}

TEST_F(Render, EveryAllocationMayFail)
{
    MemoryRegion *bus = put(root, 0x1000, container(0x10000));
    for (int i = 0; i < 200; i++) {
        put(bus, hwaddr(i) * 16, io(i % 3 ? 8 : 40), i % 4);
    }
    int err = -ENOMEM;
    for (uint64_t nth = 1; err; nth++) {
        rt_fail_nth(nth);
        err = rt_render(view, root, 0, UINT64_MAX);
        rt_fail_nth(0);
        EXPECT_TRUE(err == 0 || err == -ENOMEM);
        if (err) {
            rt_free(view);
            view = rt_new(7);
        }
    }
    EXPECT_GE(rt_count(view), 200u);
}

/* ---- the root that a view starts from ---- */

namespace {

class RenderRoot : public Render
{
  protected:
    std::vector<MemoryRegion *> visited;

    static void visit(MemoryRegion *mr, void *arg)
    {
        static_cast<RenderRoot *>(arg)->visited.push_back(mr);
    }

    MemoryRegion *of(MemoryRegion *mr)
    {
        visited.clear();
        MemoryRegion *result = rt_root(mr, visit, this);
        EXPECT_EQ(result, rt_root(mr, NULL, NULL));
        return result;
    }
};

} // namespace

TEST_F(RenderRoot, ADisabledOneAndAnEmptyContainerShowNothing)
{
    EXPECT_EQ(of(root), nullptr);
    MemoryRegion *child = put(root, 0, io(0x10));
    EXPECT_EQ(of(root), child);
    region_shim_enable(child, false);
    EXPECT_EQ(of(root), nullptr);
    region_shim_enable(child, true);
    region_shim_enable(root, false);
    EXPECT_EQ(of(root), nullptr);
}

TEST_F(RenderRoot, AnAliasOfAllOfItsTargetStandsForIt)
{
    MemoryRegion *target = io(0x1000), *window = alias(target, 0, 0x1000);
    EXPECT_EQ(of(window), target);
    EXPECT_EQ(visited, (std::vector<MemoryRegion *>{window, target}));
    EXPECT_EQ(of(alias(target, 0, UINT64_MAX)), target);
    window = alias(target, 0, 0xfff);
    EXPECT_EQ(of(window), window);
    window = alias(target, 1, 0x1000);
    EXPECT_EQ(of(window), window);
    EXPECT_EQ(visited, (std::vector<MemoryRegion *>{window, target}));
}

TEST_F(RenderRoot, AContainerStandsForAnOnlyChildAtZero)
{
    MemoryRegion *bus = put(root, 0, container(UINT64_MAX));
    MemoryRegion *device = put(bus, 0, io(0x1000));
    put(bus, 0x10, io(0x10));
    region_shim_enable(&regions[3], false);
    EXPECT_EQ(of(root), device);
    EXPECT_EQ(visited, (std::vector<MemoryRegion *>{root, bus, device}));
    region_shim_enable(&regions[3], true);
    EXPECT_EQ(of(root), bus);
    region_shim_enable(&regions[3], false);
    region_shim_move(device, 1);
    EXPECT_EQ(of(root), bus);
    EXPECT_EQ(visited, (std::vector<MemoryRegion *>{root, bus, device}));
}

TEST_F(RenderRoot, AChildLargerThanTheContainerEndsTheChain)
{
    MemoryRegion *bus = container(0x1000);
    put(bus, 0, io(0x1001));
    EXPECT_EQ(of(bus), bus);
}

TEST_F(RenderRoot, WhatWouldBeLostEndsTheChain)
{
    MemoryRegion *target = io(0x1000), *window = alias(target, 0, 0x1000);
    window->readonly = true;
    EXPECT_EQ(of(window), window);
    window->readonly = false;
    window->nonvolatile = true;
    EXPECT_EQ(of(window), window);
    window->nonvolatile = false;
    put(container(0x10000), 0x2000, target); /* it would be painted there */
    EXPECT_EQ(of(window), window);
    region_shim_move(window, 0x2000);
    EXPECT_EQ(of(window), target);
}

TEST_F(RenderRoot, TheChainShowsWhatTheRootShows)
{
    MemoryRegion *bus = put(root, 0, container(UINT64_MAX));
    put(bus, 0, container(0x1000));
    put(&regions[2], 0, alias(ram(0x800), 0, 0x800));
    EXPECT_EQ(shows(root), shows(of(root)));
    EXPECT_EQ(of(root), &regions[3]); /* the RAM */
}
