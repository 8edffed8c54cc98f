/* SPDX-License-Identifier: MIT */
/*
 * Devices do DMA through an IOMMU while its table changes under them: after a notification no access that starts later may
 * use what was there before, and after a drain the page that was mapped is nobody's.
 */
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include <flatview/memory.h>

namespace {

constexpr unsigned Pages = 24, Iovas = 8, Page = 0x1000, Unmapped = ~0u;

struct State { /* of an iova, as its owner has announced it: changes before it is taken back, and after it is true */
    std::atomic<uint64_t> version{0};
    std::atomic<unsigned> page{Unmapped};
};

struct Race {
    MemoryRegion mr; /* the IOMMU; first */
    std::atomic<unsigned> table[Iovas];
    State state[Iovas];
    AddressSpace dma = {}, memory = {};
    MemoryRegion system, ram;
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> wrong{0}, judged{0}, refused{0}, calls{0};
};

IOMMUTLBEntry translate(MemoryRegion *mr, hwaddr addr, IOMMUAccessFlags, unsigned)
{
    Race *race = reinterpret_cast<Race *>(mr);
    hwaddr first = addr & ~hwaddr(Page - 1);
    unsigned page = addr / Page < Iovas ? race->table[addr / Page].load(std::memory_order_relaxed) : Unmapped;

    race->calls++;
    if (page == Unmapped) {
        return {nullptr, first, first + Page - 1, 0, IOMMU_NONE};
    }
    return {&race->memory, first, first + Page - 1, page * hwaddr(Page), IOMMU_RW};
}

uint64_t *word(Race *race, unsigned page, unsigned i)
{
    return static_cast<uint64_t *>(memory_region_get_ram_ptr(&race->ram)) + page * (Page / 8) + i;
}

/* Word 0 of each page says which it is; a device writes to all the others. */
void device(Race *race, unsigned seed)
{
    std::mt19937 random(seed);
    MemTxAttrs attrs = {};
    uint8_t burst[256];

    memset(burst, 0xdd, sizeof(burst));
    while (!race->stop) {
        unsigned iova = random() % Iovas;
        State *state = &race->state[iova];
        uint64_t version = state->version.load(std::memory_order_acquire), value = Unmapped;
        unsigned page = state->page.load(std::memory_order_acquire);
        MemTxResult result = MEMTX_OK;

        switch (random() % 3) {
        case 0:
            result = address_space_stq_le(&race->dma, iova * Page + 8 + random() % 500 * 8, attrs, 0xdddddddddddddddd);
            value = page;
            break;
        case 1:
            result = address_space_write(&race->dma, iova * Page + 8 + random() % 3000, attrs, burst, sizeof(burst));
            value = page;
            break;
        default:
            result = address_space_ldq_le(&race->dma, iova * Page, attrs, &value);
            break;
        }
        /* Even: it was true all the time. Odd: it was being changed. A read-modify-write, which comes after all before. */
        if (version % 2 == 0 && state->version.fetch_add(0) == version) {
            race->judged++;
            race->refused += page == Unmapped;
            race->wrong += page == Unmapped ? result != MEMTX_DECODE_ERROR : result != MEMTX_OK || value != page;
        }
    }
}

int tell(Race *race, IOMMUNotifierFlag type, unsigned iova, unsigned page)
{
    IOMMUTLBEvent event = {type, {}};

    event.entry.iova = iova * hwaddr(Page);
    event.entry.last = event.entry.iova + Page - 1;
    if (type == IOMMU_NOTIFIER_MAP) {
        event.entry.target_as = &race->memory;
        event.entry.translated_addr = page * hwaddr(Page);
        event.entry.perm = IOMMU_RW;
    }
    return memory_region_notify_iommu(&race->mr, 0, event);
}

void unmap(Race *race, unsigned iova)
{
    race->state[iova].version++;
    race->table[iova] = Unmapped;
    ASSERT_EQ(0, tell(race, IOMMU_NOTIFIER_UNMAP, iova, 0));
    race->state[iova].page = Unmapped;
    race->state[iova].version++;
}

void map(Race *race, unsigned iova, unsigned page)
{
    race->state[iova].version++;
    race->table[iova] = page;
    ASSERT_EQ(0, tell(race, IOMMU_NOTIFIER_MAP, iova, page));
    race->state[iova].page = page;
    race->state[iova].version++;
}

/* The page is ours: nobody may touch it while we look. */
void expect_quiet(Race *race, unsigned page)
{
    for (unsigned i = 1; i < Page / 8; i++) {
        __atomic_store_n(word(race, page, i), 0x0505050505050505, __ATOMIC_RELAXED);
    }
    for (unsigned round = 0; round < 3; round++) {
        std::this_thread::yield();
        for (unsigned i = 1; i < Page / 8; i++) {
            ASSERT_EQ(0x0505050505050505u, __atomic_load_n(word(race, page, i), __ATOMIC_RELAXED));
        }
    }
}

TEST(MemoryIommuRace, WhatIsUnmappedIsNotTouchedAnyMore)
{
    auto race = std::make_unique<Race>();
    MemoryRegionIOMMUOps ops = {};
    std::vector<unsigned> spare;
    std::vector<std::thread> devices;
    std::mt19937 random(1);

    ops.translate = translate;
    ASSERT_EQ(0, memory_region_init(&race->system, "system", UINT64_MAX));
    ASSERT_EQ(0, memory_region_init_ram(&race->ram, "ram", Pages * Page));
    ASSERT_EQ(0, memory_region_add_subregion(&race->system, 0, &race->ram));
    ASSERT_EQ(0, address_space_init(&race->memory, &race->system, "memory"));
    ASSERT_EQ(0, memory_region_init_iommu(&race->mr, &ops, "iommu", UINT64_MAX));
    ASSERT_EQ(0, address_space_init(&race->dma, &race->mr, "dma"));
    for (unsigned page = 0; page < Pages; page++) {
        *word(race.get(), page, 0) = page;
        spare.push_back(page);
    }
    for (unsigned iova = 0; iova < Iovas; iova++) {
        race->table[iova] = Unmapped;
    }
    for (unsigned seed = 0; seed < 3; seed++) {
        devices.emplace_back(device, race.get(), seed + 10);
    }
    for (unsigned round = 0; round < 1500 || race->judged < 3000; round++) {
        unsigned iova = random() % Iovas, page = race->state[iova].page;
        MemTxAttrs attrs = {};
        uint64_t value;

        if (page == Unmapped) {
            std::swap(spare[random() % spare.size()], spare.back());
            map(race.get(), iova, spare.back());
            spare.pop_back();
            continue;
        }
        unmap(race.get(), iova);
        ASSERT_EQ(MEMTX_DECODE_ERROR, address_space_ldq_le(&race->dma, iova * Page, attrs, &value));
        if (round % 64 == 0) {
            ASSERT_EQ(0, memory_region_iommu_drain(&race->mr));
            expect_quiet(race.get(), page);
        }
        spare.push_back(page);
    }
    race->stop = true;
    for (auto &thread : devices) {
        thread.join();
    }
    EXPECT_EQ(0u, race->wrong);
    EXPECT_GT(race->refused, 0u);
    EXPECT_GT(race->judged, race->refused);
    ASSERT_EQ(0, address_space_destroy(&race->dma, nullptr));
    ASSERT_EQ(0, address_space_destroy(&race->memory, nullptr));
    ASSERT_EQ(0, memory_region_del_subregion(&race->system, &race->ram));
    for (MemoryRegion *mr : {&race->ram, &race->system, &race->mr}) {
        ASSERT_EQ(0, memory_region_destroy(mr));
        ASSERT_EQ(0, memory_region_quiesce(mr));
    }
}

/* Mirrors come and go while the table changes: at each point where all is quiet, what they have is the table. */
struct Mirror {
    IOMMUNotifier n; /* first */
    std::map<hwaddr, hwaddr> ranges;
};

TEST(MemoryIommuRace, MirrorsThatComeAndGoEndWithTheTable)
{
    auto race = std::make_unique<Race>();
    MemoryRegionIOMMUOps ops = {};
    std::mutex table_lock; /* changes and their notifications in one order, as a device model has them */
    std::vector<std::thread> writers;

    ops.translate = translate;
    ASSERT_EQ(0, memory_region_init(&race->system, "system", UINT64_MAX));
    ASSERT_EQ(0, address_space_init(&race->memory, &race->system, "memory"));
    ASSERT_EQ(0, memory_region_init_iommu(&race->mr, &ops, "iommu", Iovas * Page));
    for (unsigned iova = 0; iova < Iovas; iova++) {
        race->table[iova] = Unmapped;
    }
    for (unsigned seed = 0; seed < 2; seed++) {
        writers.emplace_back([&, seed] {
            std::mt19937 random(seed);
            while (!race->stop) {
                std::lock_guard<std::mutex> guard(table_lock);
                unsigned iova = random() % Iovas;
                if (race->table[iova] == Unmapped) {
                    map(race.get(), iova, random() % Pages);
                } else {
                    unmap(race.get(), iova);
                }
            }
        });
    }
    for (unsigned round = 0; round < 300; round++) {
        Mirror mirror = {};

        iommu_notifier_init(
            &mirror.n,
            [](IOMMUNotifier *n, const IOMMUTLBEntry *entry) {
                auto &ranges = reinterpret_cast<Mirror *>(n)->ranges;
                if (entry->perm == IOMMU_NONE) {
                    ranges.erase(entry->iova);
                } else {
                    ranges[entry->iova] = entry->translated_addr;
                }
            },
            IOMMU_NOTIFIER_IOTLB_EVENTS, 0, UINT64_MAX, 0);
        ASSERT_EQ(0, memory_region_register_iommu_notifier(&race->mr, &mirror.n));
        std::this_thread::yield();
        ASSERT_EQ(0, memory_region_iommu_replay(&race->mr, &mirror.n));
        std::this_thread::yield();
        {
            std::lock_guard<std::mutex> guard(table_lock);
            for (unsigned iova = 0; iova < Iovas; iova++) {
                unsigned page = race->table[iova];
                auto found = mirror.ranges.find(iova * hwaddr(Page));
                ASSERT_EQ(page != Unmapped, found != mirror.ranges.end());
                if (page != Unmapped) {
                    ASSERT_EQ(page * hwaddr(Page), found->second);
                }
            }
        }
        ASSERT_EQ(0, memory_region_unregister_iommu_notifier(&race->mr, &mirror.n));
    }
    race->stop = true;
    for (auto &thread : writers) {
        thread.join();
    }
    ASSERT_EQ(0, address_space_destroy(&race->memory, nullptr));
    for (MemoryRegion *mr : {&race->system, &race->mr}) {
        ASSERT_EQ(0, memory_region_destroy(mr));
        ASSERT_EQ(0, memory_region_quiesce(mr));
    }
}

} // namespace
