/* SPDX-License-Identifier: MIT */
/*
 * dirty.c - what a guest has written through slots, brought into the library's dirty log.
 *
 * Invariant: a slot logs (KVM_MEM_LOG_DIRTY_PAGES) while any client of its region is in force, and what KVM has noted reaches the
 * region's bitmaps before the slot, or its logging, is gone (R7): the last collect of a slot is made while no vCPU is in the
 * guest. What cannot be asked for is taken to be dirty, all of it.
 * Established by: the callbacks here and dirty_collect_last() in memory.c, under the topology lock and lock.
 * Relied on by: collectors.
 *
 * Stores that leave the guest as exits are dispatched, and marked by the library like any other.
 */
#include "accel/kvm/kvm.h"

#include <stdlib.h>

static void all_dirty(const Slot *slot)
{
    memory_region_set_dirty(slot->mr, slot->mr_offset, slot->size);
}

static void collect(FlatviewKvm *kvm, const Slot *slot)
{
    uint64_t pages = slot->size / kvm->page, words = (pages + 63) / 64;
    uint64_t *bitmap = calloc(words, sizeof(*bitmap));
    struct kvm_dirty_log log = {.slot = memory_slot_number(kvm, slot), .dirty_bitmap = bitmap};

    if (!bitmap || kvm_ioctl(kvm, kvm->config.vm_fd, KVM_GET_DIRTY_LOG, &log) < 0) {
        all_dirty(slot);
    } else {
        memory_region_merge_dirty(slot->mr, slot->mr_offset, ~0u, kvm->page, bitmap, 0, pages);
    }
    free(bitmap);
}

void dirty_collect_last(FlatviewKvm *kvm, const Slot *slot)
{
    if (slot->flags & KVM_MEM_LOG_DIRTY_PAGES) {
        memory_hold(kvm);
        collect(kvm, slot);
    }
}

static void for_each_slot(FlatviewKvm *kvm, const MemoryRegionSection *section, void (*fn)(FlatviewKvm *kvm, Slot *slot))
{
    size_t i;

    pthread_mutex_lock(&kvm->lock);
    for (i = slots_lower(&kvm->table, section->offset_within_address_space);
         i < kvm->table.n && kvm->table.at[i].first <= section->last; i++) {
        fn(kvm, &kvm->table.at[i]);
    }
    pthread_mutex_unlock(&kvm->lock);
}

static void start(FlatviewKvm *kvm, Slot *slot)
{
    if (!(slot->flags & KVM_MEM_LOG_DIRTY_PAGES)) {
        memory_reflag(kvm, slot, slot->flags | KVM_MEM_LOG_DIRTY_PAGES);
    }
}

static void stop(FlatviewKvm *kvm, Slot *slot)
{
    if (slot->flags & KVM_MEM_LOG_DIRTY_PAGES) {
        dirty_collect_last(kvm, slot);
        memory_reflag(kvm, slot, slot->flags & ~KVM_MEM_LOG_DIRTY_PAGES);
    }
}

static void sync_slot(FlatviewKvm *kvm, Slot *slot)
{
    if ((slot->flags & KVM_MEM_LOG_DIRTY_PAGES) && !slot->missing) {
        collect(kvm, slot);
    }
}

void dirty_log_start(MemoryListener *listener, const MemoryRegionSection *section, unsigned old_mask, unsigned new_mask)
{
    (void)old_mask;
    if (new_mask) {
        for_each_slot(listener_kvm(listener), section, start);
    }
}

void dirty_log_stop(MemoryListener *listener, const MemoryRegionSection *section, unsigned old_mask, unsigned new_mask)
{
    (void)old_mask;
    if (!new_mask) {
        for_each_slot(listener_kvm(listener), section, stop);
    }
}

void dirty_log_sync(MemoryListener *listener, const MemoryRegionSection *section)
{
    for_each_slot(listener_kvm(listener), section, sync_slot);
}
