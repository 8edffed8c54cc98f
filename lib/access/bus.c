/* SPDX-License-Identifier: MIT */
/*
 * bus.c - accesses to regions with hooks of a plane: which plane is asked first.
 *
 * Invariant: as in bus.h. Hooks are read once for each access: one that comes into force meanwhile belongs to a commit that has
 * not returned (R3).
 */
#include "access/bus.h"

/* What an access must not overtake. */
void bus_flush_hooked(const MemoryRegion *mr, uint32_t hooks)
{
    if (hooks & REGION_HOOK_FLUSH) {
        coalesced_flush_all();
    }
    if (hooks & REGION_HOOK_COALESCED) {
        coalesced_flush(mr);
    }
}

MemTxResult bus_write_hooked(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs, uint64_t value)
{
    uint32_t hooks = region_hooks(range->mr);
    MemTxResult result;

    if (hooks & REGION_HOOK_EVENTFD && eventfd_take_write(range, offset, size, value, &result)) {
        return result;
    }
    if (hooks & REGION_HOOK_FLUSH) {
        coalesced_flush_all();
    }
    if (hooks & REGION_HOOK_COALESCED &&
        coalesced_take_write(range, offset, size, attrs, value, &result)) {
        return result;
    }
    return call_write(range, offset, size, attrs, value);
}
