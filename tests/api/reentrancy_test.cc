/* SPDX-License-Identifier: MIT */
/* Accesses that come back to a device which is busy: policies, guards, scopes. */
#include "actor.h"

#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

namespace {

class Reentrancy : public Actors {};

TEST_F(Reentrancy, IsAllowedUnlessARegionSaysOtherwise)
{
    int depth = 0;

    a.on_write = [&](hwaddr, uint64_t, unsigned) { return ++depth < 5 ? store(A, 0) : MEMTX_OK; };
    EXPECT_EQ(MEMORY_REENTRANCY_ALLOW, memory_region_get_reentrancy(&a.mr));
    EXPECT_EQ(MEMTX_OK, store(A, 0));
    EXPECT_EQ(5, depth);
}

TEST_F(Reentrancy, RefusedAccessesRunNoCallback)
{
    int calls = 0;
    MemTxResult inner_write = MEMTX_OK, inner_read = MEMTX_OK, inner_bulk = MEMTX_OK;

    a.on_write = [&](hwaddr, uint64_t, unsigned) {
        uint64_t bytes = 0;
        calls++;
        inner_write = store(A, 1);
        inner_read = load(A);
        inner_bulk = address_space_write(&as, A, MEMTXATTRS_UNSPECIFIED, &bytes, sizeof(bytes));
        return MEMTX_OK;
    };
    a.on_read = [&](hwaddr, uint64_t *, unsigned) { return calls++, MEMTX_OK; };
    ASSERT_EQ(0, memory_region_set_reentrancy(&a.mr, MEMORY_REENTRANCY_REFUSE));
    EXPECT_EQ(MEMORY_REENTRANCY_REFUSE, memory_region_get_reentrancy(&a.mr));
    EXPECT_EQ(MEMTX_OK, store(A, 0));
    EXPECT_EQ(MEMTX_ACCESS_ERROR, inner_write);
    EXPECT_EQ(MEMTX_ACCESS_ERROR, inner_read);
    EXPECT_EQ(MEMTX_ACCESS_ERROR, inner_bulk);
    EXPECT_EQ(1, calls);
    EXPECT_EQ(MEMTX_OK, store(A, 0)) << "it is not busy any more";
}

TEST_F(Reentrancy, IsFoundThroughOtherDevices)
{
    MemTxResult back = MEMTX_OK;

    a.on_write = [&](hwaddr, uint64_t, unsigned) { return store(B, 0); };
    b.on_write = [&](hwaddr, uint64_t, unsigned) { return store(C, 0); };
    c.on_write = [&](hwaddr, uint64_t, unsigned) { return back = store(A, 0), MEMTX_OK; };
    ASSERT_EQ(0, memory_region_set_reentrancy(&a.mr, MEMORY_REENTRANCY_REFUSE));
    EXPECT_EQ(MEMTX_OK, store(A, 0));
    EXPECT_EQ(MEMTX_ACCESS_ERROR, back);
    EXPECT_EQ(MEMTX_OK, store(B, 0)) << "from B, A is not busy the first time round";
}

TEST_F(Reentrancy, RegionsOfOneGuardAreOneDevice)
{
    MemTxResult to_b = MEMTX_OK, to_c = MEMTX_OK;
    int device;

    a.on_write = [&](hwaddr, uint64_t, unsigned) {
        to_b = store(B, 0);
        to_c = store(C, 0);
        return MEMTX_OK;
    };
    ASSERT_EQ(0, memory_region_set_guard(&a.mr, &device));
    ASSERT_EQ(0, memory_region_set_guard(&b.mr, &device));
    ASSERT_EQ(0, memory_region_set_reentrancy(&b.mr, MEMORY_REENTRANCY_REFUSE));
    EXPECT_EQ(MEMTX_OK, store(A, 0));
    EXPECT_EQ(MEMTX_ACCESS_ERROR, to_b) << "A allows everything, but B asks whether A is active";
    EXPECT_EQ(MEMTX_OK, to_c);
    ASSERT_EQ(0, memory_region_set_guard(&b.mr, nullptr));
    EXPECT_EQ(MEMTX_OK, store(A, 0));
    EXPECT_EQ(MEMTX_OK, to_b) << "of its own again";
}

TEST_F(Reentrancy, AnotherThreadIsNoReentrancy)
{
    std::atomic<int> inside{0}, refused{0};

    a.on_write = [&](hwaddr, uint64_t, unsigned) {
        inside++;
        while (inside < 2) {
            std::this_thread::yield();
        }
        return MEMTX_OK;
    };
    ASSERT_EQ(0, memory_region_set_reentrancy(&a.mr, MEMORY_REENTRANCY_REFUSE));
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; i++) {
        threads.emplace_back([&] { refused += store(A, 0) != MEMTX_OK; });
    }
    for (auto &t : threads) {
        t.join();
    }
    EXPECT_EQ(0, refused);
}

TEST_F(Reentrancy, QueuedWritesRunInOrderWhenTheCallHasReturned)
{
    std::vector<uint64_t> order;
    bool busy = false;

    a.on_write = [&](hwaddr, uint64_t data, unsigned) {
        EXPECT_FALSE(busy);
        busy = true;
        order.push_back(data);
        if (data == 1) {
            EXPECT_EQ(MEMTX_OK, store(A + 4, 2));
            EXPECT_EQ(MEMTX_OK, store(B, 0));
            EXPECT_EQ(MEMTX_OK, store(A + 8, 5));
        } else if (data == 2) {
            EXPECT_EQ(MEMTX_OK, store(A + 12, 6)) << "behind what is queued already";
        }
        order.push_back(data * 10);
        busy = false;
        return MEMTX_OK;
    };
    b.on_write = [&](hwaddr, uint64_t, unsigned) { return store(A, 4); };
    ASSERT_EQ(0, memory_region_set_reentrancy(&a.mr, MEMORY_REENTRANCY_QUEUE));
    EXPECT_EQ(MEMTX_OK, store(A, 1));
    EXPECT_EQ((std::vector<uint64_t>{1, 10, 2, 20, 4, 40, 5, 50, 6, 60}), order);
}

TEST_F(Reentrancy, AQueuedReadIsRefused)
{
    MemTxResult inner = MEMTX_OK;

    a.on_read = [&](hwaddr, uint64_t *data, unsigned) { return *data = 7, inner = load(A), MEMTX_OK; };
    ASSERT_EQ(0, memory_region_set_reentrancy(&a.mr, MEMORY_REENTRANCY_QUEUE));
    uint32_t value = 0;
    EXPECT_EQ(MEMTX_OK, load(A, &value));
    EXPECT_EQ(7u, value);
    EXPECT_EQ(MEMTX_ACCESS_ERROR, inner);
}

TEST_F(Reentrancy, ADeviceThatFeedsItselfEnds)
{
    int calls = 0, refused = 0;

    a.on_write = [&](hwaddr, uint64_t, unsigned) {
        calls++;
        refused += store(A, 0) == MEMTX_ACCESS_ERROR;
        return MEMTX_OK;
    };
    ASSERT_EQ(0, memory_region_set_reentrancy(&a.mr, MEMORY_REENTRANCY_QUEUE));
    EXPECT_EQ(MEMTX_OK, store(A, 0));
    EXPECT_EQ(1 + MEMORY_REENTRANCY_QUEUE_MAX, calls);
    EXPECT_EQ(1, refused);
}

TEST_F(Reentrancy, ErrorsOfQueuedWritesAreNotLost)
{
    a.on_write = [&](hwaddr, uint64_t data, unsigned) {
        if (data == 1) {
            EXPECT_EQ(MEMTX_OK, store(A, 2));
        }
        return data == 2 ? MEMTX_ERROR : MEMTX_OK;
    };
    ASSERT_EQ(0, memory_region_set_reentrancy(&a.mr, MEMORY_REENTRANCY_QUEUE));
    EXPECT_EQ(MEMTX_ERROR, store(A, 1));
}

TEST_F(Reentrancy, AQueuedWriteGoesWhereItWasSent)
{
    std::vector<uint64_t> got;

    a.on_write = [&](hwaddr addr, uint64_t data, unsigned) {
        got.push_back(addr);
        if (data == 1) {
            EXPECT_EQ(MEMTX_OK, store(A + 0x10, 2));
            EXPECT_EQ(0, memory_region_set_address(&a.mr, 0x5000));
        }
        return MEMTX_OK;
    };
    ASSERT_EQ(0, memory_region_set_reentrancy(&a.mr, MEMORY_REENTRANCY_QUEUE));
    EXPECT_EQ(MEMTX_OK, store(A, 1));
    EXPECT_EQ((std::vector<uint64_t>{0, 0x10}), got);
}

TEST_F(Reentrancy, AScopeIsACallThatNoAccessBegan)
{
    std::vector<uint64_t> written;
    MemoryGuardScope scope, inner;

    a.on_write = [&](hwaddr, uint64_t data, unsigned) { return written.push_back(data), MEMTX_OK; };
    b.on_write = [&](hwaddr, uint64_t, unsigned) { return store(A, 3); };
    ASSERT_EQ(0, memory_region_set_guard(&a.mr, this));
    ASSERT_EQ(0, memory_region_set_reentrancy(&a.mr, MEMORY_REENTRANCY_REFUSE));
    EXPECT_EQ(-EINVAL, memory_guard_begin(&scope, nullptr));
    EXPECT_EQ(-EINVAL, memory_guard_begin(nullptr, this));
    ASSERT_EQ(0, memory_guard_begin(&scope, this));
    EXPECT_EQ(-EBUSY, memory_guard_begin(&inner, this));
    ASSERT_EQ(0, memory_guard_begin(&inner, &inner)) << "another device's";
    EXPECT_EQ(MEMTX_ACCESS_ERROR, store(A, 1));
    EXPECT_EQ(MEMTX_ACCESS_ERROR, store(B, 1));
    EXPECT_EQ(MEMTX_OK, memory_guard_end(&inner));
    EXPECT_EQ(MEMTX_OK, memory_guard_end(&scope));
    EXPECT_EQ(MEMTX_OK, store(A, 1));
    EXPECT_EQ((std::vector<uint64_t>{1}), written);

    ASSERT_EQ(0, memory_region_set_reentrancy(&a.mr, MEMORY_REENTRANCY_QUEUE));
    ASSERT_EQ(0, memory_guard_begin(&scope, this));
    EXPECT_EQ(MEMTX_OK, store(A, 2));
    EXPECT_EQ(MEMTX_OK, store(B, 2));
    EXPECT_EQ(1u, written.size());
    EXPECT_EQ(MEMTX_OK, memory_guard_end(&scope));
    EXPECT_EQ((std::vector<uint64_t>{1, 2, 3}), written);
}

/* R3 holds for policies as for the map: what a thread has cached must not run past a new one. */
TEST_F(Reentrancy, APolicyIsInForceWhenTheCallThatSetItReturns)
{
    MemTxResult inner = MEMTX_OK;
    Device fast;

    device_init(&fast, "fast", 0x100);
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x4000, &fast.mr));
    a.on_write = [&](hwaddr, uint64_t, unsigned) { return inner = store(0x4000, 0), MEMTX_OK; };
    ASSERT_EQ(0, memory_region_set_guard(&a.mr, this));
    EXPECT_EQ(MEMTX_OK, store(0x4000, 0));
    EXPECT_EQ(MEMTX_OK, store(A, 0));
    EXPECT_EQ(MEMTX_OK, inner);
    ASSERT_EQ(0, memory_region_set_guard(&fast.mr, this));
    ASSERT_EQ(0, memory_region_set_reentrancy(&fast.mr, MEMORY_REENTRANCY_REFUSE));
    EXPECT_EQ(MEMTX_OK, store(A, 0));
    EXPECT_EQ(MEMTX_ACCESS_ERROR, inner);
    ASSERT_EQ(0, memory_region_set_reentrancy(&fast.mr, MEMORY_REENTRANCY_ALLOW));
    EXPECT_EQ(MEMTX_OK, store(A, 0));
    EXPECT_EQ(MEMTX_OK, inner);
    ASSERT_EQ(0, memory_region_del_subregion(&root, &fast.mr));
    ASSERT_EQ(0, memory_region_destroy(&fast.mr));
    ASSERT_EQ(0, memory_region_quiesce(&fast.mr));
}

TEST_F(Reentrancy, AnAbortPutsThePolicyBack)
{
    int depth = 0;

    a.on_write = [&](hwaddr, uint64_t, unsigned) { return ++depth < 3 ? store(A, 0) : MEMTX_OK; };
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_set_reentrancy(&a.mr, MEMORY_REENTRANCY_REFUSE));
    ASSERT_EQ(0, memory_region_set_guard(&a.mr, this));
    memory_transaction_abort();
    EXPECT_EQ(MEMORY_REENTRANCY_ALLOW, memory_region_get_reentrancy(&a.mr));
    EXPECT_EQ(MEMTX_OK, store(A, 0));
    EXPECT_EQ(3, depth);
    EXPECT_EQ(-EINVAL, memory_region_set_reentrancy(&a.mr, (MemoryReentrancy)3));
    EXPECT_EQ(-EINVAL, memory_region_set_reentrancy(nullptr, MEMORY_REENTRANCY_REFUSE));
    EXPECT_EQ(-EINVAL, memory_region_set_guard(nullptr, this));
}

/*
 * CVE-2023-0330: QEMU's lsi53c895a. The guest's script tells the controller to move data into the controller's own registers,
 * through its other region. A write there resets it, which frees the request that the move is still using.
 */
struct Lsi {
    Actor *registers, *mmio;
    bool has_request;
    int used_after_free;
};

class Cve20230330 : public Actors {
protected:
    void build(bool guarded)
    {
        a.on_write = [this](hwaddr, uint64_t, unsigned) { /* start the script */
            lsi.has_request = true;
            dma = store(B, 1);
            lsi.used_after_free += !lsi.has_request; /* completes the request that it has begun */
            lsi.has_request = false;
            return MEMTX_OK;
        };
        b.on_write = [this](hwaddr, uint64_t, unsigned) { /* software reset */
            lsi.has_request = false;
            return MEMTX_OK;
        };
        if (guarded) {
            for (MemoryRegion *mr : {&a.mr, &b.mr}) {
                ASSERT_EQ(0, memory_region_set_guard(mr, &lsi));
                ASSERT_EQ(0, memory_region_set_reentrancy(mr, MEMORY_REENTRANCY_REFUSE));
            }
        }
    }

    Lsi lsi = {};
    MemTxResult dma = MEMTX_OK;
};

TEST_F(Cve20230330, HappensWithoutAGuard)
{
    build(false);
    ASSERT_EQ(MEMTX_OK, store(A, 1));
    EXPECT_EQ(1, lsi.used_after_free) << "or the model proves nothing";
}

TEST_F(Cve20230330, IsRefusedUnderAGuard)
{
    build(true);
    ASSERT_EQ(MEMTX_OK, store(A, 1));
    EXPECT_EQ(MEMTX_ACCESS_ERROR, dma);
    EXPECT_EQ(0, lsi.used_after_free);
    EXPECT_EQ(MEMTX_OK, store(B, 1)) << "the guest's own reset is none of this";
}

/*
 * CVE-2020-13754: QEMU's MSI-X table. Accesses wider than the device said it takes reached its handlers, which trusted that the
 * offset of the last entry leaves room for what they were asked for.
 */
struct Msix {
    MemoryRegion mr;
    uint32_t table[0x40], beyond;
    int out_of_bounds;
};

const MemoryRegionOps *msix_ops()
{
    static const MemoryRegionOps ops = [] {
        MemoryRegionOps o = {};
        o.read = [](MemoryRegion *mr, hwaddr addr, unsigned size) -> uint64_t {
            Msix *m = reinterpret_cast<Msix *>(mr);
            m->out_of_bounds += size != 4 || addr % 4 || addr + size > sizeof(m->table);
            return m->table[addr / 4 % 0x40];
        };
        o.write = [](MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size) {
            Msix *m = reinterpret_cast<Msix *>(mr);
            m->out_of_bounds += size != 4 || addr % 4 || addr + size > sizeof(m->table);
            m->table[addr / 4 % 0x40] = (uint32_t)data;
        };
        o.endianness = MEMORY_LITTLE_ENDIAN;
        o.valid.min_access_size = o.valid.max_access_size = 4;
        o.impl.min_access_size = o.impl.max_access_size = 4;
        return o;
    }();
    return &ops;
}

TEST_F(Reentrancy, Cve202013754NoHandlerSeesASizeThatIsNotValid)
{
    Msix msix = {};
    ASSERT_EQ(0, memory_region_init_io(&msix.mr, msix_ops(), "msix", sizeof(msix.table)));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x8000, &msix.mr));
    for (int guarded = 0; guarded < 2; guarded++) {
        for (hwaddr at = 0x8000; at < 0x8000 + sizeof(msix.table); at++) {
            for (hwaddr len : {1u, 2u, 4u, 8u, 12u}) {
                uint64_t value[2] = {};
                bool inside = at + len <= 0x8000 + sizeof(msix.table), aligned = at % 4 == 0 && len % 4 == 0;
                MemTxResult want = !inside || !aligned ? MEMTX_DECODE_ERROR : MEMTX_OK;
                EXPECT_EQ(want, address_space_read(&as, at, MEMTXATTRS_UNSPECIFIED, value, len)) << at << " " << len;
                EXPECT_EQ(want, address_space_write(&as, at, MEMTXATTRS_UNSPECIFIED, value, len)) << at << " " << len;
            }
            uint64_t quad;
            uint16_t half;
            EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldq_le(&as, at, MEMTXATTRS_UNSPECIFIED, &quad));
            EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_stq_le(&as, at, MEMTXATTRS_UNSPECIFIED, 0));
            EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_lduw_le(&as, at, MEMTXATTRS_UNSPECIFIED, &half));
            EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_stb(&as, at, MEMTXATTRS_UNSPECIFIED, 0));
        }
        ASSERT_EQ(0, memory_region_set_reentrancy(&msix.mr, MEMORY_REENTRANCY_QUEUE));
    }
    EXPECT_EQ(0, msix.out_of_bounds);
    ASSERT_EQ(0, memory_region_del_subregion(&root, &msix.mr));
    ASSERT_EQ(0, memory_region_destroy(&msix.mr));
    ASSERT_EQ(0, memory_region_quiesce(&msix.mr));
}

} // namespace
