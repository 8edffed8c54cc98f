/* SPDX-License-Identifier: MIT */
/*
 * publish_bench.c - what one change costs, when the map has n ranges; rung by rung (rungs/rung.h).
 *
 * An operation is one change, complete: one region of n is moved, resized or toggled, and the call returns when the new
 * map is what readers find. Everything that this thread does is included: the tree, rendering, publication, retirement,
 * and waiting for the reclaim limit if it comes to that; freeing happens on a worker, here and on the rung rcu-rebuild.
 * For a locked table the change is all there is: its readers pay instead (dispatch, scale).
 *   same     one region in the middle, again and again
 *   random   another region each time: what the machine's caches do not hold is paid here
 */
#include "bench.h"
#include "commits.h"
#include "maps.h"
#include "rungs/rung.h"

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
    const Rung *rung;
    void *self;
    Map *map;
    RungChange change;
    Heard *heard; /* NULL: nobody listens */
    uint64_t heard_calls; /* up to the last check */
    bool random;
    uint64_t state, turn;
} Publish;

/* Operations come in pairs on the same region, there and back, so n must be even. */
static uint64_t change_regions(void *arg, uint64_t n)
{
    Publish *p = arg;
    size_t i = p->map->n / 2;

    for (n += p->turn; p->turn < n; p->turn++) {
        if (p->random && !(p->turn & 1)) {
            i = bench_random(&p->state) % p->map->n;
        }
        bench_check(p->rung->change(p->self, p->change, i, p->turn & 1));
    }
    return p->turn;
}

/* All are at home again: some answer with their numbers. flatview counts its commits, and its listener its calls. */
static void check_changes(void *arg, uint64_t n)
{
    Publish *p = arg;
    uint64_t heard = p->heard ? p->heard->adds + p->heard->dels : 0, k;

    for (k = 0; k < 4; k++) {
        size_t i = k ? bench_random(&p->state) % p->map->n : p->map->n / 2;
        uint32_t value = UINT32_MAX;

        bench_check(p->rung->probe(p->self, map_addr(i), &value) && value == i);
    }
    bench_check(!p->heard || heard - p->heard_calls >= n);
    p->heard_calls = heard;
    if (p->rung == &rung_flatview) {
        commits_check(n);
    } else if (bench_options.count && p->rung->settle) {
        p->rung->settle(p->self);
    }
}

/* That a change does what it says. */
static void check_one_change(Publish *p)
{
    size_t i = p->map->n / 2;
    RungPlace home = rung_place(p->change, i, true), there = rung_place(p->change, i, false);
    uint32_t value = UINT32_MAX;

    bench_check(p->rung->change(p->self, p->change, i, false));
    bench_check(p->rung->probe(p->self, home.first, &value) == (there.there && there.first == home.first));
    bench_check(!there.there || (p->rung->probe(p->self, there.last - 7, &value) && value == i));
    bench_check(p->rung->change(p->self, p->change, i, true));
    bench_check(p->rung->probe(p->self, home.first, &value) && value == i);
    bench_check(!p->rung->probe(p->self, home.last + 1, &value));
}

/* Even, and about a third of a millisecond. */
static uint64_t batch_of(Publish *p)
{
    uint64_t begin = bench_now(), ns, n;

    change_regions(p, 2);
    ns = (bench_now() - begin) / 2 + 1;
    n = 300000 / ns;
    return n < 2 ? 2 : n > 256 ? 256 : n & ~UINT64_C(1);
}

enum { CASES_MAX = 256 };

static BenchCase cases[CASES_MAX];
static Publish states[CASES_MAX];
static size_t n_cases;

static void add_case(const Rung *rung, void *self, Map *map, Heard *heard, RungChange change, bool random)
{
    Publish *p = &states[n_cases];
    bool slow = rung->grows && map->n > 1024;

    bench_check(n_cases < CASES_MAX);
    *p = (Publish){.rung = rung, .self = self, .map = map, .heard = heard, .random = random, .change = change, .state = 1};
    check_one_change(p);
    cases[n_cases] = (BenchCase){
        .subject = rung->name,
        .params = bench_text("\"op\": \"%s\", \"n\": %zu, \"region\": \"%s\", \"listeners\": %d", rung_change_names[change],
                             map->n, random ? "random" : "same", heard ? 1 : 0),
        .run = change_regions,
        .after = check_changes,
        .arg = p,
        .batch = batch_of(p),
        .count = rung == &rung_flatview ? 1024 : slow ? 4 : 64,
        .chunk = slow ? 4 : 32,
    };
    n_cases++;
}

static void run_cases(unsigned passes, unsigned batches)
{
    commits_mark();
    bench_cases(cases, n_cases, passes, batches);
    n_cases = 0;
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

/* The rungs that have a map to change, on regions of their own; flatview's are those of its map. */
typedef struct Site {
    Map *map, *heard_map;
    Heard heard;
    void *self[16];
} Site;

static bool takes_part(const Rung *rung, size_t n)
{
    return rung->change && bench_wanted(rung->name) && (!rung->n_max || n <= rung->n_max);
}

static void site_open(Site *site, size_t n)
{
    size_t i;

    site->map = map_new(n, false);
    site->heard_map = map_new(n, false);
    site->heard = (Heard){.listener = {.region_add = heard_add, .region_del = heard_del, .name = "bench"}};
    bench_check(memory_listener_register(&site->heard.listener, &site->heard_map->as) == 0);
    bench_check(site->heard.adds == n);
    for (i = 0; rungs[i]; i++) {
        site->self[i] = takes_part(rungs[i], n) ? rungs[i]->open(site->map) : NULL;
    }
}

static void site_close(Site *site)
{
    size_t i;

    check_back_home(site->map);
    check_back_home(site->heard_map);
    for (i = 0; rungs[i]; i++) {
        if (site->self[i]) {
            rungs[i]->close(site->self[i]);
        }
    }
    bench_check(memory_listener_unregister(&site->heard.listener) == 0);
    bench_check(site->heard.adds == site->heard.dels);
    map_free(site->map);
    map_free(site->heard_map);
}

static void site_cases(Site *site)
{
    size_t i, n = site->map->n;
    RungChange change;

    for (i = 0; rungs[i]; i++) {
        bool few = rungs[i]->grows && n > 4096; /* milliseconds each, and no news */

        for (change = few ? RUNG_MOVE : 0; site->self[i] && change < (few ? RUNG_RESIZE : RUNG_CHANGES); change++) {
            add_case(rungs[i], site->self[i], site->map, NULL, change, false);
        }
    }
    if (!bench_wanted(rung_flatview.name)) {
        return;
    }
    add_case(&rung_flatview, site->map, site->map, NULL, RUNG_TOGGLE, true);
    add_case(&rung_flatview, site->map, site->map, NULL, RUNG_MOVE, true);
    for (change = 0; change < RUNG_CHANGES; change++) {
        add_case(&rung_flatview, site->heard_map, site->heard_map, &site->heard, change, false);
    }
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {16, 64, 256, 1024, 4096, 65536};
    enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };
    static Site sites[SIZES], million;
    size_t i;

    bench_init(argc, argv, "publish");
    bench_pin(1);
    bench_check(memory_thread_register() == 0);
    for (i = 0; i < SIZES; i++) {
        site_open(&sites[i], sizes[i]);
        site_cases(&sites[i]);
    }
    run_cases(bench_options.quick ? 2 : 5, bench_options.quick ? 6 : 16);
    for (i = 0; i < SIZES; i++) {
        site_close(&sites[i]);
    }
    if (!bench_options.quick) {
        site_open(&million, 1048576);
        site_cases(&million);
        run_cases(3, 5);
        site_close(&million);
    }
    bench_check(memory_thread_unregister() == 0);
    return 0;
}
