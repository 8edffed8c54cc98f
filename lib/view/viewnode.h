/* SPDX-License-Identifier: MIT */
/*
 * viewnode.h - nodes of a tree that is being edited, and the path to one of them. Private to viewnode.c and viewedit.c.
 */
#ifndef FLATVIEW_VIEW_VIEWNODE_H
#define FLATVIEW_VIEW_VIEWNODE_H

#include "view/viewtree.h"

/* From the root to the leaf that owns an address. Arrays go by level. */
typedef struct ViewPath {
    ViewNode *node[VIEW_MAX_HEIGHT];
    unsigned slot[VIEW_MAX_HEIGHT];                    /* of node[level - 1] in node[level]; [0] is not used */
    hwaddr lo[VIEW_MAX_HEIGHT], hi[VIEW_MAX_HEIGHT];   /* the addresses that node[level] owns */
    int top;                                           /* level of the root */
} ViewPath;

static inline bool node_is_ours(const ViewEdit *edit, const ViewNode *node)
{
    return node->retire.birth == edit->gen;
}

/* Same answer as view_node_slot() in fewer instructions and more latency: right for a writer, whose lines are warm. */
static inline unsigned node_slot(const ViewNode *node, hwaddr addr)
{
    unsigned s = (node->before[8] < addr) * 8u;

    s += (node->before[s + 4] < addr) * 4u;
    s += (node->before[s + 2] < addr) * 2u;
    return s + (node->before[s + 1] < addr);
}

/* Index in a leaf of the first range that ends at or after addr; n if there is none. */
static inline unsigned leaf_lower(const ViewNode *leaf, hwaddr addr)
{
    unsigned s = node_slot(leaf, addr);

    return s + (view_leaf_ranges(leaf)[s].last < addr);
}

ViewNode *node_new(const ViewEdit *edit, uint32_t level); /* no entries; NULL without memory */
/* Out of the tree: freed if the edit made it, else remembered as replaced. */
void node_drop(ViewEdit *edit, ViewNode *node);
/* A node and all below it; its regions get their last_gen. Returns the number of ranges. */
size_t node_drop_subtree(ViewEdit *edit, ViewNode *node);

/* The rest changes nodes, which must be the edit's own. */
void node_take(ViewNode *node, unsigned i, unsigned count); /* remove entries [i, i + count) */

void path_find(ViewPath *path, ViewNode *root, hwaddr addr);
/* Make the nodes from the root down to level the edit's own: 0, -ENOMEM (some may be: that is harmless). */
int path_own(ViewEdit *edit, ViewPath *path, int level);
/* Add r as number i of the leaf, splitting what is full. The path is stale afterwards. 0, -ENOMEM with no entry added. */
int path_insert(ViewEdit *edit, ViewPath *path, unsigned i, const FlatRange *r);
/* After entries were removed from the node at level, which with all above it is the edit's own: nodes that hold too few
   are refilled from or merged into a neighbour, a root with one child goes. The path is stale afterwards. 0, -ENOMEM. */
int path_refill(ViewEdit *edit, ViewPath *path, int level);

#endif
