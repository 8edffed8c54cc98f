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

struct FlatView {
    RetirePin pin; /* pin.head.birth == gen, pin.head.line is the cell's line */
    const ViewNode *root __attribute__((aligned(64)));
    uint64_t gen;
    size_t n_ranges;
    MemoryRegion *root_mr; /* NULL: nothing to show */
};

#endif
