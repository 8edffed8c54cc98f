/* SPDX-License-Identifier: MIT */
/*
 * dispatch_bench.c - what one access costs, rung by rung (rungs/rung.h).
 *
 * The same addresses, the same devices, the same answers on every rung. What varies:
 *   region      same: one, again and again. hot16: one of 16, spread evenly over all. random: any
 *   addresses   independent: the next is known early. dependent: it depends on the value just read, as the next exit of a
 *               guest does on the answer to the last
 *   handlers    1: all devices have the same callbacks. 16: the call through the record cannot be predicted
 */
#include "bench.h"
#include "maps.h"
#include "rungs/rung.h"

#include <string.h>

enum { RUNGS_MAX = 16, CASES_MAX = 512, RIGS_MAX = 16 };

typedef struct Rig {
    Map *map;
    unsigned handlers;
    void *self[RUNGS_MAX]; /* NULL: this rung cannot */
} Rig;

static Rig rigs[RIGS_MAX];
static BenchCase cases[CASES_MAX];
static Loop loops[CASES_MAX];
static size_t n_rigs, n_cases;

static Rig *rig_new(Map *map, unsigned handlers)
{
    Rig *rig = &rigs[n_rigs++];
    size_t i;

    bench_check(n_rigs <= RIGS_MAX);
    *rig = (Rig){.map = map, .handlers = handlers};
    for (i = 0; rungs[i]; i++) {
        bench_check(i < RUNGS_MAX);
        if (bench_wanted(rungs[i]->name) && (!rungs[i]->n_max || map->n <= rungs[i]->n_max)) {
            rig->self[i] = rungs[i]->open(map);
        }
    }
    return rig;
}

static void rigs_free(void)
{
    size_t i, k;

    for (k = 0; k < n_rigs; k++) {
        for (i = 0; rungs[i]; i++) {
            if (rigs[k].self[i]) {
                rungs[i]->close(rigs[k].self[i]);
            }
        }
        map_free(rigs[k].map);
    }
}

typedef enum Op { LOAD, CHAIN, STORE } Op;
typedef enum Region { SAME, HOT16, RANDOM } Region;

static unsigned log2_of(size_t n)
{
    return 63 - (unsigned)__builtin_clzll(n);
}

/* One case for each rung; n is a power of two. */
static void add_cases(Rig *rig, Region region, Op op)
{
    static const char *const region_names[] = {"same", "hot16", "random"};
    size_t i, n = rig->map->n;

    for (i = 0; rungs[i]; i++) {
        const Rung *rung = rungs[i];

        if (!rig->self[i]) {
            continue;
        }
        bench_check(n_cases < CASES_MAX);
        loops[n_cases] = (Loop){
            .self = rig->self[i],
            .mask = region == SAME ? 0 : region == HOT16 ? 15 : n - 1,
            .shift = region == HOT16 ? log2_of(n) - 4 : 0,
            .state = 1,
        };
        cases[n_cases] = (BenchCase){
            .subject = rung->name,
            .params = bench_text("\"op\": \"%s\", \"kind\": \"%s\", \"n\": %zu, \"region\": \"%s\", \"addresses\": \"%s\", "
                                 "\"handlers\": %u",
                                 op == STORE ? "store" : "load", rig->map->ram ? "ram" : "mmio", n, region_names[region],
                                 op == CHAIN ? "dependent" : "independent", rig->handlers),
            .run = op == STORE ? rung->stores : op == CHAIN ? rung->chain : rung->loads,
            .arg = &loops[n_cases],
            .batch = bench_options.quick ? 8000 : 20000,
            .count = 10000,
        };
        n_cases++;
    }
}

static void random_cases(Rig *rig)
{
    add_cases(rig, RANDOM, LOAD);
    if (!bench_options.count) { /* the same instructions */
        add_cases(rig, RANDOM, CHAIN);
    }
}

static void mmio_cases(void)
{
    static const size_t sizes[] = {16, 256, 4096, 65536};
    size_t i, n_sizes = bench_options.quick ? 3 : 4;

    for (i = 0; i < n_sizes; i++) {
        Rig *rig = rig_new(map_new(sizes[i], false), 1);

        if (sizes[i] == 256) {
            add_cases(rig, SAME, LOAD);
            add_cases(rig, SAME, STORE);
            add_cases(rig, SAME, CHAIN);
            add_cases(rig, RANDOM, STORE);
        }
        if (sizes[i] > 16) {
            add_cases(rig, HOT16, LOAD);
        }
        random_cases(rig);
    }
    for (i = 0; i < 2; i++) {
        random_cases(rig_new(map_new_handlers(sizes[i], MAP_HANDLERS), MAP_HANDLERS));
    }
}

static void ram_cases(void)
{
    static const size_t sizes[] = {16, 256, 4096};
    size_t i;

    for (i = 0; i < 3; i++) {
        Rig *rig = rig_new(map_new(sizes[i], true), 1);

        if (sizes[i] == 256) {
            add_cases(rig, SAME, LOAD);
            add_cases(rig, SAME, STORE);
            add_cases(rig, SAME, CHAIN);
            add_cases(rig, RANDOM, STORE);
            add_cases(rig, HOT16, LOAD);
        }
        random_cases(rig);
    }
}

int main(int argc, char **argv)
{
    bench_init(argc, argv, "dispatch");
    bench_pin(0);
    bench_check(memory_thread_register() == 0); /* with the liburcu of the rung rcu-rebuild, too */
    mmio_cases();
    ram_cases();
    bench_cases(cases, n_cases, bench_options.quick ? 3 : 8, bench_options.quick ? 4 : 8);
    rigs_free();
    bench_check(memory_thread_unregister() == 0);
    return 0;
}
