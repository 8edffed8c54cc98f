/* SPDX-License-Identifier: MIT */
/*
 * slots.h - a table of pieces of guest memory, as KVM has slots and vhost-user regions: which pieces a view asks for, and how to
 * get there from those that there are. Knows nothing of how the other side is told.
 */
#ifndef FLATVIEW_ACCEL_SLOTS_H
#define FLATVIEW_ACCEL_SLOTS_H

#include <flatview/memory.h>

typedef struct Slot {
    hwaddr first;
    uint64_t size;
    uint8_t *host;
    MemoryRegion *mr;   /* whose memory it is, alive while the slot is true */
    hwaddr mr_offset;   /* in that, of first */
    uint64_t fd_offset; /* of first, if fd >= 0 */
    int fd;             /* the region's own, or -1 */
    uint32_t flags;
    uint32_t id;
    bool missing; /* the other side does not have it, though it should */
} Slot;

typedef struct SlotTable {
    Slot *at; /* ascending, disjoint */
    size_t n, cap;
    size_t n_missing;
    Slot *stuck; /* the other side has them, though it should not; in no order */
    size_t n_stuck, cap_stuck;
    unsigned char *used; /* a bit for each id */
    uint32_t limit;      /* ids are less */
} SlotTable;

/* What differs between accelerators. */
typedef struct SlotRules {
    /* Is this memory for slots at all, and with which flags, fd and fd_offset? The rest of *ret_slot is filled in. */
    bool (*want)(const MemoryRegionSection *section, Slot *ret_slot);
    uint32_t sticky_flags; /* memory with other ones of these needs another slot */
    uint64_t max_bytes;    /* of one slot; whole pages */
    bool merges;           /* one slot may hold several ranges of a region that lie side by side in guest, host and file */
} SlotRules;

/* What a delta does to a table: take these away, then put those in place. */
typedef struct SlotPlan {
    Slot *remove, *add; /* ascending */
    size_t n_remove, cap_remove, n_add, cap_add;
    Slot *want; /* scratch: what the addresses that are looked at should be */
    size_t n_want, cap_want;
    bool replaces; /* an address is in one of each: who runs meanwhile would miss it */
} SlotPlan;

int slots_init(SlotTable *table, uint32_t limit); /* 0 or -ENOMEM */
void slots_fini(SlotTable *table);

/*
 * 0; -ENOSPC: more slots than the table may have; -ENOMEM. The table is unchanged but has room for what is planned, so
 * carrying it out needs no memory.
 */
int slots_plan(SlotTable *table, const SlotRules *rules, const MemoryDelta *delta, uint64_t page, SlotPlan *plan);
void slots_plan_clear(SlotPlan *plan);
void slots_plan_fini(SlotPlan *plan);

Slot *slots_find(SlotTable *table, hwaddr first);        /* the one that begins there, or NULL */
size_t slots_lower(const SlotTable *table, hwaddr addr); /* index of the first that ends at addr or later */
Slot *slots_insert(SlotTable *table, const Slot *slot);  /* gives it an id */
void slots_erase(SlotTable *table, Slot *slot);          /* and its id back */
void slots_strand(SlotTable *table, Slot *slot);         /* to the stuck ones, id and all */
void slots_unstick(SlotTable *table, size_t i);          /* stuck[i] is gone */

static inline hwaddr slot_last(const Slot *slot)
{
    return slot->first + (slot->size - 1);
}

#endif
