/* SPDX-License-Identifier: MIT */
#include <gtest/gtest.h>

#include "shim/lock_shim.h"

#include <atomic>
#include <thread>

namespace {

constexpr int Low = LOCK_SHIM_LOW, LowTwin = LOCK_SHIM_LOW_TWIN, High = LOCK_SHIM_HIGH;

class LockDeathTest : public ::testing::Test {
protected:
    void SetUp() override
    {
        ::testing::FLAGS_gtest_death_test_style = "threadsafe";
        if (!lock_shim_checked()) {
            GTEST_SKIP() << "built without debug_checks";
        }
    }
};

TEST(Lock, AscendingRanksAreFine)
{
    lock_shim_acquire(Low);
    lock_shim_acquire(High);
    lock_shim_assert_held(Low);
    lock_shim_assert_held(High);
    lock_shim_assert_not_held(LowTwin);
    lock_shim_release(Low); /* in any order */
    lock_shim_assert_not_held(Low);
    lock_shim_assert_held(High);
    lock_shim_release(High);
    lock_shim_assert_none_held();
}

TEST(Lock, TryFailsWhileAnotherThreadHoldsIt)
{
    lock_shim_acquire(Low);
    std::thread([] { EXPECT_FALSE(lock_shim_try(Low)); }).join();
    lock_shim_release(Low);
    std::thread([] {
        EXPECT_TRUE(lock_shim_try(Low));
        lock_shim_release(Low);
    }).join();
}

TEST(Lock, HoldersAreKnownPerThread)
{
    lock_shim_acquire(Low);
    std::thread([] {
        lock_shim_assert_not_held(Low);
        lock_shim_assert_none_held();
    }).join();
    lock_shim_release(Low);
}

TEST(Lock, WaitGivesItBackMeanwhile)
{
    bool there = false; /* under Low */

    lock_shim_acquire(Low);
    std::thread other([&] {
        lock_shim_acquire(Low);
        there = true;
        lock_shim_signal();
        lock_shim_release(Low);
    });
    while (!there) {
        lock_shim_wait(Low);
    }
    lock_shim_assert_held(Low);
    lock_shim_release(Low);
    other.join();
}

TEST(Lock, ExcludesOtherThreads)
{
    int counter = 0;
    auto count = [&] {
        for (int i = 0; i < 2000; i++) {
            lock_shim_acquire(Low);
            counter++;
            lock_shim_release(Low);
        }
    };
    std::thread a(count), b(count);

    a.join();
    b.join();
    EXPECT_EQ(counter, 4000);
}

TEST_F(LockDeathTest, DescendingRankIsReported)
{
    EXPECT_DEATH(
        {
            lock_shim_acquire(High);
            lock_shim_acquire(Low);
        },
        "rank");
}

TEST_F(LockDeathTest, EqualRankIsReported)
{
    EXPECT_DEATH(
        {
            lock_shim_acquire(Low);
            lock_shim_acquire(LowTwin);
        },
        "rank");
}

TEST_F(LockDeathTest, RecursionIsReportedBeforeItDeadlocks)
{
    EXPECT_DEATH(
        {
            lock_shim_acquire(Low);
            lock_shim_acquire(Low);
        },
        "rank");
}

TEST_F(LockDeathTest, TryKeepsTheOrderToo)
{
    EXPECT_DEATH(
        {
            lock_shim_acquire(High);
            lock_shim_try(Low);
        },
        "rank");
}

TEST_F(LockDeathTest, GivingBackWhatIsNotHeldIsReported)
{
    EXPECT_DEATH(lock_shim_release(Low), "not held");
}

TEST_F(LockDeathTest, AssertionsSeeTheTruth)
{
    EXPECT_DEATH(lock_shim_assert_held(Low), "");
    EXPECT_DEATH(
        {
            lock_shim_acquire(Low);
            lock_shim_assert_not_held(Low);
        },
        "");
    EXPECT_DEATH(
        {
            lock_shim_acquire(Low);
            lock_shim_assert_none_held();
        },
        "");
}

} // namespace
