/* SPDX-License-Identifier: MIT */
/*
 * topo_link.c - from lines that are each well-formed to a map that holds together.
 *
 * Invariant: after topo_link() everything that topo.h promises is true. Nothing here recurses, and every step is O(log
 * n) or amortised O(1): a file cannot make its reader slow.
 */
#include "topo.h"

#include <stdlib.h>

static int compare_ids(const void *a, const void *b)
{
    const TopoId *x = a, *y = b;

    if (x->id != y->id) {
        return x->id < y->id ? -1 : 1;
    }
    return x->region < y->region ? -1 : x->region > y->region;
}

bool topo_index(TopoFile *topo, InputError *err)
{
    topo->by_id = calloc(topo->n_regions + 1, sizeof(TopoId));
    if (!topo->by_id) {
        return input_no_memory(err, 0);
    }
    for (size_t i = 0; i < topo->n_regions; i++) {
        topo->by_id[i] = (TopoId){ topo->regions[i].id, (uint32_t)i };
    }
    qsort(topo->by_id, topo->n_regions, sizeof(TopoId), compare_ids);
    for (size_t i = 1; i < topo->n_regions; i++) {
        if (topo->by_id[i].id == topo->by_id[i - 1].id) {
            const TopoRegion *again = &topo->regions[topo->by_id[i].region];

            return input_fail(err, again->line, "region %llu again, first in line %u", (unsigned long long)again->id,
                              topo->regions[topo->by_id[i - 1].region].line);
        }
    }
    return true;
}

uint32_t topo_find(const TopoFile *topo, uint64_t id)
{
    size_t low = 0, high = topo->n_regions;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (topo->by_id[mid].id < id) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < topo->n_regions && topo->by_id[low].id == id ? topo->by_id[low].region : TOPO_NONE;
}

static bool find(const TopoFile *topo, uint64_t id, const char *what, uint32_t line, uint32_t *ret, InputError *err)
{
    *ret = id == UINT64_MAX ? TOPO_NONE : topo_find(topo, id);
    return id == UINT64_MAX || *ret != TOPO_NONE ||
           input_fail(err, line, "%s: there is no region %llu", what, (unsigned long long)id);
}

void topo_adopt(TopoFile *topo, uint32_t child)
{
    TopoRegion *c = &topo->regions[child], *p = &topo->regions[c->container];

    c->above = p->last_child;
    if (p->last_child == TOPO_NONE) {
        p->first_child = child;
    } else {
        topo->regions[p->last_child].below = child;
    }
    p->last_child = child;
}

/*
 * Depth first means: the container is the region of the line before, or one around it. @around walks out of what is
 * complete and never comes back in, so all calls together take one step per region.
 */
static bool link_container(TopoFile *topo, uint32_t index, uint32_t around, InputError *err)
{
    TopoRegion *r = &topo->regions[index];
    const TopoRegion *p;

    if (r->container == TOPO_NONE) {
        return true;
    }
    while (around != TOPO_NONE && around != r->container) {
        around = topo->regions[around].container;
    }
    if (around == TOPO_NONE) {
        return input_fail(err, r->line, "region %llu out of order: not directly after region %llu and its contents",
                          (unsigned long long)r->id, (unsigned long long)r->container_id);
    }
    p = &topo->regions[around];
    if (p->alias_id != UINT64_MAX) {
        return input_fail(err, r->line, "CONTAINER %llu is an alias", (unsigned long long)r->container_id);
    }
    if (p->depth + 1u >= TOPO_MAX_DEPTH) {
        return input_fail(err, r->line, "region %llu is nested deeper than %u levels", (unsigned long long)r->id,
                          TOPO_MAX_DEPTH);
    }
    r->depth = (uint16_t)(p->depth + 1);
    if (p->last_child != TOPO_NONE && topo->regions[p->last_child].priority < r->priority) {
        return input_fail(err, r->line, "region %llu out of order: below a sibling of lower priority",
                          (unsigned long long)r->id);
    }
    topo_adopt(topo, index);
    return true;
}

/*
 * Chains of aliases end. That a container is shown inside itself is no fault: real machines alias windows of the bus
 * that they stand on (arm/cheetah); whether that ends as well depends on the windows, which is for the renderer to find
 * out.
 */
bool topo_check_aliases(const TopoFile *topo, InputError *err)
{
    uint16_t *length = calloc(topo->n_regions + 1, sizeof(*length)); /* 0: not known yet */
    bool ok = length || input_no_memory(err, 0);

    for (uint32_t i = 0; ok && i < topo->n_regions; i++) {
        uint32_t to = i, steps = 0;

        while (!length[to] && topo->regions[to].alias != TOPO_NONE && steps <= TOPO_MAX_DEPTH) {
            to = topo->regions[to].alias;
            steps++;
        }
        length[to] = length[to] ? length[to] : 1; /* the end of a chain; or anything, if it is too long anyway */
        steps += length[to];
        if (steps > TOPO_MAX_DEPTH) {
            ok = input_fail(err, topo->regions[i].line, "ALIAS: a circle, or more than %u aliases of aliases",
                            TOPO_MAX_DEPTH);
        }
        for (to = i; ok && !length[to]; to = topo->regions[to].alias) {
            length[to] = (uint16_t)steps--;
        }
    }
    free(length);
    return ok;
}

static bool link_ranges(TopoFile *topo, InputError *err)
{
    for (size_t i = 0; i < topo->n_ranges; i++) {
        TopoRange *r = &topo->ranges[i];

        if (!find(topo, r->region_id, "ID", r->line, &r->region, err)) {
            return false;
        }
        if (!(topo->regions[r->region].flags & TOPO_TERMINATES)) {
            return input_fail(err, r->line, "region %llu does not terminate, so it has no range",
                              (unsigned long long)r->region_id);
        }
    }
    return true;
}

bool topo_link(TopoFile *topo, InputError *err)
{
    if (!topo_index(topo, err)) {
        return false;
    }
    for (size_t i = 0; i < topo->n_regions; i++) {
        TopoRegion *r = &topo->regions[i];

        if (!find(topo, r->container_id, "CONTAINER", r->line, &r->container, err) ||
            !find(topo, r->alias_id, "ALIAS", r->line, &r->alias, err) ||
            !link_container(topo, (uint32_t)i, i ? (uint32_t)i - 1 : TOPO_NONE, err)) {
            return false;
        }
    }
    for (size_t i = 0; i < topo->n_coalesced; i++) {
        TopoCoalesced *c = &topo->coalesced[i];

        if (!find(topo, c->region_id, "ID", c->line, &c->region, err)) {
            return false;
        }
    }
    for (size_t i = 0; i < topo->n_spaces; i++) {
        TopoSpace *s = &topo->spaces[i];

        if (!find(topo, s->root_id, "ROOT", s->line, &s->root, err)) {
            return false;
        }
        if (s->view != TOPO_NONE && s->view >= topo->n_views) {
            return input_fail(err, s->line, "VIEW: there is no view %u", s->view);
        }
    }
    for (size_t i = 0; i < topo->n_views; i++) {
        TopoView *v = &topo->views[i];

        if (!find(topo, v->root_id, "ROOT", v->line, &v->root, err)) {
            return false;
        }
    }
    return link_ranges(topo, err) && topo_check_aliases(topo, err);
}
