/* SPDX-License-Identifier: MIT */
/*
 * viewtree.h - the persistent B+tree of ranges.
 *
 * Invariant of a published tree: never written again (R2); ranges disjoint, ascending, maximal (no two neighbours join);
 * all leaves at one depth; nodes hold VIEW_NODE_MIN to VIEW_NODE_MAX entries, except the root and the nodes on the
 * leftmost and the rightmost path, which may hold fewer, but never none.
 *
 * Separators: the children of a node divide its addresses among themselves, and no range straddles a division. Child i
 * owns (before[i], before[i + 1]]; the first child begins where the node begins, the last ends where it ends. So a
 * division may lie anywhere in the gap between two ranges: removing ranges never moves one, and a range that is added
 * across one moves just that one.
 *
 * A ViewEdit owns the nodes born in it (node->retire.birth == edit->gen) and may change only those; it copies any other
 * node before changing it and remembers the original as replaced. So a new version shares all but the changed paths.
 *
 * The first line of a node belongs to the writer (its RetireHead); readers never look at it.
 */
#ifndef FLATVIEW_VIEW_VIEWTREE_H
#define FLATVIEW_VIEW_VIEWTREE_H

#include "base/range.h"
#include "base/retire.h"
#include "view/flat_range.h"

#define VIEW_NODE_MAX 16
#define VIEW_NODE_MIN 4
#define VIEW_MAX_HEIGHT 16 /* 14 * VIEW_NODE_MIN^14 ranges before a root of that height can split: never */

typedef struct ViewNode {
    RetireHead retire __attribute__((aligned(64))); /* the writer's line */
    union {
        struct {
            uint32_t n;     /* entries; at least 1 */
            uint32_t level; /* 0: a leaf */
        };
        /* before[i], i > 0: the greatest address that is left of entry i: in a leaf, exactly first - 1 of range i.
           UINT64_MAX beyond n, so that counting the keys below an address needs no n and no case for either end of the
           address space. An entry 0 needs no key; n and level stand in its place, on the line that is read anyway. */
        hwaddr before[VIEW_NODE_MAX];
    } __attribute__((aligned(64)));
    /* a leaf is followed by FlatRange[VIEW_NODE_MAX], an inner node by ViewNode *[VIEW_NODE_MAX] */
} ViewNode;

static inline FlatRange *view_leaf_ranges(const ViewNode *node)
{
    return (FlatRange *)(void *)((uint8_t *)(uintptr_t)node + sizeof(ViewNode));
}

static inline ViewNode **view_inner_children(const ViewNode *node)
{
    return (ViewNode **)(void *)((uint8_t *)(uintptr_t)node + sizeof(ViewNode));
}

/* Index of the entry that owns addr: the last one that does not begin after it, else 0. Branch-free. */
static inline unsigned view_node_slot(const ViewNode *node, hwaddr addr)
{
    unsigned i, count = 0;

    for (i = 1; i < VIEW_NODE_MAX; i++) {
        count += node->before[i] < addr;
    }
    return count;
}

/* The range that holds addr, or NULL. root may be NULL (an empty tree). Any thread that may see root. */
static inline const FlatRange *view_find(const ViewNode *root, hwaddr addr)
{
    const ViewNode *node = root;
    const FlatRange *r;

    if (!node) {
        return NULL;
    }
    while (node->level) {
        node = view_inner_children(node)[view_node_slot(node, addr)];
#ifdef FLATVIEW_SABOTAGE
        if (!node) {
            return NULL; /* a view published too early: the checker must live to tell */
        }
#endif
    }
    r = &view_leaf_ranges(node)[view_node_slot(node, addr)];
#ifdef FLATVIEW_SABOTAGE
    if (!node->n || !r->mr) {
        return NULL;
    }
#endif
    return addr - r->first <= r->last - r->first ? r : NULL;
}

/* The first range that ends at or after addr (it may begin after it), or NULL. */
const FlatRange *view_lower(const ViewNode *root, hwaddr addr);

/* In-order walk. The tree must not change meanwhile; the range returned is valid as long as the tree. */
typedef struct ViewIter {
    const ViewNode *node[VIEW_MAX_HEIGHT]; /* by level; [0] is the leaf */
    uint8_t slot[VIEW_MAX_HEIGHT];
    int top; /* level of the root; -1: at the end */
} ViewIter;
const FlatRange *view_iter_first(ViewIter *it, const ViewNode *root, hwaddr addr); /* as view_lower() */
const FlatRange *view_iter_next(ViewIter *it);

/* ---- changing ---- */
typedef struct ViewEdit {
    ViewNode *root;         /* NULL: empty */
    size_t n_ranges;
    uint64_t gen;           /* birth of the nodes made here */
    RetireLine *line;       /* stamped into them */
    RetireHead *replaced;   /* nodes of the base that the new tree no longer uses, linked by retire.next. Only the writer
                               line is touched. */
    uint64_t steps;         /* fills and clears, for the caller's budget */
    hwaddr run_first, run_last; /* ends of the range that was added last: where a run of insertions is */
} ViewEdit;

/* base: a published tree (or NULL) of n_ranges ranges; gen: newer than every node in it. */
void view_edit_begin(ViewEdit *edit, const ViewNode *base, size_t n_ranges, uint64_t gen, RetireLine *line);
/* Take away whatever lies in span; ranges that straddle its ends are cut, which can make one more. Sets last_gen of
   their regions to edit->gen. Returns as fill. */
int view_edit_clear(ViewEdit *edit, AddrRange span);
/* Paint r where nothing is yet: pieces go into the holes of [r->first, r->last], joining their neighbours where
   flat_range_joins(). 0, -ENOMEM, -E2BIG beyond MEMORY_VIEW_MAX_RANGES; on error the edit must be aborted. */
int view_edit_fill(ViewEdit *edit, const FlatRange *r);
/* Free what the edit made; forget what it replaced. The base is as before. */
void view_edit_abort(ViewEdit *edit);
/* Retire the replaced nodes with this death, after the new root was published. */
void view_edit_retire(ViewEdit *edit, uint64_t death);
/* Retire a whole tree: for a line that ends. */
void view_tree_retire(ViewNode *root, uint64_t death);

void view_tree_check(const ViewNode *root, size_t n_ranges); /* tests: the invariants; aborts with a message */
size_t view_tree_bytes(const ViewNode *root);

#endif
