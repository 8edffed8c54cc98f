/* SPDX-License-Identifier: MIT */
/*
 * direct.c - the rungs that look nothing up: what no map can be faster than.
 */
#include "rungs/loops.h"
#include "rungs/table.h"

static void *direct_open(Map *map)
{
    return table_of_map(map);
}

static void direct_close(void *self)
{
    table_free(self);
}

/* ---- generator ---- */

static inline bool generator_load(void *self, uint64_t i, uint64_t offset, uint32_t *ret)
{
    uint64_t addr = map_addr(i) + offset;

    (void)self;
    __asm__ volatile("" : "+r"(addr)); /* the address is made, and that is all */
    *ret = (uint32_t)i;
    return true;
}

static inline bool generator_store(void *self, uint64_t i, uint64_t offset, uint32_t value)
{
    return generator_load(self, i, offset, &value);
}

/* ---- nothing ---- */

static inline const Record *direct_index(void *self, uint64_t addr)
{
    const Table *table = self;

    return &table->records[(addr - MAP_BASE) / MAP_STRIDE];
}

static inline bool nothing_load(void *self, uint64_t i, uint64_t offset, uint32_t *ret)
{
    const Record *record = direct_index(self, map_addr(i) + offset);

    if (record->host) {
        *ret = __atomic_load_n((uint32_t *)(void *)(record->host + offset), __ATOMIC_RELAXED);
    } else {
        *ret = (uint32_t)container_of(record->mr, Device, mr)->id;
    }
    return true;
}

static inline bool nothing_store(void *self, uint64_t i, uint64_t offset, uint32_t value)
{
    const Record *record = direct_index(self, map_addr(i) + offset);

    if (record->host) {
        __atomic_store_n((uint32_t *)(void *)(record->host + offset), value, __ATOMIC_RELAXED);
    } else {
        container_of(record->mr, Device, mr)->writes += value;
    }
    return true;
}

/* ---- bare ---- */

static inline bool bare_load(void *self, uint64_t i, uint64_t offset, uint32_t *ret)
{
    const Record *record = direct_index(self, map_addr(i) + offset);

    if (record->host) {
        *ret = __atomic_load_n((uint32_t *)(void *)(record->host + offset), __ATOMIC_RELAXED);
    } else {
        *ret = (uint32_t)record->ops->read(record->mr, offset, 4);
    }
    return true;
}

static inline bool bare_store(void *self, uint64_t i, uint64_t offset, uint32_t value)
{
    const Record *record = direct_index(self, map_addr(i) + offset);

    if (record->host) {
        __atomic_store_n((uint32_t *)(void *)(record->host + offset), value, __ATOMIC_RELAXED);
    } else {
        record->ops->write(record->mr, offset, value, 4);
    }
    return true;
}

DEFINE_LOOPS(generator)
DEFINE_LOOPS(nothing)
DEFINE_LOOPS(bare)

#define DIRECT(text, rung) \
    const Rung rung_##rung = { \
        .name = text, \
        .open = direct_open, \
        .close = direct_close, \
        .loads = rung##_loads, \
        .chain = rung##_chain, \
        .stores = rung##_stores, \
    }

DIRECT("generator", generator);
DIRECT("nothing", nothing);
DIRECT("bare", bare);
