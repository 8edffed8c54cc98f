/* SPDX-License-Identifier: MIT */
/*
 * memory.c - the listener: from the spans of a commit to KVM_SET_USER_MEMORY_REGION.
 *
 * Invariant: what the kernel has in its slots is, at every instant at which a vCPU is in the guest, contained in a view
 * that dispatch would honour then. Slots go in the removal phase (old view current), come in the addition phase (new view
 * current); in between there may be less than either view has, which an exit makes good, except for an instruction fetch.
 * So where memory goes and comes again in one commit the gate is closed from before the first until after the last.
 * Established by: the callbacks here, which run under the topology lock. Relied on by: the guest.
 *
 * Failures. prepare() counts and allocates, so what comes after publication can fail only in the kernel. A slot that does
 * not come is missing: its accesses are dispatched. A slot that does not go is stuck: it is not true any more, so no vCPU
 * enters the guest before it is gone (memory_unstick()).
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <sys/ioctl.h>

#include "accel/sabotage.h"

int kvm_ioctl(FlatviewKvm *kvm, int fd, unsigned long request, void *data)
{
    int ret = kvm->config.ioctl ? kvm->config.ioctl(kvm->config.ioctl_arg, fd, request, data) : ioctl(fd, request, data);

    return ret < 0 ? -errno : ret;
}

int kvm_check(FlatviewKvm *kvm, unsigned capability)
{
    return kvm_ioctl(kvm, kvm->config.vm_fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)capability);
}

uint32_t memory_slot_number(const FlatviewKvm *kvm, const Slot *slot)
{
    return (kvm->config.first_slot + slot->id) | kvm->config.address_space << 16;
}

static int set_slot(FlatviewKvm *kvm, const Slot *slot, uint64_t size, uint64_t *count)
{
    struct kvm_userspace_memory_region region = {
        .slot = memory_slot_number(kvm, slot),
        .flags = slot->flags,
        .guest_phys_addr = slot->first,
        .memory_size = size,
        .userspace_addr = (uintptr_t)slot->host,
    };
    int err = kvm_ioctl(kvm, kvm->config.vm_fd, KVM_SET_USER_MEMORY_REGION, &region);

    if (err < 0) {
        kvm->stats.failures++;
        kvm->stats.last_error = err;
        return err;
    }
    ++*count;
    return 0;
}

void memory_hold(FlatviewKvm *kvm)
{
    if (!kvm->holding) {
        gate_close(&kvm->gate);
        kvm->holding = true;
        kvm->stats.stops++;
    }
}

static void remove_slot(FlatviewKvm *kvm, Slot *slot)
{
    if (slot->missing) {
        kvm->table.n_missing--;
        slots_erase(&kvm->table, slot);
        return;
    }
    dirty_collect_last(kvm, slot);
    if (accel_sabotage_now(ACCEL_SABOTAGE_DROP_DEL) || set_slot(kvm, slot, 0, &kvm->stats.removed) == 0) {
        slots_erase(&kvm->table, slot);
    } else {
        memory_hold(kvm);
        slots_strand(&kvm->table, slot);
    }
}

static void add_slot(FlatviewKvm *kvm, const Slot *wanted)
{
    Slot *slot = slots_insert(&kvm->table, wanted);

    slot->missing = set_slot(kvm, slot, slot->size, &kvm->stats.added) < 0;
    kvm->table.n_missing += slot->missing;
}

/* In place, the one change that KVM can make to a slot. If it cannot be made, the slot goes and comes again. */
void memory_reflag(FlatviewKvm *kvm, Slot *slot, uint32_t flags)
{
    uint32_t old = slot->flags;

    slot->flags = flags;
    if (!slot->missing && set_slot(kvm, slot, slot->size, &kvm->stats.reflagged) < 0 && !(old & KVM_MEM_LOG_DIRTY_PAGES)) {
        memory_hold(kvm); /* it would not log: better no slot, and each store dispatched, than one that is not seen */
        slot->missing = set_slot(kvm, slot, 0, &kvm->stats.removed) == 0;
        dirty_forget(kvm, slot);
        kvm->table.n_missing += slot->missing;
        if (!slot->missing) {
            memory_region_set_dirty(slot->mr, slot->mr_offset, slot->size);
            slot->flags = old;
        }
    }
}

static int add_missing(FlatviewKvm *kvm)
{
    int first_err = 0;
    size_t i;

    for (i = 0; kvm->table.n_missing && i < kvm->table.n; i++) {
        Slot *slot = &kvm->table.at[i];

        if (slot->missing) {
            int err = set_slot(kvm, slot, slot->size, &kvm->stats.added);

            slot->missing = err < 0;
            kvm->table.n_missing -= err == 0;
            first_err = first_err ? first_err : err;
        }
    }
    return first_err;
}

/* Under lock. */
static int unstick(FlatviewKvm *kvm)
{
    size_t i;
    int err;

    for (i = kvm->table.n_stuck; i-- > 0;) {
        err = set_slot(kvm, &kvm->table.stuck[i], 0, &kvm->stats.removed);
        if (err < 0) {
            return err;
        }
        slots_unstick(&kvm->table, i);
    }
    return zone_unstick(kvm);
}

void memory_let_go(FlatviewKvm *kvm)
{
    if (kvm->holding && !kvm->table.n_stuck && !kvm->n_stuck_zones) {
        kvm->holding = false;
        gate_open(&kvm->gate);
    }
}

int memory_unstick(FlatviewKvm *kvm)
{
    int err;

    pthread_mutex_lock(&kvm->lock);
    err = unstick(kvm);
    if (err == 0 && !kvm->planned) { /* a commit that is under way lets go itself */
        memory_let_go(kvm);
    }
    pthread_mutex_unlock(&kvm->lock);
    return err;
}

int flatview_kvm_retry(FlatviewKvm *kvm)
{
    int err = memory_unstick(kvm);

    pthread_mutex_lock(&kvm->lock);
    if (err == 0) {
        err = add_missing(kvm);
    }
    pthread_mutex_unlock(&kvm->lock);
    return err;
}

/* ---- the listener ---- */

static bool want_slot(const MemoryRegionSection *section, Slot *ret_slot)
{
    /* A ROM device in read mode answers reads from memory and writes by callbacks. */
    if (section->readonly || memory_region_is_rom_device(section->mr)) {
        ret_slot->flags |= KVM_MEM_READONLY;
    }
    if (memory_region_get_dirty_log_mask(section->mr)) {
        ret_slot->flags |= KVM_MEM_LOG_DIRTY_PAGES;
    }
    return true;
}

static const SlotRules rules = {
    .want = want_slot,
    .sticky_flags = KVM_MEM_READONLY,
    .max_bytes = UINT64_C(1) << 42, /* KVM takes 2^31 - 1 pages */
};

static int kvm_prepare(MemoryListener *listener, const MemoryDelta *delta)
{
    FlatviewKvm *kvm = listener_kvm(listener);
    int err = zone_prepare(kvm, delta);

    if (err < 0) {
        return err;
    }
    pthread_mutex_lock(&kvm->lock);
    unstick(kvm);
    err = slots_plan(&kvm->table, &rules, delta, kvm->page, &kvm->plan);
    kvm->stats.refused_commits += err == -ENOSPC;
    kvm->planned = err == 0;
    if (err < 0) {
        zone_settle(kvm); /* no abort() comes */
    }
    kvm->removed = kvm->added = false;
    pthread_mutex_unlock(&kvm->lock);
    return err;
}

static void kvm_abort(MemoryListener *listener, const MemoryDelta *delta)
{
    FlatviewKvm *kvm = listener_kvm(listener);

    (void)delta;
    pthread_mutex_lock(&kvm->lock);
    kvm->planned = false;
    slots_plan_clear(&kvm->plan);
    zone_settle(kvm);
    memory_let_go(kvm);
    pthread_mutex_unlock(&kvm->lock);
}

static void carry_out_additions(FlatviewKvm *kvm)
{
    size_t i;

    for (i = 0; i < kvm->plan.n_add; i++) {
        add_slot(kvm, &kvm->plan.add[i]);
    }
    kvm->added = true;
}

/* The whole plan goes by at its first span: no view is published between the spans of a commit. */
static void carry_out_removals(FlatviewKvm *kvm)
{
    size_t i;

    if (kvm->plan.replaces) {
        memory_hold(kvm);
    }
    for (i = 0; i < kvm->plan.n_remove; i++) {
        remove_slot(kvm, slots_find(&kvm->table, kvm->plan.remove[i].first));
    }
    kvm->removed = true;
    if (accel_sabotage_now(ACCEL_SABOTAGE_EARLY_ADD)) {
        carry_out_additions(kvm);
    }
}

static void kvm_span_del(MemoryListener *listener, const MemorySpan *span)
{
    FlatviewKvm *kvm = listener_kvm(listener);
    size_t i;

    pthread_mutex_lock(&kvm->lock);
    if (!kvm->planned) { /* unregistering */
        while ((i = slots_lower(&kvm->table, span->first)) < kvm->table.n && kvm->table.at[i].first <= span->last) {
            remove_slot(kvm, &kvm->table.at[i]);
        }
    } else if (!kvm->removed) {
        carry_out_removals(kvm);
    }
    pthread_mutex_unlock(&kvm->lock);
}

static void kvm_span_add(MemoryListener *listener, const MemorySpan *span)
{
    FlatviewKvm *kvm = listener_kvm(listener);

    (void)span;
    pthread_mutex_lock(&kvm->lock);
    if (!kvm->added) {
        carry_out_additions(kvm);
    }
    pthread_mutex_unlock(&kvm->lock);
}

static void kvm_commit(MemoryListener *listener)
{
    FlatviewKvm *kvm = listener_kvm(listener);

    pthread_mutex_lock(&kvm->lock);
    if (kvm->planned) {
        add_missing(kvm);
    }
    kvm->planned = false;
    slots_plan_clear(&kvm->plan);
    zone_settle(kvm);
    memory_let_go(kvm);
    pthread_mutex_unlock(&kvm->lock);
}

void memory_init_listener(FlatviewKvm *kvm)
{
    kvm->listener = (MemoryListener){
        .name = "kvm",
        .priority = kvm->config.priority,
        .prepare = kvm_prepare,
        .abort = kvm_abort,
        .span_del = kvm_span_del,
        .span_add = kvm_span_add,
        .commit = kvm_commit,
        .log_start = dirty_log_start,
        .log_stop = dirty_log_stop,
        .log_sync = dirty_log_sync,
        .log_clear = kvm->stats.manual_clear ? dirty_log_clear : NULL,
        .coalesced_io_add = zone_memory_add,
        .coalesced_io_del = zone_memory_del,
        .eventfd_add = notify_memory_add,
        .eventfd_del = notify_memory_del,
    };
}
