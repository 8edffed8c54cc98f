/* SPDX-License-Identifier: MIT */
/*
 * reach.h - what an address leads to, piece by piece, for whoever goes over a stretch of a space without accessing it.
 *
 * Invariant: a walk looks up everything in one view of each space that it comes to (R1), and its pieces are good until the
 * read section ends, in which it is. No piece is an IOMMU's: they are followed.
 * Established by: reach_begin(), reach_next(). Relied on by: mappings, fills, questions. Lock: none.
 */
#ifndef FLATVIEW_ACCESS_REACH_H
#define FLATVIEW_ACCESS_REACH_H

#include "access/iommu.h"
#include "topology/region.h"

typedef struct Reach {
    DispatchViews views;
    AddressSpace *as;
    MemTxAttrs attrs;
    hwaddr addr; /* where the next piece begins */
    hwaddr left; /* bytes not yet gone over */
    bool beyond; /* addr has come to the end of the space: from here on there is nothing */
} Reach;

typedef struct ReachPiece {
    const FlatRange *range; /* NULL: nothing is there */
    hwaddr addr;            /* as asked for */
    hwaddr at;              /* where that is in the range, behind IOMMUs */
    IOMMUAccessFlags perm;  /* what they grant */
    uint64_t offset;        /* of its first byte, in the region */
    uint8_t *host;          /* of its first byte; NULL unless the range has one */
    hwaddr len;
    MemTxResult result;     /* of an access of the direction asked for: MEMTX_OK, or why there would be none */
} ReachPiece;

/* In a read section: the view that this walk will use. */
void reach_begin(Reach *reach, AddressSpace *as, MemTxAttrs attrs);
/* Go over [addr, addr + len) next. What is beyond the end of the space is one last piece of nothing. */
void reach_over(Reach *reach, hwaddr addr, hwaddr len);
/* The next piece, as long as it is of one range; false when all has been gone over. */
bool reach_next(Reach *reach, bool is_write, ReachPiece *ret);

/* Plain memory for this direction, to be copied at will: not mapped hardware, and nobody who must see each access. */
static inline bool range_is_direct(const FlatRange *range, bool is_write)
{
    return (range->flags & (FLAT_EXACT | (is_write ? FLAT_DIRECT_WRITE : FLAT_DIRECT_READ))) ==
           (is_write ? FLAT_DIRECT_WRITE : FLAT_DIRECT_READ);
}

/* Memory for this direction, to be copied or, if it is mapped hardware, accessed by its widths: no callbacks. */
static inline bool range_is_memory(const FlatRange *range, bool is_write)
{
    if (range->flags & FLAT_EXACT) {
        return !(is_write && (range->flags & FLAT_READONLY));
    }
    return range->flags & (is_write ? FLAT_DIRECT_WRITE : FLAT_DIRECT_READ);
}

/* What an access of this direction to memory or registers of this range comes to, as far as the range alone decides. */
MemTxResult range_result(const FlatRange *range, bool is_write);

MemTxResult reach_set(AddressSpace *as, hwaddr addr, uint8_t c, hwaddr len, MemTxAttrs attrs);
MemTxResult reach_write_rom(AddressSpace *as, hwaddr addr, const uint8_t *buf, hwaddr len, MemTxAttrs attrs);
bool reach_valid(AddressSpace *as, hwaddr addr, hwaddr len, bool is_write, MemTxAttrs attrs);
bool reach_region_valid(MemoryRegion *mr, hwaddr addr, unsigned size, bool is_write, MemTxAttrs attrs);
bool reach_is_io(AddressSpace *as, hwaddr addr);
void reach_flush_icache(AddressSpace *as, hwaddr addr, hwaddr len);

#endif
