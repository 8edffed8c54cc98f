/* SPDX-License-Identifier: MIT */
/*
 * engine.c - the hooks of an engine, and its run loop.
 *
 * Invariant: a thread executes guest code only between gate_enter() and gate_leave(); in every callback of ours it is outside, so
 * a commit may change its engine, which Unicorn allows in callbacks. Only the engine's own thread calls uc_emu_stop(): from
 * another one the call may be lost.
 * Established by: the callbacks and flatview_unicorn_vcpu_run(). Relied on by: mirror.c.
 *
 * We stop an engine at the beginning of a block only, before any of it is executed. Stopped later, the same block might go on
 * to a halt, or to a hook of the caller's that stops the engine too, and nobody could tell that from our own stop.
 *
 * Widths: Unicorn cuts accesses of 8 bytes and misaligned ones itself, before we see them. A misaligned store to write-protected
 * memory it reports whole and then byte by byte; the bytes are what we carry out.
 */
#include "accel/unicorn/unicorn.h"

#include <errno.h>

static MemTxResult load(AddressSpace *as, hwaddr addr, unsigned size, uint64_t *value)
{
    MemTxResult result;
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;

    switch (size) {
    case 1:
        result = address_space_ldub(as, addr, MEMTXATTRS_UNSPECIFIED, &u8);
        *value = result == MEMTX_OK ? u8 : *value;
        return result;
    case 2:
        result = address_space_lduw_le(as, addr, MEMTXATTRS_UNSPECIFIED, &u16);
        *value = result == MEMTX_OK ? u16 : *value;
        return result;
    case 4:
        result = address_space_ldl_le(as, addr, MEMTXATTRS_UNSPECIFIED, &u32);
        *value = result == MEMTX_OK ? u32 : *value;
        return result;
    default:
        return address_space_ldq_le(as, addr, MEMTXATTRS_UNSPECIFIED, value);
    }
}

static MemTxResult store(AddressSpace *as, hwaddr addr, unsigned size, uint64_t value)
{
    switch (size) {
    case 1:
        return address_space_stb(as, addr, MEMTXATTRS_UNSPECIFIED, (uint8_t)value);
    case 2:
        return address_space_stw_le(as, addr, MEMTXATTRS_UNSPECIFIED, (uint16_t)value);
    case 4:
        return address_space_stl_le(as, addr, MEMTXATTRS_UNSPECIFIED, (uint32_t)value);
    default:
        return address_space_stq_le(as, addr, MEMTXATTRS_UNSPECIFIED, value);
    }
}

static void dispatch_begin(FlatviewUnicornVcpu *vcpu, const Piece *active)
{
    vcpu->active = active;
    gate_leave(&vcpu->member);
}

static void dispatch_end(FlatviewUnicornVcpu *vcpu, MemTxResult result)
{
    stat_add(&vcpu->mirror->stats.dispatched);
    if (result != MEMTX_OK) {
        stat_add(&vcpu->mirror->stats.unassigned);
    }
    gate_return(&vcpu->member);
    vcpu->active = NULL; /* what could not be changed under this access is changed before the next block */
}

uint64_t engine_read(uc_engine *engine, uint64_t offset, unsigned size, void *arg)
{
    const Piece *piece = arg;
    FlatviewUnicornVcpu *vcpu = piece->vcpu;
    hwaddr addr = piece->first + offset;
    uint64_t value = UINT64_MAX;

    (void)engine;
    dispatch_begin(vcpu, piece);
    dispatch_end(vcpu, load(vcpu->mirror->memory, addr, size, &value));
    return value;
}

void engine_write(uc_engine *engine, uint64_t offset, unsigned size, uint64_t value, void *arg)
{
    const Piece *piece = arg;
    FlatviewUnicornVcpu *vcpu = piece->vcpu;
    hwaddr addr = piece->first + offset;

    (void)engine;
    dispatch_begin(vcpu, piece);
    dispatch_end(vcpu, store(vcpu->mirror->memory, addr, size, value));
}

/* The guest has come to where nothing is mapped yet. Code is not executed from cover: that stays an error. */
static bool on_unmapped(uc_engine *engine, uc_mem_type type, uint64_t addr, int size, int64_t value, void *arg)
{
    (void)engine;
    (void)type;
    (void)size;
    (void)value;
    return pieces_cover(arg, addr);
}

static bool on_protected(uc_engine *engine, uc_mem_type type, uint64_t addr, int size, int64_t value, void *arg)
{
    FlatviewUnicornVcpu *vcpu = arg;

    (void)engine;
    (void)type;
    if (size == 1 || !(addr & (uint64_t)(size - 1))) {
        vcpu->storing = true;
        vcpu->store_addr = addr;
        dispatch_begin(vcpu, NULL);
        dispatch_end(vcpu, store(vcpu->mirror->memory, addr, (unsigned)size, (uint64_t)value));
        vcpu->storing = false;
        pieces_forget_code(vcpu, addr, addr + (uint64_t)(size - 1)); /* the engine has not seen that store */
    }
    return true;
}

static void on_block(uc_engine *engine, uint64_t addr, uint32_t size, void *arg)
{
    FlatviewUnicornVcpu *vcpu = arg;

    (void)engine;
    (void)size;
    /* A hook of the caller's that writes the program counter takes back a stop: the latest block counts. */
    vcpu->paused = gate_wanted(&vcpu->member) || vcpu->late || vcpu->n_stuck;
    if (vcpu->paused) {
        vcpu->stopped_at = addr;
        uc_emu_stop(vcpu->engine);
    }
}

/* Unicorn takes callbacks of different types through one pointer to void. */
static uc_err hook(FlatviewUnicornVcpu *vcpu, unsigned i, int type, void (*fn)(void))
{
    return uc_hook_add(vcpu->engine, &vcpu->hooks[i], type, (void *)(uintptr_t)fn, vcpu, 1, 0);
}

uc_err engine_hook(FlatviewUnicornVcpu *vcpu)
{
    uc_err err = hook(vcpu, 0, UC_HOOK_BLOCK, (void (*)(void))on_block);

    if (err == UC_ERR_OK) {
        err = hook(vcpu, 1, UC_HOOK_MEM_READ_UNMAPPED | UC_HOOK_MEM_WRITE_UNMAPPED, (void (*)(void))on_unmapped);
    }
    if (err == UC_ERR_OK) {
        err = hook(vcpu, 2, UC_HOOK_MEM_WRITE_PROT, (void (*)(void))on_protected);
    }
    if (err != UC_ERR_OK) {
        engine_unhook(vcpu);
    }
    return err;
}

void engine_unhook(FlatviewUnicornVcpu *vcpu)
{
    unsigned i;

    for (i = 0; i < 3; i++) {
        if (vcpu->hooks[i]) {
            uc_hook_del(vcpu->engine, vcpu->hooks[i]);
            vcpu->hooks[i] = 0;
        }
    }
}

void flatview_unicorn_begin_callback(FlatviewUnicornVcpu *vcpu)
{
    gate_leave(&vcpu->member);
}

void flatview_unicorn_end_callback(FlatviewUnicornVcpu *vcpu)
{
    gate_return(&vcpu->member);
}

void flatview_unicorn_vcpu_kick(FlatviewUnicornVcpu *vcpu)
{
    gate_kick(&vcpu->member);
}

/*
 * With a code hook in the engine, Unicorn leaves the program counter as one of the blocks before has set it, in the same page. So
 * what the hook was told counts; for x86 that includes the base of the code segment, which is known in real mode, and 0 if the two
 * are in one page.
 */
static uint64_t counter_before(const FlatviewUnicornVcpu *vcpu, uint64_t pc)
{
    uint64_t cr0 = 0, at = vcpu->stopped_at;
    uint16_t cs = 0;

    if (vcpu->pc_register != UC_X86_REG_RIP && vcpu->pc_register != UC_X86_REG_EIP && vcpu->pc_register != UC_X86_REG_IP) {
        return at;
    }
    uc_reg_read(vcpu->engine, UC_X86_REG_CR0, &cr0);
    if (cr0 & 1) {
        return (at ^ pc) >> 12 ? pc : at;
    }
    uc_reg_read(vcpu->engine, UC_X86_REG_CS, &cs);
    at -= (uint64_t)cs << 4;
    return at > UINT16_MAX ? pc : at;
}

/* Where to go on, as uc_emu_start() wants it: Arm says in bit 0 whether that is Thumb code, a 16-bit x86 adds its segment. */
static uint64_t resume_at(FlatviewUnicornVcpu *vcpu, bool before_block)
{
    uint64_t pc = 0;
    uint32_t cpsr = 0;
    uint16_t cs = 0;

    uc_reg_read(vcpu->engine, vcpu->pc_register, &pc);
    if (vcpu->pc_register == UC_ARM_REG_PC) { /* before the counter is written, which takes it for an address to go to */
        uc_reg_read(vcpu->engine, UC_ARM_REG_CPSR, &cpsr);
    }
    if (before_block) {
        pc = counter_before(vcpu, pc) | (cpsr >> 5 & 1);
        uc_reg_write(vcpu->engine, vcpu->pc_register, &pc);
    }
    if (vcpu->pc_register == UC_ARM_REG_PC) {
        pc |= cpsr >> 5 & 1;
    } else if (vcpu->pc_register == UC_X86_REG_IP) {
        uc_reg_read(vcpu->engine, UC_X86_REG_CS, &cs);
        pc += (uint64_t)cs << 4;
    }
    return pc;
}

/* Memory that is late cannot be executed yet: then the engine has come there, and no further. */
static bool fetched_too_early(const FlatviewUnicornVcpu *vcpu, uc_err err)
{
    return vcpu->late && (err == UC_ERR_FETCH_UNMAPPED || err == UC_ERR_FETCH_PROT);
}

static int run_guest(FlatviewUnicornVcpu *vcpu, uint64_t pc, uc_err *ret_err)
{
    for (;;) {
        bool early;

        *ret_err = mirror_settle(vcpu);
        if (*ret_err != UC_ERR_OK) {
            return -EIO;
        }
        if (!gate_enter(&vcpu->member)) {
            return -EINTR;
        }
        vcpu->paused = false;
        *ret_err = uc_emu_start(vcpu->engine, pc, UINT64_MAX, 0, 0);
        early = fetched_too_early(vcpu, *ret_err);
        gate_leave(&vcpu->member);
        if (!early && *ret_err != UC_ERR_OK) {
            return -EIO;
        }
        if (!early && !vcpu->paused) {
            return 0;
        }
        pc = resume_at(vcpu, !early);
    }
}

int flatview_unicorn_vcpu_run(FlatviewUnicornVcpu *vcpu, uint64_t begin, int *ret_uc_err)
{
    uc_err uc_result;
    int err;

    if (memory_read_ongoing() || __atomic_exchange_n(&vcpu->busy, 1, __ATOMIC_ACQUIRE)) {
        return -EDEADLK;
    }
    err = run_guest(vcpu, begin, &uc_result);
    __atomic_store_n(&vcpu->busy, 0, __ATOMIC_RELEASE);
    if (ret_uc_err) {
        *ret_uc_err = uc_result;
    }
    return err;
}
