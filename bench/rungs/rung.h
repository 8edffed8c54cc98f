/* SPDX-License-Identifier: MIT */
/*
 * rung.h - one design of a memory map, measured against others over the same regions, the same accesses, the same changes.
 *
 * Invariant: every rung stands for the regions of one Map (maps.h): region i at map_addr(i), answering with i. Accesses are
 * of 4 bytes, aligned, and each rung's loops (loops.h) draw the same regions and offsets from the same generator, so whoever
 * adds up what was read has proven which regions were read. A rung that cannot do a thing leaves the function NULL, and
 * the scenario says so.
 *
 *   generator    the loop that makes the addresses, and nothing else: to be subtracted from all others
 *   nothing      the index of the region falls out of the address, and its number or its memory is loaded: no call, no check
 *   bare         the same, and the device's callback is called through its record
 *   mutex        a sorted array of ranges under a mutex: branch-free search, bounds, size and alignment checks
 *   rwlock       the same, with readers under the read side of a rwlock
 *   rcu-rebuild  the same array, immutable, found in an inlined RCU read section; each change renders all of it anew, QEMU's
 *                way, but kinder than QEMU does: linear in n, one copy
 *   flatview     the library
 *   unicorn      Unicorn Engine, from Debian: a guest loop does the accesses; changes are its map and unmap
 *   uc_mem       the same engine, accessed from the host by uc_mem_read() and uc_mem_write()
 */
#ifndef FLATVIEW_BENCH_RUNG_H
#define FLATVIEW_BENCH_RUNG_H

#include "bench.h"
#include "maps.h"

/* Each has a way there and a way back. There: hidden; half a stride up; twice as large. */
typedef enum RungChange { RUNG_TOGGLE, RUNG_MOVE, RUNG_RESIZE, RUNG_CHANGES } RungChange;

extern const char *const rung_change_names[RUNG_CHANGES];

/* Where the region stands after the change: [first, last], or nowhere. */
typedef struct RungPlace {
    uint64_t first, last;
    bool there;
} RungPlace;

static inline RungPlace rung_place(RungChange change, size_t i, bool back)
{
    uint64_t home = map_addr(i);

    return (RungPlace){
        .first = change == RUNG_MOVE && !back ? home + MAP_STRIDE / 2 : home,
        .last = (change == RUNG_MOVE && !back ? home + MAP_STRIDE / 2 : home) +
                (change == RUNG_RESIZE && !back ? 2 * MAP_SIZE : MAP_SIZE) - 1,
        .there = change != RUNG_TOGGLE || back,
    };
}

/* Which regions a loop draws: (random & mask) << shift. */
typedef struct Loop {
    void *self; /* what open() gave */
    uint64_t mask;
    unsigned shift;
    uint64_t state; /* of the generator */
} Loop;

typedef struct Rung {
    const char *name;
    size_t n_max;               /* regions; 0: any number */
    bool grows;                 /* a change costs more the more regions there are: do fewer */
    void *(*open)(Map *map);    /* NULL: not on this machine; the reason was printed */
    void (*close)(void *self);  /* the map is the caller's, and outlives this */
    /* n accesses; a Loop */
    uint64_t (*loads)(void *loop, uint64_t n);  /* the next address does not depend on what was read */
    uint64_t (*chain)(void *loop, uint64_t n);  /* it does, as a guest's next exit depends on the answer to the last */
    uint64_t (*stores)(void *loop, uint64_t n);
    /* One access anywhere: does anything answer? */
    bool (*probe)(void *self, uint64_t addr, uint32_t *ret_value);
    /* One change, complete when it returns; NULL: nothing to change. */
    bool (*change)(void *self, RungChange change, size_t i, bool back);
    void (*settle)(void *self); /* wait for what changes have left to a worker; NULL: nothing */
} Rung;

extern const Rung rung_generator, rung_nothing, rung_bare, rung_mutex, rung_rwlock, rung_rebuild, rung_flatview;
extern const Rung rung_unicorn, rung_uc_mem;

/* All of them, in this order; NULL at the end. Those that were not built are left out. */
extern const Rung *const rungs[];

#endif
