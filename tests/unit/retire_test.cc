/* SPDX-License-Identifier: MIT */
/*
 * What is freed when. The worker runs beside every test, so "freed by now" is waited for and "not freed" is asserted at
 * once: both are exact, since nothing may ever be freed early.
 */
#include <gtest/gtest.h>

#include "flatview/memory_stats.h"
#include "shim/reader_shim.h"
#include "shim/retire_shim.h"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

namespace {

using std::chrono::milliseconds;

void Count(void *arg)
{
    ++*static_cast<std::atomic<int> *>(arg);
}

template <typename Condition> bool Eventually(Condition condition)
{
    for (int i = 0; i < 5000; i++) {
        if (condition()) {
            return true;
        }
        std::this_thread::sleep_for(milliseconds(1));
    }
    return false;
}

class Retire : public ::testing::Test {
protected:
    void SetUp() override
    {
        line_ = retire_shim_line_new(Count, &lines_freed_);
    }
    void TearDown() override
    {
        retire_shim_line_unref(line_);
        Settle();
        EXPECT_TRUE(Eventually([&] { return lines_freed_ == 1; }));
        EXPECT_TRUE(Eventually([] { return retire_shim_stats().retired_bytes == 0; }));
        EXPECT_TRUE(Eventually([] { return retire_shim_stats().pinned_bytes == 0; }));
    }
    /* Everything flushed is settled on return; of what that frees, another thread may be at the last few. */
    static void Settle()
    {
        retire_shim_help();
    }
    static void PushVersion(ShimVersion *v, uint64_t death)
    {
        retire_shim_version_push(v, death);
        retire_shim_flush();
    }
    ShimVersion *PinnedVersion(uint64_t gen, uint64_t death, std::atomic<int> *freed = nullptr)
    {
        ShimVersion *v = retire_shim_version_new(line_, gen, 100, freed ? Count : nullptr, freed);

        retire_shim_version_pin(v);
        PushVersion(v, death);
        return v;
    }
    void Push(ShimLine *line, uint64_t birth, uint64_t death, std::atomic<int> *freed)
    {
        retire_shim_object_push(retire_shim_object_new(line, birth, 10, Count, freed), death);
        retire_shim_flush();
    }

    std::atomic<int> lines_freed_{0};
    ShimLine *line_;
};

TEST_F(Retire, NothingIsFreedWhileAReaderMayStillSeeIt)
{
    std::atomic<int> of_line{0}, of_none{0};
    std::atomic<bool> inside{false}, leave{false};
    std::thread reader([&] {
        reader_shim_enter();
        inside = true;
        while (!leave) {
            std::this_thread::yield();
        }
        reader_shim_exit();
    });

    while (!inside) {
        std::this_thread::yield();
    }
    Push(line_, 1, 2, &of_line);
    Push(nullptr, 1, 2, &of_none);
    std::thread helper(Settle);
    std::this_thread::sleep_for(milliseconds(80));
    EXPECT_EQ(of_line, 0);
    EXPECT_EQ(of_none, 0);
    EXPECT_EQ(retire_shim_stats().retired_bytes, 20u);
    leave = true;
    reader.join();
    helper.join();
    EXPECT_TRUE(Eventually([&] { return of_line == 1 && of_none == 1; }));
}

TEST_F(Retire, TheWorkerNeedsNobodysHelp)
{
    std::atomic<int> freed{0};

    for (int i = 1; i <= 1000; i++) {
        Push(i % 2 ? line_ : nullptr, i, i + 1, &freed);
    }
    EXPECT_TRUE(Eventually([&] { return freed == 1000; }));
}

TEST_F(Retire, AnUnpinnedVersionIsFreedAtOnceAndAPinnedOneKept)
{
    std::atomic<int> unpinned{0}, pinned{0};
    ShimVersion *a = retire_shim_version_new(line_, 1, 100, Count, &unpinned);

    retire_shim_version_pin(a);
    retire_shim_version_unpin(a);
    PushVersion(a, 2);
    ShimVersion *b = PinnedVersion(2, 3, &pinned);

    Settle();
    EXPECT_TRUE(Eventually([&] { return unpinned == 1; }));
    EXPECT_EQ(pinned, 0);
    EXPECT_EQ(retire_shim_stats().pinned_bytes, 100u);
    retire_shim_version_pin(b);
    retire_shim_version_unpin(b);
    EXPECT_EQ(pinned, 0);
    retire_shim_version_unpin(b);
    EXPECT_EQ(pinned, 1);
}

TEST_F(Retire, APinHoldsExactlyWhatLivedAtItsGeneration)
{
    std::atomic<int> freed[4][2] = {};
    std::atomic<int> version{0};
    ShimVersion *v = PinnedVersion(10, 20, &version);
    ShimLine *const lines[2] = {line_, nullptr};

    for (int k = 0; k < 2; k++) {
        Push(lines[k], 5, 10, &freed[0][k]);  /* dead when 10 was published */
        Push(lines[k], 10, 20, &freed[1][k]); /* born with it */
        Push(lines[k], 1, 25, &freed[2][k]);  /* older and younger than it */
        Push(lines[k], 11, 26, &freed[3][k]); /* born after it */
    }
    Settle();
    for (int k = 0; k < 2; k++) {
        EXPECT_TRUE(Eventually([&] { return freed[0][k] == 1 && freed[3][k] == 1; }));
        EXPECT_EQ(freed[1][k], 0);
        EXPECT_EQ(freed[2][k], 0);
    }
    retire_shim_version_unpin(v);
    EXPECT_EQ(version, 1);
    EXPECT_EQ(freed[1][0], 1);
    EXPECT_EQ(freed[2][0], 1);
    EXPECT_TRUE(Eventually([&] { return freed[1][1] == 1 && freed[2][1] == 1; }));
}

TEST_F(Retire, WhatDiesWithAVersionIsHeldByItWhateverTheOrderOfThePushes)
{
    std::atomic<int> node{0}, region{0};
    ShimVersion *v = retire_shim_version_new(line_, 7, 100, nullptr, nullptr);

    retire_shim_version_pin(v);
    retire_shim_object_push(retire_shim_object_new(nullptr, 3, 10, Count, &region), 8);
    retire_shim_object_push(retire_shim_object_new(line_, 3, 10, Count, &node), 8);
    retire_shim_version_push(v, 8);
    retire_shim_flush();
    Settle();
    EXPECT_EQ(node, 0);
    EXPECT_EQ(region, 0);
    retire_shim_version_unpin(v);
    EXPECT_EQ(node, 1);
    EXPECT_TRUE(Eventually([&] { return region == 1; }));
}

TEST_F(Retire, ObjectsOfALineDoNotMindThePinsOfOthers)
{
    std::atomic<int> ours{0}, nobodys{0}, other_freed{0};
    ShimLine *other = retire_shim_line_new(Count, &other_freed);
    ShimVersion *v = retire_shim_version_new(other, 5, 100, nullptr, nullptr);

    retire_shim_version_pin(v);
    PushVersion(v, 6);
    retire_shim_line_unref(other);
    Push(line_, 1, 10, &ours);
    Push(nullptr, 1, 10, &nobodys);
    Settle();
    EXPECT_TRUE(Eventually([&] { return ours == 1; }));
    EXPECT_EQ(nobodys, 0);
    EXPECT_EQ(other_freed, 0); /* the pin names it */
    retire_shim_version_unpin(v);
    EXPECT_EQ(other_freed, 1);
    EXPECT_TRUE(Eventually([&] { return nobodys == 1; }));
}

/* Deaths come in order; births, of different lines, need not. */
TEST_F(Retire, AnObjectOfNoLineFindsAYoungPinBehindAnOldOneThatDiedLater)
{
    std::atomic<int> freed{0};
    ShimLine *other = retire_shim_line_new(nullptr, nullptr);
    ShimVersion *young = retire_shim_version_new(other, 50, 100, nullptr, nullptr);

    retire_shim_version_pin(young);
    PushVersion(young, 60);
    ShimVersion *old = PinnedVersion(5, 100);
    Push(nullptr, 40, 200, &freed);
    Settle();
    EXPECT_EQ(freed, 0);
    retire_shim_version_unpin(old);
    Settle();
    EXPECT_EQ(freed, 0);
    retire_shim_version_unpin(young);
    EXPECT_TRUE(Eventually([&] { return freed == 1; }));
    retire_shim_line_unref(other);
}

/* One commit takes a region from two lines; each has its generation, and the region's death may be the smaller one. */
TEST_F(Retire, AnObjectOfNoLineIsHeldByAVersionReplacedInTheSameFlushWhateverItsDeath)
{
    std::atomic<int> freed{0};
    ShimVersion *v = retire_shim_version_new(line_, 8, 100, nullptr, nullptr);

    retire_shim_version_pin(v);
    retire_shim_version_push(v, 11);
    retire_shim_object_push(retire_shim_object_new(nullptr, 3, 10, Count, &freed), 10);
    retire_shim_flush();
    Settle();
    EXPECT_EQ(freed, 0);
    retire_shim_version_unpin(v);
    EXPECT_TRUE(Eventually([&] { return freed == 1; }));
}

TEST_F(Retire, ObjectsMoveDownTheChainOfPins)
{
    /* Each order in which three pins can end; the object that all reach ends with the last. */
    const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

    for (const int *order : orders) {
        std::atomic<int> all{0}, upper{0}, any{0};
        ShimVersion *pins[3];

        for (int i = 0; i < 3; i++) {
            pins[i] = PinnedVersion(10 + 10 * i, 15 + 10 * i);
        }
        Push(line_, 5, 35, &all);
        Push(line_, 15, 35, &upper);
        Push(nullptr, 5, 35, &any);
        Settle();
        bool pinned[3] = {true, true, true};
        for (int i = 0; i < 3; i++) {
            EXPECT_EQ(all, 0);
            EXPECT_EQ(any, 0);
            EXPECT_EQ(upper, pinned[1] || pinned[2] ? 0 : 1);
            retire_shim_version_unpin(pins[order[i]]);
            pinned[order[i]] = false;
        }
        EXPECT_EQ(all, 1);
        EXPECT_EQ(upper, 1);
        EXPECT_TRUE(Eventually([&] { return any == 1; }));
        EXPECT_TRUE(Eventually([] { return retire_shim_stats().pinned_bytes == 0; }));
    }
}

/* 10,000 commits, each of which replaces the version, one of 64 nodes, and the root above them. */
TEST_F(Retire, OneOldPinKeepsOnlyWhatItReachesHoweverManyCommitsFollow)
{
    enum { Nodes = 64, Commits = 10000, NodeBytes = 384, VersionBytes = 128 };
    std::atomic<int> freed{0};
    uint64_t node_birth[Nodes], root_birth = 1;
    ShimVersion *current = retire_shim_version_new(line_, 1, VersionBytes, nullptr, nullptr), *pinned = nullptr;

    std::fill(node_birth, node_birth + Nodes, 1);
    for (uint64_t gen = 2; gen < 2 + Commits; gen++) {
        int i = int(gen * 7 % Nodes);

        if (gen == 100) {
            pinned = current;
            retire_shim_version_pin(pinned);
        }
        retire_shim_version_push(current, gen);
        retire_shim_object_push(retire_shim_object_new(line_, node_birth[i], NodeBytes, Count, &freed), gen);
        retire_shim_object_push(retire_shim_object_new(line_, root_birth, NodeBytes, Count, &freed), gen);
        retire_shim_flush();
        node_birth[i] = root_birth = gen;
        current = retire_shim_version_new(line_, gen, VersionBytes, nullptr, nullptr);
    }
    Settle();
    EXPECT_TRUE(Eventually([&] { return freed == 2 * Commits - (Nodes + 1); }));
    EXPECT_EQ(retire_shim_stats().pinned_bytes, uint64_t((Nodes + 1) * NodeBytes + VersionBytes));
    retire_shim_version_unpin(pinned);
    EXPECT_EQ(freed, 2 * Commits);
    PushVersion(current, 2 + Commits);
}

TEST_F(Retire, WhatWasNeverVisibleIsFreedAfterAGracePeriodWhateverIsPinned)
{
    std::atomic<int> freed{0};
    ShimVersion *v = PinnedVersion(1, 2);

    Push(nullptr, 0, 0, &freed);
    EXPECT_TRUE(Eventually([&] { return freed == 1; }));
    retire_shim_version_unpin(v);
}

TEST_F(Retire, TheLineOutlivesEverythingThatNamesIt)
{
    std::atomic<int> freed{0}, gone{0};
    ShimLine *line = retire_shim_line_new(Count, &gone);
    ShimVersion *v = retire_shim_version_new(line, 1, 100, nullptr, nullptr);

    retire_shim_version_pin(v);
    retire_shim_object_push(retire_shim_object_new(line, 1, 10, Count, &freed), 2);
    retire_shim_version_push(v, 2);
    retire_shim_line_unref(line); /* before the flush: what was pushed holds it already */
    retire_shim_flush();
    Settle();
    EXPECT_EQ(gone, 0);
    retire_shim_version_unpin(v);
    EXPECT_EQ(freed, 1);
    EXPECT_EQ(gone, 1);
}

struct Release {
    std::atomic<int> runs{0}, in_section{0}, not_releasing{0};
    std::thread::id thread;
};

void NoteContext(void *arg)
{
    auto *r = static_cast<Release *>(arg);

    r->thread = std::this_thread::get_id();
    r->in_section += reader_shim_ongoing();
    r->not_releasing += !retire_shim_releasing();
    r->runs++;
}

TEST_F(Retire, ReleaseFunctionsNeverRunInsideTheUnpinThatAllowsThem)
{
    Release release;
    ShimVersion *v = PinnedVersion(1, 2);

    retire_shim_object_push(retire_shim_object_new(nullptr, 1, 10, NoteContext, &release), 2);
    retire_shim_flush();
    Settle();
    reader_shim_enter();
    retire_shim_version_unpin(v);
    EXPECT_EQ(release.runs, 0); /* the worker needs a grace period, and we are in a section */
    reader_shim_exit();
    EXPECT_TRUE(Eventually([&] { return release.runs == 1; }));
    EXPECT_EQ(release.in_section, 0);
    EXPECT_EQ(release.not_releasing, 0);
    EXPECT_NE(release.thread, std::this_thread::get_id());
    EXPECT_FALSE(retire_shim_releasing());
}

TEST_F(Retire, ReleaseFunctionsMayHelpAndRetire)
{
    struct Nested {
        std::atomic<int> inner{0}, outer{0}, over{0};
    } n;
    auto outer = [](void *arg) {
        auto *nested = static_cast<Nested *>(arg);

        nested->over += retire_shim_over_limit(); /* who is waited for does not wait */
        retire_shim_object_push(retire_shim_object_new(nullptr, 1, 10, Count, &nested->inner), 3);
        retire_shim_flush();
        retire_shim_help();
        EXPECT_EQ(nested->inner, 0); /* release functions do not nest */
        nested->outer++;
    };

    ASSERT_EQ(retire_shim_set_limit(0, MEMORY_RECLAIM_WAIT), 0);
    retire_shim_object_push(retire_shim_object_new(nullptr, 1, 10, outer, &n), 2);
    retire_shim_flush();
    EXPECT_TRUE(Eventually([&] { return n.outer == 1 && n.inner == 1; }));
    EXPECT_EQ(n.over, 0);
    ASSERT_EQ(retire_shim_set_limit(MEMORY_RECLAIM_DEFAULT_LIMIT, MEMORY_RECLAIM_WAIT), 0);
}

TEST_F(Retire, OverTheLimitHelpingBringsItBelow)
{
    std::atomic<int> freed{0};
    uint64_t helped = retire_shim_stats().helped;

    EXPECT_EQ(retire_shim_set_limit(1000, 7), -EINVAL);
    ASSERT_EQ(retire_shim_set_limit(1000, MEMORY_RECLAIM_EAGAIN), 0);
    EXPECT_EQ(retire_shim_policy(), MEMORY_RECLAIM_EAGAIN);
    reader_shim_enter(); /* keeps the worker from being first */
    for (int i = 1; i <= 100; i++) {
        Push(line_, i, i + 1, &freed);
    }
    EXPECT_FALSE(retire_shim_over_limit()); /* at the limit is not over it */
    Push(line_, 200, 201, &freed);
    EXPECT_TRUE(retire_shim_over_limit());
    EXPECT_GE(retire_shim_stats().retired_peak, 1010u);
    reader_shim_exit();
    retire_shim_help();
    EXPECT_TRUE(Eventually([&] { return freed == 101; }));
    EXPECT_TRUE(Eventually([] { return !retire_shim_over_limit(); }));
    EXPECT_LE(retire_shim_stats().helped, helped + 1);
    ASSERT_EQ(retire_shim_set_limit(MEMORY_RECLAIM_DEFAULT_LIMIT, MEMORY_RECLAIM_WAIT), 0);
    EXPECT_EQ(retire_shim_policy(), MEMORY_RECLAIM_WAIT);
}

TEST_F(Retire, PinnedMemoryIsNotOverTheLimit)
{
    ShimVersion *v = retire_shim_version_new(line_, 1, 5000, nullptr, nullptr);

    ASSERT_EQ(retire_shim_set_limit(1000, MEMORY_RECLAIM_WAIT), 0);
    retire_shim_version_pin(v);
    PushVersion(v, 2);
    Settle();
    EXPECT_FALSE(retire_shim_over_limit());
    EXPECT_EQ(retire_shim_stats().pinned_bytes, 5000u);
    retire_shim_version_unpin(v);
    ASSERT_EQ(retire_shim_set_limit(MEMORY_RECLAIM_DEFAULT_LIMIT, MEMORY_RECLAIM_WAIT), 0);
}

TEST_F(Retire, TicketsAreDoneInWhateverOrderPinsAllow)
{
    std::atomic<int> freed{0};
    ShimVersion *v = PinnedVersion(5, 6);
    ShimObject *kept = retire_shim_object_new(nullptr, 5, 10, Count, &freed);
    ShimObject *free_soon = retire_shim_object_new(nullptr, 7, 10, Count, &freed);

    retire_shim_object_push(kept, 8);
    retire_shim_object_push(free_soon, 8);
    reader_shim_enter();
    retire_shim_flush();
    uint64_t kept_ticket = retire_shim_object_ticket(kept), soon_ticket = retire_shim_object_ticket(free_soon);
    EXPECT_NE(kept_ticket, 0u);
    EXPECT_LT(kept_ticket, soon_ticket);
    EXPECT_FALSE(retire_shim_is_done(kept_ticket));
    EXPECT_FALSE(retire_shim_is_done(soon_ticket));
    reader_shim_exit();
    retire_shim_wait_done(soon_ticket);
    EXPECT_TRUE(retire_shim_is_done(soon_ticket));
    EXPECT_FALSE(retire_shim_is_done(kept_ticket));
    EXPECT_EQ(freed, 1);
    retire_shim_version_unpin(v);
    retire_shim_wait_done(kept_ticket);
    EXPECT_EQ(freed, 2);
    retire_shim_wait_done(kept_ticket); /* and again, and what was never pushed */
    retire_shim_wait_done(0);
    EXPECT_TRUE(retire_shim_is_done(0));
}

TEST_F(Retire, WaitDoneEndsWhenTheReleaseFunctionHasReturned)
{
    struct Slow {
        std::atomic<bool> begun{false}, returned{false};
    } slow;
    auto release = [](void *arg) {
        auto *s = static_cast<Slow *>(arg);

        s->begun = true;
        std::this_thread::sleep_for(milliseconds(50));
        s->returned = true;
    };
    ShimVersion *v = PinnedVersion(1, 2);
    ShimObject *o = retire_shim_object_new(nullptr, 1, 10, release, &slow);

    retire_shim_object_push(o, 2);
    retire_shim_flush();
    uint64_t ticket = retire_shim_object_ticket(o);
    std::vector<std::thread> waiters;
    std::atomic<int> early{0}, over{0};
    for (int i = 0; i < 3; i++) {
        waiters.emplace_back([&] {
            retire_shim_wait_done(ticket);
            early += !slow.returned;
            over++;
        });
    }
    std::this_thread::sleep_for(milliseconds(30));
    EXPECT_EQ(over, 0);
    retire_shim_version_unpin(v);
    EXPECT_TRUE(Eventually([&] { return slow.begun.load(); }));
    retire_shim_wait_done(ticket); /* one that comes while it runs */
    EXPECT_TRUE(slow.returned);
    for (std::thread &w : waiters) {
        w.join();
    }
    EXPECT_EQ(early, 0);
}

} // namespace
