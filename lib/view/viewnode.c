/* SPDX-License-Identifier: MIT */
/*
 * viewnode.c - one node, or two neighbours: making, filling, splitting, balancing.
 *
 * Invariant: after every function here the nodes that it touched are well formed: keys beyond n are UINT64_MAX, those of a
 * leaf are exact, no two entries changed places. A neighbour that is not the edit's own is copied before it is changed, and
 * its original remembered in the same step in which the copy is linked.
 * Relied on by:   viewpath.c, which keeps the tree around them well formed, too.
 */
#include "view/viewnode.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"

static size_t entry_size(const ViewNode *node)
{
    return node->level ? sizeof(ViewNode *) : sizeof(FlatRange);
}

static uint8_t *entry_at(const ViewNode *node, unsigned i)
{
    return (uint8_t *)(view_node_keys(node) + node_max(node)) + i * entry_size(node);
}

static void node_free(RetireHead *head)
{
    mem_free(container_of(head, ViewNode, retire), head->bytes);
}

enum {
    LEAF_KEYS = VIEW_LEAF_MAX * sizeof(hwaddr),
    INNER_KEYS = VIEW_INNER_MAX * sizeof(hwaddr),
    LEAF_BYTES = VIEW_KEYS_OFFSET + LEAF_KEYS + VIEW_LEAF_MAX * sizeof(FlatRange),
    INNER_BYTES = VIEW_KEYS_OFFSET + INNER_KEYS + VIEW_INNER_MAX * sizeof(ViewNode *),
};

static inline ViewNode *node_alloc(const ViewEdit *edit, uint32_t bytes)
{
    ViewNode *node = mem_alloc(bytes);

    if (node) {
        RetireHead *head = &node->retire;

        head->line = edit->line;
        head->free = node_free;
        head->birth = edit->gen;
        head->death = 0;
        head->seq = 0;
        head->bytes = bytes;
        head->kind = RETIRE_OBJECT;
    }
    return node;
}

ViewNode *node_new(const ViewEdit *edit, uint32_t level)
{
    ViewNode *node = node_alloc(edit, level ? INNER_BYTES : LEAF_BYTES);

    if (node) {
        node->n = 0;
        node->level = level;
        memset(view_node_keys(node) + 1, 0xff, (node_max(node) - 1) * sizeof(hwaddr));
    }
    return node;
}

ViewNode *node_copy(const ViewEdit *edit, const ViewNode *from)
{
    ViewNode *node = node_alloc(edit, from->retire.bytes);

    if (node) {
        /* n, level, all keys, and the entries, which follow the keys */
        memcpy(&node->n, &from->n,
               from->level ? INNER_KEYS + from->n * sizeof(ViewNode *) : LEAF_KEYS + from->n * sizeof(FlatRange));
    }
    return node;
}

size_t node_drop_subtree(ViewEdit *edit, ViewNode *node)
{
    size_t n_ranges = node->n;
    unsigned i;

    if (node->level) {
        for (i = 0, n_ranges = 0; i < node->n; i++) {
            n_ranges += node_drop_subtree(edit, view_inner_children(node)[i]);
        }
    } else {
        for (i = 0; i < node->n; i++) {
            view_leaf_ranges(node)[i].mr->last_gen = edit->gen;
        }
    }
    node_drop(edit, node);
    return n_ranges;
}

void node_put(ViewNode *node, unsigned i, const void *entry, hwaddr key, hwaddr key0)
{
    unsigned n = node->n;
    size_t size = entry_size(node);
    uint8_t *at = entry_at(node, i);
    hwaddr *keys = view_node_keys(node);

    memmove(at + size, at, (n - i) * size);
    memcpy(at, entry, size);
    if (i) {
        memmove(&keys[i + 1], &keys[i], (n - i) * sizeof(hwaddr));
        keys[i] = key;
    } else if (n) {
        memmove(&keys[2], &keys[1], (n - 1) * sizeof(hwaddr));
        keys[1] = key0;
    }
    node->n = n + 1;
}

void node_take(ViewNode *node, unsigned i, unsigned count)
{
    unsigned n = node->n, left = n - count, k;
    hwaddr *keys = view_node_keys(node);

    memmove(entry_at(node, i), entry_at(node, i + count), (left - i) * entry_size(node));
    k = i ? i : 1;
    if (left > k) {
        memmove(&keys[k], &keys[k + count], (left - k) * sizeof(hwaddr));
    }
    for (k = left ? left : 1; k < n; k++) {
        keys[k] = UINT64_MAX;
    }
    node->n = left;
}

/* Append count entries of from, beginning with number i. key: of the first of them. */
static void node_append(ViewNode *to, const ViewNode *from, unsigned i, unsigned count, hwaddr key)
{
    unsigned n = to->n;
    hwaddr *keys = view_node_keys(to);

    memcpy(entry_at(to, n), entry_at(from, i), count * entry_size(to));
    if (n) {
        keys[n] = key;
    }
    if (count > 1) {
        memcpy(&keys[n + 1], &view_node_keys(from)[i + 1], (count - 1) * sizeof(hwaddr));
    }
    to->n = n + count;
}

/* Insert the last count entries of from before those of to. key0: of what was to's entry 0. */
static void node_prepend(ViewNode *to, const ViewNode *from, unsigned count, hwaddr key0)
{
    unsigned n = to->n, i = from->n - count;
    hwaddr *keys = view_node_keys(to);

    memmove(entry_at(to, count), entry_at(to, 0), n * entry_size(to));
    memcpy(entry_at(to, 0), entry_at(from, i), count * entry_size(to));
    memmove(&keys[count + 1], &keys[1], (n - 1) * sizeof(hwaddr));
    keys[count] = key0;
    memcpy(&keys[1], &view_node_keys(from)[i + 1], (count - 1) * sizeof(hwaddr));
    to->n = n + count;
}

hwaddr node_split(ViewNode *node, ViewNode *right, unsigned i, const void *entry, hwaddr key, unsigned cut)
{
    unsigned max = node_max(node);
    hwaddr *keys = view_node_keys(node);
    hwaddr key0 = node_key0(node, 0), separator;

    if (i < cut) {
        separator = cut > 1 ? keys[cut - 1] : key0;
        node_append(right, node, cut - 1, max + 1 - cut, 0);
        node_take(node, cut - 1, max + 1 - cut);
        node_put(node, i, entry, key, key0);
    } else if (cut < max) {
        hwaddr next = keys[cut];

        separator = i == cut ? key : next;
        node_append(right, node, cut, max - cut, 0);
        node_take(node, cut, max - cut);
        node_put(right, i - cut, entry, key, next);
    } else {
        separator = key;
        node_put(right, 0, entry, key, 0);
    }
    return separator;
}

/* Merging stops short of a full node, so that a node at the limit does not merge and split by turns. */
int node_balance(ViewEdit *edit, ViewNode *parent, unsigned slot, ViewNode *node)
{
    ViewNode **children = view_inner_children(parent);
    unsigned r = slot ? slot : 1; /* of the right one of the two */
    bool is_left = slot == 0;
    ViewNode *other = children[is_left ? 1 : slot - 1];
    hwaddr *keys = view_node_keys(parent), separator = keys[r];

    if (node->n + other->n <= node_max(node) * 3 / 4) {
        if (is_left) {
            node_append(node, other, 0, other->n, node_key0(other, separator));
        } else {
            node_prepend(node, other, other->n, node_key0(node, separator));
        }
        children[r - 1] = node;
        node_take(parent, r, 1);
        node_drop(edit, other); /* itself only: its entries live on in node */
    } else {
        unsigned count = (other->n - node->n) / 2;

        if (!node_is_ours(edit, other)) {
            ViewNode *copy = node_copy(edit, other);

            if (!copy) {
                return -ENOMEM;
            }
            children[is_left ? 1 : slot - 1] = copy;
            node_drop(edit, other);
            other = copy;
        }
        if (is_left) {
            keys[r] = view_node_keys(other)[count];
            node_append(node, other, 0, count, node_key0(other, separator));
            node_take(other, 0, count);
        } else {
            keys[r] = view_node_keys(other)[other->n - count];
            node_prepend(node, other, count, node_key0(node, separator));
            node_take(other, other->n - count, count);
        }
    }
    return 0;
}
