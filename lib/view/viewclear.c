/* SPDX-License-Identifier: MIT */
/*
 * viewclear.c - the next version of a tree: ranges taken away.
 *
 * Invariant: as viewedit.c's. What is taken away is known to its region: last_gen is the edit's generation from then on.
 * Established by: clear_in_leaf(), node_drop_subtree(), view_edit_fill() where it writes over a range.
 * Relied on by:   memory_region_destroy(): a region waits for the readers of the last view that showed it.
 */
#include <errno.h>

#include "view/viewnode.h"

/* Remove node[level] and the count - 1 nodes after it from their parent. */
static int clear_nodes(ViewEdit *edit, int level, unsigned count)
{
    ViewPath *path = &edit->path;
    ViewNode *parent;
    unsigned slot, i;

    /* no node is left without entries */
    while (level < path->top && path->node[level + 1]->n == count) {
        level++;
        count = 1;
    }
    if (level == path->top) {
        node_drop_subtree(edit, edit->root);
        edit->root = NULL;
        edit->n_ranges = 0;
        path_forget(edit);
        return 0;
    }
    if (path_own(edit, level + 1) < 0) {
        return -ENOMEM;
    }
    parent = path->node[level + 1];
    slot = path->slot[level + 1];
    for (i = 0; i < count; i++) {
        edit->n_ranges -= node_drop_subtree(edit, view_inner_children(parent)[slot + i]);
    }
    node_take(parent, slot, count);
    return path_refill(edit, level + 1);
}

/* The leaf of the path lies in span with all it owns: find the largest subtree around it of which that is true, and as many
   of those that follow it. Sets *ret_hi to the last address that they own. */
static int clear_whole(ViewEdit *edit, AddrRange span, hwaddr *ret_hi)
{
    const ViewPath *path = &edit->path;
    int level = 0;
    unsigned count = 1;

    while (level < path->top && path->lo[level + 1] >= span.first && path->hi[level + 1] <= span.last) {
        level++;
    }
    *ret_hi = path->hi[level];
    if (level < path->top) {
        const ViewNode *parent = path->node[level + 1];
        unsigned slot = path->slot[level + 1];

        while (slot + count < parent->n) {
            hwaddr hi = slot + count + 1 < parent->n ? view_node_keys(parent)[slot + count + 1] : path->hi[level + 1];

            if (hi > span.last) {
                break;
            }
            *ret_hi = hi;
            count++;
        }
    }
    return clear_nodes(edit, level, count);
}

/* Range i of the leaf is the first that reaches into span. */
static int clear_in_leaf(ViewEdit *edit, unsigned i, AddrRange span)
{
    ViewPath *path = &edit->path;
    FlatRange *ranges = view_leaf_ranges(path->node[0]);
    unsigned n = path->node[0]->n, end = i, from, count;
    bool head, tail; /* something is left of the first, of the last */
    FlatRange rest;

    while (end < n && ranges[end].first <= span.last) {
        end++;
    }
    for (from = i; from < end; from++) {
        ranges[from].mr->last_gen = edit->gen;
    }
    head = ranges[i].first < span.first;
    tail = ranges[end - 1].last > span.last;
    from = i + head;
    count = end - i >= (unsigned)head + tail ? end - i - head - tail : 0;
    if (count == n) {
        return clear_nodes(edit, 0, 1);
    }
    if (tail) {
        rest = flat_range_cut(&ranges[end - 1], span.last + 1, ranges[end - 1].last);
    }
    if (path_own(edit, 0) < 0) {
        return -ENOMEM;
    }
    ranges = view_leaf_ranges(path->node[0]);
    if (head) {
        ranges[i].last = span.first - 1;
    }
    if (tail) {
        if (head && end - i == 1) {
            return edit_add_range(edit, end, &rest);
        }
        ranges[end - 1] = rest;
        if (end - 1 > 0) {
            view_node_keys(path->node[0])[end - 1] = span.last;
        }
    }
    if (!count) {
        return 0;
    }
    node_take(path->node[0], from, count);
    edit->n_ranges -= count;
    return path_refill(edit, 0);
}

int view_edit_clear(ViewEdit *edit, AddrRange span)
{
    hwaddr at = span.first;

    edit->steps++;
    while (edit->root) {
        ViewNode *leaf;
        unsigned i;
        hwaddr hi;
        int err;

        path_seek(edit, at);
        leaf = edit->path.node[0];
        hi = edit->path.hi[0];
        i = leaf_lower(leaf, at);
        if (i < leaf->n) {
            if (view_leaf_ranges(leaf)[i].first > span.last) {
                return 0;
            }
            if (edit->path.lo[0] >= span.first && hi <= span.last) {
                err = clear_whole(edit, span, &hi);
            } else {
                err = clear_in_leaf(edit, i, span);
            }
            if (err) {
                return err;
            }
        }
        if (hi >= span.last) {
            return 0;
        }
        at = hi + 1;
    }
    return 0;
}

bool view_edit_is_hole(ViewEdit *edit, AddrRange span)
{
    const FlatRange *next;
    const ViewNode *leaf;
    unsigned i;
    hwaddr hi;

    if (!edit->root) {
        return true;
    }
    path_seek(edit, span.first);
    leaf = edit->path.node[0];
    hi = edit->path.hi[0];
    i = leaf_lower(leaf, span.first);
    next = i < leaf->n ? &view_leaf_ranges(leaf)[i] : span.last > hi ? view_lower(edit->root, hi + 1) : NULL;
    return !next || next->first > span.last;
}
