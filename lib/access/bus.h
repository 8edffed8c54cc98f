/* SPDX-License-Identifier: MIT */
/*
 * bus.h - one bus access to a range that callbacks answer, past what the region's planes say about it.
 *
 * Invariant: every such access of step 4 (dispatch.h) comes through here; the steps before decline regions with hooks
 * (thread_cache.c). An ioeventfd is asked first, then the ring of coalesced writes, then what the region says about its calls
 * (call.h), then the splitter; and before anything that must see what waits in a ring, that is delivered.
 */
#ifndef FLATVIEW_ACCESS_BUS_H
#define FLATVIEW_ACCESS_BUS_H

#include "access/call.h"
#include "access/coalesced.h"

#define REGION_HOOKS_BUS_READ (REGION_HOOK_COALESCED | REGION_HOOK_FLUSH)

/* eventfd.c: if the write is an ioeventfd's, kick it. */
bool eventfd_take_write(const FlatRange *range, hwaddr offset, unsigned size, uint64_t value, MemTxResult *ret_result);
bool eventfd_is_for(const FlatRange *range, hwaddr offset, unsigned size, uint64_t value);
/* eventfd.c: bytes written to a reservation, which has no ops to cut them by. */
MemTxResult eventfd_write_bytes(const FlatRange *range, hwaddr offset, const uint8_t *buf, hwaddr len);

void bus_flush_hooked(const MemoryRegion *mr, uint32_t hooks);
MemTxResult bus_write_hooked(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs, uint64_t value);

/* As splitter_read() and splitter_write(). */
static inline MemTxResult bus_read(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs,
                                   uint64_t *ret_value)
{
    uint32_t hooks = region_hooks(range->mr);

    if (__builtin_expect(hooks & REGION_HOOKS_BUS_READ, 0)) {
        bus_flush_hooked(range->mr, hooks);
    }
    return call_read(range, offset, size, attrs, ret_value);
}

static inline MemTxResult bus_write(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs,
                                    uint64_t value)
{
    if (__builtin_expect(region_hooks(range->mr), 0)) {
        return bus_write_hooked(range, offset, size, attrs, value);
    }
    return splitter_write(range, offset, size, attrs, value);
}

#endif
