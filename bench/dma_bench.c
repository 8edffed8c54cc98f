/* SPDX-License-Identifier: MIT */
/*
 * dma_bench.c - what devices do with guest memory: map it, look at a ring again and again, follow what is populated.
 *
 *   map        address_space_map() and unmap of a page, to read and to write; a scatter list of 16 pieces in one call; a bounced one
 *   load       4 bytes of RAM: through the host pointer, plainly, through a cached window; the same behind an IOMMU
 *   store      likewise
 *   replay     memory_region_replay_populated() of a GiB in which every other 2 MiB is populated, for each piece
 */
#include "bench.h"

#include <flatview/memory.h>

enum { PAGE = 4096, PIECES = 16, BLOCK = 2 << 20 };
#define GIB (UINT64_C(1) << 30)
#define REGISTERS (2 * GIB)

static struct {
    MemoryRegion root, ram, registers, iommu, sparse;
    AddressSpace as, dma;
    MemoryRegionCache plain, behind;
    RamDiscardSource source;
    uint64_t pieces;
} rig;

static const MemTxAttrs attrs;

static uint64_t registers_read(MemoryRegion *mr, hwaddr addr, unsigned size)
{
    (void)mr;
    return addr + size;
}

static const MemoryRegionOps registers_ops = {
    .read = registers_read,
    .endianness = MEMORY_LITTLE_ENDIAN,
    .valid = {.min_access_size = 1, .max_access_size = 8},
    .impl = {.min_access_size = 1, .max_access_size = 8},
};

/* By pages, one to one. */
static IOMMUTLBEntry translate(MemoryRegion *mr, hwaddr addr, IOMMUAccessFlags flag, unsigned index)
{
    hwaddr page = addr & ~(hwaddr)(PAGE - 1);

    (void)mr;
    (void)flag;
    (void)index;
    return (IOMMUTLBEntry){&rig.as, page, page + PAGE - 1, page, IOMMU_RW};
}

static const MemoryRegionIOMMUOps iommu_ops = {.translate = translate};

static uint64_t map_at(AddressSpace *as, hwaddr addr, hwaddr want, uint32_t direction, uint64_t n)
{
    uint64_t i, sum = 0;

    for (i = 0; i < n; i++) {
        hwaddr len = want;
        void *host = NULL;

        bench_check(address_space_map(as, addr, &len, direction, attrs, &host) == 0 && len == want);
        sum += *(uint8_t *)host;
        bench_check(address_space_unmap(as, host, len, direction, direction & MEMORY_MAP_WRITE ? len : 0, NULL) == 0);
    }
    return sum + n;
}

static uint64_t map_read(void *arg, uint64_t n)
{
    return map_at(arg, PAGE, PAGE, MEMORY_MAP_READ, n);
}

static uint64_t map_write(void *arg, uint64_t n)
{
    return map_at(arg, PAGE, PAGE, MEMORY_MAP_WRITE, n);
}

static uint64_t map_bounced(void *arg, uint64_t n)
{
    return map_at(arg, REGISTERS, 64, MEMORY_MAP_READ, n);
}

static uint64_t map_list(void *arg, uint64_t n)
{
    MemoryMapRange ranges[PIECES];
    uint64_t i, sum = 0;

    for (i = 0; i < PIECES; i++) {
        ranges[i] = (MemoryMapRange){.addr = 2 * i * PAGE, .len = PAGE};
    }
    for (i = 0; i < n; i++) {
        MemoryMapping mapping = {0};

        bench_check(address_space_map_sg(arg, ranges, PIECES, MEMORY_MAP_READ, attrs, &mapping) == 0);
        bench_check(mapping.n_iov == PIECES);
        sum += *(uint8_t *)mapping.iov[i % PIECES].iov_base;
        bench_check(address_space_unmap_sg(&mapping, 0, NULL) == 0);
    }
    return sum + n;
}

/* ---- a word of a ring ---- */

static uint64_t load_host(void *arg, uint64_t n)
{
    uint64_t i, sum = 0;

    for (i = 0; i < n; i++) {
        sum += __atomic_load_n((const uint32_t *)arg + (i & 255), __ATOMIC_RELAXED);
    }
    bench_check(sum == 0);
    return n + sum;
}

static uint64_t load_space(void *arg, uint64_t n)
{
    uint64_t i, sum = 0;
    uint32_t word;

    for (i = 0; i < n; i++) {
        sum += address_space_ldl_le(arg, PAGE + (i & 255) * 4, attrs, &word);
        sum += word;
    }
    bench_check(sum == 0);
    return n + sum;
}

static uint64_t load_window(void *arg, uint64_t n)
{
    uint64_t i, sum = 0;
    uint32_t word;

    for (i = 0; i < n; i++) {
        sum += address_space_ldl_le_cached(arg, (i & 255) * 4, attrs, &word);
        sum += word;
    }
    bench_check(sum == 0);
    return n + sum;
}

static uint64_t store_space(void *arg, uint64_t n)
{
    uint64_t i, failed = 0;

    for (i = 0; i < n; i++) {
        failed |= address_space_stl_le(arg, PAGE + (i & 255) * 4, attrs, 0);
    }
    bench_check(!failed);
    return n;
}

static uint64_t store_window(void *arg, uint64_t n)
{
    uint64_t i, failed = 0;

    for (i = 0; i < n; i++) {
        failed |= address_space_stl_le_cached(arg, (i & 255) * 4, attrs, 0);
    }
    bench_check(!failed);
    return n;
}

/* ---- population ---- */

static int count_piece(const MemoryRegionSection *section, void *arg)
{
    (void)arg;
    bench_check(section->last - section->offset_within_address_space == BLOCK - 1);
    rig.pieces++;
    return 0;
}

/* An operation is a piece: n is a multiple of those there are. */
static uint64_t replay(void *arg, uint64_t n)
{
    const MemoryRegionSection all = {.mr = arg, .last = GIB - 1};
    uint64_t before = rig.pieces;

    while (rig.pieces - before < n) {
        bench_check(memory_region_replay_populated(&all, count_piece, NULL) == 0);
    }
    bench_check(rig.pieces - before == n);
    return n;
}

int main(int argc, char **argv)
{
    uint64_t at;

    bench_init(argc, argv, "dma");
    bench_pin(0);
    bench_check(memory_region_init(&rig.root, "root", UINT64_MAX) == 0 &&
                memory_region_init_ram(&rig.ram, "ram", GIB) == 0 &&
                memory_region_init_io(&rig.registers, &registers_ops, "registers", PAGE) == 0 &&
                memory_region_init_iommu(&rig.iommu, &iommu_ops, "iommu", UINT64_MAX) == 0 &&
                memory_region_init_ram(&rig.sparse, "sparse", GIB) == 0 &&
                memory_region_add_subregion(&rig.root, 0, &rig.ram) == 0 &&
                memory_region_add_subregion(&rig.root, REGISTERS, &rig.registers) == 0 &&
                address_space_init(&rig.as, &rig.root, "memory") == 0 &&
                address_space_init(&rig.dma, &rig.iommu, "dma") == 0);
    bench_check(address_space_cache_init(&rig.plain, &rig.as, PAGE, PAGE) == 0 &&
                address_space_cache_init(&rig.behind, &rig.dma, PAGE, PAGE) == 0);
    bench_check(memory_region_add_ram_discard_source(&rig.sparse, &rig.source, BLOCK, false) == 0);
    for (at = 0; at < GIB; at += 2 * BLOCK) {
        bench_check(ram_discard_source_populate(&rig.source, at, BLOCK) == 0);
    }
    BenchCase cases[] = {
        {"map: a page to read", "\"iommu\":0", map_read, NULL, &rig.as, 1000, 200, 0, {0}},
        {"map: a page to write", "\"iommu\":0", map_write, NULL, &rig.as, 1000, 200, 0, {0}},
        {"map: a page to read", "\"iommu\":1", map_read, NULL, &rig.dma, 1000, 200, 0, {0}},
        {"map: 16 pages in one call", "\"iommu\":0", map_list, NULL, &rig.as, 200, 50, 0, {0}},
        {"map: 64 bytes of registers, bounced", "\"iommu\":0", map_bounced, NULL, &rig.as, 1000, 200, 0, {0}},
        {"load: host", "\"iommu\":0", load_host, NULL, memory_region_get_ram_ptr(&rig.ram), 20000, 2000, 0, {0}},
        {"load: plain", "\"iommu\":0", load_space, NULL, &rig.as, 20000, 2000, 0, {0}},
        {"load: cached window", "\"iommu\":0", load_window, NULL, &rig.plain, 20000, 2000, 0, {0}},
        {"store: plain", "\"iommu\":0", store_space, NULL, &rig.as, 20000, 2000, 0, {0}},
        {"store: cached window", "\"iommu\":0", store_window, NULL, &rig.plain, 20000, 2000, 0, {0}},
        {"load: plain", "\"iommu\":1", load_space, NULL, &rig.dma, 20000, 2000, 0, {0}},
        {"load: cached window", "\"iommu\":1", load_window, NULL, &rig.behind, 20000, 2000, 0, {0}},
        {"store: plain", "\"iommu\":1", store_space, NULL, &rig.dma, 20000, 2000, 0, {0}},
        {"store: cached window", "\"iommu\":1", store_window, NULL, &rig.behind, 20000, 2000, 0, {0}},
        {"replay: populated", "\"pieces\":256", replay, NULL, &rig.sparse, 1024, 512, 0, {0}},
    };
    bench_cases(cases, sizeof(cases) / sizeof(cases[0]), bench_options.quick ? 1 : 5, bench_options.quick ? 2 : 5);
    return 0;
}
