/* SPDX-License-Identifier: MIT */
/*
 * delta.h - from two trees to spans for listeners: plain values.
 *
 * Invariant: what delta_add() filled in is valid from delta_finish() to the next delta_reset(). One set at a time, under the
 * topology lock; its memory is kept from commit to commit, so that a steady state allocates nothing.
 */
#ifndef FLATVIEW_PUBLISH_DELTA_H
#define FLATVIEW_PUBLISH_DELTA_H

#include <flatview/memory_listener.h>

#include "view/viewtree.h"

void delta_reset(void);
/* Fills in n_spans; 0 or -ENOMEM. Either root may be NULL. All ranges in which the two differ touch window. */
int delta_add(MemoryDelta *delta, const ViewNode *old_root, const ViewNode *new_root, AddrRange window);
bool delta_any(void); /* was anything added since the reset? */
/* Fills in spans of all deltas added since the reset. */
void delta_finish(void);

#endif
