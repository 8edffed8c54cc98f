/* SPDX-License-Identifier: MIT */
/*
 * interposal.h - by which interposers a range is seen.
 *
 * A range is one cache line and full. So what is interposed carries a number, and behind the number stands an Interposal: the
 * innermost interposer, how its offsets differ from those of the region that answers, and the number of the next one out.
 * Equal ways have equal numbers, so ranges compare and merge by it; and since only differences of offsets are in
 * it, moving an interposer with all below it makes no new one.
 */
#ifndef FLATVIEW_VIEW_INTERPOSAL_H
#define FLATVIEW_VIEW_INTERPOSAL_H

#include <flatview/memory_interpose.h>

#include "base/retire.h"
#include "topology/region.h"
#include "view/flat_range.h"

typedef struct Interposal {
    RetireHead retire;
    MemoryRegion *mr; /* constant from here */
    const MemoryInterposerOps *ops;
    uint64_t delta; /* offset in mr, less that in the region that answers; modulo 2^64 */
    uint64_t birth;
    uint32_t outer; /* the next one towards whoever makes the access; 0: none */
    uint32_t number;
    uint32_t depth; /* 1: nothing further out */
    uint32_t mark;  /* guarded by the topology lock, as next */
    struct Interposal *next;
} Interposal;

/* Where the renderer is: interposers on the way down to it, the innermost first. */
typedef struct InterposeLayer {
    MemoryRegion *mr;
    hwaddr origin; /* absolute address of its offset 0, modulo 2^64 */
    const struct InterposeLayer *outer;
} InterposeLayer;

/* What stands behind a number; in a read section in which it was found in a range (or under the topology lock). */
const Interposal *interposal_get(uint32_t number);

/* Under the topology lock: make *range, of a region whose offset 0 is at origin, interposed by layers, in a view of
   generation gen. 0, -ENOMEM, -E2BIG. */
int interposal_put(const InterposeLayer *layers, hwaddr origin, uint64_t gen, FlatRange *range);

/* The same range as it would be without interposers. */
FlatRange interposal_below(const FlatRange *range);

/*
 * Those that no current view shows go in a sweep over all of those views, when there are so many that it is worth it. Under
 * the topology lock, after publication: begin, mark what each range of each current view names, end.
 */
bool interposal_is_sweep_due(void);
void interposal_sweep_begin(void);
void interposal_mark(uint32_t number); /* 0: nothing */
void interposal_sweep_end(uint64_t death);
/* mr ends, and no current view shows anything through it. Sets its last_gen. Under the topology lock. */
void interposal_forget(MemoryRegion *mr, uint64_t death);

#endif
