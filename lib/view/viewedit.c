/* SPDX-License-Identifier: MIT */
/*
 * viewedit.c - the next version of a tree: ranges taken away, ranges painted into what is empty.
 *
 * Invariant: between two calls the edited tree satisfies all that viewtree.h says of a published one, and n_ranges counts
 * it. After a call that failed it is still well formed, but what it shows is unspecified: it can only be aborted. The base
 * never changes.
 * Established by: viewpath.c for the shape; here for order, maximality (every range that is added looks at both its
 *                 neighbours, across leaves too) and separators.
 * Relied on by:   the commit, under the topology lock; everything here runs under it.
 *
 * Cost: each node on the way is copied at most once per edit, and changed in place from then on. Nothing is copied until
 * something is found to change: clearing what is empty and painting over what is covered are look-ups.
 */
#include <errno.h>

#include "view/viewnode.h"

#include <flatview/memory_transaction.h>

void view_edit_begin(ViewEdit *edit, const ViewNode *base, size_t n_ranges, uint64_t gen, RetireLine *line)
{
    edit->root = (ViewNode *)(uintptr_t)base; /* not ours to change before it is copied: birth != gen */
    edit->n_ranges = n_ranges;
    edit->gen = gen;
    edit->line = line;
    edit->replaced = NULL;
    edit->steps = 0;
    edit->work = 0;
    edit->run_first = UINT64_MAX;
    edit->run_last = 0;
    path_forget(edit);
}

static int add_range(ViewEdit *edit, unsigned i, const FlatRange *r)
{
    int err;

    if (edit->n_ranges >= MEMORY_VIEW_MAX_RANGES) {
        return -E2BIG;
    }
    err = path_insert(edit, i, r);
    if (!err) {
        edit->n_ranges++;
        edit->run_first = r->first;
        edit->run_last = r->last;
    }
    return err;
}

/* ---- taking away ---- */

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
            return add_range(edit, end, &rest);
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

/* ---- painting ---- */

/* A range of the leaf now ends at last, which another leaf owned: move the division between the two up to it. It
   stands in the lowest node that both are below; on the other side nothing but entries 0 lead there, which have no key. */
static void raise_division(ViewPath *path, hwaddr last)
{
    int level = 0;

    do {
        path->hi[level++] = last;
    } while (path->slot[level] + 1u == path->node[level]->n);
    view_node_keys(path->node[level])[path->slot[level] + 1] = last;
}

/*
 * piece fits between range i - 1 and range i of the leaf. prev and next are the ranges around it, if they may touch it:
 * they may be in other leaves.
 */
static int fill_hole(ViewEdit *edit, unsigned i, const FlatRange *piece, const FlatRange *prev, const FlatRange *next)
{
    ViewPath *path = &edit->path;
    bool joins_prev = prev && flat_range_joins(prev, piece);
    bool joins_next = next && flat_range_joins(piece, next);
    FlatRange *ranges;

    if ((joins_prev && i == 0) || (joins_next && i == path->node[0]->n)) {
        /* rare: take the neighbours out, wherever they are, and put the union in */
        FlatRange whole = joins_prev ? *prev : *piece;
        int err;

        whole.last = joins_next ? next->last : piece->last;
        err = view_edit_clear(edit, (AddrRange){whole.first, whole.last});
        return err ? err : view_edit_fill(edit, &whole);
    }
    if (path_own(edit, 0) < 0) {
        return -ENOMEM;
    }
    if (piece->last > path->hi[0]) {
        raise_division(path, piece->last);
    }
    ranges = view_leaf_ranges(path->node[0]);
    if (joins_prev && joins_next) {
        ranges[i - 1].last = ranges[i].last;
        node_take(path->node[0], i, 1);
        edit->n_ranges--;
        return path_refill(edit, 0);
    }
    if (joins_prev) {
        ranges[i - 1].last = piece->last;
        return 0;
    }
    if (joins_next) {
        hwaddr last = ranges[i].last;

        ranges[i] = *piece;
        ranges[i].last = last;
        if (i) {
            view_node_keys(path->node[0])[i] = piece->first - 1;
        }
        return 0;
    }
    return add_range(edit, i, piece);
}

static int fill_empty_tree(ViewEdit *edit, const FlatRange *r)
{
    edit->root = node_new(edit, 0);
    if (!edit->root) {
        return -ENOMEM;
    }
    path_seek(edit, r->first);
    return add_range(edit, 0, r);
}

int view_edit_fill(ViewEdit *edit, const FlatRange *r)
{
    hwaddr at = r->first;

    edit->steps++;
    while (edit->root) {
        const FlatRange *ranges, *prev, *next;
        FlatRange piece;
        hwaddr lo, hi, last;
        unsigned i, n;
        int err;

        path_seek(edit, at);
        lo = edit->path.lo[0];
        hi = edit->path.hi[0];
        ranges = view_leaf_ranges(edit->path.node[0]);
        n = edit->path.node[0]->n;
        i = leaf_lower(edit->path.node[0], at);
        while (i < n && ranges[i].first <= at) {
            edit->work++;
            if (ranges[i].last >= r->last) {
                return 0;
            }
            at = ranges[i++].last + 1;
        }
        if (at > hi) {
            continue; /* the hole, if any, begins in the next leaf */
        }
        /* neighbours in other leaves matter only if piece can reach them */
        prev = i ? &ranges[i - 1] : at == lo && lo ? view_find(edit->root, lo - 1) : NULL;
        next = i < n ? &ranges[i] : r->last >= hi && hi != UINT64_MAX ? view_lower(edit->root, hi + 1) : NULL;
        last = next && next->first <= r->last ? next->first - 1 : r->last;
        piece = flat_range_cut(r, at, last);
        err = fill_hole(edit, i, &piece, prev, next);
        if (err || last == r->last) {
            return err;
        }
        at = last + 1;
    }
    return fill_empty_tree(edit, r);
}

/* ---- the end of an edit ---- */

static void abort_subtree(ViewEdit *edit, ViewNode *node)
{
    unsigned i;

    if (!node_is_ours(edit, node)) {
        return; /* and nothing below it is */
    }
    for (i = 0; node->level && i < node->n; i++) {
        abort_subtree(edit, view_inner_children(node)[i]);
    }
    node_drop(edit, node);
}

void view_edit_abort(ViewEdit *edit)
{
    if (edit->root) {
        abort_subtree(edit, edit->root);
    }
    edit->root = NULL;
    edit->replaced = NULL;
    edit->n_ranges = 0;
    path_forget(edit);
}

void view_edit_retire(ViewEdit *edit, uint64_t death)
{
    RetireHead *head, *next;

    for (head = edit->replaced; head; head = next) {
        next = head->next;
        head->death = death;
        retire_push(head);
    }
    edit->replaced = NULL;
}

void view_tree_retire(ViewNode *root, uint64_t death)
{
    unsigned i;

    if (!root) {
        return;
    }
    for (i = 0; root->level && i < root->n; i++) {
        view_tree_retire(view_inner_children(root)[i], death);
    }
    root->retire.death = death;
    retire_push(&root->retire);
}
