// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include <flatview/memory_thread.h>

#include "shim/access_shim.h"

namespace {

const MemTxAttrs kAttrs = { 0, 1, 0, 0, 0, 0x1234 };

struct Call {
    hwaddr addr;
    unsigned size;
};

// A device of bytes; byte at offset o answers o, until it is written.
struct Device : MemoryRegion {
    MemoryRegionOps table = {};
    uint8_t regs[256];
    std::vector<Call> calls;
    std::function<MemTxResult(hwaddr addr, bool is_write)> hook;

    Device() : MemoryRegion()
    {
        for (unsigned i = 0; i < sizeof(regs); i++) {
            regs[i] = static_cast<uint8_t>(i);
        }
        table.read_with_attrs = read;
        table.write_with_attrs = write;
        table.endianness = MEMORY_LITTLE_ENDIAN;
        table.valid.min_access_size = table.impl.min_access_size = 1;
        table.valid.max_access_size = table.impl.max_access_size = 4;
    }

    static MemTxResult read(MemoryRegion *mr, hwaddr addr, uint64_t *data, unsigned size, MemTxAttrs attrs)
    {
        Device *d = static_cast<Device *>(mr);

        EXPECT_EQ(attrs.requester_id, kAttrs.requester_id);
        EXPECT_EQ(attrs.secure, kAttrs.secure);
        d->calls.push_back(Call{ addr, size });
        memcpy(data, &d->regs[addr], size);
        return d->hook ? d->hook(addr, false) : MEMTX_OK;
    }

    static MemTxResult write(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size, MemTxAttrs attrs)
    {
        Device *d = static_cast<Device *>(mr);

        EXPECT_EQ(attrs.requester_id, kAttrs.requester_id);
        EXPECT_EQ(attrs.secure, kAttrs.secure);
        d->calls.push_back(Call{ addr, size });
        memcpy(&d->regs[addr], &data, size);
        return d->hook ? d->hook(addr, true) : MEMTX_OK;
    }
};

// ram 0x000..0x0ff, device 0x100..0x1ff, hole, ram 0x300..0x3ff, rom 0x400..0x4ff, flash 0x500..0x5ff, reservation
// 0x600..0x6ff, mapped hardware 0x700..0x7ff, 2^64-0x100..2^64-1 device
class Dispatch : public ::testing::Test {
protected:
    alignas(64) uint8_t low[256], high[256], rom[256], flash[256], hardware[256];
    Device device, flash_device, top_device;
    std::vector<ShimRange> ranges;
    ShimSpace *space = nullptr;
    AddressSpace *as = nullptr;

    void SetUp() override
    {
        fill(low, 0x10);
        fill(high, 0x30);
        fill(rom, 0x40);
        fill(flash, 0x50);
        fill(hardware, 0x70);
        add(0, SHIM_RAM, low, nullptr);
        add(0x100, SHIM_IO, nullptr, &device);
        add(0x300, SHIM_RAM, high, nullptr);
        add(0x400, SHIM_ROM, rom, nullptr);
        add(0x500, SHIM_ROM_DEVICE, flash, &flash_device);
        add(0x600, SHIM_IO, nullptr, nullptr);
        add(0x700, SHIM_RAM_DEVICE, hardware, nullptr);
        add(UINT64_MAX - 0xff, SHIM_IO, nullptr, &top_device);
        space = shim_space_new(ranges.data(), ranges.size());
        as = shim_space_as(space);
    }

    void TearDown() override
    {
        shim_space_free(space);
    }

    static void fill(uint8_t *bytes, unsigned from)
    {
        for (unsigned i = 0; i < 256; i++) {
            bytes[i] = static_cast<uint8_t>(from + i);
        }
    }

    void add(hwaddr first, ShimKind kind, uint8_t *host, Device *d)
    {
        ShimRange range = {};

        range.first = first;
        range.last = first + 0xff;
        range.kind = kind;
        range.host = host;
        range.ops = d ? &d->table : nullptr;
        range.mr = d;
        ranges.push_back(range);
    }

    MemTxResult read(hwaddr addr, void *buf, hwaddr len)
    {
        return address_space_read(as, addr, kAttrs, buf, len);
    }

    MemTxResult write(hwaddr addr, const void *buf, hwaddr len)
    {
        return address_space_write(as, addr, kAttrs, buf, len);
    }
};

TEST_F(Dispatch, TypedLoadsOfMemoryFollowTheOrderAskedFor)
{
    uint8_t b;
    uint16_t w;
    uint32_t l;
    uint64_t q;

    EXPECT_EQ(address_space_ldub(as, 1, kAttrs, &b), MEMTX_OK);
    EXPECT_EQ(b, 0x11);
    for (hwaddr addr : { 0, 1, 3 }) { // aligned and not
        uint64_t le = UINT64_C(0x1716151413121110) + addr * UINT64_C(0x0101010101010101);

        EXPECT_EQ(address_space_lduw_le(as, addr, kAttrs, &w), MEMTX_OK);
        EXPECT_EQ(w, static_cast<uint16_t>(le));
        EXPECT_EQ(address_space_lduw_be(as, addr, kAttrs, &w), MEMTX_OK);
        EXPECT_EQ(w, __builtin_bswap16(static_cast<uint16_t>(le)));
        EXPECT_EQ(address_space_ldl_le(as, addr, kAttrs, &l), MEMTX_OK);
        EXPECT_EQ(l, static_cast<uint32_t>(le));
        EXPECT_EQ(address_space_ldl_be(as, addr, kAttrs, &l), MEMTX_OK);
        EXPECT_EQ(l, __builtin_bswap32(static_cast<uint32_t>(le)));
        EXPECT_EQ(address_space_ldq_le(as, addr, kAttrs, &q), MEMTX_OK);
        EXPECT_EQ(q, le);
        EXPECT_EQ(address_space_ldq_be(as, addr, kAttrs, &q), MEMTX_OK);
        EXPECT_EQ(q, __builtin_bswap64(le));
    }
}

TEST_F(Dispatch, TypedStoresOfMemoryFollowTheOrderAskedForAndTouchNothingElse)
{
    for (hwaddr addr : { 0x20, 0x21, 0x23 }) {
        auto check = [&](MemTxResult result, unsigned size, uint64_t bytes_le) {
            uint8_t expected[256];

            EXPECT_EQ(result, MEMTX_OK);
            fill(expected, 0x10);
            memcpy(&expected[addr], &bytes_le, size);
            EXPECT_EQ(memcmp(low, expected, sizeof(low)), 0) << size << " at " << addr;
            fill(low, 0x10);
        };

        check(address_space_stb(as, addr, kAttrs, 0xa1), 1, 0xa1);
        check(address_space_stw_le(as, addr, kAttrs, 0xa1b2), 2, 0xa1b2);
        check(address_space_stw_be(as, addr, kAttrs, 0xa1b2), 2, 0xb2a1);
        check(address_space_stl_le(as, addr, kAttrs, 0xa1b2c3d4), 4, 0xa1b2c3d4);
        check(address_space_stl_be(as, addr, kAttrs, 0xa1b2c3d4), 4, 0xd4c3b2a1);
        check(address_space_stq_le(as, addr, kAttrs, 0xa1b2c3d4e5f60718), 8, 0xa1b2c3d4e5f60718);
        check(address_space_stq_be(as, addr, kAttrs, 0xa1b2c3d4e5f60718), 8, 0x1807f6e5d4c3b2a1);
    }
}

TEST_F(Dispatch, NoBytesAreNoAccess)
{
    uint8_t byte;

    EXPECT_EQ(read(0, &byte, 1), MEMTX_OK);
    EXPECT_EQ(read(0, nullptr, 0), MEMTX_OK); // remembered memory
    EXPECT_EQ(read(0x100, nullptr, 0), MEMTX_OK);
    EXPECT_EQ(write(0x280, nullptr, 0), MEMTX_OK);
    EXPECT_TRUE(device.calls.empty());
}

TEST_F(Dispatch, HoleIsADecodeErrorAndLeavesTheDestination)
{
    uint32_t value = 0x55555555;
    uint8_t buf[4] = { 1, 2, 3, 4 };

    EXPECT_EQ(address_space_ldl_le(as, 0x280, kAttrs, &value), MEMTX_DECODE_ERROR);
    EXPECT_EQ(value, 0x55555555u);
    EXPECT_EQ(address_space_stl_le(as, 0x280, kAttrs, 1), MEMTX_DECODE_ERROR);
    EXPECT_EQ(read(0x280, buf, 4), MEMTX_DECODE_ERROR);
    EXPECT_EQ(buf[0], 1);
    EXPECT_EQ(buf[3], 4);
}

TEST_F(Dispatch, ReservationIsAHole)
{
    uint32_t value = 0x55555555;
    uint8_t buf[0x100] = {};

    EXPECT_EQ(address_space_ldl_le(as, 0x600, kAttrs, &value), MEMTX_DECODE_ERROR);
    EXPECT_EQ(address_space_stl_le(as, 0x600, kAttrs, 1), MEMTX_DECODE_ERROR);
    EXPECT_EQ(read(0x600, buf, sizeof(buf)), MEMTX_DECODE_ERROR);
    EXPECT_EQ(write(0x600, buf, sizeof(buf)), MEMTX_DECODE_ERROR);
}

TEST_F(Dispatch, HugeHoleIsOneStep)
{
    ShimRange only = ranges[0];
    uint8_t byte = 0x77;

    shim_space_publish(space, &only, 1);
    auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(read(0x100, &byte, UINT64_C(1) << 40), MEMTX_DECODE_ERROR);
    EXPECT_EQ(read(0x100, &byte, UINT64_MAX - 0xff), MEMTX_DECODE_ERROR);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
    EXPECT_EQ(byte, 0x77);
}

TEST_F(Dispatch, BulkCrossesMemoryDeviceHoleAndMemory)
{
    uint8_t buf[0x300];

    memset(buf, 0xee, sizeof(buf));
    EXPECT_EQ(read(0x80, buf, sizeof(buf)), MEMTX_DECODE_ERROR);
    for (unsigned i = 0; i < sizeof(buf); i++) {
        unsigned addr = 0x80 + i;
        uint8_t expected = static_cast<uint8_t>(addr < 0x100 ? 0x10 + addr : addr < 0x200 ? addr
                                                : addr < 0x300 ? 0xee : 0x30 + addr);

        ASSERT_EQ(buf[i], expected) << "at " << addr;
    }
    ASSERT_EQ(device.calls.size(), 64u);
    for (unsigned i = 0; i < 64; i++) {
        EXPECT_EQ(device.calls[i].addr, 4 * i);
        EXPECT_EQ(device.calls[i].size, 4u);
    }

    memset(buf, 0x99, sizeof(buf));
    EXPECT_EQ(write(0x80, buf, sizeof(buf)), MEMTX_DECODE_ERROR);
    EXPECT_EQ(low[0x7f], 0x8f);
    EXPECT_EQ(low[0x80], 0x99);
    EXPECT_EQ(low[0xff], 0x99);
    EXPECT_EQ(device.regs[0], 0x99);
    EXPECT_EQ(device.regs[0xff], 0x99);
    EXPECT_EQ(high[0x7f], 0x99);
    EXPECT_EQ(high[0x80], 0xb0);
}

TEST_F(Dispatch, TypedAccessAcrossRangesIsDoneInParts)
{
    uint64_t q = 1;

    EXPECT_EQ(address_space_ldq_le(as, 0xfd, kAttrs, &q), MEMTX_OK); // 3 bytes of memory, 5 of the device
    EXPECT_EQ(q, UINT64_C(0x04030201000f0e0d));
    ASSERT_EQ(device.calls.size(), 2u);
    EXPECT_EQ(device.calls[0].size, 4u);
    EXPECT_EQ(device.calls[1].size, 1u);
    EXPECT_EQ(address_space_ldq_be(as, 0xfd, kAttrs, &q), MEMTX_OK);
    EXPECT_EQ(q, UINT64_C(0x0d0e0f0001020304));

    EXPECT_EQ(address_space_stq_be(as, 0xfd, kAttrs, UINT64_C(0xa0a1a2a3a4a5a6a7)), MEMTX_OK);
    EXPECT_EQ(low[0xfd], 0xa0);
    EXPECT_EQ(low[0xff], 0xa2);
    EXPECT_EQ(device.regs[0], 0xa3);
    EXPECT_EQ(device.regs[4], 0xa7);
    EXPECT_EQ(device.regs[5], 5);
}

TEST_F(Dispatch, TypedAccessThatFailsInPartDoesTheRestAndSaysSo)
{
    uint32_t l = 0x55;

    device.calls.clear();
    EXPECT_EQ(address_space_ldl_le(as, 0x1fe, kAttrs, &l), MEMTX_DECODE_ERROR);
    EXPECT_EQ(l, 0x55u);
    EXPECT_EQ(address_space_stl_le(as, 0x1fe, kAttrs, 0xa3a2a1a0), MEMTX_DECODE_ERROR);
    EXPECT_EQ(device.regs[0xfe], 0xa0);
    EXPECT_EQ(device.regs[0xff], 0xa1);
    EXPECT_EQ(address_space_stl_le(as, 0x2fe, kAttrs, 0xb3b2b1b0), MEMTX_DECODE_ERROR); // begins in the hole
    EXPECT_EQ(high[0], 0xb2);
    EXPECT_EQ(high[1], 0xb3);
}

TEST_F(Dispatch, ReadOnlyMemoryIsUntouchedByWrites)
{
    uint32_t l;
    uint8_t buf[0x200];

    EXPECT_EQ(address_space_ldl_le(as, 0x400, kAttrs, &l), MEMTX_OK);
    EXPECT_EQ(l, 0x43424140u);
    EXPECT_EQ(address_space_stl_le(as, 0x400, kAttrs, 0), MEMTX_ACCESS_ERROR);
    EXPECT_EQ(address_space_stl_le(as, 0x401, kAttrs, 0), MEMTX_ACCESS_ERROR);
    memset(buf, 0, sizeof(buf));
    EXPECT_EQ(write(0x380, buf, 0x100), MEMTX_ACCESS_ERROR); // half memory, half read-only
    EXPECT_EQ(high[0x7f], 0xaf);
    EXPECT_EQ(high[0x80], 0);
    for (unsigned i = 0; i < sizeof(rom); i++) {
        ASSERT_EQ(rom[i], static_cast<uint8_t>(0x40 + i));
    }
}

TEST_F(Dispatch, ReadOnlyAliasOfADeviceRefusesWritesOnEveryPath)
{
    uint32_t l;

    device.table.read_with_attrs = nullptr;
    device.table.write_with_attrs = nullptr;
    device.table.read = [](MemoryRegion *, hwaddr, unsigned) -> uint64_t { return 7; };
    device.table.write = [](MemoryRegion *, hwaddr, uint64_t, unsigned) { ADD_FAILURE(); };
    ranges[1].readonly = true;
    shim_space_publish(space, ranges.data(), ranges.size());
    EXPECT_EQ(address_space_ldl_le(as, 0x100, kAttrs, &l), MEMTX_OK);
    EXPECT_EQ(l, 7u);
    EXPECT_EQ(address_space_stl_le(as, 0x100, kAttrs, 1), MEMTX_ACCESS_ERROR);
    EXPECT_EQ(write(0x100, &l, 4), MEMTX_ACCESS_ERROR);
}

TEST_F(Dispatch, WriteOnlyDeviceRefusesReads)
{
    uint32_t l = 0x55;
    uint8_t buf[8] = { 1, 1, 1, 1, 1, 1, 1, 1 };

    device.table.read_with_attrs = nullptr;
    shim_space_publish(space, ranges.data(), ranges.size());
    EXPECT_EQ(address_space_ldl_le(as, 0x100, kAttrs, &l), MEMTX_ACCESS_ERROR);
    EXPECT_EQ(read(0x100, buf, 8), MEMTX_ACCESS_ERROR);
    EXPECT_EQ(l, 0x55u);
    EXPECT_EQ(buf[0], 1);
    EXPECT_EQ(address_space_stl_le(as, 0x100, kAttrs, 0xa3a2a1a0), MEMTX_OK);
    EXPECT_EQ(device.regs[3], 0xa3);
}

TEST_F(Dispatch, FlashReadsDirectlyInReadModeAndCallsBackOutOfIt)
{
    uint32_t l;

    EXPECT_EQ(address_space_ldl_le(as, 0x500, kAttrs, &l), MEMTX_OK);
    EXPECT_EQ(l, 0x53525150u);
    EXPECT_TRUE(flash_device.calls.empty());
    EXPECT_EQ(address_space_stl_le(as, 0x500, kAttrs, 0xa3a2a1a0), MEMTX_OK);
    EXPECT_EQ(flash_device.calls.size(), 1u);
    EXPECT_EQ(flash[0], 0x50);
    EXPECT_EQ(flash_device.regs[0], 0xa0);

    ranges[4].kind = SHIM_ROM_DEVICE_BUSY;
    shim_space_publish(space, ranges.data(), ranges.size());
    EXPECT_EQ(address_space_ldl_le(as, 0x500, kAttrs, &l), MEMTX_OK);
    EXPECT_EQ(l, 0xa3a2a1a0u);
    EXPECT_EQ(flash_device.calls.size(), 2u);
}

TEST_F(Dispatch, MappedHardwareIsReadAndWrittenWhateverTheAlignment)
{
    uint64_t q;
    uint8_t buf[13];

    EXPECT_EQ(address_space_ldq_le(as, 0x700, kAttrs, &q), MEMTX_OK);
    EXPECT_EQ(q, UINT64_C(0x7776757473727170));
    EXPECT_EQ(address_space_ldq_be(as, 0x703, kAttrs, &q), MEMTX_OK);
    EXPECT_EQ(q, UINT64_C(0x737475767778797a));
    EXPECT_EQ(read(0x701, buf, sizeof(buf)), MEMTX_OK);
    EXPECT_EQ(memcmp(buf, hardware + 1, sizeof(buf)), 0);
    memset(buf, 9, sizeof(buf));
    EXPECT_EQ(write(0x721, buf, sizeof(buf)), MEMTX_OK);
    EXPECT_EQ(hardware[0x20], 0x90);
    EXPECT_EQ(memcmp(buf, hardware + 0x21, sizeof(buf)), 0);
    EXPECT_EQ(hardware[0x2e], 0x9e);
    EXPECT_EQ(address_space_stl_be(as, 0x741, kAttrs, 0xa0a1a2a3), MEMTX_OK);
    EXPECT_EQ(hardware[0x41], 0xa0);
    EXPECT_EQ(hardware[0x44], 0xa3);

    ranges[6].readonly = true;
    shim_space_publish(space, ranges.data(), ranges.size());
    EXPECT_EQ(address_space_stl_be(as, 0x740, kAttrs, 0), MEMTX_ACCESS_ERROR);
    EXPECT_EQ(write(0x740, buf, 4), MEMTX_ACCESS_ERROR);
    EXPECT_EQ(hardware[0x41], 0xa0);
}

TEST(GuestRam, ExactAccessesAreNaturallyAlignedAndNeverTooWide)
{
    for (uintptr_t host = 64; host < 80; host++) {
        for (size_t len = 1; len < 20; len++) {
            unsigned width = shim_exact_width(host, len);

            EXPECT_TRUE(width == 1 || width == 2 || width == 4 || width == 8);
            EXPECT_EQ(host % width, 0u);
            EXPECT_LE(width, len);
            EXPECT_TRUE(width == 8 || host % (2 * width) || 2 * width > len) << host << " " << len;
        }
    }
    EXPECT_EQ(shim_exact_width(4096, 8), 8u); // a typed access keeps its width
    EXPECT_EQ(shim_exact_width(4096, 4), 4u);
    EXPECT_EQ(shim_exact_width(4096, 2), 2u);
    EXPECT_EQ(shim_exact_width(4096, 1), 1u);
}

TEST_F(Dispatch, EndOfTheSpaceIsAnEnd)
{
    uint8_t buf[16];
    uint32_t l = 0x55;

    memset(buf, 0xee, sizeof(buf));
    EXPECT_EQ(read(UINT64_MAX - 7, buf, 8), MEMTX_OK);
    EXPECT_EQ(buf[7], 0xff);
    EXPECT_EQ(buf[8], 0xee);
    memset(buf, 0xee, sizeof(buf));
    EXPECT_EQ(read(UINT64_MAX - 3, buf, 16), MEMTX_DECODE_ERROR); // and does not go on at 0
    EXPECT_EQ(buf[3], 0xff);
    EXPECT_EQ(buf[4], 0xee);
    EXPECT_EQ(address_space_ldl_le(as, UINT64_MAX - 3, kAttrs, &l), MEMTX_OK);
    EXPECT_EQ(l, 0xfffefdfcu);
    l = 0x55;
    EXPECT_EQ(address_space_ldl_le(as, UINT64_MAX - 1, kAttrs, &l), MEMTX_DECODE_ERROR);
    EXPECT_EQ(l, 0x55u);
    EXPECT_EQ(address_space_stl_le(as, UINT64_MAX, kAttrs, 0xa3a2a1a0), MEMTX_DECODE_ERROR);
    EXPECT_EQ(top_device.regs[0xff], 0xa0);
    EXPECT_EQ(low[0], 0x10);
}

TEST_F(Dispatch, FailedBusAccessInTheMiddleOfABulkCostsItsOwnBytesOnly)
{
    uint8_t buf[16];

    device.hook = [](hwaddr addr, bool) { return addr == 4 ? MEMTX_ERROR : MEMTX_OK; };
    memset(buf, 0xee, sizeof(buf));
    EXPECT_EQ(read(0x100, buf, sizeof(buf)), MEMTX_ERROR);
    EXPECT_EQ(buf[3], 3);
    EXPECT_EQ(buf[4], 0xee);
    EXPECT_EQ(buf[7], 0xee);
    EXPECT_EQ(buf[8], 8);
    EXPECT_EQ(device.calls.size(), 4u);
    memset(buf, 0x11, sizeof(buf));
    EXPECT_EQ(write(0x100, buf, sizeof(buf)), MEMTX_ERROR);
    EXPECT_EQ(device.calls.size(), 8u);
    EXPECT_EQ(device.regs[15], 0x11);
}

TEST_F(Dispatch, ResultsOfAllPartsAreOred)
{
    uint8_t buf[0x400];

    device.hook = [](hwaddr, bool) { return MEMTX_ERROR; };
    memset(buf, 0, sizeof(buf));
    EXPECT_EQ(write(0x1f0, buf, 0x300), MEMTX_ERROR | MEMTX_DECODE_ERROR | MEMTX_ACCESS_ERROR);
}

// CVE-2020-13754
TEST_F(Dispatch, TypedAccessWiderThanValidIsRefusedWithoutACallback)
{
    uint64_t q = 0x55;

    EXPECT_EQ(address_space_ldq_le(as, 0x100, kAttrs, &q), MEMTX_DECODE_ERROR);
    EXPECT_EQ(address_space_stq_le(as, 0x100, kAttrs, 0), MEMTX_DECODE_ERROR);
    EXPECT_EQ(q, 0x55u);
    EXPECT_TRUE(device.calls.empty());
}

TEST_F(Dispatch, OffsetAndBiasReachTheCallback)
{
    uint8_t b;

    ranges[1].offset = 0x20;
    ranges[1].last = 0x17f;
    ranges[1].bias = 0x40;
    shim_space_publish(space, ranges.data(), ranges.size());
    EXPECT_EQ(address_space_ldub(as, 0x103, kAttrs, &b), MEMTX_OK);
    EXPECT_EQ(b, 0x63);
    EXPECT_EQ(read(0x104, &b, 1), MEMTX_OK);
    EXPECT_EQ(b, 0x64);
}

TEST_F(Dispatch, OneCallStaysInOneViewWhateverItsCallbacksPublish)
{
    uint8_t buf[0x300];
    bool done = false;

    device.hook = [&](hwaddr, bool) {
        if (!done) {
            done = true;
            shim_space_publish(space, nullptr, 0);
        }
        return MEMTX_OK;
    };
    EXPECT_EQ(read(0x80, buf, 0x180), MEMTX_OK);
    EXPECT_TRUE(done);
    EXPECT_EQ(buf[0x17f], 0xff); // still the device
    EXPECT_EQ(read(0x80, buf, 1), MEMTX_DECODE_ERROR);
}

TEST_F(Dispatch, CallbackMayAccessMemoryItself)
{
    uint32_t l, inner = 0;

    device.hook = [&](hwaddr, bool) { return address_space_ldl_le(as, 0x300, kAttrs, &inner); };
    EXPECT_EQ(address_space_ldl_le(as, 0x100, kAttrs, &l), MEMTX_OK);
    EXPECT_EQ(l, 0x03020100u);
    EXPECT_EQ(inner, 0x33323130u);
    EXPECT_EQ(address_space_ldl_le(as, 0x104, kAttrs, &l), MEMTX_OK);
    EXPECT_EQ(l, 0x07060504u);
}

TEST_F(Dispatch, BulkToTheLastByteOfMemory)
{
    uint8_t buf[257];

    for (int i = 0; i < 2; i++) { // looked up, then remembered
        for (hwaddr first : { 0, 200, 248, 249, 255 }) {
            memset(buf, 0xee, sizeof(buf));
            EXPECT_EQ(read(0x300 + first, buf, 256 - first), MEMTX_OK);
            EXPECT_EQ(memcmp(buf, high + first, 256 - first), 0);
            EXPECT_EQ(buf[256 - first], 0xee);
            EXPECT_EQ(write(0x300 + first, buf, 256 - first), MEMTX_OK);
            EXPECT_EQ(write(0x300 + first, buf, 257 - first), MEMTX_ACCESS_ERROR); // one byte of it read-only
            EXPECT_EQ(rom[0], 0x40);
        }
        EXPECT_EQ(read(0x1fe, buf, 3), MEMTX_DECODE_ERROR);
    }
}

TEST_F(Dispatch, CopyWithinMemoryMayOverlap)
{
    uint8_t expected[256];

    fill(expected, 0x10);
    memmove(expected + 3, expected, 100);
    EXPECT_EQ(write(3, low, 100), MEMTX_OK);
    EXPECT_EQ(memcmp(low, expected, sizeof(low)), 0);
    memmove(expected, expected + 3, 100);
    EXPECT_EQ(read(3, low, 100), MEMTX_OK);
    EXPECT_EQ(memcmp(low, expected, sizeof(low)), 0);
}

TEST_F(Dispatch, TranslateSaysWhatWouldAnswer)
{
    MemoryRegionSection s = {};

    memory_read_begin();
    EXPECT_EQ(address_space_translate(as, 0x110, false, kAttrs, &s), MEMTX_OK);
    EXPECT_EQ(s.mr, &device);
    EXPECT_EQ(s.offset_within_address_space, 0x100u);
    EXPECT_EQ(s.last, 0x1ffu);
    EXPECT_EQ(address_space_translate(as, 0x450, true, kAttrs, &s), MEMTX_ACCESS_ERROR);
    EXPECT_EQ(s.host, rom);
    EXPECT_EQ(address_space_translate(as, 0x450, false, kAttrs, &s), MEMTX_OK);
    EXPECT_EQ(address_space_translate(as, 0x550, true, kAttrs, &s), MEMTX_OK);
    EXPECT_EQ(s.mr, &flash_device);
    EXPECT_EQ(address_space_translate(as, 0x750, true, kAttrs, &s), MEMTX_OK);
    EXPECT_EQ(s.host, hardware);
    EXPECT_EQ(address_space_translate(as, 0x250, false, kAttrs, &s), MEMTX_DECODE_ERROR);
    EXPECT_EQ(address_space_translate(as, 0x650, false, kAttrs, &s), MEMTX_DECODE_ERROR);
    EXPECT_EQ(s.host, hardware);
    memory_read_end();
}

// Aligned typed accesses do not tear; and ThreadSanitizer has nothing to say about guests that race on their memory.
TEST_F(Dispatch, GuestsMayRaceOnTheirMemory)
{
    std::atomic<bool> stop{ false };
    std::thread other([&] {
        for (uint64_t i = 0; !stop; i++) {
            uint8_t bulk[31];

            memset(bulk, static_cast<int>(i), sizeof(bulk));
            address_space_stq_le(as, 0x40, kAttrs, (i & 0xff) * UINT64_C(0x0101010101010101));
            address_space_write(as, 0x81, kAttrs, bulk, sizeof(bulk));
            address_space_stl_le(as, 0xc1, kAttrs, 0);
        }
    });
    for (int i = 0; i < 2000; i++) {
        uint8_t bulk[31];
        uint64_t q;
        uint32_t l;

        ASSERT_EQ(address_space_stq_le(as, 0x40, kAttrs, 0), MEMTX_OK);
        ASSERT_EQ(address_space_ldq_le(as, 0x40, kAttrs, &q), MEMTX_OK);
        ASSERT_EQ(q, (q & 0xff) * UINT64_C(0x0101010101010101));
        ASSERT_EQ(address_space_read(as, 0x81, kAttrs, bulk, sizeof(bulk)), MEMTX_OK);
        ASSERT_EQ(address_space_ldl_le(as, 0xc1, kAttrs, &l), MEMTX_OK);
    }
    stop = true;
    other.join();
}

} // namespace
