/* SPDX-License-Identifier: MIT */
/*
 * maps.h - the map that most benchmarks run on: n disjoint regions of one page, MAP_STRIDE apart from MAP_BASE on.
 *
 * Region i answers every read with i: whoever adds up what it read has proven which regions it read.
 */
#ifndef FLATVIEW_BENCH_MAPS_H
#define FLATVIEW_BENCH_MAPS_H

#include <flatview/memory.h>

#define MAP_BASE (UINT64_C(1) << 32)
#define MAP_STRIDE UINT64_C(0x10000)
#define MAP_SIZE UINT64_C(0x1000)

typedef struct Device {
    MemoryRegion mr;
    uint64_t id;
    uint64_t writes;
} Device;

typedef struct Map {
    AddressSpace as;
    MemoryRegion root;
    Device *devices; /* MMIO, or */
    uint32_t *ram;   /* RAM: every word of region i is i */
    size_t n;
    double load_ns; /* how long the one transaction took that put all of them in */
    uint64_t load_bytes; /* what the view and the bookkeeping of the transaction left allocated */
} Map;

static inline hwaddr map_addr(uint64_t i)
{
    return MAP_BASE + i * MAP_STRIDE;
}

extern const MemoryRegionOps map_device_ops;

Map *map_new(size_t n, bool ram);
void map_free(Map *map); /* waits for readers */

#endif
