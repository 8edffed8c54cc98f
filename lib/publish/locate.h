/* SPDX-License-Identifier: MIT */
/*
 * locate.h - from a region to the addresses at which views show it.
 */
#ifndef FLATVIEW_PUBLISH_LOCATE_H
#define FLATVIEW_PUBLISH_LOCATE_H

#include "publish/space.h"

typedef int (*LocateFn)(AddressSpace *as, const MemoryRegionSection *section, void *arg);

/* Each piece of window, in mr's coordinates, that a space shows: spaces in order of creation, addresses ascending. In an own
   transaction what is staged is what counts. Under the topology lock. What fn returned, or 0; -ENOMEM, -E2BIG. */
int locate_region(MemoryRegion *mr, AddrRange window, LocateFn fn, void *arg);

#endif
