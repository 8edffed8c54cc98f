/* SPDX-License-Identifier: MIT */
/*
 * flatview.c - the rung flatview: the library, through its public functions, as any user calls them.
 */
#include "rungs/loops.h"

static void *flatview_open(Map *map)
{
    return map;
}

static void flatview_close(void *self)
{
    (void)self;
}

static inline bool flatview_load(void *self, uint64_t i, uint64_t offset, uint32_t *ret)
{
    Map *map = self;

    return address_space_ldl_le(&map->as, map_addr(i) + offset, MEMTXATTRS_UNSPECIFIED, ret) == MEMTX_OK;
}

static inline bool flatview_store(void *self, uint64_t i, uint64_t offset, uint32_t value)
{
    Map *map = self;

    return address_space_stl_le(&map->as, map_addr(i) + offset, MEMTXATTRS_UNSPECIFIED, value) == MEMTX_OK;
}

static bool flatview_probe(void *self, uint64_t addr, uint32_t *ret)
{
    return flatview_load(self, 0, addr - map_addr(0), ret);
}

static bool flatview_change(void *self, RungChange change, size_t i, bool back)
{
    Map *map = self;
    MemoryRegion *mr = &map->devices[i].mr;

    switch (change) {
    case RUNG_TOGGLE:
        return memory_region_set_enabled(mr, back) == 0;
    case RUNG_MOVE:
        return memory_region_set_address(mr, back ? map_addr(i) : map_addr(i) + MAP_STRIDE / 2) == 0;
    default:
        return memory_region_set_size(mr, back ? MAP_SIZE : 2 * MAP_SIZE) == 0;
    }
}

DEFINE_LOOPS(flatview)

const Rung rung_flatview = {
    .name = "flatview",
    .open = flatview_open,
    .close = flatview_close,
    .loads = flatview_loads,
    .chain = flatview_chain,
    .stores = flatview_stores,
    .probe = flatview_probe,
    .change = flatview_change,
};
