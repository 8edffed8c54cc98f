/* SPDX-License-Identifier: MIT */
/*
 * vcpu.c - the run loop.
 *
 * Invariant: a vCPU is inside KVM_RUN only between a gate_enter() that said yes and its gate_leave(), and never while a slot
 * is stuck. Established by: flatview_kvm_vcpu_run(). Relied on by: gate.c, memory.c.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

int flatview_kvm_vcpu_new(FlatviewKvm *kvm, int vcpu_fd, FlatviewKvmVcpu **ret_vcpu)
{
    FlatviewKvmVcpu *vcpu = calloc(1, sizeof(*vcpu));
    void *run;

    if (!vcpu) {
        return -ENOMEM;
    }
    /* What the loop reads lies in the first two pages: kvm_run itself and the data of port accesses. */
    vcpu->run_size = 2 * kvm->page;
    run = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
    if (run == MAP_FAILED) {
        free(vcpu);
        return -errno;
    }
    vcpu->kvm = kvm;
    vcpu->fd = vcpu_fd;
    vcpu->run = run;
    pthread_mutex_lock(&kvm->gate_lock);
    vcpu->next = kvm->vcpus;
    vcpu->pprev = &kvm->vcpus;
    if (vcpu->next) {
        vcpu->next->pprev = &vcpu->next;
    }
    kvm->vcpus = vcpu;
    pthread_mutex_unlock(&kvm->gate_lock);
    *ret_vcpu = vcpu;
    return 0;
}

int flatview_kvm_vcpu_free(FlatviewKvmVcpu *vcpu)
{
    FlatviewKvm *kvm = vcpu->kvm;

    if (__atomic_load_n(&vcpu->busy, __ATOMIC_ACQUIRE)) {
        return -EBUSY;
    }
    pthread_mutex_lock(&kvm->gate_lock);
    *vcpu->pprev = vcpu->next;
    if (vcpu->next) {
        vcpu->next->pprev = vcpu->pprev;
    }
    pthread_mutex_unlock(&kvm->gate_lock);
    munmap(vcpu->run, vcpu->run_size);
    free(vcpu);
    return 0;
}

struct kvm_run *flatview_kvm_vcpu_state(FlatviewKvmVcpu *vcpu)
{
    return vcpu->run;
}

static int run_guest(FlatviewKvmVcpu *vcpu)
{
    FlatviewKvm *kvm = vcpu->kvm;
    int err;

    for (;;) {
        if (__atomic_load_n(&kvm->closed, __ATOMIC_RELAXED)) {
            err = memory_unstick(kvm);
            if (err < 0) {
                return err;
            }
        }
        if (!gate_enter(vcpu)) {
            return -EINTR;
        }
        err = kvm_ioctl(kvm, vcpu->fd, KVM_RUN, NULL);
        gate_leave(vcpu);
        if (err == -EINTR || err == -EAGAIN) {
            if (__atomic_exchange_n(&vcpu->kicked, 0, __ATOMIC_SEQ_CST)) {
                return -EINTR;
            }
            /* A signal of the gate's, or of somebody else: only the latter is the caller's business. */
            if (err == -EINTR && !__atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_SEQ_CST)) {
                return -EINTR;
            }
            continue;
        }
        if (err < 0) {
            return err;
        }
        if (!exit_handle(vcpu)) {
            return 0;
        }
    }
}

int flatview_kvm_vcpu_run(FlatviewKvmVcpu *vcpu)
{
    int err;

    if (memory_read_ongoing() || __atomic_exchange_n(&vcpu->busy, 1, __ATOMIC_ACQUIRE)) {
        return -EDEADLK;
    }
    err = run_guest(vcpu);
    __atomic_store_n(&vcpu->busy, 0, __ATOMIC_RELEASE);
    return err;
}
