/* SPDX-License-Identifier: MIT */
/*
 * kvm.h - Linux KVM as a mirror of an address space. Library: flatview-kvm.
 *
 * A FlatviewKvm is a listener of the guest-physical space of one virtual machine. Memory of the view is put into KVM's
 * slots; everything else the guest touches leaves KVM as an exit, which flatview_kvm_vcpu_run() turns into an access
 * through the library. So a slot only makes an access fast: what has no slot, because it is smaller than a page, does
 * not lie in host memory as it lies in guest memory, or was refused by the kernel, is slow and right.
 *
 * What the mirror holds to (docs/ACCELERATORS.md has the reasons):
 *   - a change touches the slots inside the spans that changed and no others. Slots are never merged for neatness: when a
 *     device moves off the memory that it split, the pieces stay and the gap between them becomes a slot;
 *   - a slot goes before the view is published in which it is not true, and comes after the one in which it is;
 *   - a change that would take more slots than there are is refused before anything has happened;
 *   - memory that is replaced where a guest may be using it (a slot must shrink, or become read-only: KVM can do neither
 *     in place) is replaced while no vCPU is in the guest. So is the dirty log collected for the last time, and coalesced
 *     ranges go, where a commit takes several. No other change stops a vCPU;
 *   - dirty rings are emptied while no vCPU is in the guest: when one is full, when somebody collects, and before a vCPU goes;
 *   - a coalesced write stays in KVM's ring until somebody must see it (memory_coalesced.h): an exit, a flush, the range's end;
 *   - an ioeventfd is kicked by the kernel, without an exit, or after one by dispatch: the guest cannot tell;
 *   - a slot that the kernel refuses after publication is asked for again by the next change, or flatview_kvm_retry().
 *     One that it refuses to take away keeps vCPUs out of the guest until it is gone.
 */
#ifndef FLATVIEW_ACCEL_KVM_H
#define FLATVIEW_ACCEL_KVM_H

#include <flatview/types.h>

FLATVIEW_BEGIN_DECLS

typedef struct FlatviewKvm FlatviewKvm;
typedef struct FlatviewKvmVcpu FlatviewKvmVcpu;

/** FlatviewKvmConfig - zero what you do not set. */
typedef struct FlatviewKvmConfig {
    int vm_fd;              /* from KVM_CREATE_VM; stays the caller's, and open until flatview_kvm_free() */
    AddressSpace *memory;   /* guest-physical addresses */
    AddressSpace *io;       /* port addresses; NULL: reads give ones, writes are dropped */
    unsigned address_space; /* KVM's, for KVM_CAP_MULTI_ADDRESS_SPACE; 0 otherwise */
    unsigned first_slot;    /* slots below are the caller's own */
    unsigned max_slots;     /* how many to use; 0: all that KVM has, from first_slot on */
    int priority;           /* of the listener; MEMORY_LISTENER_PRIORITY_ACCEL fits */
    int kick_signal;        /* takes vCPU threads out of the guest; must have a handler, which may be empty, or its default
                               action, which is then replaced by an empty handler. 0: SIGUSR1 */
    unsigned coalesced_ms;  /* how long a coalesced write may wait in KVM's ring when nobody asks for it; 0: 10, UINT_MAX: for ever.
                               A thread of the mirror's own sees to it, while there are coalesced ranges */
    unsigned dirty_ring;    /* entries of the dirty ring of each vCPU, a power of two of at least 1024; before there are vCPUs.
                               0, or a kernel without it: bitmaps (stats: dirty_ring) */
    /* How to reach the kernel; NULL: ioctl(2). Returns -1 with errno. For sandboxes, and to see a mirror survive. */
    int (*ioctl)(void *arg, int fd, unsigned long request, void *data);
    void *ioctl_arg;
} FlatviewKvmConfig;

/**
 * flatview_kvm_new() - mirror config->memory into a virtual machine
 *
 * Context:   any thread outside transactions and listener callbacks: registers a listener.
 * Ownership: *ret_kvm is the caller's until flatview_kvm_free(). The address spaces must outlive it.
 * Return:    0; -ENOSPC, the view needs more slots than there are; -EINVAL, -ENOMEM, -EBUSY, or what KVM_CHECK_EXTENSION or
 *            memory_listener_register() gave.
 * Since:     0.1, as everything in this header.
 */
FLATVIEW_API int flatview_kvm_new(const FlatviewKvmConfig *config, FlatviewKvm **ret_kvm);

/**
 * flatview_kvm_free() - take all slots away and end
 *
 * Context: outside transactions, listener callbacks and read sections; vCPUs have been freed: -EBUSY otherwise.
 * Return:  0, -EBUSY.
 */
FLATVIEW_API int flatview_kvm_free(FlatviewKvm *kvm);

/**
 * flatview_kvm_retry() - ask the kernel again for slots that it has refused
 *
 * Context: any thread outside vCPUs' guest mode. Return: 0, or the error of the first one that is still refused.
 */
FLATVIEW_API int flatview_kvm_retry(FlatviewKvm *kvm);

/** FlatviewKvmSlot - one slot, by value. */
typedef struct FlatviewKvmSlot {
    uint32_t id;     /* KVM's, without the address space */
    uint32_t flags;  /* KVM_MEM_READONLY, KVM_MEM_LOG_DIRTY_PAGES */
    hwaddr first;    /* guest-physical */
    uint64_t size;   /* bytes */
    void *host;      /* of first */
    bool missing;    /* the kernel has refused it: accesses are dispatched meanwhile */
} FlatviewKvmSlot;

/**
 * flatview_kvm_for_each_slot() - the table, in ascending order of address
 * @fn: returns non-zero to stop; must not change the map
 *
 * Context: any thread; the table stands still meanwhile. Return: what @fn returned last, or 0.
 */
FLATVIEW_API int flatview_kvm_for_each_slot(FlatviewKvm *kvm, int (*fn)(const FlatviewKvmSlot *slot, void *arg), void *arg);

/** FlatviewKvmStats - counts since flatview_kvm_new(), except where "now" is said. */
typedef struct FlatviewKvmStats {
    uint64_t slots, max_slots; /* now; the limit */
    uint64_t missing;          /* now: wanted, but refused by the kernel */
    uint64_t stuck;            /* now: not wanted, but not given back by the kernel; no vCPU runs */
    uint64_t added, removed, reflagged; /* successful KVM_SET_USER_MEMORY_REGION of each kind */
    uint64_t refused_commits;  /* for want of slots */
    uint64_t eventfds;         /* now: ioeventfds that the kernel kicks */
    uint64_t eventfds_refused; /* by the kernel: dispatch kicks them */
    uint64_t failures;         /* ioctls that failed */
    int last_error;            /* negative errno of the latest; 0 if none has failed */
    uint64_t stops;            /* how often all vCPUs were held for a replacement */
    uint64_t mmio_exits, pio_exits;
    uint64_t unassigned;       /* accesses from exits that ended in other than MEMTX_OK */
    uint64_t coalesced_zones;  /* now: ranges that the kernel coalesces, of both spaces */
    uint64_t coalesced_refused; /* by the kernel, or it cannot: dispatch coalesces them after the exit */
    uint64_t coalesced_writes; /* taken from KVM's ring */
    uint64_t coalesced_lost;   /* writes of a range withdrawn without prepare(), with no room: none unless a vCPU runs then */
    uint64_t dirty_ring;       /* entries of each ring; 0: bitmaps */
    uint64_t dirty_pages;      /* reported by the kernel, also repeatedly */
    uint64_t dirty_clears;     /* KVM_CLEAR_DIRTY_LOG, KVM_RESET_DIRTY_RINGS */
    uint64_t dirty_ring_full;  /* exits for a full ring */
    bool manual_clear;         /* pages are protected again when they are collected, not when they are asked for */
} FlatviewKvmStats;

/** flatview_kvm_get_stats() - any thread; each figure is right, all together need not be of one instant. */
FLATVIEW_API void flatview_kvm_get_stats(FlatviewKvm *kvm, FlatviewKvmStats *ret_stats);

/**
 * flatview_kvm_vcpu_new() - a vCPU for flatview_kvm_vcpu_run()
 * @vcpu_fd: from KVM_CREATE_VCPU; stays the caller's, and open until flatview_kvm_vcpu_free()
 *
 * Return: 0, -ENOMEM, -EINVAL, or why kvm_run could not be mapped.
 */
FLATVIEW_API int flatview_kvm_vcpu_new(FlatviewKvm *kvm, int vcpu_fd, FlatviewKvmVcpu **ret_vcpu);

/** flatview_kvm_vcpu_free() - its thread is outside flatview_kvm_vcpu_run(): -EBUSY otherwise. */
FLATVIEW_API int flatview_kvm_vcpu_free(FlatviewKvmVcpu *vcpu);

/** flatview_kvm_vcpu_state() - its struct kvm_run, for the caller's own exits; only in the vCPU's thread. */
FLATVIEW_API struct kvm_run *flatview_kvm_vcpu_state(FlatviewKvmVcpu *vcpu);

/**
 * flatview_kvm_vcpu_run() - run the guest until an exit that is not an access
 *
 * Memory and port accesses are carried out and the guest goes on: typed, little-endian, as wide as the guest made them;
 * a read that nothing answers gives ones, a write that nothing takes is dropped (and both are counted). Callbacks run on
 * this thread, inside a read section, and may change the map.
 *
 * Context: one thread at a time for each vCPU; outside read sections and transactions.
 * Return:  0: an exit for the caller, in flatview_kvm_vcpu_state(); -EINTR: kicked, or a signal arrived; another negative
 *          errno: of KVM_RUN, or of a slot that the kernel does not give back.
 */
FLATVIEW_API int flatview_kvm_vcpu_run(FlatviewKvmVcpu *vcpu);

/** flatview_kvm_vcpu_kick() - make the present or the next flatview_kvm_vcpu_run() return -EINTR. Any thread; no lock. */
FLATVIEW_API void flatview_kvm_vcpu_kick(FlatviewKvmVcpu *vcpu);

FLATVIEW_END_DECLS

#endif
