/* SPDX-License-Identifier: MIT */
/* Coalesced MMIO: what waits, what makes it be delivered, in which order, and where listeners are told of it. */
#include "machine.h"
#include "plane_mirror.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

namespace {

const MemTxAttrs attrs = MEMTXATTRS_UNSPECIFIED;

/* Remembers every write, and does something in the callback if it is told to. */
struct Recorder {
    MemoryRegion mr;
    std::mutex lock;
    std::vector<std::pair<hwaddr, uint64_t>> writes;
    std::vector<unsigned> requesters;
    std::atomic<void (*)(Recorder *recorder, hwaddr addr, uint64_t data)> during;
    AddressSpace *as;
    unsigned depth;
};

Recorder *recorder_of(MemoryRegion *mr)
{
    return container_of(mr, Recorder, mr);
}

const MemoryRegionOps *recorder_ops()
{
    static const MemoryRegionOps ops = [] {
        MemoryRegionOps o = {};
        o.read = [](MemoryRegion *mr, hwaddr, unsigned) -> uint64_t {
            Recorder *r = recorder_of(mr);
            std::lock_guard<std::mutex> guard(r->lock);
            return r->writes.size();
        };
        o.write_with_attrs = [](MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned, MemTxAttrs a) -> MemTxResult {
            Recorder *r = recorder_of(mr);
            {
                std::lock_guard<std::mutex> guard(r->lock);
                r->writes.push_back({addr, data});
                r->requesters.push_back(a.requester_id);
            }
            if (auto act = r->during.load()) {
                act(r, addr, data);
            }
            return MEMTX_OK;
        };
        o.endianness = MEMORY_LITTLE_ENDIAN;
        o.valid.min_access_size = o.impl.min_access_size = 1;
        o.valid.max_access_size = o.impl.max_access_size = 4;
        return o;
    }();
    return &ops;
}

class Coalesced : public Machine {
protected:
    void SetUp() override
    {
        Machine::SetUp();
        for (auto r : {&vga, &other}) {
            ASSERT_EQ(0, memory_region_init_io(&r->mr, recorder_ops(), r == &vga ? "vga" : "other", 0x1000));
            ASSERT_EQ(0, memory_region_add_subregion(&root, r == &vga ? 0x10000 : 0x20000, &r->mr));
            r->as = &as;
            r->during = nullptr;
            r->depth = 0;
        }
    }

    void TearDown() override
    {
        for (auto r : {&vga, &other}) {
            ASSERT_EQ(0, memory_region_del_subregion(&root, &r->mr));
            ASSERT_EQ(0, memory_region_destroy(&r->mr));
            ASSERT_EQ(0, memory_region_quiesce(&r->mr));
        }
        Machine::TearDown();
    }

    size_t seen(Recorder *r)
    {
        std::lock_guard<std::mutex> guard(r->lock);
        return r->writes.size();
    }

    /* Keeps the thread away that flushes in time: it is made to deliver a write that takes as long as this lives. */
    class NoWorker {
    public:
        explicit NoWorker(Coalesced *t) : test(t)
        {
            EXPECT_EQ(0, memory_region_init_io(&blocker.mr, recorder_ops(), "blocker", 4));
            EXPECT_EQ(0, memory_region_set_coalescing(&blocker.mr));
            EXPECT_EQ(0, memory_region_add_subregion(&test->root, 0x90000, &blocker.mr));
            blocker.during = [](Recorder *r, hwaddr, uint64_t) {
                NoWorker *self = container_of(r, NoWorker, blocker);
                self->blocked = true;
                while (self->hold) {
                    std::this_thread::yield();
                }
            };
            EXPECT_EQ(MEMTX_OK, address_space_stl_le(&test->as, 0x90000, attrs, 0));
            while (!blocked) {
                std::this_thread::yield();
            }
        }
        ~NoWorker()
        {
            hold = false;
            EXPECT_EQ(0, memory_region_del_subregion(&test->root, &blocker.mr));
            EXPECT_EQ(0, memory_region_destroy(&blocker.mr));
            EXPECT_EQ(0, memory_region_quiesce(&blocker.mr));
        }

    private:
        Recorder blocker = {};
        Coalesced *test;
        std::atomic<bool> hold{true}, blocked{false};
    };

    Recorder vga, other;
};

TEST_F(Coalesced, WritesWaitAndAReadOfTheRegionSeesThem)
{
    NoWorker none(this);
    MemTxAttrs mine = {};
    mine.requester_id = 77;
    ASSERT_EQ(0, memory_region_add_coalescing(&vga.mr, 0x100, 0x100));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10100, mine, 1));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x101fc, attrs, 2));
    uint8_t bytes[3] = {3, 4, 5};
    EXPECT_EQ(MEMTX_OK, address_space_write(&as, 0x10110, attrs, bytes, 3)) << "as two";
    EXPECT_EQ(0u, seen(&vga));
    uint8_t n = 0;
    EXPECT_EQ(MEMTX_OK, address_space_ldub(&as, 0x10000, attrs, &n));
    EXPECT_EQ(4u, n) << "delivered before the read";
    using W = std::pair<hwaddr, uint64_t>;
    EXPECT_EQ((std::vector<W>{W(0x100, 1), W(0x1fc, 2), W(0x110, 0x0403), W(0x112, 5)}), vga.writes);
    EXPECT_EQ(77u, vga.requesters[0]);
    EXPECT_EQ(0u, vga.requesters[1]);
}

TEST_F(Coalesced, WhatIsNotCoalescedDoesNotOvertake)
{
    NoWorker none(this);
    int fd = eventfd(0, EFD_NONBLOCK);
    ASSERT_EQ(0, memory_region_add_coalescing(&vga.mr, 0x100, 0x100));
    ASSERT_EQ(0, memory_region_add_eventfd(&vga.mr, 0x300, 4, false, 0, fd));
    ASSERT_EQ(0, memory_region_add_coalescing(&other.mr, 0, 0x10));
    EXPECT_EQ(MEMTX_OK, address_space_stb(&as, 0x20000, attrs, 9));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10100, attrs, 1));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10000, attrs, 2));
    using W = std::pair<hwaddr, uint64_t>;
    EXPECT_EQ((std::vector<W>{W(0x100, 1), W(0, 2)}), vga.writes);
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10100, attrs, 3));
    EXPECT_EQ(2u, seen(&vga));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10300, attrs, 4)) << "a kick";
    EXPECT_EQ(3u, seen(&vga));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10100, attrs, 5));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_stq_le(&as, 0x10100, attrs, 6)) << "not valid: told at once";
    EXPECT_EQ(4u, seen(&vga));
    EXPECT_EQ(MEMTX_OK, address_space_stw_le(&as, 0x100fe, attrs, 7)) << "just before the range";
    EXPECT_EQ(5u, seen(&vga));
    EXPECT_EQ(MEMTX_OK, address_space_stw_le(&as, 0x10200, attrs, 8)) << "just behind it";
    EXPECT_EQ(6u, seen(&vga));
    EXPECT_EQ(0u, seen(&other)) << "a flush is of one region";
    EXPECT_EQ(0, memory_region_flush_coalesced(&other.mr));
    EXPECT_EQ(1u, seen(&other));
    close(fd);
}

TEST_F(Coalesced, ARegionThatFlushesSeesAllThatWaitsAnywhere)
{
    ASSERT_EQ(0, memory_region_set_coalescing(&vga.mr));
    ASSERT_EQ(0, memory_region_set_coalescing(&other.mr));
    ASSERT_EQ(0, memory_region_set_flush_coalesced(&dev[0].mr));
    for (unsigned i = 1; i <= 100; i++) { /* of which the thread that flushes in time may have done a few */
        uint8_t value = 0;
        EXPECT_EQ(MEMTX_OK, address_space_stb(&as, 0x10000, attrs, 1));
        EXPECT_EQ(MEMTX_OK, address_space_stb(&as, 0x20000, attrs, 1));
        EXPECT_EQ(MEMTX_OK, address_space_rw(&as, 0x1000, attrs, &value, 1, i & 1));
        EXPECT_EQ(i, seen(&vga));
        EXPECT_EQ(i, seen(&other));
    }
    EXPECT_EQ(MEMTX_OK, address_space_stb(&as, 0x10000, attrs, 1));
    EXPECT_EQ(MEMTX_OK, address_space_stb(&as, 0x20000, attrs, 1));
    EXPECT_EQ(0, address_space_flush_coalesced(&as));
    EXPECT_EQ(101u, seen(&vga));
    EXPECT_EQ(101u, seen(&other));
}

TEST_F(Coalesced, OtherRegionsFlushNothing)
{
    NoWorker none(this);
    uint8_t value;

    ASSERT_EQ(0, memory_region_set_coalescing(&vga.mr));
    EXPECT_EQ(MEMTX_OK, address_space_stb(&as, 0x10000, attrs, 1));
    EXPECT_EQ(MEMTX_OK, address_space_ldub(&as, 0x2000, attrs, &value)) << "another device";
    EXPECT_EQ(0u, seen(&vga));
    ASSERT_EQ(0, memory_region_set_flush_coalesced(&dev[0].mr));
    ASSERT_EQ(0, memory_region_clear_flush_coalesced(&dev[0].mr));
    EXPECT_EQ(MEMTX_OK, address_space_stb(&as, 0x1000, attrs, 1));
    EXPECT_EQ(0u, seen(&vga));
    EXPECT_EQ(0, memory_region_flush_coalesced(&vga.mr));
    EXPECT_EQ(1u, seen(&vga));
    EXPECT_EQ(0, memory_region_flush_coalesced(&dev[1].mr)) << "nothing to do";
}

TEST_F(Coalesced, AFlushOfAllWaitsForWhatAnotherThreadDelivers)
{
    static std::atomic<bool> inside, go_on;
    std::atomic<bool> returned{false};
    uint8_t byte = 0;

    inside = go_on = false;
    ASSERT_EQ(0, memory_region_set_coalescing(&vga.mr));
    ASSERT_EQ(0, memory_region_set_flush_coalesced(&other.mr));
    vga.during = [](Recorder *, hwaddr addr, uint64_t) {
        if (addr == 0) {
            inside = true;
            while (!go_on) {
                std::this_thread::yield();
            }
        }
    };
    ASSERT_EQ(MEMTX_OK, address_space_stb(&as, 0x10000, MEMTXATTRS_UNSPECIFIED, 1));
    ASSERT_EQ(MEMTX_OK, address_space_stb(&as, 0x10001, MEMTXATTRS_UNSPECIFIED, 2));
    std::thread deliverer([this] { EXPECT_EQ(0, address_space_flush_coalesced(&as)); });
    while (!inside) {
        std::this_thread::yield();
    }
    std::thread reader([this, &byte, &returned] {
        EXPECT_EQ(MEMTX_OK, address_space_ldub(&as, 0x20000, MEMTXATTRS_UNSPECIFIED, &byte));
        EXPECT_EQ(2u, seen(&vga));
        returned = true;
    });
    for (int i = 0; i < 50 && !returned; i++) { /* the longer, the surer a reader that does not wait is caught */
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    go_on = true;
    reader.join();
    deliverer.join();
    vga.during = nullptr;
}

TEST_F(Coalesced, AFullRingIsDeliveredByWhoFindsItSo)
{
    NoWorker none(this);
    ASSERT_EQ(0, memory_region_set_coalescing(&vga.mr));
    for (unsigned i = 0; i < MEMORY_COALESCED_RING; i++) {
        EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10000, attrs, i));
    }
    EXPECT_EQ(0u, seen(&vga));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10000, attrs, MEMORY_COALESCED_RING));
    EXPECT_EQ(size_t(MEMORY_COALESCED_RING), seen(&vga));
    EXPECT_EQ(0, memory_region_flush_coalesced(&vga.mr));
    for (unsigned i = 0; i <= MEMORY_COALESCED_RING; i++) {
        EXPECT_EQ(i, vga.writes[i].second);
    }
}

TEST_F(Coalesced, WhatWaitsIsDeliveredInTime)
{
    ASSERT_EQ(0, memory_region_set_coalescing(&vga.mr));
    for (unsigned round = 1; round < 4; round++) {
        EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10000, attrs, round));
        for (unsigned i = 0; i < 10000 && seen(&vga) < round; i++) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        ASSERT_EQ(round, seen(&vga)) << "and nobody asked";
    }
}

TEST_F(Coalesced, WhatWaitsIsDeliveredInTimeWhoeverReads)
{
    ASSERT_EQ(0, memory_region_set_coalescing(&vga.mr));
    memory_read_begin();
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10000, attrs, 1));
    for (unsigned i = 0; i < 30000 && !seen(&vga); i++) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_EQ(1u, seen(&vga)) << "while no grace period can pass";
    memory_read_end();
}

TEST_F(Coalesced, ClearingAndDestroyingDeliver)
{
    NoWorker none(this);
    ASSERT_EQ(0, memory_region_set_coalescing(&vga.mr));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10000, attrs, 1));
    ASSERT_EQ(0, memory_region_clear_coalescing(&vga.mr));
    EXPECT_EQ(1u, seen(&vga));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10000, attrs, 2));
    EXPECT_EQ(2u, seen(&vga)) << "not coalesced any more";
    ASSERT_EQ(0, memory_region_set_coalescing(&vga.mr));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10000, attrs, 3));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &vga.mr));
    EXPECT_EQ(2u, seen(&vga));
    EXPECT_EQ(-EBUSY, (memory_region_add_subregion(&root, 0x10000, &vga.mr), memory_region_destroy(&vga.mr)));
    EXPECT_EQ(3u, seen(&vga));
}

TEST_F(Coalesced, ACallbackThatWritesItsOwnRangeNeitherLoopsNorBlocks)
{
    NoWorker none(this);
    ASSERT_EQ(0, memory_region_set_coalescing(&vga.mr));
    vga.during = [](Recorder *r, hwaddr, uint64_t data) {
        uint8_t value;
        r->depth++;
        EXPECT_EQ(1u, r->depth) << "no delivery within a delivery";
        EXPECT_EQ(MEMTX_OK, address_space_stl_le(r->as, 0x10000, attrs, (uint32_t)data + 1));
        EXPECT_EQ(MEMTX_OK, address_space_ldub(r->as, 0x10000, attrs, &value));
        r->depth--;
    };
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10000, attrs, 1));
    EXPECT_EQ(0, memory_region_flush_coalesced(&vga.mr));
    EXPECT_EQ(1u, seen(&vga)) << "what was there when the flush began";
    EXPECT_EQ(0, memory_region_flush_coalesced(&vga.mr));
    EXPECT_EQ(2u, seen(&vga));
    EXPECT_EQ(2u, vga.writes[1].second);
    vga.during = [](Recorder *r, hwaddr, uint64_t) {
        MemTxResult result = MEMTX_OK;
        for (unsigned i = 0; i < 2 && result == MEMTX_OK; i++) {
            result = address_space_stl_le(r->as, 0x10000, attrs, 0);
        }
        r->depth |= result == MEMTX_ERROR ? 0x100u : 0;
    };
    for (unsigned i = 0; i < MEMORY_COALESCED_RING - 1; i++) {
        EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10000, attrs, i));
    }
    EXPECT_EQ(0, memory_region_flush_coalesced(&vga.mr));
    EXPECT_EQ(2u + MEMORY_COALESCED_RING, seen(&vga));
    EXPECT_EQ(0x100u, vga.depth) << "a ring that overflows in its own delivery says so";
    vga.during = nullptr;
    EXPECT_EQ(0, memory_region_flush_coalesced(&vga.mr));
}

TEST_F(Coalesced, CallbacksMayChangeTheMap)
{
    NoWorker none(this);
    ASSERT_EQ(0, memory_region_set_coalescing(&vga.mr));
    vga.during = [](Recorder *r, hwaddr, uint64_t data) {
        EXPECT_EQ(0, memory_region_set_address(&r->mr, data));
        EXPECT_EQ(0, memory_region_clear_coalescing(&r->mr));
    };
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10000, attrs, 0x30000));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10004, attrs, 0x40000));
    ASSERT_EQ(0, memory_transaction_begin());
    EXPECT_EQ(0, memory_region_flush_coalesced(&vga.mr)) << "in a transaction, which they take part in";
    ASSERT_EQ(0, memory_transaction_commit());
    vga.during = nullptr;
    EXPECT_EQ(0x40000u, memory_region_get_addr(&vga.mr));
    ASSERT_EQ(0, memory_region_set_address(&vga.mr, 0x10000));
}

TEST_F(Coalesced, BadInputIsNamedAndChangesNothing)
{
    MemoryRegion ram, nothing;
    PlaneMirror mirror;
    plane_mirror_init(&mirror);
    ASSERT_EQ(0, memory_region_init_ram(&ram, "ram", 0x1000));
    ASSERT_EQ(0, memory_region_init_reservation(&nothing, "nothing", 0x1000));
    ASSERT_EQ(0, memory_region_add_coalescing(&vga.mr, 0x100, 0x100));
    ASSERT_EQ(0, memory_listener_register(&mirror.listener, &as));
    auto before = mirror.coalesced;
    EXPECT_EQ((std::set<PlaneRange>{PlaneRange(0x10100, 0x100)}), before);
    EXPECT_EQ(-EINVAL, memory_region_add_coalescing(nullptr, 0, 1));
    EXPECT_EQ(-EINVAL, memory_region_add_coalescing(&ram, 0, 1));
    EXPECT_EQ(-EINVAL, memory_region_add_coalescing(&root, 0, 1));
    EXPECT_EQ(-EINVAL, memory_region_add_coalescing(&nothing, 0, 1));
    EXPECT_EQ(-EINVAL, memory_region_add_coalescing(&vga.mr, 0, 0));
    EXPECT_EQ(-ERANGE, memory_region_add_coalescing(&vga.mr, 0xfff, 2));
    EXPECT_EQ(-ERANGE, memory_region_add_coalescing(&vga.mr, 1, UINT64_MAX));
    EXPECT_EQ(-ERANGE, memory_region_add_coalescing(&vga.mr, UINT64_MAX, 2));
    EXPECT_EQ(-EEXIST, memory_region_add_coalescing(&vga.mr, 0x1ff, 1)) << "overlaps in its last byte";
    EXPECT_EQ(-EEXIST, memory_region_add_coalescing(&vga.mr, 0, 0x101));
    EXPECT_EQ(-EINVAL, memory_region_set_coalescing(&ram));
    EXPECT_EQ(-EINVAL, memory_region_set_flush_coalesced(&ram));
    EXPECT_EQ(-EINVAL, memory_region_flush_coalesced(nullptr));
    EXPECT_EQ(-EINVAL, address_space_flush_coalesced(nullptr));
    EXPECT_EQ(before, mirror.coalesced);
    EXPECT_EQ(1u, mirror.rounds);
    EXPECT_EQ(0, memory_region_add_coalescing(&vga.mr, 0x200, 1)) << "adjacent is not overlapping";
    EXPECT_EQ(2u, mirror.coalesced.size());
    EXPECT_EQ(0, memory_region_set_coalescing(&vga.mr)) << "in place of both";
    EXPECT_EQ((std::set<PlaneRange>{PlaneRange(0x10000, 0x1000)}), mirror.coalesced);
    EXPECT_EQ(0, memory_region_clear_coalescing(&vga.mr));
    EXPECT_EQ(0u, mirror.coalesced.size());
    EXPECT_EQ(0, memory_region_clear_coalescing(&vga.mr));
    ASSERT_EQ(0, memory_listener_unregister(&mirror.listener));
    for (auto mr : {&ram, &nothing}) {
        ASSERT_EQ(0, memory_region_destroy(mr));
        ASSERT_EQ(0, memory_region_quiesce(mr));
    }
}

/* The seed's case: a PCI BAR is remapped, and the device knows nothing of it. */
TEST_F(Coalesced, TheyAreKeptOverUnmapAndRemapAndToldAtTheNewAddress)
{
    PlaneMirror mirror;
    Device cover;
    plane_mirror_init(&mirror);
    device_init(&cover, "cover", 0x10);
    ASSERT_EQ(0, memory_region_add_coalescing(&vga.mr, 0x100, 0x100));
    ASSERT_EQ(0, memory_listener_register(&mirror.listener, &as));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &vga.mr));
    EXPECT_EQ((std::set<PlaneRange>{}), mirror.coalesced);
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x50000, &vga.mr));
    EXPECT_EQ((std::set<PlaneRange>{PlaneRange(0x50100, 0x100)}), mirror.coalesced);
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x50100, attrs, 1));
    EXPECT_EQ(0, memory_region_flush_coalesced(&vga.mr));
    EXPECT_EQ(0x100u, vga.writes.at(0).first);
    ASSERT_EQ(0, memory_region_add_subregion_overlap(&root, 0x50180, &cover.mr, 1));
    EXPECT_EQ((std::set<PlaneRange>{PlaneRange(0x50100, 0x80), PlaneRange(0x50190, 0x70)}), mirror.coalesced)
        << "cut to what is visible";
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_clear_coalescing(&vga.mr));
    memory_transaction_abort();
    EXPECT_EQ(2u, mirror.coalesced.size());
    ASSERT_EQ(0, memory_listener_unregister(&mirror.listener));
    EXPECT_EQ(0u, mirror.coalesced.size());
    ASSERT_EQ(0, memory_region_del_subregion(&root, &cover.mr));
    ASSERT_EQ(0, memory_region_destroy(&cover.mr));
    ASSERT_EQ(0, memory_region_quiesce(&cover.mr));
}

/* Writers of numbered values to coalesced and other places, readers that flush, and two regions whose callbacks read each
   other: every writer's numbers arrive in order, none is lost, nobody waits for ever. */
TEST_F(Coalesced, WritersReadersAndCallbacksAtOnce)
{
    enum { WRITERS = 3, WRITES = 3000 };
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    ASSERT_EQ(0, memory_region_add_coalescing(&vga.mr, 0, 0x800));
    ASSERT_EQ(0, memory_region_add_coalescing(&other.mr, 0, 0x800));
    vga.during = [](Recorder *r, hwaddr, uint64_t data) {
        uint8_t value;
        if (data % 16 == 0) {
            EXPECT_EQ(MEMTX_OK, address_space_ldub(r->as, 0x20000, attrs, &value));
        }
    };
    other.during = [](Recorder *r, hwaddr, uint64_t data) {
        uint8_t value;
        if (data % 16 == 0) {
            EXPECT_EQ(MEMTX_OK, address_space_ldub(r->as, 0x10000, attrs, &value));
        }
    };
    for (unsigned w = 0; w < WRITERS; w++) {
        threads.emplace_back([this, w] {
            for (uint32_t i = 0; i < WRITES; i++) {
                hwaddr base = w % 2 ? 0x10000 : 0x20000;
                hwaddr at = (i % 50 == 49 ? 0x900 : 0) + w * 4;
                EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, base + at, attrs, i));
            }
        });
    }
    threads.emplace_back([this, &stop] {
        while (!stop) {
            uint8_t value;
            EXPECT_EQ(MEMTX_OK, address_space_ldub(&as, 0x10000, attrs, &value));
            EXPECT_EQ(0, address_space_flush_coalesced(&as));
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
    });
    threads.emplace_back([this, &stop] {
        for (unsigned i = 0; !stop; i++) {
            EXPECT_EQ(0, i % 2 ? memory_region_add_coalescing(&vga.mr, 0x800, 0x10) :
                                 memory_region_set_coalescing(&vga.mr));
            if (i % 2 == 0) {
                EXPECT_EQ(0, memory_region_clear_coalescing(&vga.mr));
                EXPECT_EQ(0, memory_region_add_coalescing(&vga.mr, 0, 0x800));
            }
            EXPECT_EQ(0, memory_region_set_enabled(&dev[0].mr, i % 3 != 0));
            std::this_thread::sleep_for(std::chrono::microseconds(300));
        }
    });
    for (unsigned w = 0; w < WRITERS; w++) {
        threads[w].join();
    }
    stop = true;
    threads[WRITERS].join();
    threads[WRITERS + 1].join();
    EXPECT_EQ(0, address_space_flush_coalesced(&as));
    EXPECT_EQ(0, memory_region_flush_coalesced(&vga.mr));
    EXPECT_EQ(0, memory_region_flush_coalesced(&other.mr));
    uint32_t next[WRITERS] = {};
    for (auto r : {&vga, &other}) {
        for (auto &write : r->writes) {
            unsigned w = (unsigned)(write.first & 0xff) / 4;
            ASSERT_LT(w, unsigned(WRITERS));
            ASSERT_EQ(next[w], write.second) << "writer " << w;
            next[w]++;
        }
        r->during = nullptr;
    }
    for (auto n : next) {
        EXPECT_EQ(uint32_t(WRITES), n);
    }
}

/* ---- accelerators that collect themselves ---- */

TEST_F(Coalesced, WhatAnAcceleratorHandsInWaitsLikeAnyOther)
{
    NoWorker none(this);
    int fd = eventfd(0, EFD_NONBLOCK);
    ASSERT_EQ(0, memory_region_add_coalescing(&vga.mr, 0x100, 0x100));
    ASSERT_EQ(0, memory_region_add_eventfd(&vga.mr, 0x180, 4, false, 0, fd));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10100, attrs, 1));
    EXPECT_EQ(0, address_space_queue_coalesced(&as, 0x10104, 4, 0x11223344, attrs, false));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10108, attrs, 3));
    EXPECT_EQ(0u, seen(&vga));

    EXPECT_EQ(-ENOENT, address_space_queue_coalesced(&as, 0x10180, 4, 1, attrs, false)) << "a kick";
    EXPECT_EQ(-EACCES, address_space_queue_coalesced(&as, 0x10110, 8, 1, attrs, false)) << "its ops refuse that";
    EXPECT_EQ(-EACCES, address_space_queue_coalesced(&as, 0x10111, 4, 1, attrs, false)) << "and that";
    EXPECT_EQ(-ENOENT, address_space_queue_coalesced(&as, 0x20000, 4, 1, attrs, false)) << "it coalesces nothing";
    EXPECT_EQ(-ENOENT, address_space_queue_coalesced(&as, 0x70000, 4, 1, attrs, false)) << "nobody there";
    for (unsigned size : {0u, 3u, 16u}) {
        EXPECT_EQ(-EINVAL, address_space_queue_coalesced(&as, 0x10100, size, 1, attrs, false));
    }
    EXPECT_EQ(-EINVAL, address_space_queue_coalesced(nullptr, 0x10100, 4, 1, attrs, false));
    EXPECT_EQ(0, memory_region_flush_coalesced(&vga.mr));
    using W = std::pair<hwaddr, uint64_t>;
    EXPECT_EQ((std::vector<W>{W(0x100, 1), W(0x104, 0x11223344), W(0x108, 3)}), vga.writes);
    close(fd);
}

/* Who hands in holds locks of which the device knows nothing. */
TEST_F(Coalesced, TheDeviceIsAskedWhatItAcceptsWhenAHandedInWriteIsDelivered)
{
    static std::atomic<unsigned> asked;
    static MemoryRegionOps ops;
    Recorder picky = {};
    asked = 0;
    ops = *recorder_ops();
    ops.valid.accepts = [](MemoryRegion *, hwaddr addr, unsigned, bool, MemTxAttrs) {
        asked++;
        return addr != 4;
    };
    ASSERT_EQ(0, memory_region_init_io(&picky.mr, &ops, "picky", 0x1000));
    ASSERT_EQ(0, memory_region_set_coalescing(&picky.mr));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x50000, &picky.mr));
    {
        NoWorker none(this); /* until here: it is in a read section */
        for (hwaddr offset : {0, 4, 8}) {
            EXPECT_EQ(0, address_space_queue_coalesced(&as, 0x50000 + offset, 4, offset, attrs, false));
        }
        EXPECT_EQ(0u, asked);
    }
    EXPECT_EQ(0, memory_region_flush_coalesced(&picky.mr));
    EXPECT_EQ(3u, asked);
    using W = std::pair<hwaddr, uint64_t>;
    EXPECT_EQ((std::vector<W>{W(0, 0), W(8, 8)}), picky.writes);
    ASSERT_EQ(0, memory_region_del_subregion(&root, &picky.mr));
    ASSERT_EQ(0, memory_region_destroy(&picky.mr));
    ASSERT_EQ(0, memory_region_quiesce(&picky.mr));
}

TEST_F(Coalesced, TheLastOnesOfAnAcceleratorHaveRoomOfTheirOwn)
{
    NoWorker none(this);
    uint32_t i = 0;
    EXPECT_EQ(0u, memory_region_coalesced_room(&vga.mr)) << "it never coalesced";
    EXPECT_EQ(0u, memory_region_coalesced_room(nullptr));
    ASSERT_EQ(0, memory_region_set_coalescing(&vga.mr));
    EXPECT_EQ(2u * MEMORY_COALESCED_RING, memory_region_coalesced_room(&vga.mr));
    while (address_space_queue_coalesced(&as, 0x10000, 4, i, attrs, false) == 0) {
        i++;
    }
    EXPECT_EQ(uint32_t(MEMORY_COALESCED_RING), i);
    EXPECT_EQ(size_t(MEMORY_COALESCED_RING), memory_region_coalesced_room(&vga.mr));
    while (address_space_queue_coalesced(&as, 0x10000, 4, i, attrs, true) == 0) {
        i++;
    }
    EXPECT_EQ(2u * MEMORY_COALESCED_RING, i);
    EXPECT_EQ(0u, memory_region_coalesced_room(&vga.mr));
    EXPECT_EQ(0u, seen(&vga)) << "nobody was called";
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x10000, attrs, i)) << "makes room first";
    EXPECT_EQ(0, memory_region_flush_coalesced(&vga.mr));
    ASSERT_EQ(size_t(i) + 1, seen(&vga));
    for (uint32_t k = 0; k <= i; k++) {
        ASSERT_EQ(k, vga.writes[k].second);
    }
}

/* Has writes that no ring of the library has. */
struct Source {
    MemoryCoalescedSource source; /* first */
    AddressSpace *as;
    uint32_t next, end;
    unsigned asked;
};

TEST_F(Coalesced, AFlushAsksThoseWhoCollectFirst)
{
    Source source = {};
    uint8_t value = 0;
    memory_read_begin();
    ASSERT_EQ(0, memory_region_set_coalescing(&vga.mr));
    source.as = &as;
    source.end = 1000; /* more than there is room for */
    source.source.collect = [](MemoryCoalescedSource *s) {
        auto self = reinterpret_cast<Source *>(s);
        self->asked++;
        while (self->next < self->end) {
            int err = address_space_queue_coalesced(self->as, 0x10000, 4, self->next, attrs, false);
            if (err < 0) {
                EXPECT_EQ(-ENOBUFS, err);
                return true;
            }
            self->next++;
        }
        return false;
    };
    EXPECT_EQ(-EINVAL, memory_coalesced_source_register(nullptr));
    EXPECT_EQ(-EINVAL, memory_coalesced_source_unregister(nullptr));
    EXPECT_EQ(0, memory_coalesced_source_register(&source.source));
    EXPECT_EQ(-EINVAL, memory_coalesced_source_register(&source.source)) << "is there";
    EXPECT_EQ(MEMTX_OK, address_space_ldub(&as, 0x10000, attrs, &value));
    ASSERT_EQ(1000u, seen(&vga)) << "before the read";
    for (uint32_t i = 0; i < 1000; i++) {
        ASSERT_EQ(i, vga.writes[i].second);
    }
    source.end++;
    EXPECT_EQ(0, memory_region_flush_coalesced(&vga.mr));
    source.end++;
    EXPECT_EQ(0, address_space_flush_coalesced(&as));
    EXPECT_EQ(1002u, seen(&vga));
    EXPECT_EQ(-EDEADLK, memory_coalesced_source_unregister(&source.source)) << "somebody may be in it: this thread";
    memory_read_end();
    EXPECT_EQ(0, memory_coalesced_source_unregister(&source.source));
    EXPECT_EQ(-EINVAL, memory_coalesced_source_unregister(&source.source));
    memory_read_begin();
    unsigned before = source.asked;
    EXPECT_EQ(0, memory_region_flush_coalesced(&vga.mr));
    EXPECT_EQ(before, source.asked);
    memory_read_end();
}

} // namespace
