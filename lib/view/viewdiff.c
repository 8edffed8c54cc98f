/* SPDX-License-Identifier: MIT */
/*
 * viewdiff.c - two trees walked side by side.
 *
 * Invariant: both cursors stand before everything that was not yet compared, and nothing that begins below the lower of
 * the two positions is left on either side. A cursor stands before a range or before a whole subtree; when both stand
 * before the same node it is skipped, whatever its size: it was published once and never written again (R2), so it shows
 * the same in both trees.
 * Relied on by: listeners' deltas, flatview_diff().
 *
 * Cost: versions share what no edit between them touched. A cursor enters a subtree only if the other one does not stand
 * before it, so both enter only what differs and the paths to it; after one tree has split or merged a node they may
 * disagree about where a shared subtree hangs, but agree again at the end of the leaf, and one level higher with each
 * node that ends. Hence O(difference * log n).
 */
#include "view/viewdiff.h"

#ifdef FLATVIEW_DEBUG_CHECKS
__thread size_t view_diff_entered;
#define COUNT_ENTERED(expression) ((void)(view_diff_entered expression))
#else
#define COUNT_ENTERED(expression) ((void)0)
#endif

typedef struct Cursor {
    const ViewNode *node[VIEW_MAX_HEIGHT + 1]; /* by level; the cursor stands before entry slot[level] of node[level] */
    unsigned slot[VIEW_MAX_HEIGHT + 1];
    int level, top;        /* top + 1: before the root as a whole; top + 2: at the end */
    hwaddr lo;             /* nothing before the cursor begins earlier; exact for a range */
    const ViewNode *child; /* what the cursor stands before: a subtree, or */
    const FlatRange *range;
} Cursor;

static bool cursor_at_end(const Cursor *c)
{
    return c->level > c->top + 1;
}

static void cursor_begin(Cursor *c, const ViewNode *root)
{
    bool some = root && view_node_is_whole(root);

    c->top = some ? (int)root->level : -1;
    c->level = some ? c->top + 1 : c->top + 2;
    c->child = root;
    c->range = NULL;
    c->lo = 0;
}

static void cursor_next(Cursor *c);

static void cursor_look(Cursor *c)
{
    const ViewNode *node = c->node[c->level];
    unsigned slot = c->slot[c->level];

    if (c->level) {
        c->child = view_inner_children(node)[slot];
        c->range = NULL;
        if (slot) {
            c->lo = view_node_keys(node)[slot] + 1;
        }
        if (!view_node_is_whole(c->child)) {
            cursor_next(c);
        }
    } else {
        c->child = NULL;
        c->range = &view_leaf_ranges(node)[slot];
        c->lo = c->range->first;
    }
}

static unsigned alike_children(ViewNode *const *x, ViewNode *const *y, unsigned most)
{
    unsigned n = 0;

    while (n < most && x[n] == y[n]) {
        n++;
    }
    return n;
}

/* Ranges that were copied with their leaf are equal in every byte: 64 of them are compared faster than seven fields. One that
   is equal by its fields alone is left to the caller, who asks again. */
static unsigned alike_ranges(const FlatRange *x, const FlatRange *y, unsigned most)
{
    typedef long long Lanes __attribute__((vector_size(16), may_alias));
    unsigned n;

    for (n = 0; n < most; n++) {
        const Lanes *a = (const Lanes *)&x[n], *b = (const Lanes *)&y[n];
        Lanes other = (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]);

        if (other[0] | other[1]) {
            break;
        }
    }
    return n;
}

/* Both stand before the same thing. Where their nodes go on alike, which all but a few entries of a copied node do, let both
   stand before the last one that is alike. */
static void skip_alike(Cursor *a, Cursor *b)
{
    const ViewNode *x, *y;
    unsigned i, j, most, n;

    if (a->level > a->top || b->level > b->top) {
        return; /* the roots themselves */
    }
    x = a->node[a->level];
    y = b->node[b->level];
    i = a->slot[a->level] + 1;
    j = b->slot[b->level] + 1;
    most = x->n - i < y->n - j ? x->n - i : y->n - j;
    if (a->level) {
        n = alike_children(view_inner_children(x) + i, view_inner_children(y) + j, most);
    } else {
        n = alike_ranges(view_leaf_ranges(x) + i, view_leaf_ranges(y) + j, most);
    }
    a->slot[a->level] += n;
    b->slot[b->level] += n;
}

static void cursor_next(Cursor *c)
{
    for (; c->level <= c->top; c->level++) {
        if (++c->slot[c->level] < c->node[c->level]->n) {
            cursor_look(c);
            return;
        }
    }
    c->level = c->top + 2;
}

/* Into the subtree, past what ends before from. */
static void cursor_enter(Cursor *c, hwaddr from)
{
    const ViewNode *node = c->child;
    unsigned slot = 0;

    if (from > c->lo) {
        slot = node->level ? view_inner_slot(node, from) : view_leaf_slot(node, from);
    }
    COUNT_ENTERED(++);
    c->level = (int)node->level;
    c->node[c->level] = node;
    c->slot[c->level] = slot;
    if (!node->level && view_leaf_ranges(node)[slot].last < from) {
        cursor_next(c);
    } else {
        cursor_look(c);
    }
}

int view_diff_span(const ViewNode *old_root, const ViewNode *new_root, AddrRange span, ViewDiffFn fn, void *arg)
{
    Cursor a, b;
    int ret = 0;

    COUNT_ENTERED(= 0);
    cursor_begin(&a, old_root);
    cursor_begin(&b, new_root);
    for (;;) {
        bool a_left = !cursor_at_end(&a) && a.lo <= span.last, b_left = !cursor_at_end(&b) && b.lo <= span.last;

        if (!a_left && !b_left) {
            return 0;
        }
        if (a_left && b_left &&
            ((a.child && a.child == b.child) || (a.range && b.range && flat_range_equal(a.range, b.range)))) {
            skip_alike(&a, &b);
            cursor_next(&a);
            cursor_next(&b);
        } else if (a.child && a_left && (!b_left || a.lo < b.lo || (a.lo == b.lo && (!b.child || a.level >= b.level)))) {
            cursor_enter(&a, span.first);
        } else if (b.child && b_left && (!a_left || b.lo <= a.lo)) {
            cursor_enter(&b, span.first);
        } else if (a_left && (!b_left || a.lo <= b.lo)) {
            ret = fn(a.range, NULL, arg);
            cursor_next(&a);
        } else {
            ret = fn(NULL, b.range, arg);
            cursor_next(&b);
        }
        if (ret) {
            return ret;
        }
    }
}

int view_diff(const ViewNode *old_root, const ViewNode *new_root, ViewDiffFn fn, void *arg)
{
    return view_diff_span(old_root, new_root, ADDR_RANGE_ALL, fn, arg);
}
