/* SPDX-License-Identifier: MIT */
/*
 * failure_test.cc - engines that refuse, and memory that is not there: nothing is lost, accesses are right, the error is seen.
 *
 * Links the objects that ship, with the functions named below wrapped by the linker (meson.build).
 */
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "unicorn/machine.h"

namespace {

enum Fault { FAULT_MAP, FAULT_PROTECT, FAULT_COVER, FAULT_UNMAP, FAULT_MEMORY, FAULT_COUNT };

/* Calls to let through; then fail, once or from then on. */
struct {
    std::atomic<int> after{-1};
    std::atomic<bool> forever{false};
    std::atomic<int> hits{0};
} faults[FAULT_COUNT];

bool strikes(Fault fault)
{
    auto &f = faults[fault];

    if (f.after < 0 || f.after-- > 0) {
        return false;
    }
    f.after = f.forever ? 0 : -1;
    f.hits++;
    return true;
}

struct Injected {
    Injected(Fault kind, int after, bool forever) : fault(kind)
    {
        faults[fault].hits = 0;
        faults[fault].forever = forever;
        faults[fault].after = after;
    }
    ~Injected() { lift(); }
    void lift() { faults[fault].after = -1; }
    int hits() const { return faults[fault].hits; }

    Fault fault;
};

}

extern "C" {

uc_err __real_uc_mem_map_ptr(uc_engine *, uint64_t, size_t, uint32_t, void *);
uc_err __wrap_uc_mem_map_ptr(uc_engine *uc, uint64_t addr, size_t size, uint32_t perms, void *host)
{
    return strikes(FAULT_MAP) ? UC_ERR_MAP : __real_uc_mem_map_ptr(uc, addr, size, perms, host);
}

uc_err __real_uc_mem_protect(uc_engine *, uint64_t, size_t, uint32_t);
uc_err __wrap_uc_mem_protect(uc_engine *uc, uint64_t addr, size_t size, uint32_t perms)
{
    return strikes(FAULT_PROTECT) ? UC_ERR_MAP : __real_uc_mem_protect(uc, addr, size, perms);
}

uc_err __real_uc_mem_unmap(uc_engine *, uint64_t, size_t);
uc_err __wrap_uc_mem_unmap(uc_engine *uc, uint64_t addr, size_t size)
{
    return strikes(FAULT_UNMAP) ? UC_ERR_MAP : __real_uc_mem_unmap(uc, addr, size);
}

uc_err __real_uc_mmio_map(uc_engine *, uint64_t, size_t, uc_cb_mmio_read_t, void *, uc_cb_mmio_write_t, void *);
uc_err __wrap_uc_mmio_map(uc_engine *uc, uint64_t addr, size_t size, uc_cb_mmio_read_t read, void *read_arg,
                          uc_cb_mmio_write_t write, void *write_arg)
{
    return strikes(FAULT_COVER) ? UC_ERR_MAP : __real_uc_mmio_map(uc, addr, size, read, read_arg, write, write_arg);
}

void *__real_malloc(size_t);
void *__wrap_malloc(size_t size)
{
    return strikes(FAULT_MEMORY) ? nullptr : __real_malloc(size);
}

void *__real_calloc(size_t, size_t);
void *__wrap_calloc(size_t n, size_t size)
{
    return strikes(FAULT_MEMORY) ? nullptr : __real_calloc(n, size);
}

void *__real_realloc(void *, size_t);
void *__wrap_realloc(void *old, size_t size)
{
    return strikes(FAULT_MEMORY) ? nullptr : __real_realloc(old, size);
}

}

namespace {

constexpr hwaddr MORE = 0x40000000;

class UnicornFailure : public testing::Test {
protected:
    void SetUp() override
    {
        ASSERT_EQ(memory_region_init_ram(&more, "more", 0x4000), 0);
        ASSERT_EQ(memory_region_init_io(&d.mr, &device_ops, "device", 0x1000), 0);
    }

    void TearDown() override
    {
        for (MemoryRegion *mr : {&more, &d.mr}) {
            if (memory_region_get_parent(mr)) {
                EXPECT_EQ(memory_region_del_subregion(&m.root, mr), 0);
            }
            end(mr);
        }
    }

    Machine m{2};
    MemoryRegion more;
    Device d;
};

TEST_F(UnicornFailure, MemoryThatEnginesRefuseIsDispatchedUntilTheNextRun)
{
    Injected fault(FAULT_MAP, 0, true);

    ASSERT_EQ(memory_region_add_subregion(&m.root, MORE, &more), 0);
    EXPECT_EQ(fault.hits(), 2) << "one an engine";
    EXPECT_EQ(m.stats().refused, 2u);
    EXPECT_EQ(m.stats().last_error, uint64_t(UC_ERR_MAP));
    EXPECT_NE(m.difference(), "");
    m.store32(MORE + 8, 0x12345678);
    EXPECT_EQ(m.load32(MORE + 8), 0x12345678u);
    EXPECT_EQ(m.stats().dispatched, 2u);
    fault.lift();
    for (unsigned i = 0; i < 2; i++) {
        EXPECT_EQ(m.run(i, {{OP_LOAD32, MORE + 8, 0, 0}})[0].value, 0x12345678u);
    }
    EXPECT_EQ(m.stats().dispatched, 2u) << "by the engine itself";
    EXPECT_EQ(m.difference(), "");
}

TEST_F(UnicornFailure, MemoryThatAnEngineRefusesIsOfferedAgainAtTheNextCommit)
{
    ASSERT_EQ(memory_region_add_subregion(&m.root, MORE, &more), 0);
    m.store32(MORE, 1);
    {
        Injected fault(FAULT_PROTECT, 1, false);

        ASSERT_EQ(memory_region_set_readonly(&more, true), 0);
        EXPECT_EQ(fault.hits(), 1);
    }
    EXPECT_NE(m.difference(), "");
    for (unsigned i = 0; i < 2; i++) {
        EXPECT_EQ(m.run(i, {{OP_STORE32, MORE, 2, 0}, {OP_LOAD32, MORE, 0, 0}})[1].value, 1u) << "it is read-only all the same";
    }
    EXPECT_EQ(m.difference(), "") << "offered again to engines that run";
    {
        Injected fault(FAULT_MAP, 1, false);

        ASSERT_EQ(memory_region_set_readonly(&more, false), 0);
        EXPECT_EQ(fault.hits(), 1);
    }
    EXPECT_NE(m.difference(), "");
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xd0000000, &d.mr), 0); /* another commit, of something else */
    EXPECT_EQ(m.difference(), "");
}

TEST_F(UnicornFailure, AnEngineThatKeepsWhatIsGoneDoesNotRun)
{
    int uc_err = 0;

    ASSERT_EQ(memory_region_add_subregion(&m.root, MORE, &more), 0);
    m.store32(MORE, 7);
    Injected fault(FAULT_UNMAP, 0, true);

    ASSERT_EQ(memory_region_del_subregion(&m.root, &more), 0);
    EXPECT_EQ(fault.hits(), 2) << "one an engine";
    EXPECT_EQ(flatview_unicorn_vcpu_run(m.vcpus[0], CODE, &uc_err), -EIO);
    EXPECT_EQ(uc_err, UC_ERR_MAP);
    ASSERT_EQ(memory_region_add_subregion(&m.root, MORE, &d.mr), 0);
    EXPECT_EQ(flatview_unicorn_vcpu_run(m.vcpus[0], CODE, nullptr), -EIO);
    fault.lift();
    EXPECT_EQ(m.load32(MORE), 0x1000000u) << "the device that is there now";
    EXPECT_EQ(m.run(1, {{OP_LOAD32, MORE, 0, 0}})[0].value, 0x1000000u);
    EXPECT_EQ(m.difference(), "");
}

TEST_F(UnicornFailure, MemoryComesBackWhereAnEngineHadKeptIt)
{
    ASSERT_EQ(memory_region_add_subregion(&m.root, MORE, &more), 0);
    {
        Injected fault(FAULT_UNMAP, 0, true);

        ASSERT_EQ(memory_region_del_subregion(&m.root, &more), 0);
        ASSERT_EQ(memory_region_set_readonly(&more, true), 0);
        ASSERT_EQ(memory_region_add_subregion(&m.root, MORE, &more), 0);
        EXPECT_EQ(flatview_unicorn_vcpu_run(m.vcpus[0], CODE, nullptr), -EIO) << "it may still be written there";
    }
    m.store32(MORE, 7);
    EXPECT_EQ(m.load32(MORE), 0u);
    ASSERT_EQ(memory_region_set_enabled(&more, false), 0);
    ASSERT_EQ(memory_region_set_enabled(&more, true), 0);
    EXPECT_EQ(m.difference(), "");
}

TEST_F(UnicornFailure, CoverIsFoundWhateverMemoryThereIs)
{
    Injected fault(FAULT_MEMORY, 0, true);

    ASSERT_EQ(m.stats().refused, 0u);
    for (uint32_t i = 0; i < 20; i++) {
        std::vector<Op> done = m.run(0, {{OP_LOAD32, 0x80000000 + 0x4000000 * i, 0, 0}, {OP_LOAD32, 0xd0000000, 0, 0},
                                         {OP_STORE32, 0x83fffffe + 0x4000000 * i, 0, 0}}); /* across two pieces of cover */
        ASSERT_EQ(done[0].value, 0xffffffffu);
        ASSERT_EQ(done[1].value, 0xffffffffu);
    }
    EXPECT_GT(m.stats().refused, 0u);
    EXPECT_EQ(m.stats().last_error, uint64_t(UC_ERR_NOMEM));
    EXPECT_EQ(m.difference(), "");
}

TEST_F(UnicornFailure, OtherCoverIsGivenUpForCoverThatAnEngineRefuses)
{
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xd0000000, &d.mr), 0);
    EXPECT_EQ(m.load32(0x80000000), 0xffffffffu);
    Injected fault(FAULT_COVER, 0, false);

    EXPECT_EQ(m.load32(0xd0000004), 0x1000004u);
    EXPECT_EQ(d.reads, 1u);
    EXPECT_EQ(fault.hits(), 1);
    EXPECT_EQ(m.stats().refused, 1u);
}

TEST_F(UnicornFailure, WithoutAnyCoverTheRunEndsAndTheAccessIsNotMade)
{
    ASSERT_EQ(memory_region_add_subregion(&m.root, 0xd0000000, &d.mr), 0);
    for (auto [what, expected] : {std::pair<uint32_t, int>{OP_LOAD32, UC_ERR_READ_UNMAPPED}, {OP_STORE32, UC_ERR_WRITE_UNMAPPED}}) {
        Op ops[2] = {{what, 0xd0000000, 0x55, 0}, {OP_END, 0, 0, 0}};
        uint32_t ebx = OPS;
        int uc_err = 0;
        Injected fault(FAULT_COVER, 0, true);

        ASSERT_EQ(address_space_write(&m.memory, OPS, MEMTXATTRS_UNSPECIFIED, ops, sizeof(ops)), MEMTX_OK);
        ASSERT_EQ(uc_reg_write(m.engines[0], UC_X86_REG_EBX, &ebx), UC_ERR_OK);
        EXPECT_EQ(flatview_unicorn_vcpu_run(m.vcpus[0], CODE, &uc_err), -EIO);
        EXPECT_EQ(uc_err, expected);
        EXPECT_EQ(m.stats().last_error, uint64_t(UC_ERR_MAP));
    }
    EXPECT_EQ(m.stats().refused, 2u);
    EXPECT_EQ(d.reads + d.writes, 0u);
    EXPECT_EQ(m.load32(0xd0000000), 0x1000000u) << "begun anew, the guest is as good as ever";
}

TEST_F(UnicornFailure, WithoutMemoryACommitIsRefusedOrItsPiecesAreDispatched)
{
    bool failed = true;

    for (int n = 0; failed; n++) {
        int err;

        ASSERT_LT(n, 200);
        {
            Injected fault(FAULT_MEMORY, n, false);

            err = memory_region_add_subregion(&m.root, MORE, &more);
            failed = fault.hits() > 0;
        }
        ASSERT_TRUE(err == 0 || err == -ENOMEM) << err;
        if (err) {
            EXPECT_EQ(memory_region_get_parent(&more), nullptr);
            EXPECT_EQ(m.difference(), "") << "nothing has changed";
            continue;
        }
        m.store32(MORE + 0x1000, uint32_t(n));
        EXPECT_EQ(m.run(1, {{OP_LOAD32, MORE + 0x1000, 0, 0}})[0].value, uint32_t(n));
        EXPECT_EQ(m.difference(), "") << "both engines have run";
        /* Many small changes, so that tables grow at every n. */
        for (hwaddr at = 0; at < 40; at++) {
            Injected fault(FAULT_MEMORY, int(at) % 5, false);

            err = memory_region_add_subregion_overlap(&m.root, 0x100000 + 0x2000 * at, &d.mr, 1);
            ASSERT_TRUE(err == 0 || err == -ENOMEM) << err;
            if (!err) {
                EXPECT_EQ(m.load32(0x100000 + 0x2000 * at), 0x1000000u);
                fault.lift();
                ASSERT_EQ(memory_region_del_subregion(&m.root, &d.mr), 0);
            }
        }
        ASSERT_EQ(memory_region_del_subregion(&m.root, &more), 0);
        EXPECT_EQ(m.difference(), "");
    }
}

TEST_F(UnicornFailure, WithoutMemoryThereIsNoMirrorAndNoVcpu)
{
    for (int n = 0, made = 0; made < 2; n++) {
        FlatviewUnicorn *mirror = nullptr;
        FlatviewUnicornVcpu *vcpu = nullptr;
        uc_engine *engine;
        int err;

        ASSERT_LT(n, 50);
        made = 0;
        ASSERT_EQ(uc_open(UC_ARCH_X86, UC_MODE_32, &engine), UC_ERR_OK);
        {
            Injected fault(FAULT_MEMORY, n, false);

            err = flatview_unicorn_new(&m.memory, 0, &mirror);
        }
        if (err == 0) {
            Injected fault(FAULT_MEMORY, n, false);

            made++;
            err = flatview_unicorn_vcpu_new(mirror, engine, &vcpu);
            made += err == 0 && fault.hits() == 0;
        }
        EXPECT_TRUE(err == 0 || err == -ENOMEM) << err;
        EXPECT_EQ(vcpu != nullptr, err == 0);
        if (vcpu) {
            EXPECT_EQ(flatview_unicorn_vcpu_free(vcpu), 0);
        }
        if (mirror) {
            EXPECT_EQ(flatview_unicorn_free(mirror), 0);
        }
        uc_close(engine);
    }
    EXPECT_EQ(flatview_unicorn_vcpu_new(m.mirror, nullptr, nullptr), -EINVAL);
}

}
