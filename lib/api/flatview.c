/* SPDX-License-Identifier: MIT */
/*
 * flatview.c - the public functions of <flatview/flatview.h>.
 *
 * Invariant: nothing here writes to a view. A pin is counted in the writer's line (RetirePin), so that pinning does not
 * disturb readers of root and gen. No lock is taken; what keeps the view alive is the caller's pin or read section.
 */
#include <flatview/flatview.h>

#include "base/range.h"
#include "view/flat_view.h"
#include "view/viewdiff.h"

FlatView *flatview_ref(FlatView *view)
{
    retire_pin(&view->pin);
    return view;
}

void flatview_unref(FlatView *view)
{
    if (view) {
        retire_unpin(&view->pin);
    }
}

uint64_t flatview_generation(const FlatView *view)
{
    return view->gen;
}

size_t flatview_count(const FlatView *view)
{
    return view->n_ranges;
}

MemoryRegion *flatview_root(const FlatView *view)
{
    return view->root_mr;
}

bool flatview_find(const FlatView *view, hwaddr addr, MemoryRegionSection *ret_section)
{
    const FlatRange *r = view_find(view->root, addr);

    if (!r) {
        return false;
    }
    *ret_section = flat_range_section(r);
    return true;
}

bool memory_region_find(const FlatView *view, hwaddr addr, uint64_t size, MemoryRegionSection *ret_section)
{
    AddrRange window = {0, UINT64_MAX}, piece;
    const FlatRange *r;
    FlatRange cut;

    if (!size) {
        return false;
    }
    if (size != UINT64_MAX) {
        window.last = size - 1;
    }
    range_shift_up(window, addr, &window); /* clips, and leaves at least addr itself */
    r = view_lower(view->root, window.first);
    if (!r || !range_intersect(window, (AddrRange){r->first, r->last}, &piece)) {
        return false;
    }
    cut = flat_range_cut(r, piece.first, piece.last);
    *ret_section = flat_range_section(&cut);
    return true;
}

int flatview_for_each_range(const FlatView *view, hwaddr first, hwaddr last,
                            int (*fn)(const MemoryRegionSection *section, void *arg), void *arg)
{
    ViewIter it;
    const FlatRange *r;
    int ret = 0;

    for (r = view_iter_first(&it, view->root, first); r && r->first <= last && !ret; r = view_iter_next(&it)) {
        MemoryRegionSection section = flat_range_section(r);

        ret = fn(&section, arg);
    }
    return ret;
}

typedef struct DiffCall {
    int (*fn)(const MemoryRegionSection *old_section, const MemoryRegionSection *new_section, void *arg);
    void *arg;
} DiffCall;

static int diff_section(const FlatRange *old_range, const FlatRange *new_range, void *arg)
{
    const DiffCall *call = arg;
    MemoryRegionSection section = flat_range_section(old_range ? old_range : new_range);

    return old_range ? call->fn(&section, NULL, call->arg) : call->fn(NULL, &section, call->arg);
}

int flatview_diff(const FlatView *old_view, const FlatView *new_view,
                  int (*fn)(const MemoryRegionSection *old_section, const MemoryRegionSection *new_section, void *arg),
                  void *arg)
{
    DiffCall call = {fn, arg};

    return view_diff(old_view->root, new_view->root, diff_section, &call);
}
