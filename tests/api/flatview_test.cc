/* SPDX-License-Identifier: MIT */
#include "machine.h"

#include <vector>

namespace {

class FlatviewTest : public Machine
{
  protected:
    FlatView *view = nullptr;

    void SetUp() override
    {
        Machine::SetUp();
        view = address_space_get_flatview(&as);
    }

    void TearDown() override
    {
        flatview_unref(view);
        Machine::TearDown();
    }
};

int count_to(const MemoryRegionSection *, void *arg)
{
    return --*static_cast<int *>(arg) ? 0 : 7;
}

std::string diff_of(const FlatView *a, const FlatView *b)
{
    std::ostringstream out;
    flatview_diff(
        a, b,
        [](const MemoryRegionSection *o, const MemoryRegionSection *n, void *arg) {
            const MemoryRegionSection *s = o ? o : n;
            EXPECT_TRUE(!o != !n);
            *static_cast<std::ostringstream *>(arg) << (o ? "-" : "+") << std::hex << s->offset_within_address_space << "-"
                                                    << s->last << (s->readonly ? "r " : " ");
            return 0;
        },
        &out);
    return out.str();
}

} // namespace

TEST_F(FlatviewTest, FindGivesTheWholeRangeAroundAnAddress)
{
    MemoryRegionSection s = {};
    ASSERT_TRUE(flatview_find(view, 0x2080, &s));
    EXPECT_EQ(s.mr, &dev[1].mr);
    EXPECT_EQ(s.offset_within_address_space, 0x2000u);
    EXPECT_EQ(s.last, 0x20ffu);
    EXPECT_EQ(s.offset_within_region, 0u);
    EXPECT_EQ(s.host, nullptr);
    EXPECT_FALSE(s.readonly);
    EXPECT_TRUE(s.romd);
    s.mr = nullptr;
    EXPECT_FALSE(flatview_find(view, 0x2100, &s));
    EXPECT_FALSE(flatview_find(view, 0x1fff, &s));
    EXPECT_FALSE(flatview_find(view, UINT64_MAX, &s));
    EXPECT_EQ(s.mr, nullptr) << "untouched";
}

TEST_F(FlatviewTest, RegionFindGivesTheFirstPieceInsideAWindow)
{
    MemoryRegionSection s = {};
    ASSERT_TRUE(memory_region_find(view, 0x1800, 0x880, &s));
    EXPECT_EQ(s.mr, &dev[1].mr);
    EXPECT_EQ(s.offset_within_address_space, 0x2000u);
    EXPECT_EQ(s.last, 0x207fu);
    ASSERT_TRUE(memory_region_find(view, 0x1040, 0x10, &s));
    EXPECT_EQ(s.offset_within_address_space, 0x1040u);
    EXPECT_EQ(s.last, 0x104fu);
    EXPECT_EQ(s.offset_within_region, 0x40u);
    ASSERT_TRUE(memory_region_find(view, 0, UINT64_MAX, &s));
    EXPECT_EQ(s.mr, &dev[0].mr);
    ASSERT_TRUE(memory_region_find(view, 0x2100, UINT64_MAX, &s)) << "clipped at the end of the space";
    EXPECT_EQ(s.mr, &dev[2].mr);
    s.mr = nullptr;
    EXPECT_FALSE(memory_region_find(view, 0x1000, 0, &s));
    EXPECT_FALSE(memory_region_find(view, 0x1100, 0xf00, &s));
    EXPECT_FALSE(memory_region_find(view, 0x3100, UINT64_MAX, &s));
    EXPECT_EQ(s.mr, nullptr) << "untouched";
}

TEST_F(FlatviewTest, RegionFindReachesTheLastAddress)
{
    MemoryRegionSection s = {};
    ASSERT_EQ(0, memory_region_set_address(&dev[2].mr, UINT64_MAX - 0xff));
    FlatView *high = address_space_get_flatview(&as);
    ASSERT_TRUE(memory_region_find(high, UINT64_MAX, 1, &s));
    EXPECT_EQ(s.offset_within_address_space, UINT64_MAX);
    EXPECT_EQ(s.last, UINT64_MAX);
    EXPECT_EQ(s.offset_within_region, 0xffu);
    ASSERT_TRUE(memory_region_find(high, UINT64_MAX, UINT64_MAX, &s));
    EXPECT_EQ(s.last, UINT64_MAX);
    flatview_unref(high);
}

TEST_F(FlatviewTest, WalksGiveWholeRangesAndStopWhenTold)
{
    int left = 100;
    EXPECT_EQ(0, flatview_for_each_range(view, 0x1100, 0x1fff, count_to, &left));
    EXPECT_EQ(left, 100);
    EXPECT_EQ(0, flatview_for_each_range(view, 0x10ff, 0x3000, count_to, &left));
    EXPECT_EQ(left, 97);
    left = 2;
    EXPECT_EQ(7, flatview_for_each_range(view, 0, UINT64_MAX, count_to, &left));
    EXPECT_EQ(left, 0);
}

TEST_F(FlatviewTest, AWalkMayChangeTheTopologyUnderItself)
{
    std::vector<hwaddr> seen;
    struct Arg {
        FlatviewTest *test;
        std::vector<hwaddr> *seen;
    } arg = {this, &seen};
    flatview_for_each_range(
        view, 0, UINT64_MAX,
        [](const MemoryRegionSection *s, void *p) {
            Arg *a = static_cast<Arg *>(p);
            a->seen->push_back(s->offset_within_address_space);
            return memory_region_set_enabled(s->mr, false);
        },
        &arg);
    EXPECT_EQ(seen, (std::vector<hwaddr>{0x1000, 0x2000, 0x3000}));
    EXPECT_EQ(text_of(&as), "");
    for (auto &d : dev) {
        memory_region_set_enabled(&d.mr, true);
    }
}

TEST_F(FlatviewTest, APinnedViewStaysWhatItWas)
{
    std::string before = text_of(view);
    uint64_t generation = flatview_generation(view);
    EXPECT_EQ(flatview_count(view), 3u);
    EXPECT_EQ(flatview_root(view), &root);
    EXPECT_EQ(flatview_ref(view), view);
    flatview_unref(view);
    for (unsigned i = 0; i < 200; i++) {
        ASSERT_EQ(0, memory_region_set_address(&dev[i % 3].mr, 0x10000 + i * 0x1000));
    }
    EXPECT_EQ(text_of(view), before);
    EXPECT_EQ(flatview_generation(view), generation);
    EXPECT_LT(generation, generation_of(&as));
}

TEST_F(FlatviewTest, DiffTellsWhatCameAndWentInOrder)
{
    ASSERT_EQ(0, memory_region_set_address(&dev[1].mr, 0x5000));
    ASSERT_EQ(0, memory_region_set_readonly(&dev[2].mr, true));
    FlatView *later = address_space_get_flatview(&as);
    EXPECT_EQ(diff_of(view, later), "-2000-20ff -3000-30ff +3000-30ffr +5000-50ff ");
    EXPECT_EQ(diff_of(later, view), "+2000-20ff -3000-30ffr +3000-30ff -5000-50ff ");
    EXPECT_EQ(diff_of(later, later), "");
    flatview_unref(later);
}

TEST_F(FlatviewTest, TheViewOfNothingIsEmpty)
{
    MemoryRegion empty;
    AddressSpace space = {};
    MemoryRegionSection s;
    ASSERT_EQ(0, memory_region_init(&empty, "empty", 0x1000));
    ASSERT_EQ(0, address_space_init(&space, &empty, "empty"));
    FlatView *nothing = address_space_get_flatview(&space);
    ASSERT_NE(nothing, nullptr);
    EXPECT_EQ(flatview_count(nothing), 0u);
    EXPECT_EQ(flatview_root(nothing), nullptr);
    EXPECT_FALSE(flatview_find(nothing, 0, &s));
    EXPECT_FALSE(memory_region_find(nothing, 0, UINT64_MAX, &s));
    EXPECT_EQ(diff_of(nothing, view), "+1000-10ff +2000-20ff +3000-30ff ");
    flatview_unref(nothing);
    flatview_unref(nullptr);
    ASSERT_EQ(0, address_space_destroy(&space, nullptr));
    ASSERT_EQ(0, memory_region_destroy(&empty));
    ASSERT_EQ(0, memory_region_quiesce(&empty));
}
