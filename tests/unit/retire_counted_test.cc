/* SPDX-License-Identifier: MIT */
/*
 * Objects with a count: kept by it and by nothing else, whoever comes last. "Not freed" is asserted at once, "freed by
 * now" is waited for, as in retire_test.cc.
 */
#include <gtest/gtest.h>

#include "flatview/memory_stats.h"
#include "shim/reader_shim.h"
#include "shim/retire_shim.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace {

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

void Push(ShimObject *object, uint64_t death)
{
    retire_shim_object_push(object, death);
    retire_shim_flush();
}

class RetireCounted : public ::testing::Test {
protected:
    void TearDown() override
    {
        EXPECT_TRUE(Eventually([] { return !retire_shim_stats().retired_bytes && !retire_shim_stats().pinned_bytes; }));
    }

    std::atomic<int> freed{0};
    ShimObject *object = retire_shim_counted_new(1, 1000, Count, &freed);
};

TEST_F(RetireCounted, WithoutAHoldItGoesAsAnyOther)
{
    retire_shim_hold(object);
    retire_shim_unhold(object);
    EXPECT_EQ(0, freed) << "a count that comes to zero before retirement means nothing";
    Push(object, 2);
    retire_shim_help();
    EXPECT_TRUE(Eventually([&] { return freed == 1; }));
}

TEST_F(RetireCounted, TheLastHoldLetsItGo)
{
    retire_shim_hold(object);
    retire_shim_hold(object);
    Push(object, 2);
    retire_shim_help();
    EXPECT_EQ(0, freed);
    retire_shim_unhold(object);
    retire_shim_help();
    EXPECT_EQ(0, freed);
    retire_shim_hold(object); /* whoever holds it may hold it again */
    retire_shim_unhold(object);
    retire_shim_help();
    EXPECT_EQ(0, freed);
    retire_shim_unhold(object);
    EXPECT_TRUE(Eventually([&] { return freed == 1; }));
}

TEST_F(RetireCounted, AHoldMakesNoWriterWait)
{
    ASSERT_EQ(0, retire_shim_set_limit(500, MEMORY_RECLAIM_WAIT));
    retire_shim_hold(object);
    Push(object, 2);
    retire_shim_help();
    EXPECT_FALSE(retire_shim_over_limit());
    EXPECT_EQ(1000u, retire_shim_stats().pinned_bytes);
    retire_shim_unhold(object);
    EXPECT_TRUE(Eventually([&] { return freed == 1; }));
    ASSERT_EQ(0, retire_shim_set_limit(MEMORY_RECLAIM_DEFAULT_LIMIT, MEMORY_RECLAIM_WAIT));
}

TEST_F(RetireCounted, PinsAndHoldsWaitForEachOther)
{
    for (bool pin_first : {true, false}) {
        ShimLine *line = retire_shim_line_new(nullptr, nullptr);
        ShimVersion *v = retire_shim_version_new(line, 1, 10, nullptr, nullptr);
        std::atomic<int> gone{0};
        ShimObject *both = retire_shim_counted_new(1, 10, Count, &gone);

        retire_shim_version_pin(v);
        retire_shim_hold(both);
        retire_shim_version_push(v, 2);
        Push(both, 2);
        retire_shim_help();
        pin_first ? retire_shim_version_unpin(v) : retire_shim_unhold(both);
        retire_shim_help();
        EXPECT_EQ(0, gone);
        pin_first ? retire_shim_unhold(both) : retire_shim_version_unpin(v);
        EXPECT_TRUE(Eventually([&] { return gone == 1; }));
        retire_shim_line_unref(line);
    }
    Push(object, 2);
    EXPECT_TRUE(Eventually([&] { return freed == 1; }));
}

TEST_F(RetireCounted, ATicketIsDoneAfterTheLastHold)
{
    retire_shim_hold(object);
    retire_shim_object_push(object, 2);
    reader_shim_enter(); /* so that it still exists when its ticket is read */
    retire_shim_flush();
    uint64_t ticket = retire_shim_object_ticket(object);
    reader_shim_exit();
    retire_shim_help();
    EXPECT_FALSE(retire_shim_is_done(ticket));
    std::thread waiter([&] {
        retire_shim_wait_done(ticket);
        EXPECT_EQ(1, freed);
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_EQ(0, freed);
    retire_shim_unhold(object);
    waiter.join();
    EXPECT_TRUE(retire_shim_is_done(ticket));
}

/* Holds begin in read sections, end anywhere, while the objects are retired. The payload is plain memory that the free
   function spoils: too early is a use after free, and without order a race. */
struct Published {
    ShimObject *object = nullptr;
    std::atomic<int> *gone = nullptr;
    int payload = 1;
};

TEST_F(RetireCounted, HoldsBeginAndEndWhileObjectsSettle)
{
    constexpr int Objects = 2000;
    std::atomic<int> gone{0}, torn{0}, ready{0};
    std::atomic<bool> stop{false};
    auto told = [](void *arg) {
        auto *p = static_cast<Published *>(arg);

        p->payload = 0;
        ++*p->gone;
        delete p;
    };
    auto make = [&](uint64_t birth) {
        Published *p = new Published;

        p->gone = &gone;
        p->object = retire_shim_counted_new(birth, 10, told, p);
        return p;
    };
    std::atomic<Published *> current{make(1)};
    std::vector<std::thread> threads;

    for (int i = 0; i < 3; i++) {
        threads.emplace_back([&] {
            std::vector<Published *> held;

            while (!stop) {
                reader_shim_enter();
                Published *p = current.load(std::memory_order_acquire);
                retire_shim_hold(p->object);
                reader_shim_exit();
                held.push_back(p);
                while (held.size() > 4) {
                    torn += held.front()->payload != 1;
                    retire_shim_unhold(held.front()->object);
                    held.erase(held.begin());
                }
                if (ready < 3) {
                    ready++;
                }
            }
            for (Published *p : held) {
                torn += p->payload != 1;
                retire_shim_unhold(p->object);
            }
        });
    }
    while (ready < 3) {
        std::this_thread::yield();
    }
    for (int i = 0; i < Objects; i++) {
        Published *old = current.exchange(make(i + 2), std::memory_order_acq_rel);

        Push(old->object, i + 2);
        if (i % 16 == 0) {
            std::this_thread::yield();
        }
    }
    stop = true;
    for (std::thread &t : threads) {
        t.join();
    }
    Push(current.load()->object, Objects + 2);
    EXPECT_TRUE(Eventually([&] { return gone == Objects + 1; }));
    EXPECT_EQ(0, torn);
    Push(object, 2);
    EXPECT_TRUE(Eventually([&] { return freed == 1; }));
}

} // namespace
