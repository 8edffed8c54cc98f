/* SPDX-License-Identifier: MIT */
/*
 * unicorn.h - the insides of a FlatviewUnicorn, shared by its listener and its engines.
 */
#ifndef FLATVIEW_ACCEL_UNICORN_UNICORN_H
#define FLATVIEW_ACCEL_UNICORN_UNICORN_H

#include <unicorn/unicorn.h>

#include <flatview/accel/unicorn.h>

#include "accel/gate.h"
#include "accel/slots.h"

#define ENGINE_PAGE 4096u

/* One mapping of an engine. Unmapped as it was mapped, whole. Its address is Unicorn's user data. */
typedef struct Piece {
    FlatviewUnicornVcpu *vcpu;
    hwaddr first, last;
    uint8_t *host; /* NULL: cover */
    bool readonly;
    bool stuck; /* should be gone, but the engine does not let it go */
} Piece;

struct FlatviewUnicornVcpu {
    FlatviewUnicorn *mirror;
    GateMember member;
    uc_engine *engine;
    int pc_register;
    uc_hook hooks[3];

    /* Of whoever may change the engine: its thread while it is in the gate, a commit while the gate is closed. */
    Piece **pieces; /* ascending, disjoint */
    size_t n_pieces, cap_pieces;
    Piece *spare; /* for cover: there is one, or there is cover that can be given up */
    const Piece *active; /* cover whose callback is running: must not be unmapped */
    bool storing;        /* a store to write-protected memory is being dispatched: no other memory may come there, for */
    hwaddr store_addr;   /* Unicorn goes on with the store after the callback */
    bool late;           /* a slot waits for one of these */
    bool missing;        /* a slot was refused by the engine; written under mirror->lock, as late */
    size_t n_stuck;
    uc_err stuck_error;
    bool paused;         /* we have stopped the engine, nobody else */
    uint64_t stopped_at; /* the block before which it was */
    int busy;            /* inside flatview_unicorn_vcpu_run(); atomic */
};

/* Locks, outermost first: the topology lock, lock, gate.lock. */
struct FlatviewUnicorn {
    AddressSpace *memory;
    MemoryListener listener;
    Gate gate;

    pthread_mutex_t lock; /* the table, the plan */
    SlotTable table;
    SlotPlan plan;
    bool planned, removed, added, holding;
    bool again; /* engines had refused something before this commit */
    bool attached; /* detached has not been called yet: after unregistering in a callback of a listener it comes later */
    bool doomed;   /* to be freed then */
    FlatviewUnicornStats stats; /* atomics */
};

static inline void stat_add(uint64_t *count)
{
    __atomic_add_fetch(count, 1, __ATOMIC_RELAXED);
}

static inline void stat_refused(FlatviewUnicorn *mirror, uc_err err)
{
    stat_add(&mirror->stats.refused);
    __atomic_store_n(&mirror->stats.last_error, (uint64_t)err, __ATOMIC_RELAXED);
}

static inline FlatviewUnicornVcpu *member_vcpu(GateMember *member)
{
    return (FlatviewUnicornVcpu *)((char *)member - offsetof(FlatviewUnicornVcpu, member));
}

/* mirror.c */
uc_err mirror_settle(FlatviewUnicornVcpu *vcpu); /* what was late or refused; why the engine must not run, if something is stuck.
                                                    On the engine's thread, outside the gate: a commit that holds lock may
                                                    be waiting for the gate */

/* pieces.c */
bool pieces_init(FlatviewUnicornVcpu *vcpu); /* false: no memory */
size_t pieces_lower(const FlatviewUnicornVcpu *vcpu, hwaddr addr); /* index of the first that ends at addr or later */
void pieces_unmap_slot(FlatviewUnicornVcpu *vcpu, const Slot *slot);
void pieces_map_slot(FlatviewUnicornVcpu *vcpu, const Slot *slot); /* also if it is mapped already */
void pieces_settle(FlatviewUnicornVcpu *vcpu);                     /* once more, what did not go; under mirror->lock */
bool pieces_cover(FlatviewUnicornVcpu *vcpu, hwaddr addr);         /* map cover around addr, where nothing is mapped */
void pieces_forget_code(FlatviewUnicornVcpu *vcpu, hwaddr first, hwaddr last);
void pieces_fini(FlatviewUnicornVcpu *vcpu);

/* engine.c: what the guest does where it has no memory of its own. */
uint64_t engine_read(uc_engine *engine, uint64_t offset, unsigned size, void *piece);
void engine_write(uc_engine *engine, uint64_t offset, unsigned size, uint64_t value, void *piece);
uc_err engine_hook(FlatviewUnicornVcpu *vcpu);
void engine_unhook(FlatviewUnicornVcpu *vcpu);

#endif
