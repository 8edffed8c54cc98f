/* SPDX-License-Identifier: MIT */
#include "shim/slots_shim.h"

#include <assert.h>
#include <stdlib.h>

#include "accel/slots.h"

#define ROOM 4096

struct ShimSlots {
    MemoryListener listener;
    SlotTable table;
    SlotPlan plan;
    SlotRules rules;
    bool planned;
    ShimPlan last;
    ShimSlot before[ROOM];
    hwaddr spans[2 * ROOM];
};

static bool want(const MemoryRegionSection *section, Slot *ret_slot)
{
    ret_slot->flags = section->readonly ? 1 : 0;
    return true;
}

static ShimSlots *shim_of(MemoryListener *listener)
{
    return (ShimSlots *)(void *)listener;
}

static bool overlap(const Slot *a, const Slot *b)
{
    return a->first <= slot_last(b) && b->first <= slot_last(a);
}

static int prepare(MemoryListener *listener, const MemoryDelta *delta)
{
    ShimSlots *s = shim_of(listener);
    size_t i, k;
    int err;

    s->last = (ShimPlan){.before = s->before, .spans = s->spans};
    s->last.n_before = shim_slots_copy(s, s->before, ROOM);
    err = slots_plan(&s->table, &s->rules, delta, 4096, &s->plan);
    if (err < 0) {
        return err;
    }
    assert(delta->n_spans <= ROOM);
    for (i = 0; i < delta->n_spans; i++) {
        s->spans[2 * i] = delta->spans[i].first;
        s->spans[2 * i + 1] = delta->spans[i].last;
    }
    s->last.n_spans = delta->n_spans;
    s->last.n_remove = s->plan.n_remove;
    s->last.n_add = s->plan.n_add;
    s->last.replaces = s->plan.replaces;
    for (i = 0; i < s->plan.n_remove; i++) {
        for (k = 0; k < s->plan.n_add; k++) {
            s->last.overlaps |= overlap(&s->plan.remove[i], &s->plan.add[k]);
        }
    }
    s->planned = true;
    return 0;
}

static void commit(MemoryListener *listener)
{
    ShimSlots *s = shim_of(listener);
    size_t i;

    for (i = 0; s->planned && i < s->plan.n_remove; i++) {
        Slot *slot = slots_find(&s->table, s->plan.remove[i].first);

        assert(slot && slot->size == s->plan.remove[i].size);
        slots_erase(&s->table, slot);
    }
    for (i = 0; s->planned && i < s->plan.n_add; i++) {
        slots_insert(&s->table, &s->plan.add[i]);
    }
    s->planned = false;
    slots_plan_clear(&s->plan);
}

static void forget(MemoryListener *listener, const MemoryDelta *delta)
{
    (void)delta;
    shim_of(listener)->planned = false;
    slots_plan_clear(&shim_of(listener)->plan);
}

ShimSlots *shim_slots_new(AddressSpace *as, uint32_t limit, uint64_t max_bytes, bool merges)
{
    ShimSlots *s = calloc(1, sizeof(*s));

    assert(s && slots_init(&s->table, limit) == 0);
    s->rules = (SlotRules){.want = want, .sticky_flags = 1, .max_bytes = max_bytes, .merges = merges};
    s->listener = (MemoryListener){.name = "slots", .prepare = prepare, .abort = forget, .commit = commit};
    if (memory_listener_register(&s->listener, as) < 0) {
        slots_fini(&s->table);
        free(s);
        return NULL;
    }
    return s;
}

void shim_slots_free(ShimSlots *s)
{
    memory_listener_unregister(&s->listener);
    slots_plan_fini(&s->plan);
    slots_fini(&s->table);
    free(s);
}

size_t shim_slots_copy(const ShimSlots *s, ShimSlot *ret, size_t room)
{
    size_t i;

    assert(s->table.n <= room);
    for (i = 0; i < s->table.n; i++) {
        const Slot *slot = &s->table.at[i];

        ret[i] = (ShimSlot){slot->first, slot->size, slot->host, slot->mr, slot->flags & 1, slot->id};
    }
    return s->table.n;
}

const ShimPlan *shim_slots_plan(const ShimSlots *s)
{
    return &s->last;
}
