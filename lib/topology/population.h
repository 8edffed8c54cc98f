/* SPDX-License-Identifier: MIT */
/*
 * population.h - which ranges of a RAM region have memory: sources, and who is told.
 *
 * Invariant: a granule that no source has discarded is populated. A registered listener has heard populate() of exactly what is
 * populated in its section, or is in the middle of hearing so. Under the population lock, as everything here but creation.
 * Established by: the functions below. Relied on by: listeners, who pin what is populated.
 *
 * Callbacks run under the lock. Its rank is above the topology's: a listener registers from region_add. So the caller has said
 * (txn_set_notifying()) that this thread must not wait for the topology lock.
 */
#ifndef FLATVIEW_TOPOLOGY_POPULATION_H
#define FLATVIEW_TOPOLOGY_POPULATION_H

#include <flatview/memory_population.h>

#include "topology/region.h"

typedef struct Population {
    Lock lock;
    uint64_t last;             /* size of the block - 1 */
    RamDiscardSource *sources; /* in no order; whether there are any may be asked without the lock */
    RamDiscardListener *listeners, *listeners_last; /* in the order of registration */
} Population;

typedef int (*PopulationFn)(const MemoryRegionSection *section, void *arg);

/* Of a region with host memory; made if need be. NULL: -ENOMEM. Freed with the region. Any thread. */
Population *population_of(MemoryRegion *mr);
void population_free(Population *p); /* NULL is a no-op */

/* By this thread? Then it is in a callback, or about to run one. */
bool population_enter(Population *p); /* true: was entered, to be left */
void population_leave(Population *p);
bool population_inside(void);               /* of any */
bool population_is_inside(const Population *p); /* of this one */

/* Lock held. discarded: a DirtyBitmap of the block's size, none set, which the source takes over. */
void population_add(Population *p, RamDiscardSource *source, void *discarded);
void population_del(Population *p, RamDiscardSource *source); /* and frees its bits; agrees with all others by then */
/* first to last is in whole granules of the source. 0, or what a listener refused with. */
int population_populate(Population *p, RamDiscardSource *source, uint64_t first, uint64_t last);
void population_discard(Population *p, RamDiscardSource *source, uint64_t first, uint64_t last);
int population_register(Population *p, RamDiscardListener *listener);
void population_unregister(Population *p, RamDiscardListener *listener);
/* Pieces of a section that are so: what fn returned last. */
int population_replay(const Population *p, const MemoryRegionSection *section, bool populated, PopulationFn fn, void *arg);

#endif
