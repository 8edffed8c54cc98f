/* SPDX-License-Identifier: MIT */
/*
 * mirror.c - the listener: from the spans of a commit to what engines have mapped.
 *
 * Invariant: what an engine has mapped as memory while its thread executes guest code is contained in the view that is
 * current. Engines are changed between gate_close() and gate_open(), from before the first removal until after the last
 * addition; a commit that changes no memory of theirs (a device that moves) does not close the gate.
 * Established by: the callbacks here, under the topology lock. Relied on by: guests.
 */
#include "accel/unicorn/unicorn.h"

#include "accel/sabotage.h"

#include <errno.h>
#include <stdlib.h>

#define SLOTS_MAX (1u << 20) /* engines have no limit of their own */

static FlatviewUnicorn *listener_mirror(MemoryListener *listener)
{
    return (FlatviewUnicorn *)((char *)listener - offsetof(FlatviewUnicorn, listener));
}

/* Stores to logged memory are dispatched: the library marks them. */
static bool traps_stores(const MemoryRegionSection *section)
{
    return section->readonly || memory_region_is_rom_device(section->mr) ||
           memory_region_get_dirty_log_mask(section->mr);
}

static bool want_piece(const MemoryRegionSection *section, Slot *ret_slot)
{
    ret_slot->flags = traps_stores(section);
    /* Mapped hardware wants its widths kept, which the engine does not. */
    return !memory_region_is_ram_device(section->mr);
}

static const SlotRules rules = {.want = want_piece, .sticky_flags = 1, .max_bytes = UINT64_C(1) << 32};

static bool refused_something(const FlatviewUnicorn *mirror)
{
    GateMember *member;

    for (member = mirror->gate.members; member; member = member->next) {
        if (member_vcpu(member)->missing || member_vcpu(member)->n_stuck) {
            return true;
        }
    }
    return false;
}

static int mirror_prepare(MemoryListener *listener, const MemoryDelta *delta)
{
    FlatviewUnicorn *mirror = listener_mirror(listener);
    int err;

    pthread_mutex_lock(&mirror->lock);
    err = slots_plan(&mirror->table, &rules, delta, ENGINE_PAGE, &mirror->plan);
    mirror->planned = err == 0;
    mirror->removed = mirror->added = false;
    mirror->again = refused_something(mirror);
    pthread_mutex_unlock(&mirror->lock);
    return err;
}

static void mirror_abort(MemoryListener *listener, const MemoryDelta *delta)
{
    FlatviewUnicorn *mirror = listener_mirror(listener);

    (void)delta;
    pthread_mutex_lock(&mirror->lock);
    mirror->planned = false;
    slots_plan_clear(&mirror->plan);
    pthread_mutex_unlock(&mirror->lock);
}

static void hold(FlatviewUnicorn *mirror)
{
    if (!mirror->holding) {
        gate_close(&mirror->gate);
        mirror->holding = true;
        stat_add(&mirror->stats.stops);
    }
}

static void for_each_engine(FlatviewUnicorn *mirror, void (*fn)(FlatviewUnicornVcpu *vcpu, const Slot *slot), const Slot *slot)
{
    GateMember *member;

    for (member = mirror->gate.members; member; member = member->next) {
        fn(member_vcpu(member), slot);
    }
}

/* What engines had not taken, or not let go, is tried again at the next commit. */
static void retry(FlatviewUnicorn *mirror)
{
    GateMember *member;

    hold(mirror);
    for (member = mirror->gate.members; member; member = member->next) {
        pieces_settle(member_vcpu(member));
    }
}

static void remove_slot(FlatviewUnicorn *mirror, Slot *slot)
{
    hold(mirror);
    if (!accel_sabotage_now(ACCEL_SABOTAGE_DROP_DEL)) {
        for_each_engine(mirror, pieces_unmap_slot, slot);
    }
    slots_erase(&mirror->table, slot);
}

static void carry_out_additions(FlatviewUnicorn *mirror)
{
    size_t i;

    for (i = 0; i < mirror->plan.n_add && !mirror->added; i++) {
        hold(mirror);
        for_each_engine(mirror, pieces_map_slot, slots_insert(&mirror->table, &mirror->plan.add[i]));
    }
    mirror->added = true;
}

static void mirror_span_del(MemoryListener *listener, const MemorySpan *span)
{
    FlatviewUnicorn *mirror = listener_mirror(listener);
    size_t i;

    pthread_mutex_lock(&mirror->lock);
    if (!mirror->planned) { /* unregistering */
        while ((i = slots_lower(&mirror->table, span->first)) < mirror->table.n && mirror->table.at[i].first <= span->last) {
            remove_slot(mirror, &mirror->table.at[i]);
        }
    } else if (!mirror->removed) {
        for (i = 0; i < mirror->plan.n_remove; i++) {
            remove_slot(mirror, slots_find(&mirror->table, mirror->plan.remove[i].first));
        }
        mirror->removed = true;
        if (accel_sabotage_now(ACCEL_SABOTAGE_EARLY_ADD)) {
            carry_out_additions(mirror);
        }
    }
    pthread_mutex_unlock(&mirror->lock);
}

static void mirror_span_add(MemoryListener *listener, const MemorySpan *span)
{
    FlatviewUnicorn *mirror = listener_mirror(listener);

    (void)span;
    pthread_mutex_lock(&mirror->lock);
    carry_out_additions(mirror);
    pthread_mutex_unlock(&mirror->lock);
}

static void log_changed(MemoryListener *listener, const MemoryRegionSection *section, unsigned old_mask, unsigned new_mask)
{
    FlatviewUnicorn *mirror = listener_mirror(listener);
    uint32_t flags = section->readonly || memory_region_is_rom_device(section->mr) || new_mask;
    size_t i;

    (void)old_mask;
    pthread_mutex_lock(&mirror->lock);
    for (i = slots_lower(&mirror->table, section->offset_within_address_space);
         i < mirror->table.n && mirror->table.at[i].first <= section->last; i++) {
        Slot *slot = &mirror->table.at[i];

        if (slot->flags != flags) {
            hold(mirror);
            for_each_engine(mirror, pieces_unmap_slot, slot);
            slot->flags = flags;
            for_each_engine(mirror, pieces_map_slot, slot);
        }
    }
    pthread_mutex_unlock(&mirror->lock);
}

static void mirror_commit(MemoryListener *listener)
{
    FlatviewUnicorn *mirror = listener_mirror(listener);

    pthread_mutex_lock(&mirror->lock);
    mirror->planned = false;
    slots_plan_clear(&mirror->plan);
    if (mirror->again) {
        mirror->again = false;
        retry(mirror);
    }
    if (mirror->holding) {
        mirror->holding = false;
        gate_open(&mirror->gate);
    }
    pthread_mutex_unlock(&mirror->lock);
}

uc_err mirror_settle(FlatviewUnicornVcpu *vcpu)
{
    FlatviewUnicorn *mirror = vcpu->mirror;
    uc_err err;

    pthread_mutex_lock(&mirror->lock);
    pieces_settle(vcpu); /* no callback runs, so nothing is late after it */
    err = vcpu->n_stuck ? vcpu->stuck_error : UC_ERR_OK;
    pthread_mutex_unlock(&mirror->lock);
    return err;
}

/* ---- life ---- */

static void discard(FlatviewUnicorn *mirror)
{
    slots_fini(&mirror->table);
    slots_plan_fini(&mirror->plan);
    gate_fini(&mirror->gate);
    pthread_mutex_destroy(&mirror->lock);
    free(mirror);
}

static void mirror_detached(MemoryListener *listener)
{
    FlatviewUnicorn *mirror = listener_mirror(listener);

    mirror->attached = false;
    if (mirror->doomed) {
        discard(mirror);
    }
}

int flatview_unicorn_new(AddressSpace *memory, int priority, FlatviewUnicorn **ret_mirror)
{
    FlatviewUnicorn *mirror = memory && ret_mirror ? calloc(1, sizeof(*mirror)) : NULL;
    int err;

    if (!mirror) {
        return memory && ret_mirror ? -ENOMEM : -EINVAL;
    }
    mirror->memory = memory;
    mirror->listener = (MemoryListener){
        .name = "unicorn",
        .priority = priority,
        .prepare = mirror_prepare,
        .abort = mirror_abort,
        .span_del = mirror_span_del,
        .span_add = mirror_span_add,
        .commit = mirror_commit,
        .log_start = log_changed,
        .log_stop = log_changed,
        .detached = mirror_detached,
    };
    pthread_mutex_init(&mirror->lock, NULL);
    gate_init(&mirror->gate, NULL, NULL);
    err = slots_init(&mirror->table, SLOTS_MAX);
    if (err == 0) {
        err = memory_listener_register(&mirror->listener, memory);
    }
    if (err < 0) {
        discard(mirror);
        return err;
    }
    mirror->attached = true;
    *ret_mirror = mirror;
    return 0;
}

int flatview_unicorn_free(FlatviewUnicorn *mirror)
{
    int err = mirror->gate.members ? -EBUSY : memory_listener_unregister(&mirror->listener);

    if (err == 0 && mirror->attached) {
        mirror->doomed = true;
    } else if (err == 0) {
        discard(mirror);
    }
    return err;
}

static int find_pc_register(uc_engine *engine, int *ret_register)
{
    int arch, mode;

    if (uc_ctl_get_arch(engine, &arch) != UC_ERR_OK || uc_ctl_get_mode(engine, &mode) != UC_ERR_OK ||
        (mode & UC_MODE_BIG_ENDIAN)) {
        return -EINVAL;
    }
    switch (arch) {
    case UC_ARCH_X86:
        *ret_register = mode & UC_MODE_64 ? UC_X86_REG_RIP : mode & UC_MODE_16 ? UC_X86_REG_IP : UC_X86_REG_EIP;
        return 0;
    case UC_ARCH_ARM:
        *ret_register = UC_ARM_REG_PC;
        return 0;
    case UC_ARCH_ARM64:
        *ret_register = UC_ARM64_REG_PC;
        return 0;
    case UC_ARCH_RISCV:
        *ret_register = UC_RISCV_REG_PC;
        return 0;
    default:
        return -EINVAL;
    }
}

int flatview_unicorn_vcpu_new(FlatviewUnicorn *mirror, struct uc_struct *engine, FlatviewUnicornVcpu **ret_vcpu)
{
    FlatviewUnicornVcpu *vcpu = mirror && engine && ret_vcpu ? calloc(1, sizeof(*vcpu)) : NULL;
    size_t i;
    int err;

    if (!vcpu) {
        return mirror && engine && ret_vcpu ? -ENOMEM : -EINVAL;
    }
    vcpu->mirror = mirror;
    vcpu->engine = engine;
    err = find_pc_register(engine, &vcpu->pc_register);
    if (err == 0 && !pieces_init(vcpu)) {
        err = -ENOMEM;
    }
    if (err == 0 && engine_hook(vcpu) != UC_ERR_OK) {
        err = -EIO;
    }
    if (err < 0) {
        pieces_fini(vcpu);
        free(vcpu);
        return err;
    }
    /* Under lock the table stands still; from here on the engine hears of every change. */
    pthread_mutex_lock(&mirror->lock);
    gate_join(&mirror->gate, &vcpu->member);
    for (i = 0; i < mirror->table.n; i++) {
        pieces_map_slot(vcpu, &mirror->table.at[i]);
    }
    pthread_mutex_unlock(&mirror->lock);
    *ret_vcpu = vcpu;
    return 0;
}

int flatview_unicorn_vcpu_free(FlatviewUnicornVcpu *vcpu)
{
    FlatviewUnicorn *mirror = vcpu->mirror;

    if (__atomic_load_n(&vcpu->busy, __ATOMIC_ACQUIRE)) {
        return -EBUSY;
    }
    pthread_mutex_lock(&mirror->lock);
    gate_part(&vcpu->member);
    pthread_mutex_unlock(&mirror->lock);
    pieces_fini(vcpu);
    engine_unhook(vcpu);
    free(vcpu);
    return 0;
}

void flatview_unicorn_forget_code(FlatviewUnicorn *mirror, hwaddr addr, uint64_t size)
{
    hwaddr last = size - 1 > UINT64_MAX - addr ? UINT64_MAX : addr + (size - 1);
    GateMember *member;

    if (!size) {
        return;
    }
    pthread_mutex_lock(&mirror->lock);
    gate_close(&mirror->gate);
    for (member = mirror->gate.members; member; member = member->next) {
        pieces_forget_code(member_vcpu(member), addr, last);
    }
    gate_open(&mirror->gate);
    pthread_mutex_unlock(&mirror->lock);
}

int flatview_unicorn_for_each_piece(FlatviewUnicornVcpu *vcpu, int (*fn)(const FlatviewUnicornPiece *piece, void *arg),
                                    void *arg)
{
    FlatviewUnicorn *mirror = vcpu->mirror;
    size_t i;
    int ret = 0;

    if (__atomic_load_n(&vcpu->busy, __ATOMIC_ACQUIRE)) {
        return -EBUSY;
    }
    pthread_mutex_lock(&mirror->lock);
    for (i = 0; i < vcpu->n_pieces && ret == 0; i++) {
        const Piece *piece = vcpu->pieces[i];
        FlatviewUnicornPiece value = {piece->first, piece->last - piece->first + 1, piece->host, piece->readonly};

        ret = fn(&value, arg);
    }
    pthread_mutex_unlock(&mirror->lock);
    return ret;
}

void flatview_unicorn_get_stats(FlatviewUnicorn *mirror, FlatviewUnicornStats *ret_stats)
{
    const uint64_t *from = (const uint64_t *)&mirror->stats;
    uint64_t *to = (uint64_t *)ret_stats;
    size_t i;

    _Static_assert(sizeof(*ret_stats) % sizeof(uint64_t) == 0, "counts only");
    for (i = 0; i < sizeof(*ret_stats) / sizeof(uint64_t); i++) {
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
    }
}
