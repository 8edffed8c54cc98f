/* SPDX-License-Identifier: MIT */
/*
 * viewdiff.h - what differs between two trees. Pure; skips what they share.
 */
#ifndef FLATVIEW_VIEW_VIEWDIFF_H
#define FLATVIEW_VIEW_VIEWDIFF_H

#include "view/viewtree.h"

/*
 * Ranges of either tree that are not (flat_range_equal()) in the other, ascending by first (an old range before a new one
 * that begins at the same address); exactly one of old_range and new_range is not NULL. Subtrees that are the same node
 * in both are skipped unseen. fn returns non-zero to stop. Returns what fn returned last, or 0.
 */
typedef int (*ViewDiffFn)(const FlatRange *old_range, const FlatRange *new_range, void *arg);
int view_diff(const ViewNode *old_root, const ViewNode *new_root, ViewDiffFn fn, void *arg);

/* The same, but only ranges that overlap span in the tree where they are. */
int view_diff_span(const ViewNode *old_root, const ViewNode *new_root, AddrRange span, ViewDiffFn fn, void *arg);

#ifdef FLATVIEW_DEBUG_CHECKS
/* Subtrees that the last call of this thread looked into: how a test sees that shared ones are skipped. */
extern __thread size_t view_diff_entered;
#endif

#endif
