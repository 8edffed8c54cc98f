/* SPDX-License-Identifier: MIT */
/*
 * storm_audit.c - views against the tree, point by point.
 *
 * Accesses and mirrors are compared with views; this compares views with the tree that they should show, so a view
 * that is wrong from the start is found as well. resolve() is the rule of visibility for one address, written down in
 * the order in which one would explain it; it asks the public functions alone and knows neither ranges nor spans.
 *
 * Invariant: both sides are read inside one transaction of this thread that changes nothing: the topology lock keeps
 * others from changing the tree or publishing.
 */
#include "storm.h"

#include <string.h>

typedef struct Point {
    hwaddr offset;
    bool readonly, nonvolatile;
    MemoryRegionSection *ret;
} Point;

static bool resolve(MemoryRegion *mr, Point p);

static int resolve_child(MemoryRegion *child, void *arg)
{
    Point p = *(Point *)arg;
    hwaddr addr = memory_region_get_addr(child);

    if (p.offset < addr) {
        return false;
    }
    p.offset -= addr;
    return resolve(child, p);
}

static bool resolve(MemoryRegion *mr, Point p)
{
    uint64_t size = memory_region_size(mr);
    MemoryRegion *target = memory_region_get_alias_target(mr);

    if (!memory_region_is_enabled(mr) || (size != UINT64_MAX && p.offset >= size)) {
        return false;
    }
    p.readonly |= memory_region_is_readonly(mr) || memory_region_is_rom(mr);
    p.nonvolatile |= memory_region_is_nonvolatile(mr);
    if (target) {
        p.offset += memory_region_get_alias_offset(mr);
        return p.offset >= memory_region_get_alias_offset(mr) && resolve(target, p);
    }
    if (memory_region_foreach_child(mr, resolve_child, &p) > 0) {
        return true;
    }
    if (memory_region_is_container(mr)) {
        return false;
    }
    *p.ret = (MemoryRegionSection){
        .mr = mr,
        .offset_within_region = p.offset,
        .readonly = p.readonly,
        .nonvolatile = p.nonvolatile,
        .romd = !memory_region_is_rom_device(mr) || memory_region_is_romd(mr),
    };
    return true;
}

/* offset_within_region of what is returned is that of addr itself. */
bool resolve_point(const AddressSpace *as, hwaddr addr, MemoryRegionSection *ret_section)
{
    MemoryRegion *root = address_space_root(as);
    Point p = { .offset = addr - memory_region_get_addr(root), .ret = ret_section };
    bool found = addr >= memory_region_get_addr(root) && resolve(root, p);

    if (found) {
        ret_section->offset_within_address_space = addr;
    }
    return found;
}

bool same_point(hwaddr addr, bool a_found, const MemoryRegionSection *a, bool b_found, const MemoryRegionSection *b)
{
    if (!a_found || !b_found) {
        return a_found == b_found;
    }
    return a->mr == b->mr &&
           a->offset_within_region + (addr - a->offset_within_address_space) ==
               b->offset_within_region + (addr - b->offset_within_address_space) &&
           a->readonly == b->readonly && a->nonvolatile == b->nonvolatile && a->romd == b->romd;
}

static const char *point_text(hwaddr addr, bool found, const MemoryRegionSection *s, char *buf)
{
    MemoryRegionSection one;

    if (!found) {
        return "nothing";
    }
    one = *s;
    one.offset_within_region += addr - s->offset_within_address_space;
    one.offset_within_address_space = one.last = addr;
    return section_text(&one, buf);
}

/* The transaction of this thread is open and has changed nothing. */
static bool audit_point(const StormSpace *space, const FlatView *view, hwaddr addr)
{
    MemoryRegionSection in_tree, in_view;
    bool tree = resolve_point(space->as, addr, &in_tree), found = flatview_find(view, addr, &in_view);
    char a[SECTION_TEXT], b[SECTION_TEXT];

    if (same_point(addr, tree, &in_tree, found, &in_view)) {
        return true;
    }
    storm_violation("%s: at %llx the tree shows %s, the view of generation %llu %s", space->name,
                    (unsigned long long)addr, point_text(addr, tree, &in_tree, a),
                    (unsigned long long)flatview_generation(view), point_text(addr, found, &in_view, b));
    return false;
}

bool audit_space(StormThread *t, const StormSpace *space, const hwaddr *at, unsigned n)
{
    FlatView *view = address_space_get_flatview(space->as);
    bool ok = true;

    for (unsigned i = 0; i < n && ok; i++) {
        ok = audit_point(space, view, at[i]) && audit_point(space, view, at[i] - 1);
    }
    ok = ok && audit_point(space, view, storm_random(t) >> storm_below(t, 64));
    flatview_unref(view);
    return ok;
}

typedef struct Edges {
    const StormSpace *space;
    const FlatView *view;
    bool ok;
} Edges;

/* Where a range is wrong, an edge is: of it, or of what should be in its place. */
static int audit_range(const MemoryRegionSection *section, void *arg)
{
    Edges *e = arg;
    hwaddr first = section->offset_within_address_space;

    e->ok = audit_point(e->space, e->view, first) && audit_point(e->space, e->view, section->last) &&
            (first == 0 || audit_point(e->space, e->view, first - 1)) &&
            (section->last == UINT64_MAX || audit_point(e->space, e->view, section->last + 1)) &&
            audit_point(e->space, e->view, first + (section->last - first) / 2);
    return !e->ok;
}

bool audit_everything(StormThread *t, const StormSpace *space)
{
    FlatView *view;
    Edges e = { .space = space, .ok = memory_transaction_begin() == 0 };

    if (!e.ok) {
        storm_violation("a transaction cannot begin");
        return false;
    }
    view = address_space_get_flatview(space->as);
    e.view = view;
    flatview_for_each_range(view, 0, UINT64_MAX, audit_range, &e);
    flatview_unref(view);
    storm_count(&t->audits);
    return memory_transaction_commit() == 0 && e.ok;
}
