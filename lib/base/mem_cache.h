/* SPDX-License-Identifier: MIT */
/*
 * mem_cache.h - blocks given back and soon to be taken again; private to base/mem.c.
 *
 * A commit takes a few nodes on the writer's thread, and the worker gives back as many later. A general allocator needs
 * several times the instructions for such a pair, and a lock each when the two threads differ. Here, after Bonwick's
 * magazines, each thread keeps per size at most two stacks of MEM_MAGAZINE blocks, and whole stacks travel between
 * threads through a depot, one lock for that many blocks.
 *
 * Invariant: a block on a shelf or in the depot has the size of its class, belongs to nobody else, and its first words
 * are links. shelf->spare is a full magazine or NULL. Established by mem_cache_put(); relied on by mem_cache_get().
 * Concurrency: a MemCache is of one thread; the depot has its lock.
 */
#ifndef FLATVIEW_BASE_MEM_CACHE_H
#define FLATVIEW_BASE_MEM_CACHE_H

#include <flatview/types.h>

enum {
    MEM_LINE = 64,
    MEM_MAGAZINE = 16,
    MEM_CACHE_CLASSES = 32, /* 64 to 2048 bytes, in steps of a line */
    MEM_CACHE_MOST = MEM_CACHE_CLASSES * MEM_LINE,
};

typedef struct MemBlock {
    struct MemBlock *below;    /* the next of the same stack */
    struct MemBlock *magazine; /* in the depot, for a stack's topmost: the next full stack */
} MemBlock;

typedef struct MemShelf {
    MemBlock *hot, *spare;
    size_t n_hot;
} MemShelf;

typedef struct MemCache {
    MemShelf shelf[MEM_CACHE_CLASSES];
} MemCache;

/* size: a multiple of MEM_LINE, not 0. */
static inline bool mem_cache_serves(size_t size)
{
    return size / MEM_LINE - 1 < MEM_CACHE_CLASSES;
}

bool mem_cache_refill(MemCache *cache, size_t size);
MemBlock *mem_cache_full(MemCache *cache, size_t size);

/* The topmost block of a shelf whose hot stack is not empty. */
static inline MemBlock *mem_cache_pop(MemShelf *shelf)
{
    MemBlock *block = shelf->hot;

    shelf->hot = block->below;
    shelf->n_hot--;
    __builtin_prefetch(shelf->hot, 1); /* another thread may have freed it, so the next one to pop it would wait for its link */
    return block;
}

/* A block, or NULL if this thread and the depot have none. */
static inline void *mem_cache_get(MemCache *cache, size_t size)
{
    MemShelf *shelf = &cache->shelf[size / MEM_LINE - 1];

    if (__builtin_expect(!shelf->hot, 0) && !mem_cache_refill(cache, size)) {
        return NULL;
    }
    return mem_cache_pop(shelf);
}

/* Keep ptr. Returns a stack of blocks of this size that is too much for the cache and goes back to the allocator: NULL
   but seldom. */
static inline MemBlock *mem_cache_put(MemCache *cache, void *ptr, size_t size)
{
    MemShelf *shelf = &cache->shelf[size / MEM_LINE - 1];
    MemBlock *block = ptr, *surplus = NULL;

    if (__builtin_expect(shelf->n_hot == MEM_MAGAZINE, 0)) {
        surplus = mem_cache_full(cache, size);
    }
    block->below = shelf->hot;
    shelf->hot = block;
    shelf->n_hot++;
    return surplus;
}

/* Take everything out of a cache, one stack a call: the stack and its block size, or NULL when it is empty. */
MemBlock *mem_cache_empty(MemCache *cache, size_t *ret_size);

#endif
