/* SPDX-License-Identifier: MIT */
/*
 * scale_bench.c - readers beside readers, readers beside writers; on the rungs that take both.
 *
 * Threads are pinned, readers to the first CPUs, writers to those after them. Time is cut into windows that all threads
 * share (the clock's); a window counts only if every thread that takes part had its CPU for nearly all of it, so what else the
 * machine does cannot pass for contention. Rates are of a median window. Phases of all kinds are run in turns.
 * With more threads than CPUs there are no such windows: rates are then those of the whole phase (`crowded`), and say how
 * the threads share, not how they contend.
 *
 * Readers load from RAM or MMIO: all the same region, each its own, or at random among 256. Each writer toggles a region of
 * its own that nobody reads, at a set rate or without pause: each commit makes another map for the readers.
 * Latencies are of single loads, one in 128 (two readings of the clock included), and of every commit; time off the CPU is
 * in them.
 */
#include "bench.h"
#include "maps.h"
#include "rungs/rung.h"

#include "../stress/histogram.h"

#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>

#define WINDOW_NS 2000000u
#define HAD_CPU 0.93

enum { READERS_MAX = 8, WRITERS_MAX = 2, WORKERS = READERS_MAX + WRITERS_MAX, REGIONS = 256, BATCH = 128, WINDOWS_MAX = 1024,
       WINDOWS_WANTED = 25 };

typedef enum Pattern { SAME, OWN, RANDOM } Pattern;
static const char *const pattern_names[] = {"same", "own", "random"};

typedef struct Window {
    uint64_t number, ops, cpu_ns, wall_ns;
} Window;

typedef struct Worker {
    pthread_t thread;
    unsigned cpu, number;
    bool writer;
    Loop loop;
    Window windows[WINDOWS_MAX];
    size_t n_windows;
    uint64_t ops, wall_ns; /* of the whole phase */
    uint64_t due;          /* a writer's next commit */
    Histogram latencies;
} __attribute__((aligned(128))) Worker;

/* What is measured, and what was found so far. */
typedef struct Setup {
    const Rung *rung;
    void *self;
    Map *map;
    Pattern pattern;
    unsigned readers, writers;
    double commits; /* a second, of each writer; negative: without pause */
    Series reads, writes;
    size_t windows, stopped; /* of readers that had half of a CPU at least; in which they did nothing */
    Histogram read_latencies, write_latencies;
} Setup;

static const Setup *phase;
static uint64_t phase_end;
static pthread_barrier_t gate;
static Worker workers[WORKERS];

static bool crowded(const Setup *s)
{
    return s->readers + s->writers > bench_cpus();
}

/* Each reader its own region, 16 apart. */
static uint64_t read_own(Worker *w, uint64_t n)
{
    hwaddr region = 16 * (w->number + 1);
    uint64_t k;

    for (k = 0; k < n; k++) {
        uint32_t value = UINT32_MAX;

        bench_check(address_space_ldl_le(&phase->map->as, map_addr(region) + (bench_random(&w->loop.state) & 0xff8),
                                         MEMTXATTRS_UNSPECIFIED, &value) == MEMTX_OK && value == region);
    }
    return n;
}

static uint64_t reads(Worker *w, uint64_t n)
{
    return phase->pattern == OWN ? read_own(w, n) : phase->rung->loads(&w->loop, n);
}

static uint64_t read_batch(Worker *w)
{
    uint64_t begin;

    reads(w, BATCH - 1);
    begin = bench_now();
    reads(w, 1);
    histogram_add(&w->latencies, bench_now() - begin);
    return BATCH;
}

/* Is it time? On a crowded machine a writer sleeps till then: others want the CPU. */
static bool is_due(Worker *w)
{
    uint64_t now;

    if (phase->commits < 0) {
        return true;
    }
    now = bench_now();
    if (now < w->due) {
        if (crowded(phase) && w->due - now > 20000) {
            struct timespec pause = {.tv_nsec = (long)(w->due - now - 10000)};

            nanosleep(&pause, NULL);
        }
        return false;
    }
    w->due += (uint64_t)(1e9 / phase->commits);
    if (w->due + 10000000 < now) {
        w->due = now; /* it was off its CPU: that is not made up for */
    }
    return true;
}

static uint64_t write_batch(Worker *w)
{
    uint64_t begin;
    int back;

    if (!is_due(w)) {
        return 0;
    }
    begin = bench_now();
    back = w->loop.state & 1;
    bench_check(phase->rung->change(phase->self, RUNG_TOGGLE, REGIONS + w->number, back));
    w->loop.state++;
    histogram_add(&w->latencies, bench_now() - begin);
    return 1;
}

static void *work(void *arg)
{
    Worker *w = arg;
    uint64_t begin, begin_cpu, start, now, ops = 0;

    bench_pin(w->cpu);
    prctl(PR_SET_TIMERSLACK, 1);
    bench_check(memory_thread_register() == 0);
    pthread_barrier_wait(&gate);
    start = begin = w->due = bench_now();
    begin_cpu = bench_cpu_now();
    do {
        uint64_t done = w->writer ? write_batch(w) : read_batch(w);

        ops += done;
        w->ops += done;
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
    } while (now < phase_end);
    w->wall_ns = now - start;
    if (w->writer && (w->loop.state & 1)) {
        bench_check(phase->rung->change(phase->self, RUNG_TOGGLE, REGIONS + w->number, true));
    }
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

/* One window, in which all must have had their CPUs. */
static void gather_window(Setup *s, uint64_t number)
{
    double loads = 0, commits = 0;
    bool counts = true;
    unsigned i;

    for (i = 0; i < s->readers + s->writers; i++) {
        const Window *window = window_of(&workers[i], number);

        if (!workers[i].writer && window && 2 * window->cpu_ns > window->wall_ns) {
            s->windows++;
            s->stopped += !window->ops;
        }
        counts = counts && had_cpu(window);
        if (counts) {
            *(workers[i].writer ? &commits : &loads) += (double)window->ops /
                                                        (double)(workers[i].writer ? window->wall_ns : window->cpu_ns);
        }
    }
    if (counts) {
        series_add(&s->reads, 1e3 * loads);
        if (s->writers) {
            series_add(&s->writes, 1e9 * commits);
        }
    }
}

static void gather(Setup *s)
{
    double loads = 0, commits = 0;
    size_t i;

    for (i = 0; i < s->readers + s->writers; i++) {
        Worker *w = &workers[i];

        *(w->writer ? &commits : &loads) += (double)w->ops / (double)w->wall_ns;
        histogram_merge(w->writer ? &s->write_latencies : &s->read_latencies, &w->latencies);
    }
    if (crowded(s)) {
        series_add(&s->reads, 1e3 * loads);
        if (s->writers) {
            series_add(&s->writes, 1e9 * commits);
        }
        return;
    }
    for (i = 0; i < workers[0].n_windows; i++) {
        gather_window(s, workers[0].windows[i].number);
    }
}

static void run(Setup *s, uint64_t ns)
{
    unsigned i, total = s->readers + s->writers;

    phase = s;
    phase_end = bench_now() + ns;
    pthread_barrier_init(&gate, NULL, total);
    for (i = 0; i < total; i++) {
        Worker *w = &workers[i];

        memset(w, 0, sizeof(*w));
        w->writer = i >= s->readers;
        w->number = w->writer ? i - s->readers : i;
        w->cpu = i;
        w->loop = (Loop){.self = s->self, .mask = s->pattern == RANDOM ? REGIONS - 1 : 0, .state = w->writer ? 0 : i + 1};
        bench_check(pthread_create(&w->thread, NULL, work, w) == 0);
    }
    for (i = 0; i < total; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    pthread_barrier_destroy(&gate);
    gather(s);
}

static void emit_latencies(const char *subject, const char *params, const char *what, const Histogram *h)
{
    static const struct {
        const char *name;
        unsigned per_mille;
    } points[] = {{"p50", 500}, {"p99", 990}, {"p99.9", 999}, {"max", 1000}};
    size_t i;

    for (i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        bench_emit_one(subject, params, bench_text("%s %s", what, points[i].name), "ns",
                       (double)(points[i].per_mille == 1000 ? h->max : histogram_percentile(h, points[i].per_mille)));
    }
}

static void emit(Setup *s)
{
    const char *params = bench_text("\"kind\": \"%s\", \"region\": \"%s\", \"readers\": %u, \"writers\": %u, \"commits\": %.0f%s",
                                    s->map->ram ? "ram" : "mmio", pattern_names[s->pattern], s->readers, s->writers,
                                    s->commits, crowded(s) ? ", \"crowded\": true" : "");

    if (s->commits < 0 && !crowded(s) && s->rung == &rung_flatview) {
        bench_emit_one("flatview", params, "windows in which a reader stood still", "windows", (double)s->stopped);
        bench_emit_one("flatview", params, "windows seen", "windows", (double)s->windows);
    }
    bench_emit(s->rung->name, params, "readers", "loads/us", &s->reads);
    emit_latencies(s->rung->name, params, "read latency", &s->read_latencies);
    if (s->writers) {
        bench_emit(s->rung->name, params, "writers", "commits/s", &s->writes);
        emit_latencies(s->rung->name, params, "commit latency", &s->write_latencies);
    }
}

/* ---- what is run ---- */

static Setup setups[128];
static size_t n_setups;

static void add(const Rung *rung, void *self, Map *map, Pattern pattern, unsigned readers, unsigned writers, double commits)
{
    bench_check(n_setups < sizeof(setups) / sizeof(setups[0]));
    setups[n_setups++] = (Setup){.rung = rung, .self = self, .map = map, .pattern = pattern, .readers = readers,
                                 .writers = writers, .commits = commits};
}

/* What two threads get of this machine that have nothing in common but records they only read: CPUs may share more than a name. */
static void add_nothing(void *self, Map *map)
{
    unsigned readers;

    for (readers = 1; readers <= 2; readers++) {
        add(&rung_nothing, self, map, SAME, readers, 0, 0);
        add(&rung_nothing, self, map, RANDOM, readers, 0, 0);
    }
}

enum { RATES = 4 };
static const double rates[RATES] = {1000, 10000, 100000, -1};

static void add_flatview(Map *mmio, Map *ram)
{
    unsigned readers, writers, i;
    Pattern p;

    for (p = SAME; p <= RANDOM; p++) {
        for (readers = 1; readers <= 2; readers++) {
            add(&rung_flatview, ram, ram, p, readers, 0, 0);
            add(&rung_flatview, mmio, mmio, p, readers, 0, 0);
        }
    }
    for (i = 0; i < RATES; i++) {
        add(&rung_flatview, mmio, mmio, SAME, 1, 1, rates[i]);
    }
    for (readers = 1; readers <= READERS_MAX; readers *= 2) {
        if (readers > 2) {
            add(&rung_flatview, mmio, mmio, RANDOM, readers, 0, 0);
        }
        for (writers = 1; writers <= WRITERS_MAX; writers++) {
            for (i = 0; i < RATES; i++) {
                if (!bench_options.quick || (i & 1) || (readers == 1 && writers == 1)) {
                    add(&rung_flatview, mmio, mmio, RANDOM, readers, writers, rates[i]);
                }
            }
        }
    }
}

/* Small, so that an unbounded writer meets it. */
#define LIMIT (2u << 20)

int main(int argc, char **argv)
{
    static const Rung *const others[] = {&rung_mutex, &rung_rwlock, &rung_rebuild};
    enum { OTHERS = sizeof(others) / sizeof(others[0]) };
    void *selves[OTHERS], *nothing[2];
    unsigned pass, passes;
    MemoryStats stats;
    Map *mmio, *ram;
    uint64_t ns;
    size_t i, k;

    bench_init(argc, argv, "scale");
    if (bench_options.count) {
        return 0; /* callgrind runs one thread at a time */
    }
    if (bench_cpus() < 2) {
        fprintf(stderr, "scale: needs two CPUs: left out\n");
        return 0;
    }
    /* The library's worker is started by the first commit and inherits its CPUs: beside the writer, away from reader 0. */
    bench_pin(1);
    bench_check(memory_set_reclaim_limit(LIMIT, MEMORY_RECLAIM_WAIT) == 0);
    mmio = map_new(REGIONS + WRITERS_MAX, false);
    ram = map_new(REGIONS + WRITERS_MAX, true);
    nothing[0] = rung_nothing.open(mmio);
    nothing[1] = rung_nothing.open(ram);
    add_nothing(nothing[0], mmio);
    add_nothing(nothing[1], ram);
    add_flatview(mmio, ram);
    for (i = 0; i < OTHERS; i++) {
        selves[i] = others[i]->open(mmio);
        add(others[i], selves[i], mmio, RANDOM, 1, 0, 0);
        add(others[i], selves[i], mmio, RANDOM, 2, 0, 0);
        for (k = 0; k < RATES; k++) {
            add(others[i], selves[i], mmio, RANDOM, 1, 1, rates[k]);
        }
    }
    passes = bench_options.quick ? 3 : 5;
    ns = bench_options.quick ? 40000000 : 100000000;
    for (pass = 0; pass < 2 * passes; pass++) {
        for (i = 0; i < n_setups; i++) {
            /* After the regular passes only for those that a busy machine has left with few windows. */
            if (pass < passes || (!crowded(&setups[i]) && setups[i].reads.n < WINDOWS_WANTED)) {
                run(&setups[i], ns);
            }
        }
    }
    memory_get_stats(&stats);
    bench_emit_one("flatview", "\"region\": \"all\"", "reclaim limit", "bytes", LIMIT);
    bench_emit_one("flatview", "\"region\": \"all\"", "retired_peak", "bytes", (double)stats.retired_peak);
    for (i = 0; i < n_setups; i++) {
        emit(&setups[i]);
    }
    for (i = 0; i < OTHERS; i++) {
        others[i]->close(selves[i]);
    }
    rung_nothing.close(nothing[0]);
    rung_nothing.close(nothing[1]);
    map_free(mmio);
    map_free(ram);
    return 0;
}
