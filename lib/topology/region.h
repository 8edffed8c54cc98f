/* SPDX-License-Identifier: MIT */
/*
 * region.h - what a region is and where it stands. Knows no view.
 *
 * Everything here needs the topology lock unless it says otherwise. Nothing here has an opinion on transactions: these
 * are the raw changes, each with a raw inverse, which lib/publish wraps in an undo log and in the dirty walk.
 *
 * The fields behind the public getters (parent, addr, last, priority, enabled, readonly, ...) are written under the lock but
 * read by anyone at any time. So whoever writes one after init does it with region_poke(), and a reader without the lock
 * uses region_peek(): an answer is old or new, never torn. Under the lock a plain read will do.
 */
#ifndef FLATVIEW_TOPOLOGY_REGION_H
#define FLATVIEW_TOPOLOGY_REGION_H

#include <flatview/memory_region.h>

#include "base/lock.h"
#include "base/range.h"

extern Lock topology_lock;

/* How many regions have hooks: as long as none has, nobody looks at a region to find out. Written under the topology lock. */
extern uint64_t region_hooked_count;

enum RegionState {
    REGION_STATE_NONE = 0,
    REGION_STATE_STATIC = MEMORY_REGION_STATE_STATIC, /* an initialiser's; region_adopt() makes it live */
    REGION_STATE_LIVE = 2,
    REGION_STATE_DYING = 3, /* destroyed in the open transaction */
    REGION_STATE_DEAD = 4,  /* destroyed, waiting for readers */
    REGION_STATE_RELEASED = 5, /* the owner's again; what a late memory_region_quiesce() may find */
};

/* MemoryRegion.io_flags: what dispatch must know of the ops, in one word. Constant after init. */
#define REGION_IO_FAST_READ(log2size) (1u << (log2size))        /* aligned: one plain callback, no questions */
#define REGION_IO_FAST_WRITE(log2size) (1u << (4 + (log2size)))
#define REGION_IO_BIG_ENDIAN (1u << 8)
#define REGION_IO_CAN_READ (1u << 9)   /* has a read callback of either form */
#define REGION_IO_CAN_WRITE (1u << 10)

/* MemoryRegion.hooks: what an access must ask about beyond what the view says. Changed by change_hooks() only. */
#define REGION_HOOK_EVENTFD (1u << 0)   /* stores: may be an ioeventfd's */
#define REGION_HOOK_COALESCED (1u << 1) /* stores may wait in a ring, loads must not overtake them */
#define REGION_HOOK_LOG (1u << 2)       /* stores are marked in the dirty log */
#define REGION_HOOK_GUARD (1u << 3)     /* has an opinion on re-entrancy */
#define REGION_HOOK_LOCK (1u << 4)      /* its callbacks run under a lock */
#define REGION_HOOK_COUNT (1u << 5)     /* its calls in flight are counted */
#define REGION_HOOK_FLUSH (1u << 6)     /* an access to it flushes all rings of coalesced writes */

/* Between the number that callbacks of mr get for size bytes and those bytes as a little-endian number; its own inverse. */
static inline uint64_t region_bus_order(const MemoryRegion *mr, uint64_t value, unsigned size)
{
    return mr->io_flags & REGION_IO_BIG_ENDIAN ? __builtin_bswap64(value) >> (64 - 8 * size) : value;
}

#define region_peek(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define region_poke(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)

/* ---- region.c: life ---- */

/* Make *mr a live region without place, ops, memory or target; infallible, no lock. name (NULL: "") is taken over and given
   back with mem_strfree(). */
void region_init(MemoryRegion *mr, MemoryRegionKind kind, char *name, uint64_t size);
/* Give back what init allocated. No lock: the region is in no tree, is no alias's target, shows no target any more
   (region_alias_unlink()), and no reader can reach it. Everything but the struct's memory, state and release is gone. */
void region_fini(MemoryRegion *mr);
uint64_t region_live_count(void); /* initialised (or adopted) and not yet finished; any thread */

/* The edge from an alias to its target, which makes it findable from there. mr->alias stays as it is. */
void region_alias_link(MemoryRegion *mr, MemoryRegion *target);
void region_alias_unlink(MemoryRegion *mr); /* of a region that is not mapped; no-op if it has no edge */

/* ops.c: 0 and the flags, or -EINVAL if a size or the byte order is missing or contradictory. NULL ops: flags 0. */
int ops_check(const MemoryRegionOps *ops, uint32_t *ret_io_flags);

/* legacy.c: ops that call the per-width functions; -EINVAL (none there, no byte order), -ENOMEM. */
int legacy_ops_new(const MemoryRegionLegacyOps *legacy, const MemoryRegionOps **ret_ops);
void legacy_ops_free(const MemoryRegionOps *ops); /* NULL is a no-op */

/* Make a static region live, and with it the static regions that it is an alias of: ops are checked, alias edges entered.
   0 also for a live one; -EINVAL for all others and for wrong ops; -ELOOP for aliases of each other; -ENOMEM. */
int region_adopt(MemoryRegion *mr);

static inline bool region_terminates(const MemoryRegion *mr)
{
    return mr->kind != MEMORY_KIND_CONTAINER && mr->kind != MEMORY_KIND_ALIAS;
}

/* Its own addresses, local. False for size 0. */
static inline bool region_extent(const MemoryRegion *mr, AddrRange *ret)
{
    *ret = (AddrRange){0, mr->last};
    return !mr->size_is_zero;
}

static inline uint64_t region_size(const MemoryRegion *mr)
{
    if (mr->size_is_zero) {
        return 0;
    }
    return mr->last == UINT64_MAX ? UINT64_MAX : mr->last + 1;
}

/* Has a parent, or something mapped is an alias of it. Any thread. */
static inline bool region_is_mapped(const MemoryRegion *mr)
{
    return region_peek(mr->parent) || region_peek(mr->mapped_aliases);
}

/* What is asked about now. Any thread; who uses a view that was published after a hook came into force sees it. */
static inline uint32_t region_hooks(const MemoryRegion *mr)
{
    return __builtin_expect(region_peek(region_hooked_count) != 0, 0) ? region_peek(mr->hooks) : 0;
}
void region_hook(MemoryRegion *mr, uint32_t hooks);

/* ---- raw changes; the caller checked that they are legal ---- */
void region_link(MemoryRegion *parent, MemoryRegion *child, hwaddr addr, int32_t priority, uint64_t order);
void region_unlink(MemoryRegion *child);
void region_move(MemoryRegion *mr, hwaddr addr); /* keeps order; with or without a parent */
void region_resize(MemoryRegion *mr, uint64_t size); /* UINT64_MAX is 2^64 */
void region_enable(MemoryRegion *mr, bool enabled);
void region_alias_to_front(MemoryRegion *mr); /* of its target's list, whose order means nothing */

/* Counts what can change who is seen through whom: places of regions that show others, alias edges, and what the floors above
   add to that. As long as it stands still, what was found out about the ways up from a region holds. */
extern uint64_t region_shape; /* guarded by the topology lock */
static inline void region_shape_changed(void)
{
    region_shape++;
}

/* readonly, nonvolatile, romd, alias_offset, bias and dirty_log_mask touch nothing else: region_poke() */
uint64_t region_next_order(void);

/* ---- children.c: the interval index of all children, keyed by (addr, order) ----
   Enabled children whose extent (clipped at 2^64) overlaps window, ascending by addr; those of size 0 have none. */
MemoryRegion *children_first(const MemoryRegion *parent, AddrRange window);
MemoryRegion *children_next(const MemoryRegion *child, AddrRange window);
void children_insert(MemoryRegion *parent, MemoryRegion *child);
void children_remove(MemoryRegion *child);
void children_move(MemoryRegion *child, hwaddr addr); /* sets child->addr */
void children_changed(MemoryRegion *child); /* its size or its enabled flag has, not its addr */
void children_check(const MemoryRegion *parent); /* tests: the index's invariants; aborts */
MemoryRegion *children_first_enabled(const MemoryRegion *parent); /* of any size; NULL if none is */
/* all children, disabled ones and those of size 0, too, ascending (addr, order) */
MemoryRegion *children_begin(const MemoryRegion *parent);
MemoryRegion *children_after(const MemoryRegion *child);

/* Where a child stands in its parent, clipped at 2^64; false for size 0. */
static inline bool region_place(const MemoryRegion *mr, AddrRange *ret)
{
    AddrRange own;

    return region_extent(mr, &own) && range_shift_up(own, mr->addr, ret);
}

/* ---- walk.c ---- */

/* A new mark for a walk, and whether that walk comes by mr for the first time. */
uint64_t region_walk_begin(void);
static inline bool region_walk_first_visit(MemoryRegion *mr, uint64_t walk)
{
    bool first = mr->walk_mark != walk;

    mr->walk_mark = walk;
    return first;
}

/*
 * Would child at addr in parent show itself? Windows decide: real machines alias a window of the very bus that the alias
 * stands on (QEMU's cheetah, q800, musca-a), which is no loop as long as the alias's place is not in the window. So: parent
 * is child or contained in it; or the walk up from child's place in parent comes to child again. Loops that arise later, by
 * moving or enabling, are the renderer's to find (-E2BIG).
 * Looks only if child leads anywhere, and follows windows only if the tree without them has a circle, which few have: so
 * linear in what shows parent.
 */
bool region_makes_loop(MemoryRegion *parent, MemoryRegion *child, hwaddr addr);

/* Does alias show anything of window of its target? */
static inline bool region_alias_shows(const MemoryRegion *alias, AddrRange window)
{
    return alias->alias_offset >= window.first ?
               alias->alias_offset <= window.last && !alias->size_is_zero :
               window.first - alias->alias_offset <= alias->last && !alias->size_is_zero;
}

/* Everything above: mr itself first, then through its parent and through the aliases that show it, each with the
   window of it, in its own coordinates, through which the given window of mr can be seen. Stops at disabled regions
   (mr's own flag included) and at what clips the window away. visit returns false to stop going up from there; *aliases is
   the first of mr's aliases, and may be set to a later one or to NULL: those before it are not followed.
   Returns false if the walk was given up, after REGION_WALK_BUDGET steps or REGION_WALK_BRANCHES regions in one way up
   that each had another way left: then anything may be affected. Never allocates. */
#define REGION_WALK_BUDGET (1u << 20)
#define REGION_WALK_BRANCHES 128
bool region_walk_up(MemoryRegion *mr, AddrRange window,
                    bool (*visit)(MemoryRegion *mr, AddrRange window, MemoryRegion **aliases, void *arg), void *arg);

#endif
