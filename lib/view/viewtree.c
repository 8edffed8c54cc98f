/* SPDX-License-Identifier: MIT */
/*
 * viewtree.c - reading a tree: the first range at or after an address, and the walk from there.
 *
 * Invariant: nothing here writes to a node, so a tree may be read by any number of threads for as long as they can see it.
 * Relied on by: readers in a section or with a pin, the writer on the tree that it is editing.
 */
#include "view/viewtree.h"

#include <stdio.h>
#include <stdlib.h>

const FlatRange *view_iter_first(ViewIter *it, const ViewNode *root, hwaddr addr)
{
    const ViewNode *node = root;
    const FlatRange *r;
    unsigned level;

    it->top = -1;
    if (!node || !view_node_is_whole(node)) {
        return NULL;
    }
    it->top = (int)node->level;
    for (level = node->level; level; level--) {
        it->node[level] = node;
        it->slot[level] = (uint8_t)view_inner_slot(node, addr);
        node = view_inner_children(node)[it->slot[level]];
        if (!view_node_is_whole(node)) {
            it->top = -1;
            return NULL;
        }
    }
    it->node[0] = node;
    it->slot[0] = (uint8_t)view_leaf_slot(node, addr);
    r = &view_leaf_ranges(node)[it->slot[0]];
    /* It begins at or before addr, or it is the first that the leaf has. */
    return r->last >= addr ? r : view_iter_next(it);
}

const FlatRange *view_iter_next(ViewIter *it)
{
    int level = 0;

    if (it->top < 0) {
        return NULL;
    }
    while (++it->slot[level] >= it->node[level]->n) {
        if (++level > it->top) {
            it->top = -1;
            return NULL;
        }
    }
    while (level) {
        const ViewNode *child = view_inner_children(it->node[level])[it->slot[level]];

        if (!view_node_is_whole(child)) {
            it->top = -1;
            return NULL;
        }
        it->node[--level] = child;
        it->slot[level] = 0;
    }
    return &view_leaf_ranges(it->node[0])[it->slot[0]];
}

const FlatRange *view_lower(const ViewNode *root, hwaddr addr)
{
    ViewIter it;

    return view_iter_first(&it, root, addr);
}

size_t view_tree_bytes(const ViewNode *root)
{
    size_t bytes = 0;
    unsigned i;

    if (root) {
        bytes = root->retire.bytes;
        for (i = 0; root->level && i < root->n; i++) {
            bytes += view_tree_bytes(view_inner_children(root)[i]);
        }
    }
    return bytes;
}

/* ---- for tests: every sentence of viewtree.h about the shape ---- */

typedef struct Check {
    const FlatRange *prev;
    size_t n_ranges;
} Check;

static void must(bool holds, const ViewNode *node, const char *what)
{
    if (!holds) {
        fprintf(stderr, "view_tree_check: node %p, level %u, n %u: %s\n", (const void *)node, node->level, node->n, what);
        abort();
    }
}

static void check_leaf(Check *check, const ViewNode *leaf, hwaddr lo, hwaddr hi)
{
    const FlatRange *r = view_leaf_ranges(leaf);
    unsigned i;

    for (i = 0; i < leaf->n; i++, r++) {
        must(r->first <= r->last, leaf, "a range ends before it begins");
        must(r->first >= lo && r->last <= hi, leaf, "a range straddles a division");
        must(!i || view_node_keys(leaf)[i] == r->first - 1, leaf, "a leaf's key is not exact");
        must(!check->prev || check->prev->last < r->first, leaf, "ranges overlap or are not ascending");
        must(!check->prev || !flat_range_joins(check->prev, r), leaf, "two neighbours join");
        check->prev = r;
    }
    check->n_ranges += leaf->n;
}

static void check_node(Check *check, const ViewNode *node, hwaddr lo, hwaddr hi, bool is_root)
{
    const hwaddr *key = view_node_keys(node);
    unsigned max = node->level ? VIEW_INNER_MAX : VIEW_LEAF_MAX, i;

    must(node->n >= 1 && node->n <= max, node, "number of entries");
    must(is_root || lo == 0 || hi == UINT64_MAX || node->n >= max / 4, node, "too few entries");
    must(!is_root || !node->level || node->n > 1, node, "a root with one child");
    must(node->level < VIEW_MAX_HEIGHT, node, "level");
    for (i = node->n; i < max; i++) {
        must(key[i] == UINT64_MAX, node, "a key beyond the last entry");
    }
    if (!node->level) {
        check_leaf(check, node, lo, hi);
        return;
    }
    for (i = 0; i < node->n; i++) {
        const ViewNode *child = view_inner_children(node)[i];
        hwaddr child_lo = i ? key[i] + 1 : lo;
        hwaddr child_hi = i + 1 < node->n ? key[i + 1] : hi;

        must(child_lo >= lo && child_lo <= child_hi && child_hi <= hi, node, "divisions are not ascending");
        must(child->level == node->level - 1, node, "a child of another level");
        must(child->retire.birth <= node->retire.birth, node, "a child younger than its parent");
        check_node(check, child, child_lo, child_hi, false);
    }
}

void view_tree_check(const ViewNode *root, size_t n_ranges)
{
    Check check = {NULL, 0};

    if (root) {
        check_node(&check, root, 0, UINT64_MAX, true);
    }
    if (check.n_ranges != n_ranges) {
        fprintf(stderr, "view_tree_check: %zu ranges, expected %zu\n", check.n_ranges, n_ranges);
        abort();
    }
}
