/* SPDX-License-Identifier: MIT */
/*
 * dirty.h - from a change in the tree to the addresses of views that it can have changed.
 */
#ifndef FLATVIEW_PUBLISH_DIRTY_H
#define FLATVIEW_PUBLISH_DIRTY_H

#include "publish/space.h"

/* window, in mr's own coordinates, may look different from what the views have: note it in every cell that shows it.
   To be called before a change that can hide something and after one that can show something. Cannot fail. */
void dirty_mark(MemoryRegion *mr, AddrRange window);
void dirty_mark_whole(MemoryRegion *mr);
/* The same for both places of mr, which stood at from in its parent and now stands elsewhere. It is the target of no alias
   and the root of nothing. */
void dirty_mark_move(MemoryRegion *mr, hwaddr from);

/* What threads remember of mr must not be used after this commit: every cell that shows it gets a new generation. */
void dirty_renew(MemoryRegion *mr);

/* mr's place, kind of content or attributes change, or its children's: spaces whose chain may now be another. */
void dirty_resolve(MemoryRegion *mr);
void dirty_resolve_space(Space *space);

void dirty_cell(ViewCell *cell, AddrRange span);
void dirty_touch(ViewCell *cell); /* onto txn.touched */
/* Of the root of a cell: the first alias through which someone else than that cell's own users may look; those before it
   in the list need not be followed. */
MemoryRegion *dirty_loud_aliases(MemoryRegion *root);
/* Sort and merge cell's spans; what remains is disjoint and ascending. */
void dirty_settle(ViewCell *cell);

#endif
