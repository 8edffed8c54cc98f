/* SPDX-License-Identifier: MIT */
#include <gtest/gtest.h>

#include "shim/reader_shim.h"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <thread>

#include <pthread.h>
#include <signal.h>

namespace {

using std::chrono::milliseconds;

/* A thread that sits in a read section until it is let go. */
class SittingReader {
public:
    SittingReader()
        : thread_([this] {
              reader_shim_enter();
              inside_ = true;
              while (!leave_) {
                  std::this_thread::yield();
              }
              reader_shim_exit();
          })
    {
        while (!inside_) {
            std::this_thread::yield();
        }
    }
    ~SittingReader()
    {
        Leave();
    }
    void Leave()
    {
        leave_ = true;
        if (thread_.joinable()) {
            thread_.join();
        }
    }

private:
    std::atomic<bool> inside_{false}, leave_{false};
    std::thread thread_;
};

void CallFunction(void *arg)
{
    (*static_cast<std::function<void()> *>(arg))();
}

/* Runs f on the worker after a grace period; the returned flag tells that it ran. */
void Defer(std::function<void()> *f)
{
    reader_shim_defer(CallFunction, f);
}

TEST(Reader, SectionsNest)
{
    EXPECT_FALSE(reader_shim_ongoing());
    reader_shim_enter();
    reader_shim_enter();
    reader_shim_exit();
    EXPECT_TRUE(reader_shim_ongoing());
    reader_shim_exit();
    EXPECT_FALSE(reader_shim_ongoing());
}

TEST(Reader, ThreadsRegisterThemselvesAtTheirFirstSection)
{
    std::thread([] {
        EXPECT_FALSE(reader_shim_registered());
        EXPECT_FALSE(reader_shim_ongoing());
        reader_shim_enter();
        EXPECT_TRUE(reader_shim_registered());
        reader_shim_exit();
        EXPECT_TRUE(reader_shim_registered());
    }).join();
}

TEST(Reader, UnregisterIsRefusedInsideASectionAndUndoneByTheNext)
{
    std::thread([] {
        EXPECT_EQ(reader_shim_register(), 0);
        EXPECT_EQ(reader_shim_register(), 0);
        reader_shim_enter();
        EXPECT_EQ(reader_shim_unregister(), -EBUSY);
        reader_shim_exit();
        EXPECT_EQ(reader_shim_unregister(), 0);
        EXPECT_FALSE(reader_shim_registered());
        EXPECT_EQ(reader_shim_unregister(), 0);
        reader_shim_enter();
        EXPECT_TRUE(reader_shim_registered());
        reader_shim_exit();
    }).join();
}

TEST(Reader, WaitLastsUntilTheSectionsThatWereOpenHaveEnded)
{
    SittingReader reader;
    std::atomic<bool> over{false};
    std::thread waiter([&] {
        reader_shim_wait();
        over = true;
    });

    std::this_thread::sleep_for(milliseconds(50));
    EXPECT_FALSE(over);
    reader.Leave();
    waiter.join();
    EXPECT_TRUE(over);
}

TEST(Reader, DeferredFunctionsRunAfterTheSectionsThatWereOpen)
{
    std::atomic<bool> ran{false};
    std::function<void()> f = [&] { ran = true; };
    SittingReader reader;

    Defer(&f);
    std::this_thread::sleep_for(milliseconds(80));
    EXPECT_FALSE(ran);
    reader.Leave();
    while (!ran) {
        std::this_thread::sleep_for(milliseconds(1));
    }
}

TEST(Reader, DeferWorksInsideASection)
{
    std::atomic<bool> ran{false};
    std::function<void()> f = [&] { ran = true; };

    reader_shim_enter();
    Defer(&f);
    std::this_thread::sleep_for(milliseconds(50));
    EXPECT_FALSE(ran);
    reader_shim_exit();
    while (!ran) {
        std::this_thread::sleep_for(milliseconds(1));
    }
}

TEST(Reader, TheWorkerMayReadAndWaitAndHandlesNoSignals)
{
    std::atomic<int> blocked{-1};
    std::function<void()> f = [&] {
        sigset_t mask;

        EXPECT_FALSE(reader_shim_ongoing());
        reader_shim_enter(); /* liburcu registered its worker already: twice would corrupt the registry */
        EXPECT_TRUE(reader_shim_ongoing());
        reader_shim_exit();
        reader_shim_wait();
        pthread_sigmask(SIG_BLOCK, nullptr, &mask);
        blocked = sigismember(&mask, SIGALRM);
    };

    Defer(&f);
    while (blocked < 0) {
        std::this_thread::sleep_for(milliseconds(1));
    }
    EXPECT_EQ(blocked, 1);
    reader_shim_wait();
}

TEST(Reader, AThreadThatTheProgramRegisteredIsLeftToIt)
{
    std::thread([] {
        reader_shim_foreign_register();
        reader_shim_enter();
        reader_shim_exit();
        EXPECT_EQ(reader_shim_unregister(), 0);
        reader_shim_foreign_unregister();
        reader_shim_enter(); /* now we have to do it */
        reader_shim_exit();
    }).join();
    reader_shim_wait();
}

TEST(Reader, AThreadThatTheProgramUnregisteredIsStillWaitedFor)
{
    std::atomic<bool> inside{false}, leave{false}, over{false};
    std::thread reader([&] {
        reader_shim_foreign_register();
        reader_shim_enter();
        reader_shim_exit();
        reader_shim_foreign_unregister(); /* nobody tells us */
        reader_shim_enter();
        inside = true;
        while (!leave) {
            std::this_thread::yield();
        }
        EXPECT_FALSE(over);
        reader_shim_exit();
    });
    while (!inside) {
        std::this_thread::yield();
    }
    std::thread waiter([&] {
        reader_shim_wait();
        over = true;
    });
    std::this_thread::sleep_for(milliseconds(20));
    leave = true;
    reader.join();
    waiter.join();
}

TEST(Reader, TheProgramsOwnSectionCounts)
{
    std::thread([] {
        reader_shim_foreign_register();
        reader_shim_foreign_enter();
        EXPECT_TRUE(reader_shim_ongoing()); /* whoever would wait must refuse */
        EXPECT_EQ(reader_shim_unregister(), -EBUSY);
        reader_shim_foreign_exit();
        EXPECT_FALSE(reader_shim_ongoing());
        reader_shim_foreign_unregister();
    }).join();
}

/* A thread's last access may come from the destructor of another key, after ours has run. */
TEST(Reader, ThreadsMayReadInTheirDestructors)
{
    static std::atomic<int> reads;
    pthread_key_t late[8];

    for (pthread_key_t &key : late) {
        ASSERT_EQ(pthread_key_create(&key, [](void *) {
            reader_shim_enter();
            reader_shim_exit();
            reads++;
        }), 0);
    }
    for (int i = 0; i < 20; i++) {
        std::thread([&] {
            for (pthread_key_t key : late) {
                pthread_setspecific(key, &reads);
            }
            reader_shim_enter();
            reader_shim_exit();
        }).join();
        reader_shim_wait(); /* walks the registry: a thread left in it would be found, dead */
    }
    EXPECT_EQ(reads, 20 * 8);
    for (pthread_key_t key : late) {
        pthread_key_delete(key);
    }
}

TEST(Reader, GracePeriodsAreCounted)
{
    uint64_t before = reader_shim_grace_periods();

    reader_shim_wait();
    reader_shim_wait();
    EXPECT_GE(reader_shim_grace_periods(), before + 2);
}

/* What sanitizers must accept: plain data, published, read in sections, overwritten after a grace period. */
TEST(Reader, WhatWasReadInASectionIsNotReusedBeforeItsEnd)
{
    static int slots[2];
    std::atomic<bool> stop{false};
    std::atomic<int> bad{0}, seen{0};

    slots[0] = 1;
    slots[1] = -1;
    reader_shim_publish(&slots[0]);
    auto read = [&] {
        while (!stop) {
            reader_shim_enter();
            int *p = reader_shim_load();
            for (int i = 0; i < 20; i++) {
                bad += *static_cast<volatile int *>(p) < 0;
            }
            reader_shim_exit();
            seen++;
        }
    };
    std::thread a(read), b(read);
    while (seen < 10) {
        std::this_thread::yield();
    }
    for (int i = 0; i < 300; i++) {
        int *fresh = &slots[(i + 1) % 2], *old = &slots[i % 2];

        *fresh = i + 2;
        reader_shim_publish(fresh);
        reader_shim_wait();
        *old = -1;
    }
    stop = true;
    a.join();
    b.join();
    EXPECT_EQ(bad, 0);
}

} // namespace
