/* SPDX-License-Identifier: MIT */
/* Devices whose callbacks run under a lock, and devices that are brought to rest. */
#include "actor.h"

#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>
#include <vector>

namespace {

class Serial : public Actors {
protected:
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    MemoryLock lock = {&mutex, nullptr, nullptr};
};

void wait_for(const std::atomic<bool> &flag)
{
    while (!flag) {
        std::this_thread::yield();
    }
}

TEST_F(Serial, CallbacksOfAllRegionsUnderOneLockExcludeEachOther)
{
    int inside = 0, calls = 0; /* plain: the sanitizer would see what the lock does not cover */
    auto body = [&](hwaddr, uint64_t, unsigned) {
        EXPECT_EQ(1, ++inside);
        calls++;
        inside--;
        return MEMTX_OK;
    };

    a.on_write = b.on_write = body;
    for (MemoryRegion *mr : {&a.mr, &b.mr}) {
        ASSERT_EQ(0, memory_region_set_lock(mr, &lock));
        EXPECT_EQ(&lock, memory_region_get_lock(mr));
    }
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++) {
        threads.emplace_back([&, i] {
            for (int k = 0; k < 500; k++) {
                ASSERT_EQ(MEMTX_OK, store(i % 2 ? A : B, 0));
            }
        });
    }
    for (auto &t : threads) {
        t.join();
    }
    EXPECT_EQ(2000, calls);
}

TEST_F(Serial, NestedCallsUnderTheSameLockRunWithoutTakingItAgain)
{
    int calls = 0;

    a.on_write = [&](hwaddr, uint64_t, unsigned) { return store(B, 0); };
    b.on_write = [&](hwaddr, uint64_t, unsigned) { return ++calls < 3 ? store(A, 0) : MEMTX_OK; };
    ASSERT_EQ(0, memory_region_set_lock(&a.mr, &lock));
    ASSERT_EQ(0, memory_region_set_lock(&b.mr, &lock));
    EXPECT_EQ(MEMTX_OK, store(A, 0));
    EXPECT_EQ(3, calls);
    EXPECT_EQ(0, pthread_mutex_trylock(&mutex)) << "given back once";
    pthread_mutex_unlock(&mutex);
}

struct BigLock {
    MemoryLock lock;
    bool mine;
    int acquired, released;
};

TEST_F(Serial, ALockMayKnowThatTheThreadHasItAlready)
{
    BigLock big = {};
    bool inside_acquired = false;

    big.lock.acquire = [](MemoryLock *l) {
        BigLock *b = reinterpret_cast<BigLock *>(l);
        bool take = !b->mine;
        b->acquired += take;
        return take;
    };
    big.lock.release = [](MemoryLock *l) { reinterpret_cast<BigLock *>(l)->released++; };
    a.on_write = [&](hwaddr, uint64_t, unsigned) {
        return inside_acquired = big.mine || big.acquired > big.released, MEMTX_OK;
    };
    ASSERT_EQ(0, memory_region_set_lock(&a.mr, &big.lock));
    EXPECT_EQ(MEMTX_OK, store(A, 0));
    EXPECT_TRUE(inside_acquired);
    EXPECT_EQ(1, big.acquired);
    EXPECT_EQ(1, big.released);
    big.mine = true;
    EXPECT_EQ(MEMTX_OK, store(A, 0));
    EXPECT_EQ(1, big.acquired);
    EXPECT_EQ(1, big.released);
}

TEST_F(Serial, ACallbackUnderItsLockMayCommitAndThenReachItselfAgain)
{
    int calls = 0;

    a.on_write = [&](hwaddr, uint64_t data, unsigned) {
        calls++;
        if (data == 1) {
            EXPECT_EQ(0, memory_transaction_begin());
            EXPECT_EQ(0, memory_region_set_address(&b.mr, 0x9000));
            EXPECT_EQ(MEMTX_OK, store(A, 0)) << "the lock was taken before the topology lock: the right order";
            EXPECT_EQ(0, memory_transaction_commit());
        }
        return MEMTX_OK;
    };
    ASSERT_EQ(0, memory_region_set_lock(&a.mr, &lock));
    EXPECT_EQ(MEMTX_OK, store(A, 1));
    EXPECT_EQ(2, calls);
    EXPECT_EQ(0x9000u, memory_region_get_addr(&b.mr));
}

TEST_F(Serial, ATransactionDoesNotWaitForARegionsLock)
{
    int calls = 0;

    a.on_write = [&](hwaddr, uint64_t, unsigned) { return calls++, MEMTX_OK; };
    ASSERT_EQ(0, memory_region_set_lock(&a.mr, &lock));
    ASSERT_EQ(0, memory_transaction_begin());
    EXPECT_EQ(MEMTX_ERROR, store(A, 0)) << "the wrong order, whether or not the lock is free";
    EXPECT_EQ(MEMTX_OK, store(B, 0));
    memory_transaction_abort();
    EXPECT_EQ(MEMTX_OK, store(A, 0));
    EXPECT_EQ(1, calls);
}

TEST_F(Serial, TheWriteOfAMergeIsOnePiece)
{
    struct Wide {
        MemoryRegion mr;
        uint64_t value;
    } wide = {};
    MemoryRegionOps ops = {};

    ops.read = [](MemoryRegion *mr, hwaddr, unsigned) { return reinterpret_cast<Wide *>(mr)->value; };
    ops.write = [](MemoryRegion *mr, hwaddr, uint64_t data, unsigned) { reinterpret_cast<Wide *>(mr)->value = data; };
    ops.endianness = MEMORY_LITTLE_ENDIAN;
    ops.valid.min_access_size = 1;
    ops.valid.max_access_size = ops.impl.min_access_size = ops.impl.max_access_size = 8;
    ops.impl.narrow_write = MEMORY_NARROW_WRITE_MERGE;
    ASSERT_EQ(0, memory_region_init_io(&wide.mr, &ops, "wide", 8));
    ASSERT_EQ(0, memory_region_set_lock(&wide.mr, &lock));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x8000, &wide.mr));
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < 4; i++) {
        threads.emplace_back([&, i] {
            for (unsigned k = 1; k <= 200; k++) {
                ASSERT_EQ(MEMTX_OK, address_space_stb(&as, 0x8000 + i, MEMTXATTRS_UNSPECIFIED, (uint8_t)k));
            }
        });
    }
    for (auto &t : threads) {
        t.join();
    }
    EXPECT_EQ(0xc8c8c8c8u, wide.value) << "no thread has put back another one's old byte";
    ASSERT_EQ(0, memory_region_del_subregion(&root, &wide.mr));
    ASSERT_EQ(0, memory_region_destroy(&wide.mr));
    ASSERT_EQ(0, memory_region_quiesce(&wide.mr));
}

TEST_F(Serial, BadLocksAreRefusedAndAnAbortPutsTheOldOneBack)
{
    MemoryLock nothing = {}, half = {};

    half.acquire = [](MemoryLock *) { return true; };
    EXPECT_EQ(-EINVAL, memory_region_set_lock(&a.mr, &nothing));
    EXPECT_EQ(-EINVAL, memory_region_set_lock(&a.mr, &half));
    EXPECT_EQ(-EINVAL, memory_region_set_lock(nullptr, &lock));
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_set_lock(&a.mr, &lock));
    memory_transaction_abort();
    EXPECT_EQ(nullptr, memory_region_get_lock(&a.mr));
    ASSERT_EQ(0, memory_transaction_begin());
    EXPECT_EQ(MEMTX_OK, store(A, 0)) << "not serialised any more";
    memory_transaction_abort();
}

/* ---- at rest -------------------------------------------------------------------------------------------------- */

TEST_F(Serial, StopReturnsWhenTheLastCallHasReturned)
{
    std::atomic<bool> inside{false}, let_go{false}, left{false}, stopped{false};

    ASSERT_EQ(0, memory_region_set_counted(&a.mr, true));
    a.on_write = [&](hwaddr, uint64_t, unsigned) {
        inside = true;
        wait_for(let_go);
        left = true;
        return MEMTX_OK;
    };
    std::thread caller([&] { EXPECT_EQ(MEMTX_OK, store(A, 0)); });
    wait_for(inside);
    std::thread stopper([&] {
        EXPECT_EQ(0, memory_region_stop_calls(&a.mr, MEMORY_STOP_REFUSE));
        EXPECT_TRUE(left);
        stopped = true;
    });
    while (load(A) == MEMTX_OK) { /* until new calls are refused */
        std::this_thread::yield();
    }
    EXPECT_FALSE(stopped);
    EXPECT_EQ(-EBUSY, memory_region_resume_calls(&a.mr)) << "it is being stopped";
    EXPECT_EQ(MEMTX_OK, store(B, 0)) << "others go on";
    let_go = true;
    caller.join();
    stopper.join();
    EXPECT_EQ(MEMTX_ERROR, store(A, 0));
    EXPECT_EQ(-EBUSY, memory_region_stop_calls(&a.mr, MEMORY_STOP_WAIT));
    EXPECT_EQ(-EBUSY, memory_region_set_counted(&a.mr, false));
    EXPECT_EQ(0, memory_region_resume_calls(&a.mr));
    EXPECT_EQ(-EINVAL, memory_region_resume_calls(&a.mr));
    EXPECT_EQ(MEMTX_OK, store(A, 0));
}

TEST_F(Serial, CallsMayWaitForAStoppedRegion)
{
    std::atomic<int> done{0};
    int at_rest = 0, seen = 0; /* plain: ordered by stop and resume */

    ASSERT_EQ(0, memory_region_set_counted(&a.mr, true));
    a.on_write = [&](hwaddr, uint64_t, unsigned) { return seen = at_rest, MEMTX_OK; };
    ASSERT_EQ(0, memory_region_stop_calls(&a.mr, MEMORY_STOP_WAIT));
    std::thread caller([&] {
        EXPECT_EQ(MEMTX_OK, store(A, 0));
        done++;
    });
    EXPECT_EQ(-EDEADLK, memory_reclaim()) << "the caller may be waiting for this thread";
    EXPECT_EQ(-EDEADLK, memory_region_set_counted(&b.mr, true)) << "would wait for a grace period";
    EXPECT_EQ(0, memory_region_set_address(&b.mr, 0x5000)) << "commits do not wait for readers";
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_EQ(0, done);
    at_rest = 5;
    EXPECT_EQ(0, memory_region_resume_calls(&a.mr));
    caller.join();
    EXPECT_EQ(5, seen);
    EXPECT_EQ(0, memory_reclaim());
}

bool is_free(pthread_mutex_t *m)
{
    return pthread_mutex_trylock(m) == 0 && pthread_mutex_unlock(m) == 0;
}

/* The old lock may be gone by then. */
TEST_F(Serial, ACallThatWaitedTakesTheLockThatItsRegionWasGivenMeanwhile)
{
    pthread_mutex_t next_mutex = PTHREAD_MUTEX_INITIALIZER;
    MemoryLock next = {&next_mutex, nullptr, nullptr};
    std::atomic<bool> begun{false};
    bool old_is_free = false, new_is_free = true;

    a.on_write = [&](hwaddr, uint64_t, unsigned) {
        old_is_free = is_free(&mutex);
        new_is_free = is_free(&next_mutex);
        return MEMTX_OK;
    };
    ASSERT_EQ(0, memory_region_set_lock(&a.mr, &lock));
    ASSERT_EQ(0, memory_region_set_counted(&a.mr, true));
    ASSERT_EQ(0, memory_region_stop_calls(&a.mr, MEMORY_STOP_WAIT));
    std::thread caller([&] {
        begun = true;
        EXPECT_EQ(MEMTX_OK, store(A, 0));
    });
    wait_for(begun);
    std::this_thread::sleep_for(std::chrono::milliseconds(20)); /* so that it waits, if the machine is not too busy */
    ASSERT_EQ(0, memory_region_set_lock(&a.mr, &next));
    ASSERT_EQ(0, memory_region_resume_calls(&a.mr));
    caller.join();
    EXPECT_TRUE(old_is_free);
    EXPECT_FALSE(new_is_free);
}

TEST_F(Serial, WhoWouldWaitForItselfIsTold)
{
    int from_call = 0, from_other_call = 1;

    ASSERT_EQ(0, memory_region_set_counted(&a.mr, true));
    a.on_write = [&](hwaddr, uint64_t, unsigned) {
        from_call = memory_region_stop_calls(&a.mr, MEMORY_STOP_REFUSE);
        return store(B, 0);
    };
    b.on_write = [&](hwaddr, uint64_t data, unsigned) {
        from_other_call = memory_region_stop_calls(&a.mr, MEMORY_STOP_REFUSE);
        return data && !from_other_call ? (MemTxResult)memory_region_resume_calls(&a.mr) : MEMTX_OK;
    };
    EXPECT_EQ(MEMTX_OK, store(A, 0));
    EXPECT_EQ(-EDEADLK, from_call);
    EXPECT_EQ(-EDEADLK, from_other_call);
    EXPECT_EQ(MEMTX_OK, store(B, 1));
    EXPECT_EQ(0, from_other_call) << "in another region's call it may";
    ASSERT_EQ(0, memory_transaction_begin());
    EXPECT_EQ(-EDEADLK, memory_region_stop_calls(&a.mr, MEMORY_STOP_REFUSE)) << "a call may wait for the topology lock";
    memory_transaction_abort();
    EXPECT_EQ(-EINVAL, memory_region_stop_calls(&b.mr, MEMORY_STOP_REFUSE)) << "not counted";
    EXPECT_EQ(-EINVAL, memory_region_stop_calls(&a.mr, (MemoryStop)0));
    EXPECT_EQ(-EINVAL, memory_region_stop_calls(nullptr, MEMORY_STOP_REFUSE));
    EXPECT_EQ(-EINVAL, memory_region_resume_calls(nullptr));
}

TEST_F(Serial, ATransactionIsRefusedRatherThanMadeToWait)
{
    ASSERT_EQ(0, memory_region_set_counted(&a.mr, true));
    ASSERT_EQ(0, memory_region_stop_calls(&a.mr, MEMORY_STOP_WAIT));
    ASSERT_EQ(0, memory_transaction_begin());
    EXPECT_EQ(MEMTX_ERROR, store(A, 0));
    memory_transaction_abort();
    ASSERT_EQ(0, memory_region_resume_calls(&a.mr));
}

TEST_F(Serial, NestedCallsGoOnWhileTheirRegionIsBeingStopped)
{
    std::atomic<bool> inside{false}, stopping{false};
    MemTxResult nested = MEMTX_ERROR;

    ASSERT_EQ(0, memory_region_set_counted(&a.mr, true));
    a.on_write = [&](hwaddr, uint64_t data, unsigned) {
        if (data) {
            inside = true;
            wait_for(stopping);
            nested = store(A, 0);
        }
        return MEMTX_OK;
    };
    std::thread caller([&] { EXPECT_EQ(MEMTX_OK, store(A, 1)); });
    wait_for(inside);
    std::thread stopper([&] { EXPECT_EQ(0, memory_region_stop_calls(&a.mr, MEMORY_STOP_REFUSE)); });
    while (load(A) == MEMTX_OK) {
        std::this_thread::yield();
    }
    stopping = true;
    caller.join();
    stopper.join();
    EXPECT_EQ(MEMTX_OK, nested);
    ASSERT_EQ(0, memory_region_resume_calls(&a.mr));
}

TEST_F(Serial, CountingBeginsWithNoUncountedCallInFlight)
{
    std::atomic<bool> inside{false}, let_go{false}, left{false};

    a.on_write = [&](hwaddr, uint64_t, unsigned) {
        inside = true;
        wait_for(let_go);
        left = true;
        return MEMTX_OK;
    };
    std::thread caller([&] { EXPECT_EQ(MEMTX_OK, store(A, 0)); });
    wait_for(inside);
    ASSERT_EQ(0, memory_transaction_begin());
    EXPECT_EQ(-EDEADLK, memory_region_set_counted(&a.mr, true)) << "it would wait for the caller with the lock held";
    memory_transaction_abort();
    std::thread releaser([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        let_go = true;
    });
    EXPECT_EQ(0, memory_region_set_counted(&a.mr, true));
    EXPECT_TRUE(left);
    caller.join();
    releaser.join();
    EXPECT_EQ(0, memory_region_quiesce_calls(&a.mr));
    EXPECT_EQ(0, memory_region_set_counted(&a.mr, true)) << "already, and nothing to wait for";
    EXPECT_EQ(0, memory_region_set_counted(&a.mr, false));
    EXPECT_EQ(-EINVAL, memory_region_quiesce_calls(&a.mr));
}

TEST_F(Serial, NobodyReliesOnACountBeforeItsGracePeriodIsOver)
{
    std::atomic<bool> inside{false}, let_go{false}, left{false};
    MemoryStats stats;

    a.on_write = [&](hwaddr, uint64_t, unsigned) {
        inside = true;
        wait_for(let_go);
        left = true;
        return MEMTX_OK;
    };
    std::thread caller([&] { EXPECT_EQ(MEMTX_OK, store(A, 0)); });
    wait_for(inside);
    memory_get_stats(&stats);
    const uint64_t commits = stats.commits;
    std::thread first([&] {
        EXPECT_EQ(0, memory_region_set_counted(&a.mr, true));
        EXPECT_TRUE(left);
    });
    do {
        memory_get_stats(&stats);
    } while (stats.commits == commits);
    /* The first one's count is in force, and it waits for the call that is not in it. */
    EXPECT_EQ(-EINVAL, memory_region_stop_calls(&a.mr, MEMORY_STOP_REFUSE)) << "it would find none in flight";
    memory_read_begin();
    EXPECT_EQ(-EDEADLK, memory_region_set_counted(&a.mr, true));
    memory_read_end();
    std::atomic<bool> begun{false};
    std::thread second([&] {
        begun = true;
        EXPECT_EQ(0, memory_region_set_counted(&a.mr, true)) << "the same count, and the same wait";
        EXPECT_TRUE(left);
        EXPECT_EQ(0, memory_region_quiesce_calls(&a.mr));
    });
    wait_for(begun);
    std::this_thread::sleep_for(std::chrono::milliseconds(20)); /* if it were not to wait, it would be through by now */
    let_go = true;
    caller.join();
    first.join();
    second.join();
}

TEST_F(Serial, CountingEndsBeforeAStopOrAfterIt)
{
    std::atomic<bool> calling{false};
    MemTxResult result = MEMTX_ERROR;

    ASSERT_EQ(0, memory_region_set_counted(&a.mr, true));
    /* After: what is stopped stays counted, and those who wait are let go by the resume. */
    ASSERT_EQ(0, memory_region_stop_calls(&a.mr, MEMORY_STOP_WAIT));
    std::thread caller([&] {
        calling = true;
        result = store(A, 0);
    });
    wait_for(calling);
    EXPECT_EQ(-EBUSY, memory_region_set_counted(&a.mr, false));
    ASSERT_EQ(0, memory_region_resume_calls(&a.mr));
    caller.join();
    EXPECT_EQ(MEMTX_OK, result);
    /* Before: the stop of another thread finds that there is nothing to rely on. If it were let in, its callers would not be
       counted once this commits, and nobody could resume them. */
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_set_counted(&a.mr, false));
    std::thread([&] {
        int err = memory_region_stop_calls(&a.mr, MEMORY_STOP_WAIT);
        EXPECT_EQ(-EINVAL, err);
    }).join();
    memory_transaction_abort();
    EXPECT_EQ(0, memory_region_quiesce_calls(&a.mr)) << "the end was undone";
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_set_counted(&a.mr, false));
    ASSERT_EQ(0, memory_region_set_counted(&a.mr, true)) << "never out of force";
    ASSERT_EQ(0, memory_transaction_commit());
    EXPECT_EQ(0, memory_region_quiesce_calls(&a.mr));
    ASSERT_EQ(0, memory_region_set_counted(&a.mr, false));
    EXPECT_EQ(-EINVAL, memory_region_stop_calls(&a.mr, MEMORY_STOP_REFUSE));
    ASSERT_EQ(0, memory_region_set_counted(&a.mr, true));
    EXPECT_EQ(0, memory_region_quiesce_calls(&a.mr));
}

/* Threads in a device under a lock, one that stops it again and again, one that moves it. */
TEST_F(Serial, StopsAmongCallsAndMoves)
{
    std::atomic<bool> end{false};
    std::atomic<uint64_t> calls{0};
    uint64_t guarded = 0; /* plain */
    bool resting = false; /* plain */

    a.on_write = [&](hwaddr, uint64_t, unsigned) {
        EXPECT_FALSE(resting);
        guarded++;
        calls++;
        return MEMTX_OK;
    };
    ASSERT_EQ(0, memory_region_set_lock(&a.mr, &lock));
    ASSERT_EQ(0, memory_region_set_counted(&a.mr, true));
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; i++) {
        threads.emplace_back([&] {
            while (!end) {
                store(A, 0);
                store(A + 0x100, 0);
            }
        });
    }
    threads.emplace_back([&] {
        for (int i = 0; !end; i++) {
            ASSERT_EQ(0, memory_region_set_address(&a.mr, i % 2 ? A : A + 0x100));
        }
    });
    for (int i = 0; i < 300; i++) {
        ASSERT_EQ(0, memory_region_stop_calls(&a.mr, i % 2 ? MEMORY_STOP_WAIT : MEMORY_STOP_REFUSE));
        resting = true;
        uint64_t before = guarded;
        std::this_thread::yield();
        EXPECT_EQ(before, guarded);
        resting = false;
        ASSERT_EQ(0, memory_region_resume_calls(&a.mr));
    }
    end = true;
    for (auto &t : threads) {
        t.join();
    }
    EXPECT_EQ(calls, guarded);
}

} // namespace
