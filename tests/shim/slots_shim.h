/* SPDX-License-Identifier: MIT */
/*
 * slots_shim.h - lib/accel/slots.h for tests: a listener that keeps a table and tells nobody.
 */
#ifndef FLATVIEW_TESTS_SLOTS_SHIM_H
#define FLATVIEW_TESTS_SLOTS_SHIM_H

#include <flatview/memory.h>

FLATVIEW_BEGIN_DECLS

typedef struct ShimSlots ShimSlots;

typedef struct ShimSlot {
    hwaddr first;
    uint64_t size;
    uint8_t *host;
    MemoryRegion *mr;
    bool readonly;
    uint32_t id;
} ShimSlot;

/* What the last commit that changed something planned. */
typedef struct ShimPlan {
    size_t n_remove, n_add, n_spans;
    bool replaces, overlaps; /* by slots.c; by looking at each pair */
    const ShimSlot *before;  /* the table as it was, */
    size_t n_before;
    const hwaddr *spans; /* and the spans, first and last of each */
} ShimPlan;

ShimSlots *shim_slots_new(AddressSpace *as, uint32_t limit, uint64_t max_bytes, bool merges);
void shim_slots_free(ShimSlots *slots);
size_t shim_slots_copy(const ShimSlots *slots, ShimSlot *ret, size_t room); /* how many there are */
const ShimPlan *shim_slots_plan(const ShimSlots *slots);

FLATVIEW_END_DECLS

#endif
