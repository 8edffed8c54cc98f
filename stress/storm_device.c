/* SPDX-License-Identifier: MIT */
/*
 * storm_device.c - what answers: registers and memory whose every byte says whose it is.
 *
 * Invariant: the contents of a backing never change, but for scratch words of memory (storm.h). So the answer to a
 * read depends on nothing but the view that served it, and a wrong one can be decoded to the region and offset that it
 * is of. Established by: the callbacks here and backing_stamp(). Relied on by: storm_expect.c, storm_slots.c.
 *
 * Callbacks run on any accessing thread, inside its read section, many at once. What they keep is the thread's (its
 * journal) or atomic.
 */
#include "storm.h"

#include <sched.h>
#include <stdlib.h>

/* The finalizer of MurmurHash3: a bijection in which every bit depends on every other. */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= UINT64_C(0xff51afd7ed558ccd);
    x ^= x >> 33;
    x *= UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ x >> 33;
}

static uint64_t unmix(uint64_t x)
{
    x ^= x >> 33;
    x *= UINT64_C(0x9cb4b2f8129337db); /* the inverses modulo 2^64 */
    x ^= x >> 33;
    x *= UINT64_C(0x4f74430c22a54005);
    return x ^ x >> 33;
}

uint64_t backing_word(uint32_t id, uint64_t offset)
{
    return mix((uint64_t)id << 32 | (uint32_t)(offset >> 3));
}

void backing_unword(uint64_t word, uint32_t *ret_id, uint64_t *ret_offset)
{
    word = unmix(word);
    *ret_id = (uint32_t)(word >> 32);
    *ret_offset = (word & UINT32_MAX) << 3;
}

uint8_t backing_byte(uint32_t id, uint64_t offset)
{
    return (uint8_t)(backing_word(id, offset) >> 8 * (offset & 7));
}

Backing *backing_of(MemoryRegion *mr)
{
    return container_of(mr, MachineRegion, mr)->user;
}

uint32_t backing_new_id(void)
{
    static uint32_t last;

    return __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
}

static int compare_pages(const void *key, const void *element)
{
    uint64_t a = *(const uint64_t *)key, b = *(const uint64_t *)element;

    return a < b ? -1 : a > b;
}

bool backing_has_page(const Backing *b, uint64_t offset)
{
    uint64_t page = offset & ~(uint64_t)(STORM_PAGE - 1);

    return b->all_pages || (b->pages && bsearch(&page, b->pages, b->n_pages, sizeof(page), compare_pages));
}

void backing_stamp(Backing *b, uint64_t first, uint64_t last)
{
    uint64_t offset;

    for (offset = first; last - offset >= 7 && offset <= last; offset += 8) {
        *(uint64_t *)(void *)(b->host + offset) = is_scratch(offset) ? 0 : backing_word(b->id, offset);
    }
    for (; offset <= last; offset++) {
        b->host[offset] = is_scratch(offset) ? 0 : backing_byte(b->id, offset);
    }
}

/* ---- callbacks ---- */

/* What a device does to those who think that a callback is short and simple. */
static void be_difficult(StormThread *t)
{
    if (storm_chance(t, 128)) {
        sched_yield();
    }
    if (t->depth == 1 && storm_chance(t, 64)) {
        storm_peek(t, storm.spaces[0], storm_below(t, 160) * STORM_PAGE + storm_below(t, 500) * 8, 8); /* DMA */
    }
}

static Backing *enter(MemoryRegion *mr, hwaddr addr, uint64_t *ret_offset, uint64_t *ret_bias)
{
    Backing *b = backing_of(mr);
    uint64_t canary = __atomic_load_n(&b->canary, __ATOMIC_RELAXED);

    if (canary != BACKING_ALIVE) {
        storm_violation("a callback of a device that was released: canary %llx, address %llx",
                        (unsigned long long)canary, (unsigned long long)addr);
    }
    *ret_offset = addr;
    *ret_bias = 0;
    if (b->comes_and_goes) {
        __atomic_fetch_add(&b->inside, 1, __ATOMIC_RELAXED);
        *ret_offset = addr & BIAS_OFFSET_MASK;
        *ret_bias = addr >> BIAS_SHIFT;
        if (*ret_bias > __atomic_load_n(&b->bias, __ATOMIC_RELAXED)) {
            storm_violation("device %u is called with bias %llu, which it was never given", b->id,
                            (unsigned long long)*ret_bias);
        }
        be_difficult(storm_self);
    }
    return b;
}

static void leave(Backing *b)
{
    if (b->comes_and_goes) {
        if (__atomic_load_n(&b->canary, __ATOMIC_RELAXED) != BACKING_ALIVE) {
            storm_violation("device %u was released while its callback ran", b->id);
        }
        /* Release: the release function, which reads it, comes after everything in the callback. */
        __atomic_fetch_sub(&b->inside, 1, __ATOMIC_RELEASE);
    }
}

static uint64_t contents(const Backing *b, uint64_t offset, unsigned size, bool big_endian)
{
    uint64_t value = 0;

    if ((offset & 7) + size <= 8 && !big_endian) {
        return backing_word(b->id, offset) >> 8 * (offset & 7) & UINT64_MAX >> (64 - 8 * size);
    }
    for (unsigned i = 0; i < size; i++) {
        value |= (uint64_t)backing_byte(b->id, offset + i) << 8 * (big_endian ? size - 1 - i : i);
    }
    return value;
}

static uint64_t read_any(MemoryRegion *mr, hwaddr addr, unsigned size, bool big_endian)
{
    uint64_t offset, bias, value;
    Backing *b = enter(mr, addr, &offset, &bias);

    value = contents(b, offset, size, big_endian);
    leave(b);
    return value;
}

static void write_any(MemoryRegion *mr, hwaddr addr, uint64_t value, unsigned size)
{
    uint64_t offset, bias;
    Backing *b = enter(mr, addr, &offset, &bias);
    Journal *j = storm_self->journal;

    if (j && j->n < sizeof(j->at) / sizeof(j->at[0])) {
        j->at[j->n].backing = b;
        j->at[j->n].id = b->id;
        j->at[j->n].size = size;
        j->at[j->n].offset = offset;
        j->at[j->n].value = value;
        j->at[j->n].bias = bias;
        j->n++;
    }
    if (b->written) {
        b->written(b);
    }
    leave(b);
}

static uint64_t read_le(MemoryRegion *mr, hwaddr addr, unsigned size)
{
    return read_any(mr, addr, size, false);
}

static uint64_t read_be(MemoryRegion *mr, hwaddr addr, unsigned size)
{
    return read_any(mr, addr, size, true);
}

bool model_faults(const MemoryRegionOps *ops, uint64_t offset)
{
    return ops == model_ops(MODEL_FAULTY) && (offset >> 4 & 1);
}

static MemTxResult read_faulty(MemoryRegion *mr, hwaddr addr, uint64_t *data, unsigned size, MemTxAttrs attrs)
{
    (void)attrs;
    if (model_faults(model_ops(MODEL_FAULTY), addr)) {
        *data = UINT64_MAX; /* a failed access's data must go nowhere */
        return MEMTX_ERROR;
    }
    *data = read_any(mr, addr, size, false);
    return MEMTX_OK;
}

static MemTxResult write_faulty(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size, MemTxAttrs attrs)
{
    (void)attrs;
    if (model_faults(model_ops(MODEL_FAULTY), addr)) {
        return MEMTX_ERROR;
    }
    write_any(mr, addr, data, size);
    return MEMTX_OK;
}

static const MemoryRegionOps models[MODELS] = {
    [MODEL_PLAIN] = {
        .read = read_le, .write = write_any, .endianness = MEMORY_LITTLE_ENDIAN,
        .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
        .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    },
    [MODEL_NARROW_BE] = {
        .read = read_be, .write = write_any, .endianness = MEMORY_BIG_ENDIAN,
        .valid = { .min_access_size = 1, .max_access_size = 4 },
        .impl = { .min_access_size = 1, .max_access_size = 4 },
    },
    [MODEL_WORDS] = {
        .read = read_le, .write = write_any, .endianness = MEMORY_LITTLE_ENDIAN,
        .valid = { .min_access_size = 1, .max_access_size = 8 },
        .impl = { .min_access_size = 4, .max_access_size = 4, .narrow_write = MEMORY_NARROW_WRITE_MERGE },
    },
    [MODEL_READ_ONLY] = {
        .read = read_le, .endianness = MEMORY_LITTLE_ENDIAN,
        .valid = { .min_access_size = 1, .max_access_size = 8 },
        .impl = { .min_access_size = 1, .max_access_size = 8 },
    },
    [MODEL_WRITE_ONLY] = {
        .write = write_any, .endianness = MEMORY_LITTLE_ENDIAN,
        .valid = { .min_access_size = 2, .max_access_size = 4 },
        .impl = { .min_access_size = 2, .max_access_size = 4 },
    },
    [MODEL_FAULTY] = {
        .read_with_attrs = read_faulty, .write_with_attrs = write_faulty, .endianness = MEMORY_LITTLE_ENDIAN,
        .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
        .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    },
};

const MemoryRegionOps *model_ops(unsigned model)
{
    return model == MODEL_SILENT ? NULL : &models[model];
}
