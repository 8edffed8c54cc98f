/* SPDX-License-Identifier: MIT */
/*
 * viewpath.c - the path from the root to where an edit changes something.
 *
 * Invariant: after every function here, whether it succeeded or not, the tree under edit->root is well formed and shows
 * the same ranges plus or minus the ones that the function is about. Each node that the edit made is either reachable
 * from edit->root through nodes that the edit made, or freed; each node of the base is either reachable or on
 * edit->replaced, exactly once. So view_edit_abort() needs no list, and an allocation may fail anywhere.
 * Established by: allocating before linking, and linking a copy in the same step in which the original is remembered.
 * Relied on by:   view_edit_abort(), view_edit_retire().
 *
 * The path itself is a cache: it is true, or forgotten (top < 0). Nodes from level path->ours up are known to be the edit's
 * own.
 */
#include "view/viewnode.h"

#include <assert.h>
#include <errno.h>

void path_seek(ViewEdit *edit, hwaddr addr)
{
    ViewPath *path = &edit->path;
    ViewNode *node;
    hwaddr lo, hi;
    int level = 0;

    if (path->top < 0) {
        level = path->top = (int)edit->root->level;
        path->ours = level + 1;
        path->node[level] = edit->root;
        path->lo[level] = 0;
        path->hi[level] = UINT64_MAX;
    } else {
        while (addr - path->lo[level] > path->hi[level] - path->lo[level]) {
            level++;
        }
        if (path->ours < level) {
            path->ours = level;
        }
    }
    node = path->node[level];
    lo = path->lo[level];
    hi = path->hi[level];
    while (level) {
        unsigned s = node_slot(node, addr);

        path->slot[level] = (uint8_t)s;
        if (s) {
            lo = view_node_keys(node)[s] + 1;
        }
        if (s + 1 < node->n) {
            hi = view_node_keys(node)[s + 1];
        }
        node = view_inner_children(node)[s];
        level--;
        path->node[level] = node;
        path->lo[level] = lo;
        path->hi[level] = hi;
    }
}

int path_own(ViewEdit *edit, int level)
{
    ViewPath *path = &edit->path;
    int l = path->ours;

    while (--l >= level) {
        ViewNode *node = path->node[l], *copy;

        if (!node_is_ours(edit, node)) {
            copy = node_copy(edit, node);
            if (!copy) {
                return -ENOMEM;
            }
            path->node[l] = copy;
            if (l < path->top) {
                view_inner_children(path->node[l + 1])[path->slot[l + 1]] = copy;
            } else {
                edit->root = copy;
            }
            node_replaced(edit, node);
        }
        path->ours = l;
    }
    return 0;
}

/* Where a run of insertions is going. */
enum Run { RUN_NONE, RUN_UP, RUN_DOWN };

static enum Run insert_run(const ViewEdit *edit, const ViewNode *leaf, unsigned i)
{
    const FlatRange *ranges = view_leaf_ranges(leaf);

    if (i && ranges[i - 1].last == edit->run_last) {
        return RUN_UP;
    }
    return i < leaf->n && ranges[i].first == edit->run_first ? RUN_DOWN : RUN_NONE;
}

/*
 * A full node gets one entry more, as number i: how many of them all stay in the left one of two nodes. Half of them in
 * general; but what a run leaves behind gets no more insertions, so it stays as full as it may. At either end of the tree
 * that is entirely, so that a bulk load leaves full nodes and not half-full ones.
 */
static unsigned split_point(const ViewPath *path, int level, unsigned i, enum Run run)
{
    unsigned max = node_max(path->node[level]), min = max / 4;
    unsigned least = path->lo[level] ? min : 1;
    unsigned most = max + 1 - (path->hi[level] != UINT64_MAX ? min : 1);
    unsigned cut = run == RUN_UP ? i : run == RUN_DOWN ? i + 1 : max / 2;

    return cut < least ? least : cut > most ? most : cut;
}

int path_insert(ViewEdit *edit, unsigned i, const FlatRange *r)
{
    ViewPath *path = &edit->path;
    ViewNode *spare[VIEW_MAX_HEIGHT + 1];
    const void *entry = r;
    hwaddr key = r->first - 1;
    enum Run run;
    int level, full = 0;

    if (path_own(edit, 0) < 0) {
        return -ENOMEM;
    }
    if (path->node[0]->n < VIEW_LEAF_MAX) {
        node_put(path->node[0], i, r, key, node_key0(path->node[0], 0));
        return 0;
    }
    run = insert_run(edit, path->node[0], i);
    while (full <= path->top && path->node[full]->n == node_max(path->node[full])) {
        full++;
    }
    assert(full < VIEW_MAX_HEIGHT);
    /* A node for each that will split, and a root if the last of them is the root. */
    for (level = 0; level < full + (full > path->top); level++) {
        spare[level] = node_new(edit, (uint32_t)level);
        if (!spare[level]) {
            while (level) {
                node_drop(edit, spare[--level]);
            }
            return -ENOMEM;
        }
    }
    for (level = 0; level < full; level++) {
        key = node_split(path->node[level], spare[level], i, entry, key, split_point(path, level, i, run));
        entry = &spare[level];
        i = level < path->top ? path->slot[level + 1] + 1 : 1;
    }
    if (full > path->top) {
        node_put(spare[full], 0, &path->node[path->top], 0, 0);
        node_put(spare[full], 1, entry, key, 0);
        edit->root = spare[full];
    } else {
        node_put(path->node[full], i, entry, key, 0); /* never as entry 0: what splits stays, left of its new neighbour */
    }
    path_forget(edit);
    return 0;
}

int path_refill(ViewEdit *edit, int level)
{
    const ViewPath *path = &edit->path;
    bool stale = level > 0;

    for (; level < path->top; level++) {
        ViewNode *node = path->node[level], *parent = path->node[level + 1];

        /* an only child is on the leftmost or rightmost path, where less is allowed; its parent is the next to be asked */
        if (node->n < node_max(node) / 4 && parent->n > 1) {
            if (node_balance(edit, parent, path->slot[level + 1], node) < 0) {
                return -ENOMEM;
            }
            stale = true;
        }
    }
    if (stale) {
        path_forget(edit);
    }
    while (edit->root->level && edit->root->n == 1) {
        ViewNode *old = edit->root;

        edit->root = view_inner_children(old)[0];
        node_drop(edit, old);
        path_forget(edit);
    }
    return 0;
}
