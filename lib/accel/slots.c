/* SPDX-License-Identifier: MIT */
/*
 * slots.c - sticky slots.
 *
 * Invariant: each address of a slot is mapped to the host address that the mirrored view names for it, with the flags that
 * its range asks for; without rules->merges a slot lies in one range.
 * Established by: slots_plan(), which looks at the spans of a delta and at the slots that touch them. Relied on by: listeners,
 * each under a lock of its own.
 *
 * A slot stays if it fits the new ranges as it is: that is what makes slots sticky, and the reason why a device that comes
 * and goes on top of memory costs two new slots once, and nothing but the gap between them thereafter.
 */
#include "accel/slots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct AddrRange {
    hwaddr first, last;
} AddrRange;

int slots_init(SlotTable *table, uint32_t limit)
{
    *table = (SlotTable){.limit = limit, .used = calloc(limit / 8 + 1, 1)};
    return table->used ? 0 : -ENOMEM;
}

void slots_fini(SlotTable *table)
{
    free(table->at);
    free(table->stuck);
    free(table->used);
    *table = (SlotTable){0};
}

static int reserve(Slot **at, size_t *cap, size_t n)
{
    size_t more = *cap ? *cap : 16;
    Slot *grown;

    if (n <= *cap) {
        return 0;
    }
    while (more < n) {
        more *= 2;
    }
    grown = realloc(*at, more * sizeof(**at));
    if (!grown) {
        return -ENOMEM;
    }
    *at = grown;
    *cap = more;
    return 0;
}

size_t slots_lower(const SlotTable *table, hwaddr addr)
{
    size_t low = 0, high = table->n;

    while (low < high) {
        size_t mid = (low + high) / 2;

        if (slot_last(&table->at[mid]) < addr) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

Slot *slots_find(SlotTable *table, hwaddr first)
{
    size_t i = slots_lower(table, first);

    return i < table->n && table->at[i].first == first ? &table->at[i] : NULL;
}

static uint32_t take_id(SlotTable *table)
{
    uint32_t id;

    for (id = 0; id < table->limit; id++) {
        if (table->used[id / 8] == 0xff) {
            id |= 7;
        } else if (!(table->used[id / 8] & (1u << (id % 8)))) {
            table->used[id / 8] |= (unsigned char)(1u << (id % 8));
            return id;
        }
    }
    abort(); /* slots_plan() has counted */
}

Slot *slots_insert(SlotTable *table, const Slot *slot)
{
    size_t i = slots_lower(table, slot->first);

    memmove(&table->at[i + 1], &table->at[i], (table->n - i) * sizeof(*table->at));
    table->at[i] = *slot;
    table->at[i].id = take_id(table);
    table->n++;
    return &table->at[i];
}

static void give_id(SlotTable *table, uint32_t id)
{
    table->used[id / 8] &= (unsigned char)~(1u << (id % 8));
}

static void take_out(SlotTable *table, Slot *slot)
{
    table->n--;
    memmove(slot, slot + 1, (size_t)(&table->at[table->n] - slot) * sizeof(*slot));
}

void slots_erase(SlotTable *table, Slot *slot)
{
    give_id(table, slot->id);
    take_out(table, slot);
}

void slots_strand(SlotTable *table, Slot *slot)
{
    table->stuck[table->n_stuck++] = *slot;
    take_out(table, slot);
}

void slots_unstick(SlotTable *table, size_t i)
{
    give_id(table, table->stuck[i].id);
    table->stuck[i] = table->stuck[--table->n_stuck];
}

static bool fits(const SlotRules *rules, const Slot *slot, const Slot *want)
{
    return slot->first - want->first < want->size && slot->size <= want->size - (slot->first - want->first) &&
           slot->host == want->host + (slot->first - want->first) && slot->mr == want->mr &&
           !((slot->flags ^ want->flags) & rules->sticky_flags);
}

/* The piece of a slot that begins at first. */
static Slot slot_cut(const Slot *slot, hwaddr first, hwaddr last)
{
    Slot piece = *slot;

    piece.first = first;
    piece.size = last - first + 1;
    piece.host += first - slot->first;
    piece.fd_offset += first - slot->first;
    piece.mr_offset += first - slot->first;
    return piece;
}

static int push(Slot **at, size_t *n, size_t *cap, const Slot *slot)
{
    if (reserve(at, cap, *n + 1) < 0) {
        return -ENOMEM;
    }
    (*at)[(*n)++] = *slot;
    return 0;
}

/* ---- what should be there ---- */

static bool goes_on(const SlotRules *rules, const Slot *a, const Slot *b)
{
    return rules->merges && slot_last(a) + 1 == b->first && a->host + a->size == b->host && a->mr == b->mr && a->fd == b->fd &&
           (a->fd < 0 || a->fd_offset + a->size == b->fd_offset) && !((a->flags ^ b->flags) & rules->sticky_flags);
}

static int want(SlotPlan *plan, const SlotRules *rules, const Slot *piece)
{
    Slot *before = plan->n_want ? &plan->want[plan->n_want - 1] : NULL;

    if (before && goes_on(rules, before, piece)) {
        before->size += piece->size;
        return 0;
    }
    return push(&plan->want, &plan->n_want, &plan->cap_want, piece);
}

static int want_span(SlotPlan *plan, const SlotRules *rules, const MemorySpan *span)
{
    size_t i;

    for (i = 0; i < span->n_new; i++) {
        const MemoryRegionSection *section = &span->new_sections[i];
        Slot piece = {
            .first = section->offset_within_address_space,
            .size = section->last - section->offset_within_address_space + 1, /* 0 is 2^64: no host has that */
            .host = section->host,
            .mr = section->mr,
            .mr_offset = section->offset_within_region,
            .fd = -1,
        };

        if (piece.host && piece.size && rules->want(section, &piece) && want(plan, rules, &piece) < 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

/*
 * A slot that holds several ranges may reach over the edges of a span. What lies outside is as it was; so slot and span
 * are looked at together, and with them all spans that the same slot touches. From span *k on: the addresses of one such
 * group, what should be there (plan->want), and the span that follows.
 */
static int want_group(const SlotTable *table, const SlotRules *rules, const MemoryDelta *delta, size_t *k, SlotPlan *plan,
                      AddrRange *ret_group)
{
    const MemorySpan *span = &delta->spans[*k];
    size_t i = slots_lower(table, span->first);
    Slot piece;

    plan->n_want = 0;
    *ret_group = (AddrRange){span->first, span->last};
    if (i < table->n && table->at[i].first < span->first) {
        ret_group->first = table->at[i].first;
        piece = slot_cut(&table->at[i], table->at[i].first, span->first - 1);
        if (want(plan, rules, &piece) < 0) {
            return -ENOMEM;
        }
    }
    for (;;) {
        const Slot *over;
        hwaddr last;

        if (want_span(plan, rules, span) < 0) {
            return -ENOMEM;
        }
        ret_group->last = span->last;
        ++*k;
        i = slots_lower(table, span->last);
        over = i < table->n ? &table->at[i] : NULL;
        if (!over || over->first > span->last || slot_last(over) == span->last) {
            return 0;
        }
        last = slot_last(over);
        if (*k < delta->n_spans && delta->spans[*k].first <= last) {
            last = delta->spans[*k].first - 1;
        }
        if (last > span->last) { /* not if the next span begins where this one ends */
            piece = slot_cut(over, span->last + 1, last);
            if (want(plan, rules, &piece) < 0) {
                return -ENOMEM;
            }
        }
        if (last == slot_last(over)) {
            ret_group->last = last;
            return 0;
        }
        span = &delta->spans[*k];
    }
}

/* Whole pages, of memory that lies in pages of the host as it does in the guest's. False: none. */
static bool trim(Slot *slot, uint64_t page)
{
    uint64_t skip = -slot->first & (page - 1);

    if (slot->size < skip + page || (((uintptr_t)slot->host ^ slot->first) & (page - 1)) ||
        (slot->fd >= 0 && ((slot->fd_offset ^ slot->first) & (page - 1)))) {
        return false;
    }
    *slot = slot_cut(slot, slot->first + skip, slot->first + skip + ((slot->size - skip) & ~(page - 1)) - 1);
    return true;
}

/* ---- from what is there to what should be ---- */

static int plan_remove(SlotPlan *plan, const Slot *slot)
{
    return push(&plan->remove, &plan->n_remove, &plan->cap_remove, slot);
}

static int plan_add(const SlotRules *rules, SlotPlan *plan, const Slot *whole, hwaddr first, uint64_t size)
{
    while (size) {
        uint64_t part = size < rules->max_bytes ? size : rules->max_bytes;
        Slot slot = slot_cut(whole, first, first + part - 1);

        if (push(&plan->add, &plan->n_add, &plan->cap_add, &slot) < 0) {
            return -ENOMEM;
        }
        first += part;
        size -= part;
    }
    return 0;
}

/* What fits stays, the rest goes, what is left bare gets a slot. */
static int plan_group(const SlotTable *table, const SlotRules *rules, AddrRange group, uint64_t page, SlotPlan *plan)
{
    size_t i = slots_lower(table, group.first), k;

    for (k = 0; k < plan->n_want; k++) {
        Slot *whole = &plan->want[k];
        hwaddr bare;

        if (!trim(whole, page)) {
            continue;
        }
        bare = whole->first;
        for (; i < table->n && table->at[i].first <= slot_last(whole); i++) {
            const Slot *slot = &table->at[i];

            if (!fits(rules, slot, whole)) {
                if (plan_remove(plan, slot) < 0) {
                    return -ENOMEM;
                }
                continue;
            }
            if (plan_add(rules, plan, whole, bare, slot->first - bare) < 0) {
                return -ENOMEM;
            }
            bare = slot->first + slot->size;
        }
        if (plan_add(rules, plan, whole, bare, whole->size - (bare - whole->first)) < 0) {
            return -ENOMEM;
        }
    }
    for (; i < table->n && table->at[i].first <= group.last; i++) {
        if (plan_remove(plan, &table->at[i]) < 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

static bool plan_replaces(const SlotPlan *plan)
{
    size_t i = 0, k = 0;

    while (i < plan->n_remove && k < plan->n_add) {
        const Slot *old = &plan->remove[i], *new = &plan->add[k];

        if (slot_last(old) < new->first) {
            i++;
        } else if (slot_last(new) < old->first) {
            k++;
        } else if (old->missing) {
            i++;
        } else {
            return true;
        }
    }
    return false;
}

int slots_plan(SlotTable *table, const SlotRules *rules, const MemoryDelta *delta, uint64_t page, SlotPlan *plan)
{
    AddrRange group;
    size_t k = 0, n;
    int err = 0;

    slots_plan_clear(plan);
    while (k < delta->n_spans && err == 0) {
        err = want_group(table, rules, delta, &k, plan, &group);
        if (err == 0) {
            err = plan_group(table, rules, group, page, plan);
        }
    }
    if (err == 0) {
        n = table->n + plan->n_add; /* what does not go after all stays in the table */
        err = n - plan->n_remove + table->n_stuck > table->limit ? -ENOSPC : reserve(&table->at, &table->cap, n);
        if (err == 0) {
            err = reserve(&table->stuck, &table->cap_stuck, table->n_stuck + n);
        }
    }
    if (err < 0) {
        slots_plan_clear(plan);
        return err;
    }
    plan->replaces = plan_replaces(plan);
    return 0;
}

void slots_plan_clear(SlotPlan *plan)
{
    plan->n_remove = plan->n_add = 0;
    plan->replaces = false;
}

void slots_plan_fini(SlotPlan *plan)
{
    free(plan->remove);
    free(plan->add);
    free(plan->want);
    *plan = (SlotPlan){0};
}
