/* SPDX-License-Identifier: MIT */
/*
 * reclaim_bench.c - how long what was removed stays.
 *
 *   release   from the return of memory_region_destroy() to the release function: on the library's worker, which lets a
 *             grace period pass and sleeps between its rounds
 *   quiesce   the same, waited for by the writer: it lets a grace period pass itself
 *   over time  bytes retired and not yet freed, beside a writer without pause: with a reader that does nothing, one that loads
 *              without pause, and one that stays in one section, so that what is retired meets the limit and the writer waits
 */
#include "bench.h"
#include "maps.h"

#include <pthread.h>

enum { IDLE, BUSY, INSIDE, STOP };
static int wanted = IDLE;  /* atomic */
static int reached = IDLE; /* atomic: what the reader is doing */
static uint64_t loads;     /* atomic */
static Map *map;

#define LIMIT_SMALL (1u << 20) /* ascending: the most ever retired is one figure for the whole process */
#define LIMIT_LARGE (8u << 20)

static void nap(uint64_t ns)
{
    struct timespec pause = {.tv_nsec = (long)ns};

    nanosleep(&pause, NULL);
}

static void *reader(void *arg)
{
    uint64_t done = 0, state = 1;
    int what;

    (void)arg;
    bench_pin(0);
    bench_check(memory_thread_register() == 0);
    while ((what = __atomic_load_n(&wanted, __ATOMIC_ACQUIRE)) != STOP) {
        __atomic_store_n(&reached, what, __ATOMIC_RELEASE);
        if (what == BUSY) {
            uint64_t i = 1 + bench_random(&state) % (map->n - 1); /* 0 is the writer's */
            uint32_t value;

            bench_check(address_space_ldl_le(&map->as, map_addr(i), MEMTXATTRS_UNSPECIFIED, &value) == MEMTX_OK);
            bench_check(value == i);
            __atomic_store_n(&loads, ++done, __ATOMIC_RELAXED);
        } else if (what == INSIDE) {
            memory_read_begin();
            while (__atomic_load_n(&wanted, __ATOMIC_ACQUIRE) == INSIDE) {
                nap(100000);
            }
            memory_read_end();
        } else {
            nap(100000);
        }
    }
    bench_check(memory_thread_unregister() == 0);
    return NULL;
}

static void ask(int what)
{
    __atomic_store_n(&wanted, what, __ATOMIC_RELEASE);
    while (__atomic_load_n(&reached, __ATOMIC_ACQUIRE) != what) {
        nap(10000);
    }
}

static uint64_t released_at; /* atomic; 0: not yet */

static void released(MemoryRegion *mr)
{
    (void)mr;
    __atomic_store_n(&released_at, bench_now(), __ATOMIC_RELEASE);
}

static void removals(const char *readers, unsigned times, bool quiesce)
{
    Device *device = bench_alloc(1, sizeof(*device));
    Series series = {0};
    unsigned k;

    for (k = 0; k < times; k++) {
        uint64_t begin, end;

        bench_check(memory_region_init_io(&device->mr, &map_device_ops[0], "guest", MAP_SIZE) == 0);
        bench_check(memory_region_set_release(&device->mr, released) == 0);
        bench_check(memory_region_add_subregion(&map->root, 0, &device->mr) == 0);
        __atomic_store_n(&released_at, 0, __ATOMIC_RELAXED);
        bench_check(memory_region_del_subregion(&map->root, &device->mr) == 0);
        bench_check(memory_region_destroy(&device->mr) == 0);
        begin = bench_now();
        if (quiesce) {
            bench_check(memory_region_quiesce(&device->mr) == 0);
        }
        while (!(end = __atomic_load_n(&released_at, __ATOMIC_ACQUIRE))) {
            nap(50000);
        }
        series_add(&series, end > begin ? (double)(end - begin) / 1000 : 0);
    }
    bench_emit("flatview", bench_text("\"op\": \"%s\", \"readers\": \"%s\"", quiesce ? "quiesce" : "release", readers),
               "time", "us/op", &series);
    free(device);
}

static volatile bool go_on;
static uint64_t commits; /* atomic */

static void *writer(void *arg)
{
    bool enabled = true;

    (void)arg;
    bench_pin(1);
    while (go_on || !enabled) {
        enabled = !enabled;
        bench_check(memory_region_set_enabled(&map->devices[0].mr, enabled) == 0);
        __atomic_fetch_add(&commits, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

/* What was retired before is gone, nearly. */
static void calm(void)
{
    MemoryStats stats;

    do {
        bench_check(memory_reclaim() == 0);
        memory_get_stats(&stats);
    } while (stats.retired_bytes > 100000);
}

/*
 * A writer without pause, and a reader that does this. What is retired and not yet freed is looked at every few
 * milliseconds: the series, and each look. One that is inside leaves when two thirds are over.
 */
static void over_time(int what, const char *readers, uint64_t limit, unsigned looks)
{
    const uint64_t pause = 4000000;
    const char *params = bench_text("\"op\": \"over time\", \"reader\": \"%s\", \"limit\": %llu", readers,
                                    (unsigned long long)limit);
    Series inside = {0}, outside = {0};
    uint64_t begin, commits_before;
    MemoryStats stats;
    pthread_t thread;
    unsigned k;

    bench_check(memory_set_reclaim_limit(limit, MEMORY_RECLAIM_WAIT) == 0);
    ask(IDLE);
    calm();
    ask(what);
    commits_before = __atomic_load_n(&commits, __ATOMIC_RELAXED);
    go_on = true;
    begin = bench_now();
    bench_check(pthread_create(&thread, NULL, writer, NULL) == 0);
    for (k = 0; k < looks; k++) {
        nap(pause);
        if (what == INSIDE && k == looks * 2 / 3) {
            bench_emit_one("flatview", params, "commits, reader inside", "commits",
                           (double)(__atomic_load_n(&commits, __ATOMIC_RELAXED) - commits_before));
            ask(IDLE);
        }
        memory_get_stats(&stats);
        series_add(what == INSIDE && k >= looks * 2 / 3 ? &outside : &inside, (double)stats.retired_bytes);
        bench_emit_one("flatview", bench_text("%s, \"ms\": %.1f", params, (double)(bench_now() - begin) / 1e6),
                       "retired at", "bytes", (double)stats.retired_bytes);
    }
    go_on = false;
    pthread_join(thread, NULL);
    bench_check(__atomic_load_n(&commits, __ATOMIC_RELAXED) - commits_before > 0);
    memory_get_stats(&stats);
    bench_emit("flatview", params, what == INSIDE ? "retired, reader inside" : "retired", "bytes", &inside);
    bench_emit("flatview", params, "retired, reader gone", "bytes", &outside);
    bench_emit_one("flatview", params, "commits", "commits/s",
                   (double)(__atomic_load_n(&commits, __ATOMIC_RELAXED) - commits_before) * 1e9 / (double)(bench_now() - begin));
    bench_emit_one("flatview", params, "retired, most ever", "bytes", (double)stats.retired_peak);
}

int main(int argc, char **argv)
{
    pthread_t thread;
    unsigned times, looks;

    bench_init(argc, argv, "reclaim");
    if (bench_options.count) {
        return 0;
    }
    bench_pin(1);
    map = map_new(256, false);
    times = bench_options.quick ? 12 : 40;
    bench_check(pthread_create(&thread, NULL, reader, NULL) == 0);
    looks = bench_options.quick ? 30 : 90;
    over_time(IDLE, "idle", LIMIT_SMALL, looks);
    over_time(BUSY, "busy", LIMIT_SMALL, looks);
    over_time(INSIDE, "inside", LIMIT_SMALL, looks);
    over_time(IDLE, "idle", LIMIT_LARGE, looks);
    over_time(BUSY, "busy", LIMIT_LARGE, looks);
    over_time(INSIDE, "inside", LIMIT_LARGE, looks);
    ask(IDLE);
    removals("idle", times, false);
    removals("idle", times, true);
    ask(BUSY);
    removals("busy", times, false);
    removals("busy", times, true);
    bench_check(__atomic_load_n(&loads, __ATOMIC_RELAXED) > 0);
    __atomic_store_n(&wanted, STOP, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    map_free(map);
    return 0;
}
