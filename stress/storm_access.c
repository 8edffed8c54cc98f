/* SPDX-License-Identifier: MIT */
/*
 * storm_access.c - one access, carried out and judged.
 *
 * Invariant: an access is judged against the views that storm_history.c says it can have been served by, each as a
 * whole (R1): there must be one that gives the result, every byte read, every byte left alone and every byte that
 * arrived. Among those that do, the oldest is remembered in floor[]: by coherence a thread does not go back to an
 * older one.
 *
 * The judge may have to wait for a commit under way, whose view is not in the history yet. That is no deadlock: it
 * holds no lock, and a commit waits for no reader (R5).
 */
#include "storm_accel.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

#define UNTOUCHED_VALUE UINT64_C(0xa5a5a5a5a5a5a5a5)

static const MemTxAttrs attrs = { .unspecified = 1 };

static uint64_t to_value(const uint8_t *bytes, unsigned size, bool big_endian)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < size; i++) {
        value |= (uint64_t)bytes[i] << 8 * (big_endian ? size - 1 - i : i);
    }
    return value;
}

static void to_bytes(uint64_t value, uint8_t *bytes, unsigned size, bool big_endian)
{
    for (unsigned i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(value >> 8 * (big_endian ? size - 1 - i : i));
    }
}

static MemTxResult load(AddressSpace *as, hwaddr addr, unsigned size, bool big_endian, uint64_t *ret_value)
{
    uint8_t b = (uint8_t)UNTOUCHED_VALUE;
    uint16_t w = (uint16_t)UNTOUCHED_VALUE;
    uint32_t l = (uint32_t)UNTOUCHED_VALUE;
    uint64_t q = UNTOUCHED_VALUE;
    MemTxResult result;

    switch (size) {
    case 1:
        result = address_space_ldub(as, addr, attrs, &b);
        *ret_value = b;
        return result;
    case 2:
        result = (big_endian ? address_space_lduw_be : address_space_lduw_le)(as, addr, attrs, &w);
        *ret_value = w;
        return result;
    case 4:
        result = (big_endian ? address_space_ldl_be : address_space_ldl_le)(as, addr, attrs, &l);
        *ret_value = l;
        return result;
    default:
        result = (big_endian ? address_space_ldq_be : address_space_ldq_le)(as, addr, attrs, &q);
        *ret_value = q;
        return result;
    }
}

static MemTxResult store(AddressSpace *as, hwaddr addr, unsigned size, bool big_endian, uint64_t value)
{
    switch (size) {
    case 1:
        return address_space_stb(as, addr, attrs, (uint8_t)value);
    case 2:
        return (big_endian ? address_space_stw_be : address_space_stw_le)(as, addr, attrs, (uint16_t)value);
    case 4:
        return (big_endian ? address_space_stl_be : address_space_stl_le)(as, addr, attrs, (uint32_t)value);
    default:
        return (big_endian ? address_space_stq_be : address_space_stq_le)(as, addr, attrs, value);
    }
}

/* NULL, or what was in the way. */
static const char *carry_out(StormThread *t, AddressSpace *as, Access *a)
{
    uint64_t value;

    if (!a->is_write) {
        memset(a->data, ACCESS_UNTOUCHED, a->len);
    }
    if (a->by_guest) {
        return accel_access(t, a);
    }
    if (!a->typed) {
        a->result = address_space_rw(as, a->addr, attrs, a->data, a->len, a->is_write);
    } else if (a->is_write) {
        a->result = store(as, a->addr, a->len, a->big_endian, to_value(a->data, a->len, a->big_endian));
    } else {
        a->result = load(as, a->addr, a->len, a->big_endian, &value);
        to_bytes(value, a->data, a->len, a->big_endian);
    }
    return NULL;
}

/* The candidates of one access; settle() finds the one that has not been recorded yet. */
typedef struct Window {
    uint64_t low, start, end;
} Window;

static void window_open(Window *w, const StormThread *t, unsigned i)
{
    w->start = history_now(storm.spaces[i]);
    w->low = w->start / 2 > t->floor[i] ? w->start / 2 : t->floor[i];
}

/* Is the view after end / 2 a candidate? Then wait until it is recorded, or its commit refused. */
static bool window_settle(const Window *w, const StormSpace *space)
{
    uint64_t now = w->end;

    while (w->end % 2 && now == w->end) {
        sched_yield();
        now = history_now(space);
    }
    return w->end % 2 && now > w->end;
}

static void remember(StormThread *t, unsigned i, uint64_t k)
{
    t->floor[i] = k > t->floor[i] ? k : t->floor[i];
}

static unsigned space_index(const StormSpace *space)
{
    unsigned i = 0;

    while (storm.spaces[i] != space) {
        i++;
    }
    return i;
}

static void complain(const StormThread *t, const StormSpace *space, const Access *a, const Journal *j, const Window *w)
{
    char low[WHY_MAX], high[WHY_MAX], decoded[80] = "";
    uint64_t last = w->end / 2, offset;
    FlatView *oldest = history_view(space, w->low), *newest = history_view(space, last);
    static const char *const verbs[2][2] = { { "reads", "loads" }, { "writes", "stores" } };
    uint32_t id;

    if (!expect_matches(oldest, a, j, low, sizeof(low)) && !expect_matches(newest, a, j, high, sizeof(high))) {
        if (!a->is_write && a->len == 8 && a->result == MEMTX_OK) {
            backing_unword(to_value(a->data, 8, false), &id, &offset);
            snprintf(decoded, sizeof(decoded), " (as a stamp: backing %u + %llx)", id, (unsigned long long)offset);
        }
        storm_violation("%s: %s %u %s %u bytes at %llx%s, views %llu (generation %llu) to %llu (%llu)%s were current. "
                        "By the first: %s. By the last: %s%s",
                        space->name, t->is_writer ? "writer" : a->by_guest ? "guest" : "vcpu", t->index, verbs[a->is_write][a->typed], a->len,
                        (unsigned long long)a->addr, a->big_endian ? " big-endian" : "", (unsigned long long)w->low,
                        (unsigned long long)flatview_generation(oldest), (unsigned long long)last,
                        (unsigned long long)flatview_generation(newest), w->end % 2 ? " and perhaps one more" : "", low,
                        high, decoded);
    } else {
        storm_violation("%s: an access at %llx went back to an older view", space->name, (unsigned long long)a->addr);
    }
}

bool storm_access(StormThread *t, StormSpace *space, Access *a)
{
    unsigned i = space_index(space);
    const char *in_the_way;
    Journal journal;
    Window w;
    uint64_t k;

    journal.n = 0;
    journal.outer = t->journal;
    t->journal = &journal;
    t->depth++;
    window_open(&w, t, i);
    in_the_way = carry_out(t, space->as, a);
    w.end = history_now(space);
    t->depth--;
    t->journal = journal.outer;
    storm_count(&t->accesses);

    if (in_the_way) {
        storm_violation("%s: the guest of vcpu %u does not reach %llx: %s", space->name, t->index,
                        (unsigned long long)a->addr, in_the_way);
        return false;
    }
    for (k = w.low; k <= w.end / 2; k++) {
        if (expect_matches(history_view(space, k), a, &journal, NULL, 0)) {
            remember(t, i, k);
            return true;
        }
    }
    if (window_settle(&w, space) && expect_matches(history_view(space, k), a, &journal, NULL, 0)) {
        remember(t, i, k);
        return true;
    }
    complain(t, space, a, &journal, &w);
    return false;
}

bool storm_peek(StormThread *t, StormSpace *space, hwaddr addr, unsigned len)
{
    Access a = { .addr = addr, .len = len, .typed = len <= 8 && !(len & (len - 1)) };

    return storm_access(t, space, &a);
}

/* ---- translations ---- */

typedef struct Translation {
    MemTxResult result;
    MemoryRegionSection section;
} Translation;

static bool translation_matches(const FlatView *view, hwaddr addr, bool is_write, const Translation *t)
{
    MemoryRegionSection s;
    MemTxResult expected = MEMTX_DECODE_ERROR;
    const Backing *b;

    if (flatview_find(view, addr, &s)) {
        b = backing_of(s.mr);
        if (b->kind == BACKING_MEMORY || (b->kind == BACKING_ROM_DEVICE && s.romd && !is_write)) {
            expected = is_write && s.readonly ? MEMTX_ACCESS_ERROR : MEMTX_OK;
        } else if (b->ops) {
            bool answers = is_write ? (b->ops->write || b->ops->write_with_attrs) && !s.readonly
                                    : b->ops->read || b->ops->read_with_attrs;

            expected = answers ? MEMTX_OK : MEMTX_ACCESS_ERROR;
        }
    }
    return t->result == expected && (expected == MEMTX_DECODE_ERROR || section_equal(&s, &t->section));
}

bool storm_translate(StormThread *t, StormSpace *space, hwaddr addr, bool is_write)
{
    unsigned i = space_index(space);
    Translation found = { .section = { .mr = NULL } };
    Window w;
    uint64_t k;

    window_open(&w, t, i);
    memory_read_begin();
    found.result = address_space_translate(space->as, addr, is_write, attrs, &found.section);
    memory_read_end();
    w.end = history_now(space);
    storm_count(&t->translations);
    for (k = w.low; k <= w.end / 2; k++) {
        if (translation_matches(history_view(space, k), addr, is_write, &found)) {
            remember(t, i, k);
            return true;
        }
    }
    if (window_settle(&w, space) && translation_matches(history_view(space, k), addr, is_write, &found)) {
        remember(t, i, k);
        return true;
    }
    storm_violation("%s: translating %llx for %s gives %x, offset %llx: no view from %llu to %llu says so", space->name,
                    (unsigned long long)addr, is_write ? "writing" : "reading", found.result,
                    (unsigned long long)found.section.offset_within_region, (unsigned long long)w.low,
                    (unsigned long long)(w.end / 2));
    return false;
}
