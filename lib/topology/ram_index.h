/* SPDX-License-Identifier: MIT */
/*
 * ram_index.h - from a host address to the region that has it.
 *
 * Invariant: a region with a RAM block is in the index from the end of its init to the commit that destroys it, that is,
 * to before the grace period that its release waits for: so what is found in a read section lasts as long as that.
 * Established by: ram_index_add(), ram_index_remove(). Any thread; a leaf lock, held for O(log n) steps.
 */
#ifndef FLATVIEW_TOPOLOGY_RAM_INDEX_H
#define FLATVIEW_TOPOLOGY_RAM_INDEX_H

#include "topology/ram_block.h"

void ram_index_add(RamBlock *block, MemoryRegion *mr); /* its host memory is mr's, from offset 0 on; cannot fail */
void ram_index_remove(RamBlock *block);                /* NULL, or not in it: a no-op */

/* A region that has the byte at ptr, and its offset; NULL if there is none. */
MemoryRegion *ram_index_find(const void *ptr, uint64_t *ret_offset);

typedef struct RamIndexStats {
    uint64_t blocks, bytes;
} RamIndexStats;
void ram_index_get_stats(RamIndexStats *ret_stats);

void ram_index_check(void); /* tests: the tree's invariants; aborts */

#endif
