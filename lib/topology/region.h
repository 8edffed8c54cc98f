/* SPDX-License-Identifier: MIT */
/*
 * region.h - what a region is and where it stands. Knows no view.
 *
 * Everything here needs the topology lock unless it says otherwise. Nothing here has an opinion on transactions: these
 * are the raw changes, each with a raw inverse, which lib/publish wraps in an undo log and in the dirty walk.
 */
#ifndef FLATVIEW_TOPOLOGY_REGION_H
#define FLATVIEW_TOPOLOGY_REGION_H

#include <flatview/memory_region.h>

#include "base/lock.h"
#include "base/range.h"

extern Lock topology_lock;

enum RegionState {
    REGION_STATE_NONE = 0,
    REGION_STATE_STATIC = MEMORY_REGION_STATE_STATIC, /* an initialiser's; region_adopt() makes it live */
    REGION_STATE_LIVE = 2,
    REGION_STATE_DYING = 3, /* destroyed in the open transaction */
    REGION_STATE_DEAD = 4,  /* destroyed, waiting for readers */
};

/* MemoryRegion.io_flags: what dispatch must know of the ops, in one word. Constant after init. */
#define REGION_IO_FAST_READ(log2size) (1u << (log2size))        /* aligned: one plain callback, no questions */
#define REGION_IO_FAST_WRITE(log2size) (1u << (4 + (log2size)))
#define REGION_IO_BIG_ENDIAN (1u << 8)
#define REGION_IO_CAN_READ (1u << 9)   /* has a read callback of either form */
#define REGION_IO_CAN_WRITE (1u << 10)

/* ops.c: 0 and the flags, or -EINVAL if a size or the byte order is missing or contradictory. NULL ops: flags 0. */
int ops_check(const MemoryRegionOps *ops, uint32_t *ret_io_flags);

/* Make a static region live (its ops are checked, its alias edge is entered, recursively through static targets); 0 for a
   live one; -EINVAL for all others. */
int region_adopt(MemoryRegion *mr);

static inline bool region_terminates(const MemoryRegion *mr)
{
    return mr->kind != MEMORY_KIND_CONTAINER && mr->kind != MEMORY_KIND_ALIAS;
}

/* Its own addresses, local. False for size 0. */
static inline bool region_extent(const MemoryRegion *mr, AddrRange *ret)
{
    *ret = (AddrRange){0, mr->last};
    return !mr->size_is_zero;
}

/* ---- raw changes; the caller checked that they are legal ---- */
void region_link(MemoryRegion *parent, MemoryRegion *child, hwaddr addr, int32_t priority, uint64_t order);
void region_unlink(MemoryRegion *child);
void region_move(MemoryRegion *mr, hwaddr addr); /* keeps order; with or without a parent */
void region_resize(MemoryRegion *mr, uint64_t size); /* UINT64_MAX is 2^64 */
void region_enable(MemoryRegion *mr, bool enabled);
uint64_t region_next_order(void);

/*
 * Would child at addr in parent show itself? Windows decide: real machines alias a window of the very bus that the alias
 * stands on (QEMU's cheetah, q800, musca-a), which is no loop as long as the alias's place is not in the window. So: parent
 * is child or contained in it; or the walk up from child's place in parent comes to child again. Loops that arise later, by
 * moving or enabling, are the renderer's to find (-E2BIG).
 */
bool region_makes_loop(MemoryRegion *parent, MemoryRegion *child, hwaddr addr);

/* ---- children.c: the interval index: children of size > 0 and of size 0 alike, keyed by (addr, order) ----
   Children whose extent (clipped at 2^64) overlaps window, ascending by addr; size-0 children are never returned. */
MemoryRegion *children_first(const MemoryRegion *parent, AddrRange window);
MemoryRegion *children_next(const MemoryRegion *child, AddrRange window);
void children_insert(MemoryRegion *parent, MemoryRegion *child);
void children_remove(MemoryRegion *child);
void children_check(const MemoryRegion *parent); /* tests: the index's invariants; aborts */
/* all children, size 0 too, ascending (addr, order) */
MemoryRegion *children_begin(const MemoryRegion *parent);
MemoryRegion *children_after(const MemoryRegion *child);

/* Where a child stands in its parent, clipped at 2^64; false for size 0. */
static inline bool region_place(const MemoryRegion *mr, AddrRange *ret)
{
    AddrRange own;

    return region_extent(mr, &own) && range_shift_up(own, mr->addr, ret);
}

/* walk.c: everything above: mr itself first, then through its parent and through the aliases that show it, each with the
   window of it, in its own coordinates, through which the given window of mr can be seen. Stops at disabled regions
   (mr's own flag included) and at what clips the window away. visit returns false to stop going up from there.
   Returns false if the walk was given up after REGION_WALK_BUDGET visits: then anything may be affected. */
#define REGION_WALK_BUDGET (1u << 20)
bool region_walk_up(MemoryRegion *mr, AddrRange window,
                    bool (*visit)(MemoryRegion *mr, AddrRange window, void *arg), void *arg);

#endif
