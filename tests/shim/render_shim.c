/* SPDX-License-Identifier: MIT */
/*
 * render_shim.c - see render_shim.h.
 */
#include "shim/render_shim.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "view/render.h"

_Static_assert(RT_READONLY == FLAT_READONLY && RT_NONVOLATILE == FLAT_NONVOLATILE && RT_ROMD == FLAT_ROMD &&
                   RT_DIRECT_READ == FLAT_DIRECT_READ && RT_DIRECT_WRITE == FLAT_DIRECT_WRITE && RT_EXACT == FLAT_EXACT &&
                   RT_IO_SHIFT == FLAT_IO_SHIFT,
               "flags as in view/flat_range.h");

struct RtView {
    ViewEdit edit;
};

RtView *rt_new(uint64_t gen)
{
    RtView *view = malloc(sizeof(*view));

    assert(view);
    view_edit_begin(&view->edit, NULL, 0, gen, NULL);
    return view;
}

void rt_free(RtView *view)
{
    view_edit_abort(&view->edit);
    free(view);
}

int rt_render(RtView *view, MemoryRegion *root, hwaddr first, hwaddr last)
{
    int err = view_edit_clear(&view->edit, (AddrRange){first, last});

    return err ? err : render_span(&view->edit, root, (AddrRange){first, last});
}

size_t rt_count(const RtView *view)
{
    return view->edit.n_ranges;
}

size_t rt_ranges(const RtView *view, RtRange *ret, size_t cap)
{
    ViewIter it;
    const FlatRange *r = view_iter_first(&it, view->edit.root, 0);
    size_t n;

    for (n = 0; r && n < cap; n++) {
        ret[n] = (RtRange){r->first, r->last, r->mr, r->offset, r->bias, r->host, r->ops, r->flags};
        r = view_iter_next(&it);
    }
    return n;
}

void rt_check(const RtView *view)
{
    view_tree_check(view->edit.root, view->edit.n_ranges);
}

uint64_t rt_steps(const RtView *view)
{
    return view->edit.steps;
}

MemoryRegion *rt_root(MemoryRegion *root, void (*visit)(MemoryRegion *mr, void *arg), void *arg)
{
    return render_root(root, visit, arg);
}

unsigned rt_max_depth(void)
{
    return RENDER_MAX_DEPTH;
}

uint64_t rt_fail_nth(uint64_t nth)
{
    return mem_fail_nth(nth, true);
}
