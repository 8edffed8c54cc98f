/* SPDX-License-Identifier: MIT */
/*
 * table.c - building and changing sorted arrays of ranges.
 */
#include "rungs/table.h"

#include <string.h>

size_t table_bytes(size_t room)
{
    return sizeof(Table) + room * (sizeof(uint64_t) + sizeof(Record));
}

Table *table_new(size_t room)
{
    Table *table = bench_alloc_raw(1, sizeof(*table));

    *table = (Table){.room = room};
    table->firsts = bench_alloc_raw(room, sizeof(*table->firsts));
    table->records = bench_alloc_raw(room, sizeof(*table->records));
    return table;
}

void table_free(Table *table)
{
    free(table->firsts);
    free(table->records);
    free(table);
}

Record table_record(Map *map, size_t i, RungPlace place)
{
    Device *device = &map->devices[i];

    return (Record){
        .first = place.first,
        .last = place.last,
        .mr = &device->mr,
        .ops = map->ram ? NULL : device->ops,
        .host = map->ram ? (uint8_t *)map->ram + i * MAP_SIZE : NULL,
    };
}

Table *table_of_map(Map *map)
{
    Table *table = table_new(map->n);
    size_t i;

    for (i = 0; i < map->n; i++) {
        table->records[i] = table_record(map, i, rung_place(RUNG_TOGGLE, i, true));
        table->firsts[i] = table->records[i].first;
    }
    table->n = map->n;
    return table;
}

size_t table_position(const Table *table, uint64_t addr)
{
    const uint64_t *base = table->firsts;
    size_t n = table->n;

    while (n > 1) {
        size_t half = n / 2;

        base += base[half] <= addr ? half : 0;
        n -= half;
    }
    return (size_t)(base - table->firsts);
}

void table_insert(Table *table, Record record)
{
    size_t k = table->n ? table_position(table, record.first) : 0;

    bench_check(table->n < table->room);
    k += table->n && table->firsts[k] < record.first;
    memmove(&table->firsts[k + 1], &table->firsts[k], (table->n - k) * sizeof(*table->firsts));
    memmove(&table->records[k + 1], &table->records[k], (table->n - k) * sizeof(*table->records));
    table->firsts[k] = record.first;
    table->records[k] = record;
    table->n++;
}

void table_remove(Table *table, uint64_t first)
{
    size_t k = table_position(table, first);

    bench_check(table->n && table->firsts[k] == first);
    table->n--;
    memmove(&table->firsts[k], &table->firsts[k + 1], (table->n - k) * sizeof(*table->firsts));
    memmove(&table->records[k], &table->records[k + 1], (table->n - k) * sizeof(*table->records));
}
