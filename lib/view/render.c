/* SPDX-License-Identifier: MIT */
/*
 * render.c - what a region tree shows in a span of addresses.
 *
 * Invariant: paint() paints at most what mr shows inside window, and all of that which was still empty. So painting
 * brothers topmost first, and a region's own backing after its children, makes an earlier paint win, and nothing painted
 * is ever looked at again. Aliases are followed here and nowhere else; the views know none.
 *
 * Coordinates: window is in mr's own addresses, clipped to mr; origin is the absolute address of mr's address 0, modulo
 * 2^64. origin may "lie below zero" (an alias of the upper part of a region, at 0), but window.first + origin never wraps,
 * because every window is an intersection with the span on the way down.
 *
 * Relied on by: the commit and staged look-ups, under the topology lock, which keeps the tree still.
 */
#include "view/render.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "view/interposal.h"

#define SCRATCH_INLINE 64

typedef struct Render {
    ViewEdit *edit;
    uint64_t work_limit; /* for edit->work */
    unsigned depth;
    const InterposeLayer *layers; /* that it is inside of */
    /* Brothers that overlap, waiting to be sorted and painted: a stack shared by all levels of the recursion. */
    MemoryRegion **scratch;
    size_t used, cap;
    MemoryRegion *scratch_inline[SCRATCH_INLINE]; /* until there are more; nearly always enough */
} Render;

static int scratch_push(Render *rd, MemoryRegion *mr)
{
    if (rd->used == rd->cap) {
        void *vec = rd->scratch == rd->scratch_inline ? NULL : rd->scratch;
        size_t cap = vec ? rd->cap : 0;

        if (mem_vec_reserve(&vec, &cap, rd->used + 1, sizeof(*rd->scratch)) < 0) {
            return -ENOMEM;
        }
        if (rd->scratch == rd->scratch_inline) {
            memcpy(vec, rd->scratch_inline, rd->used * sizeof(*rd->scratch));
        }
        rd->scratch = vec;
        rd->cap = cap;
    }
    rd->scratch[rd->used++] = mr;
    return 0;
}

/* Topmost first: higher priority, then later added. */
static int compare_topmost(const void *a, const void *b)
{
    const MemoryRegion *x = *(MemoryRegion *const *)a, *y = *(MemoryRegion *const *)b;

    if (x->priority != y->priority) {
        return x->priority > y->priority ? -1 : 1;
    }
    return x->order > y->order ? -1 : x->order < y->order;
}

/* What a region's own backing looks like to dispatch. flags: what was gathered on the way, the region's own included. */
static int paint_backing(Render *rd, MemoryRegion *mr, AddrRange window, hwaddr origin, uint32_t flags)
{
    FlatRange r = {
        .first = origin + window.first,
        .last = origin + window.last,
        .mr = mr,
        .offset = window.first,
        .bias = mr->bias,
    };
    bool direct = false, exact = false;

    switch (mr->kind) {
    case MEMORY_KIND_RAM:
    case MEMORY_KIND_ROM:
        direct = true;
        break;
    case MEMORY_KIND_RAM_DEVICE:
        exact = true;
        r.ops = mr->ops; /* while there is no memory; then only their widths matter */
        break;
    case MEMORY_KIND_ROM_DEVICE:
        direct = mr->romd;
        r.ops = mr->ops;
        break;
    case MEMORY_KIND_IOMMU:
        flags |= FLAT_IOMMU;
        break;
    default:
        r.ops = mr->ops;
        break;
    }
    if (mr->romd) {
        flags |= FLAT_ROMD;
    }
    if (mr->host && (direct || exact)) {
        r.host = (uint8_t *)mr->host + window.first;
        if (exact) {
            flags |= FLAT_EXACT;
        } else {
            flags |= FLAT_DIRECT_READ;
            if (mr->kind == MEMORY_KIND_RAM && !(flags & FLAT_READONLY)) {
                flags |= FLAT_DIRECT_WRITE;
            }
        }
    }
    r.flags = flags | (flags & FLAT_EXACT ? 0 : mr->io_flags << FLAT_IO_SHIFT);
    if (!mr->first_gen) {
        mr->first_gen = rd->edit->gen;
    }
    /* An IOMMU region answers nothing: what it leads to stands elsewhere, and is interposed there or not. */
    if (__builtin_expect(rd->layers != NULL, 0) && !(flags & FLAT_IOMMU)) {
        int err = interposal_put(rd->layers, origin, rd->edit->gen, &r);

        if (err < 0) {
            return err;
        }
    }
    return view_edit_fill(rd->edit, &r);
}

static int paint(Render *rd, MemoryRegion *mr, AddrRange window, hwaddr origin, uint32_t flags);

static int paint_child(Render *rd, MemoryRegion *child, AddrRange window, hwaddr origin, uint32_t flags)
{
    if (!range_shift_down(window, child->addr, &window)) {
        return 0;
    }
    return paint(rd, child, window, origin + child->addr, flags);
}

/* first, and all after it that begin before the end of what is in the group: topmost first. Sets *ret_next to what comes
   after them, NULL at the end. */
static __attribute__((noinline)) int paint_group(Render *rd, MemoryRegion *first, AddrRange window, hwaddr origin,
                                                 uint32_t flags, MemoryRegion **ret_next)
{
    size_t base = rd->used, i;
    MemoryRegion *next = first;
    hwaddr group_last = 0;
    AddrRange place;
    int err = 0;

    do {
        if (++rd->edit->work > rd->work_limit) {
            return -E2BIG;
        }
        if (region_place(next, &place)) {
            group_last = place.last > group_last ? place.last : group_last;
        }
        err = scratch_push(rd, next);
        next = children_next(next, window);
    } while (next && !err && next->addr <= group_last);
    qsort(&rd->scratch[base], rd->used - base, sizeof(*rd->scratch), compare_topmost);
    for (i = base; i < rd->used && !err; i++) {
        err = paint_child(rd, rd->scratch[i], window, origin, flags);
    }
    rd->used = base;
    *ret_next = next;
    return err;
}

/*
 * Children come ascending by address. Those that overlap no brother have no rank to respect and are painted as they come,
 * without being stored or sorted: ascending, too, which is the order in which a view fills best. Only a group whose
 * extents overlap is gathered, and painted topmost first.
 */
static int paint_children(Render *rd, MemoryRegion *mr, AddrRange window, hwaddr origin, uint32_t flags)
{
    MemoryRegion *child = children_first(mr, window), *next;
    AddrRange place;
    int err = 0;

    for (; child && !err; child = next) {
        next = children_next(child, window);
        if (next && region_place(child, &place) && next->addr <= place.last) {
            err = paint_group(rd, child, window, origin, flags, &next);
        } else {
            err = paint_child(rd, child, window, origin, flags);
        }
    }
    return err;
}

static int paint_interposed(Render *rd, MemoryRegion *mr, AddrRange window, hwaddr origin, uint32_t flags)
{
    const InterposeLayer layer = {mr, origin, rd->layers};
    int err;

    rd->layers = &layer;
    err = paint_children(rd, mr, window, origin, flags);
    rd->layers = layer.outer;
    return err;
}

static int paint(Render *rd, MemoryRegion *mr, AddrRange window, hwaddr origin, uint32_t flags)
{
    unsigned depth = rd->depth;
    int err = 0;

    for (;;) {
        AddrRange own;

        if (!mr->enabled || !region_extent(mr, &own) || !range_intersect(window, own, &window)) {
            break;
        }
        if (++rd->edit->work > rd->work_limit || ++rd->depth > RENDER_MAX_DEPTH) {
            err = -E2BIG;
            break;
        }
        flags |= (mr->readonly ? FLAT_READONLY : 0) | (mr->nonvolatile ? FLAT_NONVOLATILE : 0);
        if (mr->kind == MEMORY_KIND_ALIAS) {
            if (!range_shift_up(window, mr->alias_offset, &window)) {
                break;
            }
            origin -= mr->alias_offset;
            mr = mr->alias;
            continue;
        }
        if (mr->children) {
            err = mr->interposer ? paint_interposed(rd, mr, window, origin, flags) :
                                   paint_children(rd, mr, window, origin, flags);
        }
        if (!err && region_terminates(mr)) {
            err = paint_backing(rd, mr, window, origin, flags);
        }
        break;
    }
    rd->depth = depth;
    return err;
}

int render_span(ViewEdit *edit, MemoryRegion *root, AddrRange span)
{
    Render rd;
    AddrRange window;
    int err;

    if (!root || !range_shift_down(span, root->addr, &window)) {
        return 0;
    }
    rd.edit = edit;
    rd.work_limit = edit->work + RENDER_MAX_STEPS;
    rd.depth = 0;
    rd.layers = NULL;
    rd.scratch = rd.scratch_inline;
    rd.used = 0;
    rd.cap = SCRATCH_INLINE;
    err = paint(&rd, root, window, root->addr, 0);
    if (rd.scratch != rd.scratch_inline) {
        void *vec = rd.scratch;

        mem_vec_free(&vec, &rd.cap, sizeof(*rd.scratch));
    }
    return err;
}

static bool covers_size(const MemoryRegion *mr, const MemoryRegion *other)
{
    return other->size_is_zero || (!mr->size_is_zero && mr->last >= other->last);
}

MemoryRegion *render_root(MemoryRegion *root, void (*visit)(MemoryRegion *mr, void *arg), void *arg)
{
    MemoryRegion *mr = root, *inner;
    unsigned hops;

    if (visit) {
        visit(mr, arg);
    }
    for (hops = 0; mr->enabled; hops++) {
        if (mr->kind == MEMORY_KIND_ALIAS) {
            inner = mr->alias;
        } else if (mr->kind != MEMORY_KIND_CONTAINER) {
            return mr;
        } else if (!mr->n_enabled_children) {
            return NULL;
        } else if (mr->n_enabled_children == 1) {
            inner = children_first_enabled(mr); /* the only one */
        } else {
            return mr;
        }
        /* Also where the chain ends here, a change of inner may let it go on. */
        if (visit) {
            visit(inner, arg);
        }
        /* A root is painted at its own offset: where the two differ, inner would appear elsewhere. */
        if (hops == RENDER_MAX_DEPTH || mr->readonly || mr->nonvolatile || mr->interposer || !covers_size(mr, inner) ||
            mr->addr != inner->addr || (mr->kind == MEMORY_KIND_ALIAS ? mr->alias_offset : mr->addr) != 0) {
            return mr;
        }
        mr = inner;
    }
    return NULL;
}
