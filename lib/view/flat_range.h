/* SPDX-License-Identifier: MIT */
/*
 * flat_range.h - one range of a view: one cache line, all that dispatch needs, by value.
 */
#ifndef FLATVIEW_VIEW_FLAT_RANGE_H
#define FLATVIEW_VIEW_FLAT_RANGE_H

#include <flatview/flatview.h>
#include <flatview/memory_region.h>

#define FLAT_READONLY (1u << 0)
#define FLAT_NONVOLATILE (1u << 1)
#define FLAT_ROMD (1u << 2)         /* the region's romd flag, true by default */
#define FLAT_DIRECT_READ (1u << 3)  /* reads go to host */
#define FLAT_DIRECT_WRITE (1u << 4) /* writes go to host */
#define FLAT_EXACT (1u << 5)        /* RAM device with memory: keep the width, no bulk copy, no callbacks */
#define FLAT_IOMMU (1u << 6)        /* leads to another space: no ops, no host, no fast flags */
#define FLAT_INTERPOSED (1u << 7)   /* callbacks of interposers come first; never with one of the three above, which are */
#define FLAT_BELOW_SHIFT 7          /* kept up here, to be asked once the access was passed on: bits 10 to 12 */
#define FLAT_IDENTITY (FLAT_READONLY | FLAT_NONVOLATILE | FLAT_ROMD) /* what QEMU compares and merges by */
#define FLAT_IO_SHIFT 16            /* MemoryRegion.io_flags << FLAT_IO_SHIFT */

typedef struct FlatRange {
    hwaddr first, last;
    MemoryRegion *mr;
    uint64_t offset;   /* in the region, of first */
    uint64_t bias;     /* added to the address that callbacks get */
    uint8_t *host;     /* of first; NULL unless FLAT_DIRECT_READ, FLAT_DIRECT_WRITE or FLAT_EXACT, here or below */
    const MemoryRegionOps *ops; /* NULL for RAM; of a RAM device, its widths if it states any */
    uint32_t flags;
    uint32_t interposal; /* FLAT_INTERPOSED: its number, see view/interposal.h; else 0 */
} FlatRange;

_Static_assert(sizeof(FlatRange) == 64, "a range is one cache line");

/* b goes on where a ends: same region, same flags, address and offset both continuous. QEMU's rule for merging. */
static inline bool flat_range_joins(const FlatRange *a, const FlatRange *b)
{
    return a->mr == b->mr && a->last + 1 == b->first && b->first != 0 && a->flags == b->flags && a->bias == b->bias &&
           a->offset + (b->first - a->first) == b->offset && a->interposal == b->interposal;
}

static inline bool flat_range_equal(const FlatRange *a, const FlatRange *b)
{
    return a->first == b->first && a->last == b->last && a->mr == b->mr && a->offset == b->offset &&
           a->flags == b->flags && a->bias == b->bias && a->host == b->host &&
           a->interposal == b->interposal;
}

/* The piece of r that begins at first. */
static inline FlatRange flat_range_cut(const FlatRange *r, hwaddr first, hwaddr last)
{
    FlatRange piece = *r;

    piece.first = first;
    piece.last = last;
    piece.offset += first - r->first;
    if (piece.host) {
        piece.host += first - r->first;
    }
    return piece;
}

static inline MemoryRegionSection flat_range_section(const FlatRange *r)
{
    MemoryRegionSection s = {
        .mr = r->mr,
        .offset_within_address_space = r->first,
        .last = r->last,
        .offset_within_region = r->offset,
        .host = r->flags & FLAT_INTERPOSED ? NULL : r->host,
        .interposed = r->flags & FLAT_INTERPOSED,
        .readonly = r->flags & FLAT_READONLY,
        .nonvolatile = r->flags & FLAT_NONVOLATILE,
        .romd = r->flags & FLAT_ROMD,
    };

    return s;
}

#endif
