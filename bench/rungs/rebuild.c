/* SPDX-License-Identifier: MIT */
/*
 * rebuild.c - the rung rcu-rebuild: an immutable sorted array, published by RCU, and made anew for every change.
 *
 * This is the idea of QEMU's memory core (render everything, publish, free the old view after a grace period) in a kinder
 * form: the regions are kept sorted, so that rendering is one pass over them, and there is no radix tree to fill besides.
 *
 * Invariant: a published table never changes; a replaced one is freed after a grace period, by liburcu's worker. What waits
 * for that is bounded as the library bounds it (MEMORY_RECLAIM_DEFAULT_LIMIT): a writer beyond it waits for the worker.
 * Writers hold the mutex. Reading threads are registered with liburcu-memb: the library registers them with the same.
 */
#include "rungs/loops.h"
#include "rungs/table.h"

#include <pthread.h>

#define URCU_INLINE_SMALL_FUNCTIONS
#define _LGPL_SOURCE
#include <urcu/urcu-memb.h>

typedef struct Version {
    Table *table;
    struct rcu_head head;
    struct Rebuild *owner;
} Version;

typedef struct Rebuild {
    Map *map;
    RungPlace *places; /* of all regions, in the order of their homes, which no change here upsets */
    Version *version;  /* published */
    pthread_mutex_t mutex;
    uint64_t retired;  /* bytes, atomic */
} Rebuild;

static Version *render(Rebuild *r)
{
    Version *version = bench_alloc_raw(1, sizeof(*version));
    Table *table = table_new(r->map->n);
    size_t i, n = 0;

    for (i = 0; i < r->map->n; i++) {
        if (r->places[i].there) {
            table->records[n] = table_record(r->map, i, r->places[i]);
            table->firsts[n++] = r->places[i].first;
        }
    }
    table->n = n;
    *version = (Version){.table = table, .owner = r};
    return version;
}

static void free_version(struct rcu_head *head)
{
    Version *version = container_of(head, Version, head);

    __atomic_sub_fetch(&version->owner->retired, table_bytes(version->table->room), __ATOMIC_RELAXED);
    table_free(version->table);
    free(version);
}

static void *rebuild_open(Map *map)
{
    Rebuild *r = bench_alloc(1, sizeof(*r));
    size_t i;

    r->map = map;
    r->places = bench_alloc_raw(map->n, sizeof(*r->places));
    for (i = 0; i < map->n; i++) {
        r->places[i] = rung_place(RUNG_TOGGLE, i, true);
    }
    bench_check(pthread_mutex_init(&r->mutex, NULL) == 0);
    r->version = render(r);
    return r;
}

static void rebuild_close(void *self)
{
    Rebuild *r = self;

    urcu_memb_barrier();
    bench_check(__atomic_load_n(&r->retired, __ATOMIC_RELAXED) == 0);
    table_free(r->version->table);
    free(r->version);
    free(r->places);
    pthread_mutex_destroy(&r->mutex);
    free(r);
}

static void rebuild_settle(void *self)
{
    (void)self;
    urcu_memb_barrier();
}

static bool rebuild_change(void *self, RungChange change, size_t i, bool back)
{
    Rebuild *r = self;
    Version *old, *new;

    if (__atomic_load_n(&r->retired, __ATOMIC_RELAXED) > MEMORY_RECLAIM_DEFAULT_LIMIT) {
        urcu_memb_barrier();
    }
    pthread_mutex_lock(&r->mutex);
    r->places[i] = rung_place(change, i, back);
    old = r->version;
    new = render(r);
    __atomic_store_n(&r->version, new, __ATOMIC_RELEASE); /* partner: the load in rebuild_load() */
    __atomic_add_fetch(&r->retired, table_bytes(old->table->room), __ATOMIC_RELAXED);
    urcu_memb_call_rcu(&old->head, free_version);
    pthread_mutex_unlock(&r->mutex);
    return true;
}

static inline bool rebuild_load(void *self, uint64_t i, uint64_t offset, uint32_t *ret)
{
    Rebuild *r = self;
    bool ok;

    urcu_memb_read_lock();
    ok = record_load(table_find(__atomic_load_n(&r->version, __ATOMIC_CONSUME)->table, map_addr(i) + offset),
                     map_addr(i) + offset, ret);
    urcu_memb_read_unlock();
    return ok;
}

static inline bool rebuild_store(void *self, uint64_t i, uint64_t offset, uint32_t value)
{
    Rebuild *r = self;
    bool ok;

    urcu_memb_read_lock();
    ok = record_store(table_find(__atomic_load_n(&r->version, __ATOMIC_CONSUME)->table, map_addr(i) + offset),
                      map_addr(i) + offset, value);
    urcu_memb_read_unlock();
    return ok;
}

static bool rebuild_probe(void *self, uint64_t addr, uint32_t *ret)
{
    return rebuild_load(self, 0, addr - map_addr(0), ret);
}

DEFINE_LOOPS(rebuild)

const Rung rung_rebuild = {
    .name = "rcu-rebuild",
    .grows = true,
    .open = rebuild_open,
    .close = rebuild_close,
    .loads = rebuild_loads,
    .chain = rebuild_chain,
    .stores = rebuild_stores,
    .probe = rebuild_probe,
    .change = rebuild_change,
    .settle = rebuild_settle,
};
