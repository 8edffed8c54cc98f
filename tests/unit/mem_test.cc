/* SPDX-License-Identifier: MIT */
#include <gtest/gtest.h>

#include "shim/mem_shim.h"

#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace {

TEST(Mem, BlocksAreAlignedToALineFromOneLineUp)
{
    for (size_t size : {1, 8, 24, 63, 64, 65, 80, 100, 128, 200, 320, 384, 448, 1280, 2048, 2049, 5000, 100000}) {
        std::vector<void *> blocks;

        for (int i = 0; i < 40; i++) {
            void *p = mem_shim_alloc(size);

            ASSERT_NE(p, nullptr);
            EXPECT_EQ(uintptr_t(p) % (size >= 64 ? 64 : 16), 0u) << size;
            memset(p, 0xa5, size);
            blocks.push_back(p);
        }
        EXPECT_EQ(std::set<void *>(blocks.begin(), blocks.end()).size(), blocks.size());
        for (void *p : blocks) {
            mem_shim_free(p, size);
        }
    }
}

TEST(Mem, ZallocIsZeroAlsoWhenTheBlockWasUsedBefore)
{
    for (int round = 0; round < 100; round++) {
        auto *p = static_cast<unsigned char *>(mem_shim_zalloc(384));

        ASSERT_NE(p, nullptr);
        for (int i = 0; i < 384; i++) {
            ASSERT_EQ(p[i], 0);
        }
        memset(p, 0xff, 384);
        mem_shim_free(p, 384);
    }
}

TEST(Mem, LiveBytesAreWhatWasAskedFor)
{
    uint64_t before = mem_shim_live_bytes();
    void *a = mem_shim_alloc(100), *b = mem_shim_zalloc(1280);
    char *s = mem_shim_strdup("pci-hole");

    EXPECT_STREQ(s, "pci-hole");
    EXPECT_EQ(mem_shim_live_bytes(), before + 100 + 1280 + strlen("pci-hole") + 1);
    mem_shim_free(a, 100);
    mem_shim_free(b, 1280);
    mem_shim_strfree(s);
    mem_shim_free(nullptr, 100);
    mem_shim_strfree(nullptr);
    EXPECT_EQ(mem_shim_live_bytes(), before);
}

TEST(Mem, LiveBytesSurviveTheThreadAndCountBlocksFreedElsewhere)
{
    uint64_t before = mem_shim_live_bytes();
    std::vector<void *> blocks(500);

    std::thread([&] {
        for (void *&p : blocks) {
            p = mem_shim_alloc(384);
        }
    }).join();
    EXPECT_EQ(mem_shim_live_bytes(), before + 500 * 384);
    std::thread([&] {
        for (void *p : blocks) {
            mem_shim_free(p, 384);
        }
    }).join();
    EXPECT_EQ(mem_shim_live_bytes(), before);
}

TEST(Mem, InjectionFailsTheNthAllocationOfThisThreadOnly)
{
    mem_shim_fail_nth(3, false);
    for (int i = 1; i <= 5; i++) {
        void *p = mem_shim_alloc(64);

        EXPECT_EQ(p == nullptr, i == 3) << i;
        mem_shim_free(p, 64);
        std::thread([] {
            void *other = mem_shim_alloc(64);

            EXPECT_NE(other, nullptr);
            mem_shim_free(other, 64);
        }).join();
    }
    EXPECT_EQ(mem_shim_fail_nth(0, false), 5u);
}

TEST(Mem, StickyInjectionFailsAllAfterItUntilSwitchedOff)
{
    uint64_t before = mem_shim_live_bytes();

    mem_shim_fail_nth(2, true);
    for (int i = 1; i <= 4; i++) {
        char *p = mem_shim_strdup("x");

        EXPECT_EQ(p == nullptr, i >= 2) << i;
        mem_shim_strfree(p);
    }
    EXPECT_EQ(mem_shim_fail_nth(0, false), 4u);
    EXPECT_EQ(mem_shim_live_bytes(), before);
    mem_shim_free(mem_shim_alloc(8), 8);
    EXPECT_EQ(mem_shim_fail_nth(0, false), 1u);
}

TEST(Mem, VectorKeepsItsContentsWhenItGrows)
{
    void *vec = nullptr;
    size_t cap = 0;
    uint64_t before = mem_shim_live_bytes();

    for (size_t i = 0; i < 1000; i++) {
        ASSERT_EQ(mem_shim_vec_reserve(&vec, &cap, i + 1, sizeof(uint32_t)), 0);
        ASSERT_GE(cap, i + 1);
        static_cast<uint32_t *>(vec)[i] = uint32_t(i);
    }
    for (uint32_t i = 0; i < 1000; i++) {
        ASSERT_EQ(static_cast<uint32_t *>(vec)[i], i);
    }
    mem_shim_vec_free(&vec, &cap, sizeof(uint32_t));
    EXPECT_EQ(vec, nullptr);
    EXPECT_EQ(cap, 0u);
    EXPECT_EQ(mem_shim_live_bytes(), before);
}

TEST(Mem, VectorIsAsBeforeWhenItCannotGrow)
{
    void *vec = nullptr;
    size_t cap = 0;

    ASSERT_EQ(mem_shim_vec_reserve(&vec, &cap, 4, 8), 0);
    void *old_vec = vec;
    size_t old_cap = cap;

    mem_shim_fail_nth(1, false);
    EXPECT_EQ(mem_shim_vec_reserve(&vec, &cap, old_cap + 1, 8), -ENOMEM);
    mem_shim_fail_nth(0, false);
    EXPECT_EQ(mem_shim_vec_reserve(&vec, &cap, SIZE_MAX / 8 + 2, 8), -ENOMEM);
    EXPECT_EQ(mem_shim_vec_reserve(&vec, &cap, SIZE_MAX, 8), -ENOMEM);
    EXPECT_EQ(vec, old_vec);
    EXPECT_EQ(cap, old_cap);
    EXPECT_EQ(mem_shim_vec_reserve(&vec, &cap, old_cap, 8), 0);
    EXPECT_EQ(vec, old_vec);
    mem_shim_vec_free(&vec, &cap, 8);
}

TEST(Mem, AbsurdSizesAreRefused)
{
    EXPECT_EQ(mem_shim_alloc(SIZE_MAX), nullptr);
    EXPECT_EQ(mem_shim_alloc(SIZE_MAX - 100), nullptr);
}

/* Blocks with their owner's mark, from one thread to the other: a block that two own at once loses its mark. */
template <typename Get, typename Put> void PassBlocks(size_t size, Get get, Put put)
{
    std::mutex mutex;
    std::condition_variable cond;
    std::deque<unsigned char *> queue;
    const int n = 6000;

    std::thread consumer([&] {
        for (int i = 0; i < n; i++) {
            std::unique_lock<std::mutex> guard(mutex);
            cond.wait(guard, [&] { return !queue.empty(); });
            unsigned char *p = queue.front();
            queue.pop_front();
            guard.unlock();
            for (size_t k = 0; k < size; k++) {
                ASSERT_EQ(p[k], (unsigned char)i);
            }
            put(p, 1);
        }
    });
    for (int i = 0; i < n; i++) {
        auto *p = static_cast<unsigned char *>(get(0));

        ASSERT_NE(p, nullptr);
        memset(p, i, size);
        std::unique_lock<std::mutex> guard(mutex);
        queue.push_back(p);
        guard.unlock();
        cond.notify_one();
    }
    consumer.join();
}

TEST(Mem, BlocksPassFromThreadToThread)
{
    uint64_t before = mem_shim_live_bytes();

    PassBlocks(
        384, [](int) { return mem_shim_alloc(384); }, [](void *p, int) { mem_shim_free(p, 384); });
    EXPECT_EQ(mem_shim_live_bytes(), before);
}

TEST(MemCache, GivesEachBlockToOneOwner)
{
    MemShimCache *cache = mem_shim_cache_new();
    std::mt19937 random(1);
    std::vector<unsigned char *> mine;

    for (int i = 0; i < 20000; i++) {
        if (mine.size() < 200 && (mine.empty() || random() % 2)) {
            auto *p = static_cast<unsigned char *>(mem_shim_cache_get(cache));

            memset(p, int(mine.size()), 128);
            mine.push_back(p);
        } else {
            unsigned char *p = mine.back();

            mine.pop_back();
            for (int k = 0; k < 128; k++) {
                ASSERT_EQ(p[k], (unsigned char)mine.size());
            }
            mem_shim_cache_put(cache, p);
        }
    }
    for (unsigned char *p : mine) {
        mem_shim_cache_put(cache, p);
    }
    mem_shim_cache_free(cache);
}

TEST(MemCache, MagazinesTravelThroughTheDepot)
{
    MemShimCache *cache[2] = {mem_shim_cache_new(), mem_shim_cache_new()};
    long most;

    PassBlocks(
        128, [&](int who) { return mem_shim_cache_get(cache[who]); },
        [&](void *p, int who) { mem_shim_cache_put(cache[who], p); });
    /* Once it runs, the producer lives on what the consumer gave back, whatever lead the scheduler lets it take. */
    for (int round = 0; round < 3; round++) {
        std::vector<void *> blocks;

        for (int i = 0; i < 64; i++) {
            blocks.push_back(mem_shim_cache_get(cache[0]));
        }
        for (void *p : blocks) {
            mem_shim_cache_put(cache[1], p);
        }
        if (round == 0) {
            most = mem_shim_cache_outstanding();
        }
    }
    EXPECT_LE(mem_shim_cache_outstanding(), most);
    mem_shim_cache_free(cache[0]);
    mem_shim_cache_free(cache[1]);
}

TEST(MemCache, TheDepotIsBounded)
{
    MemShimCache *cache = mem_shim_cache_new();
    std::vector<void *> blocks;

    for (int i = 0; i < 100000; i++) {
        blocks.push_back(mem_shim_cache_get(cache));
    }
    for (void *p : blocks) {
        mem_shim_cache_put(cache, p);
    }
    mem_shim_cache_free(cache);
    EXPECT_LE(mem_shim_cache_outstanding() * 128, 4 << 20);
}

} // namespace
