/* SPDX-License-Identifier: MIT */
/*
 * locked.c - the rungs mutex and rwlock: a sorted array that is changed in place.
 *
 * Invariant: the table is read under the lock (its read side), and changed under the lock (its write side). A change of
 * one region moves what stands behind it by one record; no memory is allocated.
 */
#include "rungs/loops.h"
#include "rungs/table.h"

#include <pthread.h>

typedef struct Locked {
    Map *map;
    Table *table;
    pthread_mutex_t mutex;
    pthread_rwlock_t rwlock;
} Locked;

static void *locked_open(Map *map)
{
    Locked *locked = bench_alloc(1, sizeof(*locked));

    locked->map = map;
    locked->table = table_of_map(map);
    bench_check(pthread_mutex_init(&locked->mutex, NULL) == 0);
    bench_check(pthread_rwlock_init(&locked->rwlock, NULL) == 0);
    return locked;
}

static void locked_close(void *self)
{
    Locked *locked = self;

    pthread_rwlock_destroy(&locked->rwlock);
    pthread_mutex_destroy(&locked->mutex);
    table_free(locked->table);
    free(locked);
}

static void replace(Locked *locked, RungChange change, size_t i, bool back)
{
    RungPlace from = rung_place(change, i, !back), to = rung_place(change, i, back);

    if (from.there) {
        table_remove(locked->table, from.first);
    }
    if (to.there) {
        table_insert(locked->table, table_record(locked->map, i, to));
    }
}

#define DEFINE_LOCKED(kind, enter, leave, write_enter, write_leave) \
    static inline bool kind##_load(void *self, uint64_t i, uint64_t offset, uint32_t *ret) \
    { \
        Locked *locked = self; \
        bool ok; \
\
        enter; \
        ok = record_load(table_find(locked->table, map_addr(i) + offset), map_addr(i) + offset, ret); \
        leave; \
        return ok; \
    } \
    static inline bool kind##_store(void *self, uint64_t i, uint64_t offset, uint32_t value) \
    { \
        Locked *locked = self; \
        bool ok; \
\
        enter; \
        ok = record_store(table_find(locked->table, map_addr(i) + offset), map_addr(i) + offset, value); \
        leave; \
        return ok; \
    } \
    static bool kind##_probe(void *self, uint64_t addr, uint32_t *ret) \
    { \
        return kind##_load(self, 0, addr - map_addr(0), ret); \
    } \
    static bool kind##_change(void *self, RungChange change, size_t i, bool back) \
    { \
        Locked *locked = self; \
\
        write_enter; \
        replace(locked, change, i, back); \
        write_leave; \
        return true; \
    } \
    DEFINE_LOOPS(kind) \
    const Rung rung_##kind = { \
        .name = #kind, \
        .grows = true, \
        .open = locked_open, \
        .close = locked_close, \
        .loads = kind##_loads, \
        .chain = kind##_chain, \
        .stores = kind##_stores, \
        .probe = kind##_probe, \
        .change = kind##_change, \
    }

DEFINE_LOCKED(mutex, pthread_mutex_lock(&locked->mutex), pthread_mutex_unlock(&locked->mutex),
              pthread_mutex_lock(&locked->mutex), pthread_mutex_unlock(&locked->mutex));
DEFINE_LOCKED(rwlock, pthread_rwlock_rdlock(&locked->rwlock), pthread_rwlock_unlock(&locked->rwlock),
              pthread_rwlock_wrlock(&locked->rwlock), pthread_rwlock_unlock(&locked->rwlock));
