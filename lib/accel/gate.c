/* SPDX-License-Identifier: MIT */
/*
 * gate.c - a door between vCPUs and the guest.
 *
 * Invariant: when gate_close() has returned, and until the matching gate_open(), no other thread is between gate_enter() and
 * gate_leave().
 * Established by: gate_enter() and gate_close(), each of which first says what it is about to do and then looks at what the
 * other has said, both in the one order of sequentially consistent operations: at least one of them sees the other.
 * Relied on by: listeners, which change in between what a guest must not see changing.
 *
 * A vCPU that runs a device's callback, or waits in it for the topology lock that the closer holds, has left: nobody waits
 * for it, so a commit from inside a vCPU's own access closes the gate like any other.
 *
 * A kick is never lost: ready() forgets pushes before the vCPU says that it is in, and push() comes from whoever has seen
 * that it is.
 */
#include "accel/gate.h"

#include "accel/sabotage.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RETRY_NS 2000000 /* a push may be held up: a signal blocked for a moment by the program's own handlers */

#define ATOMIC_GET(field) __atomic_load_n(&(field), __ATOMIC_SEQ_CST)
#define ATOMIC_SET(field, value) __atomic_store_n(&(field), (value), __ATOMIC_SEQ_CST)

void gate_init(Gate *gate, void (*ready)(GateMember *member), void (*push)(GateMember *member))
{
    *gate = (Gate){.ready = ready, .push = push};
    pthread_mutex_init(&gate->lock, NULL);
    pthread_cond_init(&gate->opened, NULL);
    pthread_cond_init(&gate->left, NULL);
}

void gate_fini(Gate *gate)
{
    pthread_cond_destroy(&gate->left);
    pthread_cond_destroy(&gate->opened);
    pthread_mutex_destroy(&gate->lock);
}

void gate_join(Gate *gate, GateMember *member)
{
    *member = (GateMember){.gate = gate};
    pthread_mutex_lock(&gate->lock);
    member->next = gate->members;
    member->pprev = &gate->members;
    if (member->next) {
        member->next->pprev = &member->next;
    }
    gate->members = member;
    pthread_mutex_unlock(&gate->lock);
}

void gate_part(GateMember *member)
{
    Gate *gate = member->gate;

    pthread_mutex_lock(&gate->lock);
    *member->pprev = member->next;
    if (member->next) {
        member->next->pprev = member->pprev;
    }
    pthread_mutex_unlock(&gate->lock);
}

static pid_t own_thread(void)
{
    return (pid_t)syscall(SYS_gettid);
}

/* In the guest, and not in a hook of the guest that has called us. */
static bool is_in(GateMember *member, pid_t self)
{
    return ATOMIC_GET(member->in) && ATOMIC_GET(member->thread) != self;
}

static void push(GateMember *member)
{
    if (member->gate->push) {
        member->gate->push(member);
    }
}

static void wait_left(Gate *gate)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += RETRY_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&gate->left, &gate->lock, &until);
}

void gate_close(Gate *gate)
{
    pid_t self = own_thread();
    GateMember *member;

    pthread_mutex_lock(&gate->lock);
    ATOMIC_SET(gate->closed, gate->closed + 1);
    if (accel_sabotaged(ACCEL_SABOTAGE_SKIP_KICK)) {
        pthread_mutex_unlock(&gate->lock);
        return;
    }
    for (member = gate->members; member; member = member->next) {
        if (is_in(member, self)) {
            push(member);
        }
    }
    /* All of them have been told; now wait for each. None can enter again, but one may join or part: from the start then. */
    for (member = gate->members; member;) {
        if (!is_in(member, self)) {
            member = member->next;
            continue;
        }
        wait_left(gate);
        for (member = gate->members; member && !is_in(member, self); member = member->next) {
        }
        if (member) {
            push(member);
        }
    }
    pthread_mutex_unlock(&gate->lock);
}

void gate_open(Gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    ATOMIC_SET(gate->closed, gate->closed - 1);
    pthread_cond_broadcast(&gate->opened);
    pthread_mutex_unlock(&gate->lock);
}

static void wait_open(GateMember *member, bool until_kicked)
{
    Gate *gate = member->gate;

    pthread_mutex_lock(&gate->lock);
    while (gate->closed && !(until_kicked && ATOMIC_GET(member->kicked))) {
        pthread_cond_wait(&gate->opened, &gate->lock);
    }
    pthread_mutex_unlock(&gate->lock);
}

bool gate_take_kick(GateMember *member)
{
    return __atomic_exchange_n(&member->kicked, 0, __ATOMIC_SEQ_CST);
}

bool gate_enter(GateMember *member)
{
    for (;;) {
        if (member->gate->ready) {
            member->gate->ready(member);
        }
        ATOMIC_SET(member->thread, own_thread());
        ATOMIC_SET(member->in, 1);
        if (!gate_wanted(member)) {
            return true;
        }
        gate_leave(member);
        if (gate_take_kick(member)) {
            return false;
        }
        wait_open(member, true);
    }
}

void gate_return(GateMember *member)
{
    for (;;) {
        ATOMIC_SET(member->in, 1);
        if (!ATOMIC_GET(member->gate->closed)) {
            return;
        }
        gate_leave(member);
        wait_open(member, false);
    }
}

void gate_leave(GateMember *member)
{
    Gate *gate = member->gate;

    ATOMIC_SET(member->in, 0);
    if (ATOMIC_GET(gate->closed)) {
        pthread_mutex_lock(&gate->lock);
        pthread_cond_broadcast(&gate->left);
        pthread_mutex_unlock(&gate->lock);
    }
}

void gate_kick(GateMember *member)
{
    Gate *gate = member->gate;

    ATOMIC_SET(member->kicked, 1);
    if (ATOMIC_GET(member->in)) {
        push(member);
    } else if (ATOMIC_GET(gate->closed)) {
        pthread_mutex_lock(&gate->lock);
        pthread_cond_broadcast(&gate->opened);
        pthread_mutex_unlock(&gate->lock);
    }
}
