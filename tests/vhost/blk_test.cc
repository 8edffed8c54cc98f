/* SPDX-License-Identifier: MIT */
/*
 * blk_test.cc - a real back end, QEMU's storage daemon, reads and writes a disk image through our map.
 */
#include "vhost/disk.h"

#include <atomic>
#include <cerrno>
#include <set>
#include <thread>

#include <sys/mman.h>

#include <gtest/gtest.h>

namespace {

void end(MemoryRegion *mr)
{
    EXPECT_EQ(memory_region_destroy(mr), 0);
    EXPECT_EQ(memory_region_quiesce(mr), 0);
}

TEST(VhostUserBlk, WritesAndReadsTheDisk)
{
    Disk d;
    uint8_t status;
    uint64_t capacity = 0;

    ASSERT_NE(d.dev, nullptr);
    ASSERT_EQ(flatview_vhost_user_get_config(d.dev, 0, &capacity, 8), 0);
    EXPECT_EQ(capacity, DISK_SECTORS);
    EXPECT_EQ(d.stats().regions, 1u);
    EXPECT_EQ(flatview_vhost_user_features(d.dev), uint64_t(1) << 32) << "what was asked for, and no more";
    EXPECT_EQ(flatview_vhost_user_for_each_region(d.dev, [](const FlatviewVhostUserRegion *region, void *ram) {
        return int(region->first == 0 && region->size == RAM_SIZE && !region->missing &&
                   region->host == memory_region_get_ram_ptr(static_cast<MemoryRegion *>(ram)));
    }, &d.ram), 1);
    d.start_queue();
    d.fill(0x100000, 65536, 1);
    ASSERT_EQ(d.transfer(true, 16, 0x100000, 65536, &status), 0);
    EXPECT_EQ(status, 0);
    EXPECT_TRUE(d.image_holds(16, 65536, 1));
    ASSERT_EQ(d.transfer(false, 16, 0x200000, 65536, &status), 0);
    EXPECT_EQ(status, 0);
    EXPECT_TRUE(d.holds(0x200000, 65536, 1));
}

TEST(VhostUserBlk, FollowsMemoryThatIsPluggedAndPulled)
{
    Disk d;
    MemoryRegion more;
    uint8_t status;

    ASSERT_NE(d.dev, nullptr);
    d.start_queue();
    ASSERT_EQ(memory_region_init_ram_memfd(&more, "more", 1 << 20), 0);
    for (uint32_t i = 0; i < 20; i++) {
        hwaddr at = 0x40000000 + 0x10000000 * hwaddr(i % 3);

        ASSERT_EQ(memory_region_add_subregion(&d.root, at, &more), 0);
        d.fill(at + 0x8000, 4096, i);
        ASSERT_EQ(d.transfer(true, 8 * i, at + 0x8000, 4096, &status), 0);
        EXPECT_EQ(status, 0);
        EXPECT_TRUE(d.image_holds(8 * i, 4096, i));
        ASSERT_EQ(d.transfer(false, 8 * i, 0x300000, 4096, &status), 0);
        EXPECT_TRUE(d.holds(0x300000, 4096, i));
        ASSERT_EQ(memory_region_del_subregion(&d.root, &more), 0);
    }
    EXPECT_EQ(d.stats().added, 21u) << "one for the memory that stays, one for each time";
    EXPECT_EQ(d.stats().removed, 20u);
    EXPECT_EQ(d.stats().ring_stops, 0u);
    EXPECT_TRUE(d.stats().connected);
    end(&more);
}

TEST(VhostUserBlk, TheBackEndCannotReachWhatWasPulled)
{
    Disk d;
    MemoryRegion more;
    uint8_t status;

    ASSERT_NE(d.dev, nullptr);
    d.start_queue();
    ASSERT_EQ(memory_region_init_ram_memfd(&more, "more", 1 << 20), 0);
    ASSERT_EQ(memory_region_add_subregion(&d.root, 0x40000000, &more), 0);
    ASSERT_EQ(d.transfer(false, 0, 0x40000000, 4096, &status), 0);
    ASSERT_EQ(memory_region_del_subregion(&d.root, &more), 0);
    d.submit(false, 0, 0x40000000, 4096);
    EXPECT_FALSE(d.wait_used(500)) << "it has no such address: it gives up the connection, as a device that is broken";
    end(&more);
}

TEST(VhostUserBlk, ARingWhoseMemoryIsSplitGoesOnWhereItWas)
{
    Disk d;
    MemoryRegion hole;
    uint8_t status;

    ASSERT_NE(d.dev, nullptr);
    d.start_queue();
    ASSERT_EQ(memory_region_init_reservation(&hole, "hole", 0x10000), 0);
    for (uint32_t i = 0; i < 10; i++) {
        d.fill(0x100000, 8192, 100 + i);
        ASSERT_EQ(d.transfer(true, 16 * i, 0x100000, 8192, &status), 0);
        EXPECT_EQ(status, 0);
        if (i % 2 == 0) { /* each time another place: a piece has to be split, the one with the rings first */
            ASSERT_EQ(memory_region_add_subregion_overlap(&d.root, 0x600000 - 0x80000 * (i / 2), &hole, 1), 0);
        } else {
            ASSERT_EQ(memory_region_del_subregion(&d.root, &hole), 0);
        }
        ASSERT_EQ(d.transfer(false, 16 * i, 0x180000, 8192, &status), 0);
        EXPECT_TRUE(d.holds(0x180000, 8192, 100 + i));
    }
    EXPECT_GE(d.stats().ring_stops, 1u);
    EXPECT_EQ(d.stats().disconnects, 0u);
    end(&hole);
}

TEST(VhostUserBlk, ProtectionIsNoReasonToRemap)
{
    Disk d;
    MemoryRegion segment;
    uint8_t status;

    ASSERT_NE(d.dev, nullptr);
    d.start_queue();
    /* As a PC's firmware does it: a segment of its RAM, write-protected by a window over it. */
    ASSERT_EQ(memory_region_init_alias(&segment, "pam", &d.ram, 0xf0000, 0x10000), 0);
    ASSERT_EQ(memory_region_set_readonly(&segment, true), 0);
    for (int i = 0; i < 5; i++) {
        ASSERT_EQ(memory_region_add_subregion_overlap(&d.root, 0xf0000, &segment, 1), 0);
        ASSERT_EQ(d.transfer(false, 0, 0x100000, 4096, &status), 0);
        ASSERT_EQ(memory_region_del_subregion(&d.root, &segment), 0);
    }
    EXPECT_EQ(d.stats().added, 1u);
    EXPECT_EQ(d.stats().removed, 0u);
    EXPECT_EQ(d.stats().ring_stops, 0u);
    end(&segment);
}

TEST(VhostUserBlk, MoreRegionsThanItTakesAreRefused)
{
    Disk d;
    MemoryRegion more[40];
    int err = 0, n = 0;
    uint8_t status;

    ASSERT_NE(d.dev, nullptr);
    d.start_queue();
    for (; n < 40; n++) {
        ASSERT_EQ(memory_region_init_ram_memfd(&more[n], "more", 0x10000), 0);
        err = memory_region_add_subregion(&d.root, 0x40000000 + 0x100000 * hwaddr(n), &more[n]);
        if (err < 0) {
            break;
        }
    }
    EXPECT_EQ(err, -ENOSPC);
    EXPECT_EQ(uint64_t(n) + 1, d.stats().max_regions);
    EXPECT_EQ(memory_region_get_parent(&more[n]), nullptr);
    EXPECT_EQ(d.transfer(false, 0, 0x40000000, 4096, &status), 0);
    EXPECT_EQ(d.stats().refused_commits, 1u);
    end(&more[n]);
    while (n-- > 0) {
        ASSERT_EQ(memory_region_del_subregion(&d.root, &more[n]), 0);
        end(&more[n]);
    }
}

TEST(VhostUserBlk, ABackEndThatDiesIsReplacedAndNothingIsLost)
{
    Disk d;
    MemoryRegion more;
    uint8_t status;

    ASSERT_NE(d.dev, nullptr);
    d.start_queue();
    ASSERT_EQ(memory_region_init_ram_memfd(&more, "more", 1 << 20), 0);
    for (uint32_t i = 0; i < 4; i++) {
        d.fill(0x100000, 4096, 200 + i);
        ASSERT_EQ(d.transfer(true, 8 * i, 0x100000, 4096, &status), 0);
        d.kill_daemon();
        d.fill(0x100000, 4096, 300 + i);
        d.submit(true, 4096 + 8 * i, 0x100000, 4096); /* nobody is there to take it */
        ASSERT_EQ(memory_region_add_subregion(&d.root, 0x40000000, &more), 0) << "the map goes on";
        EXPECT_FALSE(d.stats().connected);
        d.start_daemon();
        ASSERT_EQ(d.reconnect(), 0);
        ASSERT_TRUE(d.wait_used(5000)) << "the request that the dead one had not done is done";
        EXPECT_EQ(d.status(), 0);
        EXPECT_TRUE(d.image_holds(4096 + 8 * i, 4096, 300 + i));
        ASSERT_EQ(d.transfer(false, 8 * i, 0x40000000, 4096, &status), 0) << "with what was plugged meanwhile";
        EXPECT_TRUE(d.holds(0x40000000, 4096, 200 + i));
        ASSERT_EQ(memory_region_del_subregion(&d.root, &more), 0);
    }
    EXPECT_EQ(d.stats().disconnects, 4u);
    EXPECT_EQ(flatview_vhost_user_reconnect(d.dev), -EALREADY);
    end(&more);
}

/* ---- the dirty log ---- */

std::set<hwaddr> dirty_pages(MemoryRegion *mr)
{
    DirtyBitmapSnapshot *snapshot = nullptr;
    std::set<hwaddr> pages;
    uint64_t size;

    EXPECT_EQ(memory_region_snapshot_and_clear_dirty(mr, 0, memory_region_size(mr), DIRTY_MEMORY_MIGRATION, &snapshot), 0);
    for (hwaddr at = 0; snapshot && memory_region_snapshot_next_dirty(snapshot, at, &at, &size); at += size) {
        for (hwaddr page = at; page < at + size; page += 4096) {
            pages.insert(page);
        }
    }
    memory_region_snapshot_free(snapshot);
    return pages;
}

void begin_log(MemoryRegion *mr)
{
    ASSERT_EQ(memory_region_set_log(mr, true, DIRTY_MEMORY_MIGRATION), 0);
    ASSERT_EQ(memory_dirty_log_wait(), 0);
    dirty_pages(mr); /* all of it, for nobody knows what was before */
    ASSERT_TRUE(dirty_pages(mr).empty());
}

/* What a read of the disk writes: what the driver has put into the rings, what the device answers, and the data. */
std::set<hwaddr> written(hwaddr buffer, uint32_t bytes)
{
    std::set<hwaddr> pages = {DISK_DESC, DISK_AVAIL, DISK_USED, DISK_HEADER};

    for (hwaddr page = buffer & ~hwaddr(4095); page < buffer + bytes; page += 4096) {
        pages.insert(page);
    }
    return pages;
}

TEST(VhostUserLog, IsThePagesThatTheDeviceHasWritten)
{
    Disk d;
    uint8_t status;

    ASSERT_NE(d.dev, nullptr);
    d.start_queue();
    ASSERT_EQ(d.transfer(false, 0, 0x600000, 4096, &status), 0) << "before anybody asks";
    EXPECT_FALSE(d.stats().logging);
    begin_log(&d.ram);
    EXPECT_TRUE(d.stats().logging);
    EXPECT_FALSE(d.stats().log_blind);
    for (uint32_t i = 0; i < 16; i++) {
        hwaddr buffer = 0x100000 + 0x31000 * hwaddr(i);
        uint32_t bytes = 512 << i % 8;

        ASSERT_EQ(d.transfer(false, 0, buffer, bytes, &status), 0);
        EXPECT_EQ(dirty_pages(&d.ram), written(buffer, bytes));
    }
    ASSERT_EQ(d.transfer(true, 0, 0x100000, 65536, &status), 0) << "which the device only reads";
    EXPECT_EQ(dirty_pages(&d.ram), written(0, 0));
    ASSERT_EQ(memory_region_set_log(&d.ram, false, DIRTY_MEMORY_MIGRATION), 0);
    EXPECT_FALSE(d.stats().logging);
    ASSERT_EQ(d.transfer(false, 0, 0x100000, 4096, &status), 0) << "it goes on without";
    EXPECT_EQ(d.stats().disconnects, 0u);
}

TEST(VhostUserLog, IsCollectedFromMemoryThatGoesAndGrowsForMemoryThatComes)
{
    Disk d;
    MemoryRegion more;
    uint8_t status;

    ASSERT_NE(d.dev, nullptr);
    d.start_queue();
    ASSERT_EQ(memory_region_init_ram_memfd(&more, "more", 1 << 20), 0);
    begin_log(&d.ram);
    begin_log(&more);
    for (uint32_t i = 0; i < 6; i++) {
        ASSERT_EQ(memory_region_add_subregion(&d.root, hwaddr(0x40000000) << i, &more), 0);
        ASSERT_EQ(d.transfer(false, 0, (hwaddr(0x40000000) << i) + 0x1000 * i + 0x800, 4096, &status), 0);
        ASSERT_EQ(memory_region_del_subregion(&d.root, &more), 0);
        EXPECT_EQ(dirty_pages(&more), (std::set<hwaddr>{0x1000 * i, 0x1000 * i + 0x1000})) << "of memory that is away";
        EXPECT_EQ(dirty_pages(&d.ram), written(0, 0));
    }
    ASSERT_EQ(memory_region_set_log(&more, false, DIRTY_MEMORY_MIGRATION), 0);
    EXPECT_TRUE(d.stats().logging) << "the other one still is";
    EXPECT_EQ(d.stats().disconnects, 0u);
    end(&more);
}

TEST(VhostUserLog, GoesOnWithTheNextBackEnd)
{
    Disk d;
    uint8_t status;

    ASSERT_NE(d.dev, nullptr);
    d.start_queue();
    begin_log(&d.ram);
    for (uint32_t i = 0; i < 3; i++) {
        ASSERT_EQ(d.transfer(false, 0, 0x100000, 4096, &status), 0);
        d.kill_daemon();
        d.start_daemon();
        ASSERT_EQ(memory_region_sync_dirty(&d.ram), 0);
        EXPECT_FALSE(d.stats().connected) << "seen without a word";
        ASSERT_EQ(d.reconnect(), 0);
        ASSERT_EQ(d.transfer(false, 0, 0x200000 + 0x10000 * hwaddr(i), 8192, &status), 0);
        std::set<hwaddr> all = written(0x200000 + 0x10000 * hwaddr(i), 8192);
        all.insert(0x100000);
        EXPECT_EQ(dirty_pages(&d.ram), all) << "what the dead one had noted, too";
    }
    EXPECT_FALSE(d.stats().log_blind);
}

TEST(VhostUserLog, OfAllMemoryStartsAndStops)
{
    Disk d;
    uint8_t status;

    ASSERT_NE(d.dev, nullptr);
    d.start_queue();
    ASSERT_EQ(memory_global_dirty_log_start(GLOBAL_DIRTY_MIGRATION), 0);
    ASSERT_EQ(memory_dirty_log_wait(), 0);
    dirty_pages(&d.ram);
    ASSERT_EQ(d.transfer(false, 0, 0x300000, 4096, &status), 0);
    ASSERT_EQ(memory_global_dirty_log_sync(false), 0);
    EXPECT_EQ(dirty_pages(&d.ram), written(0x300000, 4096));
    ASSERT_EQ(memory_global_dirty_log_stop(GLOBAL_DIRTY_MIGRATION), 0);
    EXPECT_FALSE(d.stats().logging);
}

/* ---- kicks ---- */

TEST(VhostUserBlk, ADoorbellOfTheMapKicksIt)
{
    Disk d;
    MemoryRegionOps ops = {};
    MemoryRegion bar;
    static unsigned calls;
    uint8_t status;

    ASSERT_NE(d.dev, nullptr);
    d.start_queue();
    ops.read = [](MemoryRegion *, hwaddr, unsigned) { return uint64_t(0); };
    ops.write = [](MemoryRegion *, hwaddr, uint64_t, unsigned) { calls++; };
    ops.endianness = MEMORY_LITTLE_ENDIAN;
    ops.valid.min_access_size = ops.impl.min_access_size = 1;
    ops.valid.max_access_size = ops.impl.max_access_size = 8;
    ASSERT_EQ(memory_region_init_io(&bar, &ops, "notify", 0x1000), 0);
    ASSERT_EQ(memory_region_add_eventfd(&bar, 0, 2, false, 0, d.kick_fd()), 0);
    for (uint32_t i = 0; i < 10; i++) { /* wherever the BAR is */
        ASSERT_EQ(memory_region_add_subregion(&d.root, 0xfe000000 + 0x1000 * i, &bar), 0);
        d.doorbell = 0xfe000000 + 0x1000 * i;
        d.fill(0x100000, 4096, i);
        ASSERT_EQ(d.transfer(true, i, 0x100000, 4096, &status), 0);
        EXPECT_TRUE(d.image_holds(i, 4096, i));
        ASSERT_EQ(memory_region_del_subregion(&d.root, &bar), 0);
    }
    EXPECT_EQ(calls, 0u) << "no callback";
    ASSERT_EQ(memory_region_del_eventfd(&bar, 0, 2, false, 0, d.kick_fd()), 0);
    end(&bar);
}

TEST(VhostUserBlk, MemoryThatBeginsInsideAFileIsTheSameOnBothSides)
{
    constexpr uint64_t OFFSET = 0x30000, SIZE = 0x20000;
    Disk d;
    MemoryRegion part;
    uint8_t status;
    int fd = memfd_create("file", MFD_CLOEXEC);

    ASSERT_NE(d.dev, nullptr);
    d.start_queue();
    ASSERT_EQ(ftruncate(fd, 0x80000), 0);
    ASSERT_EQ(memory_region_init_ram_from_fd(&part, "part", SIZE, fd, OFFSET), 0);
    EXPECT_EQ(memory_region_get_fd_offset(&part), OFFSET);
    ASSERT_EQ(memory_region_add_subregion(&d.root, 0x40000000, &part), 0);
    d.fill(0x100000, 8192, 77);
    ASSERT_EQ(d.transfer(true, 0, 0x100000, 8192, &status), 0);
    ASSERT_EQ(d.transfer(false, 0, 0x40000000 + 0x5000, 8192, &status), 0);
    EXPECT_TRUE(d.holds(0x40000000 + 0x5000, 8192, 77));
    ASSERT_EQ(memory_region_del_subregion(&d.root, &part), 0);
    end(&part);
    close(fd);
}

TEST(VhostUserBlk, AQueueThatWasStoppedGoesOnFromWhereItWas)
{
    Disk d;
    unsigned base = ~0u;
    uint8_t status;

    ASSERT_NE(d.dev, nullptr);
    EXPECT_EQ(flatview_vhost_user_stop_queue(d.dev, 0, &base), -EINVAL) << "it does not run";
    d.start_queue();
    for (uint32_t i = 1; i <= 3; i++) {
        d.fill(0x100000, 4096, i);
        ASSERT_EQ(d.transfer(true, 8 * i, 0x100000, 4096, &status), 0);
        ASSERT_EQ(flatview_vhost_user_stop_queue(d.dev, 0, &base), 0);
        EXPECT_EQ(base, i) << "each request once";
        EXPECT_EQ(flatview_vhost_user_stop_queue(d.dev, 0, &base), -EINVAL);
        d.start_queue(base);
        EXPECT_TRUE(d.image_holds(8 * i, 4096, i));
    }
    EXPECT_EQ(d.stats().disconnects, 0u);
}

TEST(VhostUserBlk, IsNotFreedWhereItsListenerCannotLeave)
{
    struct Freer {
        MemoryListener listener;
        FlatviewVhostUser *dev;
        int result;
    } freer = {};
    Disk d;
    MemoryRegion hole;
    uint8_t status;

    ASSERT_NE(d.dev, nullptr);
    d.start_queue();
    freer.dev = d.dev;
    freer.listener.commit = [](MemoryListener *listener) {
        Freer *f = reinterpret_cast<Freer *>(listener);
        f->result = flatview_vhost_user_free(f->dev);
    };
    ASSERT_EQ(memory_listener_register(&freer.listener, &d.memory), 0);
    EXPECT_EQ(freer.result, -EBUSY);
    ASSERT_EQ(memory_listener_unregister(&freer.listener), 0);
    ASSERT_EQ(memory_transaction_begin(), 0);
    EXPECT_EQ(flatview_vhost_user_free(d.dev), -EBUSY);
    memory_transaction_abort();
    ASSERT_EQ(d.transfer(false, 0, 0x100000, 4096, &status), 0) << "nothing was done";
    ASSERT_EQ(memory_region_init_reservation(&hole, "hole", 0x1000), 0);
    ASSERT_EQ(memory_region_add_subregion_overlap(&d.root, 0x600000, &hole, 1), 0) << "it still listens";
    EXPECT_EQ(d.stats().regions, 2u);
    ASSERT_EQ(memory_region_del_subregion(&d.root, &hole), 0);
    end(&hole);
}

TEST(VhostUserBlk, GoesOnWhileTheMapChangesOnAnotherThread)
{
    Disk d;
    MemoryRegion more;
    std::atomic<bool> stop{false};
    uint8_t status;
    std::atomic<int> changes{0};

    ASSERT_NE(d.dev, nullptr);
    d.start_queue();
    ASSERT_EQ(memory_region_init_ram_memfd(&more, "more", 1 << 20), 0);
    std::thread writer([&] {
        while (!stop) {
            EXPECT_EQ(memory_region_add_subregion(&d.root, 0x40000000 + 0x100000 * hwaddr(changes % 7), &more), 0);
            EXPECT_EQ(memory_region_del_subregion(&d.root, &more), 0);
            changes++;
        }
    });
    for (uint32_t i = 0; i < 200 || !changes; i++) {
        d.fill(0x100000, 4096, i);
        ASSERT_EQ(d.transfer(true, 8 * (i % 512), 0x100000, 4096, &status), 0);
        ASSERT_EQ(d.transfer(false, 8 * (i % 512), 0x200000, 4096, &status), 0);
        ASSERT_TRUE(d.holds(0x200000, 4096, i));
    }
    stop = true;
    writer.join();
    EXPECT_GT(changes, 0);
    EXPECT_EQ(d.stats().disconnects, 0u);
    EXPECT_EQ(d.stats().ring_stops, 0u);
    end(&more);
}

TEST(VhostUser, ABackEndThatIsNotThereIsAnError)
{
    MemoryRegion root;
    AddressSpace as;
    FlatviewVhostUserConfig config = {};
    FlatviewVhostUser *dev;

    ASSERT_EQ(memory_region_init(&root, "root", 4096), 0);
    ASSERT_EQ(address_space_init(&as, &root, "as"), 0);
    config.path = "/nonexistent/socket";
    config.memory = &as;
    config.n_queues = 1;
    EXPECT_EQ(flatview_vhost_user_new(&config, &dev), -ENOENT);
    config.n_queues = 0;
    EXPECT_EQ(flatview_vhost_user_new(&config, &dev), -EINVAL);
    ASSERT_EQ(address_space_destroy(&as, nullptr), 0);
    end(&root);
}

}
