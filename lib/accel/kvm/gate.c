/* SPDX-License-Identifier: MIT */
/*
 * gate.c - keeping vCPUs out of the guest for a moment.
 *
 * Invariant: when gate_close() has returned, and until the matching gate_open(), no vCPU of the machine is inside KVM_RUN.
 * Established by: gate_enter() and gate_close(), each of which first says what it is about to do and then looks at what the
 * other has said, both in the one order of sequentially consistent operations: at least one of them sees the other.
 * Relied on by: the listener, which replaces slots in between.
 *
 * A vCPU that runs a device's callback, or waits in it for the topology lock that the closer holds, is not in the guest:
 * nobody waits for it, so a commit from inside a vCPU's own exit closes the gate like any other.
 *
 * A kick is never lost: immediate_exit is cleared before the vCPU says that it enters, and set by whoever has seen it enter;
 * KVM looks at it after it has blocked nothing else, so either KVM_RUN sees it or the signal ends KVM_RUN.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RETRY_NS 2000000 /* a signal may be blocked for a moment by the program's own handlers */

#define ATOMIC_GET(field) __atomic_load_n(&(field), __ATOMIC_SEQ_CST)
#define ATOMIC_SET(field, value) __atomic_store_n(&(field), (value), __ATOMIC_SEQ_CST)

static void do_nothing(int signal)
{
    (void)signal;
}

int gate_take_signal(int signal)
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

static void push_out(FlatviewKvmVcpu *vcpu)
{
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_tgkill, getpid(), ATOMIC_GET(vcpu->thread), vcpu->kvm->config.kick_signal);
}

void gate_close(FlatviewKvm *kvm)
{
    FlatviewKvmVcpu *vcpu;

    pthread_mutex_lock(&kvm->gate_lock);
    ATOMIC_SET(kvm->closed, kvm->closed + 1);
    for (vcpu = kvm->vcpus; vcpu; vcpu = vcpu->next) {
        if (ATOMIC_GET(vcpu->in_guest)) {
            push_out(vcpu);
        }
    }
    /* All of them have been told; now wait for each. None can enter again, so the list may be gone through once. */
    for (vcpu = kvm->vcpus; vcpu; vcpu = vcpu->next) {
        while (ATOMIC_GET(vcpu->in_guest)) {
            struct timespec until;

            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += RETRY_NS;
            if (until.tv_nsec >= 1000000000) {
                until.tv_sec++;
                until.tv_nsec -= 1000000000;
            }
            if (pthread_cond_timedwait(&kvm->gate_left, &kvm->gate_lock, &until) == ETIMEDOUT &&
                ATOMIC_GET(vcpu->in_guest)) {
                push_out(vcpu);
            }
        }
    }
    pthread_mutex_unlock(&kvm->gate_lock);
}

void gate_open(FlatviewKvm *kvm)
{
    pthread_mutex_lock(&kvm->gate_lock);
    ATOMIC_SET(kvm->closed, kvm->closed - 1);
    pthread_cond_broadcast(&kvm->gate_opened);
    pthread_mutex_unlock(&kvm->gate_lock);
}

static void wait_open(FlatviewKvmVcpu *vcpu)
{
    FlatviewKvm *kvm = vcpu->kvm;

    pthread_mutex_lock(&kvm->gate_lock);
    while (kvm->closed && !ATOMIC_GET(vcpu->kicked)) {
        pthread_cond_wait(&kvm->gate_opened, &kvm->gate_lock);
    }
    pthread_mutex_unlock(&kvm->gate_lock);
}

bool gate_enter(FlatviewKvmVcpu *vcpu)
{
    for (;;) {
        __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
        ATOMIC_SET(vcpu->thread, (pid_t)syscall(SYS_gettid));
        ATOMIC_SET(vcpu->in_guest, 1);
        if (!ATOMIC_GET(vcpu->kvm->closed) && !ATOMIC_GET(vcpu->kicked)) {
            return true;
        }
        gate_leave(vcpu);
        if (__atomic_exchange_n(&vcpu->kicked, 0, __ATOMIC_SEQ_CST)) {
            return false;
        }
        wait_open(vcpu);
    }
}

void gate_leave(FlatviewKvmVcpu *vcpu)
{
    FlatviewKvm *kvm = vcpu->kvm;

    ATOMIC_SET(vcpu->in_guest, 0);
    if (ATOMIC_GET(kvm->closed)) {
        pthread_mutex_lock(&kvm->gate_lock);
        pthread_cond_broadcast(&kvm->gate_left);
        pthread_mutex_unlock(&kvm->gate_lock);
    }
}

void flatview_kvm_vcpu_kick(FlatviewKvmVcpu *vcpu)
{
    ATOMIC_SET(vcpu->kicked, 1);
    if (ATOMIC_GET(vcpu->in_guest)) {
        push_out(vcpu);
    } else if (ATOMIC_GET(vcpu->kvm->closed)) {
        pthread_mutex_lock(&vcpu->kvm->gate_lock);
        pthread_cond_broadcast(&vcpu->kvm->gate_opened);
        pthread_mutex_unlock(&vcpu->kvm->gate_lock);
    }
}
