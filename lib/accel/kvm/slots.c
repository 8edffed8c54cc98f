/* SPDX-License-Identifier: MIT */
/*
 * slots.c - sticky slots.
 *
 * Invariant: a slot of the table lies wholly inside one range of the mirrored view, maps each of its addresses to the host
 * address that the range names, and is read-only if the range is not to be written directly.
 * Established by: slots_plan(), which looks at the spans of a delta and at the slots inside them; a span covers whole old
 * ranges, so no slot reaches over its edge. Relied on by: the listener (memory.c), under its lock.
 *
 * A slot inside a span stays if it fits the new ranges as it is: that is what makes slots sticky, and the reason why a
 * device that comes and goes on top of memory costs two new slots once, and nothing but the gap between them thereafter.
 */
#include "accel/kvm/slots.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

#define SLOT_MAX_BYTES (UINT64_C(1) << 42) /* KVM takes 2^31 - 1 pages */

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

        if (table->at[mid].first + (table->at[mid].size - 1) < addr) {
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

/* The part of a section that can be a slot: whole pages, of memory that lies in pages of the host as it does in the guest's. */
static bool section_slot(const MemoryRegionSection *section, uint64_t page, Slot *ret_slot)
{
    hwaddr first = section->offset_within_address_space, skip = -first & (page - 1);
    uint64_t size = section->last - first + 1; /* 0 for all of 2^64: no host has that */

    if (!section->host || size < skip + page || (((uintptr_t)section->host ^ first) & (page - 1))) {
        return false;
    }
    *ret_slot = (Slot){
        .first = first + skip,
        .size = (size - skip) & ~(page - 1),
        .host = (uint8_t *)section->host + skip,
        /* A ROM device in read mode answers reads from memory and writes by callbacks. */
        .flags = section->readonly || memory_region_is_rom_device(section->mr) ? KVM_MEM_READONLY : 0,
    };
    if (memory_region_get_dirty_log_mask(section->mr)) {
        ret_slot->flags |= KVM_MEM_LOG_DIRTY_PAGES;
    }
    return true;
}

static bool fits(const Slot *slot, const Slot *want)
{
    return slot->first - want->first < want->size && slot->size <= want->size - (slot->first - want->first) &&
           slot->host == want->host + (slot->first - want->first) &&
           !((slot->flags ^ want->flags) & KVM_MEM_READONLY);
}

static int plan_remove(SlotPlan *plan, const Slot *slot)
{
    if (reserve(&plan->remove, &plan->cap_remove, plan->n_remove + 1) < 0) {
        return -ENOMEM;
    }
    plan->remove[plan->n_remove++] = *slot;
    return 0;
}

/* [first, end) of want. */
static int plan_add(SlotPlan *plan, const Slot *want, hwaddr first, uint64_t size)
{
    while (size) {
        uint64_t part = size < SLOT_MAX_BYTES ? size : SLOT_MAX_BYTES;
        Slot *slot;

        if (reserve(&plan->add, &plan->cap_add, plan->n_add + 1) < 0) {
            return -ENOMEM;
        }
        slot = &plan->add[plan->n_add++];
        *slot = *want;
        slot->first = first;
        slot->size = part;
        slot->host = want->host + (first - want->first);
        first += part;
        size -= part;
    }
    return 0;
}

/* Slots and new sections of a span side by side: what fits stays, the rest goes, what is left bare gets a slot. */
static int plan_span(const SlotTable *table, const MemorySpan *span, uint64_t page, SlotPlan *plan)
{
    size_t i = slots_lower(table, span->first), k;

    for (k = 0; k < span->n_new; k++) {
        Slot want;
        hwaddr bare;

        if (!section_slot(&span->new_sections[k], page, &want)) {
            continue;
        }
        bare = want.first;
        for (; i < table->n && table->at[i].first < want.first; i++) {
            if (plan_remove(plan, &table->at[i]) < 0) {
                return -ENOMEM;
            }
        }
        for (; i < table->n && table->at[i].first - want.first < want.size; i++) {
            const Slot *slot = &table->at[i];

            if (!fits(slot, &want)) {
                if (plan_remove(plan, slot) < 0) {
                    return -ENOMEM;
                }
                continue;
            }
            if (plan_add(plan, &want, bare, slot->first - bare) < 0) {
                return -ENOMEM;
            }
            bare = slot->first + slot->size;
        }
        if (plan_add(plan, &want, bare, want.size - (bare - want.first)) < 0) {
            return -ENOMEM;
        }
    }
    for (; i < table->n && table->at[i].first <= span->last; i++) {
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

        if (old->first + (old->size - 1) < new->first) {
            i++;
        } else if (new->first + (new->size - 1) < old->first) {
            k++;
        } else if (old->missing) {
            i++;
        } else {
            return true;
        }
    }
    return false;
}

int slots_plan(SlotTable *table, const MemoryDelta *delta, uint64_t page, SlotPlan *plan)
{
    size_t i, n;
    int err = 0;

    slots_plan_clear(plan);
    for (i = 0; i < delta->n_spans && err == 0; i++) {
        err = plan_span(table, &delta->spans[i], page, plan);
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
    *plan = (SlotPlan){0};
}
