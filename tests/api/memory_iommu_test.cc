/* SPDX-License-Identifier: MIT */
/*
 * IOMMU regions as a user has them: a device's space that is an IOMMU region, over a system space with two blocks of RAM
 * and a device.
 */
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <vector>

#include <flatview/memory.h>

#include "api/machine.h"

namespace {

struct Iommu {
    MemoryRegion mr; /* first */
    std::map<hwaddr, IOMMUTLBEntry> table[2];
    std::function<IOMMUTLBEntry(hwaddr, IOMMUAccessFlags)> ask; /* instead of the table */
    unsigned calls, faults, flag_changes;
    int refuse;
    IOMMUNotifierFlag flags;
    IOMMUAccessFlags asked_for;
    int released;
};

Iommu *iommu_of(MemoryRegion *mr)
{
    return reinterpret_cast<Iommu *>(mr);
}

IOMMUTLBEntry translate(MemoryRegion *mr, hwaddr addr, IOMMUAccessFlags flag, unsigned index)
{
    Iommu *iommu = iommu_of(mr);
    auto &table = iommu->table[index];
    auto next = table.upper_bound(addr);

    iommu->calls++;
    iommu->asked_for = flag;
    if (iommu->ask) {
        return iommu->ask(addr, flag);
    }
    IOMMUTLBEntry none = {nullptr, 0, UINT64_MAX, 0, IOMMU_NONE};
    if (next != table.end()) {
        none.last = next->first - 1;
    }
    if (next == table.begin()) {
        iommu->faults++;
        return none;
    }
    const IOMMUTLBEntry &entry = std::prev(next)->second;
    if (addr <= entry.last) {
        return entry;
    }
    none.iova = entry.last + 1;
    iommu->faults++;
    return none;
}

MemoryRegionIOMMUOps make_ops()
{
    MemoryRegionIOMMUOps ops = {};
    ops.translate = translate;
    ops.num_indexes = 2;
    ops.attrs_to_index = [](MemoryRegion *, MemTxAttrs attrs) -> unsigned { return attrs.user ? 7 : attrs.secure; };
    ops.notify_flag_changed = [](MemoryRegion *mr, IOMMUNotifierFlag from, IOMMUNotifierFlag to) {
        EXPECT_EQ(iommu_of(mr)->flags, from);
        if (iommu_of(mr)->refuse) {
            return iommu_of(mr)->refuse;
        }
        iommu_of(mr)->flags = to;
        iommu_of(mr)->flag_changes++;
        return 0;
    };
    return ops;
}

const MemoryRegionIOMMUOps ops = make_ops();
MemTxAttrs attrs;

struct Notifier {
    IOMMUNotifier n; /* first */
    std::vector<IOMMUTLBEntry> heard;
    std::function<void()> act;
};

void hear(IOMMUNotifier *n, const IOMMUTLBEntry *entry)
{
    Notifier *notifier = reinterpret_cast<Notifier *>(n);

    notifier->heard.push_back(*entry);
    if (notifier->act) {
        notifier->act();
    }
}

class MemoryIommu : public testing::Test {
public:
    void SetUp() override
    {
        attrs = MemTxAttrs();
        iommu = Iommu();
        inner = Iommu();
        ASSERT_EQ(0, memory_region_init(&system, "system", UINT64_MAX));
        ASSERT_EQ(0, memory_region_init_ram(&ram, "ram", 0x4000));
        ASSERT_EQ(0, memory_region_init_ram(&ram2, "ram2", 0x4000));
        device_init(&dev, "dev", 0x1000);
        ASSERT_EQ(0, memory_region_add_subregion(&system, 0x10000, &ram));
        ASSERT_EQ(0, memory_region_add_subregion(&system, 0x20000, &ram2));
        ASSERT_EQ(0, memory_region_add_subregion(&system, 0x30000, &dev.mr));
        ASSERT_EQ(0, address_space_init(&memory, &system, "memory"));
        ASSERT_EQ(0, memory_region_init_iommu(&iommu.mr, &ops, "iommu", UINT64_MAX));
        ASSERT_EQ(0, memory_region_set_release(&iommu.mr, [](MemoryRegion *mr) { iommu_of(mr)->released++; }));
        ASSERT_EQ(0, memory_region_init_iommu(&inner.mr, &ops, "inner", UINT64_MAX));
        ASSERT_EQ(0, address_space_init(&dma, &iommu.mr, "dma"));
        ASSERT_EQ(0, address_space_init(&inner_dma, &inner.mr, "inner dma"));
    }

    void TearDown() override
    {
        ASSERT_EQ(0, address_space_destroy(&dma, nullptr));
        ASSERT_EQ(0, address_space_destroy(&inner_dma, nullptr));
        ASSERT_EQ(0, memory_region_destroy(&iommu.mr));
        ASSERT_EQ(0, memory_region_quiesce(&iommu.mr));
        ASSERT_EQ(1, iommu.released);
        ASSERT_EQ(0, memory_region_destroy(&inner.mr));
        ASSERT_EQ(0, memory_region_quiesce(&inner.mr));
        ASSERT_EQ(0, address_space_destroy(&memory, nullptr));
        for (MemoryRegion *mr : {&ram, &ram2, &dev.mr}) {
            if (memory_region_get_parent(mr)) {
                ASSERT_EQ(0, memory_region_del_subregion(&system, mr));
            }
            ASSERT_EQ(0, memory_region_destroy(mr));
            ASSERT_EQ(0, memory_region_quiesce(mr));
        }
        ASSERT_EQ(0, memory_region_destroy(&system));
        ASSERT_EQ(0, memory_region_quiesce(&system));
    }

    void map(Iommu *to, hwaddr iova, hwaddr last, hwaddr addr, IOMMUAccessFlags perm = IOMMU_RW,
             AddressSpace *as = nullptr, unsigned index = 0)
    {
        to->table[index][iova] = {as ? as : &memory, iova, last, addr, perm};
    }

    int unmapped(hwaddr iova, hwaddr last, unsigned index = 0)
    {
        IOMMUTLBEvent event = {IOMMU_NOTIFIER_UNMAP, {nullptr, iova, last, 0, IOMMU_NONE}};

        return memory_region_notify_iommu(&iommu.mr, index, event);
    }

    int mapped(const IOMMUTLBEntry &entry, unsigned index = 0)
    {
        return memory_region_notify_iommu(&iommu.mr, index, IOMMUTLBEvent{IOMMU_NOTIFIER_MAP, entry});
    }

    uint8_t *host(MemoryRegion *mr)
    {
        return static_cast<uint8_t *>(memory_region_get_ram_ptr(mr));
    }

    MemoryRegion system, ram, ram2;
    Device dev;
    Iommu iommu, inner;
    AddressSpace memory = {}, dma = {}, inner_dma = {};
};

TEST_F(MemoryIommu, AccessesGoOnInTheTargetSpace)
{
    uint32_t word = 0;
    uint64_t quad = 0;

    map(&iommu, 0x1000, 0x2fff, 0x10800);
    map(&iommu, 0x8000, 0x8fff, 0x30000);
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&dma, 0x1004, attrs, 0x12345678));
    EXPECT_EQ(0x78, host(&ram)[0x804]);
    EXPECT_EQ(MEMTX_OK, address_space_ldl_be(&dma, 0x1004, attrs, &word));
    EXPECT_EQ(0x78563412u, word);
    EXPECT_EQ(MEMTX_OK, address_space_ldq_le(&dma, 0x8010, attrs, &quad));
    EXPECT_EQ(0x10u, quad);
    EXPECT_EQ(MEMTX_OK, address_space_stq_le(&dma, 0x8018, attrs, 77));
    EXPECT_EQ(0x18u, dev.written_at);
    EXPECT_EQ(77u, dev.written);
}

TEST_F(MemoryIommu, NothingTranslatedIsADecodeErrorNoPermissionAnAccessError)
{
    uint32_t word = 9;

    map(&iommu, 0, 0xfff, 0x10000, IOMMU_RO);
    map(&iommu, 0x1000, 0x1fff, 0x10000, IOMMU_WO);
    map(&iommu, 0x3000, 0x3fff, 0x70000); /* to where nothing answers */
    EXPECT_EQ(MEMTX_ACCESS_ERROR, address_space_stl_le(&dma, 0, attrs, 1));
    EXPECT_EQ(MEMTX_OK, address_space_ldl_le(&dma, 0, attrs, &word));
    EXPECT_EQ(0u, word);
    word = 9;
    EXPECT_EQ(MEMTX_ACCESS_ERROR, address_space_ldl_le(&dma, 0x1000, attrs, &word));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldl_le(&dma, 0x2000, attrs, &word));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_stl_le(&dma, 0x2000, attrs, 1));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldl_le(&dma, 0x3000, attrs, &word));
    EXPECT_EQ(9u, word);
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&dma, 0x1000, attrs, 5));
    EXPECT_EQ(5, host(&ram)[0]);
}

TEST_F(MemoryIommu, BulkCopiesAreCutWhereTranslationsChangeAndSayWhatFailed)
{
    uint8_t buf[0x3000];

    memset(host(&ram), 0x11, 0x4000);
    memset(host(&ram2), 0x22, 0x4000);
    map(&iommu, 0, 0x7ff, 0x20000);        /* not a page */
    map(&iommu, 0x800, 0x17ff, 0x10000);
    map(&iommu, 0x2000, 0x2fff, 0x13800); /* leaves ram half way */
    memset(buf, 0xee, sizeof(buf));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_read(&dma, 0, attrs, buf, sizeof(buf)));
    for (size_t i = 0; i < sizeof(buf); i++) {
        ASSERT_EQ(i < 0x800 ? 0x22 : i < 0x1800 ? 0x11 : i < 0x2000 ? 0xee : i < 0x2800 ? 0x11 : 0xee, buf[i]) << i;
    }
    EXPECT_EQ(MEMTX_OK, address_space_read(&dma, 0, attrs, buf, 0x1800));
    memset(buf, 0x33, sizeof(buf));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_write(&dma, 0x1400, attrs, buf, 0x1000));
    EXPECT_EQ(0x11, host(&ram)[0xbff]);
    EXPECT_EQ(0x33, host(&ram)[0xc00]);
    EXPECT_EQ(0x33, host(&ram)[0xfff]);
    EXPECT_EQ(0x33, host(&ram)[0x3800]);
    EXPECT_EQ(0x33, host(&ram)[0x3bff]);
    EXPECT_EQ(0x11, host(&ram)[0x3c00]);
}

TEST_F(MemoryIommu, TypedAccessesThatStraddleTranslationsAreDoneInParts)
{
    uint64_t value = 0;

    map(&iommu, 0, 0xffd, 0x10000);
    map(&iommu, 0xffe, 0x1fff, 0x20000);
    EXPECT_EQ(MEMTX_OK, address_space_stq_be(&dma, 0xffa, attrs, 0x0102030405060708));
    EXPECT_EQ(0, memcmp(host(&ram) + 0xffa, "\1\2\3\4", 4));
    EXPECT_EQ(0, memcmp(host(&ram2), "\5\6\7\10", 4));
    EXPECT_EQ(MEMTX_OK, address_space_ldq_le(&dma, 0xffa, attrs, &value));
    EXPECT_EQ(0x0807060504030201u, value);
    iommu.table[0].erase(0xffe);
    ASSERT_EQ(0, unmapped(0xffe, 0x1fff));
    value = 5;
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldq_le(&dma, 0xffa, attrs, &value));
    EXPECT_EQ(5u, value);
    EXPECT_EQ(1u, iommu.faults); /* reported once */
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldq_le(&dma, 0xffe, attrs, &value));
    EXPECT_EQ(2u, iommu.faults);
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_stq_le(&dma, 0xffa, attrs, 0));
    EXPECT_EQ(0, host(&ram)[0xffa]); /* the part that could be done is */
}

TEST_F(MemoryIommu, TranslationsAreCachedUntilToldOtherwise)
{
    uint32_t word;

    map(&iommu, 0, 0xfff, 0x10000);
    map(&iommu, 0x1000, 0x1fff, 0x20000);
    for (int i = 0; i < 10; i++) {
        ASSERT_EQ(MEMTX_OK, address_space_ldl_le(&dma, 0, attrs, &word));
        ASSERT_EQ(MEMTX_OK, address_space_ldl_le(&dma, 0x1000, attrs, &word));
    }
    EXPECT_EQ(2u, iommu.calls);

    /* Without a notification the old one serves: what is cached is used. */
    map(&iommu, 0, 0xfff, 0x12000);
    host(&ram)[0] = 1;
    host(&ram)[0x2000] = 2;
    ASSERT_EQ(MEMTX_OK, address_space_ldl_le(&dma, 0, attrs, &word));
    EXPECT_EQ(1u, word);
    ASSERT_EQ(0, unmapped(0, 0xfff));
    ASSERT_EQ(MEMTX_OK, address_space_ldl_le(&dma, 0, attrs, &word));
    EXPECT_EQ(2u, word);
    EXPECT_EQ(3u, iommu.calls);

    /* The other range was not touched: it is not asked for again, unless more came in between than is remembered. */
    ASSERT_EQ(MEMTX_OK, address_space_ldl_le(&dma, 0x1000, attrs, &word));
    EXPECT_EQ(3u, iommu.calls);
    for (unsigned i = 0; i < 50; i++) {
        ASSERT_EQ(0, unmapped(0x5000 + i, 0x5fff));
        ASSERT_EQ(0, unmapped(0, UINT64_MAX, 1)); /* another table's */
    }
    ASSERT_EQ(MEMTX_OK, address_space_ldl_le(&dma, 0x1000, attrs, &word));
    EXPECT_EQ(3u, iommu.calls);
    for (unsigned i = 0; i < 200; i++) {
        ASSERT_EQ(0, unmapped(0x5000 + i, 0x5fff));
    }
    ASSERT_EQ(MEMTX_OK, address_space_ldl_le(&dma, 0x1000, attrs, &word));
    EXPECT_EQ(4u, iommu.calls);
    ASSERT_EQ(0, unmapped(0x1fff, 0x1fff)); /* one byte of it */
    ASSERT_EQ(MEMTX_OK, address_space_ldl_le(&dma, 0x1000, attrs, &word));
    EXPECT_EQ(5u, iommu.calls);
}

TEST_F(MemoryIommu, CachedWindowsKeepAnEntryUntilItIsGone)
{
    MemoryRegionCache cache;
    uint32_t word;

    map(&iommu, 0, 0xfff, 0x10000);
    map(&iommu, 0x1000, 0x1fff, 0x20000);
    ASSERT_EQ(0, address_space_cache_init(&cache, &dma, 0x800, 0x1000));
    for (uint32_t i = 1; i < 10; i++) {
        ASSERT_EQ(MEMTX_OK, address_space_stl_le_cached(&cache, 0x10, attrs, i));
        ASSERT_EQ(MEMTX_OK, address_space_ldl_le_cached(&cache, 0x10, attrs, &word));
        EXPECT_EQ(i, word);
        EXPECT_EQ(i, host(&ram)[0x810]);
        ASSERT_EQ(MEMTX_OK, address_space_stl_le_cached(&cache, 0x810, attrs, i)) << "in the other entry";
        EXPECT_EQ(i, host(&ram2)[0x10]);
        ASSERT_EQ(MEMTX_OK, address_space_stl_le_cached(&cache, 0x7fe, attrs, 0x01010101 * i)) << "in both";
        EXPECT_EQ(i, host(&ram)[0xfff]);
        EXPECT_EQ(i, host(&ram2)[0]);
    }
    EXPECT_EQ(2u, iommu.calls) << "each entry was asked for once";

    /* That one is gone is seen at once, of others nothing is; and what was not granted is asked for each time. */
    ASSERT_EQ(MEMTX_OK, address_space_ldl_le_cached(&cache, 0x10, attrs, &word));
    map(&iommu, 0, 0xfff, 0x12000);
    ASSERT_EQ(0, unmapped(0x3000, 0x3fff));
    ASSERT_EQ(MEMTX_OK, address_space_ldl_le_cached(&cache, 0x10, attrs, &word));
    EXPECT_EQ(9u, word) << "the table was changed without a word, which is no change";
    host(&ram)[0x2810] = 77;
    ASSERT_EQ(0, unmapped(0xfff, 0xfff));
    ASSERT_EQ(MEMTX_OK, address_space_ldl_le_cached(&cache, 0x10, attrs, &word));
    EXPECT_EQ(77u, word);
    ASSERT_EQ(MEMTX_OK, address_space_ldl_le_cached(&cache, 0x810, attrs, &word));
    EXPECT_EQ(3u, iommu.calls);

    /* The map of either space changes. */
    ASSERT_EQ(MEMTX_OK, address_space_ldl_le_cached(&cache, 0x10, attrs, &word));
    ASSERT_EQ(0, memory_region_set_address(&ram, 0x40000));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldl_le_cached(&cache, 0x10, attrs, &word));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_stl_le_cached(&cache, 0x10, attrs, 5));
    EXPECT_EQ(77, host(&ram)[0x2810]);
    ASSERT_EQ(0, memory_region_set_address(&ram, 0x10000));
    ASSERT_EQ(MEMTX_OK, address_space_ldl_le_cached(&cache, 0x10, attrs, &word));
    ASSERT_EQ(0, memory_region_set_readonly(&iommu.mr, true));
    EXPECT_EQ(MEMTX_ACCESS_ERROR, address_space_stl_le_cached(&cache, 0x10, attrs, 5));
    ASSERT_EQ(MEMTX_OK, address_space_ldl_le_cached(&cache, 0x10, attrs, &word));
    EXPECT_EQ(77u, word);
    ASSERT_EQ(0, memory_region_set_readonly(&iommu.mr, false));

    /* Another table, by the attributes of the access. */
    MemTxAttrs secure = MemTxAttrs();
    secure.secure = 1;
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldl_le_cached(&cache, 0x10, secure, &word));
    map(&iommu, 0, 0xfff, 0x20000, IOMMU_RO, &memory, 1);
    host(&ram2)[0x810] = 88;
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(MEMTX_OK, address_space_ldl_le_cached(&cache, 0x10, secure, &word));
        EXPECT_EQ(88u, word);
        EXPECT_EQ(MEMTX_ACCESS_ERROR, address_space_stl_le_cached(&cache, 0x10, secure, 5));
        ASSERT_EQ(MEMTX_OK, address_space_ldl_le_cached(&cache, 0x10, attrs, &word));
        EXPECT_EQ(77u, word);
        ASSERT_EQ(MEMTX_OK, address_space_stl_le_cached(&cache, 0x10, attrs, 77));
    }
    address_space_cache_destroy(&cache);
}

TEST_F(MemoryIommu, PointersIntoCachedWindowsAskForTheEntryAndAreMarked)
{
    MemoryRegionCache cache;
    auto dirty = [&](MemoryRegion *mr, hwaddr at) { return memory_region_get_dirty(mr, at, 1, DIRTY_MEMORY_VGA); };

    map(&iommu, 0, 0xfff, 0x10000);
    map(&iommu, 0x1000, 0x1fff, 0x20000, IOMMU_RO);
    for (MemoryRegion *mr : {&ram, &ram2}) {
        ASSERT_EQ(0, memory_region_set_log(mr, true, DIRTY_MEMORY_VGA));
        ASSERT_EQ(0, memory_dirty_log_wait());
        ASSERT_EQ(0, memory_region_reset_dirty(mr, 0, 0x4000, DIRTY_MEMORY_VGA));
    }
    ASSERT_EQ(0, address_space_cache_init(&cache, &dma, 0x800, 0x1000));
    memory_read_begin();
    EXPECT_EQ(-EINVAL, address_space_cache_invalidate(&cache, 0, 4)) << "nothing was given away";
    EXPECT_EQ(host(&ram) + 0x800, address_space_cache_ptr(&cache, 0, 0x800, true)) << "the first to ask";
    EXPECT_EQ(nullptr, address_space_cache_ptr(&cache, 0, 0x801, false)) << "two entries";
    EXPECT_EQ(nullptr, address_space_cache_ptr(&cache, 0x800, 4, true)) << "not granted";
    EXPECT_EQ(host(&ram2), address_space_cache_ptr(&cache, 0x800, 4, false));
    EXPECT_EQ(-EINVAL, address_space_cache_invalidate(&cache, 0x800, 4)) << "not given away for writing";
    EXPECT_EQ(-EINVAL, address_space_cache_invalidate(&cache, 0x7ff, 2));
    EXPECT_EQ(0, address_space_cache_invalidate(&cache, 0x7ff, 1));
    memory_read_end();
    EXPECT_TRUE(dirty(&ram, 0xfff));
    EXPECT_FALSE(memory_region_get_dirty(&ram2, 0, 0x4000, DIRTY_MEMORY_VGA));
    ASSERT_EQ(MEMTX_OK, address_space_stb_cached(&cache, 1, attrs, 1)) << "a store that is logged";
    for (MemoryRegion *mr : {&ram, &ram2}) {
        ASSERT_EQ(0, memory_region_set_log(mr, false, DIRTY_MEMORY_VGA));
    }
    address_space_cache_destroy(&cache);
}

TEST_F(MemoryIommu, WhatIsNotPermittedIsNotCached)
{
    uint32_t word;

    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldl_le(&dma, 0, attrs, &word));
    map(&iommu, 0, 0xfff, 0x10000, IOMMU_RO);
    EXPECT_EQ(MEMTX_OK, address_space_ldl_le(&dma, 0, attrs, &word));
    EXPECT_EQ(MEMTX_ACCESS_ERROR, address_space_stl_le(&dma, 0, attrs, 1));
    EXPECT_EQ(IOMMU_WO, iommu.asked_for);
    map(&iommu, 0, 0xfff, 0x10000, IOMMU_RW);
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&dma, 0, attrs, 1));
    EXPECT_EQ(1, host(&ram)[0]);
}

TEST_F(MemoryIommu, AttributesChooseTheTable)
{
    MemTxAttrs secure = {}, odd = {};
    uint32_t word;

    secure.secure = 1;
    odd.user = 1;
    host(&ram)[0] = 1;
    host(&ram2)[0] = 2;
    map(&iommu, 0, 0xfff, 0x10000);
    map(&iommu, 0, 0xfff, 0x20000, IOMMU_RW, nullptr, 1);
    ASSERT_EQ(MEMTX_OK, address_space_ldl_le(&dma, 0, attrs, &word));
    EXPECT_EQ(1u, word);
    ASSERT_EQ(MEMTX_OK, address_space_ldl_le(&dma, 0, secure, &word));
    EXPECT_EQ(2u, word);
    EXPECT_EQ(MEMTX_ERROR, address_space_ldl_le(&dma, 0, odd, &word)); /* there is no table 7 */
    EXPECT_EQ(1u, memory_region_iommu_attrs_to_index(&iommu.mr, secure));
    EXPECT_EQ(2u, memory_region_iommu_num_indexes(&iommu.mr));
    EXPECT_EQ(0u, memory_region_iommu_num_indexes(&ram));
    EXPECT_EQ(1u, memory_region_iommu_get_min_page_size(&iommu.mr));
}

TEST_F(MemoryIommu, IommusBehindIommusAreFollowed)
{
    IOMMUTLBEntry entry;
    uint32_t word;

    map(&iommu, 0x1000, 0x4fff, 0x100, IOMMU_RW, &inner_dma);
    map(&inner, 0, 0x17ff, 0x10000, IOMMU_RO);
    host(&ram)[0x104] = 9;
    ASSERT_EQ(MEMTX_OK, address_space_ldl_le(&dma, 0x1004, attrs, &word));
    EXPECT_EQ(9u, word);
    EXPECT_EQ(MEMTX_ACCESS_ERROR, address_space_stl_le(&dma, 0x1004, attrs, 1));
    ASSERT_EQ(MEMTX_OK, address_space_get_iotlb_entry(&dma, 0x1004, false, attrs, &entry));
    EXPECT_EQ(&memory, entry.target_as);
    EXPECT_EQ(0x1000u, entry.iova);
    EXPECT_EQ(0x26ffu, entry.last);
    EXPECT_EQ(0x10100u, entry.translated_addr);
    EXPECT_EQ(IOMMU_RO, entry.perm);
}

TEST_F(MemoryIommu, ASpaceThatLeadsToItselfIsAnErrorAndEnds)
{
    uint32_t word = 3;
    uint8_t buf[64];
    MemoryRegionSection section;

    map(&iommu, 0, UINT64_MAX, 0, IOMMU_RW, &dma);
    EXPECT_EQ(MEMTX_ERROR, address_space_ldl_le(&dma, 0, attrs, &word));
    EXPECT_EQ(MEMTX_ERROR, address_space_stl_le(&dma, 0, attrs, 0));
    EXPECT_EQ(MEMTX_ERROR, address_space_read(&dma, 0, attrs, buf, sizeof(buf)));
    EXPECT_EQ(MEMTX_ERROR, address_space_translate(&dma, 0, false, attrs, &section));
    EXPECT_EQ(3u, word);
    /* One that moves on at each turn: it ends where the chain does. */
    inner.ask = [this](hwaddr addr, IOMMUAccessFlags) {
        return IOMMUTLBEntry{&inner_dma, addr, addr, addr + 1, IOMMU_RW};
    };
    EXPECT_EQ(MEMTX_ERROR, address_space_ldl_le(&inner_dma, 0, attrs, &word));
    EXPECT_EQ(4u * MEMORY_IOMMU_MAX_CHAIN, inner.calls); /* each byte is a piece */
    /* Tables that are read through the region itself. */
    inner.ask = [this](hwaddr, IOMMUAccessFlags) {
        uint64_t table;
        MemTxResult result = address_space_ldq_le(&inner_dma, 0x1000, attrs, &table);
        return IOMMUTLBEntry{&memory, 0, UINT64_MAX, 0, result == MEMTX_OK ? IOMMU_RW : IOMMU_NONE};
    };
    inner.calls = 0;
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldl_le(&inner_dma, 0, attrs, &word));
    EXPECT_EQ(unsigned(MEMORY_IOMMU_MAX_CHAIN), inner.calls);
}

TEST_F(MemoryIommu, AMapThatLeadsToItselfIsRefusedByName)
{
    MemoryRegion alias;
    AddressSpace seen = {};
    Notifier notifier = {};

    iommu_notifier_init(&notifier.n, hear, IOMMU_NOTIFIER_ALL, 0, UINT64_MAX, 0);
    ASSERT_EQ(0, memory_region_register_iommu_notifier(&iommu.mr, &notifier.n));
    ASSERT_EQ(0, memory_region_init_alias(&alias, "alias", &iommu.mr, 0x1000, 0x1000));
    ASSERT_EQ(0, memory_region_add_subregion(&system, 0x50000, &alias));
    ASSERT_EQ(0, address_space_init(&seen, &alias, "alias of it"));
    EXPECT_EQ(-ELOOP, mapped({&dma, 0, 0xfff, 0, IOMMU_RW}));
    EXPECT_EQ(-ELOOP, mapped({&memory, 0, 0xfff, 0x4f800, IOMMU_RW}));
    EXPECT_EQ(-ELOOP, mapped({&seen, 0, 0xffff, 0x50000, IOMMU_RW}));
    EXPECT_EQ(0u, notifier.heard.size());
    EXPECT_EQ(0, mapped({&memory, 0, 0xfff, 0x4f000, IOMMU_RW}));
    EXPECT_EQ(1u, notifier.heard.size());
    EXPECT_EQ(0, memory_region_unregister_iommu_notifier(&iommu.mr, &notifier.n));
    EXPECT_EQ(0, address_space_destroy(&seen, nullptr));
    EXPECT_EQ(0, memory_region_del_subregion(&system, &alias));
    EXPECT_EQ(0, memory_region_destroy(&alias));
    EXPECT_EQ(0, memory_region_quiesce(&alias));
}

/* An alias of the IOMMU region in the very space to which it translates, directly and inside a container. */
TEST_F(MemoryIommu, AnAliasInTheTargetIsFollowedToAnEnd)
{
    MemoryRegion alias, box;
    AddressSpace boxed = {};
    MemoryRegionCache cache;
    IOMMUTLBEntry entry;
    uint32_t word = 3;
    uint8_t buf[16];

    ASSERT_EQ(0, memory_region_init_alias(&alias, "alias", &iommu.mr, 0x50000, 0x1000));
    ASSERT_EQ(0, memory_region_init(&box, "box", 0x2000));
    ASSERT_EQ(0, memory_region_add_subregion(&box, 0x1000, &alias));
    ASSERT_EQ(0, memory_region_add_subregion(&system, 0x4f000, &box));
    /* One to one, so that the alias at 0x50000 shows the IOMMU region at 0x50000, which leads to the alias, and so on. */
    map(&iommu, 0, UINT64_MAX, 0);
    ASSERT_EQ(0, address_space_cache_init(&cache, &dma, 0x50000, 0x100));
    for (AddressSpace *as : {&dma, &memory}) {
        EXPECT_EQ(MEMTX_ERROR, address_space_ldl_le(as, 0x50000, attrs, &word));
        EXPECT_EQ(MEMTX_ERROR, address_space_stl_le(as, 0x50000, attrs, 0));
        EXPECT_EQ(MEMTX_ERROR, address_space_read(as, 0x50ff0, attrs, buf, sizeof(buf)));
        EXPECT_EQ(MEMTX_ERROR, address_space_get_iotlb_entry(as, 0x50000, false, attrs, &entry));
        MemoryMapping mapping = {};
        MemoryMapRange range = {0x50000, 0x10};
        EXPECT_EQ(-EIO, address_space_map_sg(as, &range, 1, MEMORY_MAP_READ, attrs, &mapping));
    }
    EXPECT_EQ(MEMTX_ERROR, address_space_ldl_le_cached(&cache, 0, attrs, &word));
    EXPECT_EQ(3u, word);
    memory_read_begin();
    EXPECT_EQ(nullptr, address_space_cache_ptr(&cache, 0, 4, false));
    memory_read_end();
    /* What lies beside it is reached as ever; and the map is told apart by name where it can be seen. */
    host(&ram)[0] = 42;
    EXPECT_EQ(MEMTX_OK, address_space_ldl_le(&dma, 0x10000, attrs, &word));
    EXPECT_EQ(42u, word);
    EXPECT_EQ(-ELOOP, mapped({&memory, 0x50000, 0x50fff, 0x50000, IOMMU_RW}));
    EXPECT_EQ(-ELOOP, mapped({&memory, 0, UINT64_MAX, 0, IOMMU_RW})) << "somewhere in it";
    ASSERT_EQ(0, address_space_init(&boxed, &box, "a container that shows it"));
    EXPECT_EQ(-ELOOP, mapped({&boxed, 0, 0x1fff, 0x4f000, IOMMU_RW}));
    EXPECT_EQ(0, mapped({&boxed, 0, 0xfff, 0x4f000, IOMMU_RW})) << "beside it";
    /* Into the region itself it cannot be put: then it would show itself, without any table. */
    ASSERT_EQ(0, memory_region_del_subregion(&box, &alias));
    EXPECT_EQ(-ELOOP, memory_region_add_subregion(&iommu.mr, 0x50000, &alias));
    EXPECT_EQ(nullptr, memory_region_get_parent(&alias));
    address_space_cache_destroy(&cache);
    EXPECT_EQ(0, address_space_destroy(&boxed, nullptr));
    EXPECT_EQ(0, memory_region_del_subregion(&system, &box));
    for (MemoryRegion *mr : {&alias, &box}) {
        EXPECT_EQ(0, memory_region_destroy(mr));
        EXPECT_EQ(0, memory_region_quiesce(mr));
    }
}

TEST_F(MemoryIommu, EntriesThatContradictThemselvesAreErrors)
{
    uint32_t word;
    uint8_t buf[0x100];

    for (auto entry : {IOMMUTLBEntry{&memory, 0x1000, 0x1fff, 0x10000, IOMMU_RW},
                       IOMMUTLBEntry{nullptr, 0, 0xfff, 0x10000, IOMMU_RW},
                       IOMMUTLBEntry{&memory, 0, 0x7f, 0x10000, IOMMU_NONE}}) {
        iommu.ask = [entry](hwaddr, IOMMUAccessFlags) { return entry; };
        EXPECT_EQ(MEMTX_ERROR, address_space_ldl_le(&dma, 0x80, attrs, &word));
        iommu.calls = 0;
        EXPECT_EQ(MEMTX_ERROR, address_space_read(&dma, 0x80, attrs, buf, sizeof(buf)));
        EXPECT_EQ(1u, iommu.calls);
    }
    /* A target that ends before the entry does: the rest is not there. */
    iommu.ask = [this](hwaddr, IOMMUAccessFlags) {
        return IOMMUTLBEntry{&memory, 0, 0xfff, UINT64_MAX - 0x7f, IOMMU_RW};
    };
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldl_le(&dma, 0x80, attrs, &word));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_read(&dma, 0, attrs, buf, sizeof(buf)));
}

TEST_F(MemoryIommu, OneCallStaysInOneViewOfEachSpace)
{
    /* dev's callback takes ram2 away, in the middle of a copy that has been in its space already. */
    static MemoryRegion *gone, *parent;
    static const MemoryRegionOps evil = [] {
        MemoryRegionOps o = *device_ops();
        o.read = [](MemoryRegion *, hwaddr, unsigned) -> uint64_t {
            EXPECT_EQ(0, memory_region_del_subregion(parent, gone));
            return 0;
        };
        return o;
    }();
    MemoryRegion trap;
    uint8_t buf[24];

    gone = &ram2;
    parent = &system;
    ASSERT_EQ(0, memory_region_init_io(&trap, &evil, "trap", 8));
    ASSERT_EQ(0, memory_region_add_subregion(&system, 0x60000, &trap));
    map(&iommu, 0, 7, 0x10000);
    map(&iommu, 8, 15, 0x60000);
    map(&iommu, 16, 23, 0x20000);
    memset(host(&ram2), 0x55, 8);
    EXPECT_EQ(MEMTX_OK, address_space_read(&dma, 0, attrs, buf, sizeof(buf)));
    EXPECT_EQ(0x55, buf[16]);
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_read(&dma, 16, attrs, buf, 8));
    EXPECT_EQ(0, memory_region_del_subregion(&system, &trap));
    EXPECT_EQ(0, memory_region_destroy(&trap));
    EXPECT_EQ(0, memory_region_quiesce(&trap));
}

TEST_F(MemoryIommu, MoreSpacesInOneCallThanThereMayBeAreAnError)
{
    std::vector<AddressSpace> spaces(MEMORY_IOMMU_MAX_SPACES + 1);
    uint8_t buf[(MEMORY_IOMMU_MAX_SPACES + 1) * 16];

    for (size_t i = 0; i < spaces.size(); i++) {
        ASSERT_EQ(0, address_space_init(&spaces[i], &system, "another"));
        map(&iommu, i * 16, i * 16 + 15, 0x10000, IOMMU_RW, &spaces[i]);
    }
    EXPECT_EQ(MEMTX_OK, address_space_read(&dma, 0, attrs, buf, (MEMORY_IOMMU_MAX_SPACES - 1) * 16));
    EXPECT_EQ(MEMTX_ERROR, address_space_read(&dma, 0, attrs, buf, sizeof(buf)));
    iommu.table[0].clear();
    ASSERT_EQ(0, unmapped(0, UINT64_MAX));
    for (auto &as : spaces) {
        ASSERT_EQ(0, address_space_destroy(&as, nullptr));
    }
    ASSERT_EQ(0, memory_reclaim());
}

TEST_F(MemoryIommu, QueriesResolveThroughIt)
{
    MemoryRegionSection section;
    IOMMUTLBEntry entry;
    FlatView *view = address_space_get_flatview(&dma);

    map(&iommu, 0x1000, 0x1fff, 0x11000, IOMMU_RO);
    map(&iommu, 0x4000, 0x5fff, 0x2f800);
    memory_read_begin();
    ASSERT_EQ(MEMTX_OK, address_space_translate(&dma, 0x1234, false, attrs, &section));
    EXPECT_EQ(&ram, section.mr);
    EXPECT_EQ(0x1000u, section.offset_within_address_space);
    EXPECT_EQ(0x1fffu, section.last);
    EXPECT_EQ(0x1000u, section.offset_within_region);
    EXPECT_EQ(host(&ram) + 0x1000, section.host);
    EXPECT_TRUE(section.readonly);
    EXPECT_EQ(MEMTX_ACCESS_ERROR, address_space_translate(&dma, 0x1234, true, attrs, &section));
    ASSERT_EQ(MEMTX_OK, address_space_translate(&dma, 0x5000, true, attrs, &section));
    EXPECT_EQ(&dev.mr, section.mr);
    EXPECT_EQ(0x4800u, section.offset_within_address_space);
    EXPECT_EQ(0x57ffu, section.last);
    EXPECT_EQ(0u, section.offset_within_region);
    EXPECT_FALSE(section.readonly);
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_translate(&dma, 0x4000, false, attrs, &section));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_get_iotlb_entry(&dma, 0x3000, false, attrs, &entry));
    ASSERT_EQ(MEMTX_OK, address_space_get_iotlb_entry(&memory, 0x10100, true, attrs, &entry));
    EXPECT_EQ(&memory, entry.target_as);
    EXPECT_EQ(0x10000u, entry.translated_addr);
    EXPECT_EQ(0x13fffu, entry.last);
    EXPECT_EQ(IOMMU_RW, entry.perm);
    memory_read_end();

    /* The view has the region itself. */
    EXPECT_EQ("0-ffffffffffffffff iommu@0", text_of(view));
    ASSERT_TRUE(flatview_find(view, 0x1000, &section));
    EXPECT_TRUE(memory_region_is_iommu(section.mr));
    EXPECT_EQ(nullptr, section.host);
    EXPECT_FALSE(memory_region_is_iommu(&ram));
    EXPECT_FALSE(memory_region_is_ram(section.mr));
    flatview_unref(view);
}

TEST_F(MemoryIommu, ItMayHaveChildrenBeAliasedAndReadOnly)
{
    MemoryRegion alias, msi;
    AddressSpace as = {};
    uint32_t word;

    ASSERT_EQ(0, memory_region_init_alias(&alias, "alias", &iommu.mr, 0x1000, 0x1000));
    ASSERT_EQ(0, memory_region_init_ram(&msi, "msi", 0x100));
    ASSERT_EQ(0, memory_region_add_subregion_overlap(&iommu.mr, 0x1800, &msi, 1));
    ASSERT_EQ(0, address_space_init(&as, &alias, "window"));
    map(&iommu, 0x1000, 0x1fff, 0x10000);
    EXPECT_EQ("0-7ff iommu@1000 800-8ff msi@0 900-fff iommu@1900", text_of(&as));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x804, attrs, 7));
    EXPECT_EQ(7, host(&msi)[4]);
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x904, attrs, 8));
    EXPECT_EQ(8, host(&ram)[0x904]);
    EXPECT_EQ(&iommu.mr, memory_region_get_iommu(&alias));
    EXPECT_EQ(nullptr, memory_region_get_iommu(&msi));
    EXPECT_EQ(nullptr, memory_region_get_iommu(nullptr));
    ASSERT_EQ(0, memory_region_set_readonly(&alias, true));
    EXPECT_EQ(MEMTX_ACCESS_ERROR, address_space_stl_le(&as, 0x904, attrs, 9));
    EXPECT_EQ(MEMTX_OK, address_space_ldl_le(&as, 0x904, attrs, &word));
    EXPECT_EQ(8u, word);
    EXPECT_EQ(0, address_space_destroy(&as, nullptr));
    EXPECT_EQ(0, memory_region_del_subregion(&iommu.mr, &msi));
    for (MemoryRegion *mr : {&alias, &msi}) {
        EXPECT_EQ(0, memory_region_destroy(mr));
        EXPECT_EQ(0, memory_region_quiesce(mr));
    }
}

TEST_F(MemoryIommu, WrongInitsAreRefused)
{
    MemoryRegionIOMMUOps bad = ops;
    MemoryRegion mr;

    EXPECT_EQ(-EINVAL, memory_region_init_iommu(&mr, nullptr, "x", 1));
    EXPECT_EQ(-EINVAL, memory_region_init_iommu(nullptr, &ops, "x", 1));
    bad.num_indexes = MEMORY_IOMMU_MAX_INDEXES + 1;
    EXPECT_EQ(-EINVAL, memory_region_init_iommu(&mr, &bad, "x", 1));
    bad = ops;
    bad.translate = nullptr;
    EXPECT_EQ(-EINVAL, memory_region_init_iommu(&mr, &bad, "x", 1));
}

/* ---- notifiers ---- */

TEST_F(MemoryIommu, NotifiersHearWhatTouchesTheirWindowClipped)
{
    Notifier maps = {}, unmaps = {}, other = {};

    iommu_notifier_init(&maps.n, hear, IOMMU_NOTIFIER_IOTLB_EVENTS, 0x1000, 0x2fff, 0);
    iommu_notifier_init(&unmaps.n, hear, IOMMU_NOTIFIER_UNMAP, 0, UINT64_MAX, 0);
    iommu_notifier_init(&other.n, hear, IOMMU_NOTIFIER_ALL, 0, UINT64_MAX, 1);
    for (Notifier *n : {&maps, &unmaps, &other}) {
        ASSERT_EQ(0, memory_region_register_iommu_notifier(&iommu.mr, &n->n));
    }
    EXPECT_EQ(IOMMU_NOTIFIER_ALL, iommu.flags);
    EXPECT_EQ(0, mapped({&memory, 0, 0x1fff, 0x10000, IOMMU_RO}));
    EXPECT_EQ(0, mapped({&memory, 0x3000, 0x3fff, 0x10000, IOMMU_RO}));
    EXPECT_EQ(0, unmapped(0x2345, UINT64_MAX));
    ASSERT_EQ(2u, maps.heard.size());
    EXPECT_EQ(0x1000u, maps.heard[0].iova);
    EXPECT_EQ(0x1fffu, maps.heard[0].last);
    EXPECT_EQ(0x11000u, maps.heard[0].translated_addr);
    EXPECT_EQ(IOMMU_RO, maps.heard[0].perm);
    EXPECT_EQ(0x2345u, maps.heard[1].iova);
    EXPECT_EQ(0x2fffu, maps.heard[1].last);
    EXPECT_EQ(IOMMU_NONE, maps.heard[1].perm);
    ASSERT_EQ(1u, unmaps.heard.size());
    EXPECT_EQ(UINT64_MAX, unmaps.heard[0].last);
    EXPECT_EQ(0u, other.heard.size());
    EXPECT_EQ(0, memory_region_unmap_iommu_notifier_range(&maps.n));
    ASSERT_EQ(3u, maps.heard.size());
    EXPECT_EQ(0x1000u, maps.heard[2].iova);
    EXPECT_EQ(0x2fffu, maps.heard[2].last);
    EXPECT_EQ(-EBUSY, memory_region_destroy(&iommu.mr));
    for (Notifier *n : {&maps, &unmaps, &other}) {
        ASSERT_EQ(0, memory_region_unregister_iommu_notifier(&iommu.mr, &n->n));
    }
    EXPECT_EQ(IOMMU_NOTIFIER_NONE, iommu.flags);
    EXPECT_EQ(0, unmapped(0, UINT64_MAX));
    EXPECT_EQ(1u, unmaps.heard.size());
}

TEST_F(MemoryIommu, RegistrationsAreRefusedByNameWithNothingChanged)
{
    Notifier n = {};
    auto init = [&n](IOMMUNotifierFlag flags, hwaddr first, hwaddr last, unsigned index) {
        iommu_notifier_init(&n.n, hear, flags, first, last, index);
        return &n.n;
    };

    EXPECT_EQ(-EINVAL, memory_region_register_iommu_notifier(&ram, init(IOMMU_NOTIFIER_ALL, 0, 1, 0)));
    EXPECT_EQ(-EINVAL, memory_region_register_iommu_notifier(nullptr, init(IOMMU_NOTIFIER_ALL, 0, 1, 0)));
    EXPECT_EQ(-EINVAL, memory_region_register_iommu_notifier(&iommu.mr, nullptr));
    EXPECT_EQ(-EINVAL, memory_region_register_iommu_notifier(&iommu.mr, init(IOMMU_NOTIFIER_NONE, 0, 1, 0)));
    EXPECT_EQ(-EINVAL, memory_region_register_iommu_notifier(&iommu.mr, init(IOMMU_NOTIFIER_ALL, 2, 1, 0)));
    EXPECT_EQ(-EINVAL, memory_region_register_iommu_notifier(&iommu.mr, init(IOMMU_NOTIFIER_ALL, 0, 1, 2)));
    init(IOMMU_NOTIFIER_ALL, 0, 1, 0);
    EXPECT_EQ(-EINVAL, memory_region_unregister_iommu_notifier(&iommu.mr, &n.n));
    EXPECT_EQ(-EINVAL, memory_region_iommu_replay(&iommu.mr, &n.n));
    EXPECT_EQ(-EINVAL, memory_region_unmap_iommu_notifier_range(&n.n));
    iommu.refuse = -ENOTSUP;
    EXPECT_EQ(-ENOTSUP, memory_region_register_iommu_notifier(&iommu.mr, &n.n));
    EXPECT_EQ(IOMMU_NOTIFIER_NONE, iommu.flags);
    iommu.refuse = 0;
    EXPECT_EQ(0, memory_region_register_iommu_notifier(&iommu.mr, &n.n));
    EXPECT_EQ(-EBUSY, memory_region_register_iommu_notifier(&iommu.mr, &n.n));
    EXPECT_EQ(-EBUSY, memory_region_register_iommu_notifier(&inner.mr, &n.n));
    EXPECT_EQ(-EINVAL, memory_region_unregister_iommu_notifier(&inner.mr, &n.n));
    iommu.refuse = -EIO; /* too late: it is ignored, and the flags are not changed */
    EXPECT_EQ(0, memory_region_unregister_iommu_notifier(&iommu.mr, &n.n));
    EXPECT_EQ(1u, iommu.flag_changes);
    EXPECT_EQ(0u, n.heard.size());
}

TEST_F(MemoryIommu, EventsThatAreNoneAreRefused)
{
    EXPECT_EQ(-EINVAL, unmapped(2, 1));
    EXPECT_EQ(-EINVAL, unmapped(0, 1, 2));
    EXPECT_EQ(-EINVAL, mapped({nullptr, 0, 1, 0, IOMMU_RW}));
    EXPECT_EQ(-EINVAL, mapped({&memory, 0, 1, 0, IOMMU_NONE}));
    EXPECT_EQ(-EINVAL, memory_region_notify_iommu(
                           &iommu.mr, 0, IOMMUTLBEvent{IOMMU_NOTIFIER_UNMAP, {&memory, 0, 1, 0, IOMMU_RW}}));
    EXPECT_EQ(-EINVAL, memory_region_notify_iommu(
                           &iommu.mr, 0, IOMMUTLBEvent{IOMMU_NOTIFIER_ALL, {&memory, 0, 1, 0, IOMMU_NONE}}));
    EXPECT_EQ(-EINVAL, memory_region_notify_iommu(
                           &ram, 0, IOMMUTLBEvent{IOMMU_NOTIFIER_UNMAP, {nullptr, 0, 1, 0, IOMMU_NONE}}));
}

TEST_F(MemoryIommu, ReplayGoesFromEntryToEntryNotFromPageToPage)
{
    Notifier n = {};

    map(&iommu, 0x1000, 0xffffffff, 0x10000);
    map(&iommu, UINT64_C(1) << 40, (UINT64_C(1) << 41) - 1, 0x20000, IOMMU_RO);
    iommu_notifier_init(&n.n, hear, IOMMU_NOTIFIER_MAP, 0x2000, UINT64_MAX, 0);
    ASSERT_EQ(0, memory_region_register_iommu_notifier(&iommu.mr, &n.n));
    iommu.calls = 0;
    EXPECT_EQ(0, memory_region_iommu_replay(&iommu.mr, &n.n));
    EXPECT_EQ(4u, iommu.calls);
    EXPECT_EQ(IOMMU_NONE, iommu.asked_for);
    ASSERT_EQ(2u, n.heard.size());
    EXPECT_EQ(0x2000u, n.heard[0].iova);
    EXPECT_EQ(0x11000u, n.heard[0].translated_addr);
    EXPECT_EQ((UINT64_C(1) << 41) - 1, n.heard[1].last);
    EXPECT_EQ(IOMMU_RO, n.heard[1].perm);
    iommu.ask = [](hwaddr, IOMMUAccessFlags) { return IOMMUTLBEntry{nullptr, 0, 0, 0, IOMMU_NONE}; };
    EXPECT_EQ(-EIO, memory_region_iommu_replay(&iommu.mr, &n.n));
    EXPECT_EQ(0, memory_region_unregister_iommu_notifier(&iommu.mr, &n.n));
}

TEST_F(MemoryIommu, ARegionMayReplayByItself)
{
    static const MemoryRegionIOMMUOps walking = [] {
        MemoryRegionIOMMUOps o = ops;
        o.replay = [](MemoryRegion *mr, IOMMUNotifier *notifier) {
            for (auto &entry : iommu_of(mr)->table[notifier->iommu_idx]) {
                IOMMUTLBEvent event = {IOMMU_NOTIFIER_MAP, entry.second};
                memory_region_notify_iommu_one(notifier, &event);
            }
            return iommu_of(mr)->table[0].size() > 2 ? -E2BIG : 0;
        };
        o.get_min_page_size = [](MemoryRegion *) -> uint64_t { return 4096; };
        return o;
    }();
    Notifier n = {};
    Iommu own = {};

    ASSERT_EQ(0, memory_region_init_iommu(&own.mr, &walking, "own", 0x10000));
    EXPECT_EQ(4096u, memory_region_iommu_get_min_page_size(&own.mr));
    map(&own, 0, 0xfff, 0x10000);
    map(&own, 0x5000, 0x5fff, 0x10000);
    iommu_notifier_init(&n.n, hear, IOMMU_NOTIFIER_MAP, 0x800, 0x4fff, 0);
    ASSERT_EQ(0, memory_region_register_iommu_notifier(&own.mr, &n.n));
    EXPECT_EQ(0, memory_region_iommu_replay(&own.mr, &n.n));
    ASSERT_EQ(1u, n.heard.size());
    EXPECT_EQ(0x800u, n.heard[0].iova);
    map(&own, 0x8000, 0x8fff, 0x10000);
    EXPECT_EQ(-E2BIG, memory_region_iommu_replay(&own.mr, &n.n));
    EXPECT_EQ(0u, own.calls);
    EXPECT_EQ(0, memory_region_unregister_iommu_notifier(&own.mr, &n.n));
    EXPECT_EQ(0, memory_region_destroy(&own.mr));
    EXPECT_EQ(0, memory_region_quiesce(&own.mr));
}

TEST_F(MemoryIommu, ANotifierMayLookButNotChange)
{
    Notifier n = {}, late = {};
    uint32_t word = 0;
    int calls = 0;

    iommu_notifier_init(&n.n, hear, IOMMU_NOTIFIER_ALL, 0, UINT64_MAX, 0);
    iommu_notifier_init(&late.n, hear, IOMMU_NOTIFIER_ALL, 0, UINT64_MAX, 0);
    ASSERT_EQ(0, memory_region_register_iommu_notifier(&iommu.mr, &n.n));
    map(&iommu, 0, 0xfff, 0x10000);
    host(&ram)[0] = 4;
    n.act = [&] {
        MemoryListener listener = {};

        calls++;
        EXPECT_EQ(MEMTX_OK, address_space_ldl_le(&dma, 0, attrs, &word));
        EXPECT_EQ(-EBUSY, memory_region_set_enabled(&ram, false));
        EXPECT_EQ(-EBUSY, memory_transaction_begin());
        EXPECT_EQ(-EINVAL, memory_transaction_commit());
        EXPECT_EQ(-EBUSY, memory_listener_register(&listener, &memory));
        EXPECT_EQ(-EBUSY, memory_print_flatviews(stderr));
        EXPECT_EQ(-EBUSY, unmapped(0, 1));
        EXPECT_EQ(-EBUSY, memory_region_register_iommu_notifier(&inner.mr, &late.n));
        EXPECT_EQ(-EBUSY, memory_region_unregister_iommu_notifier(&iommu.mr, &n.n));
        EXPECT_EQ(-EBUSY, memory_region_iommu_replay(&iommu.mr, &n.n));
        EXPECT_EQ(-EDEADLK, memory_region_iommu_drain(&iommu.mr));
        EXPECT_EQ(-EDEADLK, memory_reclaim());
    };
    EXPECT_EQ(0, unmapped(0, 0xfff));
    EXPECT_EQ(4u, word);
    ASSERT_EQ(0, memory_transaction_begin()); /* also in one's own transaction */
    EXPECT_EQ(0, unmapped(0, 0xfff));
    EXPECT_EQ(0, memory_transaction_commit());
    EXPECT_EQ(2, calls);
    memory_read_begin();
    EXPECT_EQ(0, unmapped(0, 0xfff));
    EXPECT_EQ(-EDEADLK, memory_region_iommu_drain(&iommu.mr));
    memory_read_end();
    EXPECT_EQ(3, calls);
    EXPECT_EQ(0, memory_region_unregister_iommu_notifier(&iommu.mr, &n.n));
    EXPECT_EQ(0, memory_region_iommu_drain(&iommu.mr));
    EXPECT_EQ(-EINVAL, memory_region_iommu_drain(&ram));
    EXPECT_EQ(0, memory_region_set_enabled(&ram, true));
}

TEST_F(MemoryIommu, CachesAreInvalidatedEvenWhereNotifiersCannotBeTold)
{
    Notifier n = {};
    uint32_t word = 0;

    iommu_notifier_init(&n.n, hear, IOMMU_NOTIFIER_ALL, 0x1000, 0x1fff, 0);
    ASSERT_EQ(0, memory_region_register_iommu_notifier(&iommu.mr, &n.n));
    map(&iommu, 0, 0xfff, 0x10000);
    ASSERT_EQ(MEMTX_OK, address_space_ldl_le(&dma, 0, attrs, &word));
    host(&ram2)[0] = 8;
    n.act = [&] {
        map(&iommu, 0, 0xfff, 0x20000);
        EXPECT_EQ(-EBUSY, unmapped(0, 0xfff));
        EXPECT_EQ(MEMTX_OK, address_space_ldl_le(&dma, 0, attrs, &word));
        EXPECT_EQ(8u, word);
    };
    EXPECT_EQ(0, unmapped(0x1000, 0x1000));
    EXPECT_EQ(8u, word);
    EXPECT_EQ(0, memory_region_unregister_iommu_notifier(&iommu.mr, &n.n));
}

/* As an accelerator does it: from its listener. */
struct Accelerator {
    MemoryListener listener; /* first */
    Notifier notifier;
    int added, removed;
};

TEST_F(MemoryIommu, ListenersRegisterNotifiersFromTheirCallbacks)
{
    Accelerator accel = {};

    map(&iommu, 0, 0xfff, 0x10000);
    accel.listener.region_add = [](MemoryListener *l, const MemoryRegionSection *s) {
        Accelerator *a = reinterpret_cast<Accelerator *>(l);
        if (!memory_region_is_iommu(s->mr)) {
            return;
        }
        iommu_notifier_init(&a->notifier.n, hear, IOMMU_NOTIFIER_IOTLB_EVENTS, s->offset_within_region,
                            s->offset_within_region + (s->last - s->offset_within_address_space), 0);
        EXPECT_EQ(0, memory_region_register_iommu_notifier(s->mr, &a->notifier.n));
        EXPECT_EQ(0, memory_region_iommu_replay(s->mr, &a->notifier.n));
        a->added++;
    };
    accel.listener.region_del = [](MemoryListener *l, const MemoryRegionSection *s) {
        Accelerator *a = reinterpret_cast<Accelerator *>(l);
        if (memory_region_is_iommu(s->mr)) {
            EXPECT_EQ(0, memory_region_unmap_iommu_notifier_range(&a->notifier.n));
            EXPECT_EQ(0, memory_region_unregister_iommu_notifier(s->mr, &a->notifier.n));
            a->removed++;
        }
    };
    ASSERT_EQ(0, memory_listener_register(&accel.listener, &dma));
    EXPECT_EQ(1, accel.added);
    ASSERT_EQ(1u, accel.notifier.heard.size());
    EXPECT_EQ(0, unmapped(0, 0xfff));
    EXPECT_EQ(2u, accel.notifier.heard.size());
    ASSERT_EQ(0, memory_region_set_enabled(&iommu.mr, false));
    EXPECT_EQ(1, accel.removed);
    EXPECT_EQ(3u, accel.notifier.heard.size());
    ASSERT_EQ(0, memory_region_set_enabled(&iommu.mr, true));
    EXPECT_EQ(2, accel.added);
    ASSERT_EQ(0, memory_listener_unregister(&accel.listener));
    EXPECT_EQ(2, accel.removed);
}

TEST_F(MemoryIommu, AnInvalidationRegisterMayNotifyFromItsCallback)
{
    static MemoryIommu *test;
    static const MemoryRegionOps registers = [] {
        MemoryRegionOps o = *device_ops();
        o.write = [](MemoryRegion *, hwaddr, uint64_t iova, unsigned) {
            test->iommu.table[0].erase(iova);
            EXPECT_EQ(0, test->unmapped(iova, iova + 0xfff));
        };
        return o;
    }();
    MemoryRegion mr;
    uint32_t word;

    test = this;
    ASSERT_EQ(0, memory_region_init_io(&mr, &registers, "registers", 8));
    ASSERT_EQ(0, memory_region_add_subregion(&system, 0x60000, &mr));
    map(&iommu, 0x1000, 0x1fff, 0x10000);
    EXPECT_EQ(MEMTX_OK, address_space_ldl_le(&dma, 0x1000, attrs, &word));
    EXPECT_EQ(MEMTX_OK, address_space_stq_le(&memory, 0x60000, attrs, 0x1000));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldl_le(&dma, 0x1000, attrs, &word));
    EXPECT_EQ(0, memory_region_del_subregion(&system, &mr));
    EXPECT_EQ(0, memory_region_destroy(&mr));
    EXPECT_EQ(0, memory_region_quiesce(&mr));
}

} // namespace
