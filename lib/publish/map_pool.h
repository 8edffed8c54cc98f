/* SPDX-License-Identifier: MIT */
/*
 * map_pool.h - what an address space lends to mappings: bounce memory up to a limit, and a place to find them by pointer.
 *
 * Invariant: used is the sum of what was taken and not yet given back, users the number of takers, and nobody takes more than
 * the limit leaves. A client in the list does not fit (or fitted a moment ago, and the one who made room is on its way
 * through the list). All under the pool's own lock, in which nothing but the allocator is called.
 * Established by: the functions here. Relied on by: access/dma.c; address_space_destroy(), which refuses while there are users.
 *
 * Lifetime: embedded in the space. Whoever holds something taken keeps it (destroying is refused); whoever only asks is in
 * a read section.
 */
#ifndef FLATVIEW_PUBLISH_MAP_POOL_H
#define FLATVIEW_PUBLISH_MAP_POOL_H

#include <flatview/memory_dma.h>

#include "base/lock.h"

/* A mapping that is known by its pointer only. */
typedef struct MapRecord {
    MemoryMapping mapping;
    struct MapRecord *next;
} MapRecord;

typedef struct MapPool {
    Lock lock;
    uint64_t limit, used;
    uint64_t users;
    bool closed;
    MemoryMapClient *clients; /* in the order of registration */
    struct MapCall *calls;    /* clients that are being told */
    pthread_cond_t told;
    MapRecord **buckets; /* by host pointer; as many as a power of two, none before the first record */
    size_t n_buckets, n_records;
} MapPool;

void map_pool_init(MapPool *pool);
void map_pool_fini(MapPool *pool);
/* No more of it: false, and nothing, if there are users or clients. */
bool map_pool_close(MapPool *pool);

/*
 * Take at least min and at most max bytes; *ret_taken is how many. Zero of zero only counts a user.
 * 0, -EINVAL (closed), -EMSGSIZE (min is beyond the limit), -ENOBUFS (beyond what is free).
 */
int map_pool_take(MapPool *pool, uint64_t min, uint64_t max, uint64_t *ret_taken);
/* Give all of it back, and tell clients. No lock held. */
void map_pool_give(MapPool *pool, uint64_t bytes);
void map_pool_set_limit(MapPool *pool, uint64_t bytes);

int map_pool_register(MapPool *pool, MemoryMapClient *client);
int map_pool_unregister(MapPool *pool, MemoryMapClient *client);

/* Records whose mapping is made, by iov[0]. 0 or -ENOMEM. */
int map_pool_put(MapPool *pool, MapRecord *record);
/* Take one out; NULL: there is none such. */
MapRecord *map_pool_find(MapPool *pool, const void *host, hwaddr len, uint32_t direction);

#endif
