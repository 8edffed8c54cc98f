/* SPDX-License-Identifier: MIT */
/*
 * table.h - a sorted array of ranges: what several rungs search, and how they differ is who may change it when.
 *
 * Invariant: firsts[0 .. n) ascends strictly, record k belongs to firsts[k], ranges are disjoint. Who reads and who
 * changes a table at the same time is the rung's business.
 */
#ifndef FLATVIEW_BENCH_TABLE_H
#define FLATVIEW_BENCH_TABLE_H

#include "rungs/rung.h"

typedef struct Record {
    uint64_t first, last;
    MemoryRegion *mr;
    const MemoryRegionOps *ops;
    uint8_t *host; /* NULL: ops answer */
} Record;

typedef struct Table {
    size_t n, room;
    uint64_t *firsts; /* apart from the records: a search reads nothing else */
    Record *records;
} Table;

Table *table_new(size_t room);
Table *table_of_map(Map *map); /* all regions at home */
void table_free(Table *table);
size_t table_bytes(size_t room);

/* Region i of map at place, in a table that does not have it. */
Record table_record(Map *map, size_t i, RungPlace place);
size_t table_position(const Table *table, uint64_t addr); /* of the last range that begins at or below; 0 if none does */
void table_insert(Table *table, Record record);
void table_remove(Table *table, uint64_t first);

/* The range that holds addr, or NULL. The search has no branch that depends on the data. */
static inline const Record *table_find(const Table *table, uint64_t addr)
{
    const uint64_t *base = table->firsts;
    size_t n = table->n;
    const Record *record;

    while (n > 1) {
        size_t half = n / 2;

        base += base[half] <= addr ? half : 0;
        n -= half;
    }
    record = &table->records[base - table->firsts];
    return addr >= record->first && addr <= record->last ? record : NULL;
}

static inline bool record_load(const Record *record, uint64_t addr, uint32_t *ret)
{
    if (!record || record->last - addr < 3) {
        return false;
    }
    if (record->host) {
        *ret = __atomic_load_n((uint32_t *)(void *)(record->host + (addr - record->first)), __ATOMIC_RELAXED);
        return true;
    }
    if (((addr - record->first) & 3) || record->ops->valid.max_access_size < 4 || record->ops->impl.max_access_size < 4) {
        return false;
    }
    *ret = (uint32_t)record->ops->read(record->mr, addr - record->first, 4);
    return true;
}

static inline bool record_store(const Record *record, uint64_t addr, uint32_t value)
{
    if (!record || record->last - addr < 3) {
        return false;
    }
    if (record->host) {
        __atomic_store_n((uint32_t *)(void *)(record->host + (addr - record->first)), value, __ATOMIC_RELAXED);
        return true;
    }
    if (((addr - record->first) & 3) || record->ops->valid.max_access_size < 4 || record->ops->impl.max_access_size < 4) {
        return false;
    }
    record->ops->write(record->mr, addr - record->first, value, 4);
    return true;
}

#endif
