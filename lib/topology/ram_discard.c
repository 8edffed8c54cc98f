/* SPDX-License-Identifier: MIT */
/*
 * ram_discard.c - who relies on memory staying, and who takes it away.
 *
 * Invariant: of two parties that exclude each other (excludes[]) never both have a count. Under the lock; the counts are also
 * read without it, by who only wants to know.
 * Established by: ram_discard_count(). Relied on by: whoever pins memory, whoever discards it.
 */
#include <errno.h>

#include "base/live.h"
#include "base/lock.h"
#include "topology/ram_block.h"
#include "topology/region.h"

static Lock lock = LOCK_INITIALIZER(LOCK_RANK_LEAF, "discard counts");
static uint64_t counts[RAM_DISCARD_RIGHTS];

static const unsigned excludes[RAM_DISCARD_RIGHTS] = {
    [RAM_DISCARD_DISABLE] = 1u << RAM_DISCARD_REQUIRE | 1u << RAM_DISCARD_REQUIRE_COORDINATED,
    [RAM_DISCARD_DISABLE_UNCOORDINATED] = 1u << RAM_DISCARD_REQUIRE,
    [RAM_DISCARD_REQUIRE] = 1u << RAM_DISCARD_DISABLE | 1u << RAM_DISCARD_DISABLE_UNCOORDINATED,
    [RAM_DISCARD_REQUIRE_COORDINATED] = 1u << RAM_DISCARD_DISABLE,
};

int ram_discard_count(enum RamDiscardRight right, bool more)
{
    int i, err = 0;

    lock_acquire(&lock);
    if (!more) {
        err = counts[right] ? 0 : -EINVAL;
    } else {
        for (i = 0; i < RAM_DISCARD_RIGHTS; i++) {
            err = (excludes[right] >> i & 1) && counts[i] ? -EBUSY : err;
        }
    }
    if (err == 0) {
        region_poke(counts[right], counts[right] + (more ? 1 : UINT64_MAX));
        live_add(LIVE_DISCARD_RIGHTS, more ? 1 : UINT64_MAX);
    }
    lock_release(&lock);
    return err;
}

bool ram_discard_any(enum RamDiscardRight right)
{
    return region_peek(counts[right]);
}
