/* SPDX-License-Identifier: MIT */
/*
 * Readers that pin, a writer that replaces, helpers that settle, all at once. Mostly for the sanitizers: the versions
 * are plain memory, so a version freed early is a use after free, and one freed without order a race.
 */
#include <gtest/gtest.h>

#include "shim/reader_shim.h"
#include "shim/retire_shim.h"

#include <atomic>
#include <chrono>
#include <random>
#include <thread>
#include <vector>

namespace {

constexpr int Versions = 4000;

void Count(void *arg)
{
    ++*static_cast<std::atomic<int> *>(arg);
}

template <typename Condition> bool Eventually(Condition condition)
{
    for (int i = 0; i < 10000; i++) {
        if (condition()) {
            return true;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
}

struct Bench {
    std::atomic<int> versions_freed{0}, nodes_freed{0}, regions_freed{0}, lines_freed{0};
    std::atomic<bool> stop{false};
    std::atomic<int> torn{0}, ready{0};
};

void Reader(Bench *bench, int seed)
{
    std::mt19937 random(seed);
    std::vector<ShimVersion *> pins;
    bool told = false;

    while (!bench->stop) {
        reader_shim_enter();
        ShimVersion *v = retire_shim_current();
        bench->torn += !retire_shim_version_is_whole(v);
        if (random() % 2) {
            retire_shim_version_pin(v);
            pins.push_back(v);
        }
        if (random() % 4 == 0 && !pins.empty()) {
            retire_shim_version_unpin(pins.back()); /* in a section */
            pins.pop_back();
        }
        reader_shim_exit();
        while (pins.size() > random() % 8) {
            size_t i = random() % pins.size();

            bench->torn += !retire_shim_version_is_whole(pins[i]);
            retire_shim_version_unpin(pins[i]);
            pins[i] = pins.back();
            pins.pop_back();
        }
        if (!told) {
            told = true;
            bench->ready++;
        }
    }
    for (ShimVersion *v : pins) {
        bench->torn += !retire_shim_version_is_whole(v);
        retire_shim_version_unpin(v);
    }
}

TEST(RetireRace, PinsBeginAndEndWhileVersionsSettle)
{
    Bench bench;
    ShimLine *line = retire_shim_line_new(Count, &bench.lines_freed);
    ShimVersion *current = retire_shim_version_new(line, 1, 100, Count, &bench.versions_freed);
    std::vector<std::thread> threads;
    uint64_t gen;

    retire_shim_publish(current);
    for (int i = 0; i < 3; i++) {
        threads.emplace_back(Reader, &bench, i);
    }
    threads.emplace_back([&] {
        while (!bench.stop) {
            retire_shim_help();
        }
    });
    while (bench.ready < 3) {
        std::this_thread::yield();
    }
    for (gen = 2; gen < 2 + Versions; gen++) {
        ShimVersion *next = retire_shim_version_new(line, gen, 100, Count, &bench.versions_freed);
        uint64_t birth = gen > 10 ? gen - 1 - gen % 9 : 1;

        retire_shim_publish(next);
        retire_shim_object_push(retire_shim_object_new(line, birth, 10, Count, &bench.nodes_freed), gen);
        retire_shim_version_push(current, gen);
        retire_shim_object_push(retire_shim_object_new(nullptr, birth, 10, Count, &bench.regions_freed), gen);
        retire_shim_flush();
        current = next;
        if (gen % 64 == 0) {
            std::this_thread::yield();
        }
    }
    bench.stop = true;
    for (std::thread &t : threads) {
        t.join();
    }
    EXPECT_EQ(bench.torn, 0);
    retire_shim_publish(nullptr);
    retire_shim_version_push(current, gen);
    retire_shim_flush();
    retire_shim_line_unref(line);
    EXPECT_TRUE(Eventually([&] { return bench.versions_freed == Versions + 1 && bench.lines_freed == 1; }));
    EXPECT_TRUE(Eventually([&] { return bench.nodes_freed == Versions && bench.regions_freed == Versions; }));
    EXPECT_TRUE(Eventually([] { return !retire_shim_stats().retired_bytes && !retire_shim_stats().pinned_bytes; }));
}

TEST(RetireRace, WaitersMissNoEnd)
{
    Bench bench;
    ShimLine *line = retire_shim_line_new(nullptr, nullptr);
    std::vector<std::thread> threads;
    std::atomic<uint64_t> tickets[2] = {};
    std::atomic<int> waited{0};
    uint64_t gen;

    for (auto &ticket : tickets) {
        threads.emplace_back([&] {
            uint64_t seen = 0;

            while (!bench.stop) {
                uint64_t t = ticket;

                if (t == seen) {
                    std::this_thread::yield();
                    continue;
                }
                seen = t;
                retire_shim_wait_done(t);
                EXPECT_TRUE(retire_shim_is_done(t));
                waited++;
            }
        });
    }
    for (gen = 2; waited < 200; gen++) {
        ShimVersion *v = retire_shim_version_new(line, gen - 1, 100, nullptr, nullptr);
        ShimObject *region = retire_shim_object_new(nullptr, 1, 10, Count, &bench.regions_freed);

        retire_shim_version_pin(v);
        retire_shim_version_push(v, gen);
        retire_shim_object_push(region, gen);
        reader_shim_enter(); /* so that the region still exists when its ticket is read */
        retire_shim_flush();
        tickets[gen % 2] = retire_shim_object_ticket(region);
        reader_shim_exit();
        std::this_thread::yield();
        retire_shim_version_unpin(v);
    }
    bench.stop = true;
    for (std::thread &t : threads) {
        t.join();
    }
    EXPECT_TRUE(Eventually([&] { return bench.regions_freed == int(gen - 2); }));
    retire_shim_line_unref(line);
}

} // namespace
