/* SPDX-License-Identifier: MIT */
/*
 * access_bench.c - what the ladder has no rungs for: every width and byte order, bulk copies, translation, look-ups in a map
 * that is not published yet.
 *
 *   typed      each ld and st function, on one region of RAM and one of MMIO
 *   copy       address_space_read() and _write() of 64 B to 1 MiB of RAM; beside it memcpy() of the same bytes
 *   translate  address_space_translate() in a read section, at random among n
 *   iommu      32-bit loads of RAM behind an IOMMU region, in one page and at random in 16, with what threads cache; and a
 *              notification that nobody hears
 *   staged     address_space_find_staged() with so many changes pending: rendered once, asked again and again; and with one
 *              more change before each question
 */
#include "bench.h"
#include "maps.h"

#include <string.h>

enum { N = 256, COPY_MAX = 1 << 20, CASES_MAX = 128 };

static Map *mmio, *ram;
static BenchCase cases[CASES_MAX];
static size_t n_cases;

static void add_case(const char *subject, const char *params, uint64_t (*run)(void *, uint64_t), void *arg, uint64_t batch)
{
    bench_check(n_cases < CASES_MAX);
    cases[n_cases++] = (BenchCase){
        .subject = subject,
        .params = params,
        .run = run,
        .arg = arg,
        .batch = batch,
        .count = batch > 4096 ? 4096 : batch,
    };
}

/* ---- typed ---- */

/* Region 7 answers with its number: in 4 bytes of RAM each, in the lowest byte of a device's answer. */
#define DEFINE_TYPED(suffix, type) \
    static uint64_t typed_ld##suffix(void *arg, uint64_t n) \
    { \
        Map *map = arg; \
        uint64_t k, sum = 0; \
\
        for (k = 0; k < n; k++) { \
            type value = 0; \
\
            bench_check(address_space_ld##suffix(&map->as, map_addr(7) + (k & 63) * 8, MEMTXATTRS_UNSPECIFIED, &value) == \
                        MEMTX_OK); \
            sum += value != 0; \
        } \
        bench_check(sum == n); \
        return sum; \
    }

#define DEFINE_TYPED_STORE(suffix, type) \
    static uint64_t typed_st##suffix(void *arg, uint64_t n) \
    { \
        Map *map = arg; \
        uint64_t k; \
\
        for (k = 0; k < n; k++) { \
            bench_check(address_space_st##suffix(&map->as, map_addr(9) + (k & 63) * 8, MEMTXATTRS_UNSPECIFIED, \
                                                 (type)k) == MEMTX_OK); \
        } \
        return n; \
    }

DEFINE_TYPED(ub, uint8_t)
DEFINE_TYPED(uw_le, uint16_t)
DEFINE_TYPED(uw_be, uint16_t)
DEFINE_TYPED(l_le, uint32_t)
DEFINE_TYPED(l_be, uint32_t)
DEFINE_TYPED(q_le, uint64_t)
DEFINE_TYPED(q_be, uint64_t)
DEFINE_TYPED_STORE(b, uint8_t)
DEFINE_TYPED_STORE(w_le, uint16_t)
DEFINE_TYPED_STORE(w_be, uint16_t)
DEFINE_TYPED_STORE(l_le, uint32_t)
DEFINE_TYPED_STORE(l_be, uint32_t)
DEFINE_TYPED_STORE(q_le, uint64_t)
DEFINE_TYPED_STORE(q_be, uint64_t)

#define TYPED(name) {#name, typed_##name}

static const struct {
    const char *name;
    uint64_t (*run)(void *arg, uint64_t n);
} typed[] = {
    TYPED(ldub), TYPED(lduw_le), TYPED(lduw_be), TYPED(ldl_le), TYPED(ldl_be), TYPED(ldq_le), TYPED(ldq_be),
    TYPED(stb),  TYPED(stw_le),  TYPED(stw_be),  TYPED(stl_le), TYPED(stl_be), TYPED(stq_le), TYPED(stq_be),
};

static void typed_cases(void)
{
    size_t i;

    for (i = 0; i < sizeof(typed) / sizeof(typed[0]); i++) {
        add_case("flatview", bench_text("\"op\": \"%s\", \"kind\": \"ram\"", typed[i].name), typed[i].run, ram, 10000);
        add_case("flatview", bench_text("\"op\": \"%s\", \"kind\": \"mmio\"", typed[i].name), typed[i].run, mmio, 10000);
    }
}

/* ---- copies ---- */

typedef struct Copy {
    AddressSpace as;
    MemoryRegion mr;
    uint8_t *host, *buf;
    size_t len;
} Copy;

static uint64_t copy_read(void *arg, uint64_t n)
{
    Copy *c = arg;
    uint64_t k;

    c->buf[c->len - 1] = 0;
    for (k = 0; k < n; k++) {
        bench_check(address_space_read(&c->as, 0, MEMTXATTRS_UNSPECIFIED, c->buf, c->len) == MEMTX_OK);
    }
    bench_check(c->buf[c->len - 1] == 0x5a);
    return n;
}

static uint64_t copy_write(void *arg, uint64_t n)
{
    Copy *c = arg;
    uint64_t k;

    memset(c->buf, 0x5a, c->len);
    c->host[c->len - 1] = 0;
    for (k = 0; k < n; k++) {
        bench_check(address_space_write(&c->as, 0, MEMTXATTRS_UNSPECIFIED, c->buf, c->len) == MEMTX_OK);
    }
    bench_check(c->host[c->len - 1] == 0x5a);
    return n;
}

/* The same bytes the same ways. */
static uint64_t memcpy_read(void *arg, uint64_t n)
{
    Copy *c = arg;
    uint64_t k;

    c->buf[c->len - 1] = 0;
    for (k = 0; k < n; k++) {
        memcpy(c->buf, c->host, c->len);
        __asm__ volatile("" : : "r"(c->buf) : "memory");
    }
    bench_check(c->buf[c->len - 1] == 0x5a);
    return n;
}

static uint64_t memcpy_write(void *arg, uint64_t n)
{
    Copy *c = arg;
    uint64_t k;

    memset(c->buf, 0x5a, c->len);
    c->host[c->len - 1] = 0;
    for (k = 0; k < n; k++) {
        memcpy(c->host, c->buf, c->len);
        __asm__ volatile("" : : "r"(c->host) : "memory");
    }
    bench_check(c->host[c->len - 1] == 0x5a);
    return n;
}

static void copy_init(Copy *c)
{
    c->host = bench_alloc(1, COPY_MAX);
    memset(c->host, 0x5a, COPY_MAX);
    bench_check(memory_region_init_ram_ptr(&c->mr, "ram", COPY_MAX, c->host) == 0);
    bench_check(address_space_init(&c->as, &c->mr, "memory") == 0);
}

static void copy_fini(Copy *c)
{
    bench_check(address_space_destroy(&c->as, NULL) == 0);
    bench_check(memory_region_destroy(&c->mr) == 0 && memory_region_quiesce(&c->mr) == 0);
    free(c->host);
}

static void copy_cases(const Copy *whole)
{
    static Copy copies[8];
    size_t len, i = 0;

    for (len = 64; len <= COPY_MAX; len *= len < 4096 ? 8 : 16, i++) {
        uint64_t batch = len < 4096 ? 10000 : 100 + (16u << 20) / len;
        const char *params;

        bench_check(i < sizeof(copies) / sizeof(copies[0]));
        copies[i] = *whole;
        copies[i].len = len;
        copies[i].buf = bench_alloc(1, len);
        params = bench_text("\"op\": \"read\", \"len\": %zu", len);
        add_case("flatview", params, copy_read, &copies[i], batch);
        add_case("memcpy", params, memcpy_read, &copies[i], batch);
        params = bench_text("\"op\": \"write\", \"len\": %zu", len);
        add_case("flatview", params, copy_write, &copies[i], batch);
        add_case("memcpy", params, memcpy_write, &copies[i], batch);
    }
}

/* ---- translation ---- */

static uint64_t translate(void *arg, uint64_t n)
{
    Map *map = arg;
    uint64_t state = 1, k, found = 0;

    memory_read_begin();
    for (k = 0; k < n; k++) {
        uint64_t r = bench_random(&state), i = r % map->n;
        MemoryRegionSection section;

        bench_check(address_space_translate(&map->as, map_addr(i) + 8, false, MEMTXATTRS_UNSPECIFIED, &section) == MEMTX_OK);
        found += section.mr == &map->devices[i].mr;
    }
    memory_read_end();
    bench_check(found == n);
    return found;
}

/* ---- through an IOMMU ---- */

enum { IOMMU_PAGES = 16, IOMMU_PAGE = 0x1000 };

typedef struct Dma {
    MemoryRegion mr; /* first: translate() finds the rest by it */
    AddressSpace as;
    Map *map;
    uint64_t calls, pages;
} Dma;

/* Page p leads to region p. */
static IOMMUTLBEntry translate_page(MemoryRegion *mr, hwaddr addr, IOMMUAccessFlags flag, unsigned iommu_idx)
{
    Dma *dma = container_of(mr, Dma, mr);
    uint64_t page = addr / IOMMU_PAGE;

    (void)flag;
    (void)iommu_idx;
    dma->calls++;
    return (IOMMUTLBEntry){
        .target_as = &dma->map->as,
        .iova = page * IOMMU_PAGE,
        .last = page * IOMMU_PAGE + IOMMU_PAGE - 1,
        .translated_addr = map_addr(page),
        .perm = page < dma->map->n ? IOMMU_RW : IOMMU_NONE,
    };
}

static const MemoryRegionIOMMUOps dma_ops = {.translate = translate_page};

static uint64_t iommu_load(void *arg, uint64_t n)
{
    Dma *dma = arg;
    uint64_t state = 1, k, found = 0;

    dma->calls = 0;
    for (k = 0; k < n; k++) {
        uint64_t r = bench_random(&state), page = 1 + r % dma->pages;
        uint32_t value = 0;

        bench_check(address_space_ldl_le(&dma->as, page * IOMMU_PAGE + 8, MEMTXATTRS_UNSPECIFIED, &value) == MEMTX_OK);
        found += value == page;
    }
    bench_check(found == n && dma->calls <= dma->pages);
    return found;
}

static uint64_t iommu_notify(void *arg, uint64_t n)
{
    Dma *dma = arg;
    IOMMUTLBEvent event = {.type = IOMMU_NOTIFIER_UNMAP, .entry = {.last = IOMMU_PAGE - 1}};
    uint64_t k;
    uint32_t value;

    for (k = 0; k < n; k++) {
        bench_check(memory_region_notify_iommu(&dma->mr, 0, event) == 0);
    }
    dma->calls = 0;
    bench_check(address_space_ldl_le(&dma->as, 0, MEMTXATTRS_UNSPECIFIED, &value) == MEMTX_OK && dma->calls == 1);
    return n;
}

static void dma_init(Dma *dma, Map *map, uint64_t pages)
{
    *dma = (Dma){.map = map, .pages = pages};
    bench_check(memory_region_init_iommu(&dma->mr, &dma_ops, "iommu", UINT64_MAX) == 0);
    bench_check(address_space_init(&dma->as, &dma->mr, "dma") == 0);
}

static void dma_fini(Dma *dma)
{
    bench_check(address_space_destroy(&dma->as, NULL) == 0);
    bench_check(memory_region_destroy(&dma->mr) == 0 && memory_region_quiesce(&dma->mr) == 0);
}

/* ---- staged ---- */

/* Half of the regions move up by half a stride and back, undone in the end by an abort. */
static uint64_t staged(Map *map, uint64_t n, bool change_each, size_t pending)
{
    uint64_t k, found = 0;
    size_t i;

    bench_check(memory_transaction_begin() == 0);
    for (i = 0; i < pending; i++) {
        bench_check(memory_region_set_address(&map->devices[2 * i].mr, map_addr(2 * i) + MAP_STRIDE / 2) == 0);
    }
    for (k = 0; k < n; k++) {
        MemoryRegionSection section;

        i = 2 * (k % pending);
        if (change_each) {
            bench_check(memory_region_set_address(&map->devices[i].mr, map_addr(i) + MAP_STRIDE / (k & 1 ? 2 : 4)) == 0);
        }
        bench_check(address_space_find_staged(&map->as, map_addr(i) + MAP_STRIDE / (change_each && !(k & 1) ? 4 : 2),
                                              &section) == 1);
        found += section.mr == &map->devices[i].mr;
    }
    memory_transaction_abort();
    bench_check(found == n);
    return found;
}

static uint64_t staged_again(void *arg, uint64_t n)
{
    return staged(arg, n, false, 16);
}

static uint64_t staged_anew(void *arg, uint64_t n)
{
    return staged(arg, n, true, 16);
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {16, 256, 4096};
    Map *maps[3], *behind;
    Copy copy;
    Dma dma[2];
    size_t i;

    bench_init(argc, argv, "access");
    bench_pin(0);
    bench_check(memory_thread_register() == 0);
    mmio = map_new(N, false);
    ram = map_new(N, true);
    copy_init(&copy);
    typed_cases();
    copy_cases(&copy);
    for (i = 0; i < 3; i++) {
        maps[i] = map_new(sizes[i], false);
        add_case("flatview", bench_text("\"op\": \"translate\", \"n\": %zu", sizes[i]), translate, maps[i], 10000);
    }
    behind = map_new(IOMMU_PAGES + 1, true);
    dma_init(&dma[0], behind, 1);
    dma_init(&dma[1], behind, IOMMU_PAGES);
    add_case("flatview", "\"op\": \"load through an IOMMU\", \"pages\": 1", iommu_load, &dma[0], 10000);
    add_case("flatview", "\"op\": \"load through an IOMMU\", \"pages\": 16", iommu_load, &dma[1], 10000);
    add_case("flatview", "\"op\": \"IOMMU notification\"", iommu_notify, &dma[0], 1000);
    add_case("flatview", "\"op\": \"staged look-up, nothing new\", \"n\": 4096", staged_again, maps[2], 4096);
    add_case("flatview", "\"op\": \"staged look-up, after a change\", \"n\": 4096", staged_anew, maps[2], 1024);
    bench_cases(cases, n_cases, bench_options.quick ? 2 : 6, bench_options.quick ? 4 : 8);
    for (i = 0; i < 3; i++) {
        map_free(maps[i]);
    }
    dma_fini(&dma[0]);
    dma_fini(&dma[1]);
    map_free(behind);
    copy_fini(&copy);
    map_free(mmio);
    map_free(ram);
    bench_check(memory_thread_unregister() == 0);
    return 0;
}
