/* SPDX-License-Identifier: MIT */
/*
 * memory_text_test.cc - the odd cases of the printout; that it is QEMU's otherwise, the captured machines show.
 */
#include <errno.h>
#include <flatview/memory.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

namespace {

class MemoryText : public testing::Test {
protected:
    MemoryRegion *Container(const char *name, uint64_t size)
    {
        regions.emplace_back(new MemoryRegion);
        EXPECT_EQ(memory_region_init(regions.back().get(), name, size), 0);
        return regions.back().get();
    }

    MemoryRegion *Ram(const char *name, uint64_t size)
    {
        regions.emplace_back(new MemoryRegion);
        EXPECT_EQ(memory_region_init_ram(regions.back().get(), name, size), 0);
        return regions.back().get();
    }

    MemoryRegion *Reservation(const char *name, uint64_t size)
    {
        regions.emplace_back(new MemoryRegion);
        EXPECT_EQ(memory_region_init_reservation(regions.back().get(), name, size), 0);
        return regions.back().get();
    }

    MemoryRegion *Alias(const char *name, MemoryRegion *target, hwaddr offset, uint64_t size)
    {
        regions.emplace_back(new MemoryRegion);
        EXPECT_EQ(memory_region_init_alias(regions.back().get(), name, target, offset, size), 0);
        return regions.back().get();
    }

    void Space(MemoryRegion *root, const char *name)
    {
        spaces.emplace_back(new AddressSpace);
        ASSERT_EQ(address_space_init(spaces.back().get(), root, name), 0);
    }

    template <typename Print> std::string Text(Print print, int want = 0)
    {
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);
        EXPECT_EQ(print(out), want);
        fclose(out);
        std::string s(text, size);
        free(text);
        return s;
    }

    std::string Tree(bool show_disabled = false)
    {
        return Text([=](FILE *out) { return memory_print_tree(out, show_disabled); });
    }

    std::string Views()
    {
        return Text([](FILE *out) { return memory_print_flatviews(out); });
    }

    void TearDown() override
    {
        for (auto &as : spaces) {
            EXPECT_EQ(address_space_destroy(as.get(), NULL), 0);
        }
        for (auto &mr : regions) {
            if (MemoryRegion *parent = memory_region_get_parent(mr.get())) {
                EXPECT_EQ(memory_region_del_subregion(parent, mr.get()), 0);
            }
        }
        for (auto mr = regions.rbegin(); mr != regions.rend(); ++mr) {
            EXPECT_EQ(memory_region_destroy(mr->get()), 0);
        }
        for (auto &mr : regions) {
            EXPECT_EQ(memory_region_quiesce(mr.get()), 0);
        }
        EXPECT_EQ(memory_reclaim(), 0);
    }

    std::vector<std::unique_ptr<MemoryRegion>> regions;
    std::vector<std::unique_ptr<AddressSpace>> spaces;
};

TEST_F(MemoryText, NothingPrintsNothing)
{
    EXPECT_EQ(Tree(), "");
    EXPECT_EQ(Views(), "");
}

TEST_F(MemoryText, SpacesOfOneRootStandTogetherInOrderOfCreation)
{
    MemoryRegion *a = Container("a", UINT64_MAX), *b = Container("b", 0x1000);

    Space(a, "first");
    Space(b, "second");
    Space(a, "third");
    EXPECT_EQ(Tree(), "address-space: first\n"
                      "address-space: third\n"
                      "  0000000000000000-ffffffffffffffff (prio 0, i/o): a\n"
                      "\n"
                      "address-space: second\n"
                      "  0000000000000000-0000000000000fff (prio 0, i/o): b\n"
                      "\n");
}

TEST_F(MemoryText, SiblingsAreSortedByAddressThenPriorityThenTopmost)
{
    MemoryRegion *root = Container("root", 0x10000);

    Space(root, "as");
    ASSERT_EQ(memory_region_add_subregion(root, 0x2000, Reservation("high", 0x10)), 0);
    ASSERT_EQ(memory_region_add_subregion_overlap(root, 0x1000, Reservation("low, below", 0x10), -3), 0);
    ASSERT_EQ(memory_region_add_subregion(root, 0x1000, Reservation("low, old", 0x10)), 0);
    ASSERT_EQ(memory_region_add_subregion(root, 0x1000, Reservation("low, new", 0)), 0);
    EXPECT_EQ(Tree(), "address-space: as\n"
                      "  0000000000000000-000000000000ffff (prio 0, i/o): root\n"
                      "    0000000000001000-0000000000001000 (prio 0, i/o): low, new\n"
                      "    0000000000001000-000000000000100f (prio 0, i/o): low, old\n"
                      "    0000000000001000-000000000000100f (prio -3, i/o): low, below\n"
                      "    0000000000002000-000000000000200f (prio 0, i/o): high\n"
                      "\n");
}

TEST_F(MemoryText, WhatIsDisabledIsHiddenButNotItsChildren)
{
    MemoryRegion *root = Container("root", 0x10000), *off = Container("off", 0x1000);

    Space(root, "as");
    ASSERT_EQ(memory_region_add_subregion(root, 0x1000, off), 0);
    ASSERT_EQ(memory_region_add_subregion(off, 0x10, Reservation("inside", 0x10)), 0);
    ASSERT_EQ(memory_region_set_enabled(off, false), 0);
    EXPECT_EQ(Tree(), "address-space: as\n"
                      "  0000000000000000-000000000000ffff (prio 0, i/o): root\n"
                      "      0000000000001010-000000000000101f (prio 0, i/o): inside\n"
                      "\n");
    EXPECT_EQ(Tree(true), "address-space: as\n"
                          "  0000000000000000-000000000000ffff (prio 0, i/o): root\n"
                          "    0000000000001000-0000000000001fff (prio 0, i/o): off [disabled]\n"
                          "      0000000000001010-000000000000101f (prio 0, i/o): inside\n"
                          "\n");
}

TEST_F(MemoryText, EachTargetHasOneSectionEvenIfItsAliasIsHidden)
{
    MemoryRegion *root = Container("root", 0x10000), *ram = Ram("ram", 0x2000), *inner = Ram("inner", 0x1000);
    MemoryRegion *card = Container("card", 0x3000), *hidden = Alias("hidden", card, 0, 0x1000);

    Space(root, "as");
    ASSERT_EQ(memory_region_add_subregion(root, 0, Alias("low", ram, 0x1000, 0x1000)), 0);
    ASSERT_EQ(memory_region_add_subregion(root, 0x1000, hidden), 0);
    ASSERT_EQ(memory_region_set_enabled(hidden, false), 0);
    ASSERT_EQ(memory_region_add_subregion(root, 0x2000, Alias("again", ram, 0, 0x1000)), 0);
    ASSERT_EQ(memory_region_add_subregion(card, 0x100, Alias("deeper", inner, 0, 0)), 0);
    ASSERT_EQ(memory_region_add_subregion(card, 0x200, ram), 0);
    ASSERT_EQ(memory_region_set_readonly(ram, true), 0);
    ASSERT_EQ(memory_region_set_nonvolatile(ram, true), 0);
    EXPECT_EQ(Tree(), "address-space: as\n"
                      "  0000000000000000-000000000000ffff (prio 0, i/o): root\n"
                      "    0000000000000000-0000000000000fff (prio 0, rom): alias low @ram 0000000000001000-0000000000001fff\n"
                      "    0000000000002000-0000000000002fff (prio 0, rom): alias again @ram 0000000000000000-0000000000000fff\n"
                      "\n"
                      "memory-region: ram\n"
                      "  0000000000000200-00000000000021ff (prio 0, nv-rom): ram\n"
                      "\n"
                      "memory-region: card\n"
                      "  0000000000000000-0000000000002fff (prio 0, i/o): card\n"
                      "    0000000000000100-0000000000000100 (prio 0, ram): alias deeper @inner 0000000000000000-0000000000000000\n"
                      "    0000000000000200-00000000000021ff (prio 0, nv-rom): ram\n"
                      "\n"
                      "memory-region: inner\n"
                      "  0000000000000000-0000000000000fff (prio 0, ram): inner\n"
                      "\n");
}

TEST_F(MemoryText, WrappedAddressesAreMarked)
{
    MemoryRegion *root = Container("root", UINT64_MAX), *high = Container("high", 0x20);

    Space(root, "as");
    ASSERT_EQ(memory_region_add_subregion(root, UINT64_MAX - 0xf, high), 0);
    ASSERT_EQ(memory_region_add_subregion(high, 0x18, Reservation("over", 4)), 0);
    EXPECT_EQ(Tree(), "address-space: as\n"
                      "  0000000000000000-ffffffffffffffff (prio 0, i/o): root\n"
                      "[DETECTED OVERFLOW!]     fffffffffffffff0-000000000000000f (prio 0, i/o): high\n"
                      "[DETECTED OVERFLOW!]       0000000000000008-000000000000000b (prio 0, i/o): over\n"
                      "\n");
}

TEST_F(MemoryText, ViewsNameTheRootThatWasRegisteredAndTheOneThatShows)
{
    MemoryRegion *root = Container("root", 0x10000), *ram = Ram("ram", 0x2000), *nothing = Container("nothing", 0x1000);
    MemoryRegion *rom = Alias("rom", ram, 0x1000, 0x800), *all = Alias("all", root, 0, 0x10000);

    ASSERT_EQ(memory_region_add_subregion(root, 0, ram), 0);
    ASSERT_EQ(memory_region_add_subregion_overlap(root, 0x4000, rom, 5), 0);
    ASSERT_EQ(memory_region_set_readonly(rom, true), 0);
    ASSERT_EQ(memory_region_set_nonvolatile(ram, true), 0);
    Space(root, "cpu");
    Space(nothing, "unplugged");
    Space(all, "dma");
    Space(nothing, "also unplugged");
    EXPECT_EQ(Views(), "FlatView #0\n"
                       " AS \"cpu\", root: root\n"
                       " AS \"dma\", root: all, alias root\n"
                       " Root memory region: root\n"
                       "  0000000000000000-0000000000001fff (prio 0, nv-ram): ram\n"
                       "  0000000000004000-00000000000047ff (prio 0, nv-rom): ram @0000000000001000\n"
                       "\n"
                       "FlatView #1\n"
                       " AS \"unplugged\", root: nothing\n"
                       " AS \"also unplugged\", root: nothing\n"
                       " Root memory region: (none)\n"
                       "  No rendered FlatView\n"
                       "\n");
}

TEST_F(MemoryText, ManyChildrenAtOnePlaceArePrintedInTime)
{
    const int n = 20000;
    MemoryRegion *root = Container("root", UINT64_MAX), *target = Container("target", 1);

    ASSERT_EQ(memory_transaction_begin(), 0);
    for (int i = 0; i < n; i++) {
        MemoryRegion *mr = i % 2 ? Container("", 0) : Alias("", target, 0, 0);
        ASSERT_EQ(memory_region_add_subregion(root, 0, mr), 0);
    }
    ASSERT_EQ(memory_transaction_commit(), 0);
    Space(root, "as");
    std::string text = Tree();
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), n + 6);
}

TEST_F(MemoryText, NestingWithoutEndIsRefused)
{
    MemoryRegion *root = Container("root", 1), *above = root;

    ASSERT_EQ(memory_transaction_begin(), 0);
    for (int i = 0; i < 3000; i++) {
        MemoryRegion *mr = Container("", 1);
        ASSERT_EQ(memory_region_add_subregion(above, 0, mr), 0);
        above = mr;
    }
    ASSERT_EQ(memory_transaction_commit(), 0);
    ASSERT_EQ(memory_region_set_enabled(root, false), 0); /* a view of it would be refused before */
    Space(root, "as");
    Text([](FILE *out) { return memory_print_tree(out, false); }, -E2BIG);
}

TEST_F(MemoryText, AWriteErrorIsTold)
{
    Space(Container("root", 1), "as");
    FILE *full = fopen("/dev/full", "w");
    ASSERT_NE(full, nullptr);
    setvbuf(full, NULL, _IONBF, 0);
    EXPECT_EQ(memory_print_tree(full, false), -EIO);
    clearerr(full);
    EXPECT_EQ(memory_print_flatviews(full), -EIO);
    fclose(full);
}

} // namespace
