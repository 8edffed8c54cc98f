/* SPDX-License-Identifier: MIT */
/*
 * scale_bench.c - readers beside readers, readers beside a writer.
 *
 * Threads are pinned. Time is cut into windows that all threads share (the clock's); a window counts only if every
 * thread that takes part had its CPU for nearly all of it, so what else the machine does cannot pass for contention. Rates
 * are of a median window. Phases of all kinds are run in turns.
 *
 * Readers load from RAM or MMIO: all the same region, each its own, or at random among 256. The writer toggles a region
 * that nobody reads, in the same space: each commit makes another view.
 */
#include "bench.h"
#include "maps.h"

#include <pthread.h>
#include <string.h>

#define WINDOW_NS 2000000u
#define HAD_CPU 0.93

enum { READERS_MAX = 2, REGIONS = 256, BATCH = 128, WINDOWS_MAX = 4096 };

typedef enum Pattern { SAME, OWN, RANDOM } Pattern;
static const char *const pattern_names[] = {"same", "own", "random"};

typedef struct Window {
    uint64_t number, ops, cpu_ns, wall_ns;
} Window;

typedef struct Worker {
    pthread_t thread;
    unsigned cpu;
    Window windows[WINDOWS_MAX];
    size_t n_windows;
    uint64_t state, number;
} __attribute__((aligned(128))) Worker;

typedef struct Phase {
    Map *map;
    Pattern pattern;
    unsigned readers;
    double commits; /* a second; 0: no writer, negative: without pause */
    uint64_t end;
} Phase;

static Phase phase;
static pthread_barrier_t gate;
static Worker workers[READERS_MAX + 1];

static uint64_t read_batch(Worker *w)
{
    AddressSpace *as = &phase.map->as;
    uint64_t drawn = 0, got = 0, k;

    for (k = 0; k < BATCH; k++) {
        uint64_t r = bench_random(&w->state);
        uint64_t i = phase.pattern == SAME ? 7 : phase.pattern == OWN ? 16 + 16 * w->number : r % REGIONS;
        uint32_t value = UINT32_MAX;

        bench_check(address_space_ldl_le(as, map_addr(i) + ((r >> 20) & 0xff8), MEMTXATTRS_UNSPECIFIED, &value) ==
                    MEMTX_OK);
        drawn += i;
        got += value;
    }
    bench_check(drawn == got);
    return BATCH;
}

/* The region after those that are read. */
static uint64_t write_batch(Worker *w, uint64_t *due)
{
    static bool enabled = true;

    if (phase.commits > 0) {
        uint64_t now = bench_now();

        (void)w;
        if (now < *due) {
            return 0;
        }
        *due += (uint64_t)(1e9 / phase.commits);
        if (*due + 10000000 < now) {
            *due = now; /* it was off its CPU: that is not made up for */
        }
    }
    enabled = !enabled;
    bench_check(memory_region_set_enabled(&phase.map->devices[REGIONS].mr, enabled) == 0);
    return 1;
}

static void *work(void *arg)
{
    Worker *w = arg;
    bool writer = w == &workers[READERS_MAX];
    uint64_t begin, begin_cpu, now, ops = 0, due;

    bench_pin(w->cpu);
    bench_check(memory_thread_register() == 0);
    pthread_barrier_wait(&gate);
    begin = due = bench_now();
    begin_cpu = bench_cpu_now();
    w->n_windows = 0;
    do {
        ops += writer ? write_batch(w, &due) : read_batch(w);
        now = bench_now();
        if (now / WINDOW_NS != begin / WINDOW_NS) {
            uint64_t cpu = bench_cpu_now();

            if (w->n_windows < WINDOWS_MAX) {
                w->windows[w->n_windows++] = (Window){begin / WINDOW_NS, ops, cpu - begin_cpu, now - begin};
            }
            begin = now;
            begin_cpu = cpu;
            ops = 0;
        }
    } while (now < phase.end);
    bench_check(memory_thread_unregister() == 0);
    return NULL;
}

static const Window *window_of(const Worker *w, uint64_t number)
{
    size_t i;

    for (i = 0; i < w->n_windows; i++) {
        if (w->windows[i].number == number) {
            return &w->windows[i];
        }
    }
    return NULL;
}

static bool had_cpu(const Window *window)
{
    return window && window->wall_ns > WINDOW_NS * 9 / 10 && window->wall_ns < WINDOW_NS * 11 / 10 &&
           (double)window->cpu_ns >= HAD_CPU * (double)window->wall_ns;
}

/* What the readers, and the writer, did in windows that count; operations a microsecond of all readers, commits a second. */
typedef struct Rates {
    Series readers, writer;
    size_t windows, stopped; /* of any reader that had half of its CPU at least; in which it did nothing */
} Rates;

static void gather(Rates *rates)
{
    size_t i, r;

    for (i = 0; i < workers[0].n_windows; i++) {
        uint64_t number = workers[0].windows[i].number;
        bool counts = true;
        double sum = 0;

        for (r = 0; r < phase.readers; r++) {
            const Window *window = window_of(&workers[r], number);

            if (window && 2 * window->cpu_ns > window->wall_ns) {
                rates->windows++;
                rates->stopped += !window->ops;
            }
            counts = counts && had_cpu(window);
            sum += counts ? 1000.0 * (double)window->ops / (double)window->cpu_ns : 0;
        }
        if (phase.commits != 0) {
            const Window *window = window_of(&workers[READERS_MAX], number);

            counts = counts && had_cpu(window);
            if (counts) {
                series_add(&rates->writer, 1e9 * (double)window->ops / (double)window->wall_ns);
            }
        }
        if (counts) {
            series_add(&rates->readers, sum);
        }
    }
}

static void run(Rates *rates, Map *map, Pattern pattern, unsigned readers, double commits, uint64_t ns)
{
    unsigned i, total = readers + (commits != 0);

    phase = (Phase){.map = map, .pattern = pattern, .readers = readers, .commits = commits, .end = bench_now() + ns};
    pthread_barrier_init(&gate, NULL, total);
    for (i = 0; i <= READERS_MAX; i++) {
        Worker *w = &workers[i];
        bool writer = i == READERS_MAX;

        if (writer ? commits == 0 : i >= readers) {
            continue;
        }
        w->number = i;
        w->state = i + 1;
        w->cpu = writer ? readers : i;
        bench_check(pthread_create(&w->thread, NULL, work, w) == 0);
    }
    for (i = 0; i <= READERS_MAX; i++) {
        if (i == READERS_MAX ? commits != 0 : i < readers) {
            pthread_join(workers[i].thread, NULL);
        }
    }
    pthread_barrier_destroy(&gate);
    gather(rates);
}

typedef struct Setup {
    Map *map;
    Pattern pattern;
    unsigned readers;
    double commits;
    Rates rates;
} Setup;

static void emit(Setup *s)
{
    const char *params = bench_text("\"kind\": \"%s\", \"region\": \"%s\", \"readers\": %u, \"commits\": %.0f",
                                    s->map->ram ? "ram" : "mmio", pattern_names[s->pattern], s->readers, s->commits);
    MemoryStats stats;

    if (s->commits < 0) {
        memory_get_stats(&stats);
        bench_emit_one("flatview", params, "windows in which a reader stood still", "windows", (double)s->rates.stopped);
        bench_emit_one("flatview", params, "windows seen", "windows", (double)s->rates.windows);
        bench_emit_one("flatview", params, "retired_peak", "bytes", (double)stats.retired_peak);
    }
    bench_emit("flatview", params, "readers", "loads/us", &s->rates.readers);
    bench_emit("flatview", params, "writer", "commits/s", &s->rates.writer);
}

/* Small, so that an unbounded writer meets it. */
#define LIMIT (2u << 20)

int main(int argc, char **argv)
{
    static Setup setups[64];
    unsigned n = 0, pass, passes, i;
    Map *mmio, *ram;
    uint64_t ns;
    Pattern p;

    bench_init(argc, argv, "scale");
    if (bench_options.count) {
        return 0; /* callgrind runs one thread at a time */
    }
    if (bench_cpus() < 2) {
        fprintf(stderr, "scale: needs two CPUs\n");
        return 0;
    }
    /* The library's worker is started by the first commit and inherits its CPUs: beside the writer, away from reader 0. */
    bench_pin(1);
    bench_check(memory_set_reclaim_limit(LIMIT, MEMORY_RECLAIM_WAIT) == 0);
    mmio = map_new(REGIONS + 1, false);
    ram = map_new(REGIONS + 1, true);
    for (p = SAME; p <= RANDOM; p++) {
        setups[n++] = (Setup){.map = ram, .pattern = p, .readers = 1};
        setups[n++] = (Setup){.map = ram, .pattern = p, .readers = 2};
        setups[n++] = (Setup){.map = mmio, .pattern = p, .readers = 1};
        setups[n++] = (Setup){.map = mmio, .pattern = p, .readers = 2};
    }
    for (p = SAME; p <= RANDOM; p += 2) {
        setups[n++] = (Setup){.map = mmio, .pattern = p, .readers = 1, .commits = 1000};
        setups[n++] = (Setup){.map = mmio, .pattern = p, .readers = 1, .commits = 10000};
        setups[n++] = (Setup){.map = mmio, .pattern = p, .readers = 1, .commits = 100000};
        setups[n++] = (Setup){.map = mmio, .pattern = p, .readers = 1, .commits = -1};
    }
    passes = bench_options.quick ? 3 : 6;
    ns = bench_options.quick ? 60000000 : 250000000;
    for (pass = 0; pass < passes; pass++) {
        for (i = 0; i < n; i++) {
            run(&setups[i].rates, setups[i].map, setups[i].pattern, setups[i].readers, setups[i].commits, ns);
        }
    }
    bench_emit_one("flatview", "\"region\": \"all\"", "reclaim limit", "bytes", LIMIT);
    for (i = 0; i < n; i++) {
        emit(&setups[i]);
    }
    map_free(mmio);
    map_free(ram);
    return 0;
}
