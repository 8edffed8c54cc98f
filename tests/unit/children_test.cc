/* SPDX-License-Identifier: MIT */
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "shim/region_shim.h"

namespace {

class Children : public testing::Test {
protected:
    void SetUp() override
    {
        region_shim_init(&parent, MEMORY_KIND_CONTAINER, UINT64_MAX);
    }

    MemoryRegion *Add(hwaddr addr, uint64_t size)
    {
        children.emplace_back(new MemoryRegion);
        MemoryRegion *mr = children.back().get();
        region_shim_init(mr, MEMORY_KIND_IO, size);
        region_shim_link(&parent, mr, addr, 0);
        return mr;
    }

    std::vector<MemoryRegion *> In(hwaddr first, hwaddr last)
    {
        std::vector<MemoryRegion *> found;
        for (MemoryRegion *mr = region_shim_children_first(&parent, first, last); mr;
             mr = region_shim_children_next(mr, first, last)) {
            found.push_back(mr);
        }
        return found;
    }

    std::vector<MemoryRegion *> All()
    {
        std::vector<MemoryRegion *> found;
        for (MemoryRegion *mr = region_shim_children_begin(&parent); mr; mr = region_shim_children_after(mr)) {
            found.push_back(mr);
        }
        return found;
    }

    void TearDown() override
    {
        region_shim_children_check(&parent);
        for (auto &child : children) {
            if (child->parent) {
                region_shim_unlink(child.get());
            }
            region_shim_fini(child.get());
        }
        region_shim_children_check(&parent);
        region_shim_fini(&parent);
    }

    MemoryRegion parent;
    std::vector<std::unique_ptr<MemoryRegion>> children;
};

typedef std::vector<MemoryRegion *> Regions;

TEST_F(Children, EmptyContainerHasNone)
{
    EXPECT_EQ(In(0, UINT64_MAX), Regions());
    EXPECT_EQ(All(), Regions());
}

TEST_F(Children, WindowFindsWhatItTouchesWithOneByte)
{
    MemoryRegion *mr = Add(0x1000, 0x1000);

    EXPECT_EQ(In(0, 0xfff), Regions());
    EXPECT_EQ(In(0, 0x1000), Regions{ mr });
    EXPECT_EQ(In(0x1fff, UINT64_MAX), Regions{ mr });
    EXPECT_EQ(In(0x2000, UINT64_MAX), Regions());
}

TEST_F(Children, ComeInOrderOfAddressThenOfAge)
{
    MemoryRegion *b = Add(0x2000, 0x10);
    MemoryRegion *c = Add(0x2000, 0x1000);
    MemoryRegion *a = Add(0x1000, 0x2000);

    EXPECT_EQ(In(0x2000, 0x2000), (Regions{ a, b, c }));
    EXPECT_EQ(All(), (Regions{ a, b, c }));
}

TEST_F(Children, EmptyOnesAreListedButNeverFound)
{
    MemoryRegion *none = Add(0, 0);
    MemoryRegion *mr = Add(0, 1);

    EXPECT_EQ(In(0, UINT64_MAX), Regions{ mr });
    EXPECT_EQ(All(), (Regions{ none, mr }));
}

TEST_F(Children, OnlyEmptyOnesShowNothing)
{
    for (int i = 0; i < 100; i++) {
        Add(0, 0);
    }
    EXPECT_EQ(In(0, UINT64_MAX), Regions());
    EXPECT_EQ(All().size(), 100u);
}

TEST_F(Children, ReachingBeyondTheEndIsClipped)
{
    MemoryRegion *high = Add(UINT64_MAX - 1, 0x1000);
    MemoryRegion *whole = Add(0x1000, UINT64_MAX);

    EXPECT_EQ(In(0, 0xfff), Regions());
    EXPECT_EQ(In(UINT64_MAX, UINT64_MAX), (Regions{ whole, high }));
}

TEST_F(Children, TheWholeSpaceIsOneChild)
{
    MemoryRegion *mr = Add(0, UINT64_MAX);

    EXPECT_EQ(In(UINT64_MAX, UINT64_MAX), Regions{ mr });
    EXPECT_EQ(In(0, 0), Regions{ mr });
}

TEST_F(Children, GrowingAndShrinkingChangesWhatIsFound)
{
    std::vector<MemoryRegion *> mr;
    for (hwaddr i = 0; i < 50; i++) {
        mr.push_back(Add(i * 0x100, 0x10));
    }
    region_shim_resize(mr[3], 0x100000);
    region_shim_children_check(&parent);
    EXPECT_EQ(In(0x80000, UINT64_MAX), Regions{ mr[3] });
    region_shim_resize(mr[3], 0);
    region_shim_children_check(&parent);
    EXPECT_EQ(In(0x80000, UINT64_MAX), Regions());
    EXPECT_EQ(In(0x300, 0x3ff), Regions());
    region_shim_resize(mr[3], UINT64_MAX);
    region_shim_children_check(&parent);
    EXPECT_EQ(In(UINT64_MAX, UINT64_MAX), Regions{ mr[3] });
}

TEST_F(Children, MovingKeepsThePlaceAmongEquals)
{
    MemoryRegion *a = Add(0x1000, 0x10), *b = Add(0x1000, 0x10);

    region_shim_move(a, 0);
    EXPECT_EQ(All(), (Regions{ a, b }));
    region_shim_move(b, 0);
    EXPECT_EQ(All(), (Regions{ a, b }));
    region_shim_move(a, 0x2000);
    EXPECT_EQ(All(), (Regions{ b, a }));
}

TEST_F(Children, DisabledOnesAreListedButNeverFound)
{
    std::vector<MemoryRegion *> bank;
    for (int i = 0; i < 100; i++) {
        bank.push_back(Add(0x1000, 0x1000 + (uint64_t)i));
        region_shim_enable(bank.back(), false);
    }
    EXPECT_EQ(In(0, UINT64_MAX), Regions());
    EXPECT_EQ(region_shim_children_first_enabled(&parent), nullptr);
    region_shim_enable(bank[70], true);
    region_shim_children_check(&parent);
    EXPECT_EQ(In(0, UINT64_MAX), Regions{ bank[70] });
    EXPECT_EQ(region_shim_children_first_enabled(&parent), bank[70]);
    region_shim_resize(bank[70], 0);
    EXPECT_EQ(In(0, UINT64_MAX), Regions());
    EXPECT_EQ(region_shim_children_first_enabled(&parent), bank[70]);
    EXPECT_EQ(All(), bank);
}

TEST_F(Children, AMoveBetweenTheSameNeighboursIsFound)
{
    MemoryRegion *a = Add(0x1000, 0x100), *b = Add(0x2000, 0x100), *c = Add(0x3000, 0x100);

    region_shim_move(b, 0x2f00);
    region_shim_children_check(&parent);
    EXPECT_EQ(In(0x2000, 0x2eff), Regions());
    EXPECT_EQ(In(0x2fff, 0x2fff), Regions{ b });
    region_shim_move(b, 0x1001);
    EXPECT_EQ(In(0x1001, 0x1001), (Regions{ a, b }));
    region_shim_move(c, UINT64_MAX);
    region_shim_children_check(&parent);
    EXPECT_EQ(In(0x1101, UINT64_MAX), Regions{ c });
    region_shim_move(a, 0x1001); /* from now on equals: their age decides */
    region_shim_move(b, 0x1000);
    region_shim_move(b, 0x1001);
    EXPECT_EQ(All(), (Regions{ a, b, c }));
}

TEST_F(Children, AreCountedAndSoAreTheEnabled)
{
    MemoryRegion *a = Add(0, 1), *b = Add(1, 1);

    region_shim_enable(a, false);
    EXPECT_EQ(parent.n_children, 2u);
    EXPECT_EQ(parent.n_enabled_children, 1u);
    region_shim_enable(a, false);
    EXPECT_EQ(parent.n_enabled_children, 1u);
    region_shim_unlink(a);
    EXPECT_EQ(parent.n_enabled_children, 1u);
    region_shim_unlink(b);
    EXPECT_EQ(parent.n_children, 0u);
    EXPECT_EQ(parent.n_enabled_children, 0u);
    region_shim_enable(a, true);
    region_shim_link(&parent, a, 0, 0);
    EXPECT_EQ(parent.n_enabled_children, 1u);
}

TEST_F(Children, StayBalancedWhateverTheOrderOfInsertion)
{
    for (hwaddr i = 0; i < 1 << 12; i++) {
        Add(i, 1);
    }
    EXPECT_LE(parent.children->tree_height, 13u); /* AVL: 1.44 log2(n), and ascending insertion is best filled */
    region_shim_children_check(&parent);
    for (hwaddr i = 0; i < 1 << 12; i++) {
        Add((hwaddr)1 << 32 >> i % 32, 1);
    }
    EXPECT_LE(parent.children->tree_height, 18u);
}

} // namespace
