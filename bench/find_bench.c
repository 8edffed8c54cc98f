/* SPDX-License-Identifier: MIT */
/*
 * find_bench.c - flatview_find() beside a branch-free search of a sorted array of the same sections.
 *
 *   dense, sparse   ranges 64 KiB and 16 MiB apart, of one page each
 *   hot             look-ups back to back; independent, or each waiting for the answer to the last (dependent)
 *   cold            one look-up at a time, after other memory has gone through the caches as a guest's does between two exits.
 *                   What two readings of the clock cost is in it, on both sides: it is given as the subject `clock`
 */
#include "bench.h"
#include "maps.h"
#include "section_array.h"

#define SPARSE_STRIDE (UINT64_C(16) << 20)

enum { QUERIES = 1 << 12, OTHER_BYTES = 1536 << 10 };

typedef struct Field {
    uint64_t stride;
    size_t n;
    AddressSpace as;
    MemoryRegion root;
    Device *devices;
    FlatView *view;
    SectionArray *array;
    uint64_t queries[QUERIES];
    uint64_t last; /* chain: the answer to the last */
} Field;

static Field *field_new(size_t n, uint64_t stride)
{
    Field *f = bench_alloc(1, sizeof(*f));
    uint64_t state = 1;
    size_t i;

    *f = (Field){.stride = stride, .n = n, .devices = bench_alloc(n, sizeof(*f->devices))};
    bench_check(memory_region_init(&f->root, "system", UINT64_MAX) == 0);
    bench_check(address_space_init(&f->as, &f->root, "memory") == 0);
    bench_check(memory_transaction_begin() == 0);
    for (i = 0; i < n; i++) {
        f->devices[i].id = i;
        bench_check(memory_region_init_io(&f->devices[i].mr, &map_device_ops[0], "device", MAP_SIZE) == 0);
        bench_check(memory_region_add_subregion(&f->root, MAP_BASE + i * stride, &f->devices[i].mr) == 0);
    }
    bench_check(memory_transaction_commit() == 0);
    f->view = address_space_get_flatview(&f->as);
    f->array = section_array_new(f->view);
    for (i = 0; i < QUERIES; i++) {
        uint64_t r = bench_random(&state);

        f->queries[i] = MAP_BASE + r % n * stride + (r >> 20) % MAP_SIZE;
    }
    return f;
}

static void field_free(Field *f)
{
    size_t i;

    section_array_free(f->array);
    flatview_unref(f->view);
    bench_check(address_space_destroy(&f->as, NULL) == 0);
    bench_check(memory_transaction_begin() == 0);
    for (i = 0; i < f->n; i++) {
        bench_check(memory_region_del_subregion(&f->root, &f->devices[i].mr) == 0);
        bench_check(memory_region_destroy(&f->devices[i].mr) == 0);
    }
    bench_check(memory_region_destroy(&f->root) == 0);
    bench_check(memory_transaction_commit() == 0);
    for (i = 0; i < f->n; i++) {
        bench_check(memory_region_quiesce(&f->devices[i].mr) == 0);
    }
    bench_check(memory_region_quiesce(&f->root) == 0);
    free(f->devices);
    free(f);
}

/* offset_within_region of the first address of a range is 0 here, so what is added to the next query is nothing, but only the
   answer says so. */
#define DEFINE_FINDS(name, find) \
    static uint64_t name##_hot(void *arg, uint64_t n) \
    { \
        Field *f = arg; \
        uint64_t k, found = 0; \
\
        for (k = 0; k < n; k++) { \
            MemoryRegionSection section; \
            uint64_t addr = f->queries[k % QUERIES]; \
\
            bench_check(find(f, addr, &section)); \
            found += addr - section.offset_within_address_space < MAP_SIZE; \
        } \
        bench_check(found == n); \
        return found; \
    } \
    static uint64_t name##_chain(void *arg, uint64_t n) \
    { \
        Field *f = arg; \
        uint64_t k, found = 0, last = f->last; \
\
        for (k = 0; k < n; k++) { \
            MemoryRegionSection section; \
            uint64_t addr = f->queries[(k + last) % QUERIES]; \
\
            bench_check(find(f, addr, &section)); \
            found += addr - section.offset_within_address_space < MAP_SIZE; \
            last = section.offset_within_region; \
        } \
        f->last = last; \
        bench_check(found == n && last == 0); \
        return found; \
    } \
    static double name##_cold(Field *f, uint64_t addr) \
    { \
        MemoryRegionSection section; \
        uint64_t begin = bench_now(); \
        bool found = find(f, addr, &section); \
        uint64_t ns = bench_now() - begin; \
\
        bench_check(found && addr - section.offset_within_address_space < MAP_SIZE); \
        return (double)ns; \
    }

#define find_view(f, addr, section) flatview_find((f)->view, addr, section)
#define find_array(f, addr, section) section_array_find((f)->array, addr, section)

DEFINE_FINDS(view, find_view)
DEFINE_FINDS(array, find_array)

static double clock_cold(Field *f, uint64_t addr)
{
    uint64_t begin = bench_now();

    (void)f, (void)addr;
    return (double)(bench_now() - begin);
}

static const struct {
    const char *name;
    uint64_t (*hot)(void *arg, uint64_t n);
    uint64_t (*chain)(void *arg, uint64_t n);
    double (*cold)(Field *f, uint64_t addr);
} subjects[] = {{"flatview", view_hot, view_chain, view_cold},
                {"sorted array", array_hot, array_chain, array_cold},
                {"clock", NULL, NULL, clock_cold}};

enum { SUBJECTS = sizeof(subjects) / sizeof(subjects[0]), SIZES = 4, CASES_MAX = 128 };

static BenchCase cases[CASES_MAX];
static size_t n_cases;

static const char *params_of(const Field *f, const char *caches, const char *addresses)
{
    return bench_text("\"n\": %zu, \"layout\": \"%s\", \"caches\": \"%s\", \"addresses\": \"%s\"", f->n,
                      f->stride == SPARSE_STRIDE ? "sparse" : "dense", caches, addresses);
}

static void add_case(Field *f, unsigned subject, bool chain)
{
    bench_check(n_cases < CASES_MAX);
    cases[n_cases++] = (BenchCase){
        .subject = subjects[subject].name,
        .params = params_of(f, "hot", chain ? "dependent" : "independent"),
        .run = chain ? subjects[subject].chain : subjects[subject].hot,
        .arg = f,
        .batch = 2 * QUERIES,
        .count = 2 * QUERIES,
    };
}

/* In turns, so that each subject meets the same machine. */
static void cold(Field **fields, size_t n_fields, unsigned rounds)
{
    static uint8_t other[OTHER_BYTES];
    Series times[2 * SIZES][SUBJECTS] = {0};
    size_t round, i, k, s;

    for (round = 0; round < rounds; round++) {
        for (i = 0; i < n_fields; i++) {
            for (s = 0; s < SUBJECTS; s++) {
                for (k = 0; k < OTHER_BYTES; k += 64) {
                    __atomic_store_n(&other[k], (uint8_t)(other[k] + 1), __ATOMIC_RELAXED);
                }
                series_add(&times[i][s], subjects[s].cold(fields[i], fields[i]->queries[(round * 7 + s) % QUERIES]));
            }
        }
    }
    for (i = 0; i < n_fields; i++) {
        for (s = 0; s < SUBJECTS; s++) {
            bench_emit(subjects[s].name, params_of(fields[i], "cold", "dependent"), "cold time", "ns/op", &times[i][s]);
        }
    }
}

int main(int argc, char **argv)
{
    static const size_t sizes[SIZES] = {16, 256, 4096, 65536};
    Field *fields[2 * SIZES];
    size_t n_fields = 0, i;

    bench_init(argc, argv, "find");
    bench_pin(0);
    for (i = 0; i < (size_t)SIZES - bench_options.quick; i++) {
        fields[n_fields++] = field_new(sizes[i], MAP_STRIDE);
        fields[n_fields++] = field_new(sizes[i], SPARSE_STRIDE);
    }
    for (i = 0; i < n_fields; i++) {
        add_case(fields[i], 0, false);
        add_case(fields[i], 1, false);
        if (!bench_options.count) {
            add_case(fields[i], 0, true);
            add_case(fields[i], 1, true);
        }
    }
    bench_cases(cases, n_cases, bench_options.quick ? 3 : 8, bench_options.quick ? 6 : 10);
    if (!bench_options.count) {
        cold(fields, n_fields, bench_options.quick ? 300 : 1500);
    }
    for (i = 0; i < n_fields; i++) {
        field_free(fields[i]);
    }
    return 0;
}
