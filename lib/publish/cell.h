/* SPDX-License-Identifier: MIT */
/*
 * cell.h - where readers find the current view of an address space.
 *
 * A ViewCell is one distinct view with its history; spaces whose roots resolve to the same region share it, so that one
 * commit publishes once for all of them.
 *
 * Invariant: current->gen is never older than gen, and both name a view that was complete when stored. Stores: current,
 * then gen, each a release, by the commit (step 5). A reader whose cached range carries cell->gen has consulted that view
 * without loading current: it is at worst the view of just before, as if the access had come a moment earlier, which R3
 * allows until the commit returns; and that view is alive, because its grace period can begin only after both stores.
 */
#ifndef FLATVIEW_PUBLISH_CELL_H
#define FLATVIEW_PUBLISH_CELL_H

#include <flatview/address_space.h>

#include "base/reader.h"
#include "view/flat_view.h"

typedef struct ViewCell {
    /* readers' line */
    FlatView *current __attribute__((aligned(64)));
    uint64_t gen;
    /* writers' side: see publish/space.h */
    struct CellWriter *writer __attribute__((aligned(64)));
    RetireHead retire;
} ViewCell;

/* In a read section (or under the topology lock). Never NULL for a space that was initialised. */
static inline ViewCell *space_cell(AddressSpace *as)
{
    return (ViewCell *)reader_load(&as->cell);
}

static inline FlatView *cell_view(ViewCell *cell)
{
    return reader_load(&cell->current);
}

static inline uint64_t cell_gen(ViewCell *cell)
{
    return reader_load(&cell->gen);
}

#endif
