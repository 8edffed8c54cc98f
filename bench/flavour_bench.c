/* SPDX-License-Identifier: MIT */
/*
 * flavour_bench.c - liburcu's flavours: one source, compiled once for each (FLAVOUR is memb, bp, mb or qsbr).
 *
 *   pair        an inlined read section around the load of a published pointer, as dispatch has it
 *   wait        a grace period: with no reader, with a registered reader that sleeps outside sections, and with one that
 *               reads on another CPU without pause
 *   defer       handing one object to call_rcu()
 *   reader      how fast the busy reader was while the other side waited without pause, against alone
 * A section of qsbr is nothing; its readers say from time to time that they hold nothing (here: every 64 sections).
 */
#include "bench.h"

#include <pthread.h>

#define URCU_INLINE_SMALL_FUNCTIONS
#define _LGPL_SOURCE
#if FLAVOUR_NUMBER == 0
#include <urcu/urcu-memb.h>
#define FLAVOUR(verb) urcu_memb_##verb
#define NAME "memb"
#elif FLAVOUR_NUMBER == 1
#include <urcu/urcu-bp.h>
#define FLAVOUR(verb) urcu_bp_##verb
#define NAME "bp"
#elif FLAVOUR_NUMBER == 2
#include <urcu/urcu-mb.h>
#define FLAVOUR(verb) urcu_mb_##verb
#define NAME "mb"
#else
#include <urcu/urcu-qsbr.h>
#define FLAVOUR(verb) urcu_qsbr_##verb
#define NAME "qsbr"
#endif

static uint64_t objects[2] = {1, 1};
static uint64_t *published = &objects[0];

static inline void quiescent(uint64_t turn)
{
    if (FLAVOUR_NUMBER == 3 && (turn & 63) == 0) {
#if FLAVOUR_NUMBER == 3
        urcu_qsbr_quiescent_state();
#endif
    }
}

static uint64_t pairs(void *arg, uint64_t n)
{
    uint64_t sum = 0, k;

    (void)arg;
    for (k = 0; k < n; k++) {
        FLAVOUR(read_lock)();
        sum += *__atomic_load_n(&published, __ATOMIC_ACQUIRE);
        FLAVOUR(read_unlock)();
        quiescent(k);
    }
    bench_check(sum == n);
    return sum;
}

static uint64_t loads(void *arg, uint64_t n)
{
    uint64_t sum = 0, k;

    (void)arg;
    for (k = 0; k < n; k++) {
        sum += *__atomic_load_n(&published, __ATOMIC_ACQUIRE);
    }
    bench_check(sum == n);
    return sum;
}

enum { QUIET, BUSY, STOP };
static int wanted;
static uint64_t reader_pairs; /* atomic */

static void *reader(void *arg)
{
    uint64_t done = 0;
    int what;

    (void)arg;
    bench_pin(1);
    FLAVOUR(register_thread)();
    while ((what = __atomic_load_n(&wanted, __ATOMIC_ACQUIRE)) != STOP) {
        if (what == BUSY) {
            pairs(NULL, 256);
            done += 256;
            __atomic_store_n(&reader_pairs, done, __ATOMIC_RELAXED);
        } else {
            struct timespec pause = {.tv_nsec = 1000000};
#if FLAVOUR_NUMBER == 3
            urcu_qsbr_thread_offline();
#endif
            nanosleep(&pause, NULL);
#if FLAVOUR_NUMBER == 3
            urcu_qsbr_thread_online();
#endif
        }
    }
    FLAVOUR(unregister_thread)();
    return NULL;
}

/* Grace periods for a while; returns the reader's pairs a microsecond meanwhile. */
static double waits(const char *readers, uint64_t ns, bool busy)
{
    uint64_t begin = bench_now(), at = begin, pairs_before = __atomic_load_n(&reader_pairs, __ATOMIC_RELAXED);
    Series series = {0};

    while (at - begin < ns) {
        uint64_t next;

#if FLAVOUR_NUMBER == 3
        urcu_qsbr_thread_offline();
#endif
        FLAVOUR(synchronize_rcu)();
#if FLAVOUR_NUMBER == 3
        urcu_qsbr_thread_online();
#endif
        next = bench_now();
        series_add(&series, (double)(next - at));
        at = next;
    }
    bench_check(!busy || __atomic_load_n(&reader_pairs, __ATOMIC_RELAXED) > pairs_before);
    bench_emit("urcu-" NAME, bench_text("\"readers\": \"%s\"", readers), "grace period", "ns", &series);
    return 1000.0 * (double)(__atomic_load_n(&reader_pairs, __ATOMIC_RELAXED) - pairs_before) / (double)(at - begin);
}

typedef struct Deferred {
    struct rcu_head head;
} Deferred;
static uint64_t freed; /* atomic */

static void deferred_free(struct rcu_head *head)
{
    (void)head;
    __atomic_fetch_add(&freed, 1, __ATOMIC_RELAXED);
}

static Deferred *deferred;
static uint64_t n_deferred;

static uint64_t defer(void *arg, uint64_t n)
{
    uint64_t k;

    (void)arg;
    for (k = 0; k < n; k++) {
        FLAVOUR(call_rcu)(&deferred[n_deferred++].head, deferred_free);
    }
    return n;
}

int main(int argc, char **argv)
{
    BenchCase cases[] = {
        {.subject = "urcu-" NAME, .params = "\"op\": \"load alone\"", .run = loads, .batch = 20000, .count = 10000},
        {.subject = "urcu-" NAME, .params = "\"op\": \"pair\"", .run = pairs, .batch = 20000, .count = 10000},
        {.subject = "urcu-" NAME, .params = "\"op\": \"defer\"", .run = defer, .batch = 512, .count = 512},
    };
    uint64_t ns, before;
    pthread_t thread;
    double alone, meanwhile;

    bench_init(argc, argv, "flavour");
    bench_pin(0);
    FLAVOUR(register_thread)();
    deferred = bench_alloc(1u << 16, sizeof(*deferred));
    bench_cases(cases, 3, bench_options.quick ? 3 : 6, bench_options.quick ? 5 : 12);
#if FLAVOUR_NUMBER == 3
    urcu_qsbr_thread_offline();
#endif
    FLAVOUR(barrier)();
#if FLAVOUR_NUMBER == 3
    urcu_qsbr_thread_online();
#endif
    bench_check(freed == n_deferred);
    if (bench_options.count) {
        return 0;
    }
    ns = bench_options.quick ? 50000000 : 300000000;
    waits("none", ns / 4, false);
    bench_check(pthread_create(&thread, NULL, reader, NULL) == 0);
    waits("idle", ns / 4, false);
    __atomic_store_n(&wanted, BUSY, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&reader_pairs, __ATOMIC_RELAXED)) {
    }
    before = __atomic_load_n(&reader_pairs, __ATOMIC_RELAXED);
    {
        struct timespec pause = {.tv_nsec = (long)ns};
        uint64_t begin = bench_now();

        nanosleep(&pause, NULL);
        alone = 1000.0 * (double)(__atomic_load_n(&reader_pairs, __ATOMIC_RELAXED) - before) / (double)(bench_now() - begin);
    }
    meanwhile = waits("busy", ns, true);
    bench_emit_one("urcu-" NAME, "\"op\": \"reader\", \"grace periods\": \"none\"", "rate", "pairs/us", alone);
    bench_emit_one("urcu-" NAME, "\"op\": \"reader\", \"grace periods\": \"without pause\"", "rate", "pairs/us", meanwhile);
    __atomic_store_n(&wanted, STOP, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    FLAVOUR(unregister_thread)();
    return 0;
}
