/* SPDX-License-Identifier: MIT */
/*
 * mtree_emit.c - from lines to the map: what a region must be to have been printed like that.
 *
 * Invariant: the regions come out as topo.h wants them, depth first from each root, siblings topmost first; printed
 * again, siblings of equal offset and priority stand as they stood, because that order is kept.
 */
#include "mtree.h"

#include <stdlib.h>
#include <string.h>

typedef struct Emitter {
    const Mtree *tree;
    TopoFile *topo;
    const MtreeLine **children; /* all lines that have a container, by container, topmost first */
    uint32_t *first_child;      /* by line: where its children begin in children; one more entry than lines */
    uint32_t *region;           /* by line */
    uint32_t *of_section;       /* by section: its region */
    uint32_t *stack;            /* lines */
    InputError *err;
} Emitter;

static int compare_siblings(const void *a, const void *b)
{
    const MtreeLine *x = *(const MtreeLine *const *)a, *y = *(const MtreeLine *const *)b;

    if (x->up != y->up) {
        return x->up < y->up ? -1 : 1;
    }
    if (x->priority != y->priority) {
        return x->priority > y->priority ? -1 : 1;
    }
    if (x->offset != y->offset) {
        return x->offset > y->offset ? -1 : 1;
    }
    if (x->place != y->place) {
        return x->place < y->place ? -1 : 1;
    }
    return x < y ? -1 : x > y; /* made-up ones, in the order of their sections */
}

static void sort_children(Emitter *e)
{
    size_t n = 0, at = 0;

    for (size_t i = 0; i < e->tree->n_lines; i++) {
        if (e->tree->lines[i].up != TOPO_NONE) {
            e->children[n++] = &e->tree->lines[i];
        }
    }
    qsort(e->children, n, sizeof(*e->children), compare_siblings);
    for (size_t i = 0; i <= e->tree->n_lines; i++) {
        while (at < n && e->children[at]->up < i) {
            at++;
        }
        e->first_child[i] = (uint32_t)at;
    }
}

static uint16_t kind_flags(uint8_t kind, bool contains)
{
    switch (kind) {
    case MTREE_RAM:
        return TOPO_TERMINATES | TOPO_RAM | TOPO_BLOCK;
    case MTREE_ROM:
        return TOPO_TERMINATES | TOPO_RAM | TOPO_BLOCK | TOPO_READONLY;
    case MTREE_ROMD:
        return TOPO_TERMINATES | TOPO_ROM_DEVICE | TOPO_BLOCK;
    case MTREE_RAMD:
        return TOPO_TERMINATES | TOPO_RAM | TOPO_RAM_DEVICE | TOPO_BLOCK;
    default:
        return contains ? 0 : TOPO_TERMINATES;
    }
}

static TopoRegion *add_region(Emitter *e, uint32_t line)
{
    TopoRegion *r = topo_add_region(e->topo);

    if (!r) {
        input_no_memory(e->err, line);
        return NULL;
    }
    r->id = e->topo->n_regions;
    r->line = line;
    r->flags = TOPO_ROMD;
    return r;
}

static bool emit_line(Emitter *e, uint32_t index, uint32_t container, bool is_space_root)
{
    const MtreeLine *l = &e->tree->lines[index];
    bool contains = l->hidden || l->size == UINT64_MAX ||
                    (!is_space_root && e->first_child[index] != e->first_child[index + 1]);
    TopoRegion *r = add_region(e, l->line);

    if (!r) {
        return false;
    }
    e->region[index] = (uint32_t)(e->topo->n_regions - 1);
    r->name = l->name;
    r->offset = l->offset;
    r->size = l->size;
    r->priority = l->priority;
    r->alias_offset = l->alias ? l->alias_offset : 0;
    r->flags |= (uint16_t)((l->enabled ? TOPO_ENABLED : 0) | (l->nonvolatile ? TOPO_NONVOLATILE : 0) |
                           (l->alias ? 0 : kind_flags(l->kind, contains)));
    r->container = l->up == TOPO_NONE ? container : e->region[l->up];
    if (r->container != TOPO_NONE) {
        r->container_id = e->topo->regions[r->container].id;
        topo_adopt(e->topo, e->region[index]);
    }
    return true;
}

static bool emit_tree(Emitter *e, uint32_t root, bool is_space)
{
    uint32_t around = TOPO_NONE;
    size_t depth = 0;

    /* A priority is had among siblings, so it stands in something; nothing shows that, so it is not printed. */
    if (e->tree->lines[root].priority) {
        TopoRegion *r = add_region(e, e->tree->lines[root].line);

        if (!r) {
            return false;
        }
        r->name = "";
        r->size = UINT64_MAX;
        r->flags |= TOPO_ENABLED;
        around = (uint32_t)(e->topo->n_regions - 1);
    }
    e->stack[depth++] = root;
    while (depth > 0) {
        uint32_t line = e->stack[--depth];

        if (!emit_line(e, line, line == root ? around : TOPO_NONE, is_space && line == root)) {
            return false;
        }
        for (uint32_t i = e->first_child[line + 1]; i > e->first_child[line]; i--) {
            e->stack[depth++] = (uint32_t)(e->children[i - 1] - e->tree->lines);
        }
    }
    return true;
}

/* A root of which nothing was printed: disabled, and what its aliases take it for, as large as they need. */
static bool emit_unprinted(Emitter *e, const MtreeTree *t)
{
    TopoRegion *r = add_region(e, t->line);

    if (r) {
        r->name = t->name;
        r->size = t->reach ? t->reach : UINT64_MAX;
        r->flags |= t->reach ? kind_flags(t->kind, t->reach == UINT64_MAX) : 0;
    }
    return r;
}

static bool emit_spaces(Emitter *e)
{
    const Mtree *t = e->tree;

    for (size_t i = 0; i < t->n_spaces; i++) {
        const MtreeSpace *s = &t->spaces[i];
        bool first = i == 0 || t->spaces[i - 1].group != s->group;
        uint32_t root = t->groups[s->group].root;
        TopoSpace *space;

        if (first && !(root == TOPO_NONE ? emit_unprinted(e, &t->groups[s->group]) : emit_tree(e, root, true))) {
            return false;
        }
        space = topo_add_space(e->topo, s->line, e->err);
        if (!space) {
            return false;
        }
        space->name = s->name;
        space->root = !first ? space[-1].root
                      : root == TOPO_NONE ? (uint32_t)(e->topo->n_regions - 1) : e->region[root];
    }
    return true;
}

/* The sections that repeat nothing; then where those that do are found. */
static bool emit_sections(Emitter *e, const uint32_t *section_of)
{
    const Mtree *t = e->tree;

    for (uint32_t i = 0; i < t->n_sections; i++) {
        const MtreeTree *s = &t->sections[i];

        if (s->twin != TOPO_NONE) {
            continue;
        }
        if (!(s->root == TOPO_NONE ? emit_unprinted(e, s) : emit_tree(e, s->root, false))) {
            return false;
        }
        e->of_section[i] = s->root == TOPO_NONE ? (uint32_t)(e->topo->n_regions - 1) : e->region[s->root];
        if (s->root != TOPO_NONE && t->lines[s->root].hidden) {
            e->topo->regions[e->of_section[i]].name = s->name;
        }
    }
    for (uint32_t i = 0; i < t->n_sections; i++) {
        uint32_t line = t->sections[i].twin;

        while (line != TOPO_NONE) {
            uint32_t root = t->lines[line].root, section = section_of[root];

            if (section == TOPO_NONE || t->sections[section].twin == TOPO_NONE) {
                e->of_section[i] = e->region[line];
                break;
            }
            line = t->sections[section].twin + (line - root);
        }
    }
    return true;
}

static void link_aliases(Emitter *e)
{
    for (size_t i = 0; i < e->tree->n_lines; i++) {
        const MtreeLine *l = &e->tree->lines[i];

        if (l->alias && e->region[i] != TOPO_NONE) {
            TopoRegion *r = &e->topo->regions[e->region[i]];

            r->alias = e->of_section[l->target];
            r->alias_id = e->topo->regions[r->alias].id;
        }
    }
}

static uint32_t *nones(size_t n)
{
    uint32_t *array = malloc(n * sizeof(*array));

    if (array) {
        memset(array, 0xff, n * sizeof(*array));
    }
    return array;
}

bool mtree_emit(const Mtree *tree, TopoFile *topo, InputError *err)
{
    size_t n = tree->n_lines + 2;
    Emitter e = {
        .tree = tree, .topo = topo, .err = err,
        .children = calloc(n, sizeof(*e.children)),
        .first_child = nones(n), .region = nones(n), .stack = nones(n), .of_section = nones(tree->n_sections + 1),
    };
    uint32_t *section_of = nones(n);
    bool ok = (e.children && e.first_child && e.region && e.stack && e.of_section && section_of) ||
              input_no_memory(err, 0);

    if (ok) {
        for (uint32_t i = 0; i < tree->n_sections; i++) {
            if (tree->sections[i].root != TOPO_NONE) {
                section_of[tree->sections[i].root] = i;
            }
        }
        sort_children(&e);
        ok = emit_spaces(&e) && emit_sections(&e, section_of);
    }
    if (ok) {
        link_aliases(&e);
    }
    free(e.children);
    free(e.first_child);
    free(e.region);
    free(e.stack);
    free(e.of_section);
    free(section_of);
    return ok;
}
