/* SPDX-License-Identifier: MIT */
/*
 * children_model_test.cc - the interval index against a list that is searched from end to end.
 */
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "shim/region_shim.h"

namespace {

class ChildrenModel : public testing::TestWithParam<unsigned> {
protected:
    static bool Before(const MemoryRegion *a, const MemoryRegion *b)
    {
        return a->addr != b->addr ? a->addr < b->addr : a->order < b->order;
    }

    static bool Meets(const MemoryRegion *mr, hwaddr first, hwaddr last)
    {
        hwaddr end = mr->addr + mr->last < mr->addr ? UINT64_MAX : mr->addr + mr->last;
        return mr->enabled && !mr->size_is_zero && mr->addr <= last && end >= first;
    }

    /* Few distinct values, so that equals, neighbours and both ends of the address space come up all the time. */
    hwaddr Address()
    {
        switch (random() % 8) {
        case 0:
            return random() % 4;
        case 1:
            return UINT64_MAX - random() % 4;
        case 2:
            return random();
        default:
            return random() % 256 * 16;
        }
    }

    uint64_t Size()
    {
        switch (random() % 8) {
        case 0:
            return 0;
        case 1:
            return UINT64_MAX - random() % 2;
        case 2:
            return random() >> random() % 64;
        default:
            return 1 + random() % 64;
        }
    }

    void Compare()
    {
        std::sort(linked.begin(), linked.end(), Before);
        std::vector<MemoryRegion *> all;
        for (MemoryRegion *mr = region_shim_children_begin(&parent); mr; mr = region_shim_children_after(mr)) {
            all.push_back(mr);
        }
        ASSERT_EQ(all, linked);
        auto enabled = std::find_if(linked.begin(), linked.end(), [](MemoryRegion *mr) { return mr->enabled; });
        ASSERT_EQ(region_shim_children_first_enabled(&parent), enabled == linked.end() ? nullptr : *enabled);
        for (int i = 0; i < 4; i++) {
            hwaddr a = Address(), b = Address();
            hwaddr first = std::min(a, b), last = std::max(a, b);
            if (random() % 4 == 0) {
                last = first;
            }
            std::vector<MemoryRegion *> want, got;
            std::copy_if(linked.begin(), linked.end(), std::back_inserter(want),
                         [&](MemoryRegion *mr) { return Meets(mr, first, last); });
            for (MemoryRegion *mr = region_shim_children_first(&parent, first, last); mr;
                 mr = region_shim_children_next(mr, first, last)) {
                got.push_back(mr);
            }
            ASSERT_EQ(got, want) << std::hex << first << "-" << last;
        }
    }

    std::mt19937_64 random;
    MemoryRegion parent;
    std::vector<MemoryRegion *> linked;
};

TEST_P(ChildrenModel, AgreesWithAListAfterEachChange)
{
    const unsigned n = 300;
    std::unique_ptr<MemoryRegion[]> pool(new MemoryRegion[n]);
    std::vector<MemoryRegion *> idle;

    random.seed(GetParam());
    region_shim_init(&parent, MEMORY_KIND_CONTAINER, UINT64_MAX);
    for (unsigned i = 0; i < n; i++) {
        region_shim_init(&pool[i], MEMORY_KIND_IO, Size());
        idle.push_back(&pool[i]);
    }
    for (int step = 0; step < 3000; step++) {
        /* Phases of growth and of decline, so that large and small trees are both met. */
        bool growing = step / 500 % 2 == 0;
        unsigned dice = (unsigned)(random() % 10);

        if (dice < (growing ? 6u : 2u) && !idle.empty()) {
            std::swap(idle[random() % idle.size()], idle.back());
            region_shim_link(&parent, idle.back(), Address(), 0);
            linked.push_back(idle.back());
            idle.pop_back();
        } else if (dice < 8 && !linked.empty()) {
            std::swap(linked[random() % linked.size()], linked.back());
            if (growing && dice < 7) {
                region_shim_move(linked.back(), Address());
            } else {
                region_shim_unlink(linked.back());
                idle.push_back(linked.back());
                linked.pop_back();
            }
        } else if (dice == 8 && !linked.empty()) {
            region_shim_resize(linked[random() % linked.size()], Size());
        } else if (!linked.empty()) {
            MemoryRegion *mr = linked[random() % linked.size()];
            region_shim_enable(mr, !mr->enabled);
        }
        region_shim_children_check(&parent);
        Compare();
        if (HasFatalFailure()) {
            return;
        }
    }
    for (MemoryRegion *mr : linked) {
        region_shim_unlink(mr);
    }
    for (unsigned i = 0; i < n; i++) {
        region_shim_fini(&pool[i]);
    }
    region_shim_fini(&parent);
}

INSTANTIATE_TEST_SUITE_P(Seeds, ChildrenModel, testing::Range(1u, 7u));

} // namespace
