/* SPDX-License-Identifier: MIT */
/*
 * plane_delta.h - what changes in the planes of one space, and telling listeners of it.
 *
 * Invariant: what plane_delta_add() filled in is valid from plane_delta_finish() to the next plane_delta_reset(). One set at
 * a time, under the topology lock, as in delta.h.
 */
#ifndef FLATVIEW_PUBLISH_PLANE_DELTA_H
#define FLATVIEW_PUBLISH_PLANE_DELTA_H

#include "publish/plane.h"

/* Planes as bits: those of which the listener has a callback. */
unsigned plane_wanted(const MemoryListener *listener);

void plane_delta_reset(void);
/*
 * Compare what the two views show of each plane in wanted: the old one by what was seen, the new one by what is staged.
 * delta->spans is where the views differ; cell (NULL: everything counts as edited) is where staged edits were marked.
 * Fills in delta->planes[].n_old and n_new. 0 or -ENOMEM.
 */
int plane_delta_add(MemoryDelta *delta, const ViewNode *old_root, const ViewNode *new_root, const ViewCell *cell,
                    unsigned wanted);
void plane_delta_finish(void); /* fills in the pointers of all deltas added since the reset */

/* Planes as bits: those in which something changes. */
static inline unsigned plane_delta_changed(const MemoryDelta *delta)
{
    unsigned plane, changed = 0;

    for (plane = 0; plane < MEMORY_PLANE_COUNT; plane++) {
        changed |= (unsigned)(delta->planes[plane].n_old || delta->planes[plane].n_new) << plane;
    }
    return changed;
}

/* ---- plane_tell.c ---- */
void plane_tell_removals(MemoryListener *listener, const MemoryDelta *delta);
void plane_tell_additions(MemoryListener *listener, const MemoryDelta *delta);
/* Removal of all that the view shows, descending, without memory to fail. */
void plane_tell_inverse(MemoryListener *listener, const ViewNode *root);

/* The pieces of a range, for both: item i of set as the range shows it; false if it does not. A log mask or a coalesced
   range is cut to the range; an ioeventfd is there as a whole and where writes are taken, or not at all. */
bool plane_piece(const FlatRange *range, MemoryPlane plane, const PlaneItem *item, MemoryPlaneItem *ret_piece);

#endif
