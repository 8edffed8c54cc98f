/* SPDX-License-Identifier: MIT */
/*
 * viewedit.c - the next version of a tree: ranges painted into what is empty.
 *
 * Invariant: between two calls the edited tree satisfies all that viewtree.h says of a published one, and n_ranges counts
 * it. After a call that failed it is still well formed, but what it shows is unspecified: it can only be aborted. The base
 * never changes.
 * Established by: viewpath.c for the shape; here and in viewclear.c for order, maximality (every range that is added looks
 *                 at both its neighbours, across leaves too) and separators.
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
    edit->owes_clear = false;
    path_forget(edit);
}

int edit_add_range(ViewEdit *edit, unsigned i, const FlatRange *r)
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
    return edit_add_range(edit, i, piece);
}

static int fill_empty_tree(ViewEdit *edit, const FlatRange *r)
{
    edit->root = node_new(edit, 0);
    if (!edit->root) {
        return -ENOMEM;
    }
    path_seek(edit, r->first);
    return edit_add_range(edit, 0, r);
}

void view_edit_clear_later(ViewEdit *edit, AddrRange span)
{
    edit->owes_clear = true;
    edit->owed = span;
}

int view_edit_settle(ViewEdit *edit)
{
    if (!edit->owes_clear) {
        return 0;
    }
    edit->owes_clear = false;
    return view_edit_clear(edit, edit->owed);
}

/* Is range i of the leaf alone in what is owed, and whole, and does r, which comes there, join neither of its neighbours? */
static bool fits_over(const ViewEdit *edit, unsigned i, const FlatRange *r)
{
    const ViewPath *path = &edit->path;
    const FlatRange *ranges = view_leaf_ranges(path->node[0]), *prev = NULL, *next = NULL;
    unsigned n = path->node[0]->n;
    AddrRange owed = edit->owed;

    if (i == n || ranges[i].first < owed.first || ranges[i].last > owed.last || owed.last > path->hi[0]) {
        return false;
    }
    if (i) {
        prev = &ranges[i - 1];
    } else if (r->first == path->lo[0] && r->first) {
        prev = view_find(edit->root, r->first - 1);
    }
    if (i + 1 < n) {
        next = &ranges[i + 1];
    } else if (r->last == path->hi[0] && r->last != UINT64_MAX) {
        next = view_lower(edit->root, r->last + 1);
    }
    return !(prev && flat_range_joins(prev, r)) && !(next && (next->first <= owed.last || flat_range_joins(r, next)));
}

/*
 * r is the first that is painted where something is owed to be cleared. If that is one range, r is written over it: what most
 * changes of a machine's map come to. Returns whether it was, or failed to be; in any case nothing is owed any more.
 */
static bool write_over(ViewEdit *edit, const FlatRange *r, int *ret_err)
{
    ViewPath *path = &edit->path;
    const ViewNode *leaf;
    unsigned i;

    edit->owes_clear = false;
    *ret_err = 0;
    if (!edit->root) {
        return false;
    }
    path_seek(edit, edit->owed.first);
    leaf = path->node[0];
    i = leaf_lower(leaf, edit->owed.first);
    if (i == leaf->n ? edit->owed.last <= path->hi[0] : view_leaf_ranges(leaf)[i].first > edit->owed.last) {
        return false; /* nothing is there */
    }
    if (!fits_over(edit, i, r)) {
        *ret_err = view_edit_clear(edit, edit->owed);
        return *ret_err < 0;
    }
    edit->steps++;
    view_leaf_ranges(leaf)[i].mr->last_gen = edit->gen;
    *ret_err = path_own(edit, 0);
    if (*ret_err == 0) {
        view_leaf_ranges(path->node[0])[i] = *r;
        if (i) {
            view_node_keys(path->node[0])[i] = r->first - 1;
        }
        edit->run_first = r->first;
        edit->run_last = r->last;
    }
    return true;
}

int view_edit_fill(ViewEdit *edit, const FlatRange *r)
{
    hwaddr at = r->first;
    int settled;

    if (edit->owes_clear && write_over(edit, r, &settled)) {
        return settled;
    }
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
    edit->owes_clear = false;
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
