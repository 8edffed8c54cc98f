/* SPDX-License-Identifier: MIT */
/*
 * populate_bench.c - filling an empty map with n disjoint regions: in one transaction, or with a commit for each.
 *
 * Per region, publication included; the regions' own initialisation is not. Addresses ascend, as a loader's do, or come in
 * an order without one. Some of these take seconds, during which a busy machine gives the CPU to others: hence the time of
 * the clock, and the CPU time of this thread.
 */
#include "bench.h"
#include "commits.h"
#include "maps.h"

typedef struct Populate {
    AddressSpace as;
    MemoryRegion root;
    Device *devices;
    size_t n;
    bool each, ascending;
} Populate;

/* Of the k-th region to be added. For a power of two an odd factor gives each place once. */
static size_t place_of(const Populate *p, size_t k)
{
    return p->ascending ? k : (k * 40503 + 7919) & (p->n - 1);
}

static void populate(Populate *p)
{
    size_t k;

    bench_check(p->each || memory_transaction_begin() == 0);
    for (k = 0; k < p->n; k++) {
        size_t i = place_of(p, k);

        bench_check(memory_region_add_subregion(&p->root, map_addr(i), &p->devices[i].mr) == 0);
        if (p->each && bench_options.count && k % 32 == 31) { /* freed here, before the worker comes to it, at its own pace */
            bench_count_off();
            bench_check(memory_reclaim() == 0);
            bench_count_on();
        }
    }
    bench_check(p->each || memory_transaction_commit() == 0);
}

static void depopulate(Populate *p)
{
    size_t i;

    bench_check(memory_transaction_begin() == 0);
    for (i = 0; i < p->n; i++) {
        bench_check(memory_region_del_subregion(&p->root, &p->devices[i].mr) == 0);
    }
    bench_check(memory_transaction_commit() == 0);
    bench_check(memory_reclaim() == 0);
}

static void check_populated(Populate *p, uint64_t commits)
{
    FlatView *view = address_space_get_flatview(&p->as);
    MemoryRegionSection section;
    size_t i;

    commits_check(commits);
    bench_check(flatview_count(view) == p->n);
    for (i = 0; i < p->n; i += 1 + p->n / 1024) {
        bench_check(flatview_find(view, map_addr(i), &section) && section.mr == &p->devices[i].mr);
    }
    flatview_unref(view);
}

static void run(size_t n, bool each, bool ascending, unsigned reps)
{
    Populate *p = bench_alloc(1, sizeof(*p));
    const char *params = bench_text("\"n\": %zu, \"transactions\": \"%s\", \"order\": \"%s\"", n, each ? "each" : "one",
                                    ascending ? "ascending" : "none");
    Series series = {0}, cpu = {0};
    size_t i;

    *p = (Populate){.devices = bench_alloc(n, sizeof(*p->devices)), .n = n, .each = each, .ascending = ascending};
    bench_check(memory_region_init(&p->root, "system", UINT64_MAX) == 0);
    bench_check(address_space_init(&p->as, &p->root, "memory") == 0);
    for (i = 0; i < n; i++) {
        bench_check(memory_region_init_io(&p->devices[i].mr, &map_device_ops[0], "device", MAP_SIZE) == 0);
    }
    for (i = 0; i < reps; i++) {
        uint64_t begin, begin_cpu;

        commits_mark();
        begin = bench_now();
        begin_cpu = bench_cpu_now();
        if (bench_options.count) {
            bench_count_begin();
            bench_count_on();
        }
        populate(p);
        if (bench_options.count) {
            bench_count_off();
            bench_count_end("flatview", params, n);
        } else {
            series_add(&series, (double)(bench_now() - begin) / (double)n);
            series_add(&cpu, (double)(bench_cpu_now() - begin_cpu) / (double)n);
        }
        check_populated(p, each ? n : 1);
        depopulate(p);
    }
    bench_emit("flatview", params, "time", "ns/range", &series);
    bench_emit("flatview", params, "cpu time", "ns/range", &cpu);
    bench_check(address_space_destroy(&p->as, NULL) == 0);
    for (i = 0; i < n; i++) {
        bench_check(memory_region_destroy(&p->devices[i].mr) == 0);
    }
    bench_check(memory_region_destroy(&p->root) == 0 && memory_region_quiesce(&p->root) == 0);
    for (i = 0; i < n; i++) {
        bench_check(memory_region_quiesce(&p->devices[i].mr) == 0);
    }
    free(p->devices);
    free(p);
}

int main(int argc, char **argv)
{
    bool quick, count;

    bench_init(argc, argv, "populate");
    quick = bench_options.quick;
    count = bench_options.count;
    bench_pin(1);
    run(1024, false, true, count ? 1 : 20);
    run(1024, true, true, count ? 1 : 20);
    run(65536, false, true, count ? 1 : quick ? 2 : 5);
    run(65536, false, false, count ? 1 : quick ? 2 : 5);
    if (!count || !quick) {
        run(65536, true, true, count ? 1 : quick ? 2 : 5);
        run(1048576, false, true, count || quick ? 1 : 3);
    }
    if (!count && !quick) {
        run(1048576, false, false, 2);
        run(1048576, true, true, 1);
    }
    return 0;
}
