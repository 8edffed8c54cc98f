// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <thread>

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

} // namespace
