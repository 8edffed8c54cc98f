/* SPDX-License-Identifier: MIT */
/*
 * bench.h - what every benchmark does alike: repeat, time or count, and say it in one line of JSON.
 *
 * Invariant: a figure is printed only after the work that it describes was checked (bench_check()), so a benchmark that does
 * nothing fails instead of being fast. One process runs all cases of a scenario, in turns (bench_passes), so a phase in
 * which the machine is busy meets all of them; ratios are taken between lines of one process only.
 *
 * Two ways to measure. Timing: each case is a series of batches; the line has the best, the median and the worst.
 * Counting (--count, under callgrind): each case runs in chunks between bench_count_on() and bench_count_off(), which open
 * and close callgrind's collection on this thread; bench_count_end() dumps it under a number, which is in the line, and
 * bench/run puts in what callgrind found.
 */
#ifndef FLATVIEW_BENCH_H
#define FLATVIEW_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct BenchOptions {
    bool quick; /* fewer and shorter batches, smaller maps */
    bool count; /* instructions instead of time */
    const char *rungs; /* names with commas between; NULL: all */
} BenchOptions;

extern BenchOptions bench_options;

/* Reads --quick, --count, --rungs=LIST; names the scenario in every line that follows. */
void bench_init(int argc, char **argv, const char *scenario);
bool bench_wanted(const char *rung); /* is it in the list? */

/* The work did not happen, or not as it should: say so and exit with 3. */
#define bench_check(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: the work was not done: %s\n", __FILE__, __LINE__, #condition); \
            exit(3); \
        } \
    } while (0)

void *bench_alloc(size_t n, size_t size); /* zeroed, aligned to 64; exits if there is none */
void *bench_alloc_raw(size_t n, size_t size); /* as malloc() leaves it */

static inline uint64_t bench_now(void) /* ns */
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline uint64_t bench_cpu_now(void) /* ns of CPU that this thread has had; a system call */
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* A full-period generator; the upper bits are the good ones. */
#define BENCH_RANDOM_FACTOR UINT64_C(6364136223846793005)
#define BENCH_RANDOM_ADDEND UINT64_C(1442695040888963407)

static inline uint64_t bench_random(uint64_t *state)
{
    *state = *state * BENCH_RANDOM_FACTOR + BENCH_RANDOM_ADDEND;
    return *state >> 33;
}

/* Threads stay where they are put: number is an index into the CPUs that the process may use, modulo their count. */
unsigned bench_cpus(void);
void bench_pin(unsigned number);

/* ---- figures ---- */

typedef struct Series {
    double *value;
    size_t n, cap;
} Series;

void series_add(Series *series, double value);
double series_median(Series *series);
void series_free(Series *series);

/* One line; params is the inside of a JSON object, metric what was measured. Frees the series. */
void bench_emit(const char *subject, const char *params, const char *metric, const char *unit, Series *series);
void bench_emit_one(const char *subject, const char *params, const char *metric, const char *unit, double value);
/* sprintf() into memory that is never given back, for params. */
const char *bench_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- a case: a loop of operations ---- */

typedef struct BenchCase {
    const char *subject, *params;
    uint64_t (*run)(void *arg, uint64_t n); /* n operations; returns something that depends on all of them */
    /* Outside of what is measured, after each run of n: check what they left behind, and when counting, let go of it, so
       that what the next ones find does not depend on when the library's worker came. May be NULL. */
    void (*after)(void *arg, uint64_t n);
    void *arg;
    uint64_t batch; /* operations a batch, timed */
    uint64_t count; /* operations counted */
    uint64_t chunk; /* in runs of so many; 0: all in one */
    Series times;   /* filled by bench_cases() */
} BenchCase;

/* Time (or count) all cases, in turns, and print a line each. */
void bench_cases(BenchCase *cases, size_t n_cases, unsigned passes, unsigned batches);

/* For work that is no such loop: begin, then on and off around what counts, then end. Numbers are unique in the process. */
void bench_count_begin(void);
void bench_count_on(void);
void bench_count_off(void);
void bench_count_end(const char *subject, const char *params, uint64_t ops);

#endif
