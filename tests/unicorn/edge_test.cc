/* SPDX-License-Identifier: MIT */
/*
 * edge_test.cc - where Unicorn and a map that changes meet: ends of blocks, halts, translated code, accesses that lie across.
 */
#include <atomic>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "unicorn/machine.h"

#define SNIPPET(name) extern "C" const char x86_##name[], x86_##name##_end[]

SNIPPET(store_and_halt);
SNIPPET(store_and_jump);
SNIPPET(mark);
SNIPPET(count_and_halt);
SNIPPET(two_blocks);
SNIPPET(count16);
SNIPPET(patch);
SNIPPET(patched);
SNIPPET(lock_inc);

namespace {

constexpr hwaddr MARKER = 0x300000;

hwaddr put(Machine &m, hwaddr addr, const char *begin, const char *end)
{
    EXPECT_EQ(address_space_write_rom(&m.memory, addr, MEMTXATTRS_UNSPECIFIED, begin, hwaddr(end - begin)), MEMTX_OK);
    return addr;
}
#define PUT(m, addr, name) put(m, addr, x86_##name, x86_##name##_end)

uint32_t word(Machine &m, hwaddr addr)
{
    uint32_t value = 0;

    EXPECT_EQ(address_space_ldl_le(&m.memory, addr, MEMTXATTRS_UNSPECIFIED, &value), MEMTX_OK);
    return value;
}

void set(Machine &m, unsigned i, int reg, uint32_t value)
{
    EXPECT_EQ(uc_reg_write(m.engines[i], reg, &value), UC_ERR_OK);
}

uint32_t get(Machine &m, unsigned i, int reg)
{
    uint32_t value = 0;

    EXPECT_EQ(uc_reg_read(m.engines[i], reg, &value), UC_ERR_OK);
    return value;
}

void make(Device &d, const char *name, void (*on_write)(Device *) = nullptr)
{
    ASSERT_EQ(memory_region_init_io(&d.mr, &device_ops, name, 0x1000), 0);
    d.on_write = on_write;
}

void vanish(Device *self)
{
    EXPECT_EQ(memory_region_del_subregion(memory_region_get_parent(&self->mr), &self->mr), 0);
}

TEST(UnicornEdge, AHaltIsAHaltAlsoInTheBlockWhoseStoreHasChangedTheMap)
{
    Machine m;
    Device d;

    make(d, "curtain", vanish);
    ASSERT_EQ(memory_region_add_subregion_overlap(&m.root, 0x400000, &d.mr, 1), 0);
    hwaddr code = PUT(m, 0x3000, store_and_halt);

    set(m, 0, UC_X86_REG_EBX, 0x400000);
    EXPECT_EQ(flatview_unicorn_vcpu_run(m.vcpus[0], code, nullptr), 0);
    EXPECT_EQ(d.writes, 1u);
    EXPECT_EQ(word(m, MARKER), 0u) << "it went on behind the halt";
    EXPECT_EQ(get(m, 0, UC_X86_REG_EIP), code + 3);
    EXPECT_EQ(m.load32(0x400000), 0u);
    EXPECT_EQ(m.difference(), "");
    end(&d.mr);
}

TEST(UnicornEdge, JumpsIntoMemoryThatItsOwnStoreHasUncovered)
{
    Machine m;
    static MemoryRegion code;
    Device d;

    make(d, "register", [](Device *self) {
        EXPECT_EQ(memory_region_add_subregion(memory_region_get_parent(&self->mr), 0xd0100000, &code), 0);
    });
    ASSERT_EQ(memory_region_init_ram(&code, "code", 0x1000), 0);
    memcpy(memory_region_get_ram_ptr(&code), x86_mark, size_t(x86_mark_end - x86_mark));
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xd0000000, &d.mr), 0);
    set(m, 0, UC_X86_REG_EBX, 0xd0000000);
    set(m, 0, UC_X86_REG_ECX, 0xd0100000);
    int uc_err = 0;

    EXPECT_EQ(flatview_unicorn_vcpu_run(m.vcpus[0], PUT(m, 0x3000, store_and_jump), &uc_err), 0) << uc_strerror(::uc_err(uc_err));
    EXPECT_EQ(word(m, MARKER), 7u);
    EXPECT_EQ(d.writes, 1u);
    EXPECT_EQ(m.difference(), "");
    ASSERT_EQ(memory_region_del_subregion(&m.root, &code), 0);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &d.mr), 0);
    end(&code);
    end(&d.mr);
}

TEST(UnicornEdge, StopsForCommitsAreNeverTakenForHaltsNorHaltsForStops)
{
    Machine m;
    hwaddr code = PUT(m, 0x3000, count_and_halt);
    Commits commits(m);

    for (int runs = 0; runs < 100 || m.stats().stops < 200; runs++) {
        set(m, 0, UC_X86_REG_ECX, 500);
        ASSERT_EQ(flatview_unicorn_vcpu_run(m.vcpus[0], code, nullptr), 0);
        ASSERT_EQ(get(m, 0, UC_X86_REG_ECX), 0u) << "stopped too early";
        ASSERT_EQ(get(m, 0, UC_X86_REG_EIP), code + 4) << "stopped too late";
    }
    EXPECT_EQ(word(m, MARKER), 0u);
}

TEST(UnicornEdge, GoesOnWhereItWasAlsoWithHooksOfCode)
{
    Machine m;
    hwaddr code = PUT(m, 0x3000, two_blocks);
    uc_hook hook;

    ASSERT_EQ(uc_hook_add(m.engines[0], &hook, UC_HOOK_CODE,
                          reinterpret_cast<void *>(+[](uc_engine *, uint64_t, uint32_t, void *) {}), nullptr, 1, 1), UC_ERR_OK);
    {
        Commits commits(m);

        for (int runs = 0; runs < 100 || m.stats().stops < 200; runs++) {
            set(m, 0, UC_X86_REG_ECX, 500);
            set(m, 0, UC_X86_REG_EDX, 0);
            ASSERT_EQ(flatview_unicorn_vcpu_run(m.vcpus[0], code, nullptr), 0);
            ASSERT_EQ(get(m, 0, UC_X86_REG_EDX), 500u);
        }
    }
    EXPECT_EQ(uc_hook_del(m.engines[0], hook), UC_ERR_OK);
}

TEST(UnicornEdge, GoesOnWhereItWasInA16BitCodeSegment)
{
    Machine m(1, x86_guest(UC_MODE_16));
    hwaddr code = PUT(m, 0x3000, count16);
    uint16_t cs = 0x200;
    Commits commits(m);

    ASSERT_EQ(uc_reg_write(m.engines[0], UC_X86_REG_CS, &cs), UC_ERR_OK);
    for (int runs = 0; runs < 20 || m.stats().stops < 100; runs++) {
        int uc_err = 0;
        uint16_t ip = 0;

        set(m, 0, UC_X86_REG_ECX, 5000);
        ASSERT_EQ(address_space_stw_le(&m.memory, 0x5000, MEMTXATTRS_UNSPECIFIED, 0), MEMTX_OK);
        ASSERT_EQ(flatview_unicorn_vcpu_run(m.vcpus[0], code, &uc_err), 0) << uc_strerror(::uc_err(uc_err));
        ASSERT_EQ(uc_reg_read(m.engines[0], UC_X86_REG_IP, &ip), UC_ERR_OK);
        ASSERT_EQ(ip, code + hwaddr(x86_count16_end - x86_count16) - 16 * cs);
        ASSERT_EQ(word(m, 0x5000) & 0xffff, 0x1234u);
    }
}

TEST(UnicornEdge, ExecutesWhatItHasWrittenToALoggedPage)
{
    Machine m;
    MemoryRegion logged;

    ASSERT_EQ(memory_region_init_ram(&logged, "logged", 0x1000), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0x2000000, &logged), 0);
    for (bool log : {false, true}) {
        ASSERT_EQ(memory_region_set_log(&logged, log, DIRTY_MEMORY_CODE), log ? 0 : -EINVAL);
        PUT(m, 0x2000000, patched);
        flatview_unicorn_forget_code(m.mirror, 0x2000000, 0x1000); /* that was not its own store */
        set(m, 0, UC_X86_REG_EBX, 0x2000000);
        set(m, 0, UC_X86_REG_EDI, 0x3000);
        ASSERT_EQ(flatview_unicorn_vcpu_run(m.vcpus[0], PUT(m, 0x3000, patch), nullptr), 0);
        EXPECT_EQ(word(m, MARKER), 2u) << (log ? "logged" : "not logged");
    }
    ASSERT_EQ(memory_region_set_log(&logged, false, DIRTY_MEMORY_CODE), 0);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &logged), 0);
    end(&logged);
}

TEST(UnicornEdge, ForgetsCodeThatOthersHaveWritten)
{
    Machine m(2);
    unsigned char seven[] = {0xc7, 0x05, 0, 0, 0x30, 0, 8, 0, 0, 0, 0xf4};

    PUT(m, 0x3000, mark);
    for (unsigned i = 0; i < 2; i++) {
        ASSERT_EQ(flatview_unicorn_vcpu_run(m.vcpus[i], 0x3000, nullptr), 0);
        ASSERT_EQ(word(m, MARKER), 7u);
    }
    ASSERT_EQ(address_space_write(&m.memory, 0x3000, MEMTXATTRS_UNSPECIFIED, seven, sizeof(seven)), MEMTX_OK);
    flatview_unicorn_forget_code(m.mirror, 0x3006, 1);
    flatview_unicorn_forget_code(m.mirror, 0x3006, 0);
    for (unsigned i = 0; i < 2; i++) {
        ASSERT_EQ(flatview_unicorn_vcpu_run(m.vcpus[i], 0x3000, nullptr), 0);
        EXPECT_EQ(word(m, MARKER), 8u) << "engine " << i;
        ASSERT_EQ(address_space_stl_le(&m.memory, MARKER, MEMTXATTRS_UNSPECIFIED, 0), MEMTX_OK);
    }
    flatview_unicorn_forget_code(m.mirror, 0, UINT64_MAX);
}

TEST(UnicornEdge, AccessesThatLieAcrossTwoKindsOfMemoryAreBoth)
{
    Machine m;
    MemoryRegion rom;
    Device d;

    make(d, "device");
    ASSERT_EQ(memory_region_init_rom(&rom, "rom", 0x1000), 0);
    ASSERT_EQ(memory_region_add_subregion_overlap(&m.root, 0x401000, &d.mr, 1), 0);
    ASSERT_EQ(memory_region_add_subregion_overlap(&m.root, 0x403000, &rom, 1), 0);
    m.store32(0x400ffe, 0x44332211); /* RAM, device */
    EXPECT_EQ(word(m, 0x400ffc) >> 16, 0x2211u);
    EXPECT_EQ(d.writes, 2u) << "byte by byte";
    EXPECT_EQ(d.last, 0x44u);
    EXPECT_EQ(m.load32(0x400ffe), 0x00002211u) << "a device's bytes are its own";
    m.store32(0x401ffd, 0x44332211); /* device, RAM */
    EXPECT_EQ(word(m, 0x402000) & 0xff, 0x44u);
    EXPECT_EQ(d.writes, 5u);
    m.store32(0x402ffe, 0x88776655); /* RAM, ROM */
    EXPECT_EQ(word(m, 0x402ffc) >> 16, 0x6655u);
    EXPECT_EQ(word(m, 0x403000), 0u);
    m.store32(0x403ffe, 0x88776655); /* ROM, RAM */
    EXPECT_EQ(word(m, 0x403ffc), 0u);
    EXPECT_EQ(word(m, 0x404000) & 0xffff, 0x8877u);
    EXPECT_EQ(m.load32(0x403ffe), 0x88770000u);
    for (MemoryRegion *mr : {&rom, &d.mr}) {
        ASSERT_EQ(memory_region_del_subregion(&m.root, mr), 0);
        end(mr);
    }
}

TEST(UnicornEdge, MisalignedStoresToLoggedMemoryAreMadeOnce)
{
    Machine m;
    MemoryRegion logged;
    DirtyBitmapSnapshot *snapshot;

    ASSERT_EQ(memory_region_init_ram(&logged, "logged", 0x3000), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0x2000000, &logged), 0);
    ASSERT_EQ(memory_region_set_log(&logged, true, DIRTY_MEMORY_MIGRATION), 0);
    ASSERT_EQ(memory_dirty_log_wait(), 0);
    ASSERT_EQ(memory_region_reset_dirty(&logged, 0, 0x3000, DIRTY_MEMORY_MIGRATION), 0);
    for (uint32_t at = 1; at < 4; at++) {
        m.store32(0x2000100 + 8 * at + at, 0x11223344 * at);
        EXPECT_EQ(word(m, 0x2000100 + 8 * at + at), 0x11223344 * at);
        m.store32(0x2002000 - at, 0x55667788 + at); /* across pages of it */
        EXPECT_EQ(word(m, 0x2002000 - at), 0x55667788 + at);
    }
    ASSERT_EQ(memory_region_snapshot_and_clear_dirty(&logged, 0, 0x3000, DIRTY_MEMORY_MIGRATION, &snapshot), 0);
    for (hwaddr page = 0; page < 0x3000; page += 0x1000) {
        EXPECT_TRUE(memory_region_snapshot_get_dirty(snapshot, page, 0x1000)) << page;
    }
    memory_region_snapshot_free(snapshot);
    ASSERT_EQ(memory_region_set_log(&logged, false, DIRTY_MEMORY_MIGRATION), 0);
    ASSERT_EQ(memory_region_del_subregion(&m.root, &logged), 0);
    end(&logged);
}

TEST(UnicornEdge, AFlashLeavesReadModeInTheStoreThatTellsItTo)
{
    Machine m;
    static Device d;
    uint32_t pattern = 0xfeedface;

    ASSERT_EQ(memory_region_init_rom_device(&d.mr, &device_ops, "flash", 0x1000), 0);
    memcpy(memory_region_get_ram_ptr(&d.mr), &pattern, 4);
    d.on_write = [](Device *self) {
        EXPECT_EQ(memory_region_rom_device_set_romd(&self->mr, self->last == 0xff), 0);
    };
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xe0000000, &d.mr), 0);
    for (uint64_t i = 1; i <= 20; i++) {
        std::vector<Op> done = m.run(0, {{OP_STORE32, 0xe0000000, 0x90, 0}, {OP_LOAD32, 0xe0000000, 0, 0},
                                         {OP_STORE32, 0xe0000000, 0xff, 0}, {OP_LOAD32, 0xe0000000, 0, 0}});
        ASSERT_EQ(done[1].value, 0x1000000u);
        ASSERT_EQ(done[3].value, pattern);
        ASSERT_EQ(d.writes, 2 * i) << "each store once";
    }
    EXPECT_EQ(m.difference(), "");
    ASSERT_EQ(memory_region_del_subregion(&m.root, &d.mr), 0);
    end(&d.mr);
}

TEST(UnicornEdge, RamThatReplacesTheFlashThatWasWrittenIsNotWritten)
{
    Machine m;
    static Device d;
    static MemoryRegion shadow;

    ASSERT_EQ(memory_region_init_rom_device(&d.mr, &device_ops, "flash", 0x1000), 0);
    ASSERT_EQ(memory_region_init_ram(&shadow, "shadow", 0x1000), 0);
    d.on_write = [](Device *self) {
        EXPECT_EQ(memory_region_add_subregion_overlap(memory_region_get_parent(&self->mr), 0xe0000000, &shadow, 1), 0);
    };
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xe0000000, &d.mr), 0);
    m.store32(0xe0000010, 0x1234);
    EXPECT_EQ(d.writes, 1u);
    EXPECT_EQ(word(m, 0xe0000010), 0u) << "one store, to what was there when it was made";
    m.store32(0xe0000010, 0x5678);
    EXPECT_EQ(m.load32(0xe0000010), 0x5678u);
    EXPECT_EQ(d.writes, 1u);
    for (MemoryRegion *mr : {&shadow, &d.mr}) {
        ASSERT_EQ(memory_region_del_subregion(&m.root, mr), 0);
        end(mr);
    }
}

TEST(UnicornEdge, IsFreedFromACallbackOfAListenerOnceTheCommitIsOver)
{
    Machine m;
    static FlatviewUnicorn *second;
    MemoryListener other = {};

    ASSERT_EQ(flatview_unicorn_new(&m.memory, 0, &second), 0);
    other.name = "other";
    other.span_add = [](MemoryListener *, const MemorySpan *) {
        if (second) {
            EXPECT_EQ(flatview_unicorn_free(second), 0);
            second = nullptr;
        }
    };
    ASSERT_EQ(memory_listener_register(&other, &m.memory), 0); /* the address sanitizer sees whether it was freed, and once */
    EXPECT_EQ(second, nullptr);
    ASSERT_EQ(memory_region_set_enabled(&m.ram, false), 0);
    ASSERT_EQ(memory_region_set_enabled(&m.ram, true), 0);
    ASSERT_EQ(memory_listener_unregister(&other), 0);
}

/*
 * A lock that a vCPU holds while it executes, and lets go between blocks when another one waits, makes every instruction of one
 * atomic to the other. Now and then only, at random, lest the same vCPU always lose a loop that is in step with the exchange.
 */
struct Exclusive {
    std::mutex lock;
    std::atomic<int> waiting{0};

    void acquire()
    {
        waiting++;
        lock.lock();
        waiting--;
    }
};

struct ExclusiveVcpu {
    Exclusive *exclusive;
    FlatviewUnicornVcpu *vcpu;
    std::minstd_rand random;
    unsigned blocks = 1;
};

void exclusive_block(uc_engine *, uint64_t, uint32_t, void *arg)
{
    auto *self = static_cast<ExclusiveVcpu *>(arg);

    if (--self->blocks) {
        return;
    }
    self->blocks = 1 + unsigned(self->random()) % 127;
    if (self->exclusive->waiting) {
        flatview_unicorn_begin_callback(self->vcpu);
        self->exclusive->lock.unlock();
        std::this_thread::yield();
        self->exclusive->acquire();
        flatview_unicorn_end_callback(self->vcpu);
    }
}

TEST(UnicornEdge, AtomicInstructionsAreSoUnderALockThatIsExchangedBetweenBlocks)
{
    constexpr unsigned n = 4, each = 30000;
    Machine m(n);
    Exclusive exclusive;
    ExclusiveVcpu own[n];
    uc_hook handles[n];
    std::vector<std::thread> threads;
    hwaddr code = PUT(m, 0x3000, lock_inc);

    {
        Commits commits(m);

        for (unsigned i = 0; i < n; i++) {
            own[i].exclusive = &exclusive;
            own[i].vcpu = m.vcpus[i];
            own[i].random.seed(i + 1);
            ASSERT_EQ(uc_hook_add(m.engines[i], &handles[i], UC_HOOK_BLOCK, reinterpret_cast<void *>(exclusive_block), &own[i],
                                  1, 0), UC_ERR_OK);
            set(m, i, UC_X86_REG_EBX, 0x600000);
            set(m, i, UC_X86_REG_ECX, each);
        }
        for (unsigned i = 0; i < n; i++) {
            threads.emplace_back([&, i] {
                exclusive.acquire();
                EXPECT_EQ(flatview_unicorn_vcpu_run(m.vcpus[i], code, nullptr), 0);
                exclusive.lock.unlock();
            });
        }
        for (std::thread &thread : threads) {
            thread.join();
        }
    }
    EXPECT_EQ(word(m, 0x600000), n * each);
    for (unsigned i = 0; i < n; i++) {
        EXPECT_EQ(uc_hook_del(m.engines[i], handles[i]), UC_ERR_OK);
    }
}

}
