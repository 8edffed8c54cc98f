/* SPDX-License-Identifier: MIT */
/* Fills, writes to what backs an address, and questions whether an access would be taken: each against what accesses do. */
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include <flatview/memory.h>

namespace {

const MemTxAttrs kAttrs = MEMTXATTRS_UNSPECIFIED;

struct Regs {
    MemoryRegion mr;
    uint8_t bytes[0x100];
    hwaddr refuse; /* accepts() says no from here on */
};

Regs *regs_of(MemoryRegion *mr)
{
    return reinterpret_cast<Regs *>(mr);
}

MemoryRegionOps make_ops(unsigned valid_min, unsigned valid_max, unsigned impl_min, MemoryNarrowWrite narrow)
{
    MemoryRegionOps o = {};
    o.read = [](MemoryRegion *mr, hwaddr addr, unsigned size) {
        uint64_t value = 0;
        memcpy(&value, regs_of(mr)->bytes + addr, size);
        return value;
    };
    o.write = [](MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size) {
        memcpy(regs_of(mr)->bytes + addr, &data, size);
    };
    o.endianness = MEMORY_LITTLE_ENDIAN;
    o.valid.min_access_size = valid_min;
    o.valid.max_access_size = valid_max;
    o.valid.accepts = [](MemoryRegion *mr, hwaddr addr, unsigned, bool, MemTxAttrs) { return addr < regs_of(mr)->refuse; };
    o.impl.min_access_size = impl_min;
    o.impl.max_access_size = 8;
    o.impl.narrow_write = narrow;
    return o;
}

/* Every 0x100: RAM, device, hole, ROM, flash in read mode, flash out of it, read-only window of RAM, mapped hardware,
   reservation, picky device (4 bytes, refuses from 0x80 on), wide device (impl 4, refuses narrow writes); and the last 0x100
   of the space is RAM. */
class Reach : public testing::Test {
protected:
    void SetUp() override
    {
        static const MemoryRegionOps plain = make_ops(1, 8, 1, MEMORY_NARROW_WRITE_REFUSE);
        static const MemoryRegionOps four = make_ops(4, 4, 1, MEMORY_NARROW_WRITE_REFUSE);
        static const MemoryRegionOps wide_ops = make_ops(1, 8, 4, MEMORY_NARROW_WRITE_REFUSE);

        ASSERT_EQ(0, memory_region_init(&root, "root", UINT64_MAX));
        ASSERT_EQ(0, memory_region_init_ram_ptr(&ram, "ram", 0x100, ram_bytes));
        ASSERT_EQ(0, memory_region_init_io(&device.mr, &plain, "device", 0x100));
        ASSERT_EQ(0, memory_region_init_rom(&rom, "rom", 0x100));
        ASSERT_EQ(0, memory_region_init_rom_device(&flash.mr, &plain, "flash", 0x100));
        ASSERT_EQ(0, memory_region_init_rom_device(&busy.mr, &plain, "busy", 0x100));
        ASSERT_EQ(0, memory_region_rom_device_set_romd(&busy.mr, false));
        ASSERT_EQ(0, memory_region_init_alias(&window, "window", &ram, 0, 0x100));
        ASSERT_EQ(0, memory_region_set_readonly(&window, true));
        ASSERT_EQ(0, memory_region_init_ram_device_ptr(&hardware, "hardware", 0x100, hardware_bytes));
        ASSERT_EQ(0, memory_region_init_reservation(&reservation, "reservation", 0x100));
        ASSERT_EQ(0, memory_region_init_io(&picky.mr, &four, "picky", 0x100));
        ASSERT_EQ(0, memory_region_init_io(&wide.mr, &wide_ops, "wide", 0x100));
        ASSERT_EQ(0, memory_region_init_ram(&top, "top", 0x100));
        for (Regs *r : {&device, &flash, &busy, &picky, &wide}) {
            r->refuse = r == &picky ? 0x80 : UINT64_MAX;
        }
        regions = {&ram, &device.mr, nullptr, &rom, &flash.mr, &busy.mr, &window, &hardware, &reservation, &picky.mr, &wide.mr};
        for (size_t i = 0; i < regions.size(); i++) {
            if (regions[i]) {
                ASSERT_EQ(0, memory_region_add_subregion(&root, i * 0x100, regions[i]));
            }
        }
        ASSERT_EQ(0, memory_region_add_subregion(&root, UINT64_MAX - 0xff, &top));
        ASSERT_EQ(0, address_space_init(&as, &root, "reach"));
    }

    void TearDown() override
    {
        ASSERT_EQ(0, address_space_destroy(&as, nullptr));
        std::vector<MemoryRegion *> all = regions;
        all.push_back(&top);
        std::swap(all[0], all[6]); /* the window before what it shows */
        for (MemoryRegion *mr : all) {
            if (mr) {
                ASSERT_EQ(0, memory_region_del_subregion(&root, mr));
                ASSERT_EQ(0, memory_region_destroy(mr));
            }
        }
        ASSERT_EQ(0, memory_region_destroy(&root));
        for (MemoryRegion *mr : all) {
            if (mr) {
                ASSERT_EQ(0, memory_region_quiesce(mr));
            }
        }
        ASSERT_EQ(0, memory_region_quiesce(&root));
    }

    uint8_t *host(MemoryRegion *mr)
    {
        return static_cast<uint8_t *>(memory_region_get_ram_ptr(mr));
    }

    static constexpr hwaddr kEnd = 0xb00;
    alignas(64) uint8_t ram_bytes[0x100] = {}, hardware_bytes[0x100] = {};
    MemoryRegion root, ram, rom, window, hardware, reservation, top;
    Regs device = {}, flash = {}, busy = {}, picky = {}, wide = {};
    std::vector<MemoryRegion *> regions;
    AddressSpace as = {};
};

TEST_F(Reach, SetDoesWhatAWriteOfSoManyBytesDoes)
{
    std::mt19937 random(1);

    for (int round = 0; round < 300; round++) {
        hwaddr addr = random() % kEnd, len = random() % (kEnd + 0x80 - addr);
        uint8_t c = static_cast<uint8_t>(random());
        std::vector<uint8_t> bytes(len, c), filled(kEnd), written(kEnd);

        MemTxResult fill = address_space_set(&as, addr, c, len, kAttrs);
        address_space_read(&as, 0, kAttrs, filled.data(), kEnd);
        address_space_set(&as, 0, 0, kEnd, kAttrs);
        EXPECT_EQ(address_space_write(&as, addr, kAttrs, bytes.data(), len), fill) << addr << " " << len;
        address_space_read(&as, 0, kAttrs, written.data(), kEnd);
        ASSERT_EQ(written, filled) << addr << " " << len;
        address_space_set(&as, 0, 0, kEnd, kAttrs);
    }
}

TEST_F(Reach, BeyondTheEndOfTheSpaceIsNothing)
{
    const uint8_t bytes[0x20] = {1, 2, 3};

    EXPECT_EQ(MEMTX_OK, address_space_set(&as, UINT64_MAX - 0xf, 7, 0x10, kAttrs));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_set(&as, UINT64_MAX - 0xf, 8, 0x20, kAttrs));
    EXPECT_EQ(8, host(&top)[0xff]);
    EXPECT_EQ(0, ram_bytes[0]);
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_write_rom(&as, UINT64_MAX - 0xf, kAttrs, bytes, 0x20));
    EXPECT_EQ(1, host(&top)[0xf0]);
    EXPECT_TRUE(address_space_access_valid(&as, UINT64_MAX - 0xf, 0x10, true, kAttrs));
    EXPECT_FALSE(address_space_access_valid(&as, UINT64_MAX - 0xf, 0x11, true, kAttrs));
    EXPECT_EQ(MEMTX_OK, address_space_set(&as, 0, 7, 0, kAttrs));
    EXPECT_EQ(0, ram_bytes[0]);
}

TEST_F(Reach, WriteRomReachesWhateverHasHostMemory)
{
    std::vector<uint8_t> bytes(0x900);

    for (size_t i = 0; i < bytes.size(); i++) {
        bytes[i] = static_cast<uint8_t>(i / 0x100 + 1);
    }
    EXPECT_EQ(MEMTX_ACCESS_ERROR | MEMTX_DECODE_ERROR, address_space_write_rom(&as, 0, kAttrs, bytes.data(), bytes.size()));
    EXPECT_EQ(7, ram_bytes[0]) << "through the read-only window";
    EXPECT_EQ(7, ram_bytes[0xff]);
    EXPECT_EQ(4, host(&rom)[0xff]);
    EXPECT_EQ(5, host(&flash.mr)[0]);
    EXPECT_EQ(6, host(&busy.mr)[0x80]) << "out of read mode, too";
    EXPECT_EQ(8, hardware_bytes[0x77]);
    for (uint8_t b : device.bytes) {
        ASSERT_EQ(0, b) << "no callback runs";
    }
    EXPECT_EQ(MEMTX_ACCESS_ERROR, address_space_write_rom(&as, 0x100, kAttrs, bytes.data(), 4));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_write_rom(&as, 0x200, kAttrs, bytes.data(), 4));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_write_rom(&as, 0x800, kAttrs, bytes.data(), 4)) << "a reservation";
    EXPECT_EQ(MEMTX_OK, address_space_write_rom(&as, 0x3fe, kAttrs, bytes.data(), 4));
}

TEST_F(Reach, AnAccessIsValidIfItIsTaken)
{
    std::mt19937 random(2);
    std::vector<uint8_t> bytes(kEnd + 0x100);

    for (int round = 0; round < 4000; round++) {
        hwaddr addr = random() % kEnd, len = random() % (round % 2 ? 0x10 : 0x140);
        bool is_write = random() % 2;
        bool valid = address_space_access_valid(&as, addr, len, is_write, kAttrs);
        MemTxResult result = address_space_rw(&as, addr, kAttrs, bytes.data(), len, is_write);

        ASSERT_EQ(result == MEMTX_OK, valid) << std::hex << addr << " " << len << " " << is_write;
    }
}

TEST_F(Reach, ARegionAnswersForItself)
{
    for (size_t i = 0; i < regions.size(); i++) {
        if (!regions[i] || regions[i] == &window) {
            continue;
        }
        for (hwaddr offset : {0, 1, 2, 4, 0x7e, 0x80, 0xf8, 0xfc, 0xff}) {
            for (unsigned size : {1, 2, 4, 8}) {
                for (bool is_write : {false, true}) {
                    bool valid = memory_region_access_valid(regions[i], offset, size, is_write, kAttrs);
                    uint64_t v = 0;
                    hwaddr addr = i * 0x100 + offset;
                    bool inside = offset + size <= 0x100;
                    MemTxResult r = !inside ? MEMTX_DECODE_ERROR
                                    : size == 1
                                        ? (is_write ? address_space_stb(&as, addr, kAttrs, 0)
                                                    : address_space_ldub(&as, addr, kAttrs, reinterpret_cast<uint8_t *>(&v)))
                                    : size == 2
                                        ? (is_write ? address_space_stw_le(&as, addr, kAttrs, 0)
                                                    : address_space_lduw_le(&as, addr, kAttrs,
                                                                            reinterpret_cast<uint16_t *>(&v)))
                                    : size == 4
                                        ? (is_write ? address_space_stl_le(&as, addr, kAttrs, 0)
                                                    : address_space_ldl_le(&as, addr, kAttrs,
                                                                           reinterpret_cast<uint32_t *>(&v)))
                                        : (is_write ? address_space_stq_le(&as, addr, kAttrs, 0)
                                                    : address_space_ldq_le(&as, addr, kAttrs, &v));
                    ASSERT_EQ(r == MEMTX_OK, valid) << std::hex << addr << " " << size << " " << is_write;
                }
            }
        }
    }
    EXPECT_TRUE(memory_region_access_valid(&window, 0x10, 4, false, kAttrs));
    EXPECT_FALSE(memory_region_access_valid(&window, 0x10, 4, true, kAttrs)) << "RAM, but the window is read-only";
    EXPECT_FALSE(memory_region_access_valid(&window, 0x100, 1, false, kAttrs)) << "beyond it";
    EXPECT_FALSE(memory_region_access_valid(&root, 0, 1, false, kAttrs)) << "a container has nothing of its own";
    EXPECT_FALSE(memory_region_access_valid(&ram, 0, 3, false, kAttrs));
    EXPECT_FALSE(memory_region_access_valid(&ram, UINT64_MAX, 2, false, kAttrs));
    EXPECT_FALSE(memory_region_access_valid(nullptr, 0, 1, false, kAttrs));
}

TEST_F(Reach, IoIsWhatIsNotReadFromHostMemory)
{
    const bool io[] = {false, true, true, false, false, true, false, false, true, true, true};

    for (size_t i = 0; i < regions.size(); i++) {
        EXPECT_EQ(io[i], address_space_is_io(&as, i * 0x100)) << i;
    }
}

TEST_F(Reach, FlushingTheInstructionCacheTakesAnyRange)
{
    address_space_flush_icache_range(&as, 0, kEnd);
    address_space_flush_icache_range(&as, UINT64_MAX, 2);
}

} // namespace
