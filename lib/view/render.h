/* SPDX-License-Identifier: MIT */
/*
 * render.h - from a region tree to ranges, for a span of addresses. Pure: reads the tree, writes the edit.
 *
 * Painting goes topmost first into what is still empty, in local coordinates: a window clipped to the region, and the
 * absolute address of local 0 modulo 2^64; so no arithmetic needs more than 64 bits.
 */
#ifndef FLATVIEW_VIEW_RENDER_H
#define FLATVIEW_VIEW_RENDER_H

#include "topology/region.h"
#include "view/viewtree.h"

#define RENDER_MAX_DEPTH 512         /* containers and aliases within each other */
#define RENDER_MAX_STEPS (1u << 26)  /* by one call: regions visited, which aliases of aliases multiply, and ranges that
                                        one layer after the other is found to lie under */

/*
 * Paint what root, at its own offset (as QEMU paints a root), shows in span, where edit has nothing: view_edit_clear() comes
 * first. NULL root: nothing. Sets first_gen (if 0) of regions that it paints to edit->gen.
 * 0, -ENOMEM, -E2BIG. Under the topology lock.
 */
int render_span(ViewEdit *edit, MemoryRegion *root, AddrRange span);

/*
 * The region that a view of root really starts from, or NULL if there is nothing to show. An alias that shows all of its
 * target stands for it, a pure container with one enabled child at 0 that is not larger stands for that child (QEMU's
 * rule), but only while it makes no difference: a target or child with an offset of its own, or something read-only or
 * non-volatile that would be dropped, or an interposer, ends the chain. visit (may be NULL) is called for each region whose change can
 * change the answer.
 */
MemoryRegion *render_root(MemoryRegion *root, void (*visit)(MemoryRegion *mr, void *arg), void *arg);

#endif
