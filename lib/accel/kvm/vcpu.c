/* SPDX-License-Identifier: MIT */
/*
 * vcpu.c - the run loop.
 *
 * Invariant: a vCPU is inside KVM_RUN only between a gate_enter() that said yes and its gate_leave(), and never while a slot
 * is stuck. Established by: flatview_kvm_vcpu_run(). Relied on by: gate.c, memory.c.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* KVM looks at immediate_exit after it has blocked nothing else, so either KVM_RUN sees it or the signal ends KVM_RUN. */
void vcpu_ready(GateMember *member)
{
    __atomic_store_n(&member_vcpu(member)->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
}

void vcpu_push(GateMember *member)
{
    FlatviewKvmVcpu *vcpu = member_vcpu(member);

    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_tgkill, getpid(), __atomic_load_n(&member->thread, __ATOMIC_SEQ_CST), vcpu->kvm->config.kick_signal);
}

static void do_nothing(int signal)
{
    (void)signal;
}

int vcpu_take_signal(int signal)
{
    struct sigaction now;

    if (sigaction(signal, NULL, &now) < 0) {
        return -errno;
    }
    if (now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN) { /* without SA_RESTART: it must end KVM_RUN */
        struct sigaction ours = {.sa_handler = do_nothing};

        sigemptyset(&ours.sa_mask);
        if (sigaction(signal, &ours, NULL) < 0) {
            return -errno;
        }
    }
    return 0;
}

void flatview_kvm_vcpu_kick(FlatviewKvmVcpu *vcpu)
{
    gate_kick(&vcpu->member);
}

int flatview_kvm_vcpu_new(FlatviewKvm *kvm, int vcpu_fd, FlatviewKvmVcpu **ret_vcpu)
{
    FlatviewKvmVcpu *vcpu = calloc(1, sizeof(*vcpu));
    void *run;
    int err;

    if (!vcpu) {
        return -ENOMEM;
    }
    /* What the loop reads lies in the first two pages: kvm_run itself and the data of port accesses. */
    vcpu->run_size = 2 * kvm->page;
    run = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
    if (run == MAP_FAILED) {
        err = -errno;
        free(vcpu);
        return err;
    }
    vcpu->kvm = kvm;
    vcpu->fd = vcpu_fd;
    vcpu->run = run;
    err = zone_map(kvm, vcpu_fd);
    if (err == 0) {
        err = dirty_ring_map(vcpu);
    }
    if (err < 0) {
        munmap(run, vcpu->run_size);
        free(vcpu);
        return err;
    }
    gate_join(&kvm->gate, &vcpu->member);
    *ret_vcpu = vcpu;
    return 0;
}

int flatview_kvm_vcpu_free(FlatviewKvmVcpu *vcpu)
{
    if (__atomic_load_n(&vcpu->busy, __ATOMIC_ACQUIRE)) {
        return -EBUSY;
    }
    if (vcpu->dirty) {
        pthread_mutex_lock(&vcpu->kvm->lock);
        gate_close(&vcpu->kvm->gate);
        dirty_ring_harvest(vcpu->kvm);
        gate_open(&vcpu->kvm->gate);
        pthread_mutex_unlock(&vcpu->kvm->lock);
    }
    gate_part(&vcpu->member);
    dirty_ring_unmap(vcpu);
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
        if (__atomic_load_n(&kvm->gate.closed, __ATOMIC_RELAXED)) {
            err = memory_unstick(kvm);
            if (err < 0) {
                return err;
            }
        }
        if (!gate_enter(&vcpu->member)) {
            return -EINTR;
        }
        err = kvm_ioctl(kvm, vcpu->fd, KVM_RUN, NULL);
        gate_leave(&vcpu->member);
        if (err == -EINTR || err == -EAGAIN) {
            if (gate_take_kick(&vcpu->member)) {
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
