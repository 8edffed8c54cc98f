/* SPDX-License-Identifier: MIT */
/*
 * children.c - which children does a window of a container meet?
 *
 * Invariant: the children of a region form an AVL tree, ordered by (addr, order), linked through fields of the regions
 * themselves, so no change of it can fail. A child shows something if it is enabled and not empty. In each of them tree_has
 * says whether it shows something, whether any of its subtree does, and whether any of its subtree is enabled at all; and
 * tree_last, which address is the last that any of its subtree shows (clipped at 2^64; 0 if none).
 * Established by: children_insert(), children_remove(), children_move(), children_changed(), under the topology lock.
 * Relied on by:   rendering and loading: a window's children in O(log n + k), a change in O(log n), worst case.
 *
 * Why AVL: a search sees 1.44 log n nodes at most whatever the order of insertion, without random numbers, and what a
 * change has to repair upward mostly ends after a few nodes, because both heights and last addresses settle early.
 *
 * Empty and disabled regions are children like others, but cover nothing: of a thousand banks that stand in the same place,
 * one is found without a look at the others. Hence tree_has: no address could say "none" in tree_last without also meaning
 * something.
 */
#include <assert.h>
#include <stdlib.h>

#include "topology/region.h"

#define SHOWS (1u << 0)         /* it does */
#define SUBTREE_SHOWS (1u << 1) /* it or one below it does */
#define SUBTREE_ENABLED (1u << 2)

static inline unsigned height(const MemoryRegion *node)
{
    return node ? node->tree_height : 0;
}

/* Does anything below node reach first? */
static inline bool reaches(const MemoryRegion *node, hwaddr first)
{
    return node && node->tree_last >= first && (node->tree_has & SUBTREE_SHOWS);
}

static inline hwaddr last_in_parent(const MemoryRegion *mr)
{
    return mr->last > UINT64_MAX - mr->addr ? UINT64_MAX : mr->addr + mr->last;
}

static inline bool meets(const MemoryRegion *mr, AddrRange window)
{
    return mr->addr >= window.first ? mr->addr <= window.last && (mr->tree_has & SHOWS) :
                                      window.first - mr->addr <= mr->last && (mr->tree_has & SHOWS);
}

static inline bool comes_before(const MemoryRegion *a, const MemoryRegion *b)
{
    return a->addr != b->addr ? a->addr < b->addr : a->order < b->order;
}

static MemoryRegion *leftmost(MemoryRegion *node)
{
    while (node->tree_left) {
        node = node->tree_left;
    }
    return node;
}

/* The next node in order, or NULL. */
static MemoryRegion *successor(const MemoryRegion *node)
{
    if (node->tree_right) {
        return leftmost(node->tree_right);
    }
    while (node->tree_up && node->tree_up->tree_right == node) {
        node = node->tree_up;
    }
    return node->tree_up;
}

static MemoryRegion *predecessor(const MemoryRegion *node)
{
    if (node->tree_left) {
        for (node = node->tree_left; node->tree_right; node = node->tree_right) {
        }
        return (MemoryRegion *)(uintptr_t)node;
    }
    while (node->tree_up && node->tree_up->tree_left == node) {
        node = node->tree_up;
    }
    return node->tree_up;
}

/* ---- upkeep --------------------------------------------------------------------------------------------------- */

/* Derive node's summary from itself and its subtrees. Returns whether it is another than before. */
static inline bool summarise(MemoryRegion *node)
{
    const MemoryRegion *left = node->tree_left, *right = node->tree_right;
    unsigned has = !node->enabled ? 0 : node->size_is_zero ? SUBTREE_ENABLED : SHOWS | SUBTREE_SHOWS | SUBTREE_ENABLED;
    hwaddr last = has & SHOWS ? last_in_parent(node) : 0;
    unsigned below = 0;
    bool changed;

    if (left) {
        below = left->tree_height;
        has |= left->tree_has & ~SHOWS;
        last = left->tree_last > last ? left->tree_last : last; /* 0 if nothing shows there */
    }
    if (right) {
        below = right->tree_height > below ? right->tree_height : below;
        has |= right->tree_has & ~SHOWS;
        last = right->tree_last > last ? right->tree_last : last;
    }
    changed = node->tree_height != below + 1 || node->tree_has != has || node->tree_last != last;
    node->tree_height = (uint8_t)(below + 1);
    node->tree_has = (uint8_t)has;
    node->tree_last = last;
    return changed;
}

/* Let other (which may be NULL) stand where node stands, as seen from above. */
static void take_place(MemoryRegion **root, const MemoryRegion *node, MemoryRegion *other)
{
    MemoryRegion *up = node->tree_up;

    if (!up) {
        *root = other;
    } else if (up->tree_left == node) {
        up->tree_left = other;
    } else {
        up->tree_right = other;
    }
    if (other) {
        other->tree_up = up;
    }
}

static void rotate_left(MemoryRegion **root, MemoryRegion *node)
{
    MemoryRegion *top = node->tree_right;

    node->tree_right = top->tree_left;
    if (node->tree_right) {
        node->tree_right->tree_up = node;
    }
    take_place(root, node, top);
    top->tree_left = node;
    node->tree_up = top;
    summarise(node);
    summarise(top);
}

static void rotate_right(MemoryRegion **root, MemoryRegion *node)
{
    MemoryRegion *top = node->tree_left;

    node->tree_left = top->tree_right;
    if (node->tree_left) {
        node->tree_left->tree_up = node;
    }
    take_place(root, node, top);
    top->tree_right = node;
    node->tree_up = top;
    summarise(node);
    summarise(top);
}

/* Make summaries and balance right from node upward, as far as anything is new. */
static void repair(MemoryRegion **root, MemoryRegion *node)
{
    while (node) {
        MemoryRegion *up = node->tree_up, *left = node->tree_left, *right = node->tree_right;
        int lean = (int)height(right) - (int)height(left);

        if (__builtin_expect(lean < -1, 0)) {
            if (height(left->tree_left) < height(left->tree_right)) {
                rotate_left(root, left);
            }
            rotate_right(root, node);
        } else if (__builtin_expect(lean > 1, 0)) {
            if (height(right->tree_right) < height(right->tree_left)) {
                rotate_right(root, right);
            }
            rotate_left(root, node);
        } else if (!summarise(node)) {
            return; /* what is above sees only the summary */
        }
        node = up;
    }
}

void children_insert(MemoryRegion *parent, MemoryRegion *child)
{
    MemoryRegion **link = &parent->children, *up = NULL;

    while (*link) {
        up = *link;
        link = comes_before(child, up) ? &up->tree_left : &up->tree_right;
    }
    *link = child;
    child->tree_up = up;
    child->tree_left = child->tree_right = NULL;
    summarise(child);
    repair(&parent->children, up);
}

void children_remove(MemoryRegion *child)
{
    MemoryRegion **root = &child->parent->children;
    MemoryRegion *left = child->tree_left, *right = child->tree_right;
    MemoryRegion *next, *lowest;

    if (!left || !right) {
        take_place(root, child, left ? left : right);
        repair(root, child->tree_up);
    } else {
        next = leftmost(right);
        lowest = next;
        if (next != right) {
            lowest = next->tree_up;
            lowest->tree_left = next->tree_right;
            if (lowest->tree_left) {
                lowest->tree_left->tree_up = lowest;
            }
            next->tree_right = right;
            right->tree_up = next;
        }
        next->tree_left = left;
        left->tree_up = next;
        take_place(root, child, next);
        /* With the summary that what is above knows of this place, repair() can tell where nothing is new. */
        next->tree_height = child->tree_height;
        next->tree_has = child->tree_has;
        next->tree_last = child->tree_last;
        repair(root, lowest);
        repair(root, next); /* had the first stopped below, child's last address would live on here */
    }
    child->tree_left = child->tree_right = child->tree_up = NULL;
}

/* Does child, at addr, stand between the same two as before? */
static bool keeps_its_turn(const MemoryRegion *child, hwaddr addr)
{
    const MemoryRegion *next = addr > child->addr ? successor(child) : predecessor(child);

    return !next || (addr > child->addr ? addr < next->addr : addr > next->addr);
}

void children_move(MemoryRegion *child, hwaddr addr)
{
    if (keeps_its_turn(child, addr)) {
        region_poke(child->addr, addr);
        repair(&child->parent->children, child);
    } else {
        children_remove(child);
        region_poke(child->addr, addr);
        children_insert(child->parent, child);
    }
}

void children_changed(MemoryRegion *child)
{
    repair(&child->parent->children, child);
}

/* ---- questions ------------------------------------------------------------------------------------------------ */

/*
 * The first region of node's subtree that meets window. The subtree is known to reach window.first.
 *
 * One way down is enough: if the left subtree reaches window.first, then the first region in it that does is the answer
 * or begins beyond the window, and then so does everything that follows it.
 */
static MemoryRegion *first_below(MemoryRegion *node, AddrRange window)
{
    for (;;) {
        if (reaches(node->tree_left, window.first)) {
            node = node->tree_left;
        } else if (node->addr > window.last) {
            return NULL;
        } else if (meets(node, window)) {
            return node;
        } else if (reaches(node->tree_right, window.first)) {
            node = node->tree_right;
        } else {
            return NULL;
        }
    }
}

MemoryRegion *children_first(const MemoryRegion *parent, AddrRange window)
{
    return reaches(parent->children, window.first) ? first_below(parent->children, window) : NULL;
}

MemoryRegion *children_next(const MemoryRegion *child, AddrRange window)
{
    for (;;) {
        const MemoryRegion *from;

        if (reaches(child->tree_right, window.first)) {
            return first_below(child->tree_right, window);
        }
        do { /* up to where child's subtree is a left one */
            from = child;
            child = child->tree_up;
            if (!child) {
                return NULL;
            }
        } while (child->tree_right == from);
        if (child->addr > window.last) {
            return NULL;
        }
        if (meets(child, window)) {
            return (MemoryRegion *)(uintptr_t)child; /* the caller's, who gave away const only for the question */
        }
    }
}

MemoryRegion *children_begin(const MemoryRegion *parent)
{
    return parent->children ? leftmost(parent->children) : NULL;
}

MemoryRegion *children_first_enabled(const MemoryRegion *parent)
{
    MemoryRegion *node = parent->children;

    while (node && (node->tree_has & SUBTREE_ENABLED)) {
        if (node->tree_left && (node->tree_left->tree_has & SUBTREE_ENABLED)) {
            node = node->tree_left;
        } else if (node->enabled) {
            return node;
        } else {
            node = node->tree_right;
        }
    }
    return NULL;
}

MemoryRegion *children_after(const MemoryRegion *child)
{
    return successor(child);
}

/* ---- for tests ------------------------------------------------------------------------------------------------ */

static void insist(bool holds)
{
    if (!holds) {
        abort();
    }
}

static size_t check_below(const MemoryRegion *parent, MemoryRegion *node, const MemoryRegion *up)
{
    size_t n = 1;

    insist(node->parent == parent && node->tree_up == up);
    if (node->tree_left) {
        n += check_below(parent, node->tree_left, node);
    }
    if (node->tree_right) {
        n += check_below(parent, node->tree_right, node);
    }
    insist(height(node->tree_left) <= height(node->tree_right) + 1);
    insist(height(node->tree_right) <= height(node->tree_left) + 1);
    insist(!summarise(node));
    return n;
}

void children_check(const MemoryRegion *parent)
{
    const MemoryRegion *child, *next;
    size_t enabled = 0;

    insist((parent->children ? check_below(parent, parent->children, NULL) : 0) == parent->n_children);
    for (child = children_begin(parent); child; child = next) {
        next = children_after(child);
        insist(!next || comes_before(child, next));
        enabled += child->enabled;
    }
    insist(enabled == parent->n_enabled_children);
}
