// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "shim/access_shim.h"

namespace {

alignas(8) uint8_t ram_a[64], ram_b[64];
const MemTxAttrs kAttrs = {};

uint64_t answer(MemoryRegion *mr, hwaddr, unsigned)
{
    return mr->order;
}

MemoryRegionOps make_ops()
{
    MemoryRegionOps ops = {};

    ops.read = answer;
    ops.endianness = MEMORY_LITTLE_ENDIAN;
    ops.valid.min_access_size = ops.impl.min_access_size = 1;
    ops.valid.max_access_size = ops.impl.max_access_size = 8;
    return ops;
}

const MemoryRegionOps answer_ops = make_ops();

ShimRange ram(hwaddr first, uint8_t *host)
{
    ShimRange range = {};

    range.first = first;
    range.last = first + 63;
    range.kind = SHIM_RAM;
    range.host = host;
    return range;
}

ShimRange io(hwaddr first, MemoryRegion *mr)
{
    ShimRange range = {};

    range.first = first;
    range.last = first + 63;
    range.kind = SHIM_IO;
    range.ops = &answer_ops;
    range.mr = mr;
    return range;
}

uint64_t load(ShimSpace *space, hwaddr addr, MemTxResult expected = MEMTX_OK)
{
    uint32_t value = 0xdeadbeef;

    EXPECT_EQ(address_space_ldl_le(shim_space_as(space), addr, kAttrs, &value), expected);
    return value;
}

class ThreadCache : public ::testing::Test {
protected:
    MemoryRegion one = {}, two = {};

    void SetUp() override
    {
        shim_cache_clear();
        one.order = 1;
        two.order = 2;
        for (unsigned i = 0; i < sizeof(ram_a); i++) {
            ram_a[i] = 0xaa;
            ram_b[i] = 0xbb;
        }
    }
};

TEST_F(ThreadCache, RemembersARangeUnderTheGenerationOfItsView)
{
    ShimRange ranges[] = { ram(0, ram_a), io(0x1000, &one) };
    ShimSpace *space = shim_space_new(ranges, 2);

    EXPECT_EQ(load(space, 4), 0xaaaaaaaau);
    EXPECT_EQ(shim_cache_memory().gen, shim_space_gen(space));
    EXPECT_EQ(shim_cache_memory().first, 0u);
    EXPECT_EQ(shim_cache_memory().last, 63u);
    EXPECT_EQ(shim_cache_device().gen, 0u);
    EXPECT_EQ(load(space, 0x1004), 1u);
    EXPECT_EQ(shim_cache_device().gen, shim_space_gen(space));
    EXPECT_EQ(shim_cache_device().first, 0x1000u);
    EXPECT_EQ(shim_cache_memory().first, 0u); // the one does not evict the other
    shim_space_free(space);
}

TEST_F(ThreadCache, DoesNotRememberHoles)
{
    ShimRange ranges[] = { ram(0, ram_a) };
    ShimSpace *space = shim_space_new(ranges, 1);

    EXPECT_EQ(load(space, 0x1000, MEMTX_DECODE_ERROR), 0xdeadbeefu);
    EXPECT_EQ(shim_cache_memory().gen, 0u);
    EXPECT_EQ(shim_cache_device().gen, 0u);
    shim_space_free(space);
}

TEST_F(ThreadCache, ANewGenerationIsAMiss)
{
    ShimRange before[] = { ram(0, ram_a), io(0x1000, &one) };
    ShimRange after[] = { ram(0, ram_b), io(0x1000, &two) };
    ShimSpace *space = shim_space_new(before, 2);

    EXPECT_EQ(load(space, 0), 0xaaaaaaaau);
    EXPECT_EQ(load(space, 0x1000), 1u);
    shim_space_publish(space, after, 2);
    EXPECT_EQ(load(space, 0), 0xbbbbbbbbu);
    EXPECT_EQ(load(space, 0x1000), 2u);
    shim_space_publish(space, nullptr, 0);
    load(space, 0, MEMTX_DECODE_ERROR);
    load(space, 0x1000, MEMTX_DECODE_ERROR);
    shim_space_free(space);
}

TEST_F(ThreadCache, SpacesDoNotAnswerForEachOther)
{
    ShimRange first[] = { ram(0, ram_a), io(0x1000, &one) };
    ShimRange second[] = { ram(0, ram_b), io(0x1000, &two) };
    ShimSpace *a = shim_space_new(first, 2);
    ShimSpace *b = shim_space_new(second, 2);

    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(load(a, 0), 0xaaaaaaaau);
        EXPECT_EQ(load(b, 0), 0xbbbbbbbbu);
        EXPECT_EQ(load(a, 0x1000), 1u);
        EXPECT_EQ(load(b, 0x1000), 2u);
    }
    shim_space_free(a);
    shim_space_free(b);
}

// Between the two stores of a publication: the new generation is announced, the old view is still the current one.
TEST_F(ThreadCache, IsFilledWithWhatWasSeenNotWithWhatWasAnnounced)
{
    ShimRange before[] = { ram(0, ram_a), io(0x1000, &one) };
    ShimRange after[] = { ram(0, ram_b), io(0x1000, &two) };
    ShimSpace *space = shim_space_new(before, 2);

    shim_space_publish_gen(space, after, 2);
    EXPECT_EQ(load(space, 0), 0xaaaaaaaau);
    EXPECT_EQ(load(space, 0x1000), 1u);
    EXPECT_LT(shim_cache_memory().gen, shim_space_gen(space));
    shim_space_publish_view(space);
    EXPECT_EQ(load(space, 0), 0xbbbbbbbbu);
    EXPECT_EQ(load(space, 0x1000), 2u);
    shim_space_free(space);
}

TEST_F(ThreadCache, BelongsToOneThread)
{
    ShimRange ranges[] = { ram(0, ram_a) };
    ShimSpace *space = shim_space_new(ranges, 1);
    uint64_t gen_there = 1;

    load(space, 0);
    std::thread([&] { gen_there = shim_cache_memory().gen; }).join();
    EXPECT_EQ(gen_there, 0u);
    EXPECT_NE(shim_cache_memory().gen, 0u);
    shim_space_free(space);
}

TEST_F(ThreadCache, LastBytesOfMemoryAndMemoryTooSmallForALongAccess)
{
    ShimRange ranges[] = { ram(0, ram_a), ram(0x100, ram_b), ram(0x200, ram_b), ram(0x300, ram_b) };
    ShimSpace *space;
    uint8_t byte;
    uint64_t quad;

    ranges[1].last = 0x106; // 7 bytes
    ranges[2].last = 0x207; // 8 bytes
    ranges[3].last = 0x300; // 1 byte
    space = shim_space_new(ranges, 4);
    for (int i = 0; i < 2; i++) { // missed, then remembered
        EXPECT_EQ(load(space, 60), 0xaaaaaaaau);
        load(space, 61, MEMTX_DECODE_ERROR);
        EXPECT_EQ(address_space_ldub(shim_space_as(space), 63, kAttrs, &byte), MEMTX_OK);
        load(space, 64, MEMTX_DECODE_ERROR);
        EXPECT_EQ(load(space, 0x103), 0xbbbbbbbbu);
        load(space, 0x104, MEMTX_DECODE_ERROR);
        EXPECT_EQ(address_space_ldq_le(shim_space_as(space), 0x100, kAttrs, &quad), MEMTX_DECODE_ERROR);
        EXPECT_EQ(address_space_ldq_le(shim_space_as(space), 0x200, kAttrs, &quad), MEMTX_OK);
        EXPECT_EQ(address_space_ldq_le(shim_space_as(space), 0x201, kAttrs, &quad), MEMTX_DECODE_ERROR);
        EXPECT_EQ(load(space, 0x204), 0xbbbbbbbbu);
        EXPECT_EQ(address_space_ldub(shim_space_as(space), 0x300, kAttrs, &byte), MEMTX_OK);
        EXPECT_EQ(byte, 0xbb);
        EXPECT_EQ(address_space_stb(shim_space_as(space), 0x301, kAttrs, 0), MEMTX_DECODE_ERROR);
        EXPECT_EQ(address_space_stb(shim_space_as(space), 0x300, kAttrs, 0xbb), MEMTX_OK);
    }
    shim_space_free(space);
}

TEST_F(ThreadCache, ReadOnlyMemoryIsRememberedForReadsOnly)
{
    ShimRange rom = ram(0, ram_a);
    rom.kind = SHIM_ROM;
    ShimSpace *space = shim_space_new(&rom, 1);

    EXPECT_EQ(load(space, 0), 0xaaaaaaaau);
    EXPECT_EQ(shim_cache_memory().gen, shim_space_gen(space));
    EXPECT_EQ(address_space_stl_le(shim_space_as(space), 0, kAttrs, 0), MEMTX_ACCESS_ERROR);
    EXPECT_EQ(address_space_write(shim_space_as(space), 0, kAttrs, ram_b, 4), MEMTX_ACCESS_ERROR);
    EXPECT_EQ(ram_a[0], 0xaa);
    shim_space_free(space);
}

TEST_F(ThreadCache, MappedHardwareIsNotTakenForMemory)
{
    ShimRange hardware = ram(0, ram_a);
    hardware.kind = SHIM_RAM_DEVICE;
    ShimSpace *space = shim_space_new(&hardware, 1);

    EXPECT_EQ(load(space, 0), 0xaaaaaaaau);
    EXPECT_EQ(shim_cache_memory().gen, 0u);
    EXPECT_EQ(shim_cache_device().gen, shim_space_gen(space));
    shim_space_free(space);
}

TEST_F(ThreadCache, ARangeOfTheWholeSpaceIsRemembered)
{
    ShimRange all = io(0, &one);
    all.last = UINT64_MAX;
    ShimSpace *space = shim_space_new(&all, 1);

    EXPECT_EQ(load(space, UINT64_MAX - 3), 1u);
    EXPECT_EQ(shim_cache_device().last, UINT64_MAX);
    EXPECT_EQ(load(space, 0), 1u);
    shim_space_free(space);
}

// Slots come to a thread that misses often: two pages of no slot yet, by turns, evict each other from the one entry.
class ThreadCacheSlots : public ThreadCache {
protected:
    void SetUp() override
    {
        ThreadCache::SetUp();
        ShimRange ranges[] = { io(0x1000, &one), io(0x2000, &two) };
        ShimSpace *space = shim_space_new(ranges, 2);

        for (int i = 0; i < 1000 && !shim_cache_has_slots(); i++) {
            EXPECT_EQ(load(space, i % 2 ? 0x1000 : 0x2000), i % 2 ? 1u : 2u);
        }
        ASSERT_TRUE(shim_cache_has_slots());
        shim_space_free(space);
        shim_cache_clear();
    }

    // Loads that leave it to chance in which entry or slot something is found.
    void by_turns(ShimSpace *space, const std::vector<std::pair<hwaddr, uint64_t>> &expected)
    {
        for (int turn = 0; turn < 4; turn++) {
            for (auto [addr, value] : expected) {
                EXPECT_EQ(load(space, addr), value) << addr;
            }
        }
    }
};

TEST_F(ThreadCacheSlots, RememberManyRanges)
{
    std::vector<MemoryRegion> mr(4096);
    std::vector<ShimRange> ranges;

    for (hwaddr i = 0; i < mr.size(); i++) {
        mr[i].order = i;
        ranges.push_back(io(0x100000000 + i * 0x10000, &mr[i]));
    }
    ShimSpace *space = shim_space_new(ranges.data(), ranges.size());

    for (hwaddr i = 0; i < mr.size(); i++) {
        EXPECT_EQ(load(space, ranges[i].first + 8), i);
    }
    for (hwaddr i = 0; i < mr.size(); i++) {
        EXPECT_EQ(shim_cache_slot_gen(ranges[i].first), shim_space_gen(space)) << i;
        EXPECT_EQ(load(space, ranges[i].first), i);
    }
    shim_space_free(space);
}

// At any distance that is a power of two, as many pages as there are slots have one each.
TEST_F(ThreadCacheSlots, PagesThatLieAtRegularDistancesDoNotMeet)
{
    for (unsigned shift = 12; shift <= 47; shift++) {
        std::set<unsigned> taken;

        for (hwaddr i = 0; i < 4096; i++) {
            taken.insert(shim_cache_slot(i << shift));
        }
        EXPECT_EQ(taken.size(), 4096u) << shift;
    }
    EXPECT_TRUE(shim_cache_slot(0x1000) == shim_cache_slot(0x1fff));
}

TEST_F(ThreadCacheSlots, ANewGenerationIsAMiss)
{
    ShimRange before[] = { ram(0, ram_a), io(0x1000, &one), io(0x2000, &two), ram(0x3000, ram_b) };
    ShimRange after[] = { ram(0, ram_b), io(0x1000, &two), io(0x2000, &one), ram(0x3000, ram_a) };
    ShimSpace *space = shim_space_new(before, 4);

    by_turns(space, { { 0, 0xaaaaaaaa }, { 0x1000, 1 }, { 0x2000, 2 }, { 0x3000, 0xbbbbbbbb } });
    shim_space_publish_gen(space, after, 4); // announced, not yet current
    by_turns(space, { { 0, 0xaaaaaaaa }, { 0x1000, 1 }, { 0x2000, 2 }, { 0x3000, 0xbbbbbbbb } });
    shim_space_publish_view(space);
    by_turns(space, { { 0, 0xbbbbbbbb }, { 0x1000, 2 }, { 0x2000, 1 }, { 0x3000, 0xaaaaaaaa } });
    shim_space_publish(space, nullptr, 0);
    for (hwaddr addr = 0; addr < 0x4000; addr += 0x1000) {
        load(space, addr, MEMTX_DECODE_ERROR);
    }
    shim_space_free(space);
}

TEST_F(ThreadCacheSlots, PagesThatShareASlotDoNotAnswerForEachOther)
{
    hwaddr other = 0x1000;

    do { // sums of digits are the same for many
        other += 0x1000;
        ASSERT_LT(other, hwaddr(1) << 32);
    } while (shim_cache_slot(other) != shim_cache_slot(0x1000));
    ShimRange ranges[] = { io(0x1000, &one), io(other, &two) };
    ShimRange one_only[] = { io(0x1000, &one) };
    ShimSpace *space = shim_space_new(ranges, 2);

    by_turns(space, { { 0x1000, 1 }, { other, 2 } });
    shim_space_publish(space, one_only, 1);
    for (int turn = 0; turn < 3; turn++) {
        EXPECT_EQ(load(space, 0x1000), 1u);
        load(space, other, MEMTX_DECODE_ERROR);
    }
    shim_space_free(space);
}

TEST_F(ThreadCacheSlots, RangesThatShareAPageDoNotAnswerForEachOther)
{
    for (bool pages : { true, false }) {
        MemoryRegion mr[8] = {};
        std::vector<ShimRange> ranges;
        uint8_t byte;
        uint16_t half;

        for (unsigned i = 0; i < 8; i++) { // 0x60 to 0x63, 0x70 to 0x73, ...
            mr[i].order = 0x1111111111111111u * i;
            ranges.push_back(io(0x60 + 0x10 * i, &mr[i]));
            ranges[i].last = ranges[i].first + 3;
        }
        ranges[1].last = ranges[1].first;    // one byte
        ranges[2].first++;                   // an odd beginning, and so nothing aligned in the region
        ShimSpace *space = shim_space_new(ranges.data(), ranges.size());
        AddressSpace *as = shim_space_as(space);

        if (!pages) {
            shim_space_has_no_pages(space);
        }
        for (int turn = 0; turn < 3; turn++) {
            by_turns(space, { { 0x60, 0 }, { 0x90, 0x33333333 }, { 0xa0, 0x44444444 }, { 0xd0, 0x77777777 } });
            EXPECT_EQ(address_space_ldub(as, 0x70, kAttrs, &byte), MEMTX_OK);
            EXPECT_EQ(byte, 0x11);
            EXPECT_EQ(address_space_ldub(as, 0x71, kAttrs, &byte), MEMTX_DECODE_ERROR);
            EXPECT_EQ(address_space_lduw_le(as, 0x70, kAttrs, &half), MEMTX_DECODE_ERROR);
            EXPECT_EQ(address_space_ldub(as, 0x80, kAttrs, &byte), MEMTX_DECODE_ERROR);
            EXPECT_EQ(address_space_lduw_le(as, 0x81, kAttrs, &half), MEMTX_OK); // offset 0
            EXPECT_EQ(half, 0x2222);
            EXPECT_EQ(address_space_lduw_le(as, 0x82, kAttrs, &half), MEMTX_DECODE_ERROR); // offset 1
            EXPECT_EQ(address_space_lduw_le(as, 0x63, kAttrs, &half), MEMTX_DECODE_ERROR); // the end
            load(space, 0x64, MEMTX_DECODE_ERROR);
        }
        for (hwaddr port : { 0x60, 0x70, 0x90, 0xa0, 0xd0 }) {
            EXPECT_EQ(shim_cache_port_gen(port), pages ? 0 : shim_space_gen(space)) << port;
        }
        shim_cache_clear();
        shim_space_free(space);
    }
}

TEST_F(ThreadCacheSlots, ASpaceOfIoPortsHasNoPages)
{
    for (uint64_t size : { UINT64_C(0x10000), UINT64_C(0x10001), UINT64_MAX }) {
        AddressSpace as;
        MemoryRegion root;

        ASSERT_EQ(memory_region_init(&root, "root", size), 0);
        ASSERT_EQ(memory_region_init_io(&one, &answer_ops, "one", 4), 0);
        ASSERT_EQ(memory_region_add_subregion(&root, 0x60, &one), 0);
        ASSERT_EQ(address_space_init(&as, &root, "space"), 0);
        EXPECT_EQ(shim_has_pages(&as), size > 0x10000) << size;
        ASSERT_EQ(address_space_destroy(&as, nullptr), 0);
        ASSERT_EQ(memory_region_del_subregion(&root, &one), 0);
        ASSERT_EQ(memory_region_destroy(&one), 0);
        ASSERT_EQ(memory_region_destroy(&root), 0);
        ASSERT_EQ(memory_region_quiesce(&one), 0);
        ASSERT_EQ(memory_region_quiesce(&root), 0);
    }
}

TEST_F(ThreadCacheSlots, EndsOfTheAddressSpace)
{
    ShimRange ranges[] = { io(0, &one), io(UINT64_MAX - 0xfff, &two), ram(UINT64_MAX - 63, ram_a) };
    uint64_t quad;

    ranges[1].last = UINT64_MAX - 64;
    ShimSpace *space = shim_space_new(ranges, 3);

    by_turns(space, { { 0, 1 }, { UINT64_MAX - 0xfff, 2 }, { UINT64_MAX - 67, 2 }, { UINT64_MAX - 63, 0xaaaaaaaa },
                      { UINT64_MAX - 3, 0xaaaaaaaa }, { 60, 1 } });
    for (int turn = 0; turn < 3; turn++) {
        EXPECT_EQ(load(space, 0), 1u);
        EXPECT_EQ(address_space_ldq_le(shim_space_as(space), UINT64_MAX - 7, kAttrs, &quad), MEMTX_OK);
        EXPECT_EQ(quad, 0xaaaaaaaaaaaaaaaau);
        EXPECT_NE(address_space_ldq_le(shim_space_as(space), UINT64_MAX - 3, kAttrs, &quad), MEMTX_OK);
    }
    shim_space_free(space);
}

TEST_F(ThreadCacheSlots, EachKindOfRangeIsAccessedAsWithoutThem)
{
    ShimRange ranges[] = { ram(0x1000, ram_a), ram(0x2000, ram_a), ram(0x3000, ram_a), ram(0x4000, ram_a),
                           ram(0x5000, ram_a), io(0x6000, nullptr) };
    ShimSpace *space;
    AddressSpace *as;

    ranges[1].kind = SHIM_ROM;
    ranges[2].kind = SHIM_RAM_DEVICE;
    ranges[3].kind = SHIM_RAM_DEVICE;
    ranges[3].readonly = true;
    ranges[4].kind = SHIM_ROM_DEVICE;
    ranges[4].ops = &answer_ops;
    ranges[4].mr = &one;
    ranges[5].ops = nullptr; // a reservation
    space = shim_space_new(ranges, 6);
    as = shim_space_as(space);
    for (uint32_t turn = 0; turn < 4; turn++) {
        for (hwaddr addr = 0x1000; addr <= 0x5000; addr += 0x1000) {
            EXPECT_EQ(load(space, addr + 4), 0xaaaaaaaau) << addr;
        }
        load(space, 0x6000, MEMTX_DECODE_ERROR);
        EXPECT_EQ(address_space_stl_le(as, 0x1000, kAttrs, turn), MEMTX_OK);
        EXPECT_EQ(load(space, 0x2000), turn);
        EXPECT_EQ(address_space_stl_le(as, 0x2000, kAttrs, ~turn), MEMTX_ACCESS_ERROR);
        EXPECT_EQ(address_space_stl_le(as, 0x3000, kAttrs, turn + 1), MEMTX_OK);
        EXPECT_EQ(address_space_stl_le(as, 0x4000, kAttrs, ~turn), MEMTX_ACCESS_ERROR);
        EXPECT_EQ(address_space_stl_le(as, 0x5000, kAttrs, ~turn), MEMTX_ACCESS_ERROR); // no write callback
        EXPECT_EQ(address_space_stl_le(as, 0x6000, kAttrs, ~turn), MEMTX_DECODE_ERROR);
        EXPECT_EQ(load(space, 0x5000), turn + 1);
    }
    shim_space_free(space);
}

TEST_F(ThreadCacheSlots, ADeviceOfTheOtherByteOrderIsNotMistaken)
{
    static MemoryRegionOps big_ops = answer_ops;
    ShimRange ranges[] = { io(0x1000, &one), io(0x2000, &two), io(0x3000, &one) };
    ShimSpace *space;
    uint32_t value;

    big_ops.endianness = MEMORY_BIG_ENDIAN;
    ranges[1].ops = &big_ops;
    space = shim_space_new(ranges, 3);
    by_turns(space, { { 0x1000, 1 }, { 0x2000, 0x02000000 }, { 0x3000, 1 } });
    for (int turn = 0; turn < 3; turn++) {
        EXPECT_EQ(address_space_ldl_be(shim_space_as(space), 0x1000, kAttrs, &value), MEMTX_OK);
        EXPECT_EQ(value, 0x01000000u);
        EXPECT_EQ(address_space_ldl_be(shim_space_as(space), 0x2000, kAttrs, &value), MEMTX_OK);
        EXPECT_EQ(value, 2u);
    }
    shim_space_free(space);
}

TEST_F(ThreadCacheSlots, EndWithTheirThread)
{
    const void *there = nullptr;
    unsigned char resident[8];
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));

    std::thread([&] {
        EXPECT_FALSE(shim_cache_has_slots());
        SetUp();
        there = shim_cache_slots();
        EXPECT_EQ(mincore(const_cast<void *>(there), page, resident), 0);
    }).join();
    EXPECT_TRUE(shim_cache_has_slots());
    EXPECT_EQ(mincore(const_cast<void *>(there), page, resident), -1);
    EXPECT_EQ(errno, ENOMEM);
}

} // namespace
