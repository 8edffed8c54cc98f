/* SPDX-License-Identifier: MIT */
/*
 * migrate.h - what `flatview migrate` consists of: RAM, vCPUs that write it, an accelerator that writes it behind the library's
 * back, and a collector that copies what is dirty.
 */
#ifndef FLATVIEW_STRESS_MIGRATE_H
#define FLATVIEW_STRESS_MIGRATE_H

#include <flatview/memory.h>

#include <pthread.h>

enum { MIGRATE_RAMS = 3, MIGRATE_PAGES = 200, MIGRATE_PAGE = 4096, MIGRATE_BYTES = MIGRATE_PAGES * MIGRATE_PAGE };

typedef struct MigrateRam {
    MemoryRegion mr;
    MemoryRegion corner; /* its container in the space; disabled now and then, which its alias does not mind */
    uint64_t where; /* atomic: about where it is in the space now, or was a moment ago */
    uint8_t *host;
    uint8_t *copy; /* the destination's */
} MigrateRam;

extern struct Migrate {
    MigrateRam ram[MIGRATE_RAMS];
    AddressSpace as;    /* RAM moves about in it */
    AddressSpace whole; /* each RAM at i << 32, always */
    uint64_t stores, accel_stores, moves; /* atomic */
} migrate;

static inline uint64_t migrate_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* ---- migrate_accel.c: a listener whose guest writes through slots, and keeps a bitmap of its own ---- */
int migrate_accel_init(void); /* 0, or what registering returned */
void migrate_accel_fini(void);
bool migrate_accel_store(uint64_t *random); /* one store by its guest; false if nothing is mapped there just now */

#endif
