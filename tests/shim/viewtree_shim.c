/* SPDX-License-Identifier: MIT */
/*
 * viewtree_shim.c - see viewtree_shim.h. Replaced nodes go to a graveyard instead of the retire queue, so that old
 * versions can be read for as long as the test likes.
 */
#include "shim/viewtree_shim.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "view/viewdiff.h"
#include "view/viewtree.h"

typedef struct Version {
    ViewNode *root;
    size_t n_ranges;
} Version;

struct VtLine {
    MemoryRegion region[VT_REGIONS];
    uint8_t host[1 << 17]; /* host addresses are computed, never followed */
    Version *version;
    unsigned n_versions, base;
    uint64_t gen;
    ViewEdit edit;
    RetireHead *graveyard;
    int64_t live_before;
};

static FlatRange to_flat(VtLine *line, const VtRange *r)
{
    FlatRange f = {
        .first = r->first,
        .last = r->last,
        .mr = &line->region[r->region],
        .offset = r->offset,
        .flags = r->flags,
    };

    if (r->region % 2) {
        f.host = line->host + r->offset;
    }

    return f;
}

static VtRange from_flat(VtLine *line, const FlatRange *f)
{
    VtRange r = {f->first, f->last, f->offset, (uint32_t)(f->mr - line->region), f->flags};

    /* host and offset move together */
    assert(f->host == (r.region % 2 ? line->host + f->offset : NULL));
    return r;
}

static void add_version(VtLine *line, ViewNode *root, size_t n_ranges)
{
    line->version = realloc(line->version, (line->n_versions + 1) * sizeof(*line->version));
    assert(line->version);
    line->version[line->n_versions++] = (Version){root, n_ranges};
}

VtLine *vt_new(void)
{
    VtLine *line = calloc(1, sizeof(*line));

    assert(line);
    line->live_before = (int64_t)mem_live_bytes();
    line->gen = 1; /* that of version 0 */
    add_version(line, NULL, 0);
    return line;
}

static void free_tree(ViewNode *node)
{
    unsigned i;

    for (i = 0; node->level && i < node->n; i++) {
        free_tree(view_inner_children(node)[i]);
    }
    node->retire.free(&node->retire);
}

int64_t vt_free(VtLine *line)
{
    ViewNode *last = line->version[line->n_versions - 1].root;
    RetireHead *head;
    int64_t left;

    if (last) {
        free_tree(last);
    }
    while ((head = line->graveyard)) {
        line->graveyard = head->next;
        head->free(head);
    }
    left = (int64_t)mem_live_bytes() - line->live_before;
    free(line->version);
    free(line);
    return left;
}

void vt_begin(VtLine *line, unsigned base)
{
    line->base = base;
    view_edit_begin(&line->edit, line->version[base].root, line->version[base].n_ranges, line->gen + 1, NULL);
}

int vt_clear(VtLine *line, uint64_t first, uint64_t last)
{
    return view_edit_clear(&line->edit, (AddrRange){first, last});
}

void vt_clear_later(VtLine *line, uint64_t first, uint64_t last)
{
    view_edit_clear_later(&line->edit, (AddrRange){first, last});
}

int vt_settle(VtLine *line)
{
    return view_edit_settle(&line->edit);
}

bool vt_is_hole(VtLine *line, uint64_t first, uint64_t last)
{
    return view_edit_is_hole(&line->edit, (AddrRange){first, last});
}

int vt_fill(VtLine *line, const VtRange *r)
{
    FlatRange f = to_flat(line, r);

    return view_edit_fill(&line->edit, &f);
}

void vt_abort(VtLine *line)
{
    view_edit_abort(&line->edit);
}

static void bury(VtLine *line, RetireHead *head)
{
    assert(head->birth < line->gen && head->death == 0);
    head->death = line->gen;
    head->next = line->graveyard;
    line->graveyard = head;
}

static void bury_tree(VtLine *line, ViewNode *node)
{
    unsigned i;

    for (i = 0; node->level && i < node->n; i++) {
        bury_tree(line, view_inner_children(node)[i]);
    }
    bury(line, &node->retire);
}

unsigned vt_commit(VtLine *line)
{
    ViewNode *newest = line->version[line->n_versions - 1].root;
    RetireHead *head, *next;

    line->gen++;
    for (head = line->edit.replaced; head; head = next) {
        next = head->next;
        bury(line, head);
    }
    if (line->base != line->n_versions - 1) {
        assert(line->base == 0); /* a new beginning shares nothing with what it replaces */
        if (newest) {
            bury_tree(line, newest);
        }
    }
    add_version(line, line->edit.root, line->edit.n_ranges);
    return line->n_versions - 1;
}

void vt_check_open(VtLine *line)
{
    view_tree_check(line->edit.root, line->edit.n_ranges);
}

size_t vt_replaced(const VtLine *line)
{
    const RetireHead *head;
    size_t n = 0;

    for (head = line->edit.replaced; head; head = head->next) {
        n++;
    }
    return n;
}

void vt_check(VtLine *line, unsigned version)
{
    view_tree_check(line->version[version].root, line->version[version].n_ranges);
}

size_t vt_count(VtLine *line, unsigned version)
{
    return line->version[version].n_ranges;
}

size_t vt_bytes(VtLine *line, unsigned version)
{
    return view_tree_bytes(line->version[version].root);
}

unsigned vt_height(VtLine *line, unsigned version)
{
    return line->version[version].root ? line->version[version].root->level + 1 : 0;
}

bool vt_find(VtLine *line, unsigned version, uint64_t addr, VtRange *ret)
{
    const FlatRange *f = view_find(line->version[version].root, addr);

    if (f) {
        *ret = from_flat(line, f);
    }
    return f != NULL;
}

bool vt_lower(VtLine *line, unsigned version, uint64_t addr, VtRange *ret)
{
    const FlatRange *f = view_lower(line->version[version].root, addr);

    if (f) {
        *ret = from_flat(line, f);
    }
    return f != NULL;
}

size_t vt_walk(VtLine *line, unsigned version, uint64_t addr, VtRange *ret, size_t cap)
{
    ViewIter it;
    const FlatRange *f = view_iter_first(&it, line->version[version].root, addr);
    size_t n;

    for (n = 0; f && n < cap; n++) {
        ret[n] = from_flat(line, f);
        f = view_iter_next(&it);
    }
    return n;
}

static bool lifetimes_hold(const ViewNode *node, uint64_t gen)
{
    unsigned i;

    if (node->retire.birth > gen || (node->retire.death && node->retire.death <= gen)) {
        return false;
    }
    for (i = 0; node->level && i < node->n; i++) {
        if (!lifetimes_hold(view_inner_children(node)[i], gen)) {
            return false;
        }
    }
    return true;
}

bool vt_lifetimes_hold(VtLine *line, unsigned version)
{
    return !line->version[version].root || lifetimes_hold(line->version[version].root, 1 + version);
}

typedef struct DiffCall {
    VtLine *line;
    VtDiffFn fn;
    void *arg;
} DiffCall;

static int diff_call(const FlatRange *old_range, const FlatRange *new_range, void *arg)
{
    DiffCall *call = arg;
    VtRange a, b;

    if (old_range) {
        a = from_flat(call->line, old_range);
    }
    if (new_range) {
        b = from_flat(call->line, new_range);
    }
    return call->fn(old_range ? &a : NULL, new_range ? &b : NULL, call->arg);
}

int vt_diff(VtLine *line, unsigned old_version, unsigned new_version, uint64_t first, uint64_t last, VtDiffFn fn,
            void *arg)
{
    DiffCall call = {line, fn, arg};

    return view_diff_span(line->version[old_version].root, line->version[new_version].root, (AddrRange){first, last},
                          diff_call, &call);
}

size_t vt_diff_entered(void)
{
#ifdef FLATVIEW_DEBUG_CHECKS
    return view_diff_entered;
#else
    return 0;
#endif
}

uint64_t vt_region_last_gen(VtLine *line, unsigned region)
{
    return line->region[region].last_gen;
}

uint64_t vt_fail_nth(uint64_t nth, bool sticky)
{
    return mem_fail_nth(nth, sticky);
}

static bool line_freed;

static void free_line(RetireLine *line)
{
    (void)line;
    line_freed = true;
}

static void fill_every(ViewEdit *edit, MemoryRegion *mr, unsigned n, unsigned step, hwaddr shift)
{
    unsigned i;

    for (i = 0; i < n; i += step) {
        FlatRange r = {.first = i * 16 + shift, .last = i * 16 + shift + 3, .mr = mr};
        int err = view_edit_clear(edit, (AddrRange){i * 16, i * 16 + 15});

        assert(!err);
        err = view_edit_fill(edit, &r);
        assert(!err);
    }
}

int64_t vt_retire_two_versions(unsigned n, size_t *ret_replaced)
{
    static MemoryRegion mr;
    RetireLine line;
    ViewEdit edit;
    RetireHead *head;
    uint64_t gen = 1000; /* of no other line */
    int64_t before;

    retire_help();
    before = (int64_t)mem_live_bytes();
    line_freed = false;
    retire_line_init(&line, free_line);
    view_edit_begin(&edit, NULL, 0, gen, &line);
    fill_every(&edit, &mr, n, 1, 0);
    assert(!edit.replaced); /* nothing but its own nodes */
    view_edit_retire(&edit, gen);
    view_edit_begin(&edit, edit.root, edit.n_ranges, gen + 1, &line);
    fill_every(&edit, &mr, n, 10, 4);
    *ret_replaced = 0;
    for (head = edit.replaced; head; head = head->next) {
        ++*ret_replaced;
    }
    view_edit_retire(&edit, gen + 1);
    view_tree_retire(edit.root, gen + 2);
    retire_flush();
    retire_line_unref(&line);
    retire_help();
    assert(line_freed);
    return (int64_t)mem_live_bytes() - before;
}
