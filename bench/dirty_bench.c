/* SPDX-License-Identifier: MIT */
/*
 * dirty_bench.c - the dirty log: what marking, collecting and merging cost, and what they do not depend on.
 *
 *   store     address_space_stl_le() to RAM that is not logged, to a logged page that is dirty already, and to one that is clean
 *   mark      memory_region_set_dirty() of a page that is dirty already
 *   collect   memory_region_snapshot_and_clear_dirty() of a clean GiB, beside reading as many words and beside memset()
 *   merge     a foreign bitmap of a GiB, all dirty already, aligned and misaligned to ours: within a factor of 2
 *   toggle    memory_region_set_log() on and off, beside so many other regions, with a listener of the log
 */
#include "bench.h"

#include <string.h>

#include <flatview/memory.h>

enum { PAGE = 4096, WORDS = 4096 /* of a GiB */ };
#define GIB (UINT64_C(1) << 30)

static struct {
    MemoryRegion root, ram, plain;
    AddressSpace as;
    uint64_t bitmap[WORDS + 1];
    uint64_t heard;
} rig;

static const MemTxAttrs attrs;

static void collect(uint64_t expected)
{
    DirtyBitmapSnapshot *s;
    uint64_t bytes = 0, size;
    hwaddr addr = 0;

    bench_check(memory_region_snapshot_and_clear_dirty(&rig.ram, 0, GIB, DIRTY_MEMORY_MIGRATION, &s) == 0);
    for (; memory_region_snapshot_next_dirty(s, addr, &addr, &size); addr += size) {
        bytes += size;
    }
    bench_check(bytes == expected);
    memory_region_snapshot_free(s);
}

static uint64_t store_plain(void *arg, uint64_t n)
{
    uint64_t i, failed = 0;

    (void)arg;
    for (i = 0; i < n; i++) {
        failed |= address_space_stl_le(&rig.as, GIB + (i & 1023) * 4, attrs, (uint32_t)i);
    }
    bench_check(!failed);
    return n;
}

static uint64_t store_dirty(void *arg, uint64_t n)
{
    uint64_t i, failed = 0;

    (void)arg;
    for (i = 0; i < n; i++) {
        failed |= address_space_stl_le(&rig.as, (i & 1023) * 4, attrs, (uint32_t)i);
    }
    bench_check(!failed);
    return n;
}

static uint64_t mark_dirty(void *arg, uint64_t n)
{
    uint64_t i, failed = 0;

    (void)arg;
    for (i = 0; i < n; i++) {
        failed |= (uint64_t)memory_region_set_dirty(&rig.ram, (i & 1023) * 4, 4);
    }
    bench_check(!failed && memory_region_get_dirty(&rig.ram, 0, PAGE, DIRTY_MEMORY_MIGRATION));
    return n;
}

static void clean(void *arg, uint64_t n)
{
    (void)arg;
    (void)n;
    collect(PAGE);
}

static uint64_t collect_clean(void *arg, uint64_t n)
{
    uint64_t i;

    (void)arg;
    for (i = 0; i < n; i++) {
        collect(0);
    }
    return n;
}

static uint64_t read_words(void *arg, uint64_t n)
{
    uint64_t i, k, sum = 0;

    (void)arg;
    for (i = 0; i < n; i++) {
        for (k = 0; k < WORDS; k++) {
            sum += __atomic_load_n(&rig.bitmap[k], __ATOMIC_RELAXED) == 0;
        }
    }
    bench_check(sum == 0);
    return n + sum;
}

static uint64_t clear_words(void *arg, uint64_t n)
{
    static uint64_t copy[WORDS];
    uint64_t i;

    (void)arg;
    for (i = 0; i < n; i++) {
        memset(copy, (int)i, sizeof(copy));
        __asm__ volatile("" : : "r"(copy) : "memory");
    }
    return n;
}

static uint64_t merge(void *arg, uint64_t n)
{
    uint64_t i, first = *(const uint64_t *)arg;

    for (i = 0; i < n; i++) {
        bench_check(memory_region_merge_dirty(&rig.ram, 0, ~0u, PAGE, rig.bitmap, first, GIB / PAGE) == 0);
    }
    return n;
}

static void merged(void *arg, uint64_t n)
{
    (void)arg;
    (void)n;
    collect(GIB);
    memory_region_set_dirty(&rig.ram, 0, GIB);
}

static uint64_t toggle(void *arg, uint64_t n)
{
    uint64_t i, before = rig.heard;

    for (i = 0; i < n; i++) {
        bench_check(memory_region_set_log(arg, i % 2 == 0, DIRTY_MEMORY_VGA) == 0);
    }
    bench_check(rig.heard - before == n);
    return n;
}

static void hear(MemoryListener *listener, const MemoryRegionSection *section, unsigned old_mask, unsigned new_mask)
{
    (void)listener;
    (void)section;
    rig.heard += old_mask != new_mask;
}

static MemoryListener listener = {.name = "bench", .log_start = hear, .log_stop = hear};

static MemoryRegion *grow(size_t from, size_t to)
{
    static MemoryRegion others[4096];
    size_t i;

    bench_check(memory_transaction_begin() == 0);
    for (i = from; i < to; i++) {
        bench_check(memory_region_init_ram(&others[i], "other", PAGE) == 0);
        bench_check(memory_region_add_subregion(&rig.root, 4 * GIB + i * 4 * PAGE, &others[i]) == 0);
    }
    bench_check(memory_transaction_commit() == 0);
    return &others[to / 2];
}

static void run(const char *subject, const char *params, uint64_t (*fn)(void *arg, uint64_t n),
                void (*after)(void *arg, uint64_t n), void *arg, uint64_t batch)
{
    BenchCase one = {.subject = subject, .params = params, .run = fn, .after = after, .arg = arg, .batch = batch, .count = batch};

    bench_cases(&one, 1, 2, bench_options.quick ? 3 : 10);
}

int main(int argc, char **argv)
{
    static uint64_t aligned = 0, misaligned = 37;
    MemoryRegion *some;

    bench_init(argc, argv, "dirty");
    memset(rig.bitmap, 0xff, sizeof(rig.bitmap));
    bench_check(memory_region_init(&rig.root, "root", UINT64_MAX) == 0 &&
                memory_region_init_ram(&rig.ram, "ram", GIB) == 0 &&
                memory_region_init_ram(&rig.plain, "plain", PAGE) == 0 &&
                memory_region_add_subregion(&rig.root, 0, &rig.ram) == 0 &&
                memory_region_add_subregion(&rig.root, GIB, &rig.plain) == 0 &&
                address_space_init(&rig.as, &rig.root, "as") == 0);
    bench_check(memory_region_set_log(&rig.ram, true, DIRTY_MEMORY_MIGRATION) == 0 && memory_dirty_log_wait() == 0);
    collect(GIB);

    run("store, not logged", "\"page\": \"none\"", store_plain, NULL, NULL, 4096);
    run("store, logged", "\"page\": \"dirty\"", store_dirty, clean, NULL, 4096);
    run("mark", "\"page\": \"dirty\"", mark_dirty, clean, NULL, 4096);
    run("collect", "\"log\": \"a clean GiB\"", collect_clean, NULL, NULL, 64);
    run("read words", "\"log\": \"a clean GiB\"", read_words, NULL, NULL, 64);
    run("memset words", "\"log\": \"a clean GiB\"", clear_words, NULL, NULL, 64);
    memory_region_set_dirty(&rig.ram, 0, GIB);
    run("merge", "\"bits\": \"aligned\"", merge, merged, &aligned, 64);
    run("merge", "\"bits\": \"misaligned\"", merge, merged, &misaligned, 64);

    bench_check(memory_listener_register(&listener, &rig.as) == 0);
    some = grow(0, 16);
    run("toggle", "\"n\": 16", toggle, NULL, some, 64);
    some = grow(16, 4096);
    run("toggle", "\"n\": 4096", toggle, NULL, some, 64);
    return 0;
}
