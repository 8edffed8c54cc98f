/* SPDX-License-Identifier: MIT */
/*
 * flat_view.h - one published version: a root node, a generation, and its pins.
 *
 * Invariant: everything in the readers' line is constant from publication to free.
 */
#ifndef FLATVIEW_VIEW_FLAT_VIEW_H
#define FLATVIEW_VIEW_FLAT_VIEW_H

#include "base/retire.h"
#include "view/viewtree.h"

/* Device memory is laid out in pages, the smallest BAR that has one of its own taking 4 KiB. I/O ports are not: dozens of
   devices share what would be one. Only speed depends on it. */
#define VIEW_PAGE_BITS 12
#define VIEW_PAGES (-(UINT64_C(1) << VIEW_PAGE_BITS))
#define VIEW_NO_PAGES UINT64_MAX

struct FlatView {
    RetirePin pin; /* pin.head.birth == gen, pin.head.line is the cell's line */
    const ViewNode *root __attribute__((aligned(64)));
    uint64_t gen;
    size_t n_ranges;
    MemoryRegion *root_mr; /* NULL: nothing to show */
    hwaddr page_mask;      /* VIEW_PAGES or VIEW_NO_PAGES: which bits of an address threads remember ranges by */
};

#endif
