/* SPDX-License-Identifier: MIT */
/*
 * thread_cache.h - what this thread looked up before, so that it need not look again.
 *
 * Invariant: an entry of generation g (g != 0) holds a range of the view of generation g, found in a read section of this
 * thread. It is used only in a read section that has seen g to be current, so the range is alive: the grace period
 * that ends its view's life begins after g stopped being what cell_gen() says (publish/cell.h). Outside such a section
 * the pointer is not looked at, however dead it may be; nothing has to be invalidated, by anybody.
 * Established by: thread_cache_miss(). Relied on by: every access. Lock: none; it is the thread's.
 *
 * Generations are unique over all cells, so one cache serves all spaces, and destroyed and recycled cells too. No view
 * has generation 0: an entry of zeroes is empty.
 *
 * What an entry says of its region's hooks is as good: a hook that comes into force makes the commit give every cell that
 * shows the region a new generation (change_hooks()), and who found the range in a view of that one has seen the hook.
 *
 * Two entries hold all that most accesses need, each in one line: the last memory and the last of anything else. Guests
 * alternate between memory and a device's registers (a driver's loop does little else), and memory, asked first, pays
 * nothing for the second.
 *
 * Behind them is a table of slots for pages (or single ports: FlatView.page_mask), each a generation and a pointer. A slot does not say which addresses it is
 * for: the range does, whose line the access needs anyway. It may be read because the generation is compared first, and it
 * decides, so that neither pages that share a slot nor ranges that share a page are ever confused: they only miss.
 */
#ifndef FLATVIEW_ACCESS_THREAD_CACHE_H
#define FLATVIEW_ACCESS_THREAD_CACHE_H

#include "base/sabotage.h"
#include "publish/cell.h"
#include "topology/region.h"

/* What must be asked of an access beyond the flags of its range, because of its region's hooks. In the low bits of a slot's
   pointer, which are free: ranges are whole lines. */
#define CACHE_ASK_LOAD 1u
#define CACHE_ASK_STORE 2u

typedef struct CacheSlot {
    uint64_t gen;
    uintptr_t range; /* with CACHE_ASK_* */
} CacheSlot;

/*
 * Slots for the pages of a thread. Of their 64 KiB only what is used takes room in memory and caches. With a quarter of them,
 * loads from 4,096 busy pages take four times as long when hot, and no less when cold; up to 256 pages it makes no
 * difference.
 *
 * The multiplication adds the groups of CACHE_BITS bits of the page number into the topmost one. So as many pages as there
 * are slots never meet if they lie at any one distance that is a power of two, which is how firmware lays out devices; and
 * the slots of neighbouring pages share a line. (Of the usual odd constants, whose bits look random, a third would meet.)
 */
#define CACHE_BITS 12
#define CACHE_SLOTS (1u << CACHE_BITS)
#define CACHE_GROUPS UINT64_C(0x0010010010010010) /* a bit for each group, CACHE_BITS apart */
_Static_assert((CACHE_GROUPS << VIEW_PAGE_BITS) >> (64 - CACHE_BITS) == 1, "bit 0 of the page number is bit 0 of the slot's");

typedef struct ThreadCache {
    /* a range of 8 bytes or more that is FLAT_DIRECT_READ and not FLAT_EXACT */
    struct {
        uint64_t gen;
        hwaddr first;
        uint64_t limit; /* how far from first an access of up to 8 bytes may begin and still lie inside */
        uint8_t *host;  /* of first */
        const FlatRange *range;
        bool writable; /* FLAT_DIRECT_WRITE, and nobody asks what is written */
        CacheSlot *slots; /* CACHE_SLOTS; thread_cache_no_slots until the thread has missed often enough */
    } memory __attribute__((aligned(64)));
    /* any other */
    struct {
        uint64_t gen;
        hwaddr first;
        uint64_t span;   /* last - first */
        uint64_t offset; /* what callbacks get for address 0, if the range went on so far */
        MemoryRegion *mr;
        const MemoryRegionOps *ops;
        uint32_t flags; /* the range's; without the fast ways if its region has hooks, or if an aligned access that begins
                           in the range may end outside or not be aligned in the region */
        uint32_t misses; /* of this thread, until it has slots */
    } device __attribute__((aligned(64)));
#ifdef FLATVIEW_SABOTAGE
    FlatRange stale; /* where memory.range leads under SABOTAGE_STALE_CACHE: old, but not freed */
#endif
} ThreadCache;

extern __thread ThreadCache thread_cache __attribute__((tls_model("initial-exec")));
extern CacheSlot thread_cache_no_slots[CACHE_SLOTS]; /* all empty, for ever */

/* Of a range of a view that this section may use. */
static inline unsigned thread_cache_asks(const FlatRange *range)
{
    uint32_t hooks = region_hooks(range->mr);
    unsigned asks = 0;

    if (__builtin_expect(hooks != 0, 0)) {
        asks |= range->flags & FLAT_DIRECT_READ ? 0 : CACHE_ASK_LOAD;
        asks |= (range->flags & FLAT_DIRECT_WRITE) && !(hooks & REGION_HOOK_LOG) ? 0 : CACHE_ASK_STORE;
    }
    return asks;
}

/* Is what was found in the view of generation then still good for one who has seen now to be current? */
static inline bool thread_cache_fresh(uint64_t then, uint64_t now)
{
    return then == now || (sabotaged(SABOTAGE_STALE_CACHE) && then != 0);
}

/* Memory of the view of generation now around addr: how far addr is from thread_cache.memory.first; false if it is not at
   hand. The last 7 bytes of a range never are, so that the size of the access need not be asked for. */
static inline bool thread_cache_memory(uint64_t now, hwaddr addr, uint64_t *ret_delta)
{
    *ret_delta = addr - thread_cache.memory.first;
    return __builtin_expect(thread_cache_fresh(thread_cache.memory.gen, now), 1) &&
           __builtin_expect(*ret_delta <= thread_cache.memory.limit, 1);
}

/* Is the other entry of that generation, and holds addr? */
static inline bool thread_cache_device(uint64_t now, hwaddr addr)
{
    return __builtin_expect(thread_cache_fresh(thread_cache.device.gen, now), 1) &&
           __builtin_expect(addr - thread_cache.device.first <= thread_cache.device.span, 1);
}

static inline CacheSlot *thread_cache_slot(hwaddr page_mask, hwaddr addr)
{
    return &thread_cache.memory.slots[((addr & page_mask) * CACHE_GROUPS) >> (64 - CACHE_BITS)];
}

/* The range that holds addr in the view of generation now, which goes by pages of that size, if a slot knows it, else NULL; and what must be asked. */
static inline const FlatRange *thread_cache_page(uint64_t now, hwaddr page_mask, hwaddr addr, unsigned *ret_asks)
{
    const CacheSlot *slot = thread_cache_slot(page_mask, addr);
    const FlatRange *range = (const FlatRange *)(slot->range & -(uintptr_t)sizeof(FlatRange));

    *ret_asks = (unsigned)(slot->range & (CACHE_ASK_LOAD | CACHE_ASK_STORE));
    if (__builtin_expect(slot->gen != now, 0) || __builtin_expect(addr < range->first, 0) ||
        __builtin_expect(addr > range->last, 0)) {
        return NULL;
    }
    return range;
}

/*
 * The range at addr in a view that this read section may use, or NULL for a hole; and remember it.
 *
 * One lookup may pass cell_view(cell). A call that consists of several must load the view once and pass that (R1).
 */
const FlatRange *thread_cache_find(const FlatView *view, hwaddr addr);

/* The same, for one who knows that no entry has it. */
const FlatRange *thread_cache_miss(const FlatView *view, hwaddr addr);

#endif
