/* SPDX-License-Identifier: MIT */
/*
 * thread_cache.c - the miss.
 *
 * Invariant: see thread_cache.h. An entry carries the generation of the view in which its range was found, never the one
 * that the cell announced: between the two stores of a publication they differ, and only the former says what was seen.
 *
 * Slots are pages of their own, not thread-local storage, which would be carved out of the thread's stack and would have no
 * room in a program that loads the library late. They come when a thread has missed PATIENCE times, so that one
 * that looks at a few things and goes pays for none of it, and go with the thread. Without memory for them it goes on missing.
 */
#include "access/thread_cache.h"

#include <pthread.h>
#include <sys/mman.h>

#define PATIENCE 256

CacheSlot thread_cache_no_slots[CACHE_SLOTS];

__thread ThreadCache thread_cache = {.memory = {.slots = thread_cache_no_slots}};

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int key_error;

/* Accesses of destructors that run later may bring new slots; then this one is called once more. */
static void thread_ends(void *slots)
{
    thread_cache.memory.slots = thread_cache_no_slots;
    munmap(slots, CACHE_SLOTS * sizeof(CacheSlot));
}

static void key_create(void)
{
    key_error = pthread_key_create(&key, thread_ends);
}

static __attribute__((cold, noinline)) void slots_come(void)
{
    void *slots;

    thread_cache.device.misses = 0; /* whatever comes of it: not at once again */
    pthread_once(&key_once, key_create);
    if (key_error) {
        return;
    }
    slots = mmap(NULL, CACHE_SLOTS * sizeof(CacheSlot), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (slots == MAP_FAILED) {
        return;
    }
    if (pthread_setspecific(key, slots)) {
        munmap(slots, CACHE_SLOTS * sizeof(CacheSlot));
        return;
    }
    thread_cache.memory.slots = slots;
}

/* Where later accesses find memory. Under SABOTAGE_STALE_CACHE a copy: this access goes on with the original, because a
   callback's own accesses may fill the copy anew under way. */
static const FlatRange *kept(const FlatRange *range)
{
#ifdef FLATVIEW_SABOTAGE
    if (sabotaged(SABOTAGE_STALE_CACHE)) {
        thread_cache.stale = *range;
        return &thread_cache.stale;
    }
#endif
    return range;
}

static inline void remember_memory(uint64_t gen, const FlatRange *range, unsigned asks)
{
    thread_cache.memory.gen = gen;
    thread_cache.memory.first = range->first;
    thread_cache.memory.limit = range->last - range->first - 7;
    thread_cache.memory.host = range->host;
    thread_cache.memory.range = kept(range);
    thread_cache.memory.writable = (range->flags & FLAT_DIRECT_WRITE) && !(asks & CACHE_ASK_STORE);
}

#define FLAT_IO_FAST (0xffu << FLAT_IO_SHIFT)

static inline void remember_device(uint64_t gen, const FlatRange *range, unsigned asks)
{
    uint64_t edges = range->first | (range->last + 1) | (range->offset - range->first);

    thread_cache.device.gen = gen;
    thread_cache.device.first = range->first;
    thread_cache.device.span = range->last - range->first;
    thread_cache.device.offset = range->offset + range->bias - range->first;
    thread_cache.device.mr = range->mr;
    thread_cache.device.ops = range->ops;
    thread_cache.device.flags = asks || edges % 8 ? range->flags & ~FLAT_IO_FAST : range->flags;
}

const FlatRange *thread_cache_miss(const FlatView *view, hwaddr addr)
{
    const FlatRange *range = view_find(view->root, addr);
    unsigned asks;

    if (!range) {
        return NULL;
    }
    asks = thread_cache_asks(range);
    if ((range->flags & (FLAT_DIRECT_READ | FLAT_EXACT)) == FLAT_DIRECT_READ && range->last - range->first >= 7) {
        remember_memory(view->gen, range, asks);
    } else {
        remember_device(view->gen, range, asks);
    }
    if (__builtin_expect(thread_cache.memory.slots == thread_cache_no_slots, 0)) {
        if (++thread_cache.device.misses == PATIENCE) {
            slots_come();
        }
    } else if (!sabotaged(SABOTAGE_STALE_CACHE)) { /* under which nothing freed may be in reach */
        CacheSlot *slot = thread_cache_slot(view->page_mask, addr);

        slot->gen = view->gen;
        slot->range = (uintptr_t)range | asks;
    }
    return range;
}

const FlatRange *thread_cache_find(const FlatView *view, hwaddr addr)
{
    const FlatRange *range;
    unsigned asks;

    if (thread_cache_fresh(thread_cache.memory.gen, view->gen) &&
        addr - thread_cache.memory.first <= thread_cache.memory.limit + 7) {
        return thread_cache.memory.range;
    }
    range = thread_cache_page(view->gen, view->page_mask, addr, &asks);
    return range ? range : thread_cache_miss(view, addr);
}
