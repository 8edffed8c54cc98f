/* SPDX-License-Identifier: MIT */
#include "shim/range_shim.h"

#include "base/range.h"

bool range_shim_contains(uint64_t first, uint64_t last, uint64_t addr)
{
    return range_contains((AddrRange){first, last}, addr);
}

bool range_shim_overlaps(uint64_t a_first, uint64_t a_last, uint64_t b_first, uint64_t b_last)
{
    return range_overlaps((AddrRange){a_first, a_last}, (AddrRange){b_first, b_last});
}

static bool answer(bool some, AddrRange r, uint64_t ret[2])
{
    if (some) {
        ret[0] = r.first;
        ret[1] = r.last;
    }
    return some;
}

bool range_shim_intersect(uint64_t a_first, uint64_t a_last, uint64_t b_first, uint64_t b_last, uint64_t ret[2])
{
    AddrRange r = {0, 0};

    return answer(range_intersect((AddrRange){a_first, a_last}, (AddrRange){b_first, b_last}, &r), r, ret);
}

bool range_shim_shift_up(uint64_t first, uint64_t last, uint64_t delta, uint64_t ret[2])
{
    AddrRange r = {0, 0};

    return answer(range_shift_up((AddrRange){first, last}, delta, &r), r, ret);
}

bool range_shim_shift_down(uint64_t first, uint64_t last, uint64_t delta, uint64_t ret[2])
{
    AddrRange r = {0, 0};

    return answer(range_shift_down((AddrRange){first, last}, delta, &r), r, ret);
}
