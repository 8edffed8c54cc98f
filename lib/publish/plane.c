/* SPDX-License-Identifier: MIT */
/*
 * plane.c - versions of what regions carry, and where an edit can be seen.
 *
 * Invariant: a region is on txn.staged_planes while it has a staged version. An object (a duplicated file, say) belongs to
 * one item; it is freed by the undo that takes the item away, retired by the commit that takes it out, or freed with the
 * region. What was added and taken out in one transaction is retired as if it had been seen.
 * Established by: plane_add(), plane_remove() and the functions of the commit. Relied on by: dispatch, which finds in
 * RegionPlanes.seen nothing that may go away while it looks. Under the topology lock.
 */
#include "publish/plane.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "publish/dirty.h"
#include "publish/transaction.h"
#include "topology/dirty_log.h"

#define KEEP_MARKS 4096 /* memory for this many stays between commits */

/* An edit that can be seen in a cell, at these addresses. */
typedef struct Mark {
    const ViewCell *cell;
    AddrRange span;
    MemoryPlane plane;
} Mark;

static struct {
    Mark *at;
    size_t n, cap;
} marks;

/* ---- edits ---- */

RegionPlanes *plane_region(MemoryRegion *mr)
{
    RegionPlanes *planes = mr->planes;

    if (!planes) {
        planes = mem_zalloc(sizeof(*planes));
        if (planes) {
            planes->mr = mr;
            writer_publish(&mr->planes, (void *)planes);
        }
    }
    return planes;
}

const PlaneSet *plane_now(const MemoryRegion *mr, MemoryPlane plane)
{
    const RegionPlanes *planes = mr->planes;

    return !planes ? NULL : planes->staged[plane] ? planes->staged[plane] : planes->seen[plane];
}

/* A version to edit, with room for more. NULL: -ENOMEM. */
static PlaneSet *stage_set(MemoryRegion *mr, MemoryPlane plane, size_t more)
{
    RegionPlanes *planes = plane_region(mr);
    PlaneSet **staged;

    if (!planes) {
        return NULL;
    }
    staged = &planes->staged[plane];
    if (*staged) {
        return plane_set_reserve(staged, more) < 0 ? NULL : *staged;
    }
    *staged = plane_set_copy(planes->seen[plane], more);
    if (*staged && !planes->listed) {
        planes->listed = true;
        planes->next_staged = txn.staged_planes;
        txn.staged_planes = planes;
    }
    if (*staged) {
        planes->edited[plane] = (AddrRange){UINT64_MAX, 0}; /* nothing yet */
    }
    return *staged;
}

static void note_edit(RegionPlanes *planes, MemoryPlane plane, const PlaneItem *item)
{
    AddrRange *edited = &planes->edited[plane];

    edited->first = item->first < edited->first ? item->first : edited->first;
    edited->last = item->last > edited->last ? item->last : edited->last;
}

static UndoEntry *log_edit(MemoryRegion *mr, MemoryPlane plane, uint32_t index, bool added)
{
    UndoEntry *entry = txn_log(UNDO_PLANE, mr);

    if (entry) {
        entry->plane = (uint8_t)plane;
        entry->added = added;
        entry->a = index;
    }
    return entry;
}

int plane_add(MemoryRegion *mr, MemoryPlane plane, const PlaneItem *item)
{
    PlaneSet *set = stage_set(mr, plane, 1);
    UndoEntry *entry = set ? log_edit(mr, plane, set->n, true) : NULL;

    if (!entry) {
        return -ENOMEM;
    }
    entry->object = item->object;
    plane_set_put(set, item);
    note_edit(mr->planes, plane, item);
    return 0;
}

int plane_remove(MemoryRegion *mr, MemoryPlane plane, uint32_t index)
{
    PlaneSet *set = stage_set(mr, plane, 0); /* a copy keeps each item's index */
    UndoEntry *entry = set ? log_edit(mr, plane, index, false) : NULL;

    if (!entry) {
        return -ENOMEM;
    }
    entry->object = set->items[index].object;
    plane_set_take_out(set, index);
    note_edit(mr->planes, plane, &set->items[index]);
    return 0;
}

void plane_undo(const UndoEntry *entry, bool mark)
{
    if (mark) {
        RegionPlanes *planes = entry->mr->planes;
        PlaneSet *set = planes->staged[entry->plane];

        if (entry->added) {
            plane_set_drop_last(set);
        } else {
            plane_set_put_back(set, (uint32_t)entry->a);
        }
    }
    if (entry->added && entry->object) {
        entry->object->retire.free(&entry->object->retire); /* nobody has seen it */
    }
}

/* ---- where edits can be seen ---- */

typedef struct MarkWalk {
    MemoryPlane plane;
    int err;
} MarkWalk;

static void mark(ViewCell *cell, MemoryPlane plane, AddrRange span, int *err)
{
    if (!cell->n_wanting[plane]) {
        return; /* nobody to tell */
    }
    if (mem_vec_reserve((void **)&marks.at, &marks.cap, marks.n + 1, sizeof(*marks.at)) < 0) {
        *err = -ENOMEM;
        return;
    }
    marks.at[marks.n++] = (Mark){cell, span, plane};
    dirty_touch(cell);
}

static bool mark_visit(MemoryRegion *mr, AddrRange window, MemoryRegion **aliases, void *arg)
{
    MarkWalk *walk = arg;
    AddrRange absolute;

    if (mr->cell && mr->aliases) {
        *aliases = dirty_loud_aliases(mr);
    }
    if (mr->cell && range_shift_up(window, mr->addr, &absolute)) { /* a root is painted at its own offset */
        mark(mr->cell, walk->plane, absolute, &walk->err);
    }
    return walk->err == 0;
}

static int mark_edit(MemoryRegion *mr, MemoryPlane plane, AddrRange edited)
{
    MarkWalk walk = {.plane = plane};
    Space *space;

    if (!region_walk_up(mr, edited, mark_visit, &walk)) {
        for (space = all_spaces.first; space && walk.err == 0; space = space->next) {
            mark(space->cell, plane, ADDR_RANGE_ALL, &walk.err);
        }
    }
    return walk.err;
}

static int mark_group(const Mark *a, const Mark *b)
{
    if (a->cell != b->cell) {
        return (uintptr_t)a->cell < (uintptr_t)b->cell ? -1 : 1;
    }
    return a->plane < b->plane ? -1 : a->plane > b->plane;
}

static int mark_order(const void *va, const void *vb)
{
    const Mark *a = va, *b = vb;
    int group = mark_group(a, b);

    return group ? group : a->span.first < b->span.first ? -1 : a->span.first > b->span.first;
}

static void settle_marks(void)
{
    size_t i, n = 0;

    if (marks.n < 2) {
        return;
    }
    qsort(marks.at, marks.n, sizeof(*marks.at), mark_order);
    for (i = 1; i < marks.n; i++) {
        Mark *last = &marks.at[n], *next = &marks.at[i];

        if (mark_group(last, next) == 0 && next->span.first <= last->span.last) {
            last->span.last = next->span.last > last->span.last ? next->span.last : last->span.last;
        } else {
            marks.at[++n] = *next;
        }
    }
    marks.n = n + 1;
}

int plane_stage(void)
{
    RegionPlanes *planes;
    MemoryRegion *mr;
    unsigned plane;
    int err = 0;

    for (planes = txn.staged_planes; planes; planes = planes->next_staged) {
        for (plane = 0; plane < MEMORY_PLANE_COUNT && err == 0; plane++) {
            if (planes->staged[plane]) {
                plane_set_seal(planes->staged[plane]);
                if (planes->edited[plane].first <= planes->edited[plane].last) {
                    err = mark_edit(planes->mr, plane, planes->edited[plane]);
                }
            }
        }
    }
    for (mr = dirty_log_changed(NULL); mr && err == 0; mr = dirty_log_changed(mr)) {
        err = mark_edit(mr, MEMORY_PLANE_LOG, ADDR_RANGE_ALL);
    }
    settle_marks();
    return err;
}

bool plane_span(const ViewCell *cell, MemoryPlane plane, size_t i, AddrRange *ret_span)
{
    const Mark key = {.cell = cell, .plane = plane};
    size_t low = 0, high = marks.n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (mark_group(&marks.at[middle], &key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (i >= marks.n - low || mark_group(&marks.at[low + i], &key) != 0) {
        return false;
    }
    *ret_span = marks.at[low + i].span;
    return true;
}

bool plane_in_use(MemoryPlane plane)
{
    return plane == MEMORY_PLANE_LOG ? dirty_log_in_use() : plane_set_live(plane) || txn.staged_planes;
}

/* ---- the end of the transaction ---- */

static void end_edits(void)
{
    marks.n = 0;
    if (marks.cap > KEEP_MARKS) {
        mem_vec_free((void **)&marks.at, &marks.cap, sizeof(*marks.at));
    }
}

void plane_publish(void)
{
    RegionPlanes *planes;
    unsigned plane;

    for (planes = txn.staged_planes; planes; planes = planes->next_staged) {
        for (plane = 0; plane < MEMORY_PLANE_COUNT; plane++) {
            PlaneSet *set = planes->staged[plane], *old = planes->seen[plane];

            if (!set) {
                continue;
            }
            if (!set->n) {
                plane_set_free(set);
                set = NULL;
            }
            plane_set_count_live(plane, set, old);
            writer_publish(&planes->seen[plane], set);
            planes->staged[plane] = old; /* until plane_retire() */
        }
    }
}

void plane_retire(void)
{
    RegionPlanes *planes;
    unsigned plane;
    size_t i;

    end_edits();
    if (!txn.staged_planes) {
        return;
    }
    while ((planes = txn.staged_planes)) {
        txn.staged_planes = planes->next_staged;
        planes->listed = false;
        for (plane = 0; plane < MEMORY_PLANE_COUNT; plane++) {
            if (planes->staged[plane]) {
                retire_push(&planes->staged[plane]->retire);
                planes->staged[plane] = NULL;
            }
        }
    }
    for (i = 0; i < txn.n_undo; i++) {
        const UndoEntry *entry = &txn.undo[i];

        if (entry->op == UNDO_PLANE && !entry->added && entry->object) {
            retire_push(&entry->object->retire);
        }
    }
}

void plane_forget(void)
{
    RegionPlanes *planes;
    unsigned plane;

    end_edits();
    while ((planes = txn.staged_planes)) {
        txn.staged_planes = planes->next_staged;
        planes->listed = false;
        for (plane = 0; plane < MEMORY_PLANE_COUNT; plane++) {
            plane_set_free(planes->staged[plane]);
            planes->staged[plane] = NULL;
        }
    }
}
