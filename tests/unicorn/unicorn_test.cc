/* SPDX-License-Identifier: MIT */
/*
 * unicorn_test.cc - guest code in Unicorn engines, one a thread, whose maps follow ours.
 */
#include <atomic>
#include <cerrno>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "unicorn/machine.h"

namespace {

TEST(Unicorn, ReadsAndWritesMemoryThatIsMappedIntoIt)
{
    Machine m;

    m.store32(0x200000, 0x12345678);
    EXPECT_EQ(m.load32(0x200000), 0x12345678u);
    EXPECT_EQ(m.stats().dispatched, 0u);
    EXPECT_EQ(m.difference(), "");
}

TEST(Unicorn, EverythingElseIsDispatchedByItsAddress)
{
    Machine m;
    Device d;

    ASSERT_EQ(memory_region_init_io(&d.mr, &device_ops, "device", 0x1000), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xd0000000, &d.mr), 0);
    EXPECT_EQ(m.load32(0xd0000010), 0x1000010u);
    EXPECT_EQ(d.last_size, 4u);
    EXPECT_EQ(m.run(0, {{OP_LOAD16, 0xd0000020, 0, 0}})[0].value, 0x20u);
    EXPECT_EQ(d.last_size, 2u);
    m.run(0, {{OP_STORE8, 0xd0000ffc, 0xab, 0}});
    EXPECT_EQ(d.last, 0xabu);
    EXPECT_EQ(m.load32(0xe0000000), 0xffffffffu);
    EXPECT_EQ(m.stats().unassigned, 1u);
    uint64_t covers = m.stats().covers, stops = m.stats().stops;

    ASSERT_EQ(memory_region_set_address(&d.mr, 0xd0100000), 0);
    EXPECT_EQ(m.load32(0xd0100010), 0x1000010u);
    EXPECT_EQ(m.load32(0xd0000010), 0xffffffffu);
    EXPECT_EQ(m.stats().covers, covers) << "the cover that is there does";
    EXPECT_EQ(m.stats().stops, stops) << "a device that moves is no reason to stop an engine";
    ASSERT_EQ(memory_region_del_subregion(&m.root, &d.mr), 0);
    end(&d.mr);
}

TEST(Unicorn, WritesToRomAreDroppedAndToARomDeviceAreItsOwn)
{
    Machine m;
    MemoryRegion rom;
    Device d;
    uint32_t pattern = 0xfeedface;

    ASSERT_EQ(memory_region_init_rom(&rom, "rom", 0x2000), 0);
    memcpy(memory_region_get_ram_ptr(&rom), &pattern, 4);
    ASSERT_EQ(memory_region_init_rom_device(&d.mr, &device_ops, "flash", 0x2000), 0);
    memcpy(memory_region_get_ram_ptr(&d.mr), &pattern, 4);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xe0000000, &rom), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xe1000000, &d.mr), 0);
    m.store32(0xe0000000, 1);
    EXPECT_EQ(m.load32(0xe0000000), pattern);
    m.store32(0xe1000000, 0x42);
    EXPECT_EQ(d.last, 0x42u);
    EXPECT_EQ(d.writes, 1u);
    EXPECT_EQ(m.load32(0xe1000000), pattern);
    EXPECT_EQ(d.reads, 0u);
    ASSERT_EQ(memory_region_rom_device_set_romd(&d.mr, false), 0);
    EXPECT_EQ(m.load32(0xe1000004), 0x1000004u);
    EXPECT_EQ(m.difference(), "");
    ASSERT_EQ(memory_region_del_subregion(&m.root, &rom), 0);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &d.mr), 0);
    end(&rom);
    end(&d.mr);
}

TEST(Unicorn, MovesABarFromItsOwnAccess)
{
    Machine m;
    Device d;

    ASSERT_EQ(memory_region_init_io(&d.mr, &device_ops, "bar", 0x1000), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xd0000000, &d.mr), 0);
    d.on_write = [](Device *self) {
        if (self->last == 0x51) {
            EXPECT_EQ(memory_region_set_address(&self->mr, 0xd1000000), 0);
        }
    };
    std::vector<Op> done = m.run(0, {{OP_STORE32, 0xd0000000, 0x51, 0},
                                     {OP_LOAD32, 0xd1000004, 0, 0},
                                     {OP_LOAD32, 0xd0000004, 0, 0}});
    EXPECT_EQ(done[1].value, 0x1000004u);
    EXPECT_EQ(done[2].value, 0xffffffffu);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &d.mr), 0);
    end(&d.mr);
}

struct Curtain {
    Device device;
    MemoryRegion *root;
};

TEST(Unicorn, ADeviceTakesItselfOffTheMemoryThatItCovers)
{
    Machine m;
    static Curtain c;

    c.root = &m.root;
    ASSERT_EQ(memory_region_init_io(&c.device.mr, &device_ops, "curtain", 0x1000), 0);
    m.store32(0x400004, 7);
    ASSERT_EQ(memory_region_add_subregion_overlap(&m.root, 0x400000, &c.device.mr, 1), 0);
    c.device.on_write = [](Device *self) {
        EXPECT_EQ(memory_region_del_subregion(reinterpret_cast<Curtain *>(self)->root, &self->mr), 0);
    };
    std::vector<Op> done = m.run(0, {{OP_LOAD32, 0x400004, 0, 0}, {OP_STORE32, 0x400000, 1, 0}, {OP_LOAD32, 0x400004, 0, 0}});
    EXPECT_EQ(done[0].value, 0x1000004u);
    EXPECT_EQ(done[2].value, 7u) << "the next access, whether it is dispatched or not";
    EXPECT_EQ(m.load32(0x400004), 7u);
    EXPECT_EQ(m.difference(), "");
    end(&c.device.mr);
}

TEST(Unicorn, RunsTheCodeThatIsThereNow)
{
    Machine m;
    MemoryRegion code[2];

    for (int i = 0; i < 2; i++) {
        /* mov $0x100 + i, %eax; mov %eax, 0x300000; hlt */
        unsigned char bytes[] = {0xb8, static_cast<unsigned char>(i), 1, 0, 0, 0xa3, 0, 0, 0x30, 0, 0xf4};

        ASSERT_EQ(memory_region_init_ram(&code[i], "code", 0x1000), 0);
        memcpy(memory_region_get_ram_ptr(&code[i]), bytes, sizeof(bytes));
    }
    for (uint32_t round = 0; round < 12; round++) {
        uint32_t value = 0;

        ASSERT_EQ(memory_region_add_subregion(&m.root, 0x2000000, &code[round % 2]), 0);
        ASSERT_EQ(flatview_unicorn_vcpu_run(m.vcpus[0], 0x2000000, nullptr), 0);
        ASSERT_EQ(address_space_ldl_le(&m.memory, 0x300000, MEMTXATTRS_UNSPECIFIED, &value), MEMTX_OK);
        EXPECT_EQ(value, 0x100 + round % 2);
        ASSERT_EQ(memory_region_del_subregion(&m.root, &code[round % 2]), 0);
    }
    end(&code[0]);
    end(&code[1]);
}

TEST(Unicorn, GoesOnWhileItsOwnMemoryIsSplitUnderIt)
{
    Machine m(2);
    Device d;
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    std::atomic<uint32_t> differences{0};
    int err = 0;

    ASSERT_EQ(memory_region_init_io(&d.mr, &device_ops, "device", 0x1000), 0);
    for (unsigned i = 0; i < 2; i++) {
        threads.emplace_back([&, i] {
            while (!stop) {
                differences += m.run(i, {{OP_HAMMER, 0x600000 + 0x1000 * i, 0, 20000}})[0].value;
            }
        });
    }
    for (uint32_t at = 0; at < 100 && !err; at++) {
        err = memory_region_add_subregion_overlap(&m.root, 0x700000 + 0x8000 * at, &d.mr, 1);
        if (!err) {
            err = memory_region_del_subregion(&m.root, &d.mr);
        }
    }
    stop = true;
    for (std::thread &thread : threads) {
        thread.join();
    }
    EXPECT_EQ(err, 0);
    EXPECT_EQ(differences, 0u);
    EXPECT_EQ(m.difference(), "");
    end(&d.mr);
}

TEST(Unicorn, SeesAWindowOfMemoryOrNothingWhileItMoves)
{
    Machine m(4);
    MemoryRegion window;
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    std::atomic<uint32_t> wrong{0};
    std::mt19937 random(1);
    const hwaddr places[2] = {0x50000000, 0x58000000};
    uint32_t pattern = 0xcafe0001;
    int err = 0;

    ASSERT_EQ(memory_region_init_ram(&window, "window", 0x4000), 0);
    for (int i = 0; i < 0x4000; i += 4) {
        memcpy(static_cast<char *>(memory_region_get_ram_ptr(&window)) + i, &pattern, 4);
    }
    ASSERT_EQ(memory_region_add_subregion(&m.root, places[0], &window), 0);
    for (unsigned i = 0; i < 4; i++) {
        threads.emplace_back([&, i] {
            while (!stop) {
                wrong += m.run(i, {{OP_EXPECT, uint32_t(places[i % 2] + 0x1000), pattern, 3000}})[0].value;
            }
        });
    }
    for (int i = 0; i < 300 && !err; i++) {
        switch (random() % 4) {
        case 0:
            err = memory_region_set_readonly(&window, random() % 2);
            break;
        case 1:
            err = memory_region_set_enabled(&window, random() % 2);
            break;
        default:
            err = memory_region_set_address(&window, places[random() % 2] - 0x1000 * (random() % 2));
            break;
        }
    }
    stop = true;
    for (std::thread &thread : threads) {
        thread.join();
    }
    EXPECT_EQ(err, 0);
    EXPECT_EQ(wrong, 0u);
    EXPECT_EQ(m.difference(), "");
    ASSERT_EQ(memory_region_del_subregion(&m.root, &window), 0);
    end(&window);
}

std::vector<hwaddr> dirty_pages(MemoryRegion *mr, uint64_t size)
{
    DirtyBitmapSnapshot *snapshot = nullptr;
    std::vector<hwaddr> pages;

    EXPECT_EQ(memory_region_snapshot_and_clear_dirty(mr, 0, size, DIRTY_MEMORY_MIGRATION, &snapshot), 0);
    for (hwaddr page = 0; page < size; page += 4096) {
        if (memory_region_snapshot_get_dirty(snapshot, page, 4096)) {
            pages.push_back(page);
        }
    }
    memory_region_snapshot_free(snapshot);
    return pages;
}

TEST(Unicorn, ACopyMadeByTheDirtyLogEqualsTheOriginal)
{
    Machine m(2);
    MemoryRegion more;
    const uint64_t size = 0x20000;
    std::vector<char> copy(size);
    std::vector<std::thread> threads;
    std::atomic<bool> stop{false};
    std::mt19937 random(1);

    ASSERT_EQ(memory_region_init_ram(&more, "more", size), 0);
    const char *original = static_cast<char *>(memory_region_get_ram_ptr(&more));
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0x40000000, &more), 0);
    ASSERT_EQ(memory_region_set_log(&more, true, DIRTY_MEMORY_MIGRATION), 0);
    ASSERT_EQ(memory_dirty_log_wait(), 0);
    EXPECT_EQ(dirty_pages(&more, size).size(), size / 4096);
    m.store32(0x40003004, 1);
    EXPECT_EQ(dirty_pages(&more, size), (std::vector<hwaddr>{0x3000}));
    auto collect = [&] {
        for (hwaddr page : dirty_pages(&more, size)) {
            for (hwaddr at = page; at < page + 4096; at += 4) { /* guests write meanwhile */
                uint32_t word = __atomic_load_n(reinterpret_cast<const uint32_t *>(original + at), __ATOMIC_RELAXED);

                memcpy(copy.data() + at, &word, 4);
            }
        }
    };

    memcpy(copy.data(), original, size);
    for (unsigned i = 0; i < 2; i++) {
        threads.emplace_back([&, i] {
            for (uint32_t round = 1; !stop; round++) {
                m.run(i, {{OP_SERIES, 0x40000000 + 0x1000 * (round % 31) + 8 * i, round, 50},
                          {OP_SERIES, 0x48000000 + 0x1000 * (round % 29) + 8 * i, round, 50}});
            }
        });
    }
    for (int i = 0; i < 60; i++) {
        switch (random() % 3) {
        case 0:
            EXPECT_EQ(memory_region_set_address(&more, random() % 2 ? 0x40000000 : 0x48000000), 0);
            break;
        case 1:
            EXPECT_EQ(memory_region_set_enabled(&more, random() % 4), 0);
            break;
        default:
            collect();
            break;
        }
    }
    stop = true;
    for (std::thread &thread : threads) {
        thread.join();
    }
    collect();
    EXPECT_EQ(memcmp(copy.data(), original, size), 0);
    ASSERT_EQ(memory_region_set_log(&more, false, DIRTY_MEMORY_MIGRATION), 0);
    EXPECT_EQ(m.difference(), "") << "mapped for writing again";
    ASSERT_EQ(memory_region_del_subregion(&m.root, &more), 0);
    end(&more);
}

TEST(Unicorn, AKickEndsTheRun)
{
    Machine m;
    std::atomic<bool> done{false};
    std::thread thread([&] {
        m.run(0, {{OP_HAMMER, 0x600000, 0, 0xffffffff}}, -EINTR);
        done = true;
    });

    while (!done) {
        flatview_unicorn_vcpu_kick(m.vcpus[0]);
        std::this_thread::yield();
    }
    thread.join();
}

struct PortHook {
    FlatviewUnicornVcpu *vcpu;
    MemoryRegion *window;
    std::atomic<int> calls{0};
};

void on_out(uc_engine *, uint32_t, int, uint32_t value, void *arg)
{
    auto *hook = static_cast<PortHook *>(arg);

    flatview_unicorn_begin_callback(hook->vcpu);
    EXPECT_EQ(memory_region_set_enabled(hook->window, value & 1), 0);
    flatview_unicorn_end_callback(hook->vcpu);
    hook->calls++;
}

TEST(Unicorn, HooksOfTheCallersOwnChangeTheMapOnTwoVcpusAtOnce)
{
    Machine m(2);
    MemoryRegion windows[2];
    PortHook hooks[2];
    uc_hook handles[2];
    std::vector<std::thread> threads;

    for (unsigned i = 0; i < 2; i++) {
        ASSERT_EQ(memory_region_init_ram(&windows[i], "window", 0x4000), 0);
        ASSERT_EQ(memory_region_add_subregion(&m.root, 0x50000000 + 0x1000000 * hwaddr(i), &windows[i]), 0);
        hooks[i].vcpu = m.vcpus[i];
        hooks[i].window = &windows[i];
        ASSERT_EQ(uc_hook_add(m.engines[i], &handles[i], UC_HOOK_INSN, reinterpret_cast<void *>(on_out), &hooks[i], 1, 0,
                              UC_X86_INS_OUT), UC_ERR_OK);
    }
    for (unsigned i = 0; i < 2; i++) {
        threads.emplace_back([&m, i] {
            std::vector<Op> ops;

            for (uint32_t k = 0; k < 100; k++) {
                ops.push_back({OP_OUT8, 0x80, k, 0});
                ops.push_back({OP_STORE32, 0x600000 + 0x1000 * i, k, 0});
            }
            m.run(i, ops);
        });
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
    for (unsigned i = 0; i < 2; i++) {
        EXPECT_EQ(hooks[i].calls, 100);
        EXPECT_EQ(uc_hook_del(m.engines[i], handles[i]), UC_ERR_OK);
    }
    EXPECT_EQ(m.difference(), "");
    for (MemoryRegion &window : windows) {
        ASSERT_EQ(memory_region_del_subregion(&m.root, &window), 0);
        end(&window);
    }
}

TEST(Unicorn, TwoVcpusMoveDevicesFromTheirOwnAccessesAtOnce)
{
    Machine m(2);
    static Device d[2];
    std::vector<std::thread> threads;

    for (int i = 0; i < 2; i++) {
        ASSERT_EQ(memory_region_init_io(&d[i].mr, &device_ops, "over", 0x1000), 0);
        ASSERT_EQ(memory_region_add_subregion_overlap(&m.root, 0x800000 + 0x100000 * hwaddr(i), &d[i].mr, 1), 0);
        d[i].on_write = [](Device *self) {
            hwaddr addr = memory_region_get_addr(&self->mr);

            /* Off one page of memory and onto another: every engine has to be stopped. */
            EXPECT_EQ(memory_region_set_address(&self->mr, addr ^ 0x10000), 0);
        };
    }
    for (unsigned i = 0; i < 2; i++) {
        threads.emplace_back([&m, i] {
            for (int round = 0; round < 40; round++) {
                uint32_t here = 0x800000 + 0x100000 * i;

                m.run(i, {{OP_STORE32, here, 1, 0}, {OP_STORE32, here ^ 0x10000, 1, 0}});
            }
        });
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
    EXPECT_EQ(d[0].writes, 80u);
    EXPECT_EQ(d[1].writes, 80u);
    EXPECT_EQ(m.difference(), "");
    for (Device &device : d) {
        ASSERT_EQ(memory_region_del_subregion(&m.root, &device.mr), 0);
        end(&device.mr);
    }
}

}
