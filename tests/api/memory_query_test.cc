/* SPDX-License-Identifier: MIT */
/*
 * From a region to its addresses and from a host pointer to its region, compared with what a look at everything finds.
 */
#include <gtest/gtest.h>

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include <flatview/memory.h>

#include "api/machine.h"

namespace {

using Places = std::vector<std::string>;

std::string place_of(AddressSpace *as, const MemoryRegionSection &s)
{
    std::ostringstream out;
    out << address_space_name(as) << " " << std::hex << s.offset_within_address_space << "-" << s.last << "@"
        << s.offset_within_region << (s.readonly ? "r" : "") << (s.host ? "h" : "");
    return out.str();
}

Places places(MemoryRegion *mr, hwaddr offset = 0, uint64_t size = UINT64_MAX)
{
    Places found;
    EXPECT_EQ(0, memory_region_for_each_address(
                     mr, offset, size,
                     [](AddressSpace *as, const MemoryRegionSection *s, void *arg) {
                         EXPECT_EQ(-EBUSY, memory_region_set_enabled(s->mr, false));
                         static_cast<Places *>(arg)->push_back(place_of(as, *s));
                         return 0;
                     },
                     &found));
    return found;
}

/* All ranges of all views, cut by hand. */
struct Slow {
    MemoryRegion *mr;
    hwaddr first, last;
    Places found;
    AddressSpace *as;
};

Places slow_places(MemoryRegion *mr, hwaddr offset = 0, uint64_t size = UINT64_MAX)
{
    Slow slow = {mr, offset, size - 1 > UINT64_MAX - offset || size == UINT64_MAX ? UINT64_MAX : offset + size - 1, {},
                 nullptr};

    if (!size) {
        return {};
    }
    address_space_foreach(
        [](AddressSpace *as, void *arg) {
            static_cast<Slow *>(arg)->as = as;
            FlatView *view = address_space_get_flatview(as);
            flatview_for_each_range(
                view, 0, UINT64_MAX,
                [](const MemoryRegionSection *s, void *to) {
                    Slow *slow = static_cast<Slow *>(to);
                    MemoryRegionSection cut = *s;
                    hwaddr end = s->offset_within_region + (s->last - s->offset_within_address_space);
                    if (s->mr != slow->mr || s->offset_within_region > slow->last || end < slow->first) {
                        return 0;
                    }
                    if (s->offset_within_region < slow->first) {
                        cut.offset_within_address_space += slow->first - s->offset_within_region;
                        cut.offset_within_region = slow->first;
                    }
                    if (end > slow->last) {
                        cut.last -= end - slow->last;
                    }
                    slow->found.push_back(place_of(slow->as, cut));
                    return 0;
                },
                arg);
            flatview_unref(view);
            return 0;
        },
        &slow);
    return slow.found;
}

class MemoryQuery : public Machine {
protected:
    void SetUp() override
    {
        Machine::SetUp();
        ASSERT_EQ(0, memory_region_init_ram(&ram, "ram", 0x4000));
        ASSERT_EQ(0, memory_region_add_subregion_overlap(&root, 0x8000, &ram, -1));
        ASSERT_EQ(0, memory_region_init(&bus, "bus", 0x100000));
        ASSERT_EQ(0, memory_region_init_alias(&low, "low", &ram, 0x1000, 0x2000));
        ASSERT_EQ(0, memory_region_init_alias(&all, "all", &root, 0, UINT64_MAX));
        ASSERT_EQ(0, memory_region_add_subregion(&bus, 0x500, &low));
        ASSERT_EQ(0, memory_region_add_subregion_overlap(&bus, 0x10000, &all, -1));
        ASSERT_EQ(0, address_space_init(&master, &bus, "master"));
    }

    void TearDown() override
    {
        ASSERT_EQ(0, address_space_destroy(&master, nullptr));
        for (MemoryRegion *mr : {&low, &all}) {
            ASSERT_EQ(0, memory_region_del_subregion(&bus, mr));
            ASSERT_EQ(0, memory_region_destroy(mr));
        }
        ASSERT_EQ(0, memory_region_destroy(&bus));
        if (memory_region_get_parent(&ram)) {
            ASSERT_EQ(0, memory_region_del_subregion(&root, &ram));
        }
        ASSERT_EQ(0, memory_region_destroy(&ram));
        for (MemoryRegion *mr : {&low, &all, &bus, &ram}) {
            ASSERT_EQ(0, memory_region_quiesce(mr));
        }
        Machine::TearDown();
    }

    MemoryRegion ram, bus, low, all;
    AddressSpace master = {};
};

TEST_F(MemoryQuery, ARegionIsFoundInEverySpaceThroughAliases)
{
    EXPECT_EQ((Places{"memory 8000-bfff@0h", "master 500-24ff@1000h", "master 18000-1bfff@0h"}), places(&ram));
    EXPECT_EQ((Places{"memory 1000-10ff@0", "master 11000-110ff@0"}), places(&dev[0].mr));
    EXPECT_EQ(slow_places(&ram), places(&ram));
}

TEST_F(MemoryQuery, APartOfARegionIsCutOut)
{
    EXPECT_EQ((Places{"memory 8fff-9000@fffh", "master 500-500@1000h", "master 18fff-19000@fffh"}), places(&ram, 0xfff, 2));
    EXPECT_EQ((Places{"memory bfff-bfff@3fffh", "master 1bfff-1bfff@3fffh"}), places(&ram, 0x3fff, UINT64_MAX));
    EXPECT_EQ(Places{}, places(&ram, 0x4000, 1));
    EXPECT_EQ(Places{}, places(&ram, 0, 0));
    EXPECT_EQ(Places{}, places(&ram, UINT64_MAX, UINT64_MAX));
}

TEST_F(MemoryQuery, WhatIsCoveredDisabledOrNoAnswerIsNotFound)
{
    ASSERT_EQ(0, memory_region_set_address(&dev[1].mr, 0x9000));
    EXPECT_EQ((Places{"memory 8000-8fff@0h", "memory 9100-bfff@1100h", "master 500-24ff@1000h", "master 18000-18fff@0h",
                      "master 19100-1bfff@1100h"}),
              places(&ram));
    ASSERT_EQ(0, memory_region_set_enabled(&low, false));
    ASSERT_EQ(0, memory_region_set_readonly(&all, true));
    EXPECT_EQ((Places{"memory 8000-8fff@0h", "memory 9100-bfff@1100h", "master 18000-18fff@0rh", "master 19100-1bfff@1100rh"}),
              places(&ram));
    ASSERT_EQ(0, memory_region_set_enabled(&ram, false));
    EXPECT_EQ(Places{}, places(&ram));
    EXPECT_EQ(Places{}, places(&root));
    EXPECT_EQ(Places{}, places(&all));
    ASSERT_EQ(0, memory_region_set_enabled(&ram, true));
    ASSERT_EQ(0, memory_region_set_enabled(&low, true));
}

TEST_F(MemoryQuery, InATransactionWhatIsStagedIsFound)
{
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_set_address(&ram, 0x20000));
    Places staged;
    EXPECT_EQ(0, memory_region_for_each_address(
                     &ram, 0, UINT64_MAX,
                     [](AddressSpace *as, const MemoryRegionSection *s, void *arg) {
                         static_cast<Places *>(arg)->push_back(place_of(as, *s));
                         return 0;
                     },
                     &staged));
    EXPECT_EQ((Places{"memory 20000-23fff@0h", "master 500-24ff@1000h", "master 30000-33fff@0h"}), staged);
    hwaddr addr = 0;
    EXPECT_EQ(1, memory_region_find_address(&ram, 0x10, &as, &addr));
    EXPECT_EQ(0x20010u, addr);
    memory_transaction_abort();
    EXPECT_EQ(1, memory_region_find_address(&ram, 0x10, &as, &addr));
    EXPECT_EQ(0x8010u, addr);
}

TEST_F(MemoryQuery, TheLowestAddressInOneSpaceIsFound)
{
    hwaddr addr = 7;

    EXPECT_EQ(1, memory_region_find_address(&ram, 0x1234, &master, &addr));
    EXPECT_EQ(0x734u, addr);
    EXPECT_EQ(1, memory_region_find_address(&ram, 0x234, &master, &addr));
    EXPECT_EQ(0x18234u, addr);
    ASSERT_EQ(0, memory_region_set_enabled(&ram, false));
    EXPECT_EQ(0, memory_region_find_address(&ram, 0x234, &master, &addr));
    EXPECT_EQ(0x18234u, addr);
    ASSERT_EQ(0, memory_region_set_enabled(&ram, true));
    EXPECT_EQ(0, memory_region_find_address(&ram, 0x4000, &master, &addr));
}

TEST_F(MemoryQuery, WrongQuestionsAreRefusedAndTheFunctionMayStop)
{
    MemoryRegion none = {};
    hwaddr addr;
    int calls = 0;
    auto stop = [](AddressSpace *, const MemoryRegionSection *, void *arg) { return ++*static_cast<int *>(arg) == 2 ? 42 : 0; };

    EXPECT_EQ(-EINVAL, memory_region_for_each_address(nullptr, 0, 1, stop, nullptr));
    EXPECT_EQ(-EINVAL, memory_region_for_each_address(&ram, 0, 1, nullptr, nullptr));
    EXPECT_EQ(-EINVAL, memory_region_for_each_address(&none, 0, 1, stop, nullptr));
    EXPECT_EQ(-EINVAL, memory_region_find_address(&ram, 0, nullptr, &addr));
    EXPECT_EQ(-EINVAL, memory_region_find_address(&ram, 0, &as, nullptr));
    EXPECT_EQ(42, memory_region_for_each_address(&ram, 0, UINT64_MAX, stop, &calls));
    EXPECT_EQ(2, calls);

    static int from_listener;
    MemoryListener listener = {};
    static MemoryRegion *asked;
    asked = &ram;
    listener.begin = [](MemoryListener *) {
        from_listener = memory_region_for_each_address(
            asked, 0, 1, [](AddressSpace *, const MemoryRegionSection *, void *) { return 0; }, nullptr);
    };
    ASSERT_EQ(0, memory_listener_register(&listener, &as));
    EXPECT_EQ(-EBUSY, from_listener);
    ASSERT_EQ(0, memory_listener_unregister(&listener));
}

TEST_F(MemoryQuery, WhatIsAliveIsCounted)
{
    MemoryStats before, with, after;
    IOMMUNotifier notifier;
    MemoryRegion iommu;
    MemoryRegionIOMMUOps iommu_ops = {};
    hwaddr len = 16;
    void *host = nullptr;
    int fds[2];

    iommu_ops.translate = [](MemoryRegion *, hwaddr, IOMMUAccessFlags, unsigned) { return IOMMUTLBEntry(); };
    memory_get_stats(&before);
    ASSERT_EQ(0, pipe(fds));
    ASSERT_EQ(0, memory_region_init_iommu(&iommu, &iommu_ops, "iommu", 0x1000));
    iommu_notifier_init(
        &notifier, [](IOMMUNotifier *, const IOMMUTLBEntry *) {}, IOMMU_NOTIFIER_ALL, 0, 1, 0);
    ASSERT_EQ(0, memory_region_register_iommu_notifier(&iommu, &notifier));
    ASSERT_EQ(0, memory_region_add_eventfd(&dev[0].mr, 0, 4, false, 0, fds[1]));
    ASSERT_EQ(0, address_space_map(&as, 0x8000, &len, MEMORY_MAP_READ, MemTxAttrs(), &host));
    memory_get_stats(&with);
    EXPECT_EQ(1u, with.regions - before.regions);
    EXPECT_EQ(1u, with.iommu_notifiers - before.iommu_notifiers);
    EXPECT_EQ(1u, with.eventfds - before.eventfds);
    EXPECT_EQ(1u, with.mappings - before.mappings);
    EXPECT_EQ(1u, with.mapped_parts - before.mapped_parts);
    EXPECT_EQ(&ram, memory_region_from_host(host, nullptr));
    EXPECT_EQ(0, address_space_unmap(&as, host, len, MEMORY_MAP_READ, 0, nullptr));
    ASSERT_EQ(0, memory_region_del_eventfd(&dev[0].mr, 0, 4, false, 0, fds[1]));
    ASSERT_EQ(0, memory_region_unregister_iommu_notifier(&iommu, &notifier));
    ASSERT_EQ(0, memory_region_destroy(&iommu));
    ASSERT_EQ(0, memory_region_quiesce(&iommu));
    do { /* what the worker is in the middle of freeing */
        ASSERT_EQ(0, memory_reclaim());
        memory_get_stats(&after);
    } while (after.retired_bytes);
    EXPECT_EQ(before.regions, after.regions);
    EXPECT_EQ(before.iommu_notifiers, after.iommu_notifiers);
    EXPECT_EQ(before.eventfds, after.eventfds);
    EXPECT_EQ(before.mappings, after.mappings);
    close(fds[0]);
    close(fds[1]);
}

/* Random trees with aliases that overlap, overtake and show each other. */
TEST(MemoryQueryModel, TheWalkFindsWhatALookAtEverythingFinds)
{
    std::mt19937 random(5);
    size_t found = 0;

    for (int round = 0; round < 60; round++) {
        std::vector<MemoryRegion> regions(24);
        std::vector<AddressSpace> spaces(3);
        std::vector<Device> devices(6);
        std::vector<MemoryRegion *> containers;

        for (size_t i = 0; i < regions.size(); i++) {
            if (i < 6) {
                ASSERT_EQ(0, memory_region_init(&regions[i], "c", 0x100));
                containers.push_back(&regions[i]);
            } else {
                MemoryRegion *target = random() % 3 ? &regions[random() % i] : nullptr;
                if (target) {
                    ASSERT_EQ(0, memory_region_init_alias(&regions[i], "a", target, random() % 0x40, random() % 0x80));
                } else {
                    ASSERT_EQ(0, memory_region_init_io(&regions[i], device_ops(), "i", random() % 0x60));
                }
            }
        }
        for (size_t i = 0; i < spaces.size(); i++) {
            ASSERT_EQ(0, address_space_init(&spaces[i], containers[i], i ? i == 1 ? "one" : "two" : "zero"));
        }
        for (int change = 0; change < 60; change++) {
            MemoryRegion *mr = &regions[random() % regions.size()];
            int err;
            switch (random() % 4) {
            case 0:
            case 1:
                err = memory_region_add_subregion_overlap(containers[random() % containers.size()], random() % 0xc0, mr,
                                                          random() % 3);
                break;
            case 2:
                err = memory_region_set_enabled(mr, random() % 4);
                break;
            default:
                err = memory_region_set_address(mr, random() % 0xc0);
                break;
            }
            ASSERT_TRUE(err == 0 || err == -EBUSY || err == -ELOOP || err == -EINVAL || err == -E2BIG) << err;
            if (change % 10 == 9) {
                for (auto &asked : regions) {
                    hwaddr offset = random() % 0x40;
                    uint64_t size = random() % 2 ? UINT64_MAX : random() % 0x40;
                    Places fast = {}, slow = slow_places(&asked, offset, size);
                    ASSERT_EQ(0, memory_region_for_each_address(
                                     &asked, offset, size,
                                     [](AddressSpace *as, const MemoryRegionSection *s, void *arg) {
                                         static_cast<Places *>(arg)->push_back(place_of(as, *s));
                                         return 0;
                                     },
                                     &fast));
                    ASSERT_EQ(slow, fast);
                    found += fast.size();
                }
            }
        }
        for (auto &as : spaces) {
            ASSERT_EQ(0, address_space_destroy(&as, nullptr));
        }
        for (auto &mr : regions) {
            if (memory_region_get_parent(&mr)) {
                ASSERT_EQ(0, memory_region_del_subregion(memory_region_get_parent(&mr), &mr));
            }
        }
        for (size_t i = regions.size(); i-- > 0;) {
            ASSERT_EQ(0, memory_region_destroy(&regions[i]));
        }
        for (auto &mr : regions) {
            ASSERT_EQ(0, memory_region_quiesce(&mr));
        }
    }
    EXPECT_GT(found, 500u);
}

/* Each of these is made, counted, and ended. */
TEST_F(MemoryQuery, WhatLiesBesideTheMapIsCounted)
{
    MemoryStats before, with, after;
    RamDiscardSource source = {};
    RamDiscardListener listener = {};
    MemoryRegionSection section = {};
    DirtyBitmapSnapshot *snapshot = nullptr;
    MemoryMapClient client = {};
    MemoryRegionCache cache;
    hwaddr len = 64;
    void *bounced = nullptr;

    memory_get_stats(&before);
    ASSERT_EQ(0, memory_region_add_coalescing(&dev[0].mr, 0, 4));
    ASSERT_EQ(0, memory_region_add_coalescing(&dev[0].mr, 8, 4));
    ASSERT_EQ(0, memory_region_set_log(&ram, true, DIRTY_MEMORY_VGA));
    ASSERT_EQ(0, memory_region_set_log(&ram, true, DIRTY_MEMORY_CODE));
    ASSERT_EQ(0, memory_region_set_log(&ram, true, DIRTY_MEMORY_CODE));
    ASSERT_EQ(0, memory_region_snapshot_dirty(&ram, 0, 0x1000, DIRTY_MEMORY_VGA, &snapshot));
    ASSERT_EQ(0, memory_region_add_ram_discard_source(&ram, &source, 0x1000, true));
    section.mr = &ram;
    section.last = 0xfff;
    listener.populate = [](RamDiscardListener *, const MemoryRegionSection *) { return 0; };
    listener.discard = [](RamDiscardListener *, const MemoryRegionSection *) {};
    ASSERT_EQ(0, memory_region_register_ram_discard_listener(&listener, &section));
    ASSERT_EQ(0, ram_block_discard_disable(true));
    ASSERT_EQ(0, memory_region_set_counted(&dev[1].mr, true));
    ASSERT_EQ(0, memory_region_stop_calls(&dev[1].mr, MEMORY_STOP_REFUSE));
    ASSERT_EQ(0, address_space_cache_init(&cache, &as, 0x8000, 0x100));
    ASSERT_EQ(0, address_space_set_bounce_limit(&as, 64));
    ASSERT_EQ(0, address_space_map(&as, 0x1000, &len, MEMORY_MAP_WRITE, MemTxAttrs(), &bounced));
    ASSERT_EQ(64u, len);
    client.notify = [](MemoryMapClient *) {};
    ASSERT_EQ(0, address_space_register_map_client(&as, &client));
    std::atomic<bool> known{false}, done{false};
    std::thread thread([&] {
        EXPECT_EQ(0, memory_thread_register());
        known = true;
        while (!done) {
            std::this_thread::yield();
        }
    });
    while (!known) {
        std::this_thread::yield();
    }
    memory_get_stats(&with);
    EXPECT_EQ(2u, with.coalesced_ranges - before.coalesced_ranges);
    EXPECT_EQ(2u, with.log_clients - before.log_clients);
    EXPECT_EQ(1u, with.dirty_snapshots - before.dirty_snapshots);
    EXPECT_EQ(1u, with.discard_sources - before.discard_sources);
    EXPECT_EQ(1u, with.discard_listeners - before.discard_listeners);
    EXPECT_EQ(1u, with.discard_rights - before.discard_rights);
    EXPECT_EQ(1u, with.stopped_regions - before.stopped_regions);
    EXPECT_EQ(1u, with.cached_windows - before.cached_windows);
    EXPECT_EQ(64u, with.bounce_bytes - before.bounce_bytes);
    EXPECT_EQ(0u, with.mapped_parts - before.mapped_parts);
    EXPECT_EQ(1u, with.map_clients - before.map_clients);
    EXPECT_GE(with.threads, 1u);
    EXPECT_GE(with.kept_views, with.views);

    ASSERT_EQ(0, memory_region_clear_coalescing(&dev[0].mr));
    ASSERT_EQ(0, memory_region_set_log(&ram, false, DIRTY_MEMORY_VGA));
    ASSERT_EQ(0, memory_region_set_log(&ram, false, DIRTY_MEMORY_CODE));
    ASSERT_EQ(0, memory_region_set_log(&ram, false, DIRTY_MEMORY_CODE));
    memory_region_snapshot_free(snapshot);
    ASSERT_EQ(0, memory_region_unregister_ram_discard_listener(&listener));
    ASSERT_EQ(0, memory_region_del_ram_discard_source(&ram, &source));
    ASSERT_EQ(0, ram_block_discard_disable(false));
    ASSERT_EQ(0, memory_region_resume_calls(&dev[1].mr));
    ASSERT_EQ(0, address_space_unregister_map_client(&as, &client));
    ASSERT_EQ(0, address_space_unmap(&as, bounced, len, MEMORY_MAP_WRITE, 0, nullptr));
    address_space_cache_destroy(&cache);
    done = true;
    thread.join();
    memory_get_stats(&after);
    EXPECT_EQ(before.coalesced_ranges, after.coalesced_ranges);
    EXPECT_EQ(before.log_clients, after.log_clients);
    EXPECT_EQ(before.dirty_snapshots, after.dirty_snapshots);
    EXPECT_EQ(before.discard_sources, after.discard_sources);
    EXPECT_EQ(before.discard_listeners, after.discard_listeners);
    EXPECT_EQ(before.discard_rights, after.discard_rights);
    EXPECT_EQ(before.stopped_regions, after.stopped_regions);
    EXPECT_EQ(before.cached_windows, after.cached_windows);
    EXPECT_EQ(before.bounce_bytes, after.bounce_bytes);
    EXPECT_EQ(before.map_clients, after.map_clients);
}

TEST(MemoryFromHost, HostPointersLeadToRegionsAndBack)
{
    MemoryStats before, with, after;
    MemoryRegion ram, rom, dev, mine;
    std::vector<uint8_t> buffer(0x1000);
    hwaddr offset = 99;

    memory_get_stats(&before);
    ASSERT_EQ(0, memory_region_init_ram(&ram, "ram", 0x3001));
    ASSERT_EQ(0, memory_region_init_rom(&rom, "rom", 0x1000));
    ASSERT_EQ(0, memory_region_init_io(&dev, device_ops(), "dev", 0x1000));
    ASSERT_EQ(0, memory_region_init_ram_ptr(&mine, "mine", 0x800, buffer.data() + 0x400));
    memory_get_stats(&with);
    EXPECT_EQ(3u, with.ram_blocks - before.ram_blocks);
    EXPECT_EQ(0x3001u + 0x1000 + 0x800, with.ram_bytes - before.ram_bytes);
    for (MemoryRegion *mr : {&ram, &rom, &mine}) {
        uint8_t *host = static_cast<uint8_t *>(memory_region_get_ram_ptr(mr));
        for (hwaddr at : {hwaddr(0), hwaddr(1), memory_region_size(mr) - 1}) {
            ASSERT_EQ(mr, memory_region_from_host(host + at, &offset));
            ASSERT_EQ(at, offset);
        }
        EXPECT_EQ(mr, memory_region_from_host(host, nullptr));
    }
    offset = 99;
    EXPECT_EQ(nullptr, memory_region_from_host(buffer.data() + 0x3ff, &offset));
    EXPECT_EQ(nullptr, memory_region_from_host(buffer.data() + 0xc00, &offset));
    EXPECT_EQ(nullptr, memory_region_from_host(nullptr, &offset));
    EXPECT_EQ(nullptr, memory_region_from_host(&offset, &offset));
    EXPECT_EQ(99u, offset);

    /* Destroyed is not found any more, though it is not released yet; aborted is. */
    void *host = memory_region_get_ram_ptr(&ram);
    memory_read_begin();
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_destroy(&ram));
    EXPECT_EQ(&ram, memory_region_from_host(host, &offset));
    memory_transaction_abort();
    EXPECT_EQ(&ram, memory_region_from_host(host, &offset));
    ASSERT_EQ(0, memory_region_destroy(&ram));
    EXPECT_EQ(nullptr, memory_region_from_host(host, &offset));
    memory_read_end();
    for (MemoryRegion *mr : {&rom, &dev, &mine}) {
        ASSERT_EQ(0, memory_region_destroy(mr));
    }
    for (MemoryRegion *mr : {&ram, &rom, &dev, &mine}) {
        ASSERT_EQ(0, memory_region_quiesce(mr));
    }
    memory_get_stats(&after);
    EXPECT_EQ(before.ram_blocks, after.ram_blocks);
    EXPECT_EQ(before.ram_bytes, after.ram_bytes);
}

} // namespace
