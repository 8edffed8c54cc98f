/* SPDX-License-Identifier: MIT */
/*
 * mtree_twin.c - which regions were printed more than once.
 *
 * A target that also stands in a tree is printed there and in its own section, with all its contents. It is one region,
 * and views merge its pieces only if the map knows.
 *
 * Invariant: two sections never end up as one region, or the map would print one section too few.
 */
#include "mtree.h"

#include <stdlib.h>
#include <string.h>

#define MAX_NAMESAKES 64 /* looked at: see mtree_bind.c */

typedef struct TwinKey {
    const MtreeLine *line;
    uint32_t index;
} TwinKey;

typedef struct Twins {
    Mtree *tree;
    TwinKey *keys; /* possible twins, sorted */
    size_t n_keys;
    uint32_t *section_of; /* by line, if it is the root of a section */
    bool *claimed;        /* by line: it is what a section shows */
    bool *extended;       /* by line, if it is a root: something was made up inside, which no twin has */
} Twins;

/* By all that is printed of the line itself. */
static int compare_twins(const void *a, const void *b)
{
    const MtreeLine *x = ((const TwinKey *)a)->line, *y = ((const TwinKey *)b)->line;

#define BY(field) \
    if (x->field != y->field) { \
        return x->field < y->field ? -1 : 1; \
    }
    BY(size)
    BY(offset)
    BY(priority)
    BY(kind)
    BY(enabled)
    BY(nonvolatile)
    BY(hidden)
    BY(alias)
    BY(alias_offset)
#undef BY
    return strcmp(x->name, y->name);
}

static bool same_subtree(const Mtree *t, uint32_t a, uint32_t b)
{
    if (t->lines[a].end - a != t->lines[b].end - b) {
        return false;
    }
    for (uint32_t i = 0; i < t->lines[a].end - a; i++) {
        TwinKey x = { &t->lines[a + i], 0 }, y = { &t->lines[b + i], 0 };

        if (x.line->level - t->lines[a].level != y.line->level - t->lines[b].level || compare_twins(&x, &y) != 0 ||
            x.line->target != y.line->target) {
            return false;
        }
    }
    return true;
}

/* Is the line printed in a section that is printed elsewhere as well, and so will not be in the map? */
static bool discarded(const Twins *w, uint32_t line)
{
    uint32_t section = w->section_of[w->tree->lines[line].root];

    return section != TOPO_NONE && w->tree->sections[section].twin != TOPO_NONE;
}

/* Give up the section for its twin; what other sections had found inside it is found there from now on. */
static bool claim(Twins *w, uint32_t section, uint32_t twin)
{
    uint32_t root = w->tree->sections[section].root, n = w->tree->lines[root].end - root;

    if (w->claimed[twin]) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (w->claimed[root + i] && w->claimed[twin + i]) {
            return false;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        w->claimed[twin + i] |= w->claimed[root + i];
    }
    w->claimed[twin] = true;
    w->tree->sections[section].twin = twin;
    return true;
}

/* The only line elsewhere that looks like the section all the way down. */
static bool find_twin(Twins *w, uint32_t section)
{
    const Mtree *t = w->tree;
    uint32_t root = t->sections[section].root, twin = TOPO_NONE;
    TwinKey key = { &t->lines[root], root };
    size_t low = 0, high = w->n_keys;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (compare_twins(&w->keys[mid], &key) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    for (size_t n = 0; low < w->n_keys && compare_twins(&w->keys[low], &key) == 0; low++, n++) {
        uint32_t line = w->keys[low].index;

        if (n == MAX_NAMESAKES) {
            return false;
        }
        if (t->lines[line].root == root || discarded(w, line) || !same_subtree(t, root, line)) {
            continue;
        }
        if (twin != TOPO_NONE) {
            return false;
        }
        twin = line;
    }
    return twin != TOPO_NONE && claim(w, section, twin);
}

/* A section inside a section hides a twin behind a copy, so one pass may clear the way for another. */
static void find_all(Twins *w)
{
    bool more = true;

    for (int pass = 0; more && pass < 4; pass++) {
        more = false;
        for (uint32_t i = 0; i < w->tree->n_sections; i++) {
            const MtreeTree *s = &w->tree->sections[i];
            bool open = s->root != TOPO_NONE && s->twin == TOPO_NONE;

            if (open && !w->tree->lines[s->root].hidden && !w->extended[s->root]) {
                more = find_twin(w, i) || more;
            }
        }
    }
}

bool mtree_find_twins(Mtree *tree, InputError *err)
{
    Twins w = { .tree = tree };
    bool ok;

    w.keys = calloc(tree->n_lines + 1, sizeof(*w.keys));
    w.section_of = malloc((tree->n_lines + 1) * sizeof(*w.section_of));
    w.claimed = calloc(tree->n_lines + 1, 1);
    w.extended = calloc(tree->n_lines + 1, 1);
    ok = w.keys && w.section_of && w.claimed && w.extended;
    if (ok) {
        memset(w.section_of, 0xff, (tree->n_lines + 1) * sizeof(*w.section_of));
        for (uint32_t i = 0; i < tree->n_sections; i++) {
            if (tree->sections[i].root != TOPO_NONE) {
                w.section_of[tree->sections[i].root] = i;
            }
        }
        for (uint32_t i = 0; i < tree->n_lines; i++) {
            const MtreeLine *l = &tree->lines[i];

            if (!l->end) { /* made up by mtree_bind.c */
                w.extended[l->root] = true;
            } else if (w.section_of[i] == TOPO_NONE && !l->hidden && !l->alias) {
                w.keys[w.n_keys++] = (TwinKey){ l, i };
            }
        }
        qsort(w.keys, w.n_keys, sizeof(*w.keys), compare_twins);
        find_all(&w);
    }
    free(w.keys);
    free(w.section_of);
    free(w.claimed);
    free(w.extended);
    return ok || input_no_memory(err, 0);
}
