/* SPDX-License-Identifier: MIT */
/*
 * riscv_test.cc - RISC-V guests, on one to four vCPUs, while memory and devices move under them; and their atomic instructions, which
 * Unicorn does not make atomic among engines, made so.
 */
#include <atomic>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "unicorn/machine.h"

extern "C" const char riscv_guest_begin[], riscv_guest_end[];

namespace {

const Guest riscv = {UC_ARCH_RISCV, UC_MODE_RISCV64, riscv_guest_begin, riscv_guest_end, UC_RISCV_REG_A0};

TEST(UnicornRiscv, LoadsAndStoresOfEachWidthAreRightInMemoryAndInDevices)
{
    Machine m(1, riscv);
    Device d;

    ASSERT_EQ(memory_region_init_io(&d.mr, &device_ops, "device", 0x1000), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xd0000000, &d.mr), 0);
    std::vector<Op> done = m.run(0, {{OP_STORE64, 0x200000, 0x55667788, 0x11223344},
                                     {OP_LOAD64, 0x200000, 0, 0},
                                     {OP_LOAD32, 0x200004, 0, 0},
                                     {OP_LOAD16, 0x200002, 0, 0},
                                     {OP_LOAD8, 0x200001, 0, 0},
                                     {OP_STORE8, 0x200007, 0xab, 0},
                                     {OP_LOAD32, 0x200004, 0, 0}});
    EXPECT_EQ(done[1].value, 0x55667788u);
    EXPECT_EQ(done[1].count, 0x11223344u);
    EXPECT_EQ(done[2].value, 0x11223344u);
    EXPECT_EQ(done[3].value, 0x5566u);
    EXPECT_EQ(done[4].value, 0x77u);
    EXPECT_EQ(done[6].value, 0xab223344u);
    EXPECT_EQ(m.stats().dispatched, 0u);
    done = m.run(0, {{OP_LOAD32, 0xd0000010, 0, 0}, {OP_LOAD16, 0xd0000020, 0, 0}, {OP_STORE16, 0xd0000ffc, 0xbeef, 0},
                     {OP_LOAD64, 0xd0000040, 0, 0}, {OP_LOAD32, 0xe0000000, 0, 0}});
    EXPECT_EQ(done[0].value, 0x1000010u);
    EXPECT_EQ(done[1].value, 0x20u);
    EXPECT_EQ(d.last, 0xbeefu);
    EXPECT_EQ(done[3].value, 0x1000040u) << "Unicorn makes two of it";
    EXPECT_EQ(done[3].count, 0x1000044u);
    EXPECT_EQ(done[4].value, 0xffffffffu);
    EXPECT_EQ(d.reads, 4u);
    EXPECT_EQ(m.difference(), "");
    ASSERT_EQ(memory_region_del_subregion(&m.root, &d.mr), 0);
    end(&d.mr);
}

class UnicornRiscvVcpus : public testing::TestWithParam<unsigned> {
};

TEST_P(UnicornRiscvVcpus, SeeMemoryOrNothingWhileItMovesAndTheirOwnMemoryAlways)
{
    Machine m(GetParam(), riscv);
    MemoryRegion window;
    Device bar;
    std::atomic<bool> stop{false};
    std::atomic<uint32_t> wrong{0};
    std::vector<std::thread> threads;
    std::mt19937 random(1);
    const hwaddr places[2] = {0x50000000, 0x58000000};
    const uint32_t pattern = 0xcafe0001;
    int err = 0;

    ASSERT_EQ(memory_region_init_io(&bar.mr, &device_ops, "bar", 0x1000), 0);
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xd0000000, &bar.mr), 0);
    ASSERT_EQ(memory_region_init_ram(&window, "window", 0x4000), 0);
    for (int i = 0; i < 0x4000; i += 4) {
        memcpy(static_cast<char *>(memory_region_get_ram_ptr(&window)) + i, &pattern, 4);
    }
    ASSERT_EQ(memory_region_add_subregion(&m.root, places[0], &window), 0);
    for (unsigned i = 0; i < GetParam(); i++) {
        threads.emplace_back([&, i] {
            while (!stop) {
                std::vector<Op> done = m.run(i, {{OP_EXPECT, uint32_t(places[i % 2] + 0x1000), pattern, 1000},
                                                 {OP_HAMMER, 0x600000 + 0x1000 * i, 0, 1000},
                                                 {OP_LOAD32, 0xd0000000 + 8 * i, 0, 0},
                                                 {OP_LOAD32, 0xd0001000 + 8 * i, 0, 0}});

                wrong += done[0].value + done[1].value;
                for (int k = 2; k < 4; k++) {
                    wrong += done[k].value != 0x1000000 + 8 * i && done[k].value != 0xffffffff;
                }
            }
        });
    }
    for (int i = 0; i < 300 && !err; i++) {
        switch (random() % 5) {
        case 0:
            err = memory_region_set_readonly(&window, random() % 2);
            break;
        case 1:
            err = memory_region_set_enabled(&window, random() % 2);
            break;
        case 2:
            err = memory_region_set_address(&bar.mr, 0xd0000000 + 0x1000 * (random() % 2));
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
    for (MemoryRegion *mr : {&window, &bar.mr}) {
        ASSERT_EQ(memory_region_del_subregion(&m.root, mr), 0);
        end(mr);
    }
}

/*
 * The A extension has one major opcode. A hook at the address of each such instruction carries it out on the host's memory, as the
 * library finds it, and goes on behind it: threads then are as atomic to each other as the host's processors.
 */
struct Hart {
    Machine *machine;
    uc_engine *engine;
    uint64_t reserved = UINT64_MAX; /* address */
    uint32_t reserved_value = 0;
};

uint64_t reg(uc_engine *engine, unsigned n)
{
    uint64_t value = 0;

    uc_reg_read(engine, int(UC_RISCV_REG_X0 + n), &value);
    return value;
}

void set_reg(uc_engine *engine, unsigned n, uint64_t value)
{
    if (n) {
        uc_reg_write(engine, int(UC_RISCV_REG_X0 + n), &value);
    }
}

void atomic_instruction(uc_engine *engine, uint64_t addr, uint32_t, void *arg)
{
    auto *hart = static_cast<Hart *>(arg);
    AddressSpace *memory = &hart->machine->memory;
    uint32_t insn = 0, old;
    void *host = nullptr;
    hwaddr len = 4;

    EXPECT_EQ(uc_mem_read(engine, addr, &insn, 4), UC_ERR_OK);
    EXPECT_EQ(insn >> 12 & 7, 2u) << "words only";
    uint64_t at = reg(engine, insn >> 15 & 31);
    uint32_t operand = uint32_t(reg(engine, insn >> 20 & 31));
    unsigned rd = insn >> 7 & 31;

    ASSERT_EQ(address_space_map(memory, at, &len, MEMORY_MAP_READ_WRITE, MEMTXATTRS_UNSPECIFIED, &host), 0);
    ASSERT_EQ(len, 4u);
    auto *word = static_cast<uint32_t *>(host);
    switch (insn >> 27) {
    case 0: /* amoadd */
        old = __atomic_fetch_add(word, operand, __ATOMIC_SEQ_CST);
        set_reg(engine, rd, uint64_t(int64_t(int32_t(old))));
        break;
    case 2: /* lr */
        hart->reserved = at;
        hart->reserved_value = __atomic_load_n(word, __ATOMIC_SEQ_CST);
        set_reg(engine, rd, uint64_t(int64_t(int32_t(hart->reserved_value))));
        break;
    case 3: /* sc */
        old = hart->reserved_value;
        set_reg(engine, rd, hart->reserved != at ||
                            !__atomic_compare_exchange_n(word, &old, operand, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
        hart->reserved = UINT64_MAX;
        break;
    default:
        ADD_FAILURE() << "another instruction: " << insn;
    }
    EXPECT_EQ(address_space_unmap(memory, host, len, MEMORY_MAP_READ_WRITE, len, nullptr), 0);
    addr += 4;
    uc_reg_write(engine, UC_RISCV_REG_PC, &addr);
}

TEST_P(UnicornRiscvVcpus, LoseNoAtomicUpdateWhileMemoryIsSplitUnderThem)
{
    const unsigned n = GetParam(), each = 3000;
    Machine m(n, riscv);
    std::vector<Hart> harts(n);
    std::vector<std::pair<uc_engine *, uc_hook>> hooks;
    std::vector<std::thread> threads;
    uint32_t value = 0;

    for (unsigned i = 0; i < n; i++) {
        harts[i].machine = &m;
        harts[i].engine = m.engines[i];
        for (const char *at = riscv_guest_begin; at < riscv_guest_end; at += 4) {
            const hwaddr addr = CODE + hwaddr(at - riscv_guest_begin);
            uint32_t insn;
            uc_hook hook;

            memcpy(&insn, at, 4);
            if ((insn & 0x7f) == 0x2f) {
                ASSERT_EQ(uc_hook_add(m.engines[i], &hook, UC_HOOK_CODE, reinterpret_cast<void *>(atomic_instruction), &harts[i],
                                      addr, addr), UC_ERR_OK);
                hooks.emplace_back(m.engines[i], hook);
            }
        }
    }
    EXPECT_EQ(hooks.size(), 3 * n);
    {
        Commits commits(m);

        for (unsigned i = 0; i < n; i++) {
            threads.emplace_back([&, i] {
                m.run(i, {{OP_AMO, 0x600000, 1, each}, {OP_LRSC, 0x600000, 1, each}, {OP_AMO, 0x600000, 2, each}});
            });
        }
        for (std::thread &thread : threads) {
            thread.join();
        }
    }
    ASSERT_EQ(address_space_ldl_le(&m.memory, 0x600000, MEMTXATTRS_UNSPECIFIED, &value), MEMTX_OK);
    EXPECT_EQ(value, 4 * n * each);
    EXPECT_EQ(m.difference(), "");
    for (auto &[engine, hook] : hooks) {
        EXPECT_EQ(uc_hook_del(engine, hook), UC_ERR_OK);
    }
}

INSTANTIATE_TEST_SUITE_P(, UnicornRiscvVcpus, testing::Values(2u, 4u));

}
