/* SPDX-License-Identifier: MIT */
/* Mapped hardware: widths, and memory that comes and goes. That each access is one load or store is exact_test.cc's. */
#include "machine.h"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

namespace {

/* What answers while there is no memory: 32-bit registers that hold their own offset. */
const MemoryRegionOps *registers_ops()
{
    static const MemoryRegionOps ops = [] {
        MemoryRegionOps o = *device_ops();
        o.read = [](MemoryRegion *, hwaddr addr, unsigned) -> uint64_t { return 0xdead0000u + addr; };
        o.write = [](MemoryRegion *, hwaddr, uint64_t, unsigned) {};
        o.valid.min_access_size = o.impl.min_access_size = 2;
        o.valid.max_access_size = o.impl.max_access_size = 4;
        return o;
    }();
    return &ops;
}

struct Listener {
    MemoryListener listener;
    std::vector<void *> dels, adds;
    bool refuse;
};

Listener *listener_of(MemoryListener *l)
{
    return reinterpret_cast<Listener *>(l);
}

class RamDevice : public testing::Test {
protected:
    void SetUp() override
    {
        for (unsigned i = 0; i < sizeof(first); i++) {
            ((uint8_t *)first)[i] = (uint8_t)i;
            ((uint8_t *)second)[i] = (uint8_t)(0x80 + i);
        }
        ASSERT_EQ(0, memory_region_init(&root, "root", UINT64_MAX));
        ASSERT_EQ(0, memory_region_init_ram_device(&bar, registers_ops(), "bar", sizeof(first)));
        ASSERT_EQ(0, memory_region_add_subregion(&root, 0x1000, &bar));
        ASSERT_EQ(0, address_space_init(&as, &root, "memory"));
        listener = Listener();
        listener.listener.prepare = [](MemoryListener *l, const MemoryDelta *) {
            return listener_of(l)->refuse ? -ENOSPC : 0;
        };
        listener.listener.region_del = [](MemoryListener *l, const MemoryRegionSection *s) {
            listener_of(l)->dels.push_back(s->host);
        };
        listener.listener.region_add = [](MemoryListener *l, const MemoryRegionSection *s) {
            listener_of(l)->adds.push_back(s->host);
        };
        ASSERT_EQ(0, memory_listener_register(&listener.listener, &as));
    }

    void TearDown() override
    {
        ASSERT_EQ(0, memory_listener_unregister(&listener.listener));
        ASSERT_EQ(0, address_space_destroy(&as, nullptr));
        ASSERT_EQ(0, memory_region_del_subregion(&root, &bar));
        ASSERT_EQ(0, memory_region_destroy(&bar));
        ASSERT_EQ(0, memory_region_destroy(&root));
        ASSERT_EQ(0, memory_region_quiesce(&bar));
        ASSERT_EQ(0, memory_region_quiesce(&root));
    }

    uint32_t load(hwaddr addr)
    {
        uint32_t value = 0;
        EXPECT_EQ(MEMTX_OK, address_space_ldl_le(&as, addr, MEMTXATTRS_UNSPECIFIED, &value));
        return value;
    }

    static void count(void *, void *arg)
    {
        ++*static_cast<std::atomic<int> *>(arg);
    }

    void settle(const std::atomic<int> &counter, int want)
    {
        for (int i = 0; i < 1000 && counter != want; i++) {
            ASSERT_EQ(0, memory_reclaim());
        }
        EXPECT_EQ(want, counter);
    }

    uint64_t first[8], second[8];
    MemoryRegion root, bar;
    AddressSpace as = {};
    Listener listener;
    std::atomic<int> released{0};
};

TEST_F(RamDevice, AnswersByCallbacksUntilItHasMemoryAndAfterItHasLostIt)
{
    EXPECT_TRUE(memory_region_is_ram_device(&bar));
    EXPECT_EQ(nullptr, memory_region_get_ram_ptr(&bar));
    EXPECT_EQ(0xdead0008u, load(0x1008));
    ASSERT_EQ(0, memory_region_ram_device_set_ptr(&bar, first, count, &released));
    EXPECT_EQ(first, memory_region_get_ram_ptr(&bar));
    EXPECT_EQ(0x0b0a0908u, load(0x1008));
    EXPECT_EQ(MEMTX_OK, address_space_stl_be(&as, 0x1008, MEMTXATTRS_UNSPECIFIED, 0x11223344));
    EXPECT_EQ(0x44332211u, load(0x1008));
    ASSERT_EQ(0, memory_region_ram_device_set_ptr(&bar, second, count, &released));
    EXPECT_EQ(0x8b8a8988u, load(0x1008));
    settle(released, 1);
    ASSERT_EQ(0, memory_region_ram_device_set_ptr(&bar, nullptr, nullptr, nullptr));
    EXPECT_EQ(0xdead0008u, load(0x1008));
    settle(released, 2);
    EXPECT_EQ((std::vector<void *>{nullptr, first, second}), listener.dels);
    EXPECT_EQ((std::vector<void *>{nullptr, first, second, nullptr}), listener.adds);
}

TEST_F(RamDevice, AccessesWiderThanItTakesAreCutAndNarrowerOnesDoNotTakePlace)
{
    uint64_t quad = 0;
    uint8_t byte = 0x77, bytes[7];

    ASSERT_EQ(0, memory_region_ram_device_set_ptr(&bar, first, nullptr, nullptr));
    EXPECT_EQ(MEMTX_OK, address_space_ldq_le(&as, 0x1008, MEMTXATTRS_UNSPECIFIED, &quad));
    EXPECT_EQ(0x0f0e0d0c0b0a0908u, quad);
    EXPECT_EQ(MEMTX_OK, address_space_ldq_be(&as, 0x1008, MEMTXATTRS_UNSPECIFIED, &quad));
    EXPECT_EQ(0x08090a0b0c0d0e0fu, quad);
    EXPECT_EQ(MEMTX_OK, address_space_ldq_le(&as, 0x100a, MEMTXATTRS_UNSPECIFIED, &quad)) << "2, 4, 2";
    EXPECT_EQ(0x11100f0e0d0c0b0au, quad);
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldub(&as, 0x1008, MEMTXATTRS_UNSPECIFIED, &byte));
    EXPECT_EQ(0x77, byte);
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_stb(&as, 0x1008, MEMTXATTRS_UNSPECIFIED, 0xff));
    EXPECT_EQ(8u, ((uint8_t *)first)[8]);
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_read(&as, 0x1000, MEMTXATTRS_UNSPECIFIED, bytes, 7)) << "4, 2, and 1";
    EXPECT_EQ(0, memcmp(bytes, first, 6));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldl_le(&as, 0x1001, MEMTXATTRS_UNSPECIFIED, (uint32_t *)bytes));
}

TEST_F(RamDevice, CopiesOfAnyLengthAndAlignmentMoveTheirBytes)
{
    MemoryRegion plain;
    uint8_t memory[64], shadow[64], buf[64];

    for (unsigned i = 0; i < 64; i++) {
        shadow[i] = memory[i] = (uint8_t)(i * 7);
    }
    ASSERT_EQ(0, memory_region_init_ram_device_ptr(&plain, "plain", sizeof(memory), memory));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x2000, &plain));
    for (unsigned at = 0; at < 24; at++) {
        for (unsigned len = 1; len < 40; len++) {
            ASSERT_EQ(MEMTX_OK, address_space_read(&as, 0x2000 + at, MEMTXATTRS_UNSPECIFIED, buf, len));
            ASSERT_EQ(0, memcmp(buf, shadow + at, len));
            for (unsigned i = 0; i < len; i++) {
                shadow[at + i] = buf[i] = (uint8_t)(at * 31 + len * 5 + i);
            }
            ASSERT_EQ(MEMTX_OK, address_space_write(&as, 0x2000 + at, MEMTXATTRS_UNSPECIFIED, buf, len));
            ASSERT_EQ(0, memcmp(memory, shadow, sizeof(shadow)));
        }
    }
    ASSERT_EQ(0, memory_region_set_readonly(&plain, true));
    EXPECT_EQ(MEMTX_ACCESS_ERROR, address_space_write(&as, 0x2000, MEMTXATTRS_UNSPECIFIED, buf, 3));
    EXPECT_EQ(0, memcmp(memory, shadow, sizeof(shadow)));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &plain));
    ASSERT_EQ(0, memory_region_destroy(&plain));
    ASSERT_EQ(0, memory_region_quiesce(&plain));
}

TEST_F(RamDevice, AnAbortOrARefusalKeepsTheOldMemoryAndGivesBackTheNew)
{
    ASSERT_EQ(0, memory_region_ram_device_set_ptr(&bar, first, count, &released));
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_ram_device_set_ptr(&bar, second, count, &released));
    ASSERT_EQ(0, memory_region_ram_device_set_ptr(&bar, nullptr, nullptr, nullptr));
    memory_transaction_abort();
    EXPECT_EQ(0x0b0a0908u, load(0x1008));
    listener.refuse = true;
    EXPECT_EQ(-ENOSPC, memory_region_ram_device_set_ptr(&bar, second, count, &released));
    listener.refuse = false;
    EXPECT_EQ(0x0b0a0908u, load(0x1008));
    ASSERT_EQ(0, memory_reclaim());
    EXPECT_EQ(0, released);
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_ram_device_set_ptr(&bar, second, count, &released));
    ASSERT_EQ(0, memory_region_ram_device_set_ptr(&bar, first, nullptr, nullptr));
    ASSERT_EQ(0, memory_transaction_commit());
    settle(released, 2);
}

TEST_F(RamDevice, APinKeepsTheMemoryThatItsViewShows)
{
    ASSERT_EQ(0, memory_region_ram_device_set_ptr(&bar, first, count, &released));
    FlatView *view = address_space_get_flatview(&as);
    ASSERT_EQ(0, memory_region_ram_device_set_ptr(&bar, second, nullptr, nullptr));
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(0, memory_reclaim());
    }
    EXPECT_EQ(0, released);
    flatview_unref(view);
    settle(released, 1);
}

TEST_F(RamDevice, TheLastMemoryGoesBeforeTheRegion)
{
    static std::atomic<int> order;
    MemoryRegion mr;

    order = 0;
    ASSERT_EQ(0, memory_region_init_ram_device(&mr, nullptr, "x", sizeof(first)));
    ASSERT_EQ(0, memory_region_set_release(&mr, [](MemoryRegion *) { order = order * 10 + 2; }));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x3000, &mr));
    uint32_t value;
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldl_le(&as, 0x3000, MEMTXATTRS_UNSPECIFIED, &value));
    ASSERT_EQ(0, memory_region_ram_device_set_ptr(&mr, first, [](void *, void *) { order = order * 10 + 1; }, nullptr));
    EXPECT_EQ(0x03020100u, load(0x3000));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &mr));
    ASSERT_EQ(0, memory_region_destroy(&mr));
    ASSERT_EQ(0, memory_region_quiesce(&mr));
    EXPECT_EQ(12, order);
}

TEST_F(RamDevice, BadInputIsRefused)
{
    EXPECT_EQ(-EINVAL, memory_region_ram_device_set_ptr(nullptr, first, nullptr, nullptr));
    EXPECT_EQ(-EINVAL, memory_region_ram_device_set_ptr(&root, first, nullptr, nullptr));
    EXPECT_EQ(-EINVAL, memory_region_ram_device_set_ptr(&bar, nullptr, count, &released));
    EXPECT_EQ(-EINVAL, memory_region_set_size(&bar, 16));
    MemoryRegion owned;
    ASSERT_EQ(0, memory_region_init_ram_device_ptr(&owned, "owned", sizeof(first), first));
    EXPECT_EQ(-EINVAL, memory_region_ram_device_set_ptr(&owned, second, nullptr, nullptr)) << "it has memory for life";
    ASSERT_EQ(0, memory_region_destroy(&owned));
    ASSERT_EQ(0, memory_region_quiesce(&owned));
}

/* Readers hammer a device whose memory comes and goes: what they read is one of the three, and never after its release. */
TEST_F(RamDevice, MemoryComesAndGoesUnderReaders)
{
    struct Page {
        uint32_t word[16];
    };
    std::atomic<bool> end{false};
    std::vector<std::thread> threads;

    for (int i = 0; i < 2; i++) {
        threads.emplace_back([&] {
            while (!end) {
                uint32_t value = load(0x1000);
                EXPECT_TRUE(value == 0xdead0000u || value == 0xa11ce) << value;
            }
        });
    }
    for (int i = 0; i < 500; i++) {
        Page *page = new Page;
        for (auto &w : page->word) {
            w = 0xa11ce;
        }
        ASSERT_EQ(0, memory_region_ram_device_set_ptr(
                         &bar, page->word,
                         [](void *ptr, void *arg) {
                             memset(ptr, 0x55, sizeof(Page));
                             delete static_cast<Page *>(ptr);
                             ++*static_cast<std::atomic<int> *>(arg);
                         },
                         &released));
        if (i % 3 == 0) {
            ASSERT_EQ(0, memory_region_ram_device_set_ptr(&bar, nullptr, nullptr, nullptr));
        }
    }
    ASSERT_EQ(0, memory_region_ram_device_set_ptr(&bar, nullptr, nullptr, nullptr));
    end = true;
    for (auto &t : threads) {
        t.join();
    }
    settle(released, 500);
}

} // namespace
