/* SPDX-License-Identifier: MIT */
/*
 * release.h - the end of a region: from destroyed to the owner's memory again.
 */
#ifndef FLATVIEW_TOPOLOGY_RELEASE_H
#define FLATVIEW_TOPOLOGY_RELEASE_H

#include "base/retire.h"
#include "base/sabotage.h"
#include "topology/region.h"

/* The transaction that destroyed mr has committed: wait for those who can still see it, then release. Cannot fail. Under
   the topology lock. */
void region_retire(MemoryRegion *mr);

/* Its memory is mapped once more, once less. A hold delays release and nothing else: it is of this region alone, no
   writer waits for it. Any context, no lock; the first in the read section, or the pin, in which mr was found. */
static inline void region_hold(MemoryRegion *mr)
{
    if (!sabotaged(SABOTAGE_DROP_HOLD)) {
        retire_hold(&mr->retire);
    }
}

static inline void region_unhold(MemoryRegion *mr)
{
    if (!sabotaged(SABOTAGE_DROP_HOLD)) {
        retire_unhold(&mr->retire);
    }
}

#endif
