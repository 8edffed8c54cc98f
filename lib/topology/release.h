/* SPDX-License-Identifier: MIT */
/*
 * release.h - the end of a region: from destroyed to the owner's memory again.
 */
#ifndef FLATVIEW_TOPOLOGY_RELEASE_H
#define FLATVIEW_TOPOLOGY_RELEASE_H

#include "topology/region.h"

/* The transaction that destroyed mr has committed: wait for those who can still see it, then release. Cannot fail. Under
   the topology lock. */
void region_retire(MemoryRegion *mr);

#endif
