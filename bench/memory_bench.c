/* SPDX-License-Identifier: MIT */
/*
 * memory_bench.c - what the library's structures weigh: by its own account of what it has allocated (MemoryStats.live_bytes).
 *
 *   range    of a view, with the tree above it and all that mapping its region took; beside it what a record of the sorted
 *            array weighs on the other rungs
 *   region   what a region costs besides the caller's struct, before it is mapped; and that struct
 *   space    one more address space over a root that is shown already, and over a root of its own
 *   change   what one moved region adds while the view before it is pinned: the path that the two do not share
 */
#include "bench.h"
#include "maps.h"
#include "rungs/table.h"

static double live(void)
{
    MemoryStats stats;

    bench_check(memory_reclaim() == 0 && memory_reclaim() == 0);
    memory_get_stats(&stats);
    return (double)stats.live_bytes;
}

static void per_range(size_t n)
{
    const char *params = bench_text("\"what\": \"range\", \"n\": %zu", n);
    double before = live();
    Map *map = map_new(n, false);
    FlatView *view;

    bench_emit_one("flatview", params, "live", "bytes/range", (live() - before) / (double)n);
    bench_emit_one("sorted array", params, "live", "bytes/range", (double)table_bytes(n) / (double)n);

    before = live();
    view = address_space_get_flatview(&map->as);
    bench_check(memory_region_set_address(&map->devices[n / 2].mr, map_addr(n / 2) + MAP_STRIDE / 2) == 0);
    bench_emit_one("flatview", bench_text("\"what\": \"change, the view before it pinned\", \"n\": %zu", n), "live",
                   "bytes/change", live() - before);
    flatview_unref(view);
    map_free(map);
}

static void per_region(void)
{
    enum { N = 1024 };
    Device *devices = bench_alloc(N, sizeof(*devices));
    double before = live();
    size_t i;

    for (i = 0; i < N; i++) {
        bench_check(memory_region_init_io(&devices[i].mr, &map_device_ops[0], "device", MAP_SIZE) == 0);
    }
    bench_emit_one("flatview", "\"what\": \"region, not mapped\"", "live", "bytes/region", (live() - before) / N);
    bench_emit_one("flatview", "\"what\": \"region, the caller's struct\"", "size", "bytes/region", sizeof(MemoryRegion));
    for (i = 0; i < N; i++) {
        bench_check(memory_region_destroy(&devices[i].mr) == 0);
    }
    for (i = 0; i < N; i++) {
        bench_check(memory_region_quiesce(&devices[i].mr) == 0);
    }
    free(devices);
}

static void per_space(bool own_root)
{
    enum { N = 256 };
    AddressSpace *spaces = bench_alloc(N, sizeof(*spaces));
    MemoryRegion *roots = bench_alloc(N, sizeof(*roots));
    Map *map = map_new(64, false);
    Device *devices = bench_alloc(N, sizeof(*devices));
    double before;
    size_t i;

    for (i = 0; i < N; i++) {
        bench_check(memory_region_init(&roots[i], "root", UINT64_MAX) == 0);
        bench_check(memory_region_init_io(&devices[i].mr, &map_device_ops[0], "device", MAP_SIZE) == 0);
        bench_check(memory_region_add_subregion(&roots[i], 0x1000, &devices[i].mr) == 0);
    }
    before = live();
    for (i = 0; i < N; i++) {
        bench_check(address_space_init(&spaces[i], own_root ? &roots[i] : &map->root, "space") == 0);
    }
    bench_emit_one("flatview", own_root ? "\"what\": \"space, a root of its own with one range\"" : "\"what\": \"space, a shared root\"",
                   "live", "bytes/space", (live() - before) / N);
    for (i = 0; i < N; i++) {
        bench_check(address_space_destroy(&spaces[i], NULL) == 0);
        bench_check(memory_region_del_subregion(&roots[i], &devices[i].mr) == 0);
        bench_check(memory_region_destroy(&devices[i].mr) == 0 && memory_region_destroy(&roots[i]) == 0);
    }
    for (i = 0; i < N; i++) {
        bench_check(memory_region_quiesce(&devices[i].mr) == 0 && memory_region_quiesce(&roots[i]) == 0);
    }
    /* The spaces' structs may go, too: they were destroyed before their roots. */
    map_free(map);
    free(devices);
    free(roots);
    free(spaces);
}

int main(int argc, char **argv)
{
    bench_init(argc, argv, "memory");
    per_region();
    per_space(false);
    per_space(true);
    per_range(16);
    per_range(256);
    per_range(4096);
    per_range(65536);
    if (!bench_options.count || !bench_options.quick) {
        per_range(1000000);
    }
    return 0;
}
