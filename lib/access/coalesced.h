/* SPDX-License-Identifier: MIT */
/*
 * coalesced.h - flushes, for accesses and for the api: in a read section. See flatview/memory_coalesced.h for the order of things.
 */
#ifndef FLATVIEW_ACCESS_COALESCED_H
#define FLATVIEW_ACCESS_COALESCED_H

#include <flatview/memory_coalesced.h>

#include "view/flat_range.h"

/* Deliver what waits in mr, or everywhere, as far as this thread may. */
void coalesced_flush(const MemoryRegion *mr);
void coalesced_flush_all(void);

/* A write to a region with REGION_HOOK_COALESCED. True: it has been taken, or refused. False: it goes its usual way, and what
   it must not overtake has been delivered. */
bool coalesced_take_write(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs, uint64_t value,
                          MemTxResult *ret_result);

/* coalesced_source.c: have accelerators hand in what they have collected. False: that is all; else make room and ask again. */
bool coalesced_collect(void);
int coalesced_source_add(MemoryCoalescedSource *source);
int coalesced_source_remove(MemoryCoalescedSource *source);

/* One such write, size bytes of a little-endian number, to the range at offset: 0, -ENOBUFS, -EACCES, -ENOENT. In a read section. */
int coalesced_queue(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs, uint64_t value, bool withdrawn);
size_t coalesced_room(const MemoryRegion *mr);

#endif
