/* SPDX-License-Identifier: MIT */
/*
 * coalesced_test.cc - writes that KVM collects in its ring: in which order they arrive, when, and that none is lost.
 */
#include "kvm/device.h"
#include "kvm/machine.h"

#include <atomic>
#include <cerrno>
#include <mutex>
#include <thread>

#include <sys/ioctl.h>

#include <gtest/gtest.h>

namespace {

/* Notes each write, in the order of delivery. */
struct Screen {
    MemoryRegion mr; /* first */
    std::mutex lock;
    std::vector<uint32_t> writes;
    uint64_t reads = 0;
    void (*on_write)(Screen *, uint32_t) = nullptr;

    size_t seen()
    {
        std::lock_guard<std::mutex> guard(lock);
        return writes.size();
    }
};

const MemoryRegionOps *screen_ops()
{
    static MemoryRegionOps ops = make_ops();

    ops.read = [](MemoryRegion *mr, hwaddr, unsigned) -> uint64_t {
        return reinterpret_cast<Screen *>(mr)->seen();
    };
    ops.write = [](MemoryRegion *mr, hwaddr, uint64_t data, unsigned) {
        Screen *s = reinterpret_cast<Screen *>(mr);
        {
            std::lock_guard<std::mutex> guard(s->lock);
            s->writes.push_back(uint32_t(data));
        }
        if (s->on_write) {
            s->on_write(s, uint32_t(data));
        }
    };
    return &ops;
}

TEST(KvmCoalesced, CoalescedWritesArriveInOrderBeforeAReadAndWithoutExits)
{
    Machine m;
    Screen s, port;

    ASSERT_EQ(memory_region_init_io(&s.mr, screen_ops(), "screen", 0x1000), 0);
    ASSERT_EQ(memory_region_init_io(&port.mr, screen_ops(), "port", 8), 0);
    ASSERT_EQ(memory_region_set_coalescing(&s.mr), 0);
    ASSERT_EQ(memory_region_set_coalescing(&port.mr), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xd0000000, &s.mr), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.io_root, 0x3c0, &port.mr), 0);
    EXPECT_EQ(m.stats().coalesced_zones, 2u);
    EXPECT_EQ(m.stats().coalesced_refused, 0u);

    /* Half a ring: kernels before 6.12 may think it full then. */
    std::vector<Op> done = m.run(0, {{OP_SERIES, 0xd0000010, 0, 50}, {OP_LOAD32, 0xd0000000, 0, 0}});
    EXPECT_EQ(done[1].value, 50u) << "the device has seen them when it is read";
    EXPECT_EQ(m.stats().mmio_exits, 1u) << "the read";
    EXPECT_EQ(m.stats().coalesced_writes, 50u);

    /* More than KVM's ring holds: the one that finds it full is an exit, behind the others. */
    m.run(0, {{OP_SERIES, 0xd0000010, 50, 950}});
    EXPECT_EQ(memory_region_flush_coalesced(&s.mr), 0);
    ASSERT_EQ(s.seen(), 1000u);
    for (uint32_t i = 0; i < 1000; i++) {
        ASSERT_EQ(s.writes[i], i);
    }
    m.run(0, {{OP_OUT8, 0x3c1, 'a', 0}, {OP_OUT8, 0x3c1, 'b', 0}});
    EXPECT_EQ(memory_region_flush_coalesced(&port.mr), 0);
    EXPECT_EQ(port.writes, (std::vector<uint32_t>{'a', 'b'}));
    EXPECT_EQ(m.stats().pio_exits, 0u);

    ASSERT_EQ(memory_region_set_address(&s.mr, 0xd1000000), 0);
    m.run(0, {{OP_STORE32, 0xd1000000, 1000, 0}, {OP_STORE32, 0xd0000000, 1, 0}});
    EXPECT_EQ(memory_region_flush_coalesced(&s.mr), 0);
    EXPECT_EQ(s.writes.back(), 1000u) << "it follows its region";
    EXPECT_EQ(m.stats().unassigned, 1u);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &s.mr), 0);
    ASSERT_EQ(memory_region_del_subregion(&m.io_root, &port.mr), 0);
    EXPECT_EQ(m.stats().coalesced_zones, 0u);
    end(&s.mr);
    end(&port.mr);
}

/* KVM collects what it is told to, of any width. */
TEST(KvmCoalesced, ACoalescedWriteThatTheOpsRefuseHasNoEffectOnThoseAroundIt)
{
    Machine m;
    Screen s;
    MemoryRegionOps wide = *screen_ops();

    wide.valid.min_access_size = 4;
    ASSERT_EQ(memory_region_init_io(&s.mr, &wide, "screen", 0x1000), 0);
    ASSERT_EQ(memory_region_set_coalescing(&s.mr), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xd0000000, &s.mr), 0);
    m.run(0, {{OP_STORE32, 0xd0000000, 1, 0}, {OP_STORE8, 0xd0000004, 2, 0}, {OP_STORE32, 0xd0000008, 3, 0}});
    EXPECT_EQ(memory_region_flush_coalesced(&s.mr), 0);
    EXPECT_EQ(s.writes, (std::vector<uint32_t>{1, 3}));
    EXPECT_EQ(m.stats().unassigned, 1u);
    EXPECT_EQ(m.stats().coalesced_writes, 3u);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &s.mr), 0);
    end(&s.mr);
}

TEST(KvmCoalesced, ACoalescedWriteArrivesInTimeWhileTheGuestGoesOn)
{
    Machine m;
    Screen s;
    std::atomic<bool> done{false};

    ASSERT_EQ(memory_region_init_io(&s.mr, screen_ops(), "screen", 0x1000), 0);
    ASSERT_EQ(memory_region_set_coalescing(&s.mr), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xd0000000, &s.mr), 0);
    std::thread thread([&] {
        m.run(0, {{OP_STORE32, 0xd0000000, 7, 0}, {OP_HAMMER, 0x600000, 0, 0xffffffff}});
        done = true;
    });
    while (s.seen() == 0) {
        std::this_thread::yield();
    }
    EXPECT_EQ(m.stats().mmio_exits, 0u);
    while (!done) {
        flatview_kvm_vcpu_kick(m.vcpus[0]);
        std::this_thread::yield();
    }
    thread.join();
    ASSERT_EQ(memory_region_del_subregion(&m.root, &s.mr), 0);
    end(&s.mr);
}

MemoryRegion *its_window;

TEST(KvmCoalesced, NoCoalescedWriteIsLostOrOvertakenWhileItsRangeComesAndGoes)
{
    constexpr uint32_t TURNS = 60, BURST = 150;
    FlatviewKvmConfig config = {};
    config.coalesced_ms = 2;
    Machine m(2, config);
    Screen s;
    MemoryRegion window;
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> moves{0};
    std::vector<std::thread> threads;

    ASSERT_EQ(memory_region_init_io(&s.mr, screen_ops(), "screen", 0x2000), 0);
    ASSERT_EQ(memory_region_init(&window, "window", 0x1000), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xe0000000, &window), 0);
    its_window = &window;
    /* The device changes the map from the callback of a coalesced write, as an adapter does that switches its windows. */
    s.on_write = [](Screen *, uint32_t data) {
        if (data % 97 == 0) {
            EXPECT_EQ(memory_region_set_address(its_window, 0xe0000000 + 0x1000 * (data % 7)), 0);
        }
    };
    ASSERT_EQ(memory_region_add_coalescing(&s.mr, 0, 0x1000), 0);
    ASSERT_EQ(memory_region_add_coalescing(&s.mr, 0x1000, 0x800), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xd0000000, &s.mr), 0);
    for (unsigned i = 0; i < 2; i++) {
        threads.emplace_back([&, i] {
            for (uint32_t turn = 0; turn < TURNS; turn++) {
                m.run(i, {{OP_SERIES, 0xd0000010 + 0x1000 * i, i << 24 | turn * BURST, BURST}});
            }
        });
    }
    threads.emplace_back([&] {
        while (!stop) {
            int err = moves % 3 == 2 ? memory_region_set_address(&s.mr, moves % 2 ? 0xd0000000 : 0xd0010000)
                                     : memory_region_set_enabled(&s.mr, moves % 3);

            EXPECT_TRUE(err == 0 || err == -EAGAIN) << err;
            moves++;
            std::this_thread::yield();
        }
    });
    threads[0].join();
    threads[1].join();
    stop = true;
    threads[2].join();
    EXPECT_EQ(memory_region_flush_coalesced(&s.mr), 0);
    EXPECT_EQ(s.seen() + m.stats().unassigned, 2u * TURNS * BURST);
    EXPECT_GT(s.seen(), 0u);
    EXPECT_GT(m.stats().coalesced_writes, 0u);
    EXPECT_EQ(m.stats().coalesced_lost, 0u);
    uint32_t last[2] = {0, 0};
    for (uint32_t value : s.writes) {
        unsigned i = value >> 24 & 1;

        EXPECT_GE(value & 0xffffff, last[i]) << "vCPU " << i;
        last[i] = value & 0xffffff;
    }
    printf("%zu of %u coalesced writes met their device, %lu moves\n", s.seen(), 2 * TURNS * BURST, (unsigned long)moves);
    s.on_write = nullptr;
    ASSERT_EQ(memory_region_set_enabled(&s.mr, true), 0);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &s.mr), 0);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &window), 0);
    end(&s.mr);
    end(&window);
}

TEST(KvmCoalesced, ARangeThatTheKernelDoesNotCoalesceIsCoalescedAfterTheExit)
{
    struct Refusals {
        std::atomic<bool> additions{true}, removals{false};
    } refusals;
    FlatviewKvmConfig config = {};
    config.ioctl_arg = &refusals;
    config.ioctl = [](void *arg, int fd, unsigned long request, void *data) {
        auto r = static_cast<Refusals *>(arg);
        if ((request == KVM_REGISTER_COALESCED_MMIO && r->additions) ||
            (request == KVM_UNREGISTER_COALESCED_MMIO && r->removals)) {
            errno = ENOMEM;
            return -1;
        }
        return ioctl(fd, request, data);
    };
    Machine m(1, config);
    Screen s;

    ASSERT_EQ(memory_region_init_io(&s.mr, screen_ops(), "screen", 0x1000), 0);
    ASSERT_EQ(memory_region_set_coalescing(&s.mr), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xd0000000, &s.mr), 0);
    EXPECT_EQ(m.stats().coalesced_refused, 1u);
    EXPECT_EQ(m.run(0, {{OP_SERIES, 0xd0000010, 0, 10}, {OP_LOAD32, 0xd0000000, 0, 0}})[1].value, 10u);
    EXPECT_EQ(m.stats().mmio_exits, 11u);

    refusals.additions = false;
    ASSERT_EQ(memory_region_set_address(&s.mr, 0xd1000000), 0);
    EXPECT_EQ(m.stats().coalesced_zones, 1u);
    refusals.removals = true;
    ASSERT_EQ(memory_region_set_enabled(&s.mr, false), 0);
    EXPECT_EQ(m.stats().coalesced_zones, 1u) << "stuck";
    m.load32(0x200000);
    EXPECT_EQ(m.error, -ENOMEM) << "no vCPU runs while a range is coalesced that is not there";
    refusals.removals = false;
    m.store32(0xd1000000, 1);
    EXPECT_EQ(m.error, 0);
    EXPECT_EQ(m.stats().coalesced_zones, 0u);
    EXPECT_EQ(m.stats().unassigned, 1u);
    EXPECT_EQ(s.seen(), 10u);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &s.mr), 0);
    end(&s.mr);
}

}
