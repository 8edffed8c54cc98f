/* SPDX-License-Identifier: MIT */
/*
 * plane.h - changing what regions carry beside what they show, as part of a transaction.
 *
 * Invariant: of a region's plane there are at most two versions: what readers see (RegionPlanes.seen, sealed) and, while a
 * transaction edits it, the staged one. Each edit has its inverse in the undo log. Listeners hear of an item where a view
 * shows it: what they were told is always what the seen views and the seen versions say, as far as they asked for it.
 * Established by: plane_add() and plane_remove(); the commit, which calls the rest in its steps.
 *
 * An edit walks nowhere and marks nothing: where it can be seen is asked at the commit, in the tree as it has become
 * (plane_stage()). A place at which a region's range is in both the old view and the new one, and is the same, is found
 * by that walk, because the new tree shows it; every other place lies in a span of the view's own delta. So nothing that
 * happens to the tree between the edit and the commit, moves there and back included, can hide a place.
 */
#ifndef FLATVIEW_PUBLISH_PLANE_H
#define FLATVIEW_PUBLISH_PLANE_H

#include "publish/cell.h"
#include "topology/plane_set.h"

struct UndoEntry;

/* ---- for mutators: in a transaction ---- */

/* Made if there is none; NULL: -ENOMEM. Stays with the region. */
RegionPlanes *plane_region(MemoryRegion *mr);

/* What mr carries, staged or seen; NULL: nothing. May have items that are GONE. Until the next change. */
const PlaneSet *plane_now(const MemoryRegion *mr, MemoryPlane plane);
/* 0 or -ENOMEM with nothing changed. The item's object is the transaction's: freed if this is undone. */
int plane_add(MemoryRegion *mr, MemoryPlane plane, const PlaneItem *item);
/* Index: in plane_now(). The object is retired when the transaction has committed. */
int plane_remove(MemoryRegion *mr, MemoryPlane plane, uint32_t index);
/* UNDO_PLANE. mark: a nested abort; otherwise plane_forget() has been called and what was staged is gone as a whole. */
void plane_undo(const struct UndoEntry *entry, bool mark);

/* ---- for the commit ---- */

/* Seal what is staged and find out where it can be seen; after stage_all(). 0 or -ENOMEM. */
int plane_stage(void);
/* The i-th stretch of cell's addresses at which an edit of the plane can be seen: ascending, disjoint. False: no more. */
bool plane_span(const ViewCell *cell, MemoryPlane plane, size_t i, AddrRange *ret_span);
void plane_publish(void); /* readers see what was staged */
void plane_retire(void);  /* what that replaced */
void plane_forget(void);  /* the transaction's edits; cannot fail */

/* Is there anything in this plane, in any region? Else nobody need look. */
bool plane_in_use(MemoryPlane plane);

#endif
