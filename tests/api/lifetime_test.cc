/* SPDX-License-Identifier: MIT */
/* Ends, and what may not outlive them: releases, pins, listeners that go at an awkward moment, transactions to nothing. */
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <thread>

#include <flatview/memory.h>

namespace {

/* What a release function does; one at a time. */
std::function<void(MemoryRegion *)> on_release;

void call_on_release(MemoryRegion *mr)
{
    on_release(mr);
}

class Lifetime : public testing::Test {
protected:
    void SetUp() override
    {
        ASSERT_EQ(0, memory_region_init(&root, "root", UINT64_MAX));
        ASSERT_EQ(0, memory_region_init_ram(&ram, "ram", 0x1000));
        ASSERT_EQ(0, memory_region_init_ram(&more, "more", 0x1000));
        ASSERT_EQ(0, memory_region_add_subregion(&root, 0, &ram));
        ASSERT_EQ(0, memory_region_add_subregion(&root, 0x1000, &more));
        ASSERT_EQ(0, address_space_init(&as, &root, "memory"));
        on_release = [](MemoryRegion *) {};
    }

    void TearDown() override
    {
        if (space_exists) {
            ASSERT_EQ(0, address_space_destroy(&as, nullptr));
        }
        for (MemoryRegion *mr : {&ram, &more}) {
            if (memory_region_get_parent(mr)) {
                ASSERT_EQ(0, memory_region_del_subregion(&root, mr));
            }
        }
        for (MemoryRegion *mr : {&ram, &more, &root}) {
            memory_region_destroy(mr); /* -EINVAL for what the test has destroyed */
            ASSERT_EQ(0, memory_region_quiesce(mr));
        }
    }

    /* Out of the map, and destroyed. */
    void drop(MemoryRegion *mr)
    {
        ASSERT_EQ(0, memory_region_set_release(mr, call_on_release));
        ASSERT_EQ(0, memory_region_del_subregion(&root, mr));
        ASSERT_EQ(0, memory_region_destroy(mr));
    }

    MemoryRegion root, ram, more;
    AddressSpace as = {};
    bool space_exists = true;
};

TEST_F(Lifetime, QuiesceWaitsForTheReleaseFunctionToReturn)
{
    std::atomic<bool> running{false}, may_end{false}, ended{false};
    on_release = [&](MemoryRegion *) {
        running = true;
        while (!may_end) {
            std::this_thread::yield();
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        ended = true;
    };
    drop(&ram);
    std::thread helper([] { memory_reclaim(); });
    while (!running) {
        std::this_thread::yield();
    }
    may_end = true;
    EXPECT_EQ(0, memory_region_quiesce(&ram));
    EXPECT_TRUE(ended);
    EXPECT_EQ(0, memory_region_quiesce(&ram)) << "and again";
    helper.join();
}

TEST_F(Lifetime, QuiesceInAReleaseFunctionIsRefused)
{
    int answer = 0;
    on_release = [&](MemoryRegion *mr) { answer = memory_region_quiesce(mr); };
    drop(&ram);
    EXPECT_EQ(0, memory_region_quiesce(&ram));
    EXPECT_EQ(-EDEADLK, answer);
}

TEST_F(Lifetime, WaitingForReadersWithTheTopologyLockHeldIsRefused)
{
    drop(&ram);
    auto wait = [](MemoryRegion *, void *arg) {
        EXPECT_EQ(-EDEADLK, memory_region_quiesce(static_cast<MemoryRegion *>(arg)));
        EXPECT_EQ(-EDEADLK, memory_reclaim());
        return 1;
    };
    EXPECT_EQ(1, memory_region_foreach_child(&root, wait, &ram));
    EXPECT_EQ(0, memory_region_quiesce(&ram));
}

TEST_F(Lifetime, APinHoldsTheRootThatTheViewIsNamedFor)
{
    std::atomic<int> released{0};
    on_release = [&](MemoryRegion *) { released++; };
    FlatView *view = address_space_get_flatview(&as);
    ASSERT_EQ(&root, flatview_root(view));
    ASSERT_EQ(0, address_space_destroy(&as, nullptr));
    space_exists = false;
    ASSERT_EQ(0, memory_region_del_subregion(&root, &ram));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &more));
    ASSERT_EQ(0, memory_region_set_release(&root, call_on_release));
    ASSERT_EQ(0, memory_region_destroy(&root));
    ASSERT_EQ(0, memory_reclaim());
    EXPECT_EQ(0, released);
    EXPECT_STREQ("root", memory_region_name(flatview_root(view)));
    flatview_unref(view);
    EXPECT_EQ(0, memory_region_quiesce(&root));
    EXPECT_EQ(1, released);
}

TEST_F(Lifetime, ASpaceInUseIsNotInitialisedAgain)
{
    EXPECT_EQ(-EBUSY, address_space_init(&as, &ram, "again"));
    EXPECT_EQ(&root, address_space_root(&as));
}

TEST_F(Lifetime, ATransactionWhoseNestedOnesWereAbortedLeavesNothingBehind)
{
    MemoryRegionSection section;
    uint64_t gen;
    FlatView *view;

    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_del_subregion(&root, &more)); /* the only child left is now the root of the view */
    ASSERT_EQ(0, address_space_find_staged(&as, 0x1000, &section));
    memory_transaction_abort();
    ASSERT_EQ(0, memory_transaction_commit());

    view = address_space_get_flatview(&as);
    gen = flatview_generation(view);
    EXPECT_EQ(&root, flatview_root(view));
    flatview_unref(view);
    /* What was staged must be gone before the space that it was for is. */
    ASSERT_EQ(0, address_space_destroy(&as, nullptr));
    ASSERT_EQ(0, memory_reclaim());
    ASSERT_EQ(0, address_space_init(&as, &root, "memory"));
    ASSERT_EQ(0, memory_region_set_enabled(&ram, false));
    ASSERT_EQ(0, memory_region_set_enabled(&ram, true));
    view = address_space_get_flatview(&as);
    EXPECT_LT(gen, flatview_generation(view));
    EXPECT_EQ(2u, flatview_count(view));
    flatview_unref(view);
}

/* ---- listeners ---- */

struct Ear {
    MemoryListener listener;
    Ear *other;        /* to be unregistered in the next removal */
    bool leaves_in_prepare, refuses;
    int balance;       /* ranges it believes to be mapped */
    int detached;
};

Ear *ear_of(MemoryListener *listener)
{
    return reinterpret_cast<Ear *>(listener); /* its first member */
}

void ear_init(Ear *ear, int priority)
{
    *ear = Ear();
    ear->listener.priority = priority;
    ear->listener.prepare = [](MemoryListener *l, const MemoryDelta *) {
        if (ear_of(l)->leaves_in_prepare) {
            EXPECT_EQ(0, memory_listener_unregister(l));
        }
        return ear_of(l)->refuses ? -ENOSPC : 0;
    };
    ear->listener.region_add = [](MemoryListener *l, const MemoryRegionSection *) { ear_of(l)->balance++; };
    ear->listener.region_del = [](MemoryListener *l, const MemoryRegionSection *) {
        Ear *e = ear_of(l);
        e->balance--;
        if (e->other) {
            EXPECT_EQ(0, memory_listener_unregister(&e->other->listener));
            e->other = nullptr;
        }
    };
    ear->listener.detached = [](MemoryListener *l) { ear_of(l)->detached++; };
}

TEST_F(Lifetime, AListenerThatLeavesDuringARefusedCommitUnmapsWhatItHadMapped)
{
    Ear leaver, refuser;
    AddressSpace narrow = {};
    ASSERT_EQ(0, address_space_init(&narrow, &ram, "narrow"));
    ear_init(&leaver, 0);
    ear_init(&refuser, 1);
    ASSERT_EQ(0, memory_listener_register(&leaver.listener, &as));
    ASSERT_EQ(0, memory_listener_register(&refuser.listener, &as));
    EXPECT_EQ(2, leaver.balance);
    leaver.leaves_in_prepare = refuser.refuses = true;
    /* With one child left that child stands for the root: the space would turn to the view that narrow has. */
    EXPECT_EQ(-ENOSPC, memory_region_set_enabled(&more, false));
    EXPECT_EQ(0, leaver.balance);
    EXPECT_EQ(1, leaver.detached);
    refuser.refuses = false;
    EXPECT_EQ(0, memory_listener_unregister(&refuser.listener));
    ASSERT_EQ(0, address_space_destroy(&narrow, nullptr));
}

TEST_F(Lifetime, AListenerUnregisteredWhileAnotherOneLeavesGoesAtOnce)
{
    Ear first, second;
    ear_init(&first, 0);
    ear_init(&second, 1);
    ASSERT_EQ(0, memory_listener_register(&first.listener, &as));
    ASSERT_EQ(0, memory_listener_register(&second.listener, &as));
    first.other = &second;
    ASSERT_EQ(0, memory_listener_unregister(&first.listener));
    EXPECT_EQ(1, first.detached);
    EXPECT_EQ(1, second.detached);
    EXPECT_EQ(0, second.balance);
}

} // namespace
