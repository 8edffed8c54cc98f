/* SPDX-License-Identifier: MIT */
/*
 * mtree_bind.c - which section an alias means.
 *
 * QEMU prints a section for each distinct target, in the order in which it first meets them, depth first; so, read in
 * that order, an alias means a section that was introduced before it, or the next one. Where several fit by name and
 * type, the window decides by its size; then the next one, then the latest.
 *
 * Invariant: the map prints its sections in the order of the text. For that, a section that no printed alias introduces
 * in its turn (the alias is disabled) gets a disabled alias of no size in the right place.
 */
#include "mtree.h"

#include <stdlib.h>
#include <string.h>

/* Look at no more than this many namesakes: time is bounded, and a real map has a few dozen. */
#define MAX_NAMESAKES 64
#define MAX_SPLITS 16

/* ---- binding ---- */

typedef struct NameKey {
    const char *name;
    uint32_t index;
} NameKey;

static int compare_names(const void *a, const void *b)
{
    const NameKey *x = a, *y = b;
    int order = strcmp(x->name, y->name);

    return order ? order : (x->index < y->index ? -1 : x->index > y->index);
}

/* The first key that is not below (name, index). */
static size_t lower_bound(const NameKey *keys, size_t n, const char *name, uint32_t index)
{
    size_t low = 0, high = n;
    NameKey key = { name, index };

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (compare_names(&keys[mid], &key) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

typedef struct Binder {
    Mtree *tree;
    NameKey *names; /* of sections, sorted */
    uint32_t next;  /* sections before it have been introduced */
    InputError *err;
} Binder;

static bool fits(const Mtree *t, const MtreeLine *alias, const MtreeTree *section)
{
    const MtreeLine *root = section->root == TOPO_NONE ? NULL : &t->lines[section->root];

    return !root || root->hidden || root->kind == alias->kind;
}

/* How well they go together: best is a window of the whole target, worst one beyond it; and a window of the tree that
   the alias stands in, which exists, is less likely than one of another. */
static int affinity(const Mtree *t, const MtreeLine *alias, const MtreeTree *section)
{
    uint64_t size = section->root == TOPO_NONE ? UINT64_MAX : t->lines[section->root].size;
    int elsewhere = alias->root != section->root;

    if (alias->size == size && alias->alias_offset == 0) {
        return 4 + elsewhere;
    }
    return 2 * (alias->size <= size && alias->alias_offset <= size - alias->size) + elsewhere;
}

/* The section that @alias means if its target is called @name; TOPO_NONE if none fits. */
static uint32_t choose(const Binder *b, const MtreeLine *alias, const char *name)
{
    const Mtree *t = b->tree;
    size_t i = lower_bound(b->names, t->n_sections, name, b->next);
    size_t first = lower_bound(b->names, t->n_sections, name, 0);
    uint32_t best = TOPO_NONE;
    int best_affinity = -1;

    /* The next one comes first: it has to be introduced by somebody, and here is an alias that may. */
    if (i < t->n_sections && strcmp(b->names[i].name, name) == 0 && fits(t, alias, &t->sections[b->names[i].index]) &&
        (b->names[i].index == b->next || i == first)) {
        best = b->names[i].index;
        best_affinity = affinity(t, alias, &t->sections[best]);
    }
    for (size_t n = 0; i > first && n < MAX_NAMESAKES; n++) {
        uint32_t candidate = b->names[--i].index;

        if (fits(t, alias, &t->sections[candidate]) && affinity(t, alias, &t->sections[candidate]) > best_affinity) {
            best = candidate;
            best_affinity = affinity(t, alias, &t->sections[candidate]);
        }
    }
    return best;
}

/* Split `NAME @TARGET`. Both may hold ` @`; the last split that makes sense is taken. */
static bool bind_alias(Binder *b, MtreeLine *alias)
{
    char *text = alias->text, *at = text + strlen(text);
    const char *last = NULL;
    int splits = 0;

    while (at > text && splits < MAX_SPLITS) {
        at--;
        if (at[0] != ' ' || at[1] != '@') {
            continue;
        }
        splits++;
        last = last ? last : at + 2;
        alias->target = choose(b, alias, at + 2);
        if (alias->target != TOPO_NONE) {
            *at = '\0';
            return true;
        }
    }
    return input_fail(b->err, alias->line, "alias target '%.80s': no section of that name and type",
                      last ? last : text);
}

/* ---- sections out of turn ---- */

/* An alias to introduce @section, as the last thing in @root. It is not a line of the text, so it stands after all. */
static bool introduce_at_end(Binder *b, uint32_t root, uint32_t section)
{
    MtreeLine *l;

    if (root == TOPO_NONE || b->tree->lines[root].alias) {
        return input_fail(b->err, b->tree->sections[section].line, "a section that no alias can have introduced");
    }
    l = mtree_add_line(b->tree);
    if (!l) {
        return input_no_memory(b->err, 0);
    }
    l->up = root;
    l->root = root;
    l->target = section;
    l->alias = true;
    l->priority = INT32_MIN;
    l->line = b->tree->sections[section].line;
    l->place = UINT64_MAX;
    /* Behind whatever is last; what was printed sorts before it by priority. */
    l->offset = b->tree->lines[root].last_child == TOPO_NONE ? 0
                                                             : b->tree->lines[b->tree->lines[root].last_child].offset;
    return true;
}

/* The same directly before the alias at @before, which introduces what comes next. */
static bool introduce_before(Binder *b, uint32_t before, uint32_t section)
{
    MtreeLine *l = mtree_add_line(b->tree);

    if (!l) {
        return input_no_memory(b->err, 0);
    }
    *l = b->tree->lines[before];
    l->name = "";
    l->size = 0;
    l->alias_offset = 0;
    l->enabled = false;
    l->place--;
    l->end = 0;
    l->target = section;
    return true;
}

/* All aliases of one tree, in the order of printing. @before is the tree printed before it. */
static bool bind_tree(Binder *b, uint32_t root, uint32_t before)
{
    if (root == TOPO_NONE) {
        return true;
    }
    for (uint32_t i = root, end = b->tree->lines[root].end; i < end; i++) {
        uint32_t target;

        if (!b->tree->lines[i].alias) {
            continue;
        }
        if (!bind_alias(b, &b->tree->lines[i])) {
            return false;
        }
        target = b->tree->lines[i].target;
        while (b->next < target) {
            if (!(i == root ? introduce_at_end(b, before, b->next) : introduce_before(b, i, b->next))) {
                return false;
            }
            b->next++;
        }
        b->next += b->next == target;
    }
    return true;
}

/* What the printed aliases, @n_lines of lines, tell about their targets. */
static void note_reach(Mtree *t, size_t n_lines)
{
    for (size_t i = 0; i < n_lines; i++) {
        const MtreeLine *l = &t->lines[i];
        uint64_t reach = l->size > UINT64_MAX - l->alias_offset ? UINT64_MAX : l->alias_offset + l->size;

        if (l->alias) {
            MtreeTree *s = &t->sections[l->target];

            s->reach = s->reach > reach ? s->reach : reach;
            s->kind = l->kind;
        }
    }
}

static bool bind_all(Binder *b)
{
    Mtree *t = b->tree;
    uint32_t before = TOPO_NONE;

    for (size_t i = 0; i < t->n_groups; i++) {
        if (!bind_tree(b, t->groups[i].root, before)) {
            return false;
        }
        before = t->groups[i].root == TOPO_NONE ? before : t->groups[i].root;
    }
    for (uint32_t i = 0; i < t->n_sections; i++) {
        while (b->next <= i) {
            if (!introduce_at_end(b, before, b->next++)) {
                return false;
            }
        }
        if (!bind_tree(b, t->sections[i].root, before)) {
            return false;
        }
        before = t->sections[i].root == TOPO_NONE ? before : t->sections[i].root;
    }
    return true;
}

bool mtree_bind(Mtree *tree, InputError *err)
{
    Binder b = { .tree = tree, .err = err };
    size_t n_lines = tree->n_lines;
    bool ok;

    b.names = calloc(tree->n_sections + 1, sizeof(*b.names));
    if (!b.names) {
        return input_no_memory(err, 0);
    }
    for (uint32_t i = 0; i < tree->n_sections; i++) {
        b.names[i] = (NameKey){ tree->sections[i].name, i };
    }
    qsort(b.names, tree->n_sections, sizeof(*b.names), compare_names);
    ok = bind_all(&b);
    free(b.names);
    if (ok) {
        note_reach(tree, n_lines);
    }
    return ok;
}
