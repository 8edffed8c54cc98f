/* SPDX-License-Identifier: MIT */
/*
 * publish_bench.c - what one commit costs, when the map has n ranges.
 *
 * An operation is one outermost commit: one region of n is moved, resized or toggled, and the call returns when the next
 * view is what readers find. Everything that this thread does is included: the tree, rendering, publication, retirement,
 * and waiting for the reclaim limit if it comes to that; freeing happens on the library's worker.
 *   same     one region in the middle, again and again
 *   random   another region each time: what the machine's caches do not hold is paid here
 */
#include "bench.h"
#include "maps.h"

typedef struct Heard {
    MemoryListener listener;
    uint64_t adds, dels;
} Heard;

static void heard_add(MemoryListener *listener, const MemoryRegionSection *section)
{
    (void)section;
    container_of(listener, Heard, listener)->adds++;
}

static void heard_del(MemoryListener *listener, const MemoryRegionSection *section)
{
    (void)section;
    container_of(listener, Heard, listener)->dels++;
}

typedef struct Publish {
    Map *map;
    Heard *heard;       /* NULL: nobody listens */
    bool random;
    uint64_t state, turn;
    uint64_t heard_calls; /* up to the last check */
} Publish;

/* The region of operation number turn. Operations come in pairs on the same region, there and back. */
static Device *chosen(Publish *p)
{
    if (p->random && !(p->turn & 1)) {
        bench_random(&p->state);
    }
    return &p->map->devices[p->random ? (p->state >> 33) % p->map->n : p->map->n / 2];
}

/* One pair of operations is one turn there and one back, so n must be even. */
#define DEFINE_OPERATION(name, call) \
    static uint64_t name(void *arg, uint64_t n) \
    { \
        Publish *p = arg; \
        uint64_t done = p->turn + n; \
\
        for (; p->turn < done; p->turn++) { \
            Device *device = chosen(p); \
            hwaddr home = map_addr((uint64_t)(device - p->map->devices)); \
            bool back = p->turn & 1; \
\
            (void)home; \
            bench_check(call == 0); \
        } \
        return p->turn; \
    }

DEFINE_OPERATION(op_toggle, memory_region_set_enabled(&device->mr, back))
DEFINE_OPERATION(op_move, memory_region_set_address(&device->mr, back ? home : home + MAP_STRIDE / 2))
DEFINE_OPERATION(op_resize, memory_region_set_size(&device->mr, back ? MAP_SIZE : 2 * MAP_SIZE))

static uint64_t checked_commits; /* up to the last check of any case */

static uint64_t commits_now(void)
{
    MemoryStats stats;

    memory_get_stats(&stats);
    return stats.commits;
}

static uint64_t heard_now(const Publish *p)
{
    return p->heard ? p->heard->adds + p->heard->dels : 0;
}

/* The library counts its commits, and each was heard of. */
static void check_published(void *arg, uint64_t n)
{
    Publish *p = arg;
    uint64_t commits = commits_now(), heard = heard_now(p);

    bench_check(commits - checked_commits == n && (!p->heard || heard - p->heard_calls >= n));
    checked_commits = commits;
    p->heard_calls = heard;
    if (bench_options.count) {
        bench_check(memory_reclaim() == 0);
    }
}

static const struct {
    const char *name;
    uint64_t (*run)(void *arg, uint64_t n);
} operations[] = {{"toggle", op_toggle}, {"move", op_move}, {"resize", op_resize}};

enum { OPERATIONS = sizeof(operations) / sizeof(operations[0]), CASES_MAX = 128 };

static BenchCase cases[CASES_MAX];
static Publish states[CASES_MAX];
static size_t n_cases;

static void add_case(Map *map, Heard *heard, int op, bool random, unsigned spaces)
{
    bench_check(n_cases < CASES_MAX);
    states[n_cases] = (Publish){.map = map, .heard = heard, .random = random, .state = 1};
    cases[n_cases] = (BenchCase){
        .subject = "flatview",
        .params = bench_text("\"op\": \"%s\", \"n\": %zu, \"region\": \"%s\", \"listeners\": %d, \"spaces\": %u",
                             operations[op].name, map->n, random ? "random" : "same", heard ? 1 : 0, spaces),
        .run = operations[op].run,
        .after = check_published,
        .arg = &states[n_cases],
        .batch = 256,
        .count = 1024,
        .chunk = 32,
    };
    n_cases++;
}

static void check_back_home(Map *map)
{
    FlatView *view = address_space_get_flatview(&map->as);
    MemoryRegionSection section;
    size_t i;

    bench_check(flatview_count(view) == map->n);
    for (i = 0; i < map->n; i += 1 + map->n / 64) {
        bench_check(flatview_find(view, map_addr(i), &section) && section.mr == &map->devices[i].mr &&
                    section.last == map_addr(i) + MAP_SIZE - 1);
    }
    flatview_unref(view);
}

static void say_load(const Map *map)
{
    const char *params = bench_text("\"op\": \"load\", \"n\": %zu", map->n);

    if (!bench_options.count) {
        bench_emit_one("flatview", params, "time", "ns/range", map->load_ns / (double)map->n);
        bench_emit_one("flatview", params, "live", "bytes/range", (double)map->load_bytes / (double)map->n);
    }
}

static void run_cases(unsigned passes)
{
    checked_commits = commits_now();
    bench_cases(cases, n_cases, passes, bench_options.quick ? 8 : 20);
    n_cases = 0;
}

/* Bus masters: an alias of everything in a container of its own. All of them show the root's view. */
typedef struct Master {
    MemoryRegion bus, window;
    AddressSpace as;
} Master;

static void with_masters(size_t n, unsigned n_masters)
{
    Master *masters = bench_alloc(n_masters, sizeof(*masters));
    Map *map = map_new(n, false);
    MemoryStats stats;
    unsigned i;

    for (i = 0; i < n_masters; i++) {
        Master *m = &masters[i];

        bench_check(memory_region_init(&m->bus, "bus master container", UINT64_MAX) == 0);
        bench_check(memory_region_init_alias(&m->window, "bus master", &map->root, 0, UINT64_MAX) == 0);
        bench_check(memory_region_add_subregion(&m->bus, 0, &m->window) == 0);
        bench_check(address_space_init(&m->as, &m->bus, "device") == 0);
    }
    memory_get_stats(&stats);
    bench_check(stats.address_spaces == n_masters + 1 && stats.views == 1);
    add_case(map, NULL, 1, false, n_masters + 1);
    run_cases(bench_options.quick ? 2 : 4);
    check_back_home(map);
    for (i = 0; i < n_masters; i++) {
        Master *m = &masters[i];

        bench_check(address_space_destroy(&m->as, NULL) == 0);
        bench_check(memory_region_del_subregion(&m->bus, &m->window) == 0);
        bench_check(memory_region_destroy(&m->window) == 0 && memory_region_destroy(&m->bus) == 0);
        bench_check(memory_region_quiesce(&m->bus) == 0);
    }
    map_free(map);
    free(masters);
}

static void by_size(void)
{
    static const size_t sizes[] = {16, 64, 1024, 4096, 65536};
    enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };
    Map *plain[SIZES], *heard_map[SIZES];
    Heard heard[SIZES];
    size_t i;
    int op;

    for (i = 0; i < SIZES; i++) {
        plain[i] = map_new(sizes[i], false);
        heard_map[i] = map_new(sizes[i], false);
        heard[i] = (Heard){.listener = {.region_add = heard_add, .region_del = heard_del, .name = "bench"}};
        bench_check(memory_listener_register(&heard[i].listener, &heard_map[i]->as) == 0);
        bench_check(heard[i].adds == sizes[i]);
        say_load(plain[i]);
    }
    for (op = 0; op < OPERATIONS; op++) {
        for (i = 0; i < SIZES; i++) {
            add_case(plain[i], NULL, op, false, 1);
        }
    }
    for (i = 0; i < SIZES; i++) {
        add_case(plain[i], NULL, 0, true, 1);
        add_case(heard_map[i], &heard[i], 1, false, 1);
    }
    run_cases(bench_options.quick ? 2 : 5);
    for (i = 0; i < SIZES; i++) {
        check_back_home(plain[i]);
        check_back_home(heard_map[i]);
        bench_check(memory_listener_unregister(&heard[i].listener) == 0);
        bench_check(heard[i].adds == heard[i].dels);
        map_free(plain[i]);
        map_free(heard_map[i]);
    }
}

/* A million ranges load in one transaction and stay usable. */
static void a_million(void)
{
    Map *map = map_new(1000000, false);

    say_load(map);
    add_case(map, NULL, 0, false, 1);
    add_case(map, NULL, 0, true, 1);
    add_case(map, NULL, 1, false, 1);
    run_cases(bench_options.quick ? 1 : 3);
    check_back_home(map);
    map_free(map);
}

int main(int argc, char **argv)
{
    bench_init(argc, argv, "publish");
    bench_pin(1);
    by_size();
    with_masters(4096, 64);
    if (!bench_options.count || !bench_options.quick) {
        a_million();
    }
    return 0;
}
