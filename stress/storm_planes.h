/* SPDX-License-Identifier: MIT */
/*
 * storm_planes.h - what `flatview storm --planes` adds: parts of the API beside the map, each stormed in a space of its own.
 *
 * Each part is a StormPlane. Its machine is small and known to it exactly, so it can say what must happen; the library's
 * locks, readers and grace periods it shares with the storm around it.
 *
 *   storm_planes.c      the threads, and their moments of rest
 *   storm_fact.c        what was in force when
 *   storm_dirty.c       the dirty log and a migration by it; storm_log_mirror.c: who is told of its masks
 *   storm_doorbell.c    ioeventfds: what changes; storm_doorbell_ring.c: who rings
 *   storm_coalesced.c   coalesced MMIO
 *   storm_iommu.c       translations that change; storm_iommu_access.c: who is translated
 *   storm_dma.c         hot-unplug of memory that is mapped (storm_dma_map.c) and looked at (storm_windows.c)
 *   storm_serial.c      locks of regions, stops, and accesses that come back
 *   storm_resize.c      RAM that grows, shrinks and dies under the log; global logging
 *   storm_interpose.c   interposers put in and taken out
 */
#ifndef FLATVIEW_STRESS_STORM_PLANES_H
#define FLATVIEW_STRESS_STORM_PLANES_H

#include "storm.h"

#define PLANE_VCPUS 2 /* they have the indices 0 and up */

typedef enum PlaneRole { PLANE_VCPU, PLANE_WRITER, PLANE_COLLECTOR, PLANE_ROLES } PlaneRole;

typedef struct StormPlane {
    const char *name;                          /* as in --planes=NAME */
    bool (*start)(void);                       /* before any thread; what it made so far, finish() takes back */
    void (*turn[PLANE_ROLES])(StormThread *t); /* a burst, over and over; one writer, one collector; NULL: none */
    void (*judge)(void);                       /* nobody is in a turn */
    void (*finish)(void);                      /* after all threads; everything of its own is to be gone */
    const char *const *kinds;                  /* what must happen in every run, ending with NULL; and */
    uint64_t *did;                             /* how often it did: see plane_did() */
    const char *const *sabotages;              /* which it is there to notice, ending with NULL */
} StormPlane;

extern const StormPlane storm_dirty;
extern const StormPlane storm_doorbell;
extern const StormPlane storm_coalesced;
extern const StormPlane storm_iommu;
extern const StormPlane storm_dma;
extern const StormPlane storm_serial;
extern const StormPlane storm_resize;
extern const StormPlane storm_interpose;

/* storm_log_mirror.c: of the space that storm_dirty.c changes */
bool log_mirror_start(AddressSpace *as, uint64_t *did);
void log_mirror_judge(void);
void log_mirror_stop(void);

bool planes_choose(const char *name); /* one more; NULL: all. False: there is none of this name */
bool planes_choose_for(const char *sabotage); /* what is to notice that */
bool planes_start(void);
bool planes_blow(void);     /* the threads */
void planes_rest(void);     /* all stand still and are judged, and go on */
bool planes_complete(void); /* everything that must happen has */
void planes_stop(void);     /* after storm.stop: once more, then take everything back */
void planes_print(void);

/* @n more of what StormPlane.kinds names. Any thread. */
static inline void plane_did(uint64_t *did, uint64_t n)
{
    __atomic_fetch_add(did, n, __ATOMIC_RELAXED);
}

/* 0, or a violation that says @what of @plane failed. */
bool plane_ok(const StormPlane *plane, const char *what, int error);

/* Spaces and regions of static memory, each list ending with NULL, regions with aliases first. They are released
   when storm_calm() has let go of the views that it has pinned: it waits for that. */
void plane_end(const StormPlane *plane, AddressSpace *const *spaces, MemoryRegion *const *regions);

/* ---- facts (storm_fact.c) ---- */

#define FACT_RING 16u

/* A word that one writer changes by something which takes effect at some moment between fact_begin() and fact_end(). */
typedef struct Fact {
    uint64_t clock; /* atomic: 2k while the kth value is in force, 2k + 1 while the next one may be as well */
    uint64_t ring[FACT_RING]; /* atomic */
} Fact;

void fact_init(Fact *fact, uint64_t value);
void fact_begin(Fact *fact, uint64_t next);
void fact_end(Fact *fact, bool done); /* not done: the old value stays in force, the next one never was */
uint64_t fact_value(const Fact *fact); /* the last that was surely in force */

/* Before an access, and after it: was @value, as far as @mask, in force at some time between? True also if there were too
   many to know. */
uint64_t fact_now(const Fact *fact);
bool fact_allows(const Fact *fact, uint64_t since, uint64_t value, uint64_t mask);

#endif
