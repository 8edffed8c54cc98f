/* SPDX-License-Identifier: MIT */
/*
 * map_pool.c - bounce memory that is lent, who waits for it, and mappings by pointer.
 *
 * Invariant: as in map_pool.h. No wake-up is lost: a client is entered under the lock under which it was seen not to fit, and
 * whoever makes room goes through the list after that, until nobody in it fits.
 * It does end: a client that registers anew from its own call is entered only if it does not fit now.
 */
#include "publish/map_pool.h"

#include <errno.h>

#include "base/live.h"
#include "base/mem.h"

/* On the stack of the one who tells; unregistering waits for it to go. */
typedef struct MapCall {
    MemoryMapClient *client;
    pthread_t thread;
    struct MapCall *next;
} MapCall;

void map_pool_init(MapPool *pool)
{
    *pool = (MapPool){.lock = LOCK_INITIALIZER(LOCK_RANK_LEAF, "bounce"),
                      .limit = MEMORY_BOUNCE_DEFAULT_LIMIT,
                      .told = PTHREAD_COND_INITIALIZER};
}

void map_pool_fini(MapPool *pool)
{
    mem_free(pool->buckets, pool->n_buckets * sizeof(*pool->buckets));
}

bool map_pool_close(MapPool *pool)
{
    bool idle;

    lock_acquire(&pool->lock);
    idle = !pool->users && !pool->clients && !pool->calls;
    pool->closed |= idle;
    lock_release(&pool->lock);
    return idle;
}

static void used_set(MapPool *pool, uint64_t used)
{
    live_add(LIVE_BOUNCE_BYTES, used - pool->used);
    __atomic_store_n(&pool->used, used, __ATOMIC_RELAXED);
}

static uint64_t room(const MapPool *pool)
{
    return pool->used < pool->limit ? pool->limit - pool->used : 0;
}

int map_pool_take(MapPool *pool, uint64_t min, uint64_t max, uint64_t *ret_taken)
{
    uint64_t free_bytes;
    int err = 0;

    lock_acquire(&pool->lock);
    free_bytes = room(pool);
    if (pool->closed) {
        err = -EINVAL;
    } else if (min > pool->limit) {
        err = -EMSGSIZE;
    } else if (min > free_bytes) {
        err = -ENOBUFS;
    } else {
        *ret_taken = max < free_bytes ? max : free_bytes;
        used_set(pool, pool->used + *ret_taken);
        pool->users++;
    }
    lock_release(&pool->lock);
    return err;
}

/* ---- clients ---- */

static bool fits(const MapPool *pool, const MemoryMapClient *client)
{
    return room(pool) >= (client->bytes ? client->bytes : 1);
}

static MemoryMapClient *pop_fitting(MapPool *pool)
{
    MemoryMapClient **link, *client;

    for (link = &pool->clients; (client = *link); link = &client->next) {
        if (fits(pool, client)) {
            *link = client->next;
            client->registered = 0;
            live_sub(LIVE_MAP_CLIENTS, 1);
            return client;
        }
    }
    return NULL;
}

/* Under the lock, which is given back for each call. */
static void tell_clients(MapPool *pool)
{
    MemoryMapClient *client;
    MapCall me, **link;

    while ((client = pop_fitting(pool))) {
        me = (MapCall){.client = client, .thread = pthread_self(), .next = pool->calls};
        pool->calls = &me;
        lock_release(&pool->lock);
        client->notify(client); /* which may free it */
        lock_acquire(&pool->lock);
        for (link = &pool->calls; *link != &me; link = &(*link)->next) {
        }
        *link = me.next;
        pthread_cond_broadcast(&pool->told);
    }
}

void map_pool_give(MapPool *pool, uint64_t bytes)
{
    lock_acquire(&pool->lock);
    used_set(pool, pool->used - bytes);
    tell_clients(pool);
    pool->users--; /* last: until here the space stays */
    lock_release(&pool->lock);
}

void map_pool_set_limit(MapPool *pool, uint64_t bytes)
{
    lock_acquire(&pool->lock);
    __atomic_store_n(&pool->limit, bytes, __ATOMIC_RELAXED); /* asked for without the lock, as used */
    pool->users++;
    tell_clients(pool);
    pool->users--;
    lock_release(&pool->lock);
}

int map_pool_register(MapPool *pool, MemoryMapClient *client)
{
    MemoryMapClient **link;
    int ret = 0;

    lock_acquire(&pool->lock);
    if (client->registered) {
        ret = -EBUSY;
    } else if (pool->closed || client->bytes > pool->limit) {
        ret = -EINVAL;
    } else if (fits(pool, client)) {
        ret = 1;
    } else {
        for (link = &pool->clients; *link; link = &(*link)->next) {
        }
        *link = client;
        client->next = NULL;
        client->registered = 1;
        live_add(LIVE_MAP_CLIENTS, 1);
    }
    lock_release(&pool->lock);
    return ret;
}

/* Is client being told by another thread? By this one: then we are inside, and it will not run again. */
static bool told_elsewhere(const MapPool *pool, const MemoryMapClient *client)
{
    const MapCall *call;

    for (call = pool->calls; call; call = call->next) {
        if (call->client == client && !pthread_equal(call->thread, pthread_self())) {
            return true;
        }
    }
    return false;
}

int map_pool_unregister(MapPool *pool, MemoryMapClient *client)
{
    MemoryMapClient **link;
    int ret = -ENOENT;

    lock_acquire(&pool->lock);
    for (;;) {
        for (link = &pool->clients; *link && *link != client; link = &(*link)->next) {
        }
        if (*link) {
            *link = client->next;
            client->registered = 0;
            live_sub(LIVE_MAP_CLIENTS, 1);
            ret = 0;
        }
        if (!told_elsewhere(pool, client)) {
            break;
        }
        lock_wait(&pool->lock, &pool->told); /* its call may register it anew, hence the loop */
    }
    lock_release(&pool->lock);
    return ret;
}

/* ---- records ---- */

static MapRecord **bucket(MapRecord **buckets, size_t n, const void *host)
{
    uint64_t hash = ((uint64_t)(uintptr_t)host >> 4) * UINT64_C(0x9e3779b97f4a7c15);

    return &buckets[(hash >> 32) & (n - 1)];
}

static int grow(MapPool *pool)
{
    size_t n = pool->n_buckets ? pool->n_buckets * 2 : 16, i;
    MapRecord **buckets, **to, *record;

    if (pool->n_records < pool->n_buckets) {
        return 0;
    }
    buckets = mem_zalloc(n * sizeof(*buckets));
    if (!buckets) {
        return pool->n_buckets ? 0 : -ENOMEM; /* longer chains are slower, not wrong */
    }
    for (i = 0; i < pool->n_buckets; i++) {
        while ((record = pool->buckets[i])) {
            pool->buckets[i] = record->next;
            to = bucket(buckets, n, record->mapping.iov[0].iov_base);
            record->next = *to;
            *to = record;
        }
    }
    mem_free(pool->buckets, pool->n_buckets * sizeof(*pool->buckets));
    pool->buckets = buckets;
    pool->n_buckets = n;
    return 0;
}

int map_pool_put(MapPool *pool, MapRecord *record)
{
    MapRecord **to;
    int err;

    lock_acquire(&pool->lock);
    err = grow(pool);
    if (err == 0) {
        to = bucket(pool->buckets, pool->n_buckets, record->mapping.iov[0].iov_base);
        record->next = *to;
        *to = record;
        pool->n_records++;
    }
    lock_release(&pool->lock);
    return err;
}

MapRecord *map_pool_find(MapPool *pool, const void *host, hwaddr len, uint32_t direction)
{
    MapRecord **link, *record = NULL;

    lock_acquire(&pool->lock);
    if (pool->n_buckets) {
        for (link = bucket(pool->buckets, pool->n_buckets, host); (record = *link); link = &record->next) {
            if (record->mapping.iov[0].iov_base == host && record->mapping.len == len &&
                record->mapping.direction == direction) {
                *link = record->next;
                pool->n_records--;
                break;
            }
        }
    }
    lock_release(&pool->lock);
    return record;
}
