/* SPDX-License-Identifier: MIT */
/*
 * ram_index.c - a treap of intervals.
 *
 * Invariant: in-order the blocks ascend in (first byte, address of the block); ranks descend from the root; reach is the
 * greatest last byte of a subtree. Ranks are a hash of the block's own address, which no guest can choose, so the depth is
 * logarithmic whatever the order of insertion. Intervals may overlap (two regions over one memory), hence reach: if the
 * left subtree reaches the address it has a block around it, or no block anywhere has.
 * Guarded by lock.
 */
#include "topology/ram_index.h"

#include <stdlib.h>

#include "base/lock.h"

static Lock lock = LOCK_INITIALIZER(LOCK_RANK_LEAF, "ram index");
static RamNode *root;
static RamIndexStats stats;

static uint64_t rank_of(const RamNode *node)
{
    uint64_t x = (uintptr_t)node;

    x = (x ^ x >> 33) * UINT64_C(0xff51afd7ed558ccd);
    x = (x ^ x >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ x >> 33;
}

static bool before(const RamNode *a, const RamNode *b)
{
    return a->first != b->first ? a->first < b->first : (uintptr_t)a < (uintptr_t)b;
}

static void set_reach(RamNode *node)
{
    node->reach = node->last;
    if (node->left && node->left->reach > node->reach) {
        node->reach = node->left->reach;
    }
    if (node->right && node->right->reach > node->reach) {
        node->reach = node->right->reach;
    }
}

/* What stands before pivot, and what does not. */
static void split(RamNode *tree, const RamNode *pivot, RamNode **ret_left, RamNode **ret_right)
{
    if (!tree) {
        *ret_left = *ret_right = NULL;
        return;
    }
    if (before(tree, pivot)) {
        split(tree->right, pivot, &tree->right, ret_right);
        *ret_left = tree;
    } else {
        split(tree->left, pivot, ret_left, &tree->left);
        *ret_right = tree;
    }
    set_reach(tree);
}

static RamNode *join(RamNode *left, RamNode *right)
{
    if (!left || !right) {
        return left ? left : right;
    }
    if (rank_of(left) > rank_of(right)) {
        left->right = join(left->right, right);
        set_reach(left);
        return left;
    }
    right->left = join(left, right->left);
    set_reach(right);
    return right;
}

static RamNode *insert(RamNode *tree, RamNode *node)
{
    if (!tree || rank_of(node) > rank_of(tree)) {
        split(tree, node, &node->left, &node->right);
        tree = node;
    } else if (before(node, tree)) {
        tree->left = insert(tree->left, node);
    } else {
        tree->right = insert(tree->right, node);
    }
    set_reach(tree);
    return tree;
}

/* node is in the tree. */
static RamNode *without(RamNode *tree, const RamNode *node)
{
    if (tree == node) {
        return join(tree->left, tree->right);
    }
    if (before(node, tree)) {
        tree->left = without(tree->left, node);
    } else {
        tree->right = without(tree->right, node);
    }
    set_reach(tree);
    return tree;
}

void ram_index_add(RamBlock *block, MemoryRegion *mr)
{
    RamNode *node = &block->node;

    *node = (RamNode){.mr = mr, .first = (uintptr_t)block->host, .last = (uintptr_t)block->host + (block->size - 1)};
    lock_acquire(&lock);
    root = insert(root, node);
    stats.blocks++;
    stats.bytes += block->size;
    lock_release(&lock);
}

void ram_index_remove(RamBlock *block)
{
    if (!block || !block->node.mr) {
        return;
    }
    lock_acquire(&lock);
    root = without(root, &block->node);
    stats.blocks--;
    stats.bytes -= block->size;
    lock_release(&lock);
    block->node.mr = NULL;
}

MemoryRegion *ram_index_find(const void *ptr, uint64_t *ret_offset)
{
    uintptr_t at = (uintptr_t)ptr;
    MemoryRegion *mr = NULL;
    const RamNode *node;

    lock_acquire(&lock);
    for (node = root; node && (at < node->first || at > node->last);) {
        node = node->left && node->left->reach >= at ? node->left : node->right;
    }
    if (node) {
        mr = node->mr;
        *ret_offset = at - node->first;
    }
    lock_release(&lock);
    return mr;
}

void ram_index_get_stats(RamIndexStats *ret_stats)
{
    lock_acquire(&lock);
    *ret_stats = stats;
    lock_release(&lock);
}

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static size_t check(const RamNode *tree)
{
    RamNode copy;
    size_t n;

    if (!tree) {
        return 0;
    }
    require(!tree->left || (before(tree->left, tree) && rank_of(tree->left) < rank_of(tree)));
    require(!tree->right || (before(tree, tree->right) && rank_of(tree->right) < rank_of(tree)));
    n = 1 + check(tree->left) + check(tree->right);
    copy = *tree;
    set_reach(&copy);
    require(copy.reach == tree->reach);
    return n;
}

void ram_index_check(void)
{
    lock_acquire(&lock);
    require(check(root) == stats.blocks);
    lock_release(&lock);
}
