/* SPDX-License-Identifier: MIT */
/*
 * storm_planes.h - what `flatview storm --planes` adds: parts of the API beside the map, each stormed in a space of its own.
 *
 * Each part is a StormPlane. Its machine is small and known to it exactly, so it can say what must happen; the library's
 * locks, readers and grace periods it shares with the storm around it.
 */
#ifndef FLATVIEW_STRESS_STORM_PLANES_H
#define FLATVIEW_STRESS_STORM_PLANES_H

#include "storm.h"

#define PLANE_VCPUS 2 /* they have the indices 0 and up */

typedef enum PlaneRole { PLANE_VCPU, PLANE_WRITER, PLANE_COLLECTOR, PLANE_ROLES } PlaneRole;

typedef struct StormPlane {
    const char *name;
    bool (*start)(void);                       /* before any thread; what it made so far, finish() takes back */
    void (*turn[PLANE_ROLES])(StormThread *t); /* a burst, over and over; one writer, one collector; NULL: none */
    void (*judge)(void);                       /* nobody is in a turn */
    void (*finish)(void);                      /* after all threads; everything of its own is to be gone */
} StormPlane;

extern const StormPlane storm_dirty;    /* storm_dirty.c */
extern const StormPlane storm_doorbell; /* storm_doorbell.c */

bool planes_start(void);
bool planes_blow(void); /* the threads */
void planes_rest(void); /* all stand still and are judged, and go on */
void planes_stop(void); /* after storm.stop: once more, then take everything back */
void planes_print(void);

/* What was judged: counted by whoever judges, printed at the end. */
void plane_count(const StormPlane *plane, uint64_t n);

/* 0, or a violation that says @what of @plane failed. */
bool plane_ok(const StormPlane *plane, const char *what, int error);

/* Spaces and regions of static memory, each list ending with NULL, regions with aliases first. They are released
   when storm_calm() has let go of the views that it has pinned: it waits for that. */
void plane_end(const StormPlane *plane, AddressSpace *const *spaces, MemoryRegion *const *regions);

#endif
