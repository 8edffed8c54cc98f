/* SPDX-License-Identifier: MIT */
/*
 * mem.h - every byte that the library allocates for itself; all of it may fail.
 *
 * Invariant: mem_live_bytes() is the sum of the sizes handed out and not yet given back. mem.c is the only file that
 * knows which allocator serves (jemalloc in an arena of its own, or libc: -Dallocator).
 * Concurrency: any thread, any lock held; takes only the allocator's own locks.
 */
#ifndef FLATVIEW_BASE_MEM_H
#define FLATVIEW_BASE_MEM_H

#include <flatview/types.h>

/* size > 0; aligned to 64 if size >= 64, else to 16. NULL when there is none, or when a test says so. */
void *mem_alloc(size_t size);
void *mem_zalloc(size_t size);
void mem_free(void *ptr, size_t size); /* the size asked for; NULL is a no-op */
char *mem_strdup(const char *s);       /* to be given back with mem_strfree() */
void mem_strfree(char *s);

int mem_vec_grow(void **vec, size_t *cap, size_t want, size_t elem); /* want > *cap */
/* Let a vector have room for at least want elements of elem bytes: 0, or -ENOMEM with everything as before. Inlined, for
   between two growths it is one comparison. */
static inline int mem_vec_reserve(void **vec, size_t *cap, size_t want, size_t elem)
{
    return __builtin_expect(want <= *cap, 1) ? 0 : mem_vec_grow(vec, cap, want, elem);
}
void mem_vec_free(void **vec, size_t *cap, size_t elem);

uint64_t mem_live_bytes(void);

/* Tests: the nth allocation of this thread from now (1 = the next) fails, and all after it if sticky; 0 switches off.
   Returns how many allocations this thread has made since the last call. */
uint64_t mem_fail_nth(uint64_t nth, bool sticky);

#endif
