/* SPDX-License-Identifier: MIT */
/*
 * maps.c - building n disjoint regions in one transaction.
 */
#include "maps.h"

#include "bench.h"

static uint64_t device_read(MemoryRegion *mr, hwaddr addr, unsigned size)
{
    (void)addr, (void)size;
    return container_of(mr, Device, mr)->id;
}

static void device_write(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size)
{
    (void)addr, (void)size;
    container_of(mr, Device, mr)->writes += data;
}

const MemoryRegionOps map_device_ops = {
    .read = device_read,
    .write = device_write,
    .endianness = MEMORY_LITTLE_ENDIAN,
    .valid = {.min_access_size = 1, .max_access_size = 8},
    .impl = {.min_access_size = 1, .max_access_size = 8},
};

static void init_region(Map *map, size_t i)
{
    Device *device = &map->devices[i];
    uint32_t *words;
    size_t w;

    device->id = i;
    if (!map->ram) {
        bench_check(memory_region_init_io(&device->mr, &map_device_ops, "device", MAP_SIZE) == 0);
        return;
    }
    words = map->ram + i * (MAP_SIZE / 4);
    for (w = 0; w < MAP_SIZE / 4; w++) {
        words[w] = (uint32_t)i;
    }
    bench_check(memory_region_init_ram_ptr(&device->mr, "ram", MAP_SIZE, words) == 0);
}

Map *map_new(size_t n, bool ram)
{
    Map *map = bench_alloc(1, sizeof(*map));
    MemoryStats before, after;
    uint64_t begin;
    FlatView *view;
    size_t i;

    map->n = n;
    map->devices = bench_alloc(n, sizeof(*map->devices));
    map->ram = ram ? bench_alloc(n, MAP_SIZE) : NULL;
    for (i = 0; i < n; i++) {
        init_region(map, i);
    }
    bench_check(memory_region_init(&map->root, "system", UINT64_MAX) == 0);
    bench_check(address_space_init(&map->as, &map->root, "memory") == 0);
    memory_get_stats(&before);
    begin = bench_now();
    bench_check(memory_transaction_begin() == 0);
    for (i = 0; i < n; i++) {
        bench_check(memory_region_add_subregion(&map->root, map_addr(i), &map->devices[i].mr) == 0);
    }
    bench_check(memory_transaction_commit() == 0);
    map->load_ns = (double)(bench_now() - begin);
    memory_get_stats(&after);
    map->load_bytes = after.live_bytes - before.live_bytes;
    view = address_space_get_flatview(&map->as);
    bench_check(flatview_count(view) == n);
    flatview_unref(view);
    return map;
}

/* Regions are released in no particular order, by more than one thread: the end is when all of them are. */
static uint64_t released; /* atomic */

static void region_released(MemoryRegion *mr)
{
    (void)mr;
    __atomic_fetch_add(&released, 1, __ATOMIC_RELEASE);
}

static void end_region(MemoryRegion *mr)
{
    bench_check(memory_region_set_release(mr, region_released) == 0);
    bench_check(memory_region_destroy(mr) == 0);
}

void map_free(Map *map)
{
    uint64_t all = __atomic_load_n(&released, __ATOMIC_RELAXED) + map->n + 1;
    size_t i;

    bench_check(address_space_destroy(&map->as, NULL) == 0);
    bench_check(memory_transaction_begin() == 0);
    for (i = 0; i < map->n; i++) {
        bench_check(memory_region_del_subregion(&map->root, &map->devices[i].mr) == 0);
        end_region(&map->devices[i].mr);
    }
    end_region(&map->root);
    bench_check(memory_transaction_commit() == 0);
    while (__atomic_load_n(&released, __ATOMIC_ACQUIRE) < all) {
        bench_check(memory_reclaim() == 0);
    }
    free(map->ram);
    free(map->devices);
    free(map);
}
