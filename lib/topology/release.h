/* SPDX-License-Identifier: MIT */
/*
 * release.h - the end of a region: from destroyed to the owner's memory again.
 */
#ifndef FLATVIEW_TOPOLOGY_RELEASE_H
#define FLATVIEW_TOPOLOGY_RELEASE_H

#include "topology/region.h"

/* Free what init made (name, ops, host memory); topo's region_init knows what that is. Any thread, no lock. */
void region_fini(MemoryRegion *mr);

/* The transaction that destroyed mr has committed: wait for those who can still see it, then release. Cannot fail. Under
   the topology lock. */
void region_retire(MemoryRegion *mr);

uint64_t region_live_count(void);

#endif
