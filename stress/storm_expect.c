/* SPDX-License-Identifier: MIT */
/*
 * storm_expect.c - what a view says that an access must give: the model.
 *
 * Pure: from a pinned view, an access and what the callbacks noted, to yes or no. It is written from the rules of
 * address_space.h and MemoryRegionOps, byte by byte, and shares nothing with lib/access: only the look-up is the
 * library's, flatview_find() and memory_region_find(), which use neither the thread's cache nor the current view.
 */
#include "storm.h"

#include <stdio.h>
#include <string.h>

typedef enum ByteFate {
    BYTE_UNTOUCHED,
    BYTE_CONTENTS, /* read: the backing's byte at that offset. Written: passed to the callback for that offset */
    BYTE_SCRATCH,  /* read: anything. Written: in host memory */
    BYTE_ZERO,     /* read: of a page that carries no stamps */
} ByteFate;

typedef struct Expectation {
    MemTxResult result;
    uint8_t fate[ACCESS_MAX];
    const Backing *backing[ACCESS_MAX];
    uint64_t offset[ACCESS_MAX];
} Expectation;

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static void fill(Expectation *ex, unsigned at, unsigned n, ByteFate fate, const Backing *b, uint64_t offset)
{
    for (unsigned i = at; i < at + n; i++) {
        ex->fate[i] = fate;
        ex->backing[i] = b;
        ex->offset[i] = offset + (i - at);
    }
}

/* One bus access to a device. */
static void bus_access(Expectation *ex, const Access *a, const Backing *b, bool readonly, uint64_t offset, unsigned at,
                       unsigned size)
{
    const MemoryRegionOps *ops = b->ops;

    if (a->is_write && readonly) {
        ex->result |= MEMTX_ACCESS_ERROR;
    } else if (size < ops->valid.min_access_size || size > ops->valid.max_access_size ||
               (!ops->valid.unaligned && offset % size)) {
        ex->result |= MEMTX_DECODE_ERROR;
    } else if (a->is_write ? !ops->write && !ops->write_with_attrs : !ops->read && !ops->read_with_attrs) {
        ex->result |= MEMTX_ACCESS_ERROR;
    } else if (model_faults(ops, offset)) {
        ex->result |= MEMTX_ERROR;
    } else {
        fill(ex, at, size, BYTE_CONTENTS, b, offset);
    }
}

/* The pieces that a copy is cut into: see address_space.h. */
static unsigned bulk_piece(const MemoryRegionOps *ops, uint64_t offset, unsigned left)
{
    unsigned size = ops->valid.max_access_size;

    if (!ops->valid.unaligned || !ops->impl.unaligned) {
        size = least(size, 1u << __builtin_ctz((unsigned)offset | 8));
    }
    while (size > left) {
        size /= 2;
    }
    return size;
}

static void memory_part(Expectation *ex, const Access *a, const Backing *b, bool readonly, uint64_t offset, unsigned at,
                        unsigned n)
{
    if (a->is_write && readonly) {
        ex->result |= MEMTX_ACCESS_ERROR;
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        ByteFate fate = backing_has_page(b, offset + i) ? BYTE_CONTENTS : BYTE_ZERO;

        fill(ex, at + i, 1, is_scratch(offset + i) || b->is_private ? BYTE_SCRATCH : fate, b, offset + i);
    }
}

/* Bytes [at, at + n) of the access are the start of the section. whole: the access lies in one range of the view. */
static void section_part(Expectation *ex, const Access *a, const MemoryRegionSection *s, unsigned at, unsigned n,
                         bool whole)
{
    const Backing *b = backing_of(s->mr);
    uint64_t offset = s->offset_within_region;
    unsigned piece;

    if (__atomic_load_n(&b->canary, __ATOMIC_RELAXED) != BACKING_ALIVE) {
        storm_violation("a pinned view shows a region that was released");
        return;
    }
    if (b->kind == BACKING_MEMORY || (b->kind == BACKING_ROM_DEVICE && s->romd && !a->is_write)) {
        memory_part(ex, a, b, s->readonly, offset, at, n);
    } else if (!b->ops) {
        ex->result |= MEMTX_DECODE_ERROR;
    } else if (a->typed && whole) {
        bus_access(ex, a, b, s->readonly, offset, at, n);
    } else {
        for (; n; n -= piece, at += piece, offset += piece) {
            piece = bulk_piece(b->ops, offset, n);
            bus_access(ex, a, b, s->readonly, offset, at, piece);
        }
    }
}

static void expect(Expectation *ex, const FlatView *view, const Access *a)
{
    unsigned len = a->len, at, n;
    MemoryRegionSection s;
    hwaddr addr = a->addr;

    ex->result = MEMTX_OK;
    memset(ex->fate, BYTE_UNTOUCHED, sizeof(ex->fate));
    if (flatview_find(view, addr, &s) && s.last - addr >= len - 1) {
        s.offset_within_region += addr - s.offset_within_address_space;
        section_part(ex, a, &s, 0, len, true);
        return;
    }
    if (len - 1 > UINT64_MAX - addr) {
        len = (unsigned)(UINT64_MAX - addr) + 1;
        ex->result |= MEMTX_DECODE_ERROR;
    }
    for (at = 0; at < len; at += n) {
        if (!memory_region_find(view, addr + at, len - at, &s)) {
            ex->result |= MEMTX_DECODE_ERROR;
            return;
        }
        if (s.offset_within_address_space != addr + at) {
            ex->result |= MEMTX_DECODE_ERROR;
            at = (unsigned)(s.offset_within_address_space - addr);
        }
        n = (unsigned)(s.last - s.offset_within_address_space) + 1;
        section_part(ex, a, &s, at, n, false);
    }
}

/* ---- comparing ---- */

static void describe(const Expectation *ex, unsigned i, char *buf, size_t len)
{
    const char *names[] = { "nothing", "contents", "scratch", "zero" };

    if (ex->fate[i] == BYTE_UNTOUCHED) {
        snprintf(buf, len, "nothing");
    } else {
        snprintf(buf, len, "%s of backing %u + %llx", names[ex->fate[i]], ex->backing[i]->id,
                 (unsigned long long)ex->offset[i]);
    }
}

static bool read_matches(const Expectation *ex, const Access *a, char *why, size_t len)
{
    bool all_or_nothing = a->typed && ex->result != MEMTX_OK;
    char text[80];
    uint64_t word = 0, word_offset = UINT64_MAX;
    const Backing *word_of = NULL;

    for (unsigned i = 0; i < a->len; i++) {
        ByteFate fate = all_or_nothing ? BYTE_UNTOUCHED : ex->fate[i];
        const Backing *b = ex->backing[i];
        uint8_t expected = 0;

        switch (fate) {
        case BYTE_SCRATCH:
            continue;
        case BYTE_ZERO:
            break;
        case BYTE_UNTOUCHED:
            expected = a->by_guest ? 0xff : ACCESS_UNTOUCHED;
            break;
        case BYTE_CONTENTS:
            if (b != word_of || ex->offset[i] >> 3 != word_offset) {
                word_of = b;
                word_offset = ex->offset[i] >> 3;
                word = backing_word(b->id, ex->offset[i]);
            }
            expected = (uint8_t)(word >> 8 * (ex->offset[i] & 7));
        }
        if (a->data[i] != expected) {
            if (why) {
                describe(ex, i, text, sizeof(text));
                snprintf(why, len, "byte %u is %02x, expected %02x, %s", i, a->data[i], expected, text);
            }
            return false;
        }
    }
    return true;
}

static uint8_t journal_byte(const Journal *j, unsigned entry, unsigned k)
{
    bool big_endian = j->at[entry].backing->ops->endianness == MEMORY_BIG_ENDIAN;

    return (uint8_t)(j->at[entry].value >> 8 * (big_endian ? j->at[entry].size - 1 - k : k));
}

/* Was a callback of b given this byte for this offset? */
static bool journal_has(const Journal *j, const Backing *b, uint64_t offset, uint8_t value)
{
    for (unsigned i = 0; i < j->n; i++) {
        uint64_t k = offset - j->at[i].offset;

        if (j->at[i].backing == b && j->at[i].id == b->id && k < j->at[i].size &&
            journal_byte(j, i, (unsigned)k) == value) {
            return true;
        }
    }
    return false;
}

/* What the access did not write may be there only as the rest of a merged word, with the device's own value. */
static bool journal_is_clean(const Expectation *ex, const Access *a, const Journal *j)
{
    for (unsigned i = 0; i < j->n; i++) {
        const Backing *b = j->at[i].backing;

        for (unsigned k = 0; k < j->at[i].size; k++) {
            uint64_t offset = j->at[i].offset + k;
            uint8_t value = journal_byte(j, i, k);
            bool ok = b->ops->impl.narrow_write == MEMORY_NARROW_WRITE_MERGE && value == backing_byte(b->id, offset);

            for (unsigned n = 0; n < a->len && !ok; n++) {
                ok = ex->fate[n] == BYTE_CONTENTS && ex->backing[n] == b && ex->offset[n] == offset &&
                     value == a->data[n];
            }
            if (!ok) {
                return false;
            }
        }
    }
    return true;
}

static bool write_matches(const Expectation *ex, const Access *a, const Journal *j, char *why, size_t len)
{
    char text[80];

    for (unsigned i = 0; i < a->len; i++) {
        const Backing *b = ex->backing[i];
        bool ok = true;

        if (ex->fate[i] == BYTE_SCRATCH) {
            ok = b->host[ex->offset[i]] == a->data[i];
        } else if (ex->fate[i] != BYTE_UNTOUCHED) {
            ok = journal_has(j, b, ex->offset[i], a->data[i]);
        }
        if (!ok) {
            if (why) {
                describe(ex, i, text, sizeof(text));
                snprintf(why, len, "byte %u, %02x, did not arrive in %s", i, a->data[i], text);
            }
            return false;
        }
    }
    if (!journal_is_clean(ex, a, j)) {
        if (why) {
            snprintf(why, len, "a callback was told what was not written, the first of %u: backing %u + %llx", j->n,
                     j->at[0].id, (unsigned long long)j->at[0].offset);
        }
        return false;
    }
    return true;
}

bool expect_matches(const FlatView *view, const Access *a, const Journal *journal, char *why, size_t len)
{
    Expectation ex;
    char text[80];

    expect(&ex, view, a);
    if (ex.result != a->result && !a->by_guest) {
        if (why) {
            describe(&ex, 0, text, sizeof(text));
            snprintf(why, len, "the result is %x, expected %x; first byte from %s", a->result, ex.result, text);
        }
        return false;
    }
    return a->is_write ? write_matches(&ex, a, journal, why, len) : read_matches(&ex, a, why, len);
}
