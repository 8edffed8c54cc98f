/* SPDX-License-Identifier: MIT */
/*
 * machine.h - small helpers for tests that use the library as a user does.
 */
#ifndef FLATVIEW_TESTS_API_MACHINE_H
#define FLATVIEW_TESTS_API_MACHINE_H

#include <gtest/gtest.h>

#include <sstream>
#include <string>

#include <flatview/memory.h>

/* Answers every read with its own offset, remembers the last write. */
struct Device {
    MemoryRegion mr;
    uint64_t written;
    hwaddr written_at;
    int released;
};

inline Device *device_of(MemoryRegion *mr)
{
    return reinterpret_cast<Device *>(mr); /* its first member */
}

inline const MemoryRegionOps *device_ops()
{
    static const MemoryRegionOps ops = [] {
        MemoryRegionOps o = {};
        o.read = [](MemoryRegion *, hwaddr addr, unsigned) -> uint64_t { return addr; };
        o.write = [](MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned) {
            device_of(mr)->written = data;
            device_of(mr)->written_at = addr;
        };
        o.endianness = MEMORY_LITTLE_ENDIAN;
        o.valid.min_access_size = o.impl.min_access_size = 1;
        o.valid.max_access_size = o.impl.max_access_size = 8;
        return o;
    }();
    return &ops;
}

inline void device_init(Device *d, const char *name, uint64_t size)
{
    *d = Device();
    ASSERT_EQ(0, memory_region_init_io(&d->mr, device_ops(), name, size));
    ASSERT_EQ(0, memory_region_set_release(&d->mr, [](MemoryRegion *mr) { device_of(mr)->released++; }));
}

/* A view as text: "first-last name@offset", one range after the other. */
inline std::string text_of(const FlatView *view)
{
    std::ostringstream out;
    flatview_for_each_range(
        view, 0, UINT64_MAX,
        [](const MemoryRegionSection *s, void *arg) {
            std::ostringstream &o = *static_cast<std::ostringstream *>(arg);
            o << (o.tellp() ? " " : "") << std::hex << s->offset_within_address_space << "-" << s->last << " "
              << memory_region_name(s->mr) << "@" << s->offset_within_region << (s->readonly ? "r" : "");
            return 0;
        },
        &out);
    return out.str();
}

inline std::string text_of(AddressSpace *as)
{
    FlatView *view = address_space_get_flatview(as);
    std::string text = text_of(view);
    flatview_unref(view);
    return text;
}

inline uint64_t generation_of(AddressSpace *as)
{
    FlatView *view = address_space_get_flatview(as);
    uint64_t gen = flatview_generation(view);
    flatview_unref(view);
    return gen;
}

/* A root container with three devices of 0x100 bytes at 0x1000, 0x2000, 0x3000, and a space over it. */
class Machine : public testing::Test {
protected:
    void SetUp() override
    {
        ASSERT_EQ(0, memory_region_init(&root, "root", UINT64_MAX));
        for (unsigned i = 0; i < 3; i++) {
            device_init(&dev[i], i == 0 ? "a" : i == 1 ? "b" : "c", 0x100);
            ASSERT_EQ(0, memory_region_add_subregion(&root, (i + 1) * 0x1000u, &dev[i].mr));
        }
        ASSERT_EQ(0, address_space_init(&as, &root, "memory"));
    }

    void TearDown() override
    {
        ASSERT_EQ(0, address_space_destroy(&as, nullptr));
        for (auto &d : dev) {
            if (memory_region_get_parent(&d.mr)) {
                ASSERT_EQ(0, memory_region_del_subregion(memory_region_get_parent(&d.mr), &d.mr));
            }
            ASSERT_EQ(0, memory_region_destroy(&d.mr));
        }
        ASSERT_EQ(0, memory_region_destroy(&root));
        ASSERT_EQ(0, memory_region_quiesce(&root));
        for (auto &d : dev) {
            ASSERT_EQ(0, memory_region_quiesce(&d.mr));
            ASSERT_EQ(1, d.released);
        }
    }

    MemoryRegion root;
    Device dev[3];
    AddressSpace as = {};
};

#endif
