/* SPDX-License-Identifier: MIT */
/*
 * dirty_test.cc - what guest code writes, against the dirty log: by KVM's bitmaps, cleared at once or later, and its rings.
 */
#include "kvm/device.h"
#include "kvm/machine.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <random>
#include <set>
#include <thread>

#include <sys/ioctl.h>

#include <gtest/gtest.h>

namespace {

std::vector<hwaddr> dirty_pages(MemoryRegion *mr, uint64_t size, hwaddr first = 0)
{
    DirtyBitmapSnapshot *snapshot = nullptr;
    std::vector<hwaddr> pages;

    EXPECT_EQ(memory_region_snapshot_and_clear_dirty(mr, first, size, DIRTY_MEMORY_MIGRATION, &snapshot), 0);
    for (hwaddr page = first; page < first + size; page += 4096) {
        if (memory_region_snapshot_get_dirty(snapshot, page, 4096)) {
            pages.push_back(page);
        }
    }
    memory_region_snapshot_free(snapshot);
    return pages;
}

/* By which means KVM is asked. */
enum DirtyMeans { BITMAP, BITMAP_CLEARED_LATER, RING };

class KvmDirty : public testing::TestWithParam<DirtyMeans> {
protected:
    static FlatviewKvmConfig config()
    {
        FlatviewKvmConfig config = {};

        if (GetParam() == RING) {
            config.dirty_ring = 1024; /* the least that there is room in for what KVM keeps free */
        }
        if (GetParam() == BITMAP) {
            config.ioctl = [](void *, int fd, unsigned long request, void *data) {
                if (request == KVM_CHECK_EXTENSION && uintptr_t(data) == KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) {
                    return 0;
                }
                return ioctl(fd, request, data);
            };
        }
        return config;
    }

    /* A kernel that lacks it is asked in the other way: what is tested is not what was meant, and it is said. */
    static void expect_means(Machine *m)
    {
        FlatviewKvmStats stats = m->stats();

        if (GetParam() == RING && !stats.dirty_ring) {
            printf("this kernel has no dirty ring\n");
        } else if (GetParam() == BITMAP_CLEARED_LATER && !stats.manual_clear) {
            printf("this kernel has no KVM_CLEAR_DIRTY_LOG\n");
        } else {
            EXPECT_EQ(stats.dirty_ring, GetParam() == RING ? 1024u : 0u);
            EXPECT_EQ(stats.manual_clear, GetParam() == BITMAP_CLEARED_LATER);
        }
    }
};

INSTANTIATE_TEST_SUITE_P(, KvmDirty, testing::Values(BITMAP, BITMAP_CLEARED_LATER, RING));

TEST_P(KvmDirty, WhatTheGuestWritesThroughItsSlotsIsInTheLog)
{
    Machine m(1, config());
    MemoryRegion more;
    const uint64_t size = 0x40000;

    expect_means(&m);
    ASSERT_EQ(memory_region_init_ram(&more, "more", size), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0x40000000, &more), 0);
    m.store32(0x40001000, 1);
    ASSERT_EQ(memory_region_set_log(&more, true, DIRTY_MEMORY_MIGRATION), 0);
    EXPECT_EQ(m.stats().reflagged, 1u) << "in place";
    ASSERT_EQ(memory_dirty_log_wait(), 0);
    EXPECT_EQ(dirty_pages(&more, size).size(), size / 4096) << "at its beginning everything is dirty";
    EXPECT_TRUE(dirty_pages(&more, size).empty());

    m.run(0, {{OP_STORE32, 0x40003004, 1, 0}, {OP_TOUCH, 0x40010000, 7, 3}, {OP_LOAD32, 0x40005000, 0, 0}});
    EXPECT_EQ(dirty_pages(&more, size), (std::vector<hwaddr>{0x3000, 0x10000, 0x11000, 0x12000}));
    EXPECT_TRUE(dirty_pages(&more, size).empty());
    EXPECT_EQ(m.stats().mmio_exits, 0u);

    /* The final collect is part of the removal. */
    m.store32(0x40007000, 1);
    ASSERT_EQ(memory_region_set_address(&more, 0x50000000), 0);
    m.store32(0x50008000, 1);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &more), 0);
    EXPECT_EQ(dirty_pages(&more, size), (std::vector<hwaddr>{0x7000, 0x8000}));

    /* Kept while it is unmapped. */
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0x40000000, &more), 0);
    m.store32(0x40009000, 1);
    ASSERT_EQ(memory_region_set_log(&more, false, DIRTY_MEMORY_MIGRATION), 0);
    EXPECT_EQ(dirty_pages(&more, size), (std::vector<hwaddr>{0x9000}));
    for (const FlatviewKvmSlot &slot : m.slots()) {
        EXPECT_EQ(slot.flags & KVM_MEM_LOG_DIRTY_PAGES, 0u);
    }
    EXPECT_EQ(m.difference(), "");
    ASSERT_EQ(memory_region_del_subregion(&m.root, &more), 0);
    end(&more);
}

TEST_P(KvmDirty, ACopyMadeByTheLogEqualsTheOriginal)
{
    Machine m(2, config());
    MemoryRegion more;
    const uint64_t size = 0x20000;
    std::vector<char> copy(size);
    std::vector<std::thread> threads;
    std::atomic<bool> stop{false};
    std::mt19937 random(1);

    ASSERT_EQ(memory_region_init_ram(&more, "more", size), 0);
    const char *original = static_cast<char *>(memory_region_get_ram_ptr(&more));
    auto collect = [&] {
        for (hwaddr page : dirty_pages(&more, size)) {
            memcpy(copy.data() + page, original + page, 4096);
        }
    };

    ASSERT_EQ(memory_region_add_subregion(&m.root, 0x40000000, &more), 0);
    ASSERT_EQ(memory_global_dirty_log_start(GLOBAL_DIRTY_MIGRATION), 0);
    ASSERT_EQ(memory_dirty_log_wait(), 0);
    for (unsigned i = 0; i < 2; i++) {
        threads.emplace_back([&, i] {
            for (uint32_t round = 1; !stop; round++) {
                /* Where it is and where it is not: the latter are exits that nothing takes. */
                m.run(i, {{OP_SERIES, 0x40000000 + 0x1000 * (round % 31) + 8 * i, round, 50},
                          {OP_SERIES, 0x48000000 + 0x1000 * (round % 29) + 8 * i, round, 50}});
            }
        });
    }
    for (int i = 0; i < 60; i++) {
        switch (random() % 3) {
        case 0:
            EXPECT_EQ(memory_region_set_address(&more, random() % 2 ? 0x40000000 : 0x48000000), 0);
            break;
        case 1:
            EXPECT_EQ(memory_region_set_enabled(&more, random() % 4), 0);
            break;
        default:
            collect();
            break;
        }
    }
    stop = true;
    for (std::thread &thread : threads) {
        thread.join();
    }
    collect();
    EXPECT_EQ(memcmp(copy.data(), original, size), 0);
    EXPECT_EQ(memory_global_dirty_log_stop(GLOBAL_DIRTY_MIGRATION), 0);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &more), 0);
    end(&more);
}

TEST_P(KvmDirty, TheLogEqualsWhatTheGuestWroteInPartsAndAcrossRemovals)
{
    const uint32_t PAGES = 1024;
    Machine m(1, config());
    MemoryRegion more;
    Device d;
    std::mt19937 random(7);
    std::set<hwaddr> written;
    uint32_t at = 0x40000000;

    ASSERT_EQ(memory_region_init_ram(&more, "more", PAGES * 4096), 0);
    ASSERT_EQ(memory_region_init_io(&d.mr, &device_ops, "device", 0x3000), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, at, &more), 0);
    ASSERT_EQ(memory_region_set_log(&more, true, DIRTY_MEMORY_MIGRATION), 0);
    ASSERT_EQ(memory_region_set_log(&more, true, DIRTY_MEMORY_VGA), 0);
    ASSERT_EQ(memory_dirty_log_wait(), 0);
    EXPECT_EQ(dirty_pages(&more, PAGES * 4096).size(), PAGES);
    m.run(0, {{OP_TOUCH, at, 1, PAGES}}); /* more than a ring is told of before it is full */
    for (uint32_t i = 0; i < PAGES; i++) {
        written.insert(i * 4096);
    }
    for (int step = 0; step < 150; step++) {
        uint32_t first = random() % PAGES, n = 1 + random() % (PAGES - first), what = random() % 8;

        switch (what) {
        case 0:
            at = 0x40000000 + 0x1000000 * (random() % 4);
            ASSERT_EQ(memory_region_set_address(&more, at), 0);
            break;
        case 1:
            ASSERT_EQ(memory_region_set_enabled(&more, false), 0);
            ASSERT_EQ(memory_region_set_enabled(&more, true), 0);
            break;
        case 2: /* the slot is split, and stays so */
            ASSERT_EQ(memory_region_add_subregion_overlap(&m.root, at + first * 4096, &d.mr, 1), 0);
            ASSERT_EQ(memory_region_del_subregion(&m.root, &d.mr), 0);
            break;
        case 3:
            ASSERT_EQ(memory_region_set_readonly(&more, true), 0);
            ASSERT_EQ(memory_region_set_readonly(&more, false), 0);
            break;
        case 4: /* another client takes its bits: not those of this one */
        {
            DirtyBitmapSnapshot *snapshot = nullptr;
            ASSERT_EQ(memory_region_snapshot_and_clear_dirty(&more, first * 4096, n * 4096, DIRTY_MEMORY_VGA, &snapshot), 0);
            memory_region_snapshot_free(snapshot);
            break;
        }
        case 5: {
            std::vector<hwaddr> expected(written.lower_bound(first * 4096), written.lower_bound((first + n) * 4096));

            ASSERT_EQ(dirty_pages(&more, n * 4096, first * 4096), expected) << "step " << step;
            for (hwaddr page : expected) {
                written.erase(page);
            }
            break;
        }
        default:
            m.run(0, {{OP_TOUCH, at + first * 4096, uint32_t(step), n}});
            for (uint32_t i = 0; i < n; i++) {
                written.insert((first + i) * 4096);
            }
            break;
        }
    }
    EXPECT_EQ(dirty_pages(&more, PAGES * 4096), std::vector<hwaddr>(written.begin(), written.end()));
    EXPECT_TRUE(dirty_pages(&more, PAGES * 4096).empty());
    EXPECT_GT(m.stats().dirty_pages, 0u);
    if (m.stats().dirty_ring) {
        EXPECT_GT(m.stats().dirty_ring_full, 0u);
    }
    if (m.stats().dirty_ring || m.stats().manual_clear) {
        EXPECT_GT(m.stats().dirty_clears, 0u);
    }
    EXPECT_EQ(m.stats().failures, 0u);
    EXPECT_EQ(m.difference(), "");
    ASSERT_EQ(memory_region_del_subregion(&m.root, &more), 0);
    end(&more);
    end(&d.mr);
}

/* What the kernel does not say is taken to be dirty: too much, never too little. */
TEST_P(KvmDirty, FailuresOfTheKernelLoseNothing)
{
    static std::atomic<unsigned long> failing;
    static int (*inner)(void *, int, unsigned long, void *);
    FlatviewKvmConfig c = config();
    MemoryRegion more;
    const uint64_t size = 0x40000;

    failing = 0;
    inner = c.ioctl;
    c.ioctl = [](void *arg, int fd, unsigned long request, void *data) {
        if (request == failing) {
            errno = ENOMEM;
            return -1;
        }
        return inner ? inner(arg, fd, request, data) : ioctl(fd, request, data);
    };
    Machine m(1, c);

    ASSERT_EQ(memory_region_init_ram(&more, "more", size), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0x40000000, &more), 0);
    ASSERT_EQ(memory_region_set_log(&more, true, DIRTY_MEMORY_MIGRATION), 0);
    ASSERT_EQ(memory_dirty_log_wait(), 0);
    dirty_pages(&more, size);
    for (auto request : std::initializer_list<unsigned long>{KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG, KVM_RESET_DIRTY_RINGS}) {
        for (uint32_t page = 0x1000; page < 0x4000; page += 0x1000) {
            m.store32(0x40000000 + page, page);
            failing = request;
            std::vector<hwaddr> pages = dirty_pages(&more, size);
            EXPECT_NE(std::find(pages.begin(), pages.end(), page), pages.end()) << request;
            m.store32(0x40000000 + page, page + 1);
            pages = dirty_pages(&more, size);
            EXPECT_NE(std::find(pages.begin(), pages.end(), page), pages.end()) << request << ", again";
            m.store32(0x40000000 + page, page + 2);
            failing = 0;
            pages = dirty_pages(&more, size);
            EXPECT_NE(std::find(pages.begin(), pages.end(), page), pages.end()) << request << ", before it works again";
        }
    }
    EXPECT_GT(m.stats().failures, 0u);
    dirty_pages(&more, size);
    dirty_pages(&more, size);
    m.store32(0x40009000, 1);
    EXPECT_EQ(dirty_pages(&more, size), (std::vector<hwaddr>{0x9000})) << "as before";
    ASSERT_EQ(memory_region_del_subregion(&m.root, &more), 0);
    end(&more);
}

/* As of Linux 6.16 a pending signal makes KVM_RESET_DIRTY_RINGS leave off, and say how far it has come. */
TEST(KvmDirtyRing, ARingThatIsResetInPartsLosesNothing)
{
    struct Kernel {
        bool in_parts = false;
        int signals = 0; /* calls that end before they begin */
        int owed = 0;    /* entries reset, but not said yet */
        std::atomic<unsigned> calls{0};
    } kernel;
    FlatviewKvmConfig c = {};
    MemoryRegion more;
    const uint64_t size = 0x40000;

    c.dirty_ring = 1024;
    c.ioctl_arg = &kernel;
    c.ioctl = [](void *arg, int fd, unsigned long request, void *data) {
        auto k = static_cast<Kernel *>(arg);

        if (request != KVM_RESET_DIRTY_RINGS) {
            return ioctl(fd, request, data);
        }
        k->calls++;
        if (k->signals > 0) {
            k->signals--;
            return 0;
        }
        if (k->owed == 0) {
            k->owed = ioctl(fd, request, data);
        }
        int done = k->in_parts && k->owed > 0 ? 1 : k->owed;
        k->owed -= done;
        return done;
    };
    Machine m(1, c);

    if (m.stats().dirty_ring) {
        ASSERT_EQ(memory_region_init_ram(&more, "more", size), 0);
        ASSERT_EQ(memory_region_add_subregion(&m.root, 0x40000000, &more), 0);
        ASSERT_EQ(memory_region_set_log(&more, true, DIRTY_MEMORY_MIGRATION), 0);
        ASSERT_EQ(memory_dirty_log_wait(), 0);
        dirty_pages(&more, size);

        kernel.in_parts = true;
        kernel.signals = 3;
        kernel.calls = 0;
        m.run(0, {{OP_TOUCH, 0x40010000, 7, 3}});
        EXPECT_EQ(dirty_pages(&more, size), (std::vector<hwaddr>{0x10000, 0x11000, 0x12000}));
        EXPECT_GE(kernel.calls, 6u);
        EXPECT_TRUE(dirty_pages(&more, size).empty());

        kernel.signals = 1 << 20; /* without end: what is not protected is dirty, and once more when it is protected at last */
        m.store32(0x40003000, 1);
        EXPECT_EQ(dirty_pages(&more, size).size(), size / 4096);
        m.store32(0x40003000, 2);
        kernel.signals = 0;
        EXPECT_EQ(dirty_pages(&more, size).size(), size / 4096);
        EXPECT_TRUE(dirty_pages(&more, size).empty());
        m.store32(0x40003000, 3);
        EXPECT_EQ(dirty_pages(&more, size), (std::vector<hwaddr>{0x3000}));
        EXPECT_EQ(m.stats().failures, 0u);
        ASSERT_EQ(memory_region_del_subregion(&m.root, &more), 0);
        end(&more);
    }
}

}
