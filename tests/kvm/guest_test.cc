/* SPDX-License-Identifier: MIT */
/*
 * guest_test.cc - guest code on real KVM, whose slots follow the map. Run by boot.py as the init of a machine that has
 * /dev/kvm; run by hand, it uses the host's.
 */
#include "kvm/machine.h"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <random>
#include <string>
#include <thread>

#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace {

struct Device {
    MemoryRegion mr; /* first: callbacks find the device by it */
    std::atomic<uint64_t> reads{0}, writes{0}, last{0};
    unsigned last_size = 0;
    void (*on_write)(Device *) = nullptr;
    Machine *machine = nullptr;
};

Device *device(MemoryRegion *mr)
{
    return reinterpret_cast<Device *>(mr);
}

uint64_t device_read(MemoryRegion *mr, hwaddr addr, unsigned size)
{
    device(mr)->reads++;
    device(mr)->last_size = size;
    return 0x1000000 + addr;
}

void device_write(MemoryRegion *mr, hwaddr, uint64_t data, unsigned size)
{
    Device *d = device(mr);

    d->writes++;
    d->last = data;
    d->last_size = size;
    if (d->on_write) {
        d->on_write(d);
    }
}

MemoryRegionOps make_ops()
{
    MemoryRegionOps ops = {};

    ops.read = device_read;
    ops.write = device_write;
    ops.endianness = MEMORY_LITTLE_ENDIAN;
    ops.valid.min_access_size = ops.impl.min_access_size = 1;
    ops.valid.max_access_size = ops.impl.max_access_size = 8;
    return ops;
}

const MemoryRegionOps device_ops = make_ops();

void end(MemoryRegion *mr)
{
    EXPECT_EQ(memory_region_destroy(mr), 0);
    EXPECT_EQ(memory_region_quiesce(mr), 0);
}

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

/* ---- the dirty log ---- */

std::vector<hwaddr> dirty_pages(MemoryRegion *mr, uint64_t size)
{
    DirtyBitmapSnapshot *snapshot = nullptr;
    std::vector<hwaddr> pages;

    EXPECT_EQ(memory_region_snapshot_and_clear_dirty(mr, 0, size, DIRTY_MEMORY_MIGRATION, &snapshot), 0);
    for (hwaddr page = 0; page < size; page += 4096) {
        if (memory_region_snapshot_get_dirty(snapshot, page, 4096)) {
            pages.push_back(page);
        }
    }
    memory_region_snapshot_free(snapshot);
    return pages;
}

TEST(KvmGuest, WhatTheGuestWritesThroughItsSlotsIsInTheDirtyLog)
{
    Machine m;
    MemoryRegion more;
    const uint64_t size = 0x40000;

    ASSERT_EQ(memory_region_init_ram(&more, "more", size), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0x40000000, &more), 0);
    m.store32(0x40001000, 1);
    ASSERT_EQ(memory_region_set_log(&more, true, DIRTY_MEMORY_MIGRATION), 0);
    EXPECT_EQ(m.stats().reflagged, 1u) << "in place";
    ASSERT_EQ(memory_dirty_log_wait(), 0);
    EXPECT_EQ(dirty_pages(&more, size).size(), size / 4096) << "at its beginning everything is dirty";
    EXPECT_TRUE(dirty_pages(&more, size).empty());

    m.run(0, {{OP_STORE32, 0x40003004, 1, 0}, {OP_TOUCH, 0x40010000, 7, 3}, {OP_LOAD32, 0x40005000, 0, 0}});
    EXPECT_EQ(dirty_pages(&more, size), (std::vector<hwaddr>{0x3000, 0x10000, 0x11000, 0x12000}));
    EXPECT_TRUE(dirty_pages(&more, size).empty());
    EXPECT_EQ(m.stats().mmio_exits, 0u);

    /* The final collect is part of the removal. */
    m.store32(0x40007000, 1);
    ASSERT_EQ(memory_region_set_address(&more, 0x50000000), 0);
    m.store32(0x50008000, 1);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &more), 0);
    EXPECT_EQ(dirty_pages(&more, size), (std::vector<hwaddr>{0x7000, 0x8000}));

    /* Kept while it is unmapped. */
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0x40000000, &more), 0);
    m.store32(0x40009000, 1);
    ASSERT_EQ(memory_region_set_log(&more, false, DIRTY_MEMORY_MIGRATION), 0);
    EXPECT_EQ(dirty_pages(&more, size), (std::vector<hwaddr>{0x9000}));
    for (const FlatviewKvmSlot &slot : m.slots()) {
        EXPECT_EQ(slot.flags & KVM_MEM_LOG_DIRTY_PAGES, 0u);
    }
    EXPECT_EQ(m.difference(), "");
    ASSERT_EQ(memory_region_del_subregion(&m.root, &more), 0);
    end(&more);
}

TEST(KvmGuest, ACopyMadeByTheDirtyLogEqualsTheOriginal)
{
    Machine m(2);
    MemoryRegion more;
    const uint64_t size = 0x20000;
    std::vector<char> copy(size);
    std::vector<std::thread> threads;
    std::atomic<bool> stop{false};
    std::mt19937 random(1);

    ASSERT_EQ(memory_region_init_ram(&more, "more", size), 0);
    const char *original = static_cast<char *>(memory_region_get_ram_ptr(&more));
    auto collect = [&] {
        for (hwaddr page : dirty_pages(&more, size)) {
            memcpy(copy.data() + page, original + page, 4096);
        }
    };

    ASSERT_EQ(memory_region_add_subregion(&m.root, 0x40000000, &more), 0);
    ASSERT_EQ(memory_global_dirty_log_start(GLOBAL_DIRTY_MIGRATION), 0);
    ASSERT_EQ(memory_dirty_log_wait(), 0);
    for (unsigned i = 0; i < 2; i++) {
        threads.emplace_back([&, i] {
            for (uint32_t round = 1; !stop; round++) {
                /* Where it is and where it is not: the latter are exits that nothing takes. */
                m.run(i, {{OP_SERIES, 0x40000000 + 0x1000 * (round % 31) + 8 * i, round, 50},
                          {OP_SERIES, 0x48000000 + 0x1000 * (round % 29) + 8 * i, round, 50}});
            }
        });
    }
    for (int i = 0; i < 60; i++) {
        switch (random() % 3) {
        case 0:
            EXPECT_EQ(memory_region_set_address(&more, random() % 2 ? 0x40000000 : 0x48000000), 0);
            break;
        case 1:
            EXPECT_EQ(memory_region_set_enabled(&more, random() % 4), 0);
            break;
        default:
            collect();
            break;
        }
    }
    stop = true;
    for (std::thread &thread : threads) {
        thread.join();
    }
    collect();
    EXPECT_EQ(memcmp(copy.data(), original, size), 0);
    EXPECT_EQ(memory_global_dirty_log_stop(GLOBAL_DIRTY_MIGRATION), 0);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &more), 0);
    end(&more);
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

/* ---- coalesced writes ---- */

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

TEST(KvmGuest, CoalescedWritesArriveInOrderBeforeAReadAndWithoutExits)
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

TEST(KvmGuest, ACoalescedWriteArrivesInTimeWhileTheGuestGoesOn)
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

TEST(KvmGuest, NoCoalescedWriteIsLostOrOvertakenWhileItsRangeComesAndGoes)
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

TEST(KvmGuest, ARangeThatTheKernelDoesNotCoalesceIsCoalescedAfterTheExit)
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
