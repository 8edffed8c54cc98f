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
    const MemoryRegionOps *ops; /* what the region was made with; NULL: RAM */
    uint64_t id;
    uint64_t writes;
} Device;

typedef struct Map {
    AddressSpace as;
    MemoryRegion root;
    Device *devices; /* MMIO, or */
    uint32_t *ram;   /* RAM: every word of region i is i */
    size_t n;
} Map;

static inline hwaddr map_addr(uint64_t i)
{
    return MAP_BASE + i * MAP_STRIDE;
}

/* They do the same, but are different functions, so a call through a record cannot be predicted from the last. */
enum { MAP_HANDLERS = 16 };
extern const MemoryRegionOps map_device_ops[MAP_HANDLERS];

Map *map_new(size_t n, bool ram);
Map *map_new_handlers(size_t n, unsigned handlers); /* MMIO; region i has handler i % handlers */
void map_free(Map *map); /* waits for readers */

#endif
