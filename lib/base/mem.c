/* SPDX-License-Identifier: MIT */
/*
 * mem.c - every byte that the library allocates for itself.
 *
 * Invariant: the sum of departed_live and of the live counts of all attached threads is the number of bytes handed out
 * and not given back. A thread adds to its own count what it takes and subtracts what it gives back, also of another
 * thread's; so single counts may be negative and only the sum means something. A thread that ends leaves its count in
 * departed_live.
 * Established by: mem_alloc() and mem_free(), on this thread's own cache line: no shared store on the commit path.
 * Relied on by:   mem_live_bytes(), for which the sum is exact while nobody allocates.
 *
 * jemalloc: an arena of our own keeps nodes together and apart from the host's objects, and lets its owner be seen in
 * jemalloc's statistics. Naming an arena bypasses jemalloc's thread caches. Explicit ones (tcache.create) would do, but
 * mem_cache.h is several times cheaper, which counts on the commit path; so jemalloc serves what the cache has not.
 *
 * libc: every block comes straight from the C library and goes straight back, so that sanitizers and valgrind see each
 * lifetime as it is.
 */
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/lock.h"
#include "base/mem_cache.h"
#include "base/sabotage.h"

#ifdef FLATVIEW_ALLOCATOR_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

enum {
    FRESH,    /* not seen before: attach at the next call */
    ATTACHED, /* in the list */
    ALONE,    /* no list, no cache: the thread is ending, or there was no memory to attach it */
};

typedef struct MemThread {
    int state;
    bool fail_sticky;
    uint64_t live;    /* atomic for mem_live_bytes(); written by the thread only; may wrap below zero */
    uint64_t allocs;  /* attempts since mem_fail_nth() */
    uint64_t fail_at; /* which of them fails next; 0: none */
    MemCache *cache;  /* NULL: none */
    struct MemThread *next, **pprev;
} MemThread;

static __thread MemThread self;

static Lock threads_lock = LOCK_INITIALIZER(LOCK_RANK_MEM, "mem threads");
static MemThread *threads;     /* under threads_lock */
static uint64_t departed_live; /* atomic */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int key_error;

/* The bytes really asked for: whole cache lines from one line up. */
static inline size_t rounded(size_t size)
{
    return size >= MEM_LINE ? (size + MEM_LINE - 1) & ~(size_t)(MEM_LINE - 1) : size;
}

#ifdef FLATVIEW_ALLOCATOR_JEMALLOC

enum { BACKEND_IS_CACHED = true };

static int arena_flags; /* MALLOCX_ARENA(), or 0 if there was no memory for one: then the default arena serves */

static void backend_init(void)
{
    unsigned arena;
    size_t len = sizeof(arena);

    if (!mallctl("arenas.create", &arena, &len, NULL, 0)) {
        arena_flags = MALLOCX_ARENA(arena);
    }
}

/* The same for both calls: a sized free must be told the alignment too, it decides the size class. */
static int size_flags(size_t size)
{
    return MALLOCX_TCACHE_NONE | (size >= MEM_LINE ? MALLOCX_ALIGN(MEM_LINE) : MALLOCX_ALIGN(16));
}

static void *backend_alloc(size_t size)
{
    return mallocx(size, arena_flags | size_flags(size));
}

static void backend_free(void *ptr, size_t size)
{
    sdallocx(ptr, size, size_flags(size));
}

#else

enum { BACKEND_IS_CACHED = false };

static void backend_init(void)
{
}

static void *backend_alloc(size_t size)
{
    return size >= MEM_LINE ? aligned_alloc(MEM_LINE, size) : malloc(size);
}

static void backend_free(void *ptr, size_t size)
{
    (void)size;
    free(ptr);
}

#endif

static __attribute__((noinline, cold)) void free_stack(MemBlock *stack, size_t size)
{
    MemBlock *below;

    for (; stack; stack = below) {
        below = stack->below;
        backend_free(stack, size);
    }
}

/* Other keys' destructors may still free something of ours afterwards: ALONE serves them. */
static void thread_ends(void *arg)
{
    MemThread *t = arg;
    MemBlock *stack;
    size_t size;

    lock_acquire(&threads_lock);
    *t->pprev = t->next;
    if (t->next) {
        t->next->pprev = t->pprev;
    }
    /* In the same critical section, so that mem_live_bytes() counts it once. */
    __atomic_fetch_add(&departed_live, t->live, __ATOMIC_RELAXED);
    t->live = 0;
    lock_release(&threads_lock);
    t->state = ALONE;
    if (t->cache) {
        while ((stack = mem_cache_empty(t->cache, &size))) {
            free_stack(stack, size);
        }
        backend_free(t->cache, rounded(sizeof(*t->cache)));
        t->cache = NULL;
    }
}

static void once_init(void)
{
    key_error = pthread_key_create(&key, thread_ends);
    backend_init();
}

static __attribute__((noinline, cold)) void attach(MemThread *t)
{
    pthread_once(&once, once_init);
    if (key_error || pthread_setspecific(key, t)) {
        t->state = ALONE;
        return;
    }
    if (BACKEND_IS_CACHED) {
        t->cache = backend_alloc(rounded(sizeof(*t->cache)));
        if (t->cache) {
            memset(t->cache, 0, sizeof(*t->cache));
        }
    }
    lock_acquire(&threads_lock);
    t->next = threads;
    t->pprev = &threads;
    if (threads) {
        threads->pprev = &t->next;
    }
    threads = t;
    lock_release(&threads_lock);
    t->state = ATTACHED;
}

static inline MemThread *this_thread(void)
{
    MemThread *t = &self;

    if (__builtin_expect(t->state == FRESH, 0)) {
        attach(t);
    }
    return t;
}

static inline void account(MemThread *t, uint64_t delta)
{
    if (__builtin_expect(t->state == ATTACHED, 1)) {
        /* Not a read-modify-write: nobody else writes it. */
        __atomic_store_n(&t->live, t->live + delta, __ATOMIC_RELAXED);
    } else {
        __atomic_fetch_add(&departed_live, delta, __ATOMIC_RELAXED);
    }
}

static inline bool told_to_fail(MemThread *t)
{
    if (__builtin_expect(++t->allocs != t->fail_at, 1)) {
        return false;
    }
    t->fail_at += t->fail_sticky;
    return true;
}

/* What the cache has not: whoever is new here, sizes that it does not serve, empty shelves. */
static __attribute__((noinline)) void *alloc_slow(size_t size)
{
    MemThread *t = this_thread();
    size_t whole = rounded(size);
    void *ptr = NULL;

    if (size > PTRDIFF_MAX) {
        return NULL;
    }
    if (t->cache && mem_cache_serves(whole)) {
        ptr = mem_cache_get(t->cache, whole);
    }
    if (!ptr) {
        ptr = backend_alloc(whole);
    }
    if (ptr) {
        account(t, size);
    }
    return ptr;
}

void *mem_alloc(size_t size)
{
    MemThread *t = &self;
    MemShelf *shelf;
    MemBlock *block;

    assert(size > 0);
    if (told_to_fail(t)) {
        return NULL;
    }
    if (__builtin_expect(!t->cache || size < MEM_LINE || size > MEM_CACHE_MOST, 0)) {
        return alloc_slow(size);
    }
    shelf = &t->cache->shelf[(size - 1) / MEM_LINE];
    block = shelf->hot;
    if (__builtin_expect(!block, 0)) {
        return alloc_slow(size);
    }
    mem_cache_pop(shelf);
    account(t, size);
    assert(!((uintptr_t)block % MEM_LINE));
    return block;
}

void *mem_zalloc(size_t size)
{
    void *ptr = mem_alloc(size);

    return ptr ? memset(ptr, 0, size) : NULL;
}

void mem_free(void *ptr, size_t size)
{
    size_t whole = rounded(size);
    MemBlock *surplus;
    MemThread *t;

    if (!ptr) {
        return;
    }
    t = this_thread();
    account(t, -(uint64_t)size);
    if (sabotaged(SABOTAGE_SKIP_GRACE)) {
        /* The rule broken is that nobody reads freed memory. Readers shall find empty nodes there, hence wrong answers;
           handed out again, or unmapped, it would crash the one who is to report the violation. */
        memset(ptr, 0, size);
        return;
    }
    if (t->cache && mem_cache_serves(whole)) {
        surplus = mem_cache_put(t->cache, ptr, whole);
        if (__builtin_expect(surplus != NULL, 0)) {
            free_stack(surplus, whole);
        }
    } else {
        backend_free(ptr, whole);
    }
}

char *mem_strdup(const char *s)
{
    size_t size = strlen(s) + 1;
    char *copy = mem_alloc(size);

    return copy ? memcpy(copy, s, size) : NULL;
}

void mem_strfree(char *s)
{
    if (s) {
        mem_free(s, strlen(s) + 1);
    }
}

int mem_vec_grow(void **vec, size_t *cap, size_t want, size_t elem)
{
    size_t new_cap;
    void *grown;

    if (want > PTRDIFF_MAX / elem) {
        return -ENOMEM;
    }
    /* Doubling makes a series of pushes linear; the clip keeps it from overflowing where want alone would fit. */
    new_cap = *cap <= PTRDIFF_MAX / elem / 2 ? *cap * 2 : want;
    new_cap = new_cap < want ? want : new_cap;
    new_cap = new_cap < 8 && want <= 8 && elem <= 64 ? 8 : new_cap;
    grown = mem_alloc(new_cap * elem);
    if (!grown) {
        return -ENOMEM;
    }
    if (*vec) {
        memcpy(grown, *vec, *cap * elem);
        mem_free(*vec, *cap * elem);
    }
    *vec = grown;
    *cap = new_cap;
    return 0;
}

void mem_vec_free(void **vec, size_t *cap, size_t elem)
{
    mem_free(*vec, *cap * elem);
    *vec = NULL;
    *cap = 0;
}

uint64_t mem_live_bytes(void)
{
    uint64_t sum;
    MemThread *t;

    lock_acquire(&threads_lock);
    sum = __atomic_load_n(&departed_live, __ATOMIC_RELAXED);
    for (t = threads; t; t = t->next) {
        sum += __atomic_load_n(&t->live, __ATOMIC_RELAXED);
    }
    lock_release(&threads_lock);
    /* A block allocated by a thread read early and freed by one read late is missed the first time: below zero is
       zero. */
    return (int64_t)sum < 0 ? 0 : sum;
}

uint64_t mem_fail_nth(uint64_t nth, bool sticky)
{
    MemThread *t = this_thread();
    uint64_t allocs = t->allocs;

    t->allocs = 0;
    t->fail_at = nth;
    t->fail_sticky = sticky;
    return allocs;
}
