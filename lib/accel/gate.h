/* SPDX-License-Identifier: MIT */
/*
 * gate.h - keeping vCPUs out of the guest for a moment; for accelerators whose map cannot change while one of them runs.
 */
#ifndef FLATVIEW_ACCEL_GATE_H
#define FLATVIEW_ACCEL_GATE_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

typedef struct Gate Gate;

/* A vCPU. */
typedef struct GateMember {
    Gate *gate;
    struct GateMember *next, **pprev; /* guarded by gate->lock */
    /* atomics: the two sides of a Dekker pattern with gate->closed and with each other (gate.c) */
    pid_t thread; /* that is in the guest, while in */
    int in;
    int kicked;
} GateMember;

struct Gate {
    pthread_mutex_t lock;
    pthread_cond_t opened, left;
    int closed; /* atomic: how many want nobody in the guest; written under lock */
    GateMember *members;
    void (*ready)(GateMember *member); /* about to enter: forget earlier pushes. May be NULL */
    void (*push)(GateMember *member);  /* it is, or just was, in the guest: make it leave. Any thread, also twice. May be NULL
                                          if members look at gate_wanted() themselves */
};

void gate_init(Gate *gate, void (*ready)(GateMember *member), void (*push)(GateMember *member));
void gate_fini(Gate *gate);
void gate_join(Gate *gate, GateMember *member);
void gate_part(GateMember *member); /* which is not in */

void gate_close(Gate *gate); /* returns when no other thread is in the guest; nests */
void gate_open(Gate *gate);
bool gate_enter(GateMember *member);  /* true: go; false: kicked. Waits while the gate is closed */
void gate_return(GateMember *member); /* enter after a callback: kicked or not. Waits while the gate is closed */
void gate_leave(GateMember *member);
void gate_kick(GateMember *member); /* gate_enter() will say false, now or next time */
bool gate_take_kick(GateMember *member);

/* Should the guest be left? For who is in it. */
static inline bool gate_wanted(const GateMember *member)
{
    return __atomic_load_n(&member->gate->closed, __ATOMIC_SEQ_CST) || __atomic_load_n(&member->kicked, __ATOMIC_SEQ_CST);
}

#endif
