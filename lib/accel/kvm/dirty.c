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
 * Where KVM has it (manual_clear), asking leaves KVM's bits alone: pages are protected again piece by piece, as they are collected
 * (log_clear). Then seen[] of a slot holds what KVM has answered and was not told to clear: nothing else may be cleared, for a
 * page that was written after the answer is in no bitmap of the library yet. One that was in the answer and is written again
 * before it is cleared is copied after that: the collect returns after log_clear.
 *
 * Stores that leave the guest as exits are dispatched, and marked by the library like any other.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <stdlib.h>

static bool is_logging(const Slot *slot)
{
    return slot->flags & KVM_MEM_LOG_DIRTY_PAGES && !slot->missing;
}

void dirty_take_all(const Slot *slot)
{
    if (is_logging(slot)) {
        memory_region_set_dirty(slot->mr, slot->mr_offset, slot->size);
    }
}

static uint64_t page_count(const FlatviewKvm *kvm, const Slot *slot)
{
    return slot->size / kvm->page;
}

static void failed(FlatviewKvm *kvm, int err)
{
    kvm->stats.failures++;
    kvm->stats.last_error = err;
}

static void count(FlatviewKvm *kvm, const uint64_t *bitmap, uint64_t words)
{
    for (; words > 0; words--) {
        kvm->stats.dirty_pages += (unsigned)__builtin_popcountll(bitmap[words - 1]);
    }
}

void dirty_forget(FlatviewKvm *kvm, const Slot *slot)
{
    if (kvm->dirty_seen) {
        free(kvm->dirty_seen[slot->id]);
        kvm->dirty_seen[slot->id] = NULL;
    }
}

static void collect_bitmap(FlatviewKvm *kvm, const Slot *slot)
{
    uint64_t pages = page_count(kvm, slot), words = (pages + 63) / 64;
    uint64_t *bitmap = calloc(words, sizeof(*bitmap));
    struct kvm_dirty_log log = {.slot = memory_slot_number(kvm, slot), .dirty_bitmap = bitmap};
    int err = bitmap ? kvm_ioctl(kvm, kvm->config.vm_fd, KVM_GET_DIRTY_LOG, &log) : 0;

    if (err < 0) {
        failed(kvm, err);
    }
    if (!bitmap || err < 0) {
        dirty_take_all(slot);
        free(bitmap);
        return;
    }
    memory_region_merge_dirty(slot->mr, slot->mr_offset, ~0u, kvm->page, bitmap, 0, pages);
    count(kvm, bitmap, words);
    if (kvm->dirty_seen) {
        dirty_forget(kvm, slot);
        kvm->dirty_seen[slot->id] = bitmap;
    } else {
        free(bitmap);
    }
}

static void collect(FlatviewKvm *kvm, const Slot *slot)
{
    if (kvm->stats.dirty_ring) {
        dirty_ring_harvest(kvm);
    } else {
        collect_bitmap(kvm, slot);
    }
}

void dirty_collect_last(FlatviewKvm *kvm, const Slot *slot)
{
    if (slot->flags & KVM_MEM_LOG_DIRTY_PAGES) {
        memory_hold(kvm);
        collect(kvm, slot);
        dirty_forget(kvm, slot);
    }
}

/* ---- the callbacks ---- */

static void for_each_slot(FlatviewKvm *kvm, const MemoryRegionSection *section,
                          void (*fn)(FlatviewKvm *kvm, Slot *slot, const MemoryRegionSection *section))
{
    size_t i;

    pthread_mutex_lock(&kvm->lock);
    for (i = slots_lower(&kvm->table, section->offset_within_address_space);
         i < kvm->table.n && kvm->table.at[i].first <= section->last; i++) {
        fn(kvm, &kvm->table.at[i], section);
    }
    pthread_mutex_unlock(&kvm->lock);
}

static void start(FlatviewKvm *kvm, Slot *slot, const MemoryRegionSection *section)
{
    (void)section;
    if (!(slot->flags & KVM_MEM_LOG_DIRTY_PAGES)) {
        memory_reflag(kvm, slot, slot->flags | KVM_MEM_LOG_DIRTY_PAGES);
    }
}

static void stop(FlatviewKvm *kvm, Slot *slot, const MemoryRegionSection *section)
{
    (void)section;
    if (slot->flags & KVM_MEM_LOG_DIRTY_PAGES) {
        dirty_collect_last(kvm, slot);
        memory_reflag(kvm, slot, slot->flags & ~KVM_MEM_LOG_DIRTY_PAGES);
    }
}

static void sync_slot(FlatviewKvm *kvm, Slot *slot, const MemoryRegionSection *section)
{
    (void)section;
    if (is_logging(slot)) {
        collect_bitmap(kvm, slot);
    }
}

/* Of the pages of the slot that lie in the section, those that KVM has told of. It takes 64 at a time, beginning at a multiple. */
static void clear_slot(FlatviewKvm *kvm, Slot *slot, const MemoryRegionSection *section)
{
    uint64_t *seen = kvm->dirty_seen[slot->id], pages = page_count(kvm, slot), first = 0, last = pages - 1, word, n;
    struct kvm_clear_dirty_log log = {.slot = memory_slot_number(kvm, slot)};
    uint64_t *bitmap;
    int err;

    if (!seen || !is_logging(slot)) {
        return;
    }
    if (section->offset_within_address_space > slot->first) {
        first = (section->offset_within_address_space - slot->first + kvm->page - 1) / kvm->page;
    }
    if (section->last < slot_last(slot)) {
        uint64_t whole = (section->last - slot->first + 1) / kvm->page;

        if (whole <= first) {
            return;
        }
        last = whole - 1;
    }
    if (first > last) {
        return;
    }
    word = first / 64;
    n = last / 64 - word + 1;
    bitmap = malloc(n * sizeof(*bitmap));
    if (!bitmap) {
        return; /* it will be reported once more */
    }
    for (uint64_t i = 0; i < n; i++) {
        bitmap[i] = seen[word + i];
    }
    bitmap[0] &= UINT64_MAX << (first % 64);
    bitmap[n - 1] &= UINT64_MAX >> (63 - last % 64);
    log.first_page = word * 64;
    log.num_pages = (uint32_t)(n * 64 < pages - log.first_page ? n * 64 : pages - log.first_page);
    log.dirty_bitmap = bitmap;
    err = kvm_ioctl(kvm, kvm->config.vm_fd, KVM_CLEAR_DIRTY_LOG, &log);
    if (err < 0) {
        failed(kvm, err);
    } else {
        kvm->stats.dirty_clears++;
        for (uint64_t i = 0; i < n; i++) {
            seen[word + i] &= ~bitmap[i];
        }
    }
    free(bitmap);
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
    FlatviewKvm *kvm = listener_kvm(listener);

    if (!kvm->stats.dirty_ring) {
        for_each_slot(kvm, section, sync_slot);
        return;
    }
    pthread_mutex_lock(&kvm->lock);
    gate_close(&kvm->gate);
    dirty_ring_harvest(kvm);
    gate_open(&kvm->gate);
    pthread_mutex_unlock(&kvm->lock);
}

void dirty_log_clear(MemoryListener *listener, const MemoryRegionSection *section)
{
    for_each_slot(listener_kvm(listener), section, clear_slot);
}

/* ---- life ---- */

int dirty_start(FlatviewKvm *kvm)
{
    struct kvm_enable_cap enable = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE}};

    dirty_ring_start(kvm);
    if (kvm->stats.dirty_ring || kvm_check(kvm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) <= 0) {
        return 0;
    }
    kvm->dirty_seen = calloc(kvm->stats.max_slots, sizeof(*kvm->dirty_seen));
    if (!kvm->dirty_seen) {
        return -ENOMEM;
    }
    if (kvm_ioctl(kvm, kvm->config.vm_fd, KVM_ENABLE_CAP, &enable) < 0) {
        free(kvm->dirty_seen);
        kvm->dirty_seen = NULL;
    }
    kvm->stats.manual_clear = kvm->dirty_seen;
    return 0;
}

void dirty_stop(FlatviewKvm *kvm)
{
    uint64_t i;

    for (i = 0; kvm->dirty_seen && i < kvm->stats.max_slots; i++) {
        free(kvm->dirty_seen[i]);
    }
    free(kvm->dirty_seen);
}
