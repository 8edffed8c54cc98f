/* SPDX-License-Identifier: MIT */
/*
 * kvm.h - the insides of a FlatviewKvm, shared by its listener and its vCPUs.
 */
#ifndef FLATVIEW_ACCEL_KVM_KVM_H
#define FLATVIEW_ACCEL_KVM_KVM_H

#include <linux/kvm.h>
#include <pthread.h>

#include <flatview/accel/kvm.h>

#include "accel/gate.h"
#include "accel/slots.h"

struct FlatviewKvmVcpu {
    FlatviewKvm *kvm;
    GateMember member;
    int fd;
    struct kvm_run *run;
    size_t run_size;
    struct kvm_dirty_gfn *dirty; /* its ring; NULL: bitmaps */
    uint32_t dirty_next;         /* guarded by kvm->lock */
    int busy; /* inside flatview_kvm_vcpu_run(); atomic */
};

typedef struct KvmZone {
    struct kvm_coalesced_mmio_zone zone;
    MemoryRegion *mr; /* of the view; not if stuck */
    bool stuck;       /* the kernel would not give it back */
} KvmZone;

/*
 * Locks, outermost first: the library's topology lock (the listener's callbacks run under it), lock, gate.lock; ring_lock is
 * taken with none of the latter two, or with the topology lock. No access is made and no callback called under any but that.
 */
struct FlatviewKvm {
    FlatviewKvmConfig config;
    MemoryListener listener, port_listener;
    uint64_t page;
    bool any_length; /* the kernel knows ioeventfds of any size */

    pthread_mutex_t lock; /* the table, the plan and the counts that are no atomics */
    SlotTable table;
    SlotPlan plan;
    bool planned;           /* between prepare and commit or abort */
    bool removed, added;    /* which halves of the plan have been carried out */
    bool holding;           /* the gate is closed for the plan's sake */
    FlatviewKvmStats stats; /* the exits' counts are atomics */

    Gate gate;

    /* dirty.c, dirty_ring.c; guarded by lock */
    uint64_t **dirty_seen; /* by id of a slot: what KVM has told and not been told to clear. NULL: asking clears */
    size_t dirty_last;     /* where a slot was found last */
    uint32_t dirty_unreset; /* entries given back to KVM and not reset: their pages may be written unseen */

    /* zone.c */
    uint64_t ring_page; /* where a vCPU shows the ring, in pages; 0: nothing is coalesced by the kernel */
    bool coalesced_pio;
    pthread_mutex_t ring_lock;               /* taking writes out of ring, in order */
    struct kvm_coalesced_mmio_ring *ring;    /* atomic; NULL before there is a vCPU */
    uint64_t coalesced_writes;               /* guarded by ring_lock */
    KvmZone *zones;                          /* these: guarded by lock */
    size_t n_zones, cap_zones, n_stuck_zones;
    size_t n_withdrawn; /* by the commit under way */
    MemoryCoalescedSource source;
    pthread_t ring_thread;
    pthread_cond_t ring_wanted;
    bool ring_ending;
};

int kvm_ioctl(FlatviewKvm *kvm, int fd, unsigned long request, void *data); /* what ioctl() returns, or a negative errno */

int kvm_check(FlatviewKvm *kvm, unsigned capability);                            /* likewise, of KVM_CHECK_EXTENSION */

static inline FlatviewKvm *listener_kvm(MemoryListener *listener)
{
    return (FlatviewKvm *)((char *)listener - offsetof(FlatviewKvm, listener));
}

static inline FlatviewKvm *port_listener_kvm(MemoryListener *listener)
{
    return (FlatviewKvm *)((char *)listener - offsetof(FlatviewKvm, port_listener));
}

/* notify.c: part of the listener for memory, and one for ports. */
void notify_memory_add(MemoryListener *listener, const MemoryRegionSection *section, bool match_data, uint64_t data,
                       int fd);
void notify_memory_del(MemoryListener *listener, const MemoryRegionSection *section, bool match_data, uint64_t data,
                       int fd);
int notify_start(FlatviewKvm *kvm); /* before the listener for memory is registered */
int notify_stop(FlatviewKvm *kvm);

/* vcpu.c */
static inline FlatviewKvmVcpu *member_vcpu(GateMember *member)
{
    return (FlatviewKvmVcpu *)((char *)member - offsetof(FlatviewKvmVcpu, member));
}

void vcpu_ready(GateMember *member); /* of the gate: immediate_exit, and the signal that ends KVM_RUN */
void vcpu_push(GateMember *member);
int vcpu_take_signal(int signal); /* make sure that it has a handler */

/* memory.c: take away what the kernel would not give back; 0 when nothing is stuck any more. Takes lock. */
int memory_unstick(FlatviewKvm *kvm);
/* Under lock, in a listener callback. */
void memory_hold(FlatviewKvm *kvm); /* no vCPU in the guest, until the end of the commit */
void memory_reflag(FlatviewKvm *kvm, Slot *slot, uint32_t flags);
uint32_t memory_slot_number(const FlatviewKvm *kvm, const Slot *slot); /* as KVM knows it */

void memory_init_listener(FlatviewKvm *kvm);
void memory_let_go(FlatviewKvm *kvm); /* unless something is stuck */

/* zone.c: part of both listeners. */
int zone_start(FlatviewKvm *kvm); /* before they are registered */
int zone_end(FlatviewKvm *kvm); /* vCPUs are gone: nobody asks any more; -EDEADLK: from where one may not wait for that */
void zone_stop(FlatviewKvm *kvm);
int zone_map(FlatviewKvm *kvm, int vcpu_fd);
void zone_flush(FlatviewKvm *kvm); /* what the ring holds goes to the library's rings. Callbacks may run; no lock is held */
int zone_prepare(FlatviewKvm *kvm, const MemoryDelta *delta);
void zone_settle(FlatviewKvm *kvm);
int zone_unstick(FlatviewKvm *kvm); /* under lock */
void zone_memory_add(MemoryListener *listener, const MemoryRegionSection *section, hwaddr addr, hwaddr len);
void zone_memory_del(MemoryListener *listener, const MemoryRegionSection *section, hwaddr addr, hwaddr len);
void zone_port_add(MemoryListener *listener, const MemoryRegionSection *section, hwaddr addr, hwaddr len);
void zone_port_del(MemoryListener *listener, const MemoryRegionSection *section, hwaddr addr, hwaddr len);

/* dirty.c: part of the listener. */
void dirty_collect_last(FlatviewKvm *kvm, const Slot *slot); /* before it goes; under lock */
void dirty_log_start(MemoryListener *listener, const MemoryRegionSection *section, unsigned old_mask, unsigned new_mask);
void dirty_log_stop(MemoryListener *listener, const MemoryRegionSection *section, unsigned old_mask, unsigned new_mask);
void dirty_log_sync(MemoryListener *listener, const MemoryRegionSection *section);
void dirty_log_clear(MemoryListener *listener, const MemoryRegionSection *section);
void dirty_take_all(const Slot *slot);
void dirty_forget(FlatviewKvm *kvm, const Slot *slot); /* what was told of it; it is not in the kernel any more */
int dirty_start(FlatviewKvm *kvm); /* when the limit of slots is known */
void dirty_stop(FlatviewKvm *kvm);

/* dirty_ring.c */
void dirty_ring_start(FlatviewKvm *kvm);
int dirty_ring_map(FlatviewKvmVcpu *vcpu);
void dirty_ring_unmap(FlatviewKvmVcpu *vcpu);
void dirty_ring_harvest(FlatviewKvm *kvm); /* all rings, under lock; no vCPU in the guest meanwhile */
void dirty_ring_full(FlatviewKvm *kvm);

/* exit.c: carry out what the guest wanted; 1: done, go on; 0: an exit for the caller. */
int exit_handle(FlatviewKvmVcpu *vcpu);
void exit_store(FlatviewKvm *kvm, bool pio, hwaddr addr, const void *data, unsigned size);

#endif
