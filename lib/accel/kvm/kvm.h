/* SPDX-License-Identifier: MIT */
/*
 * kvm.h - the insides of a FlatviewKvm, shared by its listener and its vCPUs.
 */
#ifndef FLATVIEW_ACCEL_KVM_KVM_H
#define FLATVIEW_ACCEL_KVM_KVM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <sys/types.h>

#include <flatview/accel/kvm.h>

#include "accel/slots.h"

struct FlatviewKvmVcpu {
    FlatviewKvm *kvm;
    int fd;
    struct kvm_run *run;
    size_t run_size;
    FlatviewKvmVcpu *next, **pprev; /* on kvm->vcpus; guarded by gate_lock */
    pid_t thread;                   /* that is in the guest, while in_guest */
    /* atomics: the two sides of a Dekker pattern with kvm->closed and with each other (gate.c) */
    int in_guest;
    int kicked;
    int busy; /* inside flatview_kvm_vcpu_run() */
};

/*
 * Locks, outermost first: the library's topology lock (the listener's callbacks run under it), lock, gate_lock. No access
 * is made and no callback called under lock or gate_lock.
 */
struct FlatviewKvm {
    FlatviewKvmConfig config;
    MemoryListener listener;
    uint64_t page;

    pthread_mutex_t lock; /* the table, the plan and the counts that are no atomics */
    SlotTable table;
    SlotPlan plan;
    bool planned;           /* between prepare and commit or abort */
    bool removed, added;    /* which halves of the plan have been carried out */
    bool holding;           /* the gate is closed for the plan's sake */
    FlatviewKvmStats stats; /* the exits' counts are atomics */

    pthread_mutex_t gate_lock;
    pthread_cond_t gate_opened, gate_left;
    int closed; /* atomic: how many want no vCPU in the guest; written under gate_lock */
    FlatviewKvmVcpu *vcpus;
};

int kvm_ioctl(FlatviewKvm *kvm, int fd, unsigned long request, void *data); /* what ioctl() returns, or a negative errno */

/* gate.c: when the guest may run. */
void gate_close(FlatviewKvm *kvm); /* returns when no vCPU is in the guest; nests */
void gate_open(FlatviewKvm *kvm);
bool gate_enter(FlatviewKvmVcpu *vcpu); /* true: go; false: kicked. Waits while the gate is closed */
void gate_leave(FlatviewKvmVcpu *vcpu);
int gate_take_signal(int signal); /* make sure that it has a handler */

/* memory.c: take away what the kernel would not give back; 0 when nothing is stuck any more. Takes lock. */
int memory_unstick(FlatviewKvm *kvm);

/* exit.c: carry out what the guest wanted; 1: done, go on; 0: an exit for the caller. */
int exit_handle(FlatviewKvmVcpu *vcpu);

#endif
