/* SPDX-License-Identifier: MIT */
/*
 * dirty.h - what everybody does who has written to guest memory.
 *
 * Invariant (ORDERING: R7): whoever stores to the host memory of a RAM region calls one of these after the store and before the
 * end of the read section in which it looked the range up. Nothing else is needed: the fences are inside.
 * Established by: all writers in this folder. Relied on by: whoever collects dirty pages (topology/dirty_log.h).
 */
#ifndef FLATVIEW_ACCESS_DIRTY_H
#define FLATVIEW_ACCESS_DIRTY_H

#include "topology/dirty_log.h"
#include "topology/region.h"
#include "view/flat_range.h"

/* Bytes [offset, offset + len) of the region. len > 0. */
static inline void dirty_mark_region(MemoryRegion *mr, uint64_t offset, hwaddr len)
{
    if (__builtin_expect(region_hooks(mr) & REGION_HOOK_LOG, 0)) {
        dirty_log_mark(&((RamBlock *)mr->block)->dirty, offset, len);
    }
}

/* Bytes [addr, addr + len) of the space, all of them in range. len > 0. */
static inline void dirty_mark_range(const FlatRange *range, hwaddr addr, hwaddr len)
{
    dirty_mark_region(range->mr, range->offset + (addr - range->first), len);
}

#endif
