/* SPDX-License-Identifier: MIT */
/*
 * The table of slots under random changes of a map, against a reference that looks at each page alone: is it all of one
 * kind of memory, and which?
 */
#include "shim/slots_shim.h"

#include <cerrno>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace {

constexpr uint64_t PAGE = 4096, PAGES = 96;
constexpr uint64_t HALF = 16 * PAGE;
constexpr int RAMS = 3, DEVICES = 3;

struct Page {
    uint8_t *host = nullptr; /* NULL: in no slot */
    MemoryRegion *mr = nullptr;
    bool readonly = false;
    bool operator==(const Page &other) const
    {
        return host == other.host && mr == other.mr && readonly == other.readonly;
    }
};

int push_section(const MemoryRegionSection *section, void *arg)
{
    static_cast<std::vector<MemoryRegionSection> *>(arg)->push_back(*section);
    return 0;
}

class SlotsModel : public testing::Test {
protected:
    void SetUp() override
    {
        ASSERT_EQ(memory_region_init(&root, "root", PAGES * PAGE), 0);
        for (MemoryRegion &mr : ram) {
            ASSERT_EQ(memory_region_init_ram(&mr, "ram", 32 * PAGE), 0);
        }
        for (int i = 0; i < DEVICES; i++) {
            ASSERT_EQ(memory_region_init_reservation(&device[i], "device", 1), 0);
        }
        for (int i = 0; i < 2; i++) {
            ASSERT_EQ(memory_region_init_alias(&half[i], "half", &ram[0], i * HALF, HALF), 0);
        }
        ASSERT_EQ(address_space_init(&as, &root, "as"), 0);
    }

    void TearDown() override
    {
        for (MemoryRegion *mr : all()) {
            if (memory_region_get_parent(mr)) {
                EXPECT_EQ(memory_region_del_subregion(&root, mr), 0);
            }
            EXPECT_EQ(memory_region_destroy(mr), 0);
            EXPECT_EQ(memory_region_quiesce(mr), 0);
        }
        EXPECT_EQ(address_space_destroy(&as, nullptr), 0);
        EXPECT_EQ(memory_region_destroy(&root), 0);
        EXPECT_EQ(memory_region_quiesce(&root), 0);
    }

    std::vector<MemoryRegion *> all()
    {
        std::vector<MemoryRegion *> list = {&half[0], &half[1]};

        for (MemoryRegion &mr : ram) {
            list.push_back(&mr);
        }
        for (MemoryRegion &mr : device) {
            list.push_back(&mr);
        }
        return list;
    }

    /* Both halves at once, side by side but not of one range: a table that merges has one slot for them, to be cut later. */
    int place_halves()
    {
        hwaddr addr = random() % (PAGES / 2) * PAGE;
        int err = memory_transaction_begin();

        for (int i = 0; i < 2 && err == 0; i++) {
            if (memory_region_get_parent(&half[i])) {
                err = memory_region_del_subregion(&root, &half[i]);
            }
            err = err ? err : memory_region_set_nonvolatile(&half[i], i);
            err = err ? err : memory_region_set_readonly(&half[i], false);
            err = err ? err : memory_region_set_enabled(&half[i], true);
            err = err ? err : memory_region_add_subregion_overlap(&root, addr + i * HALF, &half[i], 4);
        }
        return err ? err : memory_transaction_commit();
    }

    int change()
    {
        if (random() % 8 == 0) {
            return place_halves();
        }

        MemoryRegion *mr = all()[random() % (2 + RAMS + DEVICES)];
        bool is_ram = !(mr >= &device[0] && mr < &device[DEVICES]);
        /* Mostly pages; now and then something that lies across them. */
        uint64_t unit = is_ram ? (random() % 8 ? PAGE : 256) : (random() % 2 ? PAGE : 64);
        hwaddr addr = random() % (PAGES * PAGE / unit) * unit;

        /* Side by side they are one stretch of the host's memory, in one range or, if they differ, in two. */
        if (mr == &half[1] && random() % 2) {
            addr = memory_region_get_addr(&half[0]) + HALF;
        }
        if (!memory_region_get_parent(mr)) {
            return memory_region_add_subregion_overlap(&root, addr, mr, int(random() % 3) + !is_ram);
        }
        switch (random() % 6) {
        case 0:
            return memory_region_del_subregion(&root, mr);
        case 1:
            return is_ram ? memory_region_set_readonly(mr, random() % 2) : 0;
        case 2:
            return is_ram ? memory_region_set_nonvolatile(mr, random() % 2)
                          : memory_region_set_size(mr, 1 + random() % (3 * PAGE));
        case 3:
            return memory_region_set_enabled(mr, random() % 4);
        default:
            return memory_region_set_address(mr, addr);
        }
    }

    std::vector<Page> expected(bool merges)
    {
        std::vector<MemoryRegionSection> sections;
        FlatView *view = address_space_get_flatview(&as);
        std::vector<Page> pages(PAGES);

        flatview_for_each_range(view, 0, UINT64_MAX, push_section, &sections);
        flatview_unref(view);
        for (uint64_t p = 0; p < PAGES; p++) {
            Page page;
            hwaddr at = p * PAGE;

            for (const MemoryRegionSection &s : sections) {
                if (s.last < at || s.offset_within_address_space > at) {
                    continue;
                }
                uint8_t *host = s.host ? static_cast<uint8_t *>(s.host) + (at - s.offset_within_address_space) : nullptr;

                if (at == p * PAGE) {
                    page = {host, s.mr, s.readonly};
                } else if (!merges || host != page.host + (at - p * PAGE) || s.readonly != page.readonly) {
                    page = Page();
                }
                at = s.last + 1;
                if (!page.host || at >= (p + 1) * PAGE) {
                    break;
                }
            }
            if (page.host && at >= (p + 1) * PAGE && (uintptr_t(page.host) & (PAGE - 1)) == 0) {
                pages[p] = page;
            }
        }
        return pages;
    }

    std::vector<Page> actual(ShimSlots *slots, uint64_t max_bytes)
    {
        std::vector<ShimSlot> table(512);
        std::vector<Page> pages(PAGES);
        std::set<uint32_t> ids;
        hwaddr end = 0;

        table.resize(shim_slots_copy(slots, table.data(), table.size()));
        for (const ShimSlot &s : table) {
            EXPECT_GE(s.first, end) << "ascending and disjoint";
            EXPECT_EQ(s.first % PAGE + s.size % PAGE, 0u);
            EXPECT_GT(s.size, 0u);
            EXPECT_LE(s.size, max_bytes);
            EXPECT_TRUE(ids.insert(s.id).second) << "an id twice";
            end = s.first + s.size;
            for (hwaddr at = s.first; at < end; at += PAGE) {
                pages[at / PAGE] = {s.host + (at - s.first), s.mr, s.readonly};
            }
        }
        return pages;
    }

    /* A slot that no span touches is there after the commit as it was before, with its id. */
    static void expect_untouched(ShimSlots *slots)
    {
        const ShimPlan *plan = shim_slots_plan(slots);
        std::vector<ShimSlot> table(512);

        table.resize(shim_slots_copy(slots, table.data(), table.size()));
        for (size_t i = 0; i < plan->n_before; i++) {
            const ShimSlot &old = plan->before[i];
            bool touched = false, found = false;

            for (size_t k = 0; k < plan->n_spans; k++) {
                touched |= old.first <= plan->spans[2 * k + 1] && plan->spans[2 * k] < old.first + old.size;
            }
            for (const ShimSlot &s : table) {
                found |= s.first == old.first && s.size == old.size && s.host == old.host && s.id == old.id;
            }
            EXPECT_TRUE(touched || found) << std::hex << old.first;
        }
        EXPECT_EQ(plan->replaces, plan->overlaps);
    }

    void storm(unsigned seed, uint64_t max_bytes, bool merges)
    {
        ShimSlots *slots = shim_slots_new(&as, 512, max_bytes, merges);

        ASSERT_NE(slots, nullptr);
        random.seed(seed);
        for (int i = 0; i < 1500; i++) {
            unsigned n = random() % 4 ? 1 : 4;

            ASSERT_EQ(memory_transaction_begin(), 0);
            while (n-- > 0) {
                ASSERT_EQ(change(), 0);
            }
            ASSERT_EQ(memory_transaction_commit(), 0);
            std::vector<Page> want = expected(merges), have = actual(slots, max_bytes);

            for (uint64_t p = 0; p < PAGES; p++) {
                /* A slot over several ranges names the region of its first. */
                ASSERT_TRUE(want[p].host == have[p].host && want[p].readonly == have[p].readonly &&
                            (merges || want[p] == have[p])) << "page " << p << " after change " << i << " of seed " << seed;
            }
            expect_untouched(slots);
            ASSERT_FALSE(HasFailure()) << "after change " << i << " of seed " << seed;
        }
        shim_slots_free(slots);
    }

    std::mt19937 random;
    MemoryRegion root = {}, ram[RAMS] = {}, half[2] = {}, device[DEVICES] = {};
    AddressSpace as = {};
};

TEST_F(SlotsModel, EachPageIsInTheSlotThatItsRangeAsksForAndNoOtherMoves)
{
    for (unsigned seed = 1; seed <= 4; seed++) {
        storm(seed, UINT64_C(1) << 40, false);
    }
}

TEST_F(SlotsModel, LongMemoryIsInSeveral)
{
    storm(5, 5 * PAGE, false);
}

TEST_F(SlotsModel, MergingTablesFollowAsWell)
{
    for (unsigned seed = 6; seed <= 8; seed++) {
        storm(seed, UINT64_C(1) << 40, true);
    }
}

TEST_F(SlotsModel, TheLimitRefusesAndTheTableStays)
{
    ShimSlots *slots = shim_slots_new(&as, 4, UINT64_C(1) << 40, false);
    unsigned refused = 0;

    ASSERT_NE(slots, nullptr);
    random.seed(9);
    for (int i = 0; i < 1500; i++) {
        std::vector<Page> before = actual(slots, UINT64_MAX);
        int err = change();

        if (err == -ENOSPC) {
            refused++;
            ASSERT_EQ(actual(slots, UINT64_MAX), before);
        } else {
            ASSERT_EQ(err, 0);
        }
        ASSERT_EQ(actual(slots, UINT64_MAX), expected(false)) << i;
    }
    EXPECT_GT(refused, 0u);
    EXPECT_LT(refused, 1500u);
    shim_slots_free(slots);
}

}
