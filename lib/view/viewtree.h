/* SPDX-License-Identifier: MIT */
/*
 * viewtree.h - the persistent B+tree of ranges.
 *
 * Invariant of a published tree: never written again (R2); ranges disjoint, ascending, maximal (no two neighbours join);
 * all leaves at one depth; nodes at least a quarter full (VIEW_LEAF_MIN, VIEW_INNER_MIN), except the root and those on
 * the leftmost and the rightmost path, which may hold fewer entries, but never none.
 *
 * Separators: the children of a node divide its addresses among themselves, and no range straddles a division. Child i
 * owns (key[i], key[i + 1]]; the first child begins where the node begins, the last ends where it ends. So a
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

/* Measured over 16 to 65,536 ranges, hot and cold: inner nodes of 16 cost a level more from 256 on, of 64 they are slower
   to search where they are half empty, and twice the copy. */
#define VIEW_LEAF_MAX 16
#define VIEW_INNER_MAX 32
#define VIEW_LEAF_MIN (VIEW_LEAF_MAX / 4)
#define VIEW_INNER_MIN (VIEW_INNER_MAX / 4)
#define VIEW_MAX_HEIGHT 10 /* takes 30 * VIEW_INNER_MIN^7 * VIEW_LEAF_MIN ranges, beyond MEMORY_VIEW_MAX_RANGES */

/*
 * A node: the writer's line; VIEW_LEAF_MAX or VIEW_INNER_MAX keys; as many ranges or children.
 *
 * Key i, i > 0, is the greatest address that is left of entry i; in a leaf, exactly first - 1 of range i.
 * UINT64_MAX beyond n, so that counting the keys below an address needs no n and no case for either end of the address
 * space. Entry 0 needs no key: n and level stand in its place, on a line that is read anyway.
 */
typedef struct ViewNode {
    RetireHead retire __attribute__((aligned(64)));
    uint32_t n __attribute__((aligned(64))); /* entries; at least 1 */
    uint32_t level;                          /* 0: a leaf */
} ViewNode;

#define VIEW_KEYS_OFFSET 64
_Static_assert(offsetof(ViewNode, n) == VIEW_KEYS_OFFSET, "n and level are in the place of key 0");

static inline hwaddr *view_node_keys(const ViewNode *node)
{
    return (hwaddr *)(void *)((uint8_t *)(uintptr_t)node + VIEW_KEYS_OFFSET);
}

static inline FlatRange *view_leaf_ranges(const ViewNode *node)
{
    return (FlatRange *)(void *)(view_node_keys(node) + VIEW_LEAF_MAX);
}

static inline ViewNode **view_inner_children(const ViewNode *node)
{
    return (ViewNode **)(void *)(view_node_keys(node) + VIEW_INNER_MAX);
}

/*
 * Index of the entry that owns addr: the last one that does not begin after it, else 0. Branch-free: it counts keys, first
 * every fourth, then the three between. Counting all of them costs more instructions and is no faster even for one
 * look-up alone; halving has one more load in a row for each bit; both were measured (bench/viewtree_bench.c).
 */
static inline unsigned view_leaf_slot(const ViewNode *leaf, hwaddr addr)
{
    const hwaddr *key = view_node_keys(leaf);
    unsigned s = 0;

    s += key[4] < addr;
    s += key[8] < addr;
    s += key[12] < addr;
    key += s * 4;
    s *= 4;
    s += key[1] < addr;
    s += key[2] < addr;
    s += key[3] < addr;
    return s;
}

/* The same of an inner node with few children, which all roots are at times: its keys are on one line, with n. */
#define VIEW_INNER_FEW 8

static inline unsigned view_few_slot(const ViewNode *inner, hwaddr addr)
{
    const hwaddr *key = view_node_keys(inner);
    unsigned s = 0, t = 0; /* two sums, so that an addition waits for half of the others */

    s += key[1] < addr;
    t += key[2] < addr;
    s += key[3] < addr;
    t += key[4] < addr;
    s += key[5] < addr;
    t += key[6] < addr;
    s += key[7] < addr;
    return s + t;
}

static inline unsigned view_many_slot(const ViewNode *inner, hwaddr addr)
{
    const hwaddr *key = view_node_keys(inner);
    unsigned s = 0, t = 0;

    s += key[4] < addr;
    t += key[8] < addr;
    s += key[12] < addr;
    t += key[16] < addr;
    s += key[20] < addr;
    t += key[24] < addr;
    s += key[28] < addr;
    s += t;
    key += s * 4;
    s *= 4;
    s += key[1] < addr;
    s += key[2] < addr;
    s += key[3] < addr;
    return s;
}

static inline unsigned view_inner_slot(const ViewNode *inner, hwaddr addr)
{
    return inner->n <= VIEW_INNER_FEW ? view_few_slot(inner, addr) : view_many_slot(inner, addr);
}

/* Down one level towards addr. The one branch is as predictable as the depth: few children have roots, and hardly any
   other node. A cold node costs one miss this way, and not one for its keys and one for its child. */
static inline ViewNode *view_inner_child(const ViewNode *inner, hwaddr addr)
{
    ViewNode **children = view_inner_children(inner);

    __builtin_prefetch(&children[0]);
    if (inner->n <= VIEW_INNER_FEW) {
        return children[view_few_slot(inner, addr)];
    }
    __builtin_prefetch(&children[8]);
    __builtin_prefetch(&children[16]);
    __builtin_prefetch(&children[24]);
    return children[view_many_slot(inner, addr)];
}

/* Always true where the rules are kept. A sabotaged build reads nodes that were freed and zeroed, and must live to tell. */
static inline bool view_node_is_whole(const ViewNode *node)
{
#ifdef FLATVIEW_SABOTAGE
    return node && node->n;
#else
    (void)node;
    return true;
#endif
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
        node = view_inner_child(node, addr);
        if (!view_node_is_whole(node)) {
            return NULL;
        }
    }
    if (!view_node_is_whole(node)) {
        return NULL;
    }
    r = &view_leaf_ranges(node)[view_leaf_slot(node, addr)];
#ifdef FLATVIEW_SABOTAGE
    if (!r->mr) {
        return NULL;
    }
#endif
    /* A branch, so that what follows runs ahead on r while its line is on the way: holes are the exception. */
    if (__builtin_expect(addr - r->first > r->last - r->first, 0)) {
        return NULL;
    }
    return r;
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
/* From the root to the leaf where the last change was; arrays go by level. Private to viewpath.c and
   its users. */
typedef struct ViewPath {
    ViewNode *node[VIEW_MAX_HEIGHT];
    hwaddr lo[VIEW_MAX_HEIGHT], hi[VIEW_MAX_HEIGHT]; /* the addresses that node[level] owns */
    uint8_t slot[VIEW_MAX_HEIGHT];                   /* of node[level - 1] in node[level]; [0] is not used */
    int top;                                         /* level of the root; -1: nowhere */
    int ours;                                        /* nodes of this level and above are known to be the edit's own */
} ViewPath;

typedef struct ViewEdit {
    ViewNode *root;         /* NULL: empty */
    size_t n_ranges;
    uint64_t gen;           /* birth of the nodes made here */
    RetireLine *line;       /* stamped into them */
    RetireHead *replaced;   /* nodes of the base that the new tree no longer uses, linked by retire.next. Only the writer
                               line is touched. */
    uint64_t steps;         /* fills and clears */
    uint64_t work;          /* ranges that fills went over, and what the renderer adds: for its budget */
    hwaddr run_first, run_last; /* ends of the range that was added last: where a run of insertions is */
    bool owes_clear;            /* of owed: view_edit_clear_later() */
    AddrRange owed;
    ViewPath path;
} ViewEdit;

/* base: a published tree (or NULL) of n_ranges ranges; gen: newer than every node in it. */
void view_edit_begin(ViewEdit *edit, const ViewNode *base, size_t n_ranges, uint64_t gen, RetireLine *line);
/* Take away whatever lies in span; ranges that straddle its ends are cut, which can make one more. Sets last_gen of
   their regions to edit->gen. Returns as fill. */
int view_edit_clear(ViewEdit *edit, AddrRange span);
/* The same, put off until the next fill, or view_edit_settle() if none comes: a range that is painted in place of the only one
   there takes its entry, and no other moves. Until then nothing else may be done with the edit but to abort it. */
void view_edit_clear_later(ViewEdit *edit, AddrRange span);
int view_edit_settle(ViewEdit *edit);
/* Paint r where nothing is yet: pieces go into the holes of [r->first, r->last], joining their neighbours where
   flat_range_joins(). 0, -ENOMEM, -E2BIG beyond MEMORY_VIEW_MAX_RANGES; on error the edit must be aborted. */
int view_edit_fill(ViewEdit *edit, const FlatRange *r);
/* Does nothing lie in span? Leads the path to where it begins. */
bool view_edit_is_hole(ViewEdit *edit, AddrRange span);
/* Free what the edit made; forget what it replaced. The base is as before. */
void view_edit_abort(ViewEdit *edit);
/* Retire the replaced nodes with this death, after the new root was published. */
void view_edit_retire(ViewEdit *edit, uint64_t death);
/* Retire a whole tree: for a line that ends. */
void view_tree_retire(ViewNode *root, uint64_t death);

void view_tree_check(const ViewNode *root, size_t n_ranges); /* tests: the invariants; aborts with a message */
size_t view_tree_bytes(const ViewNode *root);

#endif
