/* SPDX-License-Identifier: MIT */
/*
 * The index of host memory against a list: random blocks, which may overlap, and every address of a small arena.
 */
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "shim/ram_index_shim.h"

namespace {

uint8_t arena[512];

MemoryRegion *Fake(size_t i)
{
    return reinterpret_cast<MemoryRegion *>(0x1000 * (i + 1)); /* never looked into */
}

TEST(RamIndex, FindsABlockAroundEachByteThatHasOne)
{
    std::vector<std::unique_ptr<RamBlock>> blocks(64);
    std::vector<bool> in(blocks.size());
    std::mt19937 random(3);

    for (auto &block : blocks) {
        block.reset(new RamBlock());
    }
    for (int round = 0; round < 4000; round++) {
        size_t i = random() % blocks.size();

        if (in[i]) {
            ram_index_remove(blocks[i].get());
            ram_index_remove(blocks[i].get()); /* a no-op */
        } else {
            size_t first = random() % (sizeof(arena) - 1);
            blocks[i]->host = arena + first;
            blocks[i]->size = 1 + random() % std::min<size_t>(random() % 2 ? 16 : 400, sizeof(arena) - first);
            ram_index_add(blocks[i].get(), Fake(i));
        }
        in[i] = !in[i];
        if (round % 16) {
            continue;
        }
        ram_index_check();
        for (size_t at = 0; at < sizeof(arena); at++) {
            uint64_t offset = 0;
            MemoryRegion *mr = ram_index_find(arena + at, &offset);
            bool wanted = false, right = false;
            for (size_t b = 0; b < blocks.size(); b++) {
                bool around = in[b] && arena + at >= blocks[b]->host && arena + at < blocks[b]->host + blocks[b]->size;
                wanted |= around;
                right |= around && mr == Fake(b) && offset == size_t(arena + at - blocks[b]->host);
            }
            ASSERT_EQ(wanted, mr != nullptr);
            ASSERT_EQ(wanted, right);
        }
    }
    for (size_t i = 0; i < blocks.size(); i++) {
        ram_index_remove(blocks[i].get());
    }
    ram_index_remove(nullptr);
}

TEST(RamIndex, ManyBlocksInOrderStayLogarithmic)
{
    const size_t n = 200000;
    std::vector<RamBlock> blocks(n);
    RamIndexStats before, stats;
    uint64_t offset;

    ram_index_get_stats(&before);
    for (size_t i = 0; i < n; i++) { /* would take hours, or the stack, if it made a list */
        blocks[i].host = reinterpret_cast<uint8_t *>(uintptr_t(1) << 46) + i * 64;
        blocks[i].size = 64;
        ram_index_add(&blocks[i], Fake(i));
    }
    ram_index_get_stats(&stats);
    EXPECT_EQ(n, stats.blocks - before.blocks);
    EXPECT_EQ(n * 64, stats.bytes - before.bytes);
    for (size_t i = 0; i < n; i++) {
        ASSERT_EQ(Fake(i), ram_index_find(blocks[i].host + 63, &offset));
        ASSERT_EQ(63u, offset);
    }
    for (auto &block : blocks) {
        ram_index_remove(&block);
    }
}

TEST(RamIndex, IsLookedAtWhileItChanges)
{
    std::vector<RamBlock> blocks(64);
    std::atomic<bool> stop{false};
    std::atomic<int> wrong{0};
    RamBlock always = {};

    always.host = arena + 400;
    always.size = 8;
    ram_index_add(&always, Fake(1000));
    std::thread reader([&] {
        while (!stop) {
            uint64_t offset = 0;
            wrong += ram_index_find(arena + 403, &offset) != Fake(1000) || offset != 3;
        }
    });
    for (int round = 0; round < 20000; round++) {
        RamBlock *block = &blocks[round % blocks.size()];
        ram_index_remove(block);
        block->host = arena + round % 300;
        block->size = 50;
        ram_index_add(block, Fake(0));
    }
    stop = true;
    reader.join();
    EXPECT_EQ(0, wrong);
    for (auto &block : blocks) {
        ram_index_remove(&block);
    }
    ram_index_remove(&always);
}

} // namespace
