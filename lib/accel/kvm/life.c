/* SPDX-License-Identifier: MIT */
/*
 * life.c - the beginning and the end of a mirror, and what can be asked of it.
 *
 * Invariant: what the listeners need is there before they are registered, and until they are unregistered.
 * Established by: flatview_kvm_new(), flatview_kvm_free(). Lock: of what is read here, lock and ring_lock, one after the other.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int find_limit(FlatviewKvm *kvm)
{
    int n = kvm_check(kvm, KVM_CAP_NR_MEMSLOTS);
    unsigned left;

    if (n < 0) {
        return n;
    }
    n = n ? n : 32; /* what kernels without the capability have */
    if (kvm->config.first_slot >= (unsigned)n) {
        return -EINVAL;
    }
    left = (unsigned)n - kvm->config.first_slot;
    kvm->stats.max_slots = kvm->config.max_slots && kvm->config.max_slots < left ? kvm->config.max_slots : left;
    return 0;
}

/* As far as it has come; no listener is registered. */
static void discard(FlatviewKvm *kvm)
{
    zone_stop(kvm);
    dirty_stop(kvm);
    slots_fini(&kvm->table);
    slots_plan_fini(&kvm->plan);
    gate_fini(&kvm->gate);
    pthread_cond_destroy(&kvm->ring_wanted);
    pthread_mutex_destroy(&kvm->ring_lock);
    pthread_mutex_destroy(&kvm->lock);
    free(kvm);
}

int flatview_kvm_new(const FlatviewKvmConfig *config, FlatviewKvm **ret_kvm)
{
    pthread_condattr_t attr;
    FlatviewKvm *kvm;
    int err;

    if (!config || !config->memory || !ret_kvm) {
        return -EINVAL;
    }
    kvm = calloc(1, sizeof(*kvm));
    if (!kvm) {
        return -ENOMEM;
    }
    kvm->config = *config;
    kvm->page = (uint64_t)sysconf(_SC_PAGESIZE);
    kvm->config.kick_signal = config->kick_signal ? config->kick_signal : SIGUSR1;
    pthread_mutex_init(&kvm->lock, NULL);
    pthread_mutex_init(&kvm->ring_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&kvm->ring_wanted, &attr);
    pthread_condattr_destroy(&attr);
    gate_init(&kvm->gate, vcpu_ready, vcpu_push);
    err = find_limit(kvm);
    if (err == 0) {
        err = vcpu_take_signal(kvm->config.kick_signal);
    }
    if (err == 0) {
        err = slots_init(&kvm->table, (uint32_t)kvm->stats.max_slots);
    }
    if (err == 0) {
        err = dirty_start(kvm);
    }
    if (err == 0) {
        err = zone_start(kvm);
    }
    if (err == 0) {
        err = notify_start(kvm);
    }
    if (err == 0) {
        memory_init_listener(kvm);
        err = memory_listener_register(&kvm->listener, config->memory);
        if (err < 0) {
            notify_stop(kvm);
        }
    }
    if (err < 0) {
        discard(kvm);
        return err;
    }
    *ret_kvm = kvm;
    return 0;
}

int flatview_kvm_free(FlatviewKvm *kvm)
{
    int err;

    /* From a callback of a listener the unregistering below would be put off, and say 0: zone_end() sees that it is one. */
    if (kvm->gate.members || memory_read_ongoing() || zone_end(kvm) < 0) {
        return -EBUSY;
    }
    zone_flush(kvm); /* the last that came; nobody refuses a withdrawal from here on */
    err = memory_listener_unregister(&kvm->listener);
    if (err == 0) {
        notify_stop(kvm); /* what could refuse it has just agreed */
        memory_unstick(kvm);
        discard(kvm);
    }
    return err;
}

int flatview_kvm_for_each_slot(FlatviewKvm *kvm, int (*fn)(const FlatviewKvmSlot *slot, void *arg), void *arg)
{
    size_t i;
    int ret = 0;

    pthread_mutex_lock(&kvm->lock);
    for (i = 0; i < kvm->table.n && ret == 0; i++) {
        const Slot *slot = &kvm->table.at[i];
        FlatviewKvmSlot value = {
            .id = kvm->config.first_slot + slot->id,
            .flags = slot->flags,
            .first = slot->first,
            .size = slot->size,
            .host = slot->host,
            .missing = slot->missing,
        };

        ret = fn(&value, arg);
    }
    pthread_mutex_unlock(&kvm->lock);
    return ret;
}

void flatview_kvm_get_stats(FlatviewKvm *kvm, FlatviewKvmStats *ret_stats)
{
    pthread_mutex_lock(&kvm->lock);
    *ret_stats = kvm->stats;
    ret_stats->coalesced_zones = kvm->n_zones;
    ret_stats->slots = kvm->table.n;
    ret_stats->missing = kvm->table.n_missing;
    ret_stats->stuck = kvm->table.n_stuck;
    pthread_mutex_unlock(&kvm->lock);
    pthread_mutex_lock(&kvm->ring_lock);
    ret_stats->coalesced_writes = kvm->coalesced_writes;
    pthread_mutex_unlock(&kvm->ring_lock);
    ret_stats->mmio_exits = __atomic_load_n(&kvm->stats.mmio_exits, __ATOMIC_RELAXED);
    ret_stats->pio_exits = __atomic_load_n(&kvm->stats.pio_exits, __ATOMIC_RELAXED);
    ret_stats->unassigned = __atomic_load_n(&kvm->stats.unassigned, __ATOMIC_RELAXED);
}
