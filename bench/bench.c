/* SPDX-License-Identifier: MIT */
/*
 * bench.c - repeating, timing, counting, printing.
 *
 * Invariant: nothing here runs inside a timed batch but two readings of the clock, and nothing inside a counted one.
 */
#include "bench.h"

#include <sched.h>
#include <stdarg.h>
#include <string.h>

#ifdef BENCH_CALLGRIND
#include <valgrind/callgrind.h>
#endif

BenchOptions bench_options;
static const char *bench_scenario;

void bench_init(int argc, char **argv, const char *scenario)
{
    int i;

    bench_scenario = scenario;
    for (i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--quick")) {
            bench_options.quick = true;
        } else if (!strcmp(argv[i], "--count")) {
            bench_options.count = true;
        } else if (!strncmp(argv[i], "--rungs=", 8)) {
            bench_options.rungs = argv[i] + 8;
        } else {
            fprintf(stderr, "usage: %s [--quick] [--count] [--rungs=NAME,...]\n", argv[0]);
            exit(2);
        }
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
}

bool bench_wanted(const char *rung)
{
    const char *name = bench_options.rungs;
    size_t len = strlen(rung);

    while (name && (strncmp(name, rung, len) || (name[len] && name[len] != ','))) {
        name = strchr(name, ',');
        if (!name) {
            return false;
        }
        name++;
    }
    return true;
}

void *bench_alloc_raw(size_t n, size_t size)
{
    size_t bytes = (n * size + 63) & ~(size_t)63;
    void *ptr = aligned_alloc(64, bytes ? bytes : 64);

    if (!ptr) {
        fprintf(stderr, "bench: no memory\n");
        exit(3);
    }
    return ptr;
}

void *bench_alloc(size_t n, size_t size)
{
    return memset(bench_alloc_raw(n, size), 0, n * size);
}

/* ---- CPUs ---- */

static cpu_set_t usable;

unsigned bench_cpus(void)
{
    if (!CPU_COUNT(&usable) && sched_getaffinity(0, sizeof(usable), &usable)) {
        CPU_SET(0, &usable);
    }
    return (unsigned)CPU_COUNT(&usable);
}

void bench_pin(unsigned number)
{
    unsigned left = number % bench_cpus();
    cpu_set_t one;
    int cpu;

    for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &usable) && !left--) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            sched_setaffinity(0, sizeof(one), &one);
            return;
        }
    }
}

/* ---- figures ---- */

void series_add(Series *series, double value)
{
    if (series->n == series->cap) {
        series->cap = series->cap ? 2 * series->cap : 64;
        series->value = realloc(series->value, series->cap * sizeof(double));
        if (!series->value) {
            fprintf(stderr, "bench: no memory\n");
            exit(3);
        }
    }
    series->value[series->n++] = value;
}

static int double_order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

double series_median(Series *series)
{
    qsort(series->value, series->n, sizeof(double), double_order);
    return series->n ? series->value[series->n / 2] : 0;
}

void series_free(Series *series)
{
    free(series->value);
    *series = (Series){0};
}

void bench_emit(const char *subject, const char *params, const char *metric, const char *unit, Series *series)
{
    double median = series_median(series);

    if (series->n) {
        printf("{\"scenario\": \"%s\", \"subject\": \"%s\", \"params\": {%s}, \"metric\": \"%s\", \"unit\": \"%s\", "
               "\"median\": %.6g, \"min\": %.6g, \"max\": %.6g, \"reps\": %zu}\n",
               bench_scenario, subject, params, metric, unit, median, series->value[0], series->value[series->n - 1],
               series->n);
    }
    series_free(series);
}

void bench_emit_one(const char *subject, const char *params, const char *metric, const char *unit, double value)
{
    Series series = {0};

    series_add(&series, value);
    bench_emit(subject, params, metric, unit, &series);
}

const char *bench_text(const char *format, ...)
{
    va_list args;
    char *text;

    va_start(args, format);
    bench_check(vasprintf(&text, format, args) >= 0);
    va_end(args);
    return text;
}

/* ---- counting ---- */

static unsigned dumps;

#ifdef BENCH_CALLGRIND
void bench_count_begin(void)
{
    CALLGRIND_ZERO_STATS;
}

void bench_count_on(void)
{
    CALLGRIND_TOGGLE_COLLECT; /* of this thread; the others' stays as it is: off */
}

void bench_count_off(void)
{
    CALLGRIND_TOGGLE_COLLECT;
}

void bench_count_end(const char *subject, const char *params, uint64_t ops)
{
    char label[32];

    snprintf(label, sizeof(label), "case %u", ++dumps);
    CALLGRIND_DUMP_STATS_AT(label);
    printf("{\"scenario\": \"%s\", \"subject\": \"%s\", \"params\": {%s}, \"dump\": \"%s\", \"ops\": %llu}\n",
           bench_scenario, subject, params, label, (unsigned long long)ops);
}
#else
void bench_count_begin(void)
{
    fprintf(stderr, "bench: built without valgrind's headers: nothing can be counted\n");
    exit(2);
}

void bench_count_on(void)
{
}

void bench_count_off(void)
{
}

void bench_count_end(const char *subject, const char *params, uint64_t ops)
{
    (void)subject, (void)params, (void)ops, (void)dumps;
}
#endif

/* ---- cases ---- */

static volatile uint64_t sink;

static void run_case(BenchCase *c, uint64_t n)
{
    sink += c->run(c->arg, n);
}

static void after_case(BenchCase *c, uint64_t n)
{
    if (c->after) {
        c->after(c->arg, n);
    }
}

static void count_case(BenchCase *c)
{
    uint64_t chunk = c->chunk ? c->chunk : c->count, done;

    bench_check(chunk && c->count % chunk == 0);
    for (done = 0; done < c->count; done += chunk) { /* warm: the library's caches, for callgrind has none */
        run_case(c, chunk);
        after_case(c, chunk);
    }
    bench_count_begin();
    for (done = 0; done < c->count; done += chunk) {
        bench_count_on();
        run_case(c, chunk);
        bench_count_off();
        after_case(c, chunk);
    }
    bench_count_end(c->subject, c->params, c->count);
}

void bench_cases(BenchCase *cases, size_t n_cases, unsigned passes, unsigned batches)
{
    unsigned pass, batch;
    size_t i;

    for (i = 0; bench_options.count && i < n_cases; i++) {
        count_case(&cases[i]);
    }
    if (bench_options.count) {
        return;
    }
    for (pass = 0; pass < passes; pass++) {
        for (i = 0; i < n_cases; i++) {
            BenchCase *c = &cases[i];

            run_case(c, c->batch); /* what the case before has cooled */
            after_case(c, c->batch);
            for (batch = 0; batch < batches; batch++) {
                uint64_t begin = bench_now();

                run_case(c, c->batch);
                series_add(&c->times, (double)(bench_now() - begin) / (double)c->batch);
                after_case(c, c->batch);
            }
        }
    }
    for (i = 0; i < n_cases; i++) {
        bench_emit(cases[i].subject, cases[i].params, "time", "ns/op", &cases[i].times);
    }
}
