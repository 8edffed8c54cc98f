/* SPDX-License-Identifier: MIT */
#include "shim/mem_shim.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/mem_cache.h"

enum { CACHED_SIZE = 128 };

struct MemShimCache {
    MemCache cache;
};

static long outstanding; /* atomic */

void *mem_shim_alloc(size_t size)
{
    return mem_alloc(size);
}

void *mem_shim_zalloc(size_t size)
{
    return mem_zalloc(size);
}

void mem_shim_free(void *ptr, size_t size)
{
    mem_free(ptr, size);
}

char *mem_shim_strdup(const char *s)
{
    return mem_strdup(s);
}

void mem_shim_strfree(char *s)
{
    mem_strfree(s);
}

int mem_shim_vec_reserve(void **vec, size_t *cap, size_t want, size_t elem)
{
    return mem_vec_reserve(vec, cap, want, elem);
}

void mem_shim_vec_free(void **vec, size_t *cap, size_t elem)
{
    mem_vec_free(vec, cap, elem);
}

uint64_t mem_shim_live_bytes(void)
{
    return mem_live_bytes();
}

uint64_t mem_shim_fail_nth(uint64_t nth, bool sticky)
{
    return mem_fail_nth(nth, sticky);
}

MemShimCache *mem_shim_cache_new(void)
{
    return calloc(1, sizeof(MemShimCache));
}

static void free_stack(MemBlock *stack)
{
    MemBlock *below;

    for (; stack; stack = below) {
        below = stack->below;
        free(stack);
        __atomic_fetch_sub(&outstanding, 1, __ATOMIC_RELAXED);
    }
}

void *mem_shim_cache_get(MemShimCache *cache)
{
    void *block = mem_cache_get(&cache->cache, CACHED_SIZE);

    if (!block) {
        block = malloc(CACHED_SIZE);
        __atomic_fetch_add(&outstanding, 1, __ATOMIC_RELAXED);
    }
    return block;
}

void mem_shim_cache_put(MemShimCache *cache, void *block)
{
    free_stack(mem_cache_put(&cache->cache, block, CACHED_SIZE));
}

void mem_shim_cache_free(MemShimCache *cache)
{
    MemBlock *stack;
    size_t size;

    while ((stack = mem_cache_empty(&cache->cache, &size))) {
        free_stack(stack);
    }
    free(cache);
}

long mem_shim_cache_outstanding(void)
{
    return __atomic_load_n(&outstanding, __ATOMIC_RELAXED);
}
