/* SPDX-License-Identifier: MIT */
/*
 * loops.h - the loops over a rung's accesses, compiled for each rung so that no call through a table is measured with them.
 *
 * For a rung R that has R_load(self, i, offset, &value) and R_store(self, i, offset, value): DEFINE_LOOPS(R) gives R_loads(),
 * R_chain() and R_stores(). Whether the value read goes into the next address must be known when the loop is compiled: a
 * value times nothing is a dependency, too.
 */
#ifndef FLATVIEW_BENCH_LOOPS_H
#define FLATVIEW_BENCH_LOOPS_H

#include "rungs/rung.h"

/* The offset of an access within its region, from the bits that did not choose the region: 8-byte steps. */
static inline uint64_t loop_offset(uint64_t r)
{
    return (r >> 20) & 0xff8;
}

#define DEFINE_LOADS(name, rung, dependent) \
    static uint64_t name(void *arg, uint64_t n) \
    { \
        Loop *loop = arg; \
        void *self = loop->self; \
        uint64_t mask = loop->mask, state = loop->state, drawn = 0, got = 0, k; \
        unsigned shift = loop->shift; \
\
        for (k = 0; k < n; k++) { \
            uint64_t r = bench_random(&state), i = (r & mask) << shift; \
            uint32_t value = UINT32_MAX; \
\
            bench_check(rung##_load(self, i, loop_offset(r), &value)); \
            drawn += i; \
            got += value; \
            if (dependent) { \
                state += value; \
            } \
        } \
        loop->state = state; \
        bench_check(got == drawn); \
        return got; \
    }

#define DEFINE_LOOPS(rung) \
    DEFINE_LOADS(rung##_loads, rung, false) \
    DEFINE_LOADS(rung##_chain, rung, true) \
    static uint64_t rung##_stores(void *arg, uint64_t n) \
    { \
        Loop *loop = arg; \
        void *self = loop->self; \
        uint64_t mask = loop->mask, state = loop->state, k; \
        unsigned shift = loop->shift; \
\
        for (k = 0; k < n; k++) { \
            uint64_t r = bench_random(&state), i = (r & mask) << shift; \
\
            bench_check(rung##_store(self, i, loop_offset(r), (uint32_t)i)); \
        } \
        loop->state = state; \
        return state; \
    }

#endif
