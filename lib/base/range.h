/* SPDX-License-Identifier: MIT */
/*
 * range.h - closed address ranges.
 *
 * Invariant: first <= last. A closed range can cover all 2^64 addresses, so there is no empty one and no end that needs a
 * wider type: what may be empty is a bool beside the result. No function here overflows; what leaves 64 bits is clipped.
 */
#ifndef FLATVIEW_BASE_RANGE_H
#define FLATVIEW_BASE_RANGE_H

#include <flatview/types.h>

typedef struct AddrRange {
    hwaddr first, last;
} AddrRange;

#define ADDR_RANGE_ALL ((AddrRange){0, UINT64_MAX})

static inline bool range_contains(AddrRange r, hwaddr addr)
{
    return addr - r.first <= r.last - r.first;
}

static inline bool range_overlaps(AddrRange a, AddrRange b)
{
    return a.first <= b.last && b.first <= a.last;
}

/* What both cover; false if nothing. */
static inline bool range_intersect(AddrRange a, AddrRange b, AddrRange *ret)
{
    hwaddr first = a.first > b.first ? a.first : b.first;
    hwaddr last = a.last < b.last ? a.last : b.last;

    if (first > last) {
        return false;
    }
    *ret = (AddrRange){first, last};
    return true;
}

/* r moved up by delta; what would pass 2^64 - 1 is cut off; false if nothing is left. */
static inline bool range_shift_up(AddrRange r, uint64_t delta, AddrRange *ret)
{
    if (r.first > UINT64_MAX - delta) {
        return false;
    }
    *ret = (AddrRange){r.first + delta, r.last > UINT64_MAX - delta ? UINT64_MAX : r.last + delta};
    return true;
}

/* r moved down by delta; what would fall below 0 is cut off; false if nothing is left. */
static inline bool range_shift_down(AddrRange r, uint64_t delta, AddrRange *ret)
{
    if (r.last < delta) {
        return false;
    }
    *ret = (AddrRange){r.first < delta ? 0 : r.first - delta, r.last - delta};
    return true;
}

#endif
