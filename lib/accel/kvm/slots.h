/* SPDX-License-Identifier: MIT */
/*
 * slots.h - which slots a view asks for, and how to get there from those that there are. Knows nothing of ioctls.
 */
#ifndef FLATVIEW_ACCEL_KVM_SLOTS_H
#define FLATVIEW_ACCEL_KVM_SLOTS_H

#include <flatview/accel/kvm.h>
#include <flatview/memory.h>

typedef struct Slot {
    hwaddr first;
    uint64_t size;
    uint8_t *host;
    uint32_t flags;
    uint32_t id;
    bool missing; /* not in the kernel, though it should be */
} Slot;

typedef struct SlotTable {
    Slot *at; /* ascending, disjoint; each lies in one range of the view that is mirrored */
    size_t n, cap;
    size_t n_missing;
    Slot *stuck; /* in the kernel, though they should not be; in no order */
    size_t n_stuck, cap_stuck;
    unsigned char *used; /* a bit for each id */
    uint32_t limit;      /* ids are less */
} SlotTable;

/* What a delta does to a table: take these away, then put those in place. */
typedef struct SlotPlan {
    Slot *remove, *add; /* ascending */
    size_t n_remove, cap_remove, n_add, cap_add;
    bool replaces; /* an address is in one of each: a guest that runs meanwhile would miss its memory */
} SlotPlan;

int slots_init(SlotTable *table, uint32_t limit); /* 0 or -ENOMEM */
void slots_fini(SlotTable *table);

/*
 * 0; -ENOSPC: more slots than the table may have; -ENOMEM. The table is unchanged but has room for what is planned, so
 * carrying it out needs no memory.
 */
int slots_plan(SlotTable *table, const MemoryDelta *delta, uint64_t page, SlotPlan *plan);
void slots_plan_clear(SlotPlan *plan);
void slots_plan_fini(SlotPlan *plan);

Slot *slots_find(SlotTable *table, hwaddr first);               /* the one that begins there, or NULL */
size_t slots_lower(const SlotTable *table, hwaddr addr);        /* index of the first that ends at addr or later */
Slot *slots_insert(SlotTable *table, const Slot *slot);         /* gives it an id */
void slots_erase(SlotTable *table, Slot *slot);                 /* and its id back */
void slots_strand(SlotTable *table, Slot *slot);                /* to the stuck ones, id and all */
void slots_unstick(SlotTable *table, size_t i);                 /* stuck[i] is gone */

#endif
