/* SPDX-License-Identifier: MIT */
/*
 * viewnode.h - nodes of a tree that is being edited, and the path to where it changes. Private to
 * viewnode.c, viewpath.c, viewedit.c and viewclear.c.
 */
#ifndef FLATVIEW_VIEW_VIEWNODE_H
#define FLATVIEW_VIEW_VIEWNODE_H

#include "view/viewtree.h"

static inline bool node_is_ours(const ViewEdit *edit, const ViewNode *node)
{
    return node->retire.birth == edit->gen;
}

static inline unsigned node_max(const ViewNode *node)
{
    return node->level ? VIEW_INNER_MAX : VIEW_LEAF_MAX;
}

/* As view_leaf_slot() and view_inner_slot(), by halving: fewer instructions and more latency, which suits a writer. */
static inline unsigned node_slot(const ViewNode *node, hwaddr addr)
{
    const hwaddr *key = view_node_keys(node);
    unsigned s = node->level ? (key[16] < addr) * 16u : 0;

    s += (key[s + 8] < addr) * 8u;
    s += (key[s + 4] < addr) * 4u;
    s += (key[s + 2] < addr) * 2u;
    return s + (key[s + 1] < addr);
}

/* Index in a leaf of the first range that ends at or after addr; n if there is none. */
static inline unsigned leaf_lower(const ViewNode *leaf, hwaddr addr)
{
    unsigned s = node_slot(leaf, addr);

    return s + (view_leaf_ranges(leaf)[s].last < addr);
}

/* A node of the base that is no longer in the tree: remembered until the new version is published. */
static inline void node_replaced(ViewEdit *edit, ViewNode *node)
{
    node->retire.next = edit->replaced;
    edit->replaced = &node->retire;
}

/* Out of the tree: freed if the edit made it, else remembered as replaced. */
static inline void node_drop(ViewEdit *edit, ViewNode *node)
{
    if (node_is_ours(edit, node)) {
        node->retire.free(&node->retire);
    } else {
        node_replaced(edit, node);
    }
}

ViewNode *node_new(const ViewEdit *edit, uint32_t level); /* no entries; NULL without memory */
/* A node and all below it; its regions get their last_gen. Returns the number of ranges. */
size_t node_drop_subtree(ViewEdit *edit, ViewNode *node);
ViewNode *node_copy(const ViewEdit *edit, const ViewNode *from);

/* ---- viewnode.c: changes to nodes that are the edit's own ---- */

/* The key of entry 0, for when it moves to where it needs one: outside the node only its parent's separator tells, which
   may be looser than a leaf's keys are allowed to be. */
static inline hwaddr node_key0(const ViewNode *node, hwaddr separator)
{
    return node->level ? separator : view_leaf_ranges(node)[0].first - 1;
}

/* Insert an entry as number i, with its key; key0 for the entry that may have to make way at 0. There is room. */
void node_put(ViewNode *node, unsigned i, const void *entry, hwaddr key, hwaddr key0);
/* Remove entries [i, i + count). */
void node_take(ViewNode *node, unsigned i, unsigned count);
/* Insert an entry as number i of a full node and leave cut of the entries there, the rest in right, which is empty.
   Returns the separator. */
hwaddr node_split(ViewNode *node, ViewNode *right, unsigned i, const void *entry, hwaddr key, unsigned cut);
/* node, number slot of parent's, holds too few entries: merge it with a neighbour or share with it. 0, -ENOMEM. */
int node_balance(ViewEdit *edit, ViewNode *parent, unsigned slot, ViewNode *node);

/* ---- viewpath.c ---- */

/* Lead edit->path to the leaf that owns addr. The tree is not empty. Cheap if the path is near: a run of changes does not
   descend from the root each time. */
void path_seek(ViewEdit *edit, hwaddr addr);
/* Whoever changes what an inner node of the path holds, or who is the root, forgets the path. */
static inline void path_forget(ViewEdit *edit)
{
    edit->path.top = -1;
}
/* Make the nodes from the root down to level the edit's own: 0, -ENOMEM (some may be: that is harmless). */
int path_own(ViewEdit *edit, int level);
/* Add r as number i of the leaf, splitting what is full. 0, -ENOMEM with no entry added. */
int path_insert(ViewEdit *edit, unsigned i, const FlatRange *r);
/* After entries were removed from the node at level, which with all above it is the edit's own: nodes that hold too few
   are refilled from or merged into a neighbour, a root with one child goes. 0, -ENOMEM. */
int path_refill(ViewEdit *edit, int level);

/* ---- viewedit.c ---- */

/* Add r, which touches no other range, as number i of the leaf. 0, -ENOMEM, -E2BIG. */
int edit_add_range(ViewEdit *edit, unsigned i, const FlatRange *r);

#endif
