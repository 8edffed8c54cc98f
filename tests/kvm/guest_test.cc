/* SPDX-License-Identifier: MIT */
/*
 * guest_test.cc - guest code on real KVM, whose slots follow the map. Run by boot.py as the init of a machine that has
 * /dev/kvm; run by hand, it uses the host's.
 */
#include "kvm/device.h"
#include "kvm/machine.h"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <random>
#include <string>
#include <thread>

#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace {

TEST(KvmGuest, ReadsAndWritesMemoryThroughSlots)
{
    Machine m;

    m.store32(0x200000, 0x12345678);
    EXPECT_EQ(m.load32(0x200000), 0x12345678u);
    EXPECT_EQ(m.stats().mmio_exits, 0u);
    EXPECT_EQ(m.slots().size(), 1u);
    EXPECT_EQ(m.difference(), "");
}

TEST(KvmGuest, ADeviceAnswersWithTheGuestsOwnWidth)
{
    Machine m;
    Device d;

    ASSERT_EQ(memory_region_init_io(&d.mr, &device_ops, "device", 0x1000), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xd0000000, &d.mr), 0);
    EXPECT_EQ(m.load32(0xd0000010), 0x1000010u);
    EXPECT_EQ(d.last_size, 4u);
    EXPECT_EQ(m.run(0, {{OP_LOAD16, 0xd0000020, 0, 0}})[0].value, 0x20u);
    EXPECT_EQ(d.last_size, 2u);
    m.run(0, {{OP_STORE8, 0xd0000000, 0xab, 0}});
    EXPECT_EQ(d.last, 0xabu);
    EXPECT_EQ(d.last_size, 1u);
    EXPECT_EQ(m.stats().mmio_exits, 3u);
    EXPECT_EQ(m.load32(0xe0000000), 0xffffffffu) << "nothing answers there";
    EXPECT_EQ(m.stats().unassigned, 1u);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &d.mr), 0);
    end(&d.mr);
}

TEST(KvmGuest, AMirrorNeitherBeginsNorEndsInsideOfACommit)
{
    struct Watcher {
        MemoryListener listener; /* first */
        FlatviewKvm *kvm;
        int err;
    } watcher = {};
    Machine m(0);
    FlatviewKvmConfig config = {};
    FlatviewKvm *other = nullptr;

    watcher.kvm = m.kvm;
    watcher.listener.commit = [](MemoryListener *listener) {
        auto w = reinterpret_cast<Watcher *>(listener);
        w->err = flatview_kvm_free(w->kvm);
    };
    ASSERT_EQ(memory_listener_register(&watcher.listener, &m.memory), 0);
    EXPECT_EQ(watcher.err, -EBUSY);
    watcher.err = 0;
    ASSERT_EQ(memory_region_set_enabled(&m.ram, false), 0);
    EXPECT_EQ(watcher.err, -EBUSY);
    watcher.listener.commit = nullptr;
    ASSERT_EQ(memory_listener_unregister(&watcher.listener), 0);
    EXPECT_TRUE(m.slots().empty());

    config.vm_fd = m.vm_fd;
    config.memory = &m.memory;
    ASSERT_EQ(memory_transaction_begin(), 0);
    EXPECT_EQ(flatview_kvm_new(&config, &other), -EBUSY);
    EXPECT_EQ(flatview_kvm_free(m.kvm), -EBUSY);
    ASSERT_EQ(memory_transaction_commit(), 0);
    EXPECT_EQ(address_space_flush_coalesced(&m.memory), 0) << "asks nobody who is not there";
    ASSERT_EQ(memory_region_set_enabled(&m.ram, true), 0);
    EXPECT_EQ(m.slots().size(), 1u);
}

TEST(KvmGuest, PortsAreASpaceOfTheirOwn)
{
    Machine m;
    Device d;

    ASSERT_EQ(memory_region_init_io(&d.mr, &device_ops, "port", 8), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.io_root, 0x3f8, &d.mr), 0);
    EXPECT_EQ(m.run(0, {{OP_OUT8, 0x3f8, 'x', 0}, {OP_IN8, 0x3fd, 0, 0}})[1].value, 5u);
    EXPECT_EQ(d.last, uint64_t('x'));
    EXPECT_EQ(m.stats().pio_exits, 2u);
    ASSERT_EQ(memory_region_del_subregion(&m.io_root, &d.mr), 0);
    end(&d.mr);
}

TEST(KvmGuest, WritesToRomAreDroppedAndToARomDeviceAreItsOwn)
{
    Machine m;
    MemoryRegion rom;
    Device d;
    uint32_t pattern = 0xfeedface;

    ASSERT_EQ(memory_region_init_rom(&rom, "rom", 0x2000), 0);
    memcpy(memory_region_get_ram_ptr(&rom), &pattern, 4);
    ASSERT_EQ(memory_region_init_rom_device(&d.mr, &device_ops, "flash", 0x2000), 0);
    memcpy(memory_region_get_ram_ptr(&d.mr), &pattern, 4);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xe0000000, &rom), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xe1000000, &d.mr), 0);
    EXPECT_EQ(m.slots().size(), 3u);
    m.store32(0xe0000000, 1);
    EXPECT_EQ(m.load32(0xe0000000), pattern);
    m.store32(0xe1000000, 0x42);
    EXPECT_EQ(d.last, 0x42u);
    EXPECT_EQ(m.load32(0xe1000000), pattern);
    EXPECT_EQ(d.reads, 0u);
    ASSERT_EQ(memory_region_rom_device_set_romd(&d.mr, false), 0);
    EXPECT_EQ(m.slots().size(), 2u);
    EXPECT_EQ(m.load32(0xe1000004), 0x1000004u) << "out of read mode the device answers";
    EXPECT_EQ(m.difference(), "");
    ASSERT_EQ(memory_region_del_subregion(&m.root, &rom), 0);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &d.mr), 0);
    end(&rom);
    end(&d.mr);
}

TEST(KvmGuest, SlotsStickWhenADeviceComesAndGoes)
{
    Machine m;
    Device d;

    ASSERT_EQ(memory_region_init_io(&d.mr, &device_ops, "device", 0x1000), 0);
    m.store32(0x400000, 7);
    ASSERT_EQ(memory_region_add_subregion_overlap(&m.root, 0x400000, &d.mr, 1), 0);
    EXPECT_EQ(m.slots().size(), 2u);
    EXPECT_EQ(m.load32(0x400000), 0x1000000u);
    EXPECT_EQ(m.stats().stops, 1u) << "the one slot had to shrink";

    ASSERT_EQ(memory_region_del_subregion(&m.root, &d.mr), 0);
    std::vector<FlatviewKvmSlot> split = m.slots();

    EXPECT_EQ(split.size(), 3u) << "the gap became a slot, nothing was merged";
    EXPECT_EQ(m.load32(0x400000), 7u);
    for (int i = 0; i < 10; i++) {
        ASSERT_EQ(memory_region_add_subregion_overlap(&m.root, 0x400000, &d.mr, 1), 0);
        ASSERT_EQ(memory_region_del_subregion(&m.root, &d.mr), 0);
    }
    EXPECT_EQ(m.stats().stops, 1u);
    EXPECT_EQ(m.slots()[0].id, split[0].id);
    EXPECT_EQ(m.slots()[2].id, split[2].id);
    EXPECT_EQ(m.stats().added, 3u + 1 + 10);
    EXPECT_EQ(m.difference(), "");
    end(&d.mr);
}

TEST(KvmGuest, WhatIsSmallerThanAPageIsDispatched)
{
    Machine m;
    Device d;

    ASSERT_EQ(memory_region_init_io(&d.mr, &device_ops, "small", 0x10), 0);
    m.store32(0x500ffc, 1);
    m.store32(0x500000, 2);
    m.store32(0x500020, 3);
    ASSERT_EQ(memory_region_add_subregion_overlap(&m.root, 0x500010, &d.mr, 1), 0);
    EXPECT_EQ(m.load32(0x500010), 0x1000000u);
    EXPECT_EQ(m.load32(0x500000), 2u);
    EXPECT_EQ(m.load32(0x500020), 3u);
    m.store32(0x500ffc, 9);
    EXPECT_EQ(m.load32(0x500ffc), 9u);
    EXPECT_EQ(m.stats().mmio_exits, 5u);
    EXPECT_EQ(m.difference(), "");
    ASSERT_EQ(memory_region_del_subregion(&m.root, &d.mr), 0);
    EXPECT_EQ(m.load32(0x500ffc), 9u) << "what the device did not cover was memory all the time";
    end(&d.mr);
}

TEST(KvmGuest, TheSlotLimitRefusesTheChangeAndNothingElse)
{
    FlatviewKvmConfig config = {};
    config.max_slots = 3;
    Machine m(1, config);
    MemoryRegion more[3];

    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(memory_region_init_ram(&more[i], "more", 0x10000), 0);
    }
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0x40000000, &more[0]), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0x41000000, &more[1]), 0);
    EXPECT_EQ(memory_region_add_subregion(&m.root, 0x42000000, &more[2]), -ENOSPC);
    EXPECT_EQ(memory_region_get_parent(&more[2]), nullptr);
    EXPECT_EQ(m.stats().refused_commits, 1u);
    EXPECT_EQ(m.load32(0x42000000), 0xffffffffu);
    m.store32(0x41000000, 5);
    EXPECT_EQ(m.load32(0x41000000), 5u);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &more[0]), 0);
    EXPECT_EQ(memory_region_add_subregion(&m.root, 0x42000000, &more[2]), 0) << "now there is room";
    EXPECT_EQ(m.difference(), "");
    ASSERT_EQ(memory_region_del_subregion(&m.root, &more[1]), 0);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &more[2]), 0);
    for (MemoryRegion &mr : more) {
        end(&mr);
    }
}

/* ---- the kernel says no ---- */

struct Faults {
    std::atomic<bool> additions{false}, removals{false};
};

int faulty_ioctl(void *arg, int fd, unsigned long request, void *data)
{
    const auto *faults = static_cast<Faults *>(arg);
    const auto *region = static_cast<kvm_userspace_memory_region *>(data);

    if (request == KVM_SET_USER_MEMORY_REGION && (region->memory_size ? faults->additions : faults->removals)) {
        errno = ENOMEM;
        return -1;
    }
    return ioctl(fd, request, data);
}

TEST(KvmGuest, ASlotThatTheKernelRefusesIsDispatchedAndAskedForAgain)
{
    Faults faults;
    FlatviewKvmConfig config = {};
    config.ioctl = faulty_ioctl;
    config.ioctl_arg = &faults;
    Machine m(1, config);
    MemoryRegion more, other;

    ASSERT_EQ(memory_region_init_ram(&more, "more", 0x10000), 0);
    ASSERT_EQ(memory_region_init_ram(&other, "other", 0x10000), 0);
    faults.additions = true;
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0x40000000, &more), 0) << "published: too late to refuse";
    EXPECT_EQ(m.stats().missing, 1u);
    EXPECT_EQ(m.stats().last_error, -ENOMEM);
    m.store32(0x40000100, 77);
    EXPECT_EQ(m.load32(0x40000100), 77u);
    EXPECT_EQ(m.stats().mmio_exits, 2u);
    EXPECT_EQ(flatview_kvm_retry(m.kvm), -ENOMEM);
    faults.additions = false;
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0x41000000, &other), 0) << "any commit asks again";
    EXPECT_EQ(m.stats().missing, 0u);
    EXPECT_EQ(m.load32(0x40000100), 77u);
    EXPECT_EQ(m.stats().mmio_exits, 2u) << "from its slot now";
    EXPECT_EQ(m.difference(), "");
    ASSERT_EQ(memory_region_del_subregion(&m.root, &more), 0);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &other), 0);
    end(&more);
    end(&other);
}

TEST(KvmGuest, ASlotThatTheKernelKeepsKeepsTheGuestOut)
{
    Faults faults;
    FlatviewKvmConfig config = {};
    config.ioctl = faulty_ioctl;
    config.ioctl_arg = &faults;
    Machine m(1, config);
    MemoryRegion more;

    ASSERT_EQ(memory_region_init_ram(&more, "more", 0x10000), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0x40000000, &more), 0);
    faults.removals = true;
    ASSERT_EQ(memory_region_del_subregion(&m.root, &more), 0);
    EXPECT_EQ(m.stats().stuck, 1u);
    m.load32(0x40000000);
    EXPECT_EQ(m.error, -ENOMEM) << "not a single instruction on a map that is not true";
    faults.removals = false;
    EXPECT_EQ(m.load32(0x40000000), 0xffffffffu);
    EXPECT_EQ(m.error, 0);
    EXPECT_EQ(m.stats().stuck, 0u);
    EXPECT_EQ(m.difference(), "");
    end(&more);
}

/* ---- while it runs ---- */

TEST(KvmGuest, MovesABarFromItsOwnExit)
{
    Machine m;
    Device d;

    ASSERT_EQ(memory_region_init_io(&d.mr, &device_ops, "bar", 0x1000), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xd0000000, &d.mr), 0);
    d.on_write = [](Device *self) {
        if (self->last == 0x51) {
            EXPECT_EQ(memory_region_set_address(&self->mr, 0xd1000000), 0);
        }
    };
    std::vector<Op> done = m.run(0, {{OP_STORE32, 0xd0000000, 0x51, 0},
                                     {OP_LOAD32, 0xd1000004, 0, 0},
                                     {OP_LOAD32, 0xd0000004, 0, 0}});
    EXPECT_EQ(done[1].value, 0x1000004u) << "the next instruction finds it at its new place";
    EXPECT_EQ(done[2].value, 0xffffffffu);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &d.mr), 0);
    end(&d.mr);
}

TEST(KvmGuest, GoesOnWhileItsOwnMemoryIsSplitUnderIt)
{
    Machine m(2);
    Device d;
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    std::atomic<uint32_t> differences{0};
    int err = 0;

    ASSERT_EQ(memory_region_init_io(&d.mr, &device_ops, "device", 0x1000), 0);
    for (unsigned i = 0; i < 2; i++) {
        threads.emplace_back([&, i] {
            while (!stop) {
                differences += m.run(i, {{OP_HAMMER, 0x600000 + 0x1000 * i, 0, 20000}})[0].value;
            }
        });
    }
    /* Every place is new: every time a slot that the guest's code or data lies in has to shrink. */
    for (uint32_t at = 0; at < 60 && !err; at++) {
        err = memory_region_add_subregion_overlap(&m.root, 0x700000 + 0x10000 * at, &d.mr, 1);
        if (!err) {
            err = memory_region_del_subregion(&m.root, &d.mr);
        }
    }
    stop = true;
    for (std::thread &thread : threads) {
        thread.join();
    }
    EXPECT_EQ(err, 0);
    EXPECT_EQ(differences, 0u);
    EXPECT_GE(m.stats().stops, 30u);
    EXPECT_EQ(m.difference(), "");
    end(&d.mr);
}

TEST(KvmGuest, SeesAWindowOfMemoryOrNothingWhileItMoves)
{
    Machine m(2);
    MemoryRegion window;
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    std::atomic<uint32_t> wrong{0};
    std::mt19937 random(1);
    const hwaddr places[2] = {0x50000000, 0x58000000};
    uint32_t pattern = 0xcafe0001;
    int err = 0;

    ASSERT_EQ(memory_region_init_ram(&window, "window", 0x4000), 0);
    for (int i = 0; i < 0x4000; i += 4) {
        memcpy(static_cast<char *>(memory_region_get_ram_ptr(&window)) + i, &pattern, 4);
    }
    ASSERT_EQ(memory_region_add_subregion(&m.root, places[0], &window), 0);
    for (unsigned i = 0; i < 2; i++) {
        threads.emplace_back([&, i] {
            while (!stop) {
                wrong += m.run(i, {{OP_EXPECT, uint32_t(places[i] + 0x1000), pattern, 3000}})[0].value;
            }
        });
    }
    for (int i = 0; i < 200 && !err; i++) {
        switch (random() % 4) {
        case 0:
            err = memory_region_set_readonly(&window, random() % 2);
            break;
        case 1:
            err = memory_region_set_enabled(&window, random() % 2);
            break;
        default:
            err = memory_region_set_address(&window, places[random() % 2] - 0x1000 * (random() % 2));
            break;
        }
    }
    stop = true;
    for (std::thread &thread : threads) {
        thread.join();
    }
    EXPECT_EQ(err, 0);
    EXPECT_EQ(wrong, 0u);
    EXPECT_EQ(m.difference(), "");
    ASSERT_EQ(memory_region_del_subregion(&m.root, &window), 0);
    end(&window);
}

/* ---- ioeventfds ---- */

uint64_t kicks(int fd)
{
    uint64_t count = 0;

    return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

TEST(KvmGuest, TheKernelKicksIoeventfdsWithoutAnExit)
{
    Machine m;
    Device d, port;
    int bell = eventfd(0, EFD_NONBLOCK), match = eventfd(0, EFD_NONBLOCK), any = eventfd(0, EFD_NONBLOCK);

    ASSERT_EQ(memory_region_init_io(&d.mr, &device_ops, "device", 0x1000), 0);
    ASSERT_EQ(memory_region_init_io(&port.mr, &device_ops, "port", 8), 0);
    ASSERT_EQ(memory_region_add_eventfd(&d.mr, 0x10, 4, false, 0, bell), 0);
    ASSERT_EQ(memory_region_add_eventfd(&d.mr, 0x20, 2, true, 0x77, match), 0);
    ASSERT_EQ(memory_region_add_eventfd(&port.mr, 0, 0, false, 0, any), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xd0000000, &d.mr), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.io_root, 0xc000, &port.mr), 0);
    EXPECT_EQ(m.stats().eventfds, 3u);

    m.run(0, {{OP_STORE32, 0xd0000010, 1, 0}, {OP_STORE32, 0xd0000010, 2, 0}, {OP_STORE16, 0xd0000020, 0x77, 0},
              {OP_OUT8, 0xc000, 1, 0}});
    EXPECT_EQ(kicks(bell), 2u);
    EXPECT_EQ(kicks(match), 1u);
    EXPECT_EQ(kicks(any), 1u);
    EXPECT_EQ(m.stats().mmio_exits, 0u);
    EXPECT_EQ(m.stats().pio_exits, 0u);
    EXPECT_EQ(d.writes, 0u);

    m.run(0, {{OP_STORE16, 0xd0000020, 0x78, 0}, {OP_STORE8, 0xd0000010, 1, 0}});
    EXPECT_EQ(d.writes, 2u) << "another value and another width are the device's";
    EXPECT_EQ(kicks(match) + kicks(bell), 0u);

    ASSERT_EQ(memory_region_set_address(&d.mr, 0xd2000000), 0);
    m.run(0, {{OP_STORE32, 0xd2000010, 1, 0}, {OP_STORE32, 0xd0000010, 1, 0}});
    EXPECT_EQ(kicks(bell), 1u) << "it follows its region";
    ASSERT_EQ(memory_region_del_subregion(&m.root, &d.mr), 0);
    ASSERT_EQ(memory_region_del_subregion(&m.io_root, &port.mr), 0);
    EXPECT_EQ(m.stats().eventfds, 0u);
    m.run(0, {{OP_STORE32, 0xd2000010, 1, 0}});
    EXPECT_EQ(kicks(bell), 0u);
    for (int fd : {bell, match, any}) {
        close(fd);
    }
    end(&d.mr);
    end(&port.mr);
}

TEST(KvmGuest, AnIoeventfdThatTheKernelRefusesIsKickedAllTheSame)
{
    FlatviewKvmConfig config = {};
    config.ioctl = [](void *, int fd, unsigned long request, void *data) {
        if (request == KVM_IOEVENTFD) {
            errno = ENOSPC;
            return -1;
        }
        return ioctl(fd, request, data);
    };
    Machine m(1, config);
    Device d;
    int bell = eventfd(0, EFD_NONBLOCK);

    ASSERT_EQ(memory_region_init_io(&d.mr, &device_ops, "device", 0x1000), 0);
    ASSERT_EQ(memory_region_add_eventfd(&d.mr, 0x10, 4, false, 0, bell), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xd0000000, &d.mr), 0);
    EXPECT_EQ(m.stats().eventfds_refused, 1u);
    m.run(0, {{OP_STORE32, 0xd0000010, 1, 0}});
    EXPECT_EQ(kicks(bell), 1u);
    EXPECT_EQ(m.stats().mmio_exits, 1u);
    EXPECT_EQ(d.writes, 0u);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &d.mr), 0);
    close(bell);
    end(&d.mr);
}

TEST(KvmGuest, NoKickIsLostWhileTheDoorbellMovesUnderIt)
{
    Machine m;
    Device d;
    int bell = eventfd(0, EFD_NONBLOCK);
    std::atomic<bool> stop{false};
    std::atomic<int> moves{0};
    uint64_t seen = 0, written = 0;

    ASSERT_EQ(memory_region_init_io(&d.mr, &device_ops, "device", 0x2000), 0);
    ASSERT_EQ(memory_region_add_eventfd(&d.mr, 0x1000, 4, false, 0, bell), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xd0000000, &d.mr), 0);
    /* A window of the device that grows and shrinks: the doorbell stays visible, the range around it changes. */
    std::thread mover([&] {
        while (!stop) {
            EXPECT_EQ(memory_region_set_size(&d.mr, moves++ % 2 ? 0x2000 : 0x1800), 0);
        }
    });
    while (written < 20000 || moves < 20) {
        m.run(0, {{OP_SERIES, 0xd0001000, 0, 500}});
        written += 500;
        seen += kicks(bell);
    }
    stop = true;
    mover.join();
    EXPECT_EQ(seen + kicks(bell) + d.writes, written);
    EXPECT_EQ(d.writes, 0u);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &d.mr), 0);
    close(bell);
    end(&d.mr);
}

TEST(KvmGuest, AKickEndsTheRun)
{
    Machine m;
    std::atomic<bool> done{false};
    std::thread thread([&] {
        m.run(0, {{OP_HAMMER, 0x600000, 0, 0xffffffff}});
        done = true;
    });

    while (!done) {
        flatview_kvm_vcpu_kick(m.vcpus[0]);
        std::this_thread::yield();
    }
    thread.join();
    EXPECT_EQ(m.error, -EINTR);
}

}
