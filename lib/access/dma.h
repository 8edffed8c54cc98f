/* SPDX-License-Identifier: MIT */
/*
 * dma.h - mappings of guest memory: made, and ended.
 *
 * Invariant: a live mapping holds (region_hold()) the region of each of its RAM parts once, and owes its pool
 * bounce_bytes; ending it gives back exactly that, once, whoever asks (MemoryMapping.live decides).
 * Established by: dma_map(), dma_unmap(). Relied on by: holders of mappings; release of regions. Lock: none but the pool's.
 */
#ifndef FLATVIEW_ACCESS_DMA_H
#define FLATVIEW_ACCESS_DMA_H

#include <flatview/memory_dma.h>

#include "publish/map_pool.h"
#include "topology/region.h"

/* Arguments are checked: n > 0, each len > 0 and inside the space; the mapping is not live. As address_space_map_sg(). */
int dma_map(AddressSpace *as, const MemoryMapRange *ranges, size_t n, uint32_t direction, MemTxAttrs attrs,
            MemoryMapping *ret_mapping);
/* As much of [addr, addr + len) as one pointer reaches; always borrowed. As address_space_map(). */
int dma_map_prefix(AddressSpace *as, hwaddr addr, hwaddr len, uint32_t direction, MemTxAttrs attrs,
                   MemoryMapping *ret_mapping);
/* As address_space_unmap_sg(), for a mapping that the caller has made not live: how the write back went. */
MemTxResult dma_unmap(MemoryMapping *mapping, hwaddr access_len);

uint64_t dma_mappings_live(void); /* any thread */

#endif
