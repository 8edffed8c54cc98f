/* SPDX-License-Identifier: MIT */
/*
 * mem_cache.c - the depot, through which full magazines go from threads that free to threads that allocate.
 *
 * Invariant: depot_bytes is what the depot holds, and at most DEPOT_BYTES. What exceeds that goes back to the
 * allocator, so that a map that shrank gives its memory back. Both under depot_lock, which is held for a handful of
 * instructions.
 */
#include "base/mem_cache.h"

#include <assert.h>

#include "base/lock.h"

enum { DEPOT_BYTES = 4 << 20 };

static Lock depot_lock = LOCK_INITIALIZER(LOCK_RANK_MEM, "mem depot");
static MemBlock *depot[MEM_CACHE_CLASSES];
static size_t depot_bytes;

static inline size_t class_of(size_t size)
{
    return size / MEM_LINE - 1;
}

/* shelf->hot is empty: the spare, else one from the depot. */
bool mem_cache_refill(MemCache *cache, size_t size)
{
    MemShelf *shelf = &cache->shelf[class_of(size)];
    MemBlock **top = &depot[class_of(size)];

    assert(!shelf->hot && !shelf->n_hot);
    if (shelf->spare) {
        shelf->hot = shelf->spare;
        shelf->spare = NULL;
    } else {
        /* A look without the lock: whoever misses a magazine that just arrived asks the allocator once more. */
        if (!__atomic_load_n(top, __ATOMIC_RELAXED)) {
            return false;
        }
        lock_acquire(&depot_lock);
        shelf->hot = *top;
        if (shelf->hot) {
            __atomic_store_n(top, shelf->hot->magazine, __ATOMIC_RELAXED);
            depot_bytes -= MEM_MAGAZINE * size;
        }
        lock_release(&depot_lock);
        if (!shelf->hot) {
            return false;
        }
    }
    shelf->n_hot = MEM_MAGAZINE;
    return true;
}

/* shelf->hot is full: make it the spare, the old spare goes to the depot, or is returned when that is full. */
MemBlock *mem_cache_full(MemCache *cache, size_t size)
{
    MemShelf *shelf = &cache->shelf[class_of(size)];
    MemBlock **top = &depot[class_of(size)];
    MemBlock *surplus = shelf->spare;

    shelf->spare = shelf->hot;
    shelf->hot = NULL;
    shelf->n_hot = 0;
    if (!surplus) {
        return NULL;
    }
    lock_acquire(&depot_lock);
    if (depot_bytes + MEM_MAGAZINE * size <= DEPOT_BYTES) {
        surplus->magazine = *top;
        __atomic_store_n(top, surplus, __ATOMIC_RELAXED);
        depot_bytes += MEM_MAGAZINE * size;
        surplus = NULL;
    }
    lock_release(&depot_lock);
    return surplus;
}

MemBlock *mem_cache_empty(MemCache *cache, size_t *ret_size)
{
    MemBlock *stack;
    MemShelf *shelf;
    size_t i;

    for (i = 0; i < MEM_CACHE_CLASSES; i++) {
        shelf = &cache->shelf[i];
        stack = shelf->hot ? shelf->hot : shelf->spare;
        if (stack) {
            *(shelf->hot ? &shelf->hot : &shelf->spare) = NULL;
            shelf->n_hot = 0;
            *ret_size = (i + 1) * MEM_LINE;
            return stack;
        }
    }
    return NULL;
}
