/* SPDX-License-Identifier: MIT */
/*
 * legacy.c - the traditional callbacks, one function for each width, in the form that dispatch knows.
 *
 * Invariant: ops made here are the first member of a LegacyOps, so a callback finds the per-width functions from the
 * region's own ops pointer; the region owns the LegacyOps, and the table in it outlives the region.
 *
 * valid spans the widths that exist in either direction. A width that is missing between others, or in one direction only,
 * is refused by valid.accepts: DECODE_ERROR and no call, never a guess how to compose it. A direction without any function
 * has no callback at all, which makes the region read-only or write-only like any other (ACCESS_ERROR). Tables without
 * gaps, the usual ones, have no accepts and so take the fast path.
 */
#include <errno.h>

#include "base/mem.h"
#include "topology/region.h"

#define LEGACY_WIDTHS 3 /* 8, 16, 32 bits */

typedef struct LegacyOps {
    MemoryRegionOps ops;
    const MemoryRegionLegacyOps *legacy;
} LegacyOps;

static const MemoryRegionLegacyOps *legacy_of(const MemoryRegion *mr)
{
    return ((const LegacyOps *)(const void *)mr->ops)->legacy;
}

static unsigned width_index(unsigned size)
{
    return size == 4 ? 2 : size - 1;
}

static uint64_t legacy_read(MemoryRegion *mr, hwaddr addr, unsigned size)
{
    return legacy_of(mr)->read[width_index(size)](mr, addr);
}

static void legacy_write(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size)
{
    legacy_of(mr)->write[width_index(size)](mr, addr, (uint32_t)data);
}

static bool legacy_accepts(MemoryRegion *mr, hwaddr addr, unsigned size, bool is_write, MemTxAttrs attrs)
{
    const MemoryRegionLegacyOps *legacy = legacy_of(mr);

    (void)addr;
    (void)attrs;
    if (is_write) {
        return !mr->ops->write || legacy->write[width_index(size)];
    }
    return !mr->ops->read || legacy->read[width_index(size)];
}

int legacy_ops_new(const MemoryRegionLegacyOps *legacy, const MemoryRegionOps **ret_ops)
{
    unsigned i, min = LEGACY_WIDTHS, max = 0;
    bool reads = false, writes = false, gap = false;
    uint32_t io_flags;
    LegacyOps *made;
    int ret;

    if (!legacy) {
        return -EINVAL;
    }
    for (i = 0; i < LEGACY_WIDTHS; i++) {
        if (legacy->read[i] || legacy->write[i]) {
            min = i < min ? i : min;
            max = i;
        }
        reads |= legacy->read[i] != NULL;
        writes |= legacy->write[i] != NULL;
    }
    if (min == LEGACY_WIDTHS) {
        return -EINVAL;
    }
    for (i = min; i <= max; i++) {
        gap |= (reads && !legacy->read[i]) || (writes && !legacy->write[i]);
    }
    made = mem_zalloc(sizeof(*made));
    if (!made) {
        return -ENOMEM;
    }
    made->legacy = legacy;
    made->ops = (MemoryRegionOps){
        .read = reads ? legacy_read : NULL,
        .write = writes ? legacy_write : NULL,
        .endianness = legacy->endianness,
        .valid = { .min_access_size = 1u << min, .max_access_size = 1u << max, .accepts = gap ? legacy_accepts : NULL },
        .impl = { .min_access_size = 1u << min, .max_access_size = 1u << max },
    };
    ret = ops_check(&made->ops, &io_flags);
    if (ret < 0) {
        mem_free(made, sizeof(*made));
        return ret;
    }
    *ret_ops = &made->ops;
    return 0;
}

void legacy_ops_free(const MemoryRegionOps *ops)
{
    mem_free((void *)(uintptr_t)ops, sizeof(LegacyOps));
}
