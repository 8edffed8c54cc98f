/* SPDX-License-Identifier: MIT */
/*
 * step.c - which regions stay themselves, and which calls make up the difference.
 *
 * Invariant: carried out in order, no op of a step is refused for the state it meets: whatever leaves a container or
 * changes its place among its siblings is taken out before anything is put in, aliases only exist between their
 * target's making and its destruction, and a region is put in complete. Sibling order, which only "added last is on
 * top" can make, comes out as recorded because each group of equal priority is kept from its bottom up as long as it is
 * in order, and everything above the first newcomer is put in again.
 */
#include "step.h"

#include <stdlib.h>
#include <string.h>

const TopoFile topo_nothing = {0};

/* Is it the same object with other attributes, or another that has inherited the id? What only an init function can
   set decides. */
static bool same_object(const Step *s, const TopoRegion *before, const TopoRegion *after)
{
    bool ram = before->flags & (TOPO_RAM | TOPO_ROM_DEVICE);

    if ((before->flags ^ after->flags) & TOPO_KIND_FLAGS || strcmp(before->name, after->name) != 0) {
        return false;
    }
    if (ram && (after->size > before->size || (before->flags & ~after->flags & TOPO_READONLY))) {
        return false; /* RAM keeps its size, ROM stays ROM */
    }
    if (before->alias == TOPO_NONE || after->alias == TOPO_NONE) {
        return before->alias == after->alias;
    }
    return before->alias == s->origin[after->alias];
}

/* Fill in origin and fate. An alias is judged after its target, and made after it. */
static bool match_regions(Step *s)
{
    bool *judged = calloc(s->after->n_regions + 1, 1);

    if (!judged) {
        return false;
    }
    for (uint32_t i = 0; i < s->after->n_regions; i++) {
        uint32_t chain[TOPO_MAX_DEPTH + 1], n = 0;

        for (uint32_t to = i; to != TOPO_NONE && !judged[to]; to = s->after->regions[to].alias) {
            chain[n++] = to;
        }
        while (n > 0) {
            uint32_t region = chain[--n];
            uint32_t origin = topo_find(s->before, s->after->regions[region].id);

            judged[region] = true;
            if (origin != TOPO_NONE && same_object(s, &s->before->regions[origin], &s->after->regions[region])) {
                s->origin[region] = origin;
                s->fate[origin] = region;
            } else {
                s->made[s->n_made++] = region;
            }
        }
    }
    free(judged);
    return true;
}

/* Targets first, as match_regions() orders what is made; then turned round. */
static bool list_gone(Step *s)
{
    bool *listed = calloc(s->before->n_regions + 1, 1);

    if (!listed) {
        return false;
    }
    for (uint32_t i = 0; i < s->before->n_regions; i++) {
        uint32_t chain[TOPO_MAX_DEPTH + 1], n = 0;

        for (uint32_t to = i; to != TOPO_NONE && !listed[to]; to = s->before->regions[to].alias) {
            chain[n++] = to;
            listed[to] = true;
        }
        while (n > 0) {
            if (s->fate[chain[--n]] == TOPO_NONE) {
                s->gone[s->n_gone++] = chain[n];
            }
        }
    }
    for (size_t i = 0; i < s->n_gone / 2; i++) {
        uint32_t t = s->gone[i];

        s->gone[i] = s->gone[s->n_gone - 1 - i];
        s->gone[s->n_gone - 1 - i] = t;
    }
    free(listed);
    return true;
}

/* Spaces have no ids: the same root object and the same name make the same space; among several of those, the order. */
typedef struct SpaceKey {
    uint32_t root; /* index in before */
    const char *name;
    uint32_t index;
} SpaceKey;

static int compare_same(const SpaceKey *x, const SpaceKey *y)
{
    return x->root != y->root ? (x->root < y->root ? -1 : 1) : strcmp(x->name, y->name);
}

static int compare_spaces(const void *a, const void *b)
{
    const SpaceKey *x = a, *y = b;
    int order = compare_same(x, y);

    return order ? order : (x->index < y->index ? -1 : x->index > y->index);
}

static bool match_spaces(Step *s)
{
    size_t n_before = s->before->n_spaces, n_after = 0, i = 0, j = 0;
    SpaceKey *before = calloc(n_before + 1, sizeof(*before));
    SpaceKey *after = calloc(s->after->n_spaces + 1, sizeof(*after));
    bool ok = before && after;

    for (uint32_t k = 0; ok && k < n_before; k++) {
        before[k] = (SpaceKey){ s->before->spaces[k].root, s->before->spaces[k].name, k };
    }
    for (uint32_t k = 0; ok && k < s->after->n_spaces; k++) {
        uint32_t root = s->origin[s->after->spaces[k].root];

        if (root != TOPO_NONE) {
            after[n_after++] = (SpaceKey){ root, s->after->spaces[k].name, k };
        }
    }
    if (ok) {
        qsort(before, n_before, sizeof(*before), compare_spaces);
        qsort(after, n_after, sizeof(*after), compare_spaces);
    }
    while (ok && i < n_before && j < n_after) {
        int order = compare_same(&before[i], &after[j]);

        if (order == 0) {
            s->space_fate[before[i].index] = after[j].index;
            s->space_origin[after[j].index] = before[i].index;
        }
        i += order <= 0;
        j += order >= 0;
    }
    for (size_t k = 0; ok && k < n_before; k++) {
        s->n_spaces_gone += s->space_fate[k] == TOPO_NONE;
    }
    free(before);
    free(after);
    return ok;
}

static bool op(Step *s, StepKind kind, uint32_t index)
{
    if (!array_room((void **)&s->ops, s->n_ops, &s->room_ops, sizeof(StepOp))) {
        return false;
    }
    s->ops[s->n_ops++] = (StepOp){ kind, index };
    return true;
}

/*
 * Which children may stay where they are; stays[] is by region of after. place[] numbers the siblings in before from
 * the bottom up.
 */
static bool find_staying(const Step *s, bool *stays)
{
    uint32_t *place = calloc(s->before->n_regions + 1, sizeof(*place));

    if (!place) {
        return false;
    }
    for (size_t i = 0; i < s->before->n_regions; i++) {
        uint32_t n = 0;

        for (uint32_t c = s->before->regions[i].last_child; c != TOPO_NONE; c = s->before->regions[c].above) {
            place[c] = n++;
        }
    }
    for (size_t i = 0; i < s->after->n_regions; i++) {
        bool in_order = true;
        uint32_t lowest = 0;

        for (uint32_t c = s->after->regions[i].last_child; c != TOPO_NONE; c = s->after->regions[c].above) {
            const TopoRegion *r = &s->after->regions[c];
            const TopoRegion *was = s->origin[c] == TOPO_NONE ? NULL : &s->before->regions[s->origin[c]];

            if (r->below != TOPO_NONE && s->after->regions[r->below].priority != r->priority) {
                in_order = true;
                lowest = 0;
            }
            in_order = in_order && was && was->container != TOPO_NONE && s->fate[was->container] == i &&
                       was->priority == r->priority && place[s->origin[c]] >= lowest;
            if (in_order) {
                lowest = place[s->origin[c]] + 1;
            }
            stays[c] = in_order;
        }
    }
    free(place);
    return true;
}

/* The attributes of region i of after that its object does not have yet. */
static bool plan_attributes(Step *s, uint32_t i, bool stays)
{
    const TopoRegion *r = &s->after->regions[i];
    /* What a region has that was just made: ROM is read-only from the start. */
    bool rom = r->flags & TOPO_RAM && !(r->flags & TOPO_RAM_DEVICE);
    TopoRegion fresh = {
        .size = r->size,
        .alias_offset = r->alias_offset,
        .container = TOPO_NONE,
        .flags = (uint16_t)(TOPO_ENABLED | TOPO_ROMD | (rom ? r->flags & TOPO_READONLY : 0)),
    };
    const TopoRegion *was = s->origin[i] == TOPO_NONE ? &fresh : &s->before->regions[s->origin[i]];
    unsigned flags = was->flags ^ r->flags;

    return (was->size == r->size || op(s, STEP_SET_SIZE, i)) &&
           (was->alias_offset == r->alias_offset || op(s, STEP_SET_ALIAS_OFFSET, i)) &&
           (!(flags & TOPO_READONLY) || op(s, STEP_SET_READONLY, i)) &&
           (!(flags & TOPO_NONVOLATILE) || op(s, STEP_SET_NONVOLATILE, i)) &&
           (!(flags & TOPO_ROMD) || op(s, STEP_SET_ROMD, i)) &&
           (was->dirty == r->dirty || op(s, STEP_SET_LOG, i)) &&
           (was->offset == r->offset || !(stays || r->container == TOPO_NONE) || op(s, STEP_SET_ADDRESS, i)) &&
           (!(flags & TOPO_ENABLED) || op(s, STEP_SET_ENABLED, i));
}

static bool plan_ops(Step *s)
{
    bool *stays = calloc(s->after->n_regions + 1, 1);
    bool ok = stays && find_staying(s, stays);

    for (uint32_t i = 0; ok && i < s->after->n_spaces; i++) {
        ok = s->space_origin[i] != TOPO_NONE || op(s, STEP_ADD_SPACE, i);
    }
    for (uint32_t i = 0; ok && i < s->before->n_regions; i++) {
        ok = s->before->regions[i].container == TOPO_NONE || (s->fate[i] != TOPO_NONE && stays[s->fate[i]]) ||
             op(s, STEP_DEL, i);
    }
    for (uint32_t i = 0; ok && i < s->after->n_regions; i++) {
        ok = plan_attributes(s, i, stays[i]);
    }
    for (uint32_t i = 0; ok && i < s->after->n_regions; i++) {
        for (uint32_t c = s->after->regions[i].last_child; ok && c != TOPO_NONE; c = s->after->regions[c].above) {
            ok = stays[c] || op(s, STEP_ADD, c);
        }
    }
    free(stays);
    return ok;
}

static uint32_t *nones(size_t n)
{
    uint32_t *array = malloc((n + 1) * sizeof(*array));

    if (array) {
        memset(array, 0xff, (n + 1) * sizeof(*array));
    }
    return array;
}

bool step_plan(Step *step, const TopoFile *before, const TopoFile *after)
{
    *step = (Step){
        .before = before,
        .after = after,
        .origin = nones(after->n_regions),
        .fate = nones(before->n_regions),
        .space_origin = nones(after->n_spaces),
        .space_fate = nones(before->n_spaces),
        .made = nones(after->n_regions),
        .gone = nones(before->n_regions),
    };
    if (step->origin && step->fate && step->space_origin && step->space_fate && step->made && step->gone &&
        match_regions(step) && list_gone(step) && match_spaces(step) && plan_ops(step)) {
        return true;
    }
    step_free(step);
    return false;
}

void step_free(Step *step)
{
    free(step->origin);
    free(step->fate);
    free(step->space_origin);
    free(step->space_fate);
    free(step->made);
    free(step->gone);
    free(step->ops);
    *step = (Step){0};
}
