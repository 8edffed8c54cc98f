/* SPDX-License-Identifier: MIT */
/*
 * compare.c - where flatview and QEMU must agree.
 *
 * Invariant: views are pinned while they are compared by address, so that one address is one view.
 */
#include "compare.h"

#include "sections.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define DIRTY_CODE 2 /* QEMU's TCG logs code in all that has a RAM block; the captures are TCG's */

struct Compare {
    const Machine *machine;
    const TopoRange *next, *end;
    char *buf;
    size_t len;
};

static char flag(unsigned flags, unsigned which, char letter)
{
    return flags & which ? letter : '-';
}

static void describe(const Machine *m, const TopoRange *r, char *buf, size_t len)
{
    snprintf(buf, len, "%" PRIx64 "-%" PRIx64 " of %.60s (%llu) +%" PRIx64 " %c%c%c dirty %x", r->first, r->last,
             m->topo->regions[r->region].name, (unsigned long long)r->region_id, r->offset,
             flag(r->flags, TOPO_READONLY, 'r'), flag(r->flags, TOPO_NONVOLATILE, 'v'), flag(r->flags, TOPO_ROMD, 'o'),
             r->dirty);
}

/* What the library says, in the terms of the file. */
static TopoRange record(const Machine *m, const MemoryRegionSection *s)
{
    const MachineRegion *region = container_of(s->mr, MachineRegion, mr);
    bool block = m->topo->regions[region->index].flags & TOPO_BLOCK;

    return (TopoRange){
        .first = s->offset_within_address_space,
        .last = s->last,
        .region = region->index,
        .region_id = region->id,
        .offset = s->offset_within_region,
        .flags = (uint16_t)((s->readonly ? TOPO_READONLY : 0) | (s->nonvolatile ? TOPO_NONVOLATILE : 0) |
                            (s->romd ? TOPO_ROMD : 0)),
        .dirty = (uint8_t)(memory_region_get_dirty_log_mask(s->mr) | (block ? DIRTY_CODE : 0)),
    };
}

static int compare_range(const MemoryRegionSection *section, void *arg)
{
    struct Compare *c = arg;
    const TopoRange *want = c->next;
    TopoRange have = record(c->machine, section);
    char has[SECTION_TEXT], should[SECTION_TEXT];

    if (want < c->end && have.first == want->first && have.last == want->last && have.region == want->region &&
        have.offset == want->offset && have.flags == want->flags && have.dirty == want->dirty) {
        c->next++;
        return 0;
    }
    describe(c->machine, &have, has, sizeof(has));
    if (want < c->end) {
        describe(c->machine, want, should, sizeof(should));
    }
    snprintf(c->buf, c->len, "view has %s, recorded is %s", has, want < c->end ? should : "its end");
    return 1;
}

static bool compare_view(const Machine *m, const TopoView *v, const FlatView *view, char *buf, size_t len)
{
    const TopoRange *first = m->topo->ranges + v->first_range;
    struct Compare c = { m, first, first + v->n_ranges, buf, len };
    const MemoryRegion *root = flatview_root(view);
    const MemoryRegion *recorded = v->root == TOPO_NONE ? NULL : &m->regions[v->root]->mr;

    if (root != recorded) {
        snprintf(buf, len, "view made from %s, recorded is %s", root ? memory_region_name(root) : "nothing",
                 recorded ? memory_region_name(recorded) : "nothing");
        return false;
    }
    if (flatview_for_each_range(view, 0, UINT64_MAX, compare_range, &c)) {
        return false;
    }
    if (c.next < c.end) {
        char should[SECTION_TEXT];

        describe(m, c.next, should, sizeof(should));
        snprintf(buf, len, "view ends before the recorded %s", should);
        return false;
    }
    return true;
}

static bool compare_space(const Machine *m, const TopoSpace *s, FlatView *view, FlatView *shared, char *buf, size_t len)
{
    char what[400];

    if (shared && shared != view) {
        snprintf(buf, len, "space %.80s does not share its view", s->name);
        return false;
    }
    if (shared || compare_view(m, &m->topo->views[s->view], view, what, sizeof(what))) {
        return true;
    }
    snprintf(buf, len, "space %.80s: %s", s->name, what);
    return false;
}

static int compare_pointers(const void *a, const void *b)
{
    const FlatView *x = *(FlatView *const *)a, *y = *(FlatView *const *)b;

    return (uintptr_t)x < (uintptr_t)y ? -1 : (uintptr_t)x > (uintptr_t)y;
}

bool compare_views(const Machine *machine, char *buf, size_t len)
{
    const TopoFile *topo = machine->topo;
    FlatView **views = calloc(topo->n_views + 1, sizeof(*views)); /* by recorded view; pinned */
    size_t n = 0;
    bool ok = views;

    if (!ok) {
        snprintf(buf, len, "out of memory");
    }
    for (size_t i = 0; ok && i < topo->n_spaces; i++) {
        const TopoSpace *s = &topo->spaces[i];
        FlatView *view;

        if (s->view == TOPO_NONE) {
            continue;
        }
        view = address_space_get_flatview(&machine->spaces[i]->as);
        ok = compare_space(machine, s, view, views[s->view], buf, len);
        if (views[s->view]) {
            flatview_unref(view);
        } else {
            views[s->view] = view;
        }
    }
    for (size_t i = 0; i < topo->n_views; i++) {
        if (views && views[i]) {
            views[n++] = views[i];
        }
    }
    if (ok) {
        qsort(views, n, sizeof(*views), compare_pointers);
    }
    for (size_t i = 1; ok && i < n; i++) {
        if (views[i] == views[i - 1]) {
            snprintf(buf, len, "two views that differ by the record are one here");
            ok = false;
        }
    }
    while (n > 0) {
        flatview_unref(views[--n]);
    }
    free(views);
    return ok;
}

struct Diff {
    Sections before, added;
    size_t *kept; /* indices into before, ascending, of what no difference named */
    size_t next, n_kept;
    const char *wrong;
    char text[SECTION_TEXT];
};

/* Up to the old section of this difference everything was kept. Additions wait: an old range further on may still lie
   where a new one will. */
static int apply(const MemoryRegionSection *old_section, const MemoryRegionSection *new_section, void *arg)
{
    struct Diff *d = arg;

    if (old_section) {
        while (d->next < d->before.n && !section_equal(&d->before.list[d->next], old_section)) {
            d->kept[d->n_kept++] = d->next++;
        }
        if (d->next++ >= d->before.n) {
            d->wrong = "is not in the old view, or out of order";
            section_text(old_section, d->text);
        }
    }
    if (new_section && !d->wrong) {
        d->wrong = sections_put(&d->added, new_section);
        section_text(new_section, d->text);
    }
    return d->wrong ? 1 : 0;
}

/* What was kept and what was added, merged; a kept range under an added one is found by sections_put(). */
static const char *merge(struct Diff *d, Sections *ret)
{
    size_t i = 0, j = 0;

    while (!d->wrong && (i < d->n_kept || j < d->added.n)) {
        const MemoryRegionSection *kept = i < d->n_kept ? &d->before.list[d->kept[i]] : NULL;
        const MemoryRegionSection *added = j < d->added.n ? &d->added.list[j] : NULL;
        bool take_kept = !added || (kept && kept->offset_within_address_space < added->offset_within_address_space);

        d->wrong = sections_put(ret, take_kept ? kept : added);
        section_text(take_kept ? kept : added, d->text);
        i += take_kept;
        j += !take_kept;
    }
    return d->wrong;
}

bool compare_diff(FlatView *old_view, FlatView *new_view, char *buf, size_t len)
{
    struct Diff d = { .wrong = NULL };
    Sections after = {0};
    char what[400];
    bool ok = false;

    d.wrong = sections_of(&d.before, old_view);
    d.kept = calloc(d.before.n + 1, sizeof(*d.kept));
    if (!d.wrong && !d.kept) {
        d.wrong = "out of memory";
    }
    if (!d.wrong) {
        flatview_diff(old_view, new_view, apply, &d);
    }
    while (!d.wrong && d.next < d.before.n) {
        d.kept[d.n_kept++] = d.next++;
    }
    if (merge(&d, &after)) {
        snprintf(buf, len, "flatview_diff: %s: %s", d.text, d.wrong);
    } else if (!sections_match(&after, new_view, what, sizeof(what))) {
        snprintf(buf, len, "flatview_diff: %s", what);
    } else {
        ok = true;
    }
    sections_free(&d.before);
    sections_free(&d.added);
    sections_free(&after);
    free(d.kept);
    return ok;
}
