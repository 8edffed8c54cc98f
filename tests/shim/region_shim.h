/* SPDX-License-Identifier: MIT */
/*
 * region_shim.h - topology/region.h for C++: raw regions, their index, the walk up, ops.
 *
 * Single-threaded, so without the topology lock.
 */
#ifndef FLATVIEW_TESTS_REGION_SHIM_H
#define FLATVIEW_TESTS_REGION_SHIM_H

#include <flatview/memory_region.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    REGION_SHIM_NONE,
    REGION_SHIM_STATIC,
    REGION_SHIM_LIVE,
};

/* region.c */
void region_shim_init(MemoryRegion *mr, MemoryRegionKind kind, uint64_t size);
void region_shim_init_alias(MemoryRegion *mr, MemoryRegion *target, hwaddr offset, uint64_t size);
void region_shim_fini(MemoryRegion *mr); /* leaves its target first */
uint64_t region_shim_live_count(void);
int region_shim_adopt(MemoryRegion *mr);
void region_shim_link(MemoryRegion *parent, MemoryRegion *child, hwaddr addr, int priority);
void region_shim_link_ordered(MemoryRegion *parent, MemoryRegion *child, hwaddr addr, int priority, uint64_t order);
void region_shim_unlink(MemoryRegion *child);
void region_shim_move(MemoryRegion *mr, hwaddr addr);
void region_shim_resize(MemoryRegion *mr, uint64_t size);
void region_shim_enable(MemoryRegion *mr, bool enabled);
bool region_shim_is_mapped(const MemoryRegion *mr);
uint64_t region_shim_size(const MemoryRegion *mr);

/* children.c */
MemoryRegion *region_shim_children_first(const MemoryRegion *parent, hwaddr first, hwaddr last);
MemoryRegion *region_shim_children_next(const MemoryRegion *child, hwaddr first, hwaddr last);
MemoryRegion *region_shim_children_first_enabled(const MemoryRegion *parent);
MemoryRegion *region_shim_children_begin(const MemoryRegion *parent);
MemoryRegion *region_shim_children_after(const MemoryRegion *child);
void region_shim_children_check(const MemoryRegion *parent);

/* walk.c */
bool region_shim_makes_loop(MemoryRegion *parent, MemoryRegion *child, hwaddr addr);
bool region_shim_walk_up(MemoryRegion *mr, hwaddr first, hwaddr last,
                         bool (*visit)(MemoryRegion *mr, hwaddr first, hwaddr last, void *arg), void *arg);
unsigned region_shim_walk_budget(void);
unsigned region_shim_walk_branches(void);

/* ops.c, legacy.c */
int region_shim_ops_check(const MemoryRegionOps *ops, uint32_t *ret_io_flags);
bool region_shim_fast_read(uint32_t io_flags, unsigned size);
bool region_shim_fast_write(uint32_t io_flags, unsigned size);
bool region_shim_can_read(uint32_t io_flags);
bool region_shim_can_write(uint32_t io_flags);
bool region_shim_big_endian(uint32_t io_flags);
int region_shim_legacy_new(const MemoryRegionLegacyOps *legacy, const MemoryRegionOps **ret_ops);
void region_shim_legacy_free(const MemoryRegionOps *ops);

/* base/mem.h: the nth allocation of this thread from now on fails; 0 ends that */
void region_shim_fail_nth(uint64_t nth);
uint64_t region_shim_live_bytes(void);

#ifdef __cplusplus
}
#endif

#endif
