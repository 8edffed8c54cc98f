/* SPDX-License-Identifier: MIT */
/*
 * interposal.c - the numbers of ways through interposers.
 *
 * Invariant: a number that stands in a range of a view names the same Interposal as long as anybody can see that view. It was
 * entered before the view was published; it leaves the index, so that no new range gets it, when a sweep finds that no
 * current view has it; and it is freed, and the number given to another, when R4 allows. An outer one is born no later and
 * dies no earlier than what names it.
 * Established by: interposal_put(), the sweep. Relied on by: dispatch (access/interpose.c), which looks numbers up without a
 * lock.
 *
 * Not counted by ranges: a node of a view is copied more often than a range comes or goes, and each copy would count. A
 * sweep costs a walk over the current views, and is due when as many numbers were made as it left over, or one for every 16
 * ranges it walked over: so it costs each new number a bounded amount.
 */
#include "view/interposal.h"

#include <errno.h>
#include <string.h>

#include "base/live.h"
#include "base/mem.h"

#define CHUNK_BITS 10
#define CHUNK (1u << CHUNK_BITS)
#define N_CHUNKS ((MEMORY_INTERPOSED_MAX + 1) >> CHUNK_BITS)
#define FIRST_BUCKETS 64
#define SWEEP_AT_LEAST 256
#define RANGES_FOR_EACH 16

static Interposal **chunks[N_CHUNKS]; /* by number; grows, and is read without a lock */
static uint32_t end_number = 1;       /* guarded by the topology lock; 0 is no number */

static Interposal **buckets; /* by way; guarded by the topology lock, as all below but the free numbers */
static size_t n_buckets, n_indexed, n_left, n_walked;
static uint32_t sweep;

static Lock free_lock = LOCK_INITIALIZER(LOCK_RANK_LEAF, "free interposals");
static uint32_t *free_numbers; /* guarded by free_lock; has room for all numbers in use */
static size_t n_free, cap_free;

static Interposal **place_of(uint32_t number)
{
    Interposal **chunk = __atomic_load_n(&chunks[number >> CHUNK_BITS], __ATOMIC_ACQUIRE);

    return &chunk[number & (CHUNK - 1)];
}

const Interposal *interposal_get(uint32_t number)
{
    return __atomic_load_n(place_of(number), __ATOMIC_ACQUIRE); /* pairs with enter() */
}

/* ---- numbers -------------------------------------------------------------------------------------------------- */

/* A number that is free, and room to give it back. */
static int take_number(uint32_t *ret_number)
{
    Interposal **chunk;
    int err;

    lock_acquire(&free_lock);
    if (n_free) {
        *ret_number = free_numbers[--n_free];
        lock_release(&free_lock);
        return 0;
    }
    err = mem_vec_reserve((void **)&free_numbers, &cap_free, end_number, sizeof(*free_numbers));
    lock_release(&free_lock);
    if (err < 0) {
        return err;
    }
    if (end_number > MEMORY_INTERPOSED_MAX) {
        return -E2BIG;
    }
    if (!chunks[end_number >> CHUNK_BITS]) {
        chunk = mem_zalloc(CHUNK * sizeof(*chunk));
        if (!chunk) {
            return -ENOMEM;
        }
        __atomic_store_n(&chunks[end_number >> CHUNK_BITS], chunk, __ATOMIC_RELEASE);
    }
    *ret_number = end_number++;
    return 0;
}

static void give_number(uint32_t number)
{
    lock_acquire(&free_lock);
    free_numbers[n_free++] = number;
    lock_release(&free_lock);
}

/* ---- the index ------------------------------------------------------------------------------------------------ */

static size_t bucket_of(const MemoryRegion *mr, uint64_t delta, uint32_t outer)
{
    uint64_t hash = ((uintptr_t)mr >> 4) * UINT64_C(0x9e3779b97f4a7c15) ^ delta * UINT64_C(0xc2b2ae3d27d4eb4f) ^ outer;

    return (size_t)((hash ^ hash >> 32) & (n_buckets - 1));
}

/* More buckets, if there is memory for them; if not, and there are some, it is only slower. */
static int grow_index(void)
{
    size_t old_n = n_buckets, n = old_n ? old_n * 2 : FIRST_BUCKETS, i;
    Interposal **old = buckets, **more, *ip;

    if (n_indexed < old_n) {
        return 0;
    }
    more = mem_zalloc(n * sizeof(Interposal *));
    if (!more) {
        return old_n ? 0 : -ENOMEM;
    }
    buckets = more;
    n_buckets = n;
    for (i = 0; i < old_n; i++) {
        while ((ip = old[i])) {
            size_t b = bucket_of(ip->mr, ip->delta, ip->outer);

            old[i] = ip->next;
            ip->next = buckets[b];
            buckets[b] = ip;
        }
    }
    mem_free((void *)old, old_n * sizeof(Interposal *));
    return 0;
}

static int enter(MemoryRegion *mr, uint64_t delta, uint32_t outer, uint64_t gen, uint32_t *ret_number)
{
    Interposal *ip;
    size_t b;
    int err = grow_index();

    if (err < 0) {
        return err;
    }
    b = bucket_of(mr, delta, outer);
    for (ip = buckets[b]; ip; ip = ip->next) {
        if (ip->mr == mr && ip->delta == delta && ip->outer == outer && ip->ops == mr->interposer) {
            *ret_number = ip->number;
            return 0;
        }
    }
    ip = mem_zalloc(sizeof(*ip));
    err = ip ? take_number(ret_number) : -ENOMEM;
    if (err < 0) {
        mem_free(ip, sizeof(*ip));
        return err;
    }
    ip->mr = mr;
    ip->ops = mr->interposer;
    ip->delta = delta;
    ip->outer = outer;
    ip->birth = gen;
    ip->number = *ret_number;
    ip->depth = outer ? interposal_get(outer)->depth + 1 : 1;
    ip->next = buckets[b];
    buckets[b] = ip;
    n_indexed++;
    live_add(LIVE_INTERPOSALS, 1);
    __atomic_store_n(place_of(ip->number), ip, __ATOMIC_RELEASE);
    return 0;
}

/* ---- ranges --------------------------------------------------------------------------------------------------- */

static int number_of(const InterposeLayer *layer, hwaddr origin, uint64_t gen, uint32_t *ret_number)
{
    uint32_t outer = 0;
    int err = layer->outer ? number_of(layer->outer, origin, gen, &outer) : 0;

    if (err < 0) {
        return err;
    }
    if (!layer->mr->first_gen) {
        layer->mr->first_gen = gen;
    }
    layer->mr->interposed = true;
    return enter(layer->mr, origin - layer->origin, outer, gen, ret_number);
}

#define DIRECT (FLAT_DIRECT_READ | FLAT_DIRECT_WRITE | FLAT_EXACT)
#define FAST (0xffu << FLAT_IO_SHIFT) /* REGION_IO_FAST_* */

int interposal_put(const InterposeLayer *layers, hwaddr origin, uint64_t gen, FlatRange *range)
{
    uint32_t below = range->flags & DIRECT;

    range->flags = (range->flags & ~(DIRECT | FAST)) | below << FLAT_BELOW_SHIFT | FLAT_INTERPOSED;
    return number_of(layers, origin, gen, &range->interposal);
}

FlatRange interposal_below(const FlatRange *range)
{
    const uint32_t below = DIRECT << FLAT_BELOW_SHIFT;
    FlatRange plain = *range;

    plain.interposal = 0;
    plain.flags = (range->flags & ~(below | FLAT_INTERPOSED)) | (range->flags & below) >> FLAT_BELOW_SHIFT;
    return plain; /* without the FAST bits: they are for who has no question, and there was one */
}

/* ---- the end -------------------------------------------------------------------------------------------------- */

static void interposal_free(RetireHead *head)
{
    Interposal *ip = container_of(head, Interposal, retire);
    uint32_t number = ip->number;

    __atomic_store_n(place_of(number), NULL, __ATOMIC_RELAXED);
    live_sub(LIVE_INTERPOSALS, 1);
    mem_free(ip, sizeof(*ip));
    give_number(number);
}

bool interposal_is_sweep_due(void)
{
    size_t since = n_indexed - n_left;

    return since > SWEEP_AT_LEAST && since > n_left && since > n_walked / RANGES_FOR_EACH;
}

void interposal_sweep_begin(void)
{
    sweep++;
    n_walked = 0;
}

void interposal_mark(uint32_t number)
{
    n_walked++;
    while (number) {
        Interposal *ip = *place_of(number);

        if (ip->mark == sweep) {
            return;
        }
        ip->mark = sweep;
        number = ip->outer;
    }
}

static void drop(Interposal **at, uint64_t death)
{
    Interposal *ip = *at;

    *at = ip->next;
    n_indexed--;
    ip->retire = (RetireHead){.free = interposal_free, .birth = ip->birth, .death = death, .bytes = sizeof(*ip),
                              .kind = RETIRE_OBJECT};
    retire_push(&ip->retire);
}

static bool leads_through(const Interposal *ip, const MemoryRegion *mr)
{
    while (ip->mr != mr && ip->outer) {
        ip = interposal_get(ip->outer);
    }
    return ip->mr == mr;
}

void interposal_forget(MemoryRegion *mr, uint64_t death)
{
    size_t i;

    if (!mr->interposed) {
        return;
    }
    for (i = 0; i < n_buckets; i++) {
        Interposal **at = &buckets[i];

        while (*at) {
            if (leads_through(*at, mr)) {
                drop(at, death);
            } else {
                at = &(*at)->next;
            }
        }
    }
    n_left = n_left < n_indexed ? n_left : n_indexed;
    mr->last_gen = death; /* it is in no range, but behind some */
}

void interposal_sweep_end(uint64_t death)
{
    size_t i;

    for (i = 0; i < n_buckets; i++) {
        Interposal **at = &buckets[i];

        while (*at) {
            if ((*at)->mark == sweep) {
                at = &(*at)->next;
            } else {
                drop(at, death);
            }
        }
    }
    n_left = n_indexed;
}
