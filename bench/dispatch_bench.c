/* SPDX-License-Identifier: MIT */
/*
 * dispatch_bench.c - what one access costs, rung by rung.
 *
 * The same addresses, the same devices, the same answers on every rung; what a rung adds is what it promises:
 *   generator   the loop that makes the addresses, and nothing else: to be subtracted
 *   bare        the device is known: its callback is called through its record, or its memory is loaded
 *   mutex       a sorted array of ranges under a mutex: branch-free search, bounds, size and alignment checks
 *   rwlock      the same under the read side of a rwlock
 *   rcu-array   the same in an RCU read section: what a design has that rebuilds everything for each change
 *   flatview    address_space_ldl_le() and address_space_stl_le()
 * Accesses are of 4 bytes, aligned. Independent: the next address is known early. Dependent: it depends on the value just
 * read, as the next exit of a guest does on the answer to the last.
 */
#include "bench.h"
#include "maps.h"

#include <pthread.h>
#include <string.h>

#define URCU_INLINE_SMALL_FUNCTIONS
#define _LGPL_SOURCE
#include <urcu/urcu-memb.h>

/* ---- what the other rungs search ---- */

typedef struct Record {
    uint64_t first, last;
    MemoryRegion *mr;
    const MemoryRegionOps *ops;
    uint8_t *host;
} Record;

typedef struct Table {
    size_t n;
    uint64_t *firsts;
    Record *records;
} Table;

typedef struct Rig {
    Map *map;
    Table *table; /* for rcu-array: published */
    pthread_mutex_t mutex;
    pthread_rwlock_t rwlock;
} Rig;

static Rig *rig_new(size_t n, bool ram)
{
    Rig *rig = bench_alloc(1, sizeof(*rig));
    Table *table = bench_alloc(1, sizeof(*table));
    size_t i;

    rig->map = map_new(n, ram);
    table->n = n;
    table->firsts = bench_alloc(n, sizeof(*table->firsts));
    table->records = bench_alloc(n, sizeof(*table->records));
    for (i = 0; i < n; i++) {
        table->firsts[i] = map_addr(i);
        table->records[i] = (Record){
            .first = map_addr(i),
            .last = map_addr(i) + MAP_SIZE - 1,
            .mr = &rig->map->devices[i].mr,
            .ops = ram ? NULL : &map_device_ops,
            .host = ram ? (uint8_t *)rig->map->ram + i * MAP_SIZE : NULL,
        };
    }
    rig->table = table;
    pthread_mutex_init(&rig->mutex, NULL);
    pthread_rwlock_init(&rig->rwlock, NULL);
    return rig;
}

static void rig_free(Rig *rig)
{
    free(rig->table->firsts);
    free(rig->table->records);
    free(rig->table);
    map_free(rig->map);
    free(rig);
}

/* The record that holds addr, or NULL. The search has no branch that depends on the data. */
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

/* ---- the rungs: read or write 4 bytes of region i at offset ---- */

static inline bool generator_load(Rig *rig, uint64_t i, uint64_t offset, uint32_t *ret)
{
    uint64_t addr = map_addr(i) + offset;

    (void)rig;
    __asm__ volatile("" : "+r"(addr)); /* the address is made, and that is all */
    *ret = (uint32_t)i;
    return true;
}

static inline bool generator_store(Rig *rig, uint64_t i, uint64_t offset, uint32_t value)
{
    return generator_load(rig, i, offset, &value);
}

static inline bool bare_load(Rig *rig, uint64_t i, uint64_t offset, uint32_t *ret)
{
    const Record *record = &rig->table->records[i];

    if (record->host) {
        *ret = __atomic_load_n((uint32_t *)(void *)(record->host + offset), __ATOMIC_RELAXED);
    } else {
        *ret = (uint32_t)record->ops->read(record->mr, offset, 4);
    }
    return true;
}

static inline bool bare_store(Rig *rig, uint64_t i, uint64_t offset, uint32_t value)
{
    const Record *record = &rig->table->records[i];

    if (record->host) {
        __atomic_store_n((uint32_t *)(void *)(record->host + offset), value, __ATOMIC_RELAXED);
    } else {
        record->ops->write(record->mr, offset, value, 4);
    }
    return true;
}

#define DEFINE_LOCKED(name, enter, leave) \
    static inline bool name##_load(Rig *rig, uint64_t i, uint64_t offset, uint32_t *ret) \
    { \
        bool ok; \
\
        enter; \
        ok = record_load(table_find(__atomic_load_n(&rig->table, __ATOMIC_CONSUME), map_addr(i) + offset), \
                         map_addr(i) + offset, ret); \
        leave; \
        return ok; \
    } \
    static inline bool name##_store(Rig *rig, uint64_t i, uint64_t offset, uint32_t value) \
    { \
        bool ok; \
\
        enter; \
        ok = record_store(table_find(__atomic_load_n(&rig->table, __ATOMIC_CONSUME), map_addr(i) + offset), \
                          map_addr(i) + offset, value); \
        leave; \
        return ok; \
    }

DEFINE_LOCKED(mutex, pthread_mutex_lock(&rig->mutex), pthread_mutex_unlock(&rig->mutex))
DEFINE_LOCKED(rwlock, pthread_rwlock_rdlock(&rig->rwlock), pthread_rwlock_unlock(&rig->rwlock))
DEFINE_LOCKED(rebuild, urcu_memb_read_lock(), urcu_memb_read_unlock())

static inline bool flatview_load(Rig *rig, uint64_t i, uint64_t offset, uint32_t *ret)
{
    return address_space_ldl_le(&rig->map->as, map_addr(i) + offset, MEMTXATTRS_UNSPECIFIED, ret) == MEMTX_OK;
}

static inline bool flatview_store(Rig *rig, uint64_t i, uint64_t offset, uint32_t value)
{
    return address_space_stl_le(&rig->map->as, map_addr(i) + offset, MEMTXATTRS_UNSPECIFIED, value) == MEMTX_OK;
}

/* ---- the loops ---- */

typedef struct Loop {
    Rig *rig;
    bool random;
    uint64_t state;
} Loop;

/*
 * Region and offset of the next access. Every region answers with its number, so the sum of what was read must be the sum of the
 * numbers drawn. mask is n - 1 or 0. The value read goes into the next address, or does not: that must be known when the loop
 * is compiled, for a value times nothing is a dependency, too.
 */
#define DEFINE_LOADS(name, rung, dependent) \
    static uint64_t name(void *arg, uint64_t n) \
    { \
        Loop *loop = arg; \
        Rig *rig = loop->rig; \
        uint64_t mask = loop->random ? rig->map->n - 1 : 0, state = loop->state, drawn = 0, got = 0, k; \
\
        for (k = 0; k < n; k++) { \
            uint64_t r = bench_random(&state), i = r & mask; \
            uint32_t value = UINT32_MAX; \
\
            bench_check(rung##_load(rig, i, (r >> 20) & 0xff8, &value)); \
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

#define DEFINE_LOOPS(name, rung) \
    DEFINE_LOADS(name##_loads, rung, false) \
    DEFINE_LOADS(name##_chain, rung, true) \
    static uint64_t name##_stores(void *arg, uint64_t n) \
    { \
        Loop *loop = arg; \
        Rig *rig = loop->rig; \
        uint64_t mask = loop->random ? rig->map->n - 1 : 0, state = loop->state, k; \
\
        for (k = 0; k < n; k++) { \
            uint64_t r = bench_random(&state), i = r & mask; \
\
            bench_check(rung##_store(rig, i, (r >> 20) & 0xff8, (uint32_t)i)); \
        } \
        loop->state = state; \
        return state; \
    }

DEFINE_LOOPS(generator, generator)
DEFINE_LOOPS(bare, bare)
DEFINE_LOOPS(mutex, mutex)
DEFINE_LOOPS(rwlock, rwlock)
DEFINE_LOOPS(rebuild, rebuild)
DEFINE_LOOPS(flatview, flatview)

#define RUNG(text, name) {text, name##_loads, name##_chain, name##_stores}

static const struct {
    const char *name;
    uint64_t (*loads)(void *arg, uint64_t n);
    uint64_t (*chain)(void *arg, uint64_t n);
    uint64_t (*stores)(void *arg, uint64_t n);
} rungs[] = {
    RUNG("generator", generator), RUNG("bare", bare),         RUNG("mutex", mutex),
    RUNG("rwlock", rwlock),       RUNG("rcu-array", rebuild), RUNG("flatview", flatview),
};

enum { RUNGS = sizeof(rungs) / sizeof(rungs[0]), CASES_MAX = 256 };

static BenchCase cases[CASES_MAX];
static Loop loops[CASES_MAX];
static size_t n_cases;

static void add_cases(Rig *rig, bool random, bool store, bool dependent)
{
    size_t i;

    for (i = 0; i < RUNGS; i++) {
        bench_check(n_cases < CASES_MAX);
        loops[n_cases] = (Loop){.rig = rig, .random = random, .state = 1};
        cases[n_cases] = (BenchCase){
            .subject = rungs[i].name,
            .params = bench_text("\"op\": \"%s\", \"kind\": \"%s\", \"n\": %zu, \"region\": \"%s\", \"addresses\": \"%s\"",
                                 store ? "store" : "load", rig->map->ram ? "ram" : "mmio", rig->map->n,
                                 random ? "random" : "same", dependent ? "dependent" : "independent"),
            .run = store ? rungs[i].stores : dependent ? rungs[i].chain : rungs[i].loads,
            .arg = &loops[n_cases],
            .batch = 20000,
            .count = 20000,
        };
        n_cases++;
    }
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {16, 256, 4096};
    enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };
    Rig *rigs[SIZES][2];
    unsigned i, ram;

    bench_init(argc, argv, "dispatch");
    bench_pin(0);
    bench_check(memory_thread_register() == 0); /* with the liburcu of the rung rcu-array, too */
    for (i = 0; i < SIZES; i++) {
        for (ram = 0; ram < 2; ram++) {
            Rig *rig = rigs[i][ram] = rig_new(sizes[i], ram);

            if (sizes[i] == 256) {
                add_cases(rig, false, false, false);
                add_cases(rig, false, true, false);
                add_cases(rig, false, false, true);
            }
            add_cases(rig, true, false, false);
            if (!bench_options.count) {
                add_cases(rig, true, false, true);
            }
        }
    }
    bench_cases(cases, n_cases, bench_options.quick ? 3 : 8, bench_options.quick ? 4 : 10);
    for (i = 0; i < SIZES; i++) {
        rig_free(rigs[i][0]);
        rig_free(rigs[i][1]);
    }
    bench_check(memory_thread_unregister() == 0);
    return 0;
}
