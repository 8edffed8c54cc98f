/* SPDX-License-Identifier: MIT */
/*
 * mem_shim.h - base/mem.h, and the cache behind it alone, so that sanitizer builds, which do not use it, test it too.
 */
#ifndef FLATVIEW_TESTS_MEM_SHIM_H
#define FLATVIEW_TESTS_MEM_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

void *mem_shim_alloc(size_t size);
void *mem_shim_zalloc(size_t size);
void mem_shim_free(void *ptr, size_t size);
char *mem_shim_strdup(const char *s);
void mem_shim_strfree(char *s);
int mem_shim_vec_reserve(void **vec, size_t *cap, size_t want, size_t elem);
void mem_shim_vec_free(void **vec, size_t *cap, size_t elem);
uint64_t mem_shim_live_bytes(void);
uint64_t mem_shim_fail_nth(uint64_t nth, bool sticky);

/* A cache of 128-byte blocks over malloc(). */
typedef struct MemShimCache MemShimCache;
MemShimCache *mem_shim_cache_new(void);
void *mem_shim_cache_get(MemShimCache *cache);            /* from the cache, else malloc() */
void mem_shim_cache_put(MemShimCache *cache, void *block); /* to the cache; what is too much for it to free() */
void mem_shim_cache_free(MemShimCache *cache);             /* with all in it */
/* Blocks that malloc() gave and free() has not seen, of all caches; those in the depot included. */
long mem_shim_cache_outstanding(void);

#ifdef __cplusplus
}
#endif

#endif
