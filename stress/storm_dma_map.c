/* SPDX-License-Identifier: MIT */
/*
 * storm_dma_map.c - mappings, held over hot-unplug, and bounce memory that is fought for.
 *
 * Invariant: what a mapping of RAM shows is the modules that its addresses led to at some time of the call, and it goes on showing
 * them until it ends, wherever they are by then. A bounced mapping holds what the device said, and the device gets what was put
 * into it; at rest the space has lent exactly what is held. Who is refused for lack of bounce memory is told when there is some.
 *
 * Mappings are held from turn to turn: those of a vCPU are its own, and at rest the judge's.
 */
#include "storm_dma.h"

#include <errno.h>
#include <string.h>

#define D storm_dma_state
#define HELD 6u
#define LONG_HELD 2u /* the first of them */

typedef struct Held {
    MemoryMapping mapping;
    Module *modules[8]; /* that it is known to hold */
    unsigned n_modules;
    bool live, is_regs;
    MemoryMapDirection direction;
    hwaddr addr; /* of the registers */
} Held;

static struct {
    Held held[HELD];
    MemoryMapClient client;
    uint32_t waits; /* atomic: the client is registered */
} v[PLANE_VCPUS];

/* ---- the device ----------------------------------------------------------------------------------------------- */

static uint64_t on_read(MemoryRegion *mr, hwaddr addr, unsigned size)
{
    (void)mr, (void)size;
    return dma_reg(addr);
}

static void on_write(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size)
{
    (void)mr, (void)size;
    if (data != dma_reg(addr)) {
        storm_violation("%s: a copy is written back wrongly at %llx: %llx", storm_dma.name, (unsigned long long)addr,
                        (unsigned long long)data);
    }
}

const MemoryRegionOps dma_regs_ops = { .read = on_read,
                                       .write = on_write,
                                       .endianness = MEMORY_LITTLE_ENDIAN,
                                       .valid = { .min_access_size = 1, .max_access_size = 8 },
                                       .impl = { .min_access_size = 1, .max_access_size = 1 } };

/* ---- mappings ------------------------------------------------------------------------------------------------- */

/* Which module a word of memory that cannot go away belongs to. */
static Module *module_of(uint64_t word)
{
    Module *m = &D.modules[(word >> 16) % MODULES];

    return m->id == word >> 16 ? m : NULL;
}

static void hold_module(Held *h, uint64_t word)
{
    Module *m = module_of(word);

    for (unsigned i = 0; i < h->n_modules; i++) {
        if (h->modules[i] == m) {
            return;
        }
    }
    if (m && h->n_modules < sizeof(h->modules) / sizeof(h->modules[0])) {
        __atomic_fetch_add(&m->holders, 1, __ATOMIC_RELAXED);
        h->modules[h->n_modules++] = m;
    }
}

/* All words of a mapping, in the order of its ranges. */
static void judge_new(Held *h, const MemoryMapRange *ranges, const uint64_t *since)
{
    unsigned piece = 0, range = 0;
    size_t at = 0;

    for (hwaddr done = 0, in_range = 0; done < h->mapping.len; done += 8, in_range += 8, at += 8) {
        uint64_t addr, offset, word;

        if (at == h->mapping.iov[piece].iov_len) {
            piece++;
            at = 0;
        }
        if (in_range == ranges[range].len) {
            range++;
            in_range = 0;
        }
        addr = ranges[range].addr + in_range;
        offset = addr % MODULE_SIZE;
        if (is_stamped(offset)) {
            memcpy(&word, (char *)h->mapping.iov[piece].iov_base + at, sizeof(word));
            if (!dma_judge_word((unsigned)(addr / MODULE_SIZE), since[addr / MODULE_SIZE], offset, word, "a mapping")) {
                return;
            }
            hold_module(h, word);
        }
    }
}

/* Later: it still shows one module after the other, none of them spoilt. And writes, as DMA does. */
static void judge_old(const Held *h, unsigned index, bool may_write)
{
    for (unsigned i = 0; i < h->mapping.n_iov; i++) {
        char *base = h->mapping.iov[i].iov_base;

        for (size_t at = 0; at < h->mapping.iov[i].iov_len; at += 8) {
            uint64_t word, offset;

            memcpy(&word, base + at, sizeof(word));
            offset = word & 0xffff;
            if (offset == SCRATCH_AT - 8 && may_write &&
                at + 16 + 8 * index < h->mapping.iov[i].iov_len) {
                __atomic_store_n((uint64_t *)(void *)(base + at + 8 + 8 * index), word, __ATOMIC_RELAXED);
            }
            if (offset == SCRATCH_AT - 8) {
                at += SCRATCH_END - SCRATCH_AT;
            }
            if (!module_of(word) || !is_stamped(offset)) {
                storm_violation("%s: a mapping that is held shows %llx, which is no module", storm_dma.name,
                                (unsigned long long)word);
                return;
            }
        }
    }
}

static void end(Held *h, unsigned index)
{
    MemTxResult result = MEMTX_OK;

    if (!h->is_regs) {
        judge_old(h, index, h->direction != MEMORY_MAP_READ);
    }
    for (unsigned i = 0; i < h->n_modules; i++) {
        plane_did(&dma_did[DMA_OUTLIVED], __atomic_load_n(&h->modules[i]->going, __ATOMIC_RELAXED));
        __atomic_fetch_sub(&h->modules[i]->holders, 1, __ATOMIC_RELAXED);
    }
    plane_ok(&storm_dma, "the end of a mapping", address_space_unmap_sg(&h->mapping, h->mapping.len, &result));
    if (result != MEMTX_OK) {
        storm_violation("%s: a write back fails: %d", storm_dma.name, (int)result);
    }
    h->live = false;
    h->n_modules = 0;
}

static void map_modules(StormThread *t, Held *h)
{
    MemoryMapRange ranges[3];
    uint64_t since[SLOTS];
    size_t n = 1 + storm_below(t, 3);
    int error;

    for (size_t i = 0; i < n; i++) {
        ranges[i].addr = storm_below(t, (SLOTS - 1) * MODULE_SIZE) & ~(STORM_PAGE - 1ull);
        ranges[i].len = STORM_PAGE * (1 + storm_below(t, 3));
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        since[i] = fact_now(&D.slots[i]);
    }
    h->is_regs = false;
    h->direction = storm_chance(t, 2) ? MEMORY_MAP_READ : MEMORY_MAP_READ_WRITE;
    error = address_space_map_sg(&D.space, ranges, n, h->direction, MEMTXATTRS_UNSPECIFIED, &h->mapping);
    if (error == -EFAULT) { /* that a slot was empty is for the windows to judge */
        plane_did(&dma_did[DMA_HOLES], 1);
    } else if (plane_ok(&storm_dma, "a mapping", error)) {
        h->live = true;
        judge_new(h, ranges, since);
        plane_did(&dma_did[DMA_MAPPED], 1);
    }
}

static void on_room(MemoryMapClient *client)
{
    plane_did(&dma_did[DMA_TOLD], 1);
    for (unsigned i = 0; i < PLANE_VCPUS; i++) {
        if (&v[i].client == client) {
            __atomic_store_n(&v[i].waits, 0, __ATOMIC_RELEASE);
        }
    }
}

/* -ENOBUFS: to be told, unless there is room by now. */
static void wait_for_room(unsigned index, uint64_t bytes)
{
    int ret;

    plane_did(&dma_did[DMA_EXHAUSTED], 1);
    if (__atomic_exchange_n(&v[index].waits, 1, __ATOMIC_ACQUIRE)) {
        return;
    }
    v[index].client = (MemoryMapClient){ .notify = on_room, .bytes = bytes };
    ret = address_space_register_map_client(&D.space, &v[index].client);
    if (ret != 0) {
        plane_ok(&storm_dma, "a map client", ret == 1 ? 0 : ret);
        __atomic_store_n(&v[index].waits, 0, __ATOMIC_RELEASE);
    }
}

static void map_registers(StormThread *t, Held *h)
{
    MemoryMapRange range = { .len = 64 + storm_below(t, 256) };
    int error;

    h->addr = storm_below(t, REGS_SIZE - range.len);
    range.addr = REGS_AT + h->addr;
    h->is_regs = true;
    h->direction = (MemoryMapDirection)(1 + storm_below(t, 3));
    error = address_space_map_sg(&D.space, &range, 1, h->direction, MEMTXATTRS_UNSPECIFIED, &h->mapping);
    if (error == -ENOBUFS) {
        wait_for_room(t->index, range.len);
        return;
    }
    if (!plane_ok(&storm_dma, "a bounced mapping", error)) {
        return;
    }
    h->live = true;
    for (hwaddr i = 0; i < range.len; i++) {
        uint8_t *byte = (uint8_t *)h->mapping.iov[0].iov_base + i;

        if (h->direction & MEMORY_MAP_READ && *byte != dma_reg(h->addr + i)) {
            storm_violation("%s: a copy of registers is wrong at %llx", storm_dma.name, (unsigned long long)(h->addr + i));
        }
        *byte = dma_reg(h->addr + i);
    }
    plane_did(&dma_did[DMA_BOUNCED], 1);
}

void dma_map_turn(StormThread *t)
{
    for (unsigned i = 0; i < 8; i++) {
        Held *h = &v[t->index].held[storm_below(t, HELD)];

        if (h->live) {
            /* Some for as long as the views that this storm pins keep what was unplugged. */
            if (h->is_regs || h >= &v[t->index].held[LONG_HELD] || storm_chance(t, 200)) {
                end(h, t->index);
            }
        } else if (storm_chance(t, 3)) {
            map_registers(t, h);
        } else {
            map_modules(t, h);
        }
    }
}

void dma_map_judge(void)
{
    uint64_t lent = 0;

    for (unsigned i = 0; i < PLANE_VCPUS * HELD; i++) {
        const Held *h = &v[i / HELD].held[i % HELD];

        if (h->live && !h->is_regs) {
            judge_old(h, 0, false);
        }
        lent += h->live && h->is_regs ? h->mapping.len : 0;
    }
    if (address_space_get_bounce_used(&D.space) != lent) {
        storm_violation("%s: %llu bytes of bounce memory are lent, and %llu are held", storm_dma.name,
                        (unsigned long long)address_space_get_bounce_used(&D.space), (unsigned long long)lent);
    }
}

void dma_map_finish(void)
{
    for (unsigned i = 0; i < PLANE_VCPUS * HELD; i++) {
        if (v[i / HELD].held[i % HELD].live) {
            end(&v[i / HELD].held[i % HELD], i / HELD);
        }
    }
    for (unsigned i = 0; i < PLANE_VCPUS; i++) {
        if (v[i].waits) { /* all has come back, so it should have been told */
            storm_violation("%s: who waits for bounce memory was not told", storm_dma.name);
            plane_ok(&storm_dma, "a map client", address_space_unregister_map_client(&D.space, &v[i].client));
        }
    }
}
