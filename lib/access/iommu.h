/* SPDX-License-Identifier: MIT */
/*
 * iommu.h - from an address of a space to what answers there, through the IOMMU regions in between.
 *
 * Invariant: one call of dispatch uses one view of each space that it comes to (R1): DispatchViews, on its stack, has them.
 * Views, ranges and spaces found through it are good until the read section ends, in which the call is.
 * Established by: dispatch_views_begin(), dispatch_resolve(). Relied on by: dispatch, DMA mappings. Lock: none.
 */
#ifndef FLATVIEW_ACCESS_IOMMU_H
#define FLATVIEW_ACCESS_IOMMU_H

#include <flatview/memory_iommu.h>

#include "publish/cell.h"

typedef struct DispatchViews {
    unsigned n;
    struct {
        AddressSpace *as;
        const FlatView *view;
    } seen[MEMORY_IOMMU_MAX_SPACES];
} DispatchViews;

/* A call begins in as; its view. In a read section. */
static inline const FlatView *dispatch_views_begin(DispatchViews *views, AddressSpace *as)
{
    views->n = 1;
    views->seen[0].as = as;
    views->seen[0].view = cell_view(space_cell(as));
    return views->seen[0].view;
}

/* Where an address leads. */
typedef struct Resolved {
    const FlatRange *range; /* what answers: never FLAT_IOMMU. NULL unless MEMTX_OK */
    AddressSpace *as;       /* in which space, */
    hwaddr addr;            /* and at which address */
    hwaddr before, after;   /* at least so many bytes on either side of the address that was asked for lead to its
                               neighbours there, or to the same failure. Set whatever is returned */
    IOMMUAccessFlags perm;  /* what all translations on the way grant; IOMMU_RW if there were none */
} Resolved;

/*
 * What answers at addr of as: a space that views has begun with, or is to come to. Permissions of translations are checked
 * for is_write; whether the range itself takes such an access is not.
 * MEMTX_OK; MEMTX_DECODE_ERROR, MEMTX_ACCESS_ERROR, MEMTX_ERROR as memory_iommu.h says.
 */
MemTxResult dispatch_resolve(DispatchViews *views, AddressSpace *as, hwaddr addr, bool is_write, MemTxAttrs attrs,
                             Resolved *ret);

/* What this thread remembers of a translation, for who remembers it longer: good as long as iommu_unchanged() says so. */
typedef struct IommuTrail {
    unsigned index; /* of the table */
    uint64_t seq;
    IOMMUTLBEntry entry;
} IommuTrail;

/* Of the byte at offset of an IOMMU region, for this direction. False: nothing; the table is not asked. */
bool iommu_remembered(MemoryRegion *mr, hwaddr offset, bool is_write, MemTxAttrs attrs, IommuTrail *ret);
/* The same, from the table if need be; *ret has offset in its range unless MEMTX_ERROR. What is MEMTX_OK is remembered now. */
MemTxResult iommu_translate(MemoryRegion *mr, hwaddr offset, bool is_write, MemTxAttrs attrs, IOMMUTLBEntry *ret);

#endif
