/* SPDX-License-Identifier: MIT */
/*
 * maps_bench.c - the maps that QEMU's machines have had (tests/oracle): every capture is built, led through its recorded
 * steps, and searched.
 *
 *   build    all regions and spaces of a capture, from nothing, in one transaction; per region
 *   step     from one capture of a scenario to the next, in one transaction; per step. Working out what to do (step.h) is
 *            the replayer's and is measured alone and taken off
 *   look-up  flatview_find() at random addresses of the ranges of each of its views; beside it the search of a sorted array
 *            of the same sections
 *
 * Timed, each capture has lines of its own. Counted, all captures together have one for each.
 */
#include "bench.h"
#include "oracle.h"
#include "section_array.h"

#include "../stress/step.h"

#include <string.h>

enum { LOOKUPS = 4096, REPS = 5 };

static bool counting(void)
{
    return bench_options.count;
}

static void on(void)
{
    if (counting()) {
        bench_count_on();
    }
}

static void off(void)
{
    if (counting()) {
        bench_count_off();
    }
}

static void become(Machine *machine, const TopoFile *topo)
{
    InputError err;

    if (!machine_become(machine, topo, NULL, &err)) {
        fprintf(stderr, "maps: line %lu: %s\n", err.line, err.cause);
        exit(3);
    }
}

/* The views hold the recorded ranges, as many at least. */
static void check_built(const Machine *machine)
{
    const TopoFile *topo = machine->topo;
    size_t i;

    for (i = 0; i < topo->n_spaces; i++) {
        if (topo->spaces[i].view != TOPO_NONE) {
            FlatView *view = address_space_get_flatview(&machine->spaces[i]->as);

            bench_check(flatview_count(view) == topo->views[topo->spaces[i].view].n_ranges);
            flatview_unref(view);
        }
    }
}

static uint64_t timed_become(Machine *machine, const TopoFile *topo)
{
    uint64_t ns = bench_cpu_now();

    on();
    become(machine, topo);
    off();
    ns = bench_cpu_now() - ns;
    check_built(machine);
    return ns;
}

static uint64_t timed_plan(const TopoFile *before, const TopoFile *after)
{
    uint64_t ns = bench_cpu_now();
    Step step;

    on();
    bench_check(step_plan(&step, before, after));
    step_free(&step);
    off();
    return bench_cpu_now() - ns;
}

/* ---- look-ups ---- */

typedef struct Lookup {
    FlatView *view;
    SectionArray *array;
    uint64_t addrs[LOOKUPS];
} Lookup;

static uint64_t lookup_view(void *arg, uint64_t n)
{
    Lookup *l = arg;
    uint64_t k, inside = 0;

    for (k = 0; k < n; k++) {
        MemoryRegionSection section;

        bench_check(flatview_find(l->view, l->addrs[k % LOOKUPS], &section));
        inside += l->addrs[k % LOOKUPS] <= section.last;
    }
    bench_check(inside == n);
    return inside;
}

static uint64_t lookup_array(void *arg, uint64_t n)
{
    Lookup *l = arg;
    uint64_t k, inside = 0;

    for (k = 0; k < n; k++) {
        MemoryRegionSection section;

        bench_check(section_array_find(l->array, l->addrs[k % LOOKUPS], &section));
        inside += l->addrs[k % LOOKUPS] <= section.last;
    }
    bench_check(inside == n);
    return inside;
}

static AddressSpace *busiest(const Machine *machine)
{
    AddressSpace *best = NULL;
    size_t most = 0, i;

    for (i = 0; i < machine->topo->n_spaces; i++) {
        FlatView *view = address_space_get_flatview(&machine->spaces[i]->as);

        if (flatview_count(view) > most) {
            most = flatview_count(view);
            best = &machine->spaces[i]->as;
        }
        flatview_unref(view);
    }
    return best;
}

/* In the view with the most ranges. NULL: the machine shows nothing. */
static Lookup *lookup_new(const Machine *machine)
{
    AddressSpace *as = busiest(machine);
    Lookup *l = bench_alloc(1, sizeof(*l));
    uint64_t state = 1;
    size_t k;

    if (!as) {
        free(l);
        return NULL;
    }
    l->view = address_space_get_flatview(as);
    l->array = section_array_new(l->view);
    for (k = 0; k < LOOKUPS; k++) {
        const MemoryRegionSection *section = &l->array->sections[bench_random(&state) % l->array->n];
        uint64_t len = section->last - section->offset_within_address_space;

        l->addrs[k] = section->offset_within_address_space + (len ? (bench_random(&state) << 31 ^ bench_random(&state)) % len : 0);
    }
    return l;
}

static void lookup_free(Lookup *l)
{
    section_array_free(l->array);
    flatview_unref(l->view);
    free(l);
}

/* ---- all captures ---- */

static const char *params_of(const char *op, const char *stem, size_t n)
{
    return bench_text("\"op\": \"%s\", \"map\": \"%s\", \"n\": %zu", op, stem, n);
}

static void time_lookups(const char *stem, Machine *machine)
{
    Lookup *l = lookup_new(machine);

    if (l) {
        const char *params = params_of("look-up", stem, l->array->n);
        BenchCase cases[] = {
            {.subject = "flatview", .params = params, .run = lookup_view, .arg = l, .batch = LOOKUPS},
            {.subject = "sorted array", .params = params, .run = lookup_array, .arg = l, .batch = LOOKUPS},
        };

        bench_cases(cases, 2, 2, 2);
        lookup_free(l);
    }
}

static void time_capture(const char *stem)
{
    TopoFile *topo = oracle_read(stem);
    Series builds = {0};
    Machine machine;
    int rep;

    for (rep = 0; rep < REPS; rep++) {
        uint64_t plan = timed_plan(&topo_nothing, topo), ns;

        machine_init(&machine, NULL);
        ns = timed_become(&machine, topo);
        series_add(&builds, (double)(ns > plan ? ns - plan : 0) / (double)topo->n_regions);
        if (rep == REPS - 1) {
            time_lookups(stem, &machine);
        }
        machine_fini(&machine, NULL);
    }
    bench_emit("flatview", params_of("build", stem, topo->n_regions), "cpu time", "ns/region", &builds);
    oracle_free(topo);
}

static void time_step(const char *from, const char *to)
{
    TopoFile *before = oracle_read(from), *after = oracle_read(to);
    Series steps = {0};
    Machine machine;
    int rep;

    machine_init(&machine, NULL);
    become(&machine, before);
    for (rep = 0; rep < REPS; rep++) {
        uint64_t plan = timed_plan(before, after), ns = timed_become(&machine, after);

        series_add(&steps, (double)(ns > plan ? ns - plan : 0) / 1000);
        become(&machine, before);
    }
    bench_emit("flatview", params_of("step", to, after->n_regions), "cpu time", "us/step", &steps);
    machine_fini(&machine, NULL);
    oracle_free(after);
    oracle_free(before);
}

/* Quick: every eighth. */
static bool left_out(size_t i)
{
    return bench_options.quick && i % 8;
}

static void count_builds(char **stems)
{
    uint64_t regions = 0;
    size_t i;

    bench_count_begin();
    for (i = 0; stems[i]; i++) {
        TopoFile *topo;
        Machine machine;

        if (left_out(i)) {
            continue;
        }
        topo = oracle_read(stems[i]);
        machine_init(&machine, NULL);
        timed_become(&machine, topo);
        regions += topo->n_regions;
        machine_fini(&machine, NULL);
        oracle_free(topo);
    }
    bench_count_end("flatview", "\"op\": \"build, planning included; per region\", \"map\": \"all\"", regions);
}

static void count_steps(char **pairs, bool plan_only)
{
    uint64_t steps = 0;
    size_t i;

    bench_count_begin();
    for (i = 0; pairs[i]; i += 2) {
        TopoFile *before, *after;
        Machine machine;

        if (left_out(i / 2)) {
            continue;
        }
        before = oracle_read(pairs[i]);
        after = oracle_read(pairs[i + 1]);
        if (plan_only) {
            timed_plan(before, after);
        } else {
            machine_init(&machine, NULL);
            become(&machine, before);
            timed_become(&machine, after);
            machine_fini(&machine, NULL);
        }
        steps++;
        oracle_free(after);
        oracle_free(before);
    }
    bench_count_end("flatview", plan_only ? "\"op\": \"step, planning alone\", \"map\": \"all\""
                                          : "\"op\": \"step, planning included\", \"map\": \"all\"", steps);
}

static void count_lookups(char **stems, bool array)
{
    uint64_t lookups = 0;
    size_t i;

    bench_count_begin();
    for (i = 0; stems[i]; i++) {
        Machine machine;
        TopoFile *topo;
        Lookup *l;

        if (left_out(i)) {
            continue;
        }
        topo = oracle_read(stems[i]);
        machine_init(&machine, NULL);
        become(&machine, topo);
        l = lookup_new(&machine);
        if (l) {
            on();
            lookups += array ? lookup_array(l, LOOKUPS) : lookup_view(l, LOOKUPS);
            off();
            lookup_free(l);
        }
        machine_fini(&machine, NULL);
        oracle_free(topo);
    }
    bench_count_end(array ? "sorted array" : "flatview", "\"op\": \"look-up\", \"map\": \"all\"", lookups);
}

int main(int argc, char **argv)
{
    char **stems, **pairs;
    size_t i;

    bench_init(argc, argv, "maps");
    bench_pin(1);
    if (!oracle_folder()) {
        return 0;
    }
    stems = oracle_stems();
    pairs = oracle_pairs();
    if (counting()) {
        count_builds(stems);
        count_steps(pairs, false);
        count_steps(pairs, true);
        count_lookups(stems, false);
        count_lookups(stems, true);
    }
    for (i = 0; stems[i] && !counting(); i++) {
        if (!left_out(i)) {
            time_capture(stems[i]);
        }
    }
    for (i = 0; pairs[i] && !counting(); i += 2) {
        if (!left_out(i / 2)) {
            time_step(pairs[i], pairs[i + 1]);
        }
    }
    oracle_names_free(pairs);
    oracle_names_free(stems);
    return 0;
}
