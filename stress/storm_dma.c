/* SPDX-License-Identifier: MIT */
/*
 * storm_dma.c - memory modules that are plugged, moved, unplugged and destroyed while others map them.
 *
 * Invariant: a module's memory is valid and says whose it is from before it is plugged until on_release(), and that does not run
 * while a mapping holds it (R4). Established by the library; relied on by whoever maps. A fact for each slot says which module can
 * be found there. on_release() spoils the memory and frees it: who touches it afterwards is caught by what he reads, by
 * AddressSanitizer, or, if nothing orders the two, by ThreadSanitizer.
 *
 * What is never released storm_calm() finds: there are more regions than before the storm.
 */
#include "storm_dma.h"

#include <stdlib.h>
#include <string.h>

#define D storm_dma_state

StormDma storm_dma_state;
uint64_t dma_did[DMA_KINDS];

static const char *const kinds[] = { "plugged", "unplugged", "moved", "aborts", "released", "mapped", "holes",
                                     "held over an unplug", "bounced", "bounce memory exhausted", "told to retry",
                                     "window loads", "window holes", "window pointers", NULL };

static struct {
    MemoryRegion root, regs;
    Module *slots[SLOTS]; /* the writer's */
} w;

static bool ok(const char *what, int error)
{
    return plane_ok(&storm_dma, what, error);
}

bool dma_judge_word(unsigned slot, uint64_t since, uint64_t offset, uint64_t word, const char *what)
{
    bool right = (word & 0xffff) == offset && word >> 16 && fact_allows(&D.slots[slot], since, word >> 16, UINT64_MAX);

    if (!right) {
        storm_violation("%s: %s: slot %u, offset %llx: %llx; module %llx is there", storm_dma.name, what, slot,
                        (unsigned long long)offset, (unsigned long long)word,
                        (unsigned long long)fact_value(&D.slots[slot]));
    }
    return right;
}

/* ---- modules -------------------------------------------------------------------------------------------------- */

static void on_release(MemoryRegion *mr)
{
    Module *m = container_of(mr, Module, mr);

    if (__atomic_load_n(&m->holders, __ATOMIC_RELAXED)) {
        storm_violation("%s: module %llx is released while it is mapped", storm_dma.name, (unsigned long long)m->id);
    }
    memset(m->words, 0xee, MODULE_SIZE);
    free(m->words);
    plane_did(&dma_did[DMA_RELEASED], 1);
    __atomic_store_n(&m->free, true, __ATOMIC_RELEASE);
}

/* NULL: all wait for their readers. */
static Module *make_module(void)
{
    unsigned i = 0;
    Module *m;

    while (i < MODULES && !__atomic_load_n(&D.modules[i].free, __ATOMIC_ACQUIRE)) {
        i++;
    }
    if (i == MODULES) {
        return NULL;
    }
    m = &D.modules[i];
    m->words = malloc(MODULE_SIZE);
    if (!m->words) {
        return NULL;
    }
    m->free = false;
    m->id += MODULES;
    __atomic_store_n(&m->going, 0, __ATOMIC_RELAXED);
    for (uint64_t offset = 0; offset < MODULE_SIZE; offset += 8) {
        m->words[offset / 8] = module_word(m->id, offset);
    }
    ok("a module", memory_region_init_ram_ptr(&m->mr, "module", MODULE_SIZE, m->words));
    ok("a module", memory_region_set_release(&m->mr, on_release));
    return m;
}

static void plug(unsigned slot)
{
    Module *m = make_module();

    if (!m) {
        return;
    }
    fact_begin(&D.slots[slot], m->id);
    w.slots[slot] = m;
    fact_end(&D.slots[slot], ok("plug", memory_region_add_subregion(&w.root, slot * MODULE_SIZE, &m->mr)));
    plane_did(&dma_did[DMA_PLUGS], 1);
}

static void unplug(unsigned slot, bool keep)
{
    Module *m = w.slots[slot];

    if (keep) {
        fact_begin(&D.slots[slot], 0);
    }
    ok("begin", memory_transaction_begin());
    ok("unplug", memory_region_del_subregion(&w.root, &m->mr));
    ok("destroy", memory_region_destroy(&m->mr));
    if (!keep) {
        memory_transaction_abort();
        plane_did(&dma_did[DMA_ABORTS], 1);
        return;
    }
    __atomic_store_n(&m->going, 1, __ATOMIC_RELAXED);
    w.slots[slot] = NULL;
    ok("commit", memory_transaction_commit());
    fact_end(&D.slots[slot], true);
    plane_did(&dma_did[DMA_UNPLUGS], 1);
}

static void move(unsigned from, unsigned to)
{
    Module *m = w.slots[from];

    fact_begin(&D.slots[from], 0);
    fact_begin(&D.slots[to], m->id);
    ok("move", memory_region_set_address(&m->mr, to * MODULE_SIZE));
    fact_end(&D.slots[from], true);
    fact_end(&D.slots[to], true);
    w.slots[from] = NULL;
    w.slots[to] = m;
    plane_did(&dma_did[DMA_MOVES], 1);
}

static void writer_turn(StormThread *t)
{
    for (unsigned i = 0; i < 3; i++) {
        unsigned slot = (unsigned)storm_below(t, SLOTS), other = (unsigned)storm_below(t, SLOTS);

        if (!w.slots[slot]) {
            plug(slot);
        } else if (!w.slots[other] && storm_chance(t, 2)) {
            move(slot, other);
        } else if (storm_chance(t, 2)) {
            unplug(slot, !storm_chance(t, 4));
        }
    }
}

static bool start(void)
{
    bool well = ok("root", memory_region_init(&w.root, "dma", 16 * MODULE_SIZE)) &&
                ok("registers", memory_region_init_io(&w.regs, &dma_regs_ops, "dma-regs", REGS_SIZE)) &&
                ok("add", memory_region_add_subregion(&w.root, REGS_AT, &w.regs)) &&
                ok("space", address_space_init(&D.space, &w.root, "dma")) &&
                ok("limit", address_space_set_bounce_limit(&D.space, BOUNCE_LIMIT));

    for (unsigned i = 0; i < MODULES; i++) {
        D.modules[i].id = i;
        D.modules[i].free = true;
    }
    for (unsigned i = 0; i < SLOTS && well; i++) {
        fact_init(&D.slots[i], 0);
        plug(i);
    }
    return well && windows_start();
}

static void vcpu_turn(StormThread *t)
{
    dma_map_turn(t);
    windows_turn(t);
}

static void judge(void)
{
    dma_map_judge();
}

static void finish(void)
{
    dma_map_finish();
    for (unsigned i = 0; i < SLOTS; i++) {
        if (w.slots[i]) {
            unplug(i, true);
        }
    }
    ok("del", memory_region_del_subregion(&w.root, &w.regs));
    plane_end(&storm_dma, (AddressSpace *[]){ &D.space, NULL }, (MemoryRegion *[]){ &w.regs, &w.root, NULL });
}

const StormPlane storm_dma = {
    .name = "dma",
    .kinds = kinds,
    .sabotages = (const char *const[]){ "drop-hold", "stale-window", NULL },
    .did = dma_did,
    .start = start,
    .turn = { vcpu_turn, writer_turn, NULL },
    .judge = judge,
    .finish = finish,
};
