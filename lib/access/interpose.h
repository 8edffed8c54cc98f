/* SPDX-License-Identifier: MIT */
/*
 * interpose.h - accesses to ranges that are FLAT_INTERPOSED: through the callbacks of each interposer, then to the region.
 */
#ifndef FLATVIEW_ACCESS_INTERPOSE_H
#define FLATVIEW_ACCESS_INTERPOSE_H

#include <flatview/memory_interpose.h>

#include "view/flat_range.h"

/* One bus access of 1, 2, 4 or 8 bytes that range holds, as bytes in ascending order. bytes of a read: untouched unless
   MEMTX_OK. */
MemTxResult interpose_access(const FlatRange *range, hwaddr addr, MemTxAttrs attrs, uint8_t *bytes, unsigned size,
                             bool is_write);
/* Any number of bytes that range holds, cut into bus accesses. */
MemTxResult interpose_rw(const FlatRange *range, hwaddr addr, MemTxAttrs attrs, uint8_t *buf, hwaddr len,
                         bool is_write);

/* What callbacks may do: see memory_interpose.h. */
MemTxResult interpose_pass_read(MemoryInterposed *access, uint64_t *ret_data);
MemTxResult interpose_pass_write(MemoryInterposed *access, uint64_t data);
MemoryRegion *interpose_region(const MemoryInterposed *access, hwaddr *ret_offset);

#endif
