/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <gtest/gtest.h>

#include "shim/region_shim.h"

namespace {

uint64_t Read(MemoryRegion *, hwaddr, unsigned)
{
    return 0;
}

void Write(MemoryRegion *, hwaddr, uint64_t, unsigned)
{
}

MemTxResult ReadAttrs(MemoryRegion *, hwaddr, uint64_t *, unsigned, MemTxAttrs)
{
    return MEMTX_OK;
}

bool Accepts(MemoryRegion *, hwaddr, unsigned, bool, MemTxAttrs)
{
    return true;
}

MemoryRegionOps Good()
{
    MemoryRegionOps ops = MemoryRegionOps();
    ops.read = Read;
    ops.write = Write;
    ops.endianness = MEMORY_LITTLE_ENDIAN;
    ops.valid.min_access_size = 1;
    ops.valid.max_access_size = 8;
    ops.impl.min_access_size = 2;
    ops.impl.max_access_size = 4;
    return ops;
}

int Check(const MemoryRegionOps &ops)
{
    uint32_t flags;
    return region_shim_ops_check(&ops, &flags);
}

uint32_t Flags(const MemoryRegionOps &ops)
{
    uint32_t flags = 0;
    EXPECT_EQ(region_shim_ops_check(&ops, &flags), 0);
    return flags;
}

TEST(Ops, NoneIsAReservation)
{
    uint32_t flags = 77;

    EXPECT_EQ(region_shim_ops_check(NULL, &flags), 0);
    EXPECT_EQ(flags, 0u);
}

TEST(Ops, EverySizeMustBeStatedAndBeOne)
{
    for (unsigned size : { 0u, 3u, 5u, 16u, 0x80000000u }) {
        MemoryRegionOps ops[4] = { Good(), Good(), Good(), Good() };
        ops[0].valid.min_access_size = size;
        ops[1].valid.max_access_size = size;
        ops[2].impl.min_access_size = size;
        ops[3].impl.max_access_size = size;
        for (const MemoryRegionOps &o : ops) {
            EXPECT_EQ(Check(o), -EINVAL) << size;
        }
    }
    EXPECT_EQ(Check(Good()), 0);
}

TEST(Ops, ContradictionsAreRefused)
{
    MemoryRegionOps ops = Good();
    ops.valid.min_access_size = 4;
    ops.valid.max_access_size = 2;
    EXPECT_EQ(Check(ops), -EINVAL);

    ops = Good();
    ops.impl.min_access_size = 8;
    EXPECT_EQ(Check(ops), -EINVAL);

    ops = Good();
    ops.endianness = (MemoryEndianness)0;
    EXPECT_EQ(Check(ops), -EINVAL);

    ops = Good();
    ops.impl.narrow_write = (MemoryNarrowWrite)3;
    EXPECT_EQ(Check(ops), -EINVAL);

    ops = Good();
    ops.read = NULL;
    ops.write = NULL;
    EXPECT_EQ(Check(ops), -EINVAL);
}

TEST(Ops, FailureLeavesTheFlagsAlone)
{
    MemoryRegionOps ops = Good();
    uint32_t flags = 77;

    ops.valid.min_access_size = 0;
    EXPECT_EQ(region_shim_ops_check(&ops, &flags), -EINVAL);
    EXPECT_EQ(flags, 77u);
}

TEST(Ops, FastIsWhatNeedsNoQuestion)
{
    uint32_t flags = Flags(Good());

    for (unsigned size : { 1u, 2u, 4u, 8u }) {
        bool fast = size >= 2 && size <= 4;
        EXPECT_EQ(region_shim_fast_read(flags, size), fast) << size;
        EXPECT_EQ(region_shim_fast_write(flags, size), fast) << size;
    }

    MemoryRegionOps ops = Good();
    ops.valid.max_access_size = 2;
    EXPECT_FALSE(region_shim_fast_read(Flags(ops), 4));

    ops = Good();
    ops.valid.accepts = Accepts;
    EXPECT_FALSE(region_shim_fast_read(Flags(ops), 4));
    EXPECT_FALSE(region_shim_fast_write(Flags(ops), 4));

    ops = Good();
    ops.read_with_attrs = ReadAttrs;
    EXPECT_FALSE(region_shim_fast_read(Flags(ops), 4)) << "the form with attributes has precedence";
    EXPECT_TRUE(region_shim_fast_write(Flags(ops), 4));
    EXPECT_TRUE(region_shim_can_read(Flags(ops)));
}

TEST(Ops, DirectionsAndByteOrderAreTold)
{
    MemoryRegionOps ops = Good();
    EXPECT_TRUE(region_shim_can_read(Flags(ops)));
    EXPECT_TRUE(region_shim_can_write(Flags(ops)));
    EXPECT_FALSE(region_shim_big_endian(Flags(ops)));

    ops.write = NULL;
    ops.endianness = MEMORY_BIG_ENDIAN;
    EXPECT_TRUE(region_shim_can_read(Flags(ops)));
    EXPECT_FALSE(region_shim_can_write(Flags(ops)));
    EXPECT_FALSE(region_shim_fast_write(Flags(ops), 4));
    EXPECT_TRUE(region_shim_big_endian(Flags(ops)));
}

/* ---- per-width functions ---- */

uint32_t last_read_addr, last_write_addr, last_value;
unsigned last_width;

template <unsigned width> uint32_t LegacyRead(MemoryRegion *, hwaddr addr)
{
    last_width = width;
    last_read_addr = (uint32_t)addr;
    return 0x80u + width;
}

template <unsigned width> void LegacyWrite(MemoryRegion *, hwaddr addr, uint32_t value)
{
    last_width = width;
    last_write_addr = (uint32_t)addr;
    last_value = value;
}

MemoryRegionLegacyOps AllWidths()
{
    MemoryRegionLegacyOps legacy = MemoryRegionLegacyOps();
    legacy.read[0] = LegacyRead<8>;
    legacy.read[1] = LegacyRead<16>;
    legacy.read[2] = LegacyRead<32>;
    legacy.write[0] = LegacyWrite<8>;
    legacy.write[1] = LegacyWrite<16>;
    legacy.write[2] = LegacyWrite<32>;
    legacy.endianness = MEMORY_LITTLE_ENDIAN;
    return legacy;
}

TEST(LegacyOps, EachWidthCallsItsFunction)
{
    MemoryRegionLegacyOps legacy = AllWidths();
    MemoryRegion mr = MemoryRegion();

    ASSERT_EQ(region_shim_legacy_new(&legacy, &mr.ops), 0);
    EXPECT_EQ(mr.ops->valid.accepts, nullptr);
    EXPECT_EQ(mr.ops->valid.min_access_size, 1u);
    EXPECT_EQ(mr.ops->valid.max_access_size, 4u);
    for (unsigned size : { 1u, 2u, 4u }) {
        EXPECT_EQ(mr.ops->read(&mr, 0x10 + size, size), 0x80 + size * 8);
        EXPECT_EQ(last_width, size * 8);
        EXPECT_EQ(last_read_addr, 0x10 + size);
        mr.ops->write(&mr, 0x20 + size, 0x55, size);
        EXPECT_EQ(last_width, size * 8);
        EXPECT_EQ(last_write_addr, 0x20 + size);
        EXPECT_EQ(last_value, 0x55u);
    }
    region_shim_legacy_free(mr.ops);
}

TEST(LegacyOps, AMissingWidthIsNotAccepted)
{
    MemoryRegionLegacyOps legacy = AllWidths();
    MemoryRegion mr = MemoryRegion();
    MemTxAttrs attrs = MEMTXATTRS_UNSPECIFIED;

    legacy.read[1] = NULL;
    legacy.write[2] = NULL;
    ASSERT_EQ(region_shim_legacy_new(&legacy, &mr.ops), 0);
    ASSERT_NE(mr.ops->valid.accepts, nullptr);
    EXPECT_TRUE(mr.ops->valid.accepts(&mr, 0, 1, false, attrs));
    EXPECT_FALSE(mr.ops->valid.accepts(&mr, 0, 2, false, attrs));
    EXPECT_TRUE(mr.ops->valid.accepts(&mr, 0, 4, false, attrs));
    EXPECT_TRUE(mr.ops->valid.accepts(&mr, 0, 2, true, attrs));
    EXPECT_FALSE(mr.ops->valid.accepts(&mr, 0, 4, true, attrs));
    region_shim_legacy_free(mr.ops);
}

TEST(LegacyOps, ADirectionWithoutFunctionsHasNoCallback)
{
    MemoryRegionLegacyOps legacy = AllWidths();
    MemoryRegion mr = MemoryRegion();

    legacy.write[0] = legacy.write[1] = legacy.write[2] = NULL;
    legacy.read[0] = NULL;
    ASSERT_EQ(region_shim_legacy_new(&legacy, &mr.ops), 0);
    EXPECT_EQ(mr.ops->write, nullptr);
    EXPECT_NE(mr.ops->read, nullptr);
    EXPECT_EQ(mr.ops->valid.accepts, nullptr);
    EXPECT_EQ(mr.ops->valid.min_access_size, 2u);
    region_shim_legacy_free(mr.ops);
}

TEST(LegacyOps, NothingToCallIsRefused)
{
    MemoryRegionLegacyOps legacy = MemoryRegionLegacyOps();
    const MemoryRegionOps *ops = NULL;

    legacy.endianness = MEMORY_LITTLE_ENDIAN;
    EXPECT_EQ(region_shim_legacy_new(&legacy, &ops), -EINVAL);
    EXPECT_EQ(region_shim_legacy_new(NULL, &ops), -EINVAL);
    legacy = AllWidths();
    legacy.endianness = (MemoryEndianness)0;
    EXPECT_EQ(region_shim_legacy_new(&legacy, &ops), -EINVAL);
    EXPECT_EQ(ops, nullptr);
}

TEST(LegacyOps, WithoutMemoryNothingHappens)
{
    MemoryRegionLegacyOps legacy = AllWidths();
    const MemoryRegionOps *ops = NULL;

    region_shim_fail_nth(1);
    EXPECT_EQ(region_shim_legacy_new(&legacy, &ops), -ENOMEM);
    region_shim_fail_nth(0);
    EXPECT_EQ(ops, nullptr);
}

} // namespace
