/* SPDX-License-Identifier: MIT */
/*
 * region_shim.c - see region_shim.h.
 */
#include "shim/region_shim.h"

#include "base/mem.h"
#include "topology/ram_index.h"
#include "topology/region.h"

_Static_assert(REGION_SHIM_NONE == (int)REGION_STATE_NONE && REGION_SHIM_STATIC == (int)REGION_STATE_STATIC &&
               REGION_SHIM_LIVE == (int)REGION_STATE_LIVE, "the same states");

void region_shim_init(MemoryRegion *mr, MemoryRegionKind kind, uint64_t size)
{
    region_init(mr, kind, NULL, size);
}

void region_shim_init_alias(MemoryRegion *mr, MemoryRegion *target, hwaddr offset, uint64_t size)
{
    region_init(mr, MEMORY_KIND_ALIAS, NULL, size);
    mr->alias_offset = offset;
    region_alias_link(mr, target);
}

void region_shim_fini(MemoryRegion *mr)
{
    region_alias_unlink(mr);
    ram_index_remove(mr->block); /* as region_retire() does */
    region_fini(mr);
}

uint64_t region_shim_live_count(void)
{
    return region_live_count();
}

int region_shim_adopt(MemoryRegion *mr)
{
    return region_adopt(mr);
}

void region_shim_link(MemoryRegion *parent, MemoryRegion *child, hwaddr addr, int priority)
{
    region_link(parent, child, addr, priority, region_next_order());
}

void region_shim_link_ordered(MemoryRegion *parent, MemoryRegion *child, hwaddr addr, int priority, uint64_t order)
{
    region_link(parent, child, addr, priority, order);
}

void region_shim_unlink(MemoryRegion *child)
{
    region_unlink(child);
}

void region_shim_move(MemoryRegion *mr, hwaddr addr)
{
    region_move(mr, addr);
}

void region_shim_resize(MemoryRegion *mr, uint64_t size)
{
    region_resize(mr, size);
}

void region_shim_enable(MemoryRegion *mr, bool enabled)
{
    region_enable(mr, enabled);
}

bool region_shim_is_mapped(const MemoryRegion *mr)
{
    return region_is_mapped(mr);
}

uint64_t region_shim_size(const MemoryRegion *mr)
{
    return region_size(mr);
}

MemoryRegion *region_shim_children_first(const MemoryRegion *parent, hwaddr first, hwaddr last)
{
    return children_first(parent, (AddrRange){ first, last });
}

MemoryRegion *region_shim_children_next(const MemoryRegion *child, hwaddr first, hwaddr last)
{
    return children_next(child, (AddrRange){ first, last });
}

MemoryRegion *region_shim_children_first_enabled(const MemoryRegion *parent)
{
    return children_first_enabled(parent);
}

MemoryRegion *region_shim_children_begin(const MemoryRegion *parent)
{
    return children_begin(parent);
}

MemoryRegion *region_shim_children_after(const MemoryRegion *child)
{
    return children_after(child);
}

void region_shim_children_check(const MemoryRegion *parent)
{
    children_check(parent);
}

bool region_shim_makes_loop(MemoryRegion *parent, MemoryRegion *child, hwaddr addr)
{
    return region_makes_loop(parent, child, addr);
}

typedef struct Visitor {
    bool (*visit)(MemoryRegion *mr, hwaddr first, hwaddr last, void *arg);
    void *arg;
} Visitor;

static bool unpack(MemoryRegion *mr, AddrRange window, MemoryRegion **aliases, void *arg)
{
    Visitor *visitor = arg;

    (void)aliases;
    return visitor->visit(mr, window.first, window.last, visitor->arg);
}

bool region_shim_walk_up(MemoryRegion *mr, hwaddr first, hwaddr last,
                         bool (*visit)(MemoryRegion *mr, hwaddr first, hwaddr last, void *arg), void *arg)
{
    Visitor visitor = { visit, arg };

    return region_walk_up(mr, (AddrRange){ first, last }, unpack, &visitor);
}

unsigned region_shim_walk_budget(void)
{
    return REGION_WALK_BUDGET;
}

unsigned region_shim_walk_branches(void)
{
    return REGION_WALK_BRANCHES;
}

int region_shim_ops_check(const MemoryRegionOps *ops, uint32_t *ret_io_flags)
{
    return ops_check(ops, ret_io_flags);
}

static unsigned log2_of(unsigned size)
{
    return (unsigned)__builtin_ctz(size);
}

bool region_shim_fast_read(uint32_t io_flags, unsigned size)
{
    return io_flags & REGION_IO_FAST_READ(log2_of(size));
}

bool region_shim_fast_write(uint32_t io_flags, unsigned size)
{
    return io_flags & REGION_IO_FAST_WRITE(log2_of(size));
}

bool region_shim_can_read(uint32_t io_flags)
{
    return io_flags & REGION_IO_CAN_READ;
}

bool region_shim_can_write(uint32_t io_flags)
{
    return io_flags & REGION_IO_CAN_WRITE;
}

bool region_shim_big_endian(uint32_t io_flags)
{
    return io_flags & REGION_IO_BIG_ENDIAN;
}

int region_shim_legacy_new(const MemoryRegionLegacyOps *legacy, const MemoryRegionOps **ret_ops)
{
    return legacy_ops_new(legacy, ret_ops);
}

void region_shim_legacy_free(const MemoryRegionOps *ops)
{
    legacy_ops_free(ops);
}

void region_shim_fail_nth(uint64_t nth)
{
    mem_fail_nth(nth, false);
}

uint64_t region_shim_live_bytes(void)
{
    return mem_live_bytes();
}
