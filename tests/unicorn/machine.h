/* SPDX-License-Identifier: MIT */
/*
 * machine.h - memory, a mirror of it, and engines that do as they are told.
 */
#ifndef FLATVIEW_TESTS_UNICORN_MACHINE_H
#define FLATVIEW_TESTS_UNICORN_MACHINE_H

#include <atomic>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include <unicorn/unicorn.h>

#include <gtest/gtest.h>

#include <flatview/accel/unicorn.h>
#include <flatview/memory.h>

#include "shim/guest_x86.h"

constexpr uint64_t RAM_SIZE = 16 << 20;
constexpr hwaddr CODE = 0x1000, OPS = 0x8000; /* the guest, and what each vCPU is told to do */

struct Device {
    MemoryRegion mr; /* first: callbacks find the device by it */
    std::atomic<uint64_t> reads{0}, writes{0}, last{0};
    std::atomic<unsigned> last_size{0};
    void (*on_write)(Device *) = nullptr;
};

inline uint64_t device_read(MemoryRegion *mr, hwaddr addr, unsigned size)
{
    Device *d = reinterpret_cast<Device *>(mr);

    d->reads++;
    d->last_size = size;
    return 0x1000000 + addr;
}

inline void device_write(MemoryRegion *mr, hwaddr, uint64_t data, unsigned size)
{
    Device *d = reinterpret_cast<Device *>(mr);

    d->writes++;
    d->last = data;
    d->last_size = size;
    if (d->on_write) {
        d->on_write(d);
    }
}

inline MemoryRegionOps make_ops()
{
    MemoryRegionOps ops = {};

    ops.read = device_read;
    ops.write = device_write;
    ops.endianness = MEMORY_LITTLE_ENDIAN;
    ops.valid.min_access_size = ops.impl.min_access_size = 1;
    ops.valid.max_access_size = ops.impl.max_access_size = 8;
    return ops;
}

inline const MemoryRegionOps device_ops = make_ops();

inline void end(MemoryRegion *mr)
{
    EXPECT_EQ(memory_region_destroy(mr), 0);
    EXPECT_EQ(memory_region_quiesce(mr), 0);
}

/* Code that carries out a list of operations, and the register that says where that is. */
struct Guest {
    uc_arch arch;
    uc_mode mode;
    const char *begin, *end;
    int list;
};

inline Guest x86_guest(uc_mode mode = UC_MODE_32)
{
    return {UC_ARCH_X86, mode, x86_guest_begin, x86_guest_end, UC_X86_REG_EBX};
}

class Machine {
public:
    explicit Machine(unsigned n = 1, const Guest &code = x86_guest()) : guest(code)
    {
        EXPECT_EQ(memory_region_init(&root, "memory", UINT64_MAX), 0);
        EXPECT_EQ(memory_region_init_ram(&ram, "ram", RAM_SIZE), 0);
        EXPECT_EQ(memory_region_add_subregion(&root, 0, &ram), 0);
        EXPECT_EQ(address_space_init(&memory, &root, "memory"), 0);
        EXPECT_EQ(address_space_write(&memory, CODE, MEMTXATTRS_UNSPECIFIED, guest.begin, hwaddr(guest.end - guest.begin)), MEMTX_OK);
        EXPECT_EQ(flatview_unicorn_new(&memory, MEMORY_LISTENER_PRIORITY_ACCEL, &mirror), 0);
        for (unsigned i = 0; i < n; i++) {
            uc_engine *engine;
            FlatviewUnicornVcpu *vcpu = nullptr;

            EXPECT_EQ(uc_open(guest.arch, guest.mode, &engine), UC_ERR_OK);
            EXPECT_EQ(flatview_unicorn_vcpu_new(mirror, engine, &vcpu), 0);
            engines.push_back(engine);
            vcpus.push_back(vcpu);
        }
    }

    ~Machine()
    {
        for (size_t i = 0; i < vcpus.size(); i++) {
            EXPECT_EQ(flatview_unicorn_vcpu_free(vcpus[i]), 0);
            uc_close(engines[i]);
        }
        EXPECT_EQ(flatview_unicorn_free(mirror), 0);
        EXPECT_EQ(address_space_destroy(&memory, nullptr), 0);
        EXPECT_EQ(memory_region_del_subregion(&root, &ram), 0);
        end(&ram);
        end(&root);
    }

    Machine(const Machine &) = delete;

    std::vector<Op> run(unsigned i, std::vector<Op> ops, int expected = 0)
    {
        const hwaddr list = OPS + 0x1000 * i;
        size_t n = ops.size();
        int uc_err = 0;

        ops.push_back({OP_END, 0, 0, 0});
        EXPECT_EQ(address_space_write(&memory, list, MEMTXATTRS_UNSPECIFIED, ops.data(), ops.size() * sizeof(Op)), MEMTX_OK);
        EXPECT_EQ(uc_reg_write(engines[i], guest.list, &list), UC_ERR_OK);
        EXPECT_EQ(flatview_unicorn_vcpu_run(vcpus[i], CODE, &uc_err), expected) << uc_strerror(::uc_err(uc_err));
        EXPECT_EQ(address_space_read(&memory, list, MEMTXATTRS_UNSPECIFIED, ops.data(), n * sizeof(Op)), MEMTX_OK);
        ops.resize(n);
        return ops;
    }

    uint32_t load32(hwaddr addr) { return run(0, {{OP_LOAD32, uint32_t(addr), 0, 0}})[0].value; }
    void store32(hwaddr addr, uint32_t value) { run(0, {{OP_STORE32, uint32_t(addr), value, 0}}); }

    FlatviewUnicornStats stats()
    {
        FlatviewUnicornStats stats;

        flatview_unicorn_get_stats(mirror, &stats);
        return stats;
    }

    /* Page by page, what the view says against what each engine has mapped as memory. */
    std::string difference()
    {
        std::vector<MemoryRegionSection> sections;
        FlatView *view = address_space_get_flatview(&memory);
        char text[160];

        flatview_for_each_range(view, 0, UINT64_MAX, [](const MemoryRegionSection *section, void *arg) {
            static_cast<std::vector<MemoryRegionSection> *>(arg)->push_back(*section);
            return 0;
        }, &sections);
        flatview_unref(view);
        for (size_t v = 0; v < vcpus.size(); v++) {
            std::vector<FlatviewUnicornPiece> pieces;
            size_t pages = 0, mapped = 0;

            flatview_unicorn_for_each_piece(vcpus[v], [](const FlatviewUnicornPiece *piece, void *arg) {
                static_cast<std::vector<FlatviewUnicornPiece> *>(arg)->push_back(*piece);
                return 0;
            }, &pieces);
            for (const MemoryRegionSection &s : sections) {
                hwaddr page = (s.offset_within_address_space + 4095) & ~hwaddr(4095);

                for (; s.host && page <= s.last && s.last - page >= 4095; page += 4096) {
                    const FlatviewUnicornPiece *found = nullptr;
                    char *host = static_cast<char *>(s.host) + (page - s.offset_within_address_space);

                    if ((uintptr_t(host) ^ page) & 4095) {
                        continue;
                    }
                    for (const FlatviewUnicornPiece &piece : pieces) {
                        if (piece.host && page - piece.first < piece.size) {
                            found = &piece;
                        }
                    }
                    pages++;
                    if (!found || static_cast<char *>(found->host) + (page - found->first) != host ||
                        found->readonly !=
                            (s.readonly || memory_region_is_rom_device(s.mr) || memory_region_get_dirty_log_mask(s.mr))) {
                        snprintf(text, sizeof(text), "engine %zu: page %#llx of '%s' is %s", v, (unsigned long long)page,
                                 memory_region_name(s.mr), found ? "another" : "not mapped");
                        return text;
                    }
                }
            }
            for (const FlatviewUnicornPiece &piece : pieces) {
                mapped += piece.host ? piece.size / 4096 : 0;
            }
            if (mapped != pages) {
                snprintf(text, sizeof(text), "engine %zu has %zu pages, the view %zu", v, mapped, pages);
                return text;
            }
        }
        return "";
    }

    Guest guest;
    MemoryRegion root, ram;
    AddressSpace memory;
    FlatviewUnicorn *mirror = nullptr;
    std::vector<uc_engine *> engines;
    std::vector<FlatviewUnicornVcpu *> vcpus;
};

/* One that lies over memory comes and goes, which stops every engine, until told to stop. */
class Commits {
public:
    explicit Commits(Machine &machine) : m(machine)
    {
        EXPECT_EQ(memory_region_init_io(&over.mr, &device_ops, "over", 0x1000), 0);
        thread = std::thread([this] {
            while (!done) {
                EXPECT_EQ(memory_region_add_subregion_overlap(&m.root, 0x800000, &over.mr, 1), 0);
                EXPECT_EQ(memory_region_del_subregion(&m.root, &over.mr), 0);
            }
        });
    }
    ~Commits()
    {
        done = true;
        thread.join();
        end(&over.mr);
    }

private:
    Machine &m;
    Device over;
    std::atomic<bool> done{false};
    std::thread thread;
};

#endif
