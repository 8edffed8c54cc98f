/* SPDX-License-Identifier: MIT */
#include "shim/dirty_shim.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "topology/dirty_log.h"

static DirtyBitmap *map_of(ShimBitmap *map)
{
    return (DirtyBitmap *)(void *)map;
}

static const DirtyBitmap *const_map_of(const ShimBitmap *map)
{
    return (const DirtyBitmap *)(const void *)map;
}

ShimBitmap *dirty_shim_new(uint64_t n_bits)
{
    return (ShimBitmap *)(void *)dirty_bitmap_new(n_bits << 12, 12);
}

void dirty_shim_free(ShimBitmap *map)
{
    dirty_bitmap_free(map_of(map));
}

bool dirty_shim_test(const ShimBitmap *map, uint64_t bit)
{
    return dirty_bitmap_test(const_map_of(map), bit);
}

void dirty_shim_set(ShimBitmap *map, uint64_t first, uint64_t last)
{
    dirty_bitmap_set(map_of(map), first, last);
}

bool dirty_shim_any(const ShimBitmap *map, uint64_t first, uint64_t last)
{
    return dirty_bitmap_any(const_map_of(map), first, last);
}

bool dirty_shim_read(const ShimBitmap *map, uint64_t first, uint64_t last, uint64_t *out)
{
    return dirty_bitmap_read(const_map_of(map), first, last, out);
}

bool dirty_shim_take(ShimBitmap *map, uint64_t first, uint64_t last, uint64_t *out)
{
    return dirty_bitmap_take(map_of(map), first, last, out);
}

void dirty_shim_put(ShimBitmap *map, uint64_t first, uint64_t last, const uint64_t *taken)
{
    dirty_bitmap_put(map_of(map), first, last, taken);
}

bool dirty_shim_clear(ShimBitmap *map, uint64_t first, uint64_t last)
{
    return dirty_bitmap_clear(map_of(map), first, last);
}

void dirty_shim_merge(ShimBitmap *map, uint64_t first, const uint64_t *foreign, uint64_t from, uint64_t n)
{
    dirty_bitmap_merge(map_of(map), first, foreign, from, n);
}

bool dirty_shim_run(const uint64_t *words, uint64_t bit, uint64_t end, uint64_t *ret_first, uint64_t *ret_last)
{
    return dirty_words_run(words, bit, end, ret_first, ret_last);
}

bool dirty_shim_word_beyond_is_clean(const ShimBitmap *map, uint64_t n_bits)
{
    uint64_t bit;

    for (bit = n_bits; bit < const_map_of(map)->n_words * 64; bit++) {
        if (dirty_bitmap_test(const_map_of(map), bit)) {
            return false;
        }
    }
    return true;
}

/* ---- the race ------------------------------------------------------------------------------------------------- */

/*
 * Each slot once: all are marked and hold an old number. The writer goes through them, stores the new number and marks, as dispatch
 * does; the collector follows the same way, takes the mark of each and copies the number. Where they meet, a slot that ends
 * up unmarked with an old copy is a store that nobody will ever copy. (That is the store buffering of the litmus tests.)
 */
enum { SLOTS = 256, APART = 512 /* bits: a cache line */ };

static struct {
    DirtyLog log;
    uint64_t round __attribute__((aligned(64))); /* the writer may begin this one */
    uint64_t done __attribute__((aligned(64)));  /* it has finished it */
    bool stop;
    struct {
        uint64_t number __attribute__((aligned(64)));
    } data[SLOTS];
} race __attribute__((aligned(64)));

/* On a machine that has nothing else to do, never sleeps. */
static void wait_for(const uint64_t *where, uint64_t what)
{
    unsigned spins = 0;

    while (__atomic_load_n(where, __ATOMIC_ACQUIRE) != what && !__atomic_load_n(&race.stop, __ATOMIC_RELAXED)) {
        if (++spins % 2000 == 0) {
            sched_yield();
        }
    }
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *race_writer(void *arg)
{
    uint64_t round = 1;
    unsigned i;

    (void)arg;
    for (;; round++) {
        wait_for(&race.round, round);
        if (__atomic_load_n(&race.stop, __ATOMIC_RELAXED)) {
            return NULL;
        }
        /* Have the bits at hand, and the numbers not: the store waits, and the load behind it does not. */
        for (i = 0; i < SLOTS; i++) {
            (void)dirty_bitmap_test(race.log.map[0], i * APART);
        }
        for (i = 0; i < SLOTS; i++) {
            __atomic_store_n(&race.data[i].number, round, __ATOMIC_RELAXED);
            dirty_log_mark(&race.log, (uint64_t)i * APART << 12, 8);
        }
        __atomic_store_n(&race.done, round, __ATOMIC_RELEASE);
    }
}

static uint64_t race_collect(DirtyBitmap *map, uint64_t round, bool fence)
{
    uint64_t copy[SLOTS], lost = 0;
    unsigned i;

    for (i = 0; i < SLOTS; i++) {
        uint64_t taken = 0;

        dirty_bitmap_take(map, i * APART, i * APART, &taken);
        if (fence) {
            reader_fence_heavy();
        }
        copy[i] = __atomic_load_n(&race.data[i].number, __ATOMIC_RELAXED);
    }
    wait_for(&race.done, round);
    for (i = 0; i < SLOTS; i++) {
        lost += copy[i] != round && !dirty_bitmap_test(map, i * APART);
    }
    return lost;
}

uint64_t dirty_shim_race(double seconds, bool fence, uint64_t *ret_rounds)
{
    DirtyBitmap *map = dirty_bitmap_new((uint64_t)SLOTS * APART << 12, 12);
    double end = now() + seconds;
    uint64_t lost = 0;
    pthread_t writer;
    unsigned i;

    reader_fence_init();
    memset(&race, 0, sizeof(race));
    race.log.map[0] = map;
    race.log.on = 1;
    pthread_create(&writer, NULL, race_writer, NULL);
    for (*ret_rounds = 0; now() < end;) {
        for (i = 0; i < SLOTS; i++) {
            dirty_bitmap_set(map, i * APART, i * APART);
        }
        __atomic_store_n(&race.round, ++*ret_rounds, __ATOMIC_RELEASE);
        lost += race_collect(map, *ret_rounds, fence);
    }
    __atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
    pthread_join(writer, NULL);
    dirty_bitmap_free(map);
    return lost;
}
