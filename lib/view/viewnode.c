/* SPDX-License-Identifier: MIT */
/*
 * viewnode.c - the mechanics of nodes: copying, splitting, merging.
 *
 * Invariant: after every function here, whether it succeeded or not, the tree under edit->root is well formed and shows
 * the same ranges plus or minus the ones that the function is about. Each node that the edit made is either reachable
 * from edit->root through nodes that the edit made, or freed; each node of the base is either reachable or on
 * edit->replaced, exactly once. So view_edit_abort() needs no list, and an allocation may fail anywhere.
 * Established by: allocating before linking, and linking a copy in the same step in which the original is remembered.
 * Relied on by:   view_edit_abort(), view_edit_retire().
 */
#include "view/viewnode.h"

#include <assert.h>
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

static inline ViewNode *node_copy(const ViewEdit *edit, const ViewNode *from)
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

/* The key of entry 0, for when it moves to where it needs one: outside the node only its parent's separator tells, which
   may be looser than a leaf's keys are allowed to be. */
static hwaddr node_key0(const ViewNode *node, hwaddr separator)
{
    return node->level ? separator : view_leaf_ranges(node)[0].first - 1;
}

/* Insert an entry as number i, with its key; key0 for the entry that may have to make way at 0. There is room. */
static void node_put(ViewNode *node, unsigned i, const void *entry, hwaddr key, hwaddr key0)
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

void path_seek(ViewEdit *edit, hwaddr addr)
{
    ViewPath *path = &edit->path;
    ViewNode *node;
    hwaddr lo, hi;
    int level = 0;

    if (path->top < 0) {
        level = path->top = (int)edit->root->level;
        path->ours = level + 1;
        path->node[level] = edit->root;
        path->lo[level] = 0;
        path->hi[level] = UINT64_MAX;
    } else {
        while (addr - path->lo[level] > path->hi[level] - path->lo[level]) {
            level++;
        }
        if (path->ours < level) {
            path->ours = level;
        }
    }
    node = path->node[level];
    lo = path->lo[level];
    hi = path->hi[level];
    while (level) {
        unsigned s = node_slot(node, addr);

        path->slot[level] = (uint8_t)s;
        if (s) {
            lo = view_node_keys(node)[s] + 1;
        }
        if (s + 1 < node->n) {
            hi = view_node_keys(node)[s + 1];
        }
        node = view_inner_children(node)[s];
        level--;
        path->node[level] = node;
        path->lo[level] = lo;
        path->hi[level] = hi;
    }
}

int path_own(ViewEdit *edit, int level)
{
    ViewPath *path = &edit->path;
    int l = path->ours;

    while (--l >= level) {
        ViewNode *node = path->node[l], *copy;

        if (!node_is_ours(edit, node)) {
            copy = node_copy(edit, node);
            if (!copy) {
                return -ENOMEM;
            }
            path->node[l] = copy;
            if (l < path->top) {
                view_inner_children(path->node[l + 1])[path->slot[l + 1]] = copy;
            } else {
                edit->root = copy;
            }
            /* remembered: node_drop() of what is known not to be ours */
            node->retire.next = edit->replaced;
            edit->replaced = &node->retire;
        }
        path->ours = l;
    }
    return 0;
}

/* Where a run of insertions is going. */
enum Run { RUN_NONE, RUN_UP, RUN_DOWN };

static enum Run insert_run(const ViewEdit *edit, const ViewNode *leaf, unsigned i)
{
    const FlatRange *ranges = view_leaf_ranges(leaf);

    if (i && ranges[i - 1].last == edit->run_last) {
        return RUN_UP;
    }
    return i < leaf->n && ranges[i].first == edit->run_first ? RUN_DOWN : RUN_NONE;
}

/*
 * A full node gets one entry more, as number i: how many of them all stay in the left one of two nodes. Half of them in
 * general; but what a run leaves behind gets no more insertions, so it stays as full as it may. At either end of the tree
 * that is entirely, so that a bulk load leaves full nodes and not half-full ones.
 */
static unsigned split_point(const ViewPath *path, int level, unsigned i, enum Run run)
{
    unsigned max = node_max(path->node[level]), min = max / 4;
    unsigned least = path->lo[level] ? min : 1;
    unsigned most = max + 1 - (path->hi[level] != UINT64_MAX ? min : 1);
    unsigned cut = run == RUN_UP ? i : run == RUN_DOWN ? i + 1 : max / 2;

    return cut < least ? least : cut > most ? most : cut;
}

/* Insert an entry as number i of a full node and leave cut of the entries there, the rest in right, which is empty.
   Returns the separator. */
static hwaddr node_split(ViewNode *node, ViewNode *right, unsigned i, const void *entry, hwaddr key, unsigned cut)
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

int path_insert(ViewEdit *edit, unsigned i, const FlatRange *r)
{
    ViewPath *path = &edit->path;
    ViewNode *spare[VIEW_MAX_HEIGHT + 1];
    const void *entry = r;
    hwaddr key = r->first - 1;
    enum Run run;
    int level, full = 0;

    if (path_own(edit, 0) < 0) {
        return -ENOMEM;
    }
    if (path->node[0]->n < VIEW_LEAF_MAX) {
        node_put(path->node[0], i, r, key, node_key0(path->node[0], 0));
        return 0;
    }
    run = insert_run(edit, path->node[0], i);
    while (full <= path->top && path->node[full]->n == node_max(path->node[full])) {
        full++;
    }
    assert(full < VIEW_MAX_HEIGHT);
    /* A node for each that will split, and a root if the last of them is the root. */
    for (level = 0; level < full + (full > path->top); level++) {
        spare[level] = node_new(edit, (uint32_t)level);
        if (!spare[level]) {
            while (level) {
                node_free(&spare[--level]->retire);
            }
            return -ENOMEM;
        }
    }
    for (level = 0; level < full; level++) {
        key = node_split(path->node[level], spare[level], i, entry, key, split_point(path, level, i, run));
        entry = &spare[level];
        i = level < path->top ? path->slot[level + 1] + 1 : 1;
    }
    if (full > path->top) {
        node_put(spare[full], 0, &path->node[path->top], 0, 0);
        node_put(spare[full], 1, entry, key, 0);
        edit->root = spare[full];
    } else {
        node_put(path->node[full], i, entry, key, 0); /* never as entry 0: what splits stays, left of its new neighbour */
    }
    path_forget(edit);
    return 0;
}

/* node, too small, and the neighbour below the same parent: one node of both, or both the same. Merging stops short of a
   full node, so that a node at the limit does not merge and split by turns. */
static int node_balance(ViewEdit *edit, ViewNode *parent, unsigned slot, ViewNode *node)
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
        /* its entries live on in node; only itself goes */
        node_drop(edit, other);
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

int path_refill(ViewEdit *edit, int level)
{
    const ViewPath *path = &edit->path;
    bool stale = level > 0;

    for (; level < path->top; level++) {
        ViewNode *node = path->node[level], *parent = path->node[level + 1];

        /* an only child is on the leftmost or rightmost path, where less is allowed; its parent is the next to be asked */
        if (node->n < node_max(node) / 4 && parent->n > 1) {
            if (node_balance(edit, parent, path->slot[level + 1], node) < 0) {
                return -ENOMEM;
            }
            stale = true;
        }
    }
    if (stale) {
        path_forget(edit);
    }
    while (edit->root->level && edit->root->n == 1) {
        ViewNode *old = edit->root;

        edit->root = view_inner_children(old)[0];
        node_drop(edit, old);
        path_forget(edit);
    }
    return 0;
}
