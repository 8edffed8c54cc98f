/* SPDX-License-Identifier: MIT */
/*
 * maps.c - building n disjoint regions in one transaction.
 */
#include "maps.h"

#include "bench.h"

/* The comment in the assembly makes each function another one to a compiler that would fold equal ones. */
#define DEFINE_HANDLER(k) \
    static uint64_t device_read_##k(MemoryRegion *mr, hwaddr addr, unsigned size) \
    { \
        __asm__ volatile("# handler " #k); \
        (void)addr, (void)size; \
        return container_of(mr, Device, mr)->id; \
    } \
    static void device_write_##k(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size) \
    { \
        __asm__ volatile("# handler " #k); \
        (void)addr, (void)size; \
        container_of(mr, Device, mr)->writes += data; \
    }

#define HANDLER_OPS(k) \
    { \
        .read = device_read_##k, .write = device_write_##k, .endianness = MEMORY_LITTLE_ENDIAN, \
        .valid = {.min_access_size = 1, .max_access_size = 8}, .impl = {.min_access_size = 1, .max_access_size = 8}, \
    }

#define FOR_ALL_HANDLERS(f, sep) \
    f(0) sep f(1) sep f(2) sep f(3) sep f(4) sep f(5) sep f(6) sep f(7) sep f(8) sep f(9) sep f(10) sep f(11) sep f(12) \
    sep f(13) sep f(14) sep f(15)

#define NOTHING
#define COMMA ,

FOR_ALL_HANDLERS(DEFINE_HANDLER, NOTHING)

const MemoryRegionOps map_device_ops[MAP_HANDLERS] = {FOR_ALL_HANDLERS(HANDLER_OPS, COMMA)};

static void init_region(Map *map, size_t i, unsigned handlers)
{
    Device *device = &map->devices[i];
    uint32_t *words;
    size_t w;

    device->id = i;
    if (!map->ram) {
        device->ops = &map_device_ops[i % handlers];
        bench_check(memory_region_init_io(&device->mr, device->ops, "device", MAP_SIZE) == 0);
        return;
    }
    words = map->ram + i * (MAP_SIZE / 4);
    for (w = 0; w < MAP_SIZE / 4; w++) {
        words[w] = (uint32_t)i;
    }
    bench_check(memory_region_init_ram_ptr(&device->mr, "ram", MAP_SIZE, words) == 0);
}

static Map *make(size_t n, bool ram, unsigned handlers)
{
    Map *map = bench_alloc(1, sizeof(*map));
    FlatView *view;
    size_t i;

    map->n = n;
    map->devices = bench_alloc(n, sizeof(*map->devices));
    map->ram = ram ? bench_alloc(n, MAP_SIZE) : NULL;
    for (i = 0; i < n; i++) {
        init_region(map, i, handlers);
    }
    bench_check(memory_region_init(&map->root, "system", UINT64_MAX) == 0);
    bench_check(address_space_init(&map->as, &map->root, "memory") == 0);
    bench_check(memory_transaction_begin() == 0);
    for (i = 0; i < n; i++) {
        bench_check(memory_region_add_subregion(&map->root, map_addr(i), &map->devices[i].mr) == 0);
    }
    bench_check(memory_transaction_commit() == 0);
    view = address_space_get_flatview(&map->as);
    bench_check(flatview_count(view) == n);
    flatview_unref(view);
    return map;
}

Map *map_new(size_t n, bool ram)
{
    return make(n, ram, 1);
}

Map *map_new_handlers(size_t n, unsigned handlers)
{
    return make(n, false, handlers);
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
