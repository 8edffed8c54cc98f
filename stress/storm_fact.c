/* SPDX-License-Identifier: MIT */
/*
 * storm_fact.c - what was in force when: how a vCPU judges an access that a writer may have overtaken.
 *
 * Invariant: while clock is 2k, value k is in force and no other; while it is 2k + 1, value k or k + 1. ring[k % FACT_RING] is
 * value k from before clock is 2k - 1 until it is 2 (k + FACT_RING) - 2. Established by the one writer, who brackets with
 * fact_begin() and fact_end() what makes the library change. Relied on by vCPUs, without a lock: a clock read after an access
 * bounds the values from above, one read before it from below. Who was so slow that values may have been written over does not
 * judge.
 *
 * The second look at the clock must not be done before the access: TESTING says that only x86 is covered, which keeps loads in
 * order. A barrier that ThreadSanitizer understands would be a store, and order what is to be seen unordered.
 */
#include "storm_planes.h"

static uint64_t get(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void set(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

void fact_init(Fact *fact, uint64_t value)
{
    fact->clock = 0;
    fact->ring[0] = value;
}

void fact_begin(Fact *fact, uint64_t next)
{
    uint64_t k = fact->clock / 2;

    set(&fact->ring[(k + 1) % FACT_RING], next);
    set(&fact->clock, 2 * k + 1);
}

void fact_end(Fact *fact, bool done)
{
    uint64_t k = fact->clock / 2;

    if (!done) {
        set(&fact->ring[(k + 1) % FACT_RING], fact->ring[k % FACT_RING]);
    }
    set(&fact->clock, 2 * k + 2);
}

uint64_t fact_value(const Fact *fact)
{
    uint64_t clock, value;

    do {
        clock = get(&fact->clock);
        value = get(&fact->ring[clock / 2 % FACT_RING]);
    } while (get(&fact->clock) / 2 > clock / 2 + FACT_RING - 3);
    return value;
}

uint64_t fact_now(const Fact *fact)
{
    return get(&fact->clock);
}

bool fact_allows(const Fact *fact, uint64_t since, uint64_t value, uint64_t mask)
{
    uint64_t last = (get(&fact->clock) + 1) / 2, k;
    bool found = false;

    for (k = since / 2; k <= last && k <= since / 2 + FACT_RING; k++) {
        found |= !((get(&fact->ring[k % FACT_RING]) ^ value) & mask);
    }
    return found || get(&fact->clock) / 2 > since / 2 + FACT_RING - 3;
}
