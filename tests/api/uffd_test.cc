/* SPDX-License-Identifier: MIT */
/*
 * uffd_test.cc - what is written through host pointers is found by the kernel, by the page, until the last moment.
 */
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <flatview/accel/uffd.h>
#include <flatview/memory.h>

namespace {

constexpr uint64_t SIZE = 0x40000;
const uint64_t page = uint64_t(sysconf(_SC_PAGESIZE));

class Uffd : public testing::Test {
protected:
    void SetUp() override
    {
        const char *reason = nullptr;
        int err;

        ASSERT_EQ(memory_region_init(&root, "root", UINT64_MAX), 0);
        ASSERT_EQ(address_space_init(&as, &root, "as"), 0);
        err = flatview_uffd_new(&as, MEMORY_LISTENER_PRIORITY_MIN, &uffd, &reason);
        if (err < 0) {
            ASSERT_NE(reason, nullptr) << strerror(-err);
            GTEST_SKIP() << reason;
        }
        ASSERT_EQ(memory_region_init_ram(&ram, "ram", SIZE), 0);
        made = true;
        ASSERT_EQ(memory_region_add_subregion(&root, 0x100000, &ram), 0);
        host = static_cast<char *>(memory_region_get_ram_ptr(&ram));
        memset(host, 1, SIZE);
    }

    void TearDown() override
    {
        if (uffd) {
            EXPECT_EQ(flatview_uffd_free(uffd), 0);
        }
        EXPECT_EQ(address_space_destroy(&as, nullptr), 0);
        if (made) {
            end(&ram);
        }
        end(&root);
    }

    void end(MemoryRegion *mr)
    {
        if (memory_region_get_parent(mr)) {
            EXPECT_EQ(memory_region_del_subregion(&root, mr), 0);
        }
        EXPECT_EQ(memory_region_destroy(mr), 0);
        EXPECT_EQ(memory_region_quiesce(mr), 0);
    }

    void log(MemoryRegion *mr)
    {
        ASSERT_EQ(memory_region_set_log(mr, true, DIRTY_MEMORY_MIGRATION), 0);
        ASSERT_EQ(memory_dirty_log_wait(), 0);
        EXPECT_EQ(collect(mr).size(), SIZE / page) << "what was there before";
        EXPECT_EQ(collect(mr), std::vector<uint64_t>());
    }

    static void unlog(MemoryRegion *mr) { ASSERT_EQ(memory_region_set_log(mr, false, DIRTY_MEMORY_MIGRATION), 0); }

    /* Numbers of pages. */
    static std::vector<uint64_t> collect(MemoryRegion *mr)
    {
        DirtyBitmapSnapshot *snapshot = nullptr;
        std::vector<uint64_t> pages;

        EXPECT_EQ(memory_region_snapshot_and_clear_dirty(mr, 0, SIZE, DIRTY_MEMORY_MIGRATION, &snapshot), 0);
        for (uint64_t i = 0; i < SIZE / page; i++) {
            if (memory_region_snapshot_get_dirty(snapshot, i * page, page)) {
                pages.push_back(i);
            }
        }
        memory_region_snapshot_free(snapshot);
        return pages;
    }

    FlatviewUffdStats stats()
    {
        FlatviewUffdStats stats;

        flatview_uffd_get_stats(uffd, &stats);
        return stats;
    }

    void write(MemoryRegion *mr, uint64_t i) { static_cast<volatile char *>(memory_region_get_ram_ptr(mr))[i * page + 5] = 2; }

    using Pages = std::vector<uint64_t>;

    MemoryRegion root, ram;
    AddressSpace as;
    FlatviewUffd *uffd = nullptr;
    bool made = false;
    char *host = nullptr;
};

TEST_F(Uffd, FindsWhatIsWrittenThroughAHostPointerByThePage)
{
    MemoryRegion memfd;

    ASSERT_EQ(memory_region_init_ram_memfd(&memfd, "memfd", SIZE), 0);
    ASSERT_EQ(memory_region_add_subregion(&root, 0x200000, &memfd), 0);
    for (MemoryRegion *mr : {&ram, &memfd}) {
        log(mr); /* of the memfd no page is populated yet */
        EXPECT_EQ(stats().ranges, 1u);
        write(mr, 3);
        write(mr, 17);
        write(mr, 17);
        EXPECT_EQ(collect(mr), (Pages{3, 17}));
        EXPECT_EQ(collect(mr), Pages());
        write(mr, 17);
        EXPECT_EQ(collect(mr), Pages{17});
        unlog(mr);
        EXPECT_EQ(stats().ranges, 0u);
    }
    EXPECT_EQ(stats().coarse, 0u);
    EXPECT_EQ(stats().failures, 0u);
    EXPECT_GE(stats().pages, 3u * 2);
    end(&memfd);
}

TEST_F(Uffd, LeavesAloneWhatIsNotLogged)
{
    write(&ram, 1);
    ASSERT_EQ(memory_region_sync_dirty(&ram), 0);
    EXPECT_EQ(stats().ranges, 0u);
    EXPECT_EQ(stats().collects, 0u);
}

TEST_F(Uffd, AsksALastTimeWhenARangeGoes)
{
    log(&ram);
    write(&ram, 2);
    ASSERT_EQ(memory_region_del_subregion(&root, &ram), 0);
    write(&ram, 5); /* by nobody whom a map let do it */
    EXPECT_EQ(collect(&ram), Pages{2});
    ASSERT_EQ(memory_region_add_subregion(&root, 0x300000, &ram), 0);
    EXPECT_EQ(collect(&ram).size(), SIZE / page) << "nobody has watched meanwhile";
    write(&ram, 7);
    ASSERT_EQ(memory_region_set_address(&ram, 0x500000), 0);
    EXPECT_NE(collect(&ram), Pages());
    write(&ram, 8);
    EXPECT_EQ(collect(&ram), Pages{8});
    unlog(&ram);
}

TEST_F(Uffd, AsksALastTimeWhenTheLogEndsAndWhenItIsFreed)
{
    log(&ram);
    write(&ram, 2);
    unlog(&ram);
    write(&ram, 3);
    EXPECT_EQ(collect(&ram), Pages{2}) << "what was marked before the last user left may still be collected";
    log(&ram);
    write(&ram, 4);
    EXPECT_EQ(flatview_uffd_free(uffd), 0);
    uffd = nullptr;
    EXPECT_EQ(collect(&ram), Pages{4});
    unlog(&ram);
}

TEST_F(Uffd, TracksMemoryAsLongAsOneOfItsPlacesIsThere)
{
    MemoryRegion alias;

    log(&ram);
    ASSERT_EQ(memory_region_init_alias(&alias, "alias", &ram, 0x4000, 0x8000), 0);
    ASSERT_EQ(memory_region_add_subregion(&root, 0x800000, &alias), 0);
    collect(&ram);
    write(&ram, 5);
    write(&ram, 20);
    EXPECT_EQ(stats().ranges, 2u);
    EXPECT_EQ(collect(&ram), (Pages{5, 20}));
    write(&ram, 6);
    ASSERT_EQ(memory_region_del_subregion(&root, &alias), 0);
    write(&ram, 7);
    EXPECT_EQ(collect(&ram), (Pages{6, 7})) << "by the place that is left";
    ASSERT_EQ(memory_region_add_subregion(&root, 0x800000, &alias), 0);
    collect(&ram);
    ASSERT_EQ(memory_region_del_subregion(&root, &ram), 0);
    write(&ram, 8);
    write(&ram, 30);
    EXPECT_EQ(collect(&ram), Pages{8}) << "page 30 is in no place";
    unlog(&ram);
    end(&alias);
}

TEST_F(Uffd, SeesStoresOfSystemCalls)
{
    int pipes[2];
    char text[] = "abc";

    log(&ram);
    ASSERT_EQ(pipe(pipes), 0);
    ASSERT_EQ(::write(pipes[1], text, 3), 3);
    ASSERT_EQ(read(pipes[0], host + 9 * page, 3), 3);
    close(pipes[0]);
    close(pipes[1]);
    EXPECT_EQ(collect(&ram), Pages{9});
    unlog(&ram);
}

TEST_F(Uffd, WhatTheKernelDoesNotTrackIsDirtyAsAWhole)
{
    FlatviewUffd *second = nullptr;
    MemoryRegion mapped;
    FILE *file = tmpfile(); /* on an ordinary file system, or on one in memory, which the kernel does track */

    ASSERT_NE(file, nullptr);
    ASSERT_EQ(ftruncate(fileno(file), SIZE), 0);
    void *ptr = mmap(nullptr, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    ASSERT_NE(ptr, MAP_FAILED);
    ASSERT_EQ(memory_region_init_ram_ptr(&mapped, "mapped", SIZE, ptr), 0);
    ASSERT_EQ(memory_region_add_subregion(&root, 0x900000, &mapped), 0);
    ASSERT_EQ(memory_region_set_log(&mapped, true, DIRTY_MEMORY_MIGRATION), 0);
    ASSERT_EQ(memory_dirty_log_wait(), 0);
    collect(&mapped);
    EXPECT_EQ(collect(&mapped).size(), stats().coarse ? SIZE / page : 0);
    unlog(&mapped);
    EXPECT_EQ(stats().coarse, 0u);
    end(&mapped);
    munmap(ptr, SIZE);
    fclose(file);

    /* Memory has one tracker. */
    log(&ram);
    ASSERT_EQ(flatview_uffd_new(&as, MEMORY_LISTENER_PRIORITY_MIN, &second, nullptr), 0);
    FlatviewUffdStats of_second;

    flatview_uffd_get_stats(second, &of_second);
    EXPECT_EQ(of_second.coarse, 1u);
    EXPECT_EQ(of_second.ranges, 0u);
    EXPECT_EQ(of_second.failures, 1u);
    EXPECT_EQ(of_second.last_errno, uint64_t(EBUSY));
    EXPECT_EQ(collect(&ram).size(), SIZE / page);
    EXPECT_EQ(collect(&ram).size(), SIZE / page) << "the second one does not know better";
    ASSERT_EQ(flatview_uffd_free(second), 0);
    collect(&ram);
    write(&ram, 11);
    EXPECT_EQ(collect(&ram), Pages{11}) << "the first one goes on";
    unlog(&ram);
}

TEST_F(Uffd, ACopyMadeByItEqualsTheOriginal)
{
    std::vector<char> copy(SIZE);
    std::vector<std::thread> threads;
    std::atomic<bool> stop{false};
    std::mutex mapped; /* what an accelerator does: nobody writes while a range goes and comes */
    std::mt19937 random(1);

    log(&ram);
    auto *words = reinterpret_cast<std::atomic<uint32_t> *>(host);
    auto take = [&] {
        for (uint64_t i : collect(&ram)) {
            for (uint64_t k = i * page / 4; k < (i + 1) * page / 4; k++) {
                uint32_t word = words[k].load(std::memory_order_relaxed);

                memcpy(copy.data() + 4 * k, &word, 4);
            }
        }
    };
    memcpy(copy.data(), host, SIZE);
    for (unsigned t = 0; t < 2; t++) {
        threads.emplace_back([&, t] {
            std::minstd_rand own(t + 1);

            for (uint32_t round = 1; !stop; round++) {
                std::lock_guard<std::mutex> guard(mapped);

                for (int i = 0; i < 50; i++) {
                    words[own() % (SIZE / 4)].store(round, std::memory_order_relaxed);
                }
            }
        });
    }
    for (int i = 0; i < 200; i++) {
        if (random() % 8 == 0) {
            std::lock_guard<std::mutex> guard(mapped);

            EXPECT_EQ(memory_region_set_address(&ram, random() % 2 ? 0x100000 : 0x180000), 0);
        }
        take();
    }
    stop = true;
    for (std::thread &thread : threads) {
        thread.join();
    }
    take();
    EXPECT_EQ(memcmp(copy.data(), host, SIZE), 0);
    EXPECT_EQ(stats().failures, 0u);
    unlog(&ram);
}

TEST_F(Uffd, RefusesWhatIsNoSpaceAndFreesItselfFromACallback)
{
    static FlatviewUffd *second;
    MemoryListener other = {};

    EXPECT_EQ(flatview_uffd_new(nullptr, 0, &second, nullptr), -EINVAL);
    EXPECT_EQ(flatview_uffd_new(&as, 0, nullptr, nullptr), -EINVAL);
    ASSERT_EQ(flatview_uffd_new(&as, 0, &second, nullptr), 0);
    other.name = "other";
    other.span_add = [](MemoryListener *, const MemorySpan *) {
        if (second) {
            EXPECT_EQ(flatview_uffd_free(second), 0);
            second = nullptr;
        }
    };
    ASSERT_EQ(memory_listener_register(&other, &as), 0);
    EXPECT_EQ(second, nullptr);
    ASSERT_EQ(memory_region_set_enabled(&ram, false), 0);
    ASSERT_EQ(memory_listener_unregister(&other), 0);
}

/* As on a kernel without it, or in a container that does not allow it. */
bool forbid_userfaultfd(int error)
{
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | unsigned(error)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    sock_fprog filter = {sizeof(program) / sizeof(program[0]), program};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

TEST(UffdReason, IsGivenWhereThereIsNoUserfaultfd)
{
    MemoryRegion root;
    AddressSpace as;

    ASSERT_EQ(memory_region_init(&root, "root", UINT64_MAX), 0);
    ASSERT_EQ(address_space_init(&as, &root, "as"), 0);
    for (auto [error, expected] : {std::pair<int, int>{ENOSYS, -EOPNOTSUPP}, {EPERM, -EPERM}}) {
        int status = -1;
        pid_t child = fork();

        if (child == 0) {
            FlatviewUffd *uffd = nullptr;
            const char *reason = nullptr;

            if (!forbid_userfaultfd(error)) {
                _exit(77);
            }
            _exit(flatview_uffd_new(&as, 0, &uffd, &reason) == expected && !uffd && reason ? 0 : 1);
        }
        ASSERT_GT(child, 0);
        ASSERT_EQ(waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77) {
            GTEST_SKIP() << "no seccomp filters here";
        }
        EXPECT_EQ(WEXITSTATUS(status), 0) << strerror(error);
    }
    EXPECT_EQ(address_space_destroy(&as, nullptr), 0);
    EXPECT_EQ(memory_region_destroy(&root), 0);
    EXPECT_EQ(memory_region_quiesce(&root), 0);
}

}
