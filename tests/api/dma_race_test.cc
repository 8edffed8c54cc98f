/* SPDX-License-Identifier: MIT */
/*
 * RAM is unplugged, and its memory given back and spoiled, while others map it, through both forms, and copy; and a few bytes
 * of bounce memory are fought for by more threads than they are for. Mostly for the sanitizers.
 */
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include <flatview/memory.h>

namespace {

const MemTxAttrs kAttrs = MEMTXATTRS_UNSPECIFIED;
constexpr hwaddr kSize = 0x1000;
constexpr unsigned kSlots = 4;

std::atomic<int> alive;

/* A memory module: plain memory that its release function spoils and frees. */
struct Module {
    MemoryRegion mr;
    uint8_t *bytes;
};

void module_released(MemoryRegion *mr)
{
    Module *m = reinterpret_cast<Module *>(mr);

    memset(m->bytes, 0xee, kSize); /* too early: a race with whoever copies, and a use after free for whoever comes later */
    free(m->bytes);
    free(m);
    alive--;
}

Module *plug(MemoryRegion *root, unsigned slot)
{
    Module *m = static_cast<Module *>(malloc(sizeof(*m)));

    m->bytes = static_cast<uint8_t *>(calloc(1, kSize));
    alive++;
    EXPECT_EQ(0, memory_region_init_ram_ptr(&m->mr, "module", kSize, m->bytes));
    EXPECT_EQ(0, memory_region_set_release(&m->mr, module_released));
    EXPECT_EQ(0, memory_region_add_subregion(root, slot * kSize, &m->mr));
    return m;
}

void unplug(MemoryRegion *root, Module *m)
{
    EXPECT_EQ(0, memory_region_del_subregion(root, &m->mr));
    EXPECT_EQ(0, memory_region_destroy(&m->mr));
}

/* Holders race on a byte as guests do; with its end none of them may. */
void touch(uint8_t *byte)
{
    __atomic_fetch_add(byte, 1, __ATOMIC_RELAXED);
}

uint64_t regs_read(MemoryRegion *, hwaddr addr, unsigned)
{
    return addr;
}

void regs_write(MemoryRegion *, hwaddr, uint64_t, unsigned)
{
}

class DmaRace : public testing::Test {
protected:
    void SetUp() override
    {
        static const MemoryRegionOps ops = [] {
            MemoryRegionOps o = {};
            o.read = regs_read;
            o.write = regs_write;
            o.endianness = MEMORY_LITTLE_ENDIAN;
            o.valid.min_access_size = o.impl.min_access_size = 1;
            o.valid.max_access_size = o.impl.max_access_size = 8;
            return o;
        }();
        ASSERT_EQ(0, memory_region_init(&root, "root", UINT64_MAX));
        ASSERT_EQ(0, memory_region_init_io(&regs, &ops, "regs", kSize));
        ASSERT_EQ(0, memory_region_add_subregion(&root, kSlots * kSize, &regs));
        for (unsigned i = 0; i < kSlots; i++) {
            modules[i] = plug(&root, i);
        }
        ASSERT_EQ(0, address_space_init(&as, &root, "dma"));
    }

    void TearDown() override
    {
        EXPECT_EQ(0u, address_space_get_bounce_used(&as));
        ASSERT_EQ(0, address_space_destroy(&as, nullptr));
        for (Module *m : modules) {
            unplug(&root, m);
        }
        ASSERT_EQ(0, memory_region_del_subregion(&root, &regs));
        for (MemoryRegion *mr : {&regs, &root}) {
            ASSERT_EQ(0, memory_region_destroy(mr));
            ASSERT_EQ(0, memory_region_quiesce(mr));
        }
        while (alive) {
            ASSERT_EQ(0, memory_reclaim());
        }
    }

    MemoryRegion root, regs;
    AddressSpace as = {};
    Module *modules[kSlots];
};

TEST_F(DmaRace, UnpluggedWithMappingsOutstanding)
{
    std::atomic<bool> stop{false};
    std::atomic<int> mapped{0}, refused{0};
    std::vector<std::thread> threads;

    for (int t = 0; t < 3; t++) {
        threads.emplace_back([&, t] {
            std::mt19937 random(t);
            constexpr unsigned kDepth = 6;
            MemoryMapping maps[kDepth] = {};
            unsigned i = 0;

            auto end = [&](MemoryMapping *m) {
                if (m->iov) {
                    for (unsigned v = 0; v < m->n_iov; v++) {
                        for (size_t at = 0; at < m->iov[v].iov_len; at += 16) {
                            touch(static_cast<uint8_t *>(m->iov[v].iov_base) + at);
                        }
                    }
                    EXPECT_EQ(0, address_space_unmap_sg(m, m->len, nullptr));
                    EXPECT_EQ(-EINVAL, address_space_unmap_sg(m, 0, nullptr));
                }
            };
            while (!stop) {
                MemoryMapping *m = &maps[i++ % kDepth];
                MemoryMapRange ranges[2];
                end(m);
                for (auto &r : ranges) {
                    r.addr = random() % kSlots * kSize + random() % 64 * 16 + static_cast<unsigned>(t);
                    r.len = 1 + random() % (kSlots * kSize - r.addr) / 16 * 16;
                }
                int err = address_space_map_sg(&as, ranges, 2, MEMORY_MAP_READ_WRITE, kAttrs, m);
                EXPECT_TRUE(err == 0 || err == -EFAULT) << err;
                (err == 0 ? mapped : refused)++;
                void *host;
                hwaddr len = 16;
                if (address_space_map(&as, random() % kSlots * kSize + static_cast<unsigned>(t), &len, MEMORY_MAP_WRITE,
                                      kAttrs, &host) == 0) {
                    touch(static_cast<uint8_t *>(host));
                    EXPECT_EQ(0, address_space_unmap(&as, host, len, MEMORY_MAP_WRITE, 1, nullptr));
                }
            }
            for (auto &m : maps) {
                end(&m);
            }
        });
    }
    std::mt19937 random(99);
    for (int round = 0; round < 200 || !mapped || !refused; round++) {
        unsigned slot = random() % kSlots;
        unplug(&root, modules[slot]);
        if (round % 8 == 0) {
            ASSERT_EQ(0, memory_reclaim()) << "waits for readers, not for mappings";
        }
        std::this_thread::yield();
        modules[slot] = plug(&root, slot);
    }
    stop = true;
    for (auto &t : threads) {
        t.join();
    }
}

TEST_F(DmaRace, OneOfManyEndsAMapping)
{
    for (int round = 0; round < 40; round++) {
        MemoryMapping m = {};
        MemoryMapRange range = {0, 2 * kSize};
        std::atomic<int> ended{0}, go{0};
        std::vector<std::thread> threads;

        ASSERT_EQ(0, address_space_map_sg(&as, &range, 1, MEMORY_MAP_WRITE, kAttrs, &m));
        for (int t = 0; t < 3; t++) {
            threads.emplace_back([&] {
                go++;
                while (go < 3) {
                    std::this_thread::yield();
                }
                int err = address_space_unmap_sg(&m, 16, nullptr);
                EXPECT_TRUE(err == 0 || err == -EINVAL);
                ended += err == 0;
            });
        }
        for (auto &t : threads) {
            t.join();
        }
        EXPECT_EQ(1, ended);
    }
}

struct Waiter : MemoryMapClient {
    std::mutex mutex;
    std::condition_variable cond;
    bool told = false;

    Waiter() : MemoryMapClient()
    {
        notify = [](MemoryMapClient *c) {
            auto *self = static_cast<Waiter *>(c);
            std::lock_guard<std::mutex> guard(self->mutex);
            self->told = true;
            self->cond.notify_one();
        };
    }

    void wait()
    {
        std::unique_lock<std::mutex> guard(mutex);
        cond.wait(guard, [&] { return told; });
        told = false;
    }
};

TEST_F(DmaRace, NoWakeUpIsLost)
{
    constexpr int kThreads = 4, kRounds = 300;
    std::atomic<int> done{0}, waited{0};
    std::vector<std::thread> threads;

    ASSERT_EQ(0, address_space_set_bounce_limit(&as, 48));
    for (int t = 0; t < kThreads; t++) {
        threads.emplace_back([&, t] {
            Waiter waiter;
            MemoryMapRange range = {kSlots * kSize, 16u + 16u * (t % 2)};

            for (int i = 0; i < kRounds; i++) {
                MemoryMapping m = {};
                int err, reg;

                while ((err = address_space_map_sg(&as, &range, 1, MEMORY_MAP_READ_WRITE, kAttrs, &m)) == -ENOBUFS) {
                    waiter.bytes = range.len;
                    reg = address_space_register_map_client(&as, &waiter);
                    ASSERT_GE(reg, 0);
                    if (reg == 0 && i % 5 == 0 && address_space_unregister_map_client(&as, &waiter) == 0) {
                        continue; /* changed its mind in time */
                    }
                    if (reg == 0) {
                        waited++;
                        waiter.wait(); /* for ever, if one were lost */
                    }
                }
                ASSERT_EQ(0, err);
                std::this_thread::yield();
                ASSERT_EQ(0, address_space_unmap_sg(&m, m.len, nullptr));
            }
            address_space_unregister_map_client(&as, &waiter);
            done++;
        });
    }
    for (auto &t : threads) {
        t.join();
    }
    EXPECT_EQ(kThreads, done);
}

} // namespace
