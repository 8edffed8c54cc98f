/* SPDX-License-Identifier: MIT */
/* Mappings of guest memory as a device's back end uses them. What is bad is refused with its own error, and nothing else. */
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include <flatview/memory.h>

namespace {

const MemTxAttrs kAttrs = MEMTXATTRS_UNSPECIFIED;

/* Registers that keep what is written. */
struct Regs {
    MemoryRegion mr;
    uint8_t bytes[0x1000];
    MemTxResult result;
    unsigned reads, writes;
    std::function<void()> hook;
};

Regs *regs_of(MemoryRegion *mr)
{
    return reinterpret_cast<Regs *>(mr);
}

const MemoryRegionOps *regs_ops()
{
    static const MemoryRegionOps ops = [] {
        MemoryRegionOps o = {};
        o.read_with_attrs = [](MemoryRegion *mr, hwaddr addr, uint64_t *data, unsigned size, MemTxAttrs) {
            regs_of(mr)->reads++;
            memcpy(data, regs_of(mr)->bytes + addr, size);
            return regs_of(mr)->result;
        };
        o.write_with_attrs = [](MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size, MemTxAttrs) {
            Regs *r = regs_of(mr);
            r->writes++;
            memcpy(r->bytes + addr, &data, size);
            if (r->hook) {
                r->hook();
            }
            return r->result;
        };
        o.endianness = MEMORY_LITTLE_ENDIAN;
        o.valid.min_access_size = o.impl.min_access_size = 1;
        o.valid.max_access_size = o.impl.max_access_size = 8;
        return o;
    }();
    return &ops;
}

std::atomic<int> released;

/* low RAM 0..0xfff, registers 0x1000..0x1fff, a hole, high RAM 0x3000..0x3fff (its second half first, then its first), ROM
   0x4000..0x4fff, mapped hardware 0x5000..0x5fff, a reservation 0x6000, write-only 0x7000 */
class Dma : public testing::Test {
public:
    void SetUp() override
    {
        released = 0;
        ASSERT_EQ(0, memory_region_init(&root, "root", UINT64_MAX));
        ASSERT_EQ(0, memory_region_init_ram(&low, "low", 0x1000));
        ASSERT_EQ(0, memory_region_init_ram(&high, "high", 0x1000));
        ASSERT_EQ(0, memory_region_init_alias(&high_b, "high-b", &high, 0x800, 0x800));
        ASSERT_EQ(0, memory_region_init_alias(&high_a, "high-a", &high, 0, 0x800));
        ASSERT_EQ(0, memory_region_init_rom(&rom, "rom", 0x1000));
        ASSERT_EQ(0, memory_region_init_ram_device_ptr(&hardware, "hardware", 0x1000, hardware_bytes));
        ASSERT_EQ(0, memory_region_init_reservation(&reservation, "reservation", 0x1000));
        ASSERT_EQ(0, memory_region_init_io(&regs.mr, regs_ops(), "regs", 0x1000));
        static const MemoryRegionOps write_only = [] {
            MemoryRegionOps o = *regs_ops();
            o.read_with_attrs = nullptr;
            return o;
        }();
        ASSERT_EQ(0, memory_region_init_io(&sink.mr, &write_only, "sink", 0x1000));
        ASSERT_EQ(0, memory_region_add_subregion(&root, 0, &low));
        ASSERT_EQ(0, memory_region_add_subregion(&root, 0x1000, &regs.mr));
        ASSERT_EQ(0, memory_region_add_subregion(&root, 0x3000, &high_b));
        ASSERT_EQ(0, memory_region_add_subregion(&root, 0x3800, &high_a));
        ASSERT_EQ(0, memory_region_add_subregion(&root, 0x4000, &rom));
        ASSERT_EQ(0, memory_region_add_subregion(&root, 0x5000, &hardware));
        ASSERT_EQ(0, memory_region_add_subregion(&root, 0x6000, &reservation));
        ASSERT_EQ(0, memory_region_add_subregion(&root, 0x7000, &sink.mr));
        for (MemoryRegion *mr : all()) {
            ASSERT_EQ(0, memory_region_set_release(mr, [](MemoryRegion *) { released++; }));
        }
        ASSERT_EQ(0, address_space_init(&as, &root, "dma"));
        for (unsigned i = 0; i < 0x1000; i++) {
            host(&low)[i] = static_cast<uint8_t>(i);
            host(&high)[i] = static_cast<uint8_t>(i * 3);
            regs.bytes[i] = static_cast<uint8_t>(i * 5);
            hardware_bytes[i] = static_cast<uint8_t>(i * 7);
        }
    }

    void TearDown() override
    {
        ASSERT_EQ(0u, address_space_get_bounce_used(&as));
        ASSERT_EQ(0, address_space_destroy(&as, nullptr));
        for (MemoryRegion *mr : all()) {
            if (memory_region_get_parent(mr)) {
                ASSERT_EQ(0, memory_region_del_subregion(&root, mr));
            }
        }
        for (MemoryRegion *mr : all()) {
            int err = memory_region_destroy(mr); /* -EINVAL: the test has done it */
            ASSERT_TRUE(err == 0 || err == -EINVAL);
        }
        for (MemoryRegion *mr : all()) {
            ASSERT_EQ(0, memory_region_quiesce(mr));
        }
        ASSERT_EQ(static_cast<int>(all().size()), released);
        ASSERT_EQ(0, memory_region_destroy(&root));
        ASSERT_EQ(0, memory_region_quiesce(&root));
    }

    std::vector<MemoryRegion *> all()
    {
        return {&high_a, &high_b, &low, &high, &rom, &hardware, &reservation, &regs.mr, &sink.mr};
    }

    static uint8_t *host(MemoryRegion *mr)
    {
        return static_cast<uint8_t *>(memory_region_get_ram_ptr(mr));
    }

    int map(hwaddr addr, hwaddr len, MemoryMapDirection direction, MemoryMapping *m)
    {
        MemoryMapRange range = {addr, len};
        return address_space_map_sg(&as, &range, 1, direction, kAttrs, m);
    }

    void unplug(MemoryRegion *mr)
    {
        ASSERT_EQ(0, memory_region_del_subregion(&root, mr));
        ASSERT_EQ(0, memory_region_destroy(mr));
    }

    alignas(64) uint8_t hardware_bytes[0x1000];
    MemoryRegion root, low, high, high_a, high_b, rom, hardware, reservation;
    Regs regs = {}, sink = {};
    AddressSpace as = {};
};

TEST_F(Dma, RamIsMappedWhereItIs)
{
    MemoryMapping m = {};

    ASSERT_EQ(0, map(0x10, 0x20, MEMORY_MAP_READ_WRITE, &m));
    ASSERT_EQ(1u, m.n_iov);
    EXPECT_EQ(host(&low) + 0x10, m.iov[0].iov_base);
    EXPECT_EQ(0x20u, m.iov[0].iov_len);
    EXPECT_EQ(0x20u, m.len);
    EXPECT_FALSE(m.bounced);
    EXPECT_EQ(0u, address_space_get_bounce_used(&as));
    EXPECT_EQ(0, address_space_unmap_sg(&m, 0x20, nullptr));
}

TEST_F(Dma, OneCallMapsOverRegionsThatDoNotAdjoinAndOverDevices)
{
    MemoryMapping m = {};
    MemoryMapRange ranges[] = {{0xff0, 0x20}, {0x37f0, 0x20}, {0x8, 4}};
    uint8_t bytes[0x44], expected[0x44];

    ASSERT_EQ(0, address_space_map_sg(&as, ranges, 3, MEMORY_MAP_READ_WRITE, kAttrs, &m));
    ASSERT_EQ(5u, m.n_iov) << "low, a copy of registers, the end of high, its beginning, low";
    EXPECT_TRUE(m.bounced);
    EXPECT_EQ(0x10u, address_space_get_bounce_used(&as));
    EXPECT_EQ(0x44u, m.len);
    size_t at = 0;
    for (unsigned i = 0; i < m.n_iov; i++) {
        memcpy(bytes + at, m.iov[i].iov_base, m.iov[i].iov_len);
        at += m.iov[i].iov_len;
    }
    ASSERT_EQ(0x44u, at);
    at = 0;
    for (auto &r : ranges) {
        ASSERT_EQ(MEMTX_OK, address_space_read(&as, r.addr, kAttrs, expected + at, r.len));
        at += r.len;
    }
    EXPECT_EQ(0, memcmp(expected, bytes, sizeof(bytes)));

    memset(m.iov[1].iov_base, 0xab, 0x10);
    EXPECT_EQ(5, regs.bytes[1]);
    MemTxResult result = 77;
    EXPECT_EQ(0, address_space_unmap_sg(&m, 0x18, &result)); /* eight of the copy's bytes */
    EXPECT_EQ(MEMTX_OK, result);
    EXPECT_EQ(0xab, regs.bytes[7]);
    EXPECT_EQ(40, regs.bytes[8]) << "beyond what was written";
}

TEST_F(Dma, PiecesThatAdjoinInTheHostAreOne)
{
    MemoryRegion window;
    MemoryMapping m = {};

    ASSERT_EQ(0, memory_region_init_alias(&window, "window", &high, 0x100, 0x10));
    ASSERT_EQ(0, memory_region_add_subregion_overlap(&root, 0x3900, &window, 1));
    ASSERT_EQ(0, memory_region_set_nonvolatile(&window, true)); /* so that the view has three ranges */
    ASSERT_EQ(0, map(0x3800, 0x200, MEMORY_MAP_READ_WRITE, &m));
    EXPECT_EQ(1u, m.n_iov);
    EXPECT_EQ(0x200u, m.iov[0].iov_len);
    EXPECT_EQ(0, address_space_unmap_sg(&m, 0, nullptr));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &window));
    ASSERT_EQ(0, memory_region_destroy(&window));
    ASSERT_EQ(0, memory_region_quiesce(&window));
}

TEST_F(Dma, ACopyIsFilledOnlyToBeReadAndWrittenBackOnlyIfItWasWritten)
{
    MemoryMapping m = {};

    ASSERT_EQ(0, map(0x1000, 16, MEMORY_MAP_READ, &m));
    EXPECT_EQ(2u, regs.reads);
    EXPECT_EQ(0, memcmp(regs.bytes, m.iov[0].iov_base, 16));
    EXPECT_EQ(0, address_space_unmap_sg(&m, 16, nullptr));
    EXPECT_EQ(0u, regs.writes);

    ASSERT_EQ(0, map(0x1000, 16, MEMORY_MAP_WRITE, &m));
    EXPECT_EQ(2u, regs.reads);
    const uint8_t zeroes[16] = {};
    EXPECT_EQ(0, memcmp(zeroes, m.iov[0].iov_base, 16)) << "nothing of the host's may show";
    memset(m.iov[0].iov_base, 1, 16);
    EXPECT_EQ(0, address_space_unmap_sg(&m, 8, nullptr));
    EXPECT_EQ(1u, regs.writes);
    EXPECT_EQ(1, regs.bytes[7]);
    EXPECT_EQ(40, regs.bytes[8]);
}

TEST_F(Dma, CopiesWithinOneRamMayOverlap)
{
    for (int shift : {-5, -1, 1, 8, 100}) {
        MemoryMapping m = {};
        std::vector<uint8_t> expected(host(&low), host(&low) + 0x1000);

        memmove(&expected[0x200 + shift], &expected[0x200], 0x800);
        ASSERT_EQ(0, map(0x200, 0x800, MEMORY_MAP_READ, &m));
        ASSERT_EQ(1u, m.n_iov);
        EXPECT_EQ(MEMTX_OK, address_space_write(&as, 0x200 + shift, kAttrs, m.iov[0].iov_base, 0x800));
        EXPECT_EQ(0, memcmp(expected.data(), host(&low), 0x1000)) << shift;
        memmove(&expected[0x200], &expected[0x200 + shift], 0x800);
        EXPECT_EQ(MEMTX_OK, address_space_read(&as, 0x200 + shift, kAttrs, m.iov[0].iov_base, 0x800));
        EXPECT_EQ(0, memcmp(expected.data(), host(&low), 0x1000)) << shift;
        EXPECT_EQ(0, address_space_unmap_sg(&m, 0, nullptr));
    }
}

TEST_F(Dma, MappedHardwareIsBounced)
{
    MemoryMapping m = {};

    ASSERT_EQ(0, map(0x5010, 16, MEMORY_MAP_READ_WRITE, &m));
    EXPECT_TRUE(m.bounced);
    EXPECT_EQ(0, memcmp(hardware_bytes + 0x10, m.iov[0].iov_base, 16));
    memset(m.iov[0].iov_base, 9, 16);
    EXPECT_EQ(0, address_space_unmap_sg(&m, 16, nullptr));
    EXPECT_EQ(9, hardware_bytes[0x1f]);
}

TEST_F(Dma, AWriteBackThatFailsSaysSoAndEndsTheMapping)
{
    MemoryMapping m = {};
    MemTxResult result = MEMTX_OK;

    ASSERT_EQ(0, map(0x1000, 16, MEMORY_MAP_WRITE, &m));
    regs.result = MEMTX_ERROR;
    EXPECT_EQ(-EIO, address_space_unmap_sg(&m, 16, &result));
    EXPECT_EQ(MEMTX_ERROR, result);
    regs.result = MEMTX_OK;
    EXPECT_EQ(-EINVAL, address_space_unmap_sg(&m, 16, &result));

    ASSERT_EQ(0, map(0x1000, 16, MEMORY_MAP_WRITE, &m));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &regs.mr));
    unsigned writes = regs.writes;
    EXPECT_EQ(-EIO, address_space_unmap_sg(&m, 16, &result)) << "the device is gone";
    EXPECT_EQ(MEMTX_DECODE_ERROR, result);
    EXPECT_EQ(writes, regs.writes);
}

TEST_F(Dma, WhatCannotBeMappedIsRefusedByName)
{
    MemoryMapping m = {};
    MemoryMapRange none = {0, 0}, end = {UINT64_MAX, 2}, two[] = {{0, UINT64_MAX}, {0, 2}}, fine = {0, 1};
    const struct {
        hwaddr addr, len;
        MemoryMapDirection direction;
        int err;
    } cases[] = {
        {0x2000, 1, MEMORY_MAP_READ, -EFAULT},        /* a hole */
        {0x1ff0, 0x20, MEMORY_MAP_READ, -EFAULT},     /* as far as a hole */
        {0x6000, 1, MEMORY_MAP_WRITE, -EFAULT},       /* a reservation */
        {0x4000, 1, MEMORY_MAP_WRITE, -EACCES},       /* ROM */
        {0x4000, 1, MEMORY_MAP_READ_WRITE, -EACCES},
        {0x7000, 1, MEMORY_MAP_READ, -EACCES},        /* write-only */
        {0x7000, 1, MEMORY_MAP_READ_WRITE, -EACCES},
        {0x0ff0, 0x20, MemoryMapDirection(0), -EINVAL},
    };

    for (auto &c : cases) {
        EXPECT_EQ(c.err, map(c.addr, c.len, c.direction, &m)) << std::hex << c.addr << " " << c.direction;
        hwaddr len = c.len;
        void *ptr = nullptr;
        if (c.len == 1) {
            EXPECT_EQ(c.err, address_space_map(&as, c.addr, &len, c.direction, kAttrs, &ptr));
            EXPECT_EQ(nullptr, ptr);
            EXPECT_EQ(c.len, len);
        }
    }
    EXPECT_EQ(-EINVAL, address_space_map_sg(&as, &none, 1, MEMORY_MAP_READ, kAttrs, &m));
    EXPECT_EQ(-EINVAL, address_space_map_sg(&as, &end, 1, MEMORY_MAP_READ, kAttrs, &m));
    EXPECT_EQ(-EINVAL, address_space_map_sg(&as, two, 2, MEMORY_MAP_READ, kAttrs, &m));
    EXPECT_EQ(-EINVAL, address_space_map_sg(&as, &fine, 0, MEMORY_MAP_READ, kAttrs, &m));
    EXPECT_EQ(-EINVAL, address_space_map_sg(nullptr, &fine, 1, MEMORY_MAP_READ, kAttrs, &m));
    EXPECT_EQ(-EINVAL, address_space_map_sg(&as, &fine, 1, MEMORY_MAP_READ, kAttrs, nullptr));
    EXPECT_TRUE(!m.iov && !m.n_iov && !m.len && !m.bounced);
    EXPECT_EQ(-EINVAL, address_space_unmap_sg(&m, 0, nullptr));
    EXPECT_EQ(0u, regs.reads + regs.writes + sink.writes);
    regs.result = MEMTX_ERROR;
    EXPECT_EQ(-EIO, map(0x1000, 8, MEMORY_MAP_READ, &m));
    EXPECT_EQ(0u, address_space_get_bounce_used(&as));
}

TEST_F(Dma, MappingTwiceIntoOneOrUnmappingTwiceIsRefused)
{
    MemoryMapping m = {};

    EXPECT_EQ(-EINVAL, address_space_unmap_sg(&m, 0, nullptr)) << "never mapped";
    EXPECT_EQ(-EINVAL, address_space_unmap_sg(nullptr, 0, nullptr));
    ASSERT_EQ(0, map(0x1000, 16, MEMORY_MAP_WRITE, &m));
    EXPECT_EQ(-EINVAL, map(0, 1, MEMORY_MAP_READ, &m));
    EXPECT_EQ(-EINVAL, address_space_unmap_sg(&m, 17, nullptr)) << "more than there is";
    EXPECT_EQ(16u, address_space_get_bounce_used(&as));
    EXPECT_EQ(0, address_space_unmap_sg(&m, 16, nullptr));
    EXPECT_EQ(2u, regs.writes);
    MemTxResult result = 77;
    EXPECT_EQ(-EINVAL, address_space_unmap_sg(&m, 16, &result));
    EXPECT_EQ(77u, result);
    EXPECT_EQ(2u, regs.writes);
    ASSERT_EQ(0, map(0, 16, MEMORY_MAP_READ, &m)) << "but it can be used again";
    EXPECT_EQ(0, address_space_unmap_sg(&m, 0, nullptr));
}

TEST_F(Dma, BounceMemoryHasALimit)
{
    MemoryMapping a = {}, b = {};

    EXPECT_EQ(MEMORY_BOUNCE_DEFAULT_LIMIT, address_space_get_bounce_limit(&as));
    ASSERT_EQ(0, address_space_set_bounce_limit(&as, 0x100));
    EXPECT_EQ(-EMSGSIZE, map(0x1000, 0x101, MEMORY_MAP_READ, &a));
    ASSERT_EQ(0, map(0x1000, 0x100, MEMORY_MAP_READ, &a));
    EXPECT_EQ(-ENOBUFS, map(0x1000, 1, MEMORY_MAP_READ, &b));
    EXPECT_EQ(-EMSGSIZE, map(0xff0, 0x200, MEMORY_MAP_READ, &b));
    EXPECT_EQ(0x100u, address_space_get_bounce_used(&as));
    ASSERT_EQ(0, map(0x0, 0x1000, MEMORY_MAP_READ, &b)) << "RAM needs none";
    EXPECT_EQ(0, address_space_unmap_sg(&b, 0, nullptr));
    EXPECT_EQ(-EBUSY, address_space_destroy(&as, nullptr));
    EXPECT_EQ(0, address_space_unmap_sg(&a, 0, nullptr));
    ASSERT_EQ(0, map(0x1000, 0x100, MEMORY_MAP_READ, &b));
    EXPECT_EQ(0, address_space_unmap_sg(&b, 0, nullptr));
    EXPECT_EQ(-EINVAL, address_space_set_bounce_limit(nullptr, 1));
}

TEST_F(Dma, TooManyPiecesAreRefused)
{
    std::vector<MemoryMapRange> ranges(MEMORY_MAP_MAX_IOV + 1);
    MemoryMapping m = {};

    for (size_t i = 0; i < ranges.size(); i++) {
        ranges[i] = {(i % 2) * 0x800 + i % 0x400, 1};
    }
    EXPECT_EQ(-E2BIG, address_space_map_sg(&as, ranges.data(), ranges.size(), MEMORY_MAP_READ, kAttrs, &m));
    ASSERT_EQ(0, address_space_map_sg(&as, ranges.data(), ranges.size() - 1, MEMORY_MAP_READ, kAttrs, &m));
    ASSERT_EQ(static_cast<unsigned>(MEMORY_MAP_MAX_IOV), m.n_iov);
    for (size_t i = 0; i < m.n_iov; i++) {
        EXPECT_EQ(host(&low) + ranges[i].addr, m.iov[i].iov_base);
    }
    EXPECT_EQ(0, address_space_unmap_sg(&m, m.len, nullptr));
}

TEST_F(Dma, ThePointerFormMapsAsFarAsOnePointerReaches)
{
    void *ptr = nullptr;
    hwaddr len = 0x2000;

    ASSERT_EQ(0, address_space_map(&as, 0xf00, &len, MEMORY_MAP_READ, kAttrs, &ptr));
    EXPECT_EQ(0x100u, len);
    EXPECT_EQ(host(&low) + 0xf00, ptr);
    EXPECT_EQ(-EBUSY, address_space_destroy(&as, nullptr)) << "its record is the space's";
    EXPECT_EQ(-EINVAL, address_space_unmap(&as, ptr, len, MEMORY_MAP_WRITE, 0, nullptr));
    EXPECT_EQ(-EINVAL, address_space_unmap(&as, ptr, len - 1, MEMORY_MAP_READ, 0, nullptr));
    EXPECT_EQ(0, address_space_unmap(&as, ptr, len, MEMORY_MAP_READ, 0, nullptr));
    EXPECT_EQ(-EINVAL, address_space_unmap(&as, ptr, len, MEMORY_MAP_READ, 0, nullptr));

    ASSERT_EQ(0, address_space_set_bounce_limit(&as, 24));
    len = 0x2000;
    ASSERT_EQ(0, address_space_map(&as, 0x1ff0, &len, MEMORY_MAP_WRITE, kAttrs, &ptr));
    EXPECT_EQ(16u, len) << "one device";
    hwaddr more = 100;
    void *second = nullptr;
    ASSERT_EQ(0, address_space_map(&as, 0x1000, &more, MEMORY_MAP_WRITE, kAttrs, &second));
    EXPECT_EQ(8u, more) << "what is free";
    hwaddr none = 1;
    void *third = nullptr;
    EXPECT_EQ(-ENOBUFS, address_space_map(&as, 0x1000, &none, MEMORY_MAP_WRITE, kAttrs, &third));
    memset(ptr, 0x11, 16);
    memset(second, 0x22, 8);
    EXPECT_EQ(-EINVAL, address_space_unmap(&as, second, more, MEMORY_MAP_WRITE, more + 1, nullptr));
    EXPECT_EQ(0, address_space_unmap(&as, ptr, len, MEMORY_MAP_WRITE, 16, nullptr));
    EXPECT_EQ(0, address_space_unmap(&as, second, more, MEMORY_MAP_WRITE, 4, nullptr));
    EXPECT_EQ(0x11, regs.bytes[0xfff]);
    EXPECT_EQ(0x22, regs.bytes[3]);
    EXPECT_EQ(20, regs.bytes[4]);
    ASSERT_EQ(0, address_space_set_bounce_limit(&as, 0));
    EXPECT_EQ(-EMSGSIZE, address_space_map(&as, 0x1000, &none, MEMORY_MAP_WRITE, kAttrs, &third));
}

TEST_F(Dma, ManyMappingsByPointerAreAllFound)
{
    std::vector<void *> ptrs(500);
    hwaddr len;

    for (unsigned i = 0; i < 500; i++) {
        len = 4;
        ASSERT_EQ(0, address_space_map(&as, i % 250 * 8, &len, MEMORY_MAP_READ_WRITE, kAttrs, &ptrs[i]));
    }
    for (unsigned i = 0; i < 500; i++) {
        EXPECT_EQ(0, address_space_unmap(&as, ptrs[499 - i], 4, MEMORY_MAP_READ_WRITE, 4, nullptr));
    }
    EXPECT_EQ(-EINVAL, address_space_unmap(&as, ptrs[0], 4, MEMORY_MAP_READ_WRITE, 4, nullptr));
}

TEST_F(Dma, UnpluggedRamIsReleasedAfterItsLastMapping)
{
    MemoryMapping a = {}, b = {};

    ASSERT_EQ(0, map(0x10, 0x10, MEMORY_MAP_WRITE, &a));
    ASSERT_EQ(0, map(0x20, 0x10, MEMORY_MAP_READ, &b));
    unplug(&low);
    ASSERT_EQ(0, memory_reclaim());
    EXPECT_EQ(0, released);
    MemoryStats stats;
    memory_get_stats(&stats);
    EXPECT_GE(stats.pinned_bytes, sizeof(MemoryRegion)) << "it makes no writer wait";
    memset(a.iov[0].iov_base, 1, 0x10);
    EXPECT_EQ(0, address_space_unmap_sg(&a, 0x10, nullptr));
    ASSERT_EQ(0, memory_reclaim());
    EXPECT_EQ(0, released);
    std::atomic<bool> over{false};
    std::thread waiter([&] {
        EXPECT_EQ(0, memory_region_quiesce(&low));
        over = true;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_FALSE(over);
    EXPECT_EQ(0x21, static_cast<uint8_t *>(b.iov[0].iov_base)[1]);
    EXPECT_EQ(0, address_space_unmap_sg(&b, 0, nullptr));
    waiter.join();
    EXPECT_EQ(1, released);
}

TEST_F(Dma, AMappingHoldsItsRegionAndNothingElse)
{
    MemoryMapping m = {};

    ASSERT_EQ(0, map(0x10, 0x10, MEMORY_MAP_WRITE, &m));
    unplug(&rom);
    EXPECT_EQ(0, memory_region_quiesce(&rom)) << "was visible in the same view";
    EXPECT_EQ(0, address_space_unmap_sg(&m, 0x10, nullptr));
}

TEST_F(Dma, ACallbackThatFillsACopyMayUnplugWhatIsMapped)
{
    MemoryMapping m = {};
    static Dma *self;

    self = this;
    static const MemoryRegionOps ops = [] {
        MemoryRegionOps o = *regs_ops();
        o.read_with_attrs = [](MemoryRegion *, hwaddr, uint64_t *data, unsigned, MemTxAttrs) {
            *data = 0;
            if (memory_region_get_parent(&self->low)) {
                self->unplug(&self->low);
            }
            return MEMTX_OK;
        };
        return o;
    }();
    MemoryRegion unplugger;
    ASSERT_EQ(0, memory_region_init_io(&unplugger, &ops, "unplugger", 0x10));
    ASSERT_EQ(0, memory_region_add_subregion_overlap(&root, 0x1000, &unplugger, 1));
    ASSERT_EQ(0, map(0xff0, 0x20, MEMORY_MAP_READ, &m));
    ASSERT_EQ(0, memory_reclaim());
    EXPECT_EQ(0, released);
    EXPECT_EQ(0xf1, static_cast<uint8_t *>(m.iov[0].iov_base)[1]);
    EXPECT_EQ(0, address_space_unmap_sg(&m, 0, nullptr));
    EXPECT_EQ(0, memory_region_quiesce(&low));
    EXPECT_EQ(1, released);
    ASSERT_EQ(0, memory_region_del_subregion(&root, &unplugger));
    ASSERT_EQ(0, memory_region_destroy(&unplugger));
    ASSERT_EQ(0, memory_region_quiesce(&unplugger));
}

TEST_F(Dma, FromAListenerOneMayMap)
{
    struct Mapper : MemoryListener {
        Dma *test;
        MemoryMapping m = {};
        int err = 77;
    } mapper = {};

    mapper.test = this;
    mapper.begin = [](MemoryListener *l) {
        auto *self = static_cast<Mapper *>(l);
        self->err = self->test->map(0, 0x10, MEMORY_MAP_READ, &self->m);
        if (self->err == 0) {
            self->err = address_space_unmap_sg(&self->m, 0, nullptr);
        }
    };
    ASSERT_EQ(0, memory_listener_register(&mapper, &as));
    EXPECT_EQ(0, mapper.err);
    ASSERT_EQ(0, memory_listener_unregister(&mapper));
}

/* ---- the dirty log ---- */

/* Pages of low that were written since this was asked last; there are eight. */
uint32_t dirty_pages(MemoryRegion *mr)
{
    DirtyBitmapSnapshot *snapshot = nullptr;
    uint32_t pages = 0;

    EXPECT_EQ(0, memory_region_snapshot_and_clear_dirty(mr, 0, 0x1000, DIRTY_MEMORY_MIGRATION, &snapshot));
    for (unsigned i = 0; i < 8; i++) {
        pages |= memory_region_snapshot_get_dirty(snapshot, i * 0x200, 0x200) ? 1u << i : 0;
    }
    memory_region_snapshot_free(snapshot);
    return pages;
}

TEST_F(Dma, WhatIsWrittenThroughAMappingIsMarkedWhenItEnds)
{
    MemoryMapping m = {};
    const uint8_t bytes[4] = {1, 2, 3, 4};

    ASSERT_EQ(0, memory_region_set_dirty_granule(&low, DIRTY_MEMORY_MIGRATION, 0x200));
    ASSERT_EQ(0, memory_region_set_log(&low, true, DIRTY_MEMORY_MIGRATION));
    ASSERT_EQ(0, memory_dirty_log_wait());
    dirty_pages(&low);
    ASSERT_EQ(0u, dirty_pages(&low));
    MemoryMapRange ranges[] = {{0xa00, 0x600}, {0x0, 0x400}};
    ASSERT_EQ(0, address_space_map_sg(&as, ranges, 2, MEMORY_MAP_READ_WRITE, kAttrs, &m));
    EXPECT_EQ(0u, dirty_pages(&low));
    EXPECT_EQ(0, address_space_unmap_sg(&m, 0x601, nullptr));
    EXPECT_EQ(0xe1u, dirty_pages(&low)) << "as far as it was written";
    ASSERT_EQ(0, map(0, 0x1000, MEMORY_MAP_READ, &m));
    EXPECT_EQ(0, address_space_unmap_sg(&m, 0x1000, nullptr));
    EXPECT_EQ(0u, dirty_pages(&low)) << "only read";
    EXPECT_EQ(MEMTX_OK, address_space_set(&as, 0x3ff, 1, 2, kAttrs));
    EXPECT_EQ(6u, dirty_pages(&low));
    EXPECT_EQ(MEMTX_OK, address_space_write_rom(&as, 0x800, kAttrs, bytes, 4));
    EXPECT_EQ(16u, dirty_pages(&low));
    ASSERT_EQ(0, map(0, 0x1000, MEMORY_MAP_WRITE, &m));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &low));
    EXPECT_EQ(0, address_space_unmap_sg(&m, 1, nullptr));
    EXPECT_EQ(1u, dirty_pages(&low)) << "also after it has left the map";
    ASSERT_EQ(0, memory_region_set_log(&low, false, DIRTY_MEMORY_MIGRATION));
}

/* ---- through an IOMMU ---- */

/* 4 KiB pages: 0 to low, 1 to registers, 2 to low read-only, 3 to low write-only, 4 nowhere, 5 to the second half of low. */
AddressSpace *iommu_target;

IOMMUTLBEntry translate(MemoryRegion *, hwaddr addr, IOMMUAccessFlags, unsigned)
{
    const hwaddr to[] = {0, 0x1000, 0, 0, 0, 0x800};
    const IOMMUAccessFlags perm[] = {IOMMU_RW, IOMMU_RW, IOMMU_RO, IOMMU_WO, IOMMU_NONE, IOMMU_RW};
    hwaddr page = addr / 0x800;
    IOMMUTLBEntry entry = {iommu_target, page * 0x800, page * 0x800 + 0x7ff, 0, IOMMU_NONE};

    if (page < 6) {
        entry.translated_addr = to[page];
        entry.perm = perm[page];
    }
    return entry;
}

TEST_F(Dma, MappingsFollowTranslations)
{
    static const MemoryRegionIOMMUOps ops = [] {
        MemoryRegionIOMMUOps o = {};
        o.translate = translate;
        o.num_indexes = 1;
        return o;
    }();
    MemoryRegion iommu;
    AddressSpace device = {};
    MemoryMapping m = {};
    MemoryMapRange ranges[] = {{0x10, 0x20}, {0x2ff0, 0x10}, {0x7f0, 0x20}};
    const uint8_t bytes[4] = {1, 2, 3, 4};

    iommu_target = &as;
    ASSERT_EQ(0, memory_region_init_iommu(&iommu, &ops, "iommu", UINT64_MAX));
    ASSERT_EQ(0, address_space_init(&device, &iommu, "device"));

    ASSERT_EQ(0, address_space_map_sg(&device, ranges, 3, MEMORY_MAP_READ_WRITE, kAttrs, &m));
    ASSERT_EQ(4u, m.n_iov) << "low, low, low and the copy of registers";
    EXPECT_EQ(host(&low) + 0x10, m.iov[0].iov_base);
    EXPECT_EQ(host(&low) + 0xff0, m.iov[1].iov_base);
    EXPECT_EQ(host(&low) + 0x7f0, m.iov[2].iov_base);
    EXPECT_EQ(0, memcmp(regs.bytes, m.iov[3].iov_base, 0x10));
    memset(m.iov[3].iov_base, 0x5a, 0x10);
    EXPECT_EQ(0x10u, address_space_get_bounce_used(&device));
    EXPECT_EQ(0, address_space_unmap_sg(&m, m.len, nullptr));
    EXPECT_EQ(0x5a, regs.bytes[0xf]);

    const struct {
        hwaddr addr;
        MemoryMapDirection direction;
        int err;
    } cases[] = {
        {0x1000, MEMORY_MAP_READ, 0},        {0x1000, MEMORY_MAP_WRITE, -EACCES}, {0x1000, MEMORY_MAP_READ_WRITE, -EACCES},
        {0x1800, MEMORY_MAP_READ, -EACCES},  {0x1800, MEMORY_MAP_WRITE, 0},       {0x1800, MEMORY_MAP_READ_WRITE, -EACCES},
        {0x2000, MEMORY_MAP_READ, -EFAULT},
    };
    for (auto &c : cases) {
        MemoryMapRange range = {c.addr, 4};
        EXPECT_EQ(c.err, address_space_map_sg(&device, &range, 1, c.direction, kAttrs, &m)) << std::hex << c.addr;
        if (c.err == 0) {
            EXPECT_EQ(0, address_space_unmap_sg(&m, 4, nullptr));
        }
    }
    EXPECT_TRUE(address_space_access_valid(&device, 0, 0x1000, true, kAttrs));
    EXPECT_FALSE(address_space_access_valid(&device, 0, 0x1001, true, kAttrs));
    EXPECT_TRUE(address_space_access_valid(&device, 0, 0x1800, false, kAttrs));
    EXPECT_FALSE(address_space_is_io(&device, 0x10));
    EXPECT_TRUE(address_space_is_io(&device, 0x810));
    EXPECT_TRUE(address_space_is_io(&device, 0x2000));
    EXPECT_EQ(MEMTX_ACCESS_ERROR, address_space_set(&device, 0x1000, 7, 4, kAttrs));
    EXPECT_EQ(MEMTX_OK, address_space_set(&device, 0x1804, 7, 4, kAttrs));
    EXPECT_EQ(7, host(&low)[7]);
    EXPECT_EQ(MEMTX_OK, address_space_write_rom(&device, 0x1000, kAttrs, bytes, 4)) << "who patches is not the device";
    EXPECT_EQ(4, host(&low)[3]);
    ASSERT_EQ(0, address_space_destroy(&device, nullptr));
    ASSERT_EQ(0, memory_region_destroy(&iommu));
    ASSERT_EQ(0, memory_region_quiesce(&iommu));
}

/* ---- through an interposer ---- */

unsigned interposed;

TEST_F(Dma, WhatIsInterposedIsBouncedThroughTheInterposer)
{
    static const MemoryInterposerOps ops = [] {
        MemoryInterposerOps o = {};
        o.read = [](MemoryRegion *, MemoryInterposed *access, hwaddr, uint64_t *data, unsigned, MemTxAttrs) {
            interposed++;
            return memory_interposer_pass_read(access, data);
        };
        o.write = [](MemoryRegion *, MemoryInterposed *access, hwaddr, uint64_t data, unsigned, MemTxAttrs) {
            interposed++;
            return memory_interposer_pass_write(access, data);
        };
        o.endianness = MEMORY_LITTLE_ENDIAN;
        return o;
    }();
    MemoryMapping m = {};
    const uint8_t bytes[4] = {1, 2, 3, 4};
    uint8_t c;

    interposed = 0;
    ASSERT_EQ(0, memory_region_set_interposer(&root, &ops));
    ASSERT_EQ(0, map(0x10, 0x10, MEMORY_MAP_READ_WRITE, &m));
    EXPECT_TRUE(m.bounced);
    EXPECT_EQ(2u, interposed);
    EXPECT_EQ(0x11, static_cast<uint8_t *>(m.iov[0].iov_base)[1]);
    memset(m.iov[0].iov_base, 0x77, 0x10);
    EXPECT_EQ(0x11, host(&low)[0x11]);
    EXPECT_EQ(0, address_space_unmap_sg(&m, 8, nullptr));
    EXPECT_EQ(3u, interposed);
    EXPECT_EQ(0x77, host(&low)[0x17]);
    EXPECT_EQ(0x18, host(&low)[0x18]);
    EXPECT_TRUE(address_space_access_valid(&as, 0, 0x2000, true, kAttrs));
    EXPECT_FALSE(address_space_access_valid(&as, 0, 0x2001, true, kAttrs));
    EXPECT_TRUE(address_space_is_io(&as, 0));
    EXPECT_EQ(MEMTX_OK, address_space_set(&as, 0x20, 5, 8, kAttrs));
    EXPECT_EQ(4u, interposed);
    EXPECT_EQ(MEMTX_OK, address_space_write_rom(&as, 0x4000, kAttrs, bytes, 4));
    EXPECT_EQ(MEMTX_OK, address_space_write_rom(&as, 0x5000, kAttrs, bytes, 4));
    EXPECT_EQ(4, host(&rom)[3]);
    EXPECT_EQ(4, hardware_bytes[3]);
    EXPECT_EQ(4u, interposed) << "patches are not accesses";
    MemoryRegionCache cache;
    ASSERT_EQ(0, address_space_cache_init(&cache, &as, 0x20, 8));
    EXPECT_EQ(MEMTX_OK, address_space_ldub_cached(&cache, 1, kAttrs, &c));
    EXPECT_EQ(5u, interposed);
    EXPECT_EQ(5, c);
    ASSERT_EQ(0, memory_region_set_interposer(&root, nullptr));
    EXPECT_EQ(MEMTX_OK, address_space_ldub_cached(&cache, 1, kAttrs, &c));
    EXPECT_EQ(5u, interposed);
}

/* ---- clients ---- */

struct Client : MemoryMapClient {
    std::function<void(Client *)> fn;
    int told = 0;

    Client() : MemoryMapClient()
    {
        notify = [](MemoryMapClient *c) {
            auto *self = static_cast<Client *>(c);
            self->told++;
            if (self->fn) {
                self->fn(self);
            }
        };
    }
};

TEST_F(Dma, AClientIsToldOnceWhenItsBytesAreFree)
{
    MemoryMapping a = {}, b = {};
    Client small, large;

    ASSERT_EQ(0, address_space_set_bounce_limit(&as, 32));
    EXPECT_EQ(1, address_space_register_map_client(&as, &small)) << "there is room";
    ASSERT_EQ(0, map(0x1000, 16, MEMORY_MAP_READ, &a));
    ASSERT_EQ(0, map(0x1000, 16, MEMORY_MAP_READ, &b));
    small.bytes = 16;
    large.bytes = 17;
    EXPECT_EQ(0, address_space_register_map_client(&as, &small));
    EXPECT_EQ(-EBUSY, address_space_register_map_client(&as, &small));
    EXPECT_EQ(0, address_space_register_map_client(&as, &large));
    EXPECT_EQ(0, address_space_unmap_sg(&a, 0, nullptr));
    EXPECT_EQ(1, small.told);
    EXPECT_EQ(0, large.told);
    EXPECT_EQ(0, address_space_unmap_sg(&b, 0, nullptr));
    EXPECT_EQ(1, small.told);
    EXPECT_EQ(1, large.told);
    EXPECT_EQ(-ENOENT, address_space_unregister_map_client(&as, &large));
}

TEST_F(Dma, AClientMayMapUnmapAndRegisterAgain)
{
    MemoryMapping a = {}, b = {};
    Client client;

    ASSERT_EQ(0, address_space_set_bounce_limit(&as, 16));
    ASSERT_EQ(0, map(0x1000, 16, MEMORY_MAP_READ, &a));
    client.fn = [&](Client *c) {
        if (c->told == 1) {
            EXPECT_EQ(1, address_space_register_map_client(&as, c)) << "room: no registration, or this would never end";
            EXPECT_EQ(0, map(0x1000, 16, MEMORY_MAP_READ, &b));
            EXPECT_EQ(0, address_space_register_map_client(&as, c));
            EXPECT_EQ(0, address_space_unmap_sg(&b, 0, nullptr)) << "tells us again, in here";
        }
    };
    EXPECT_EQ(0, address_space_register_map_client(&as, &client));
    EXPECT_EQ(0, address_space_unmap_sg(&a, 0, nullptr));
    EXPECT_EQ(2, client.told);
}

TEST_F(Dma, AnUnregisteredClientIsNotTold)
{
    MemoryMapping a = {};
    Client client, other;

    ASSERT_EQ(0, address_space_set_bounce_limit(&as, 16));
    ASSERT_EQ(0, map(0x1000, 16, MEMORY_MAP_READ, &a));
    EXPECT_EQ(0, address_space_register_map_client(&as, &client));
    EXPECT_EQ(0, address_space_register_map_client(&as, &other));
    EXPECT_EQ(0, address_space_unregister_map_client(&as, &client));
    EXPECT_EQ(-ENOENT, address_space_unregister_map_client(&as, &client));
    EXPECT_EQ(0, address_space_set_bounce_limit(&as, 17)) << "raising the limit makes room";
    EXPECT_EQ(0, client.told);
    EXPECT_EQ(1, other.told);
    EXPECT_EQ(0, address_space_unmap_sg(&a, 0, nullptr));
    client.bytes = 18;
    EXPECT_EQ(-EINVAL, address_space_register_map_client(&as, &client)) << "never";
    client.notify = nullptr;
    EXPECT_EQ(-EINVAL, address_space_register_map_client(&as, &client));
}

TEST_F(Dma, UnregisteringWaitsForACallOnAnotherThread)
{
    MemoryMapping a = {};
    Client client;
    std::atomic<bool> inside{false}, left{false};

    ASSERT_EQ(0, address_space_set_bounce_limit(&as, 16));
    ASSERT_EQ(0, map(0x1000, 16, MEMORY_MAP_READ, &a));
    client.fn = [&](Client *c) {
        inside = true;
        std::this_thread::sleep_for(std::chrono::milliseconds(30));
        EXPECT_EQ(-ENOENT, address_space_unregister_map_client(&as, c)) << "does not wait for itself";
        left = true;
    };
    EXPECT_EQ(0, address_space_register_map_client(&as, &client));
    std::thread unmapper([&] { EXPECT_EQ(0, address_space_unmap_sg(&a, 0, nullptr)); });
    while (!inside) {
        std::this_thread::yield();
    }
    EXPECT_EQ(-ENOENT, address_space_unregister_map_client(&as, &client));
    EXPECT_TRUE(left);
    unmapper.join();
}

} // namespace
