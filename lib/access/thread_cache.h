/* SPDX-License-Identifier: MIT */
/*
 * thread_cache.h - what this thread looked up last, so that it need not look again.
 *
 * Invariant: an entry of generation g (g != 0) holds a range of the view of generation g, found in a read section of this
 * thread. It is used only in a read section that has seen g to be current, so the range is alive: the grace period
 * that ends its view's life begins after g stopped being what cell_gen() says (publish/cell.h). Outside such a section
 * the pointer is not looked at, however dead it may be; nothing has to be invalidated, by anybody.
 * Established by: thread_cache_find(). Relied on by: every access. Lock: none; it is the thread's.
 *
 * Generations are unique over all cells, so one cache serves all spaces, and destroyed and recycled cells too. No view
 * has generation 0: an entry of zeroes is empty.
 *
 * What an entry says of its region's hooks is as good: a hook that comes into force makes the commit give every cell that
 * shows the region a new generation (change_hooks()), and who found the range in a view of that one has seen the hook.
 *
 * Two entries, chosen by what the range is: guests alternate between memory and a device's registers (a driver's loop
 * does little else), and memory, asked first, pays nothing for the second. Each holds what most accesses need in one
 * line; the entry for memory is enough for a load without a look at the range.
 */
#ifndef FLATVIEW_ACCESS_THREAD_CACHE_H
#define FLATVIEW_ACCESS_THREAD_CACHE_H

#include "base/sabotage.h"
#include "publish/cell.h"
#include "topology/region.h"

typedef struct ThreadCache {
    /* a range of 8 bytes or more that is FLAT_DIRECT_READ and not FLAT_EXACT */
    struct {
        uint64_t gen;
        hwaddr first;
        uint64_t limit; /* how far from first an access of up to 8 bytes may begin and still lie inside */
        uint8_t *host;  /* of first */
        const FlatRange *range;
        bool writable; /* FLAT_DIRECT_WRITE, and nobody asks what is written */
    } memory __attribute__((aligned(64)));
    /* any other */
    struct {
        uint64_t gen;
        hwaddr first;
        uint64_t span; /* last - first */
        const FlatRange *range;
        uint32_t flags; /* the range's, without the fast ways if its region has hooks */
    } device __attribute__((aligned(64)));
#ifdef FLATVIEW_SABOTAGE
    FlatRange stale_memory, stale_device; /* where the pointers lead under SABOTAGE_STALE_CACHE: old, but not freed */
#endif
} ThreadCache;

/* The flags of a range of a view that this section may use, as the fast ways should see them. */
#define FLAT_IO_FAST (0xffu << FLAT_IO_SHIFT)
static inline uint32_t thread_cache_device_flags(const FlatRange *range)
{
    return region_hooks(range->mr) ? range->flags & ~FLAT_IO_FAST : range->flags;
}

extern __thread ThreadCache thread_cache __attribute__((tls_model("initial-exec")));

/* Is what was found in the view of generation then still good for one who has seen now to be current? */
static inline bool thread_cache_fresh(uint64_t then, uint64_t now)
{
    return then == now || (sabotaged(SABOTAGE_STALE_CACHE) && then != 0);
}

/* Memory of the current view around addr: how far addr is from thread_cache.memory.first; false if it is not at hand. The
   last 7 bytes of a range never are, so that the size of the access need not be asked for. */
static inline bool thread_cache_memory(ViewCell *cell, hwaddr addr, uint64_t *ret_delta)
{
    *ret_delta = addr - thread_cache.memory.first;
    return __builtin_expect(thread_cache_fresh(thread_cache.memory.gen, cell_gen(cell)), 1) &&
           __builtin_expect(*ret_delta <= thread_cache.memory.limit, 1);
}

/* The same for the other entry and its range, which is thread_cache.device.range: does it hold [addr, addr + size)? */
static inline bool thread_cache_device(ViewCell *cell, hwaddr addr, unsigned size, uint64_t *ret_delta)
{
    uint64_t span = thread_cache.device.span;

    *ret_delta = addr - thread_cache.device.first;
    return __builtin_expect(thread_cache_fresh(thread_cache.device.gen, cell_gen(cell)), 1) &&
           __builtin_expect(*ret_delta <= span, 1) && __builtin_expect(span - *ret_delta >= size - 1, 1);
}

/*
 * The range at addr in a view that this read section may use, or NULL for a hole; and remember it.
 *
 * One lookup may pass cell_view(cell). A call that consists of several must load the view once and pass that (R1).
 */
const FlatRange *thread_cache_find(const FlatView *view, hwaddr addr);

#endif
