/* SPDX-License-Identifier: MIT */
/*
 * cell.c - the life of a cell and of its versions.
 *
 * Invariant: a FlatView is complete before cell_publish() and constant after it; each version is retired exactly once,
 * before the nodes that it alone reached, in ascending death: what base/retire.h asks of its callers.
 * Established by: the commit, under the topology lock. Relied on by: every reader, through space_cell() and cell_view().
 */
#include "publish/cell.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/live.h"
#include "base/lock.h"
#include "base/mem.h"
#include "topology/region.h"

#define EMPTY_VIEW_GENERATION 1

static uint64_t newest_generation = EMPTY_VIEW_GENERATION; /* written under the topology lock, read anywhere */

static void line_keep(RetireLine *line)
{
    (void)line; /* static: there is nothing to free */
}

static RetireLine empty_line = {.refs = 1, .free = line_keep};

/* Pinned once for ever, so that no unpin can be its last. */
static FlatView empty_view = {
    .pin = {.head = {.line = &empty_line, .birth = EMPTY_VIEW_GENERATION, .kind = RETIRE_PIN}, .count = 1},
    .gen = EMPTY_VIEW_GENERATION,
};

ViewCell empty_cell = {.current = &empty_view, .gen = EMPTY_VIEW_GENERATION, .line = &empty_line};

uint64_t generation_next(void)
{
    uint64_t gen = newest_generation + 1;

    __atomic_store_n(&newest_generation, gen, __ATOMIC_RELAXED);
    return gen;
}

uint64_t generation_newest(void)
{
    return __atomic_load_n(&newest_generation, __ATOMIC_RELAXED);
}

static uint64_t live_cells; /* written under the topology lock, read anywhere */

static void count_cell(int by)
{
    __atomic_store_n(&live_cells, live_cells + (uint64_t)(int64_t)by, __ATOMIC_RELAXED);
}

uint64_t cell_live_count(void)
{
    return __atomic_load_n(&live_cells, __ATOMIC_RELAXED);
}

static void line_free(RetireLine *line)
{
    mem_free(line, sizeof(*line));
}

static void view_free(RetireHead *head)
{
    FlatView *view = container_of(head, FlatView, pin.head);

    live_sub(LIVE_VIEWS, 1);
    mem_free(view, sizeof(*view));
}

static FlatView *view_new(ViewCell *cell, const ViewNode *root, size_t n_ranges, uint64_t gen)
{
    FlatView *view = mem_alloc(sizeof(*view));

    if (view) {
        live_add(LIVE_VIEWS, 1);
        view->pin.head = (RetireHead){
            .line = cell->line, .birth = gen, .kind = RETIRE_PIN, .bytes = sizeof(*view), .free = view_free};
        view->pin.count = 0; /* the rest of a pin is set when it is linked */
        view->root = root;
        view->gen = gen;
        view->n_ranges = n_ranges;
        view->root_mr = cell->root;
        view->page_mask = cell->root->last <= UINT16_MAX ? VIEW_NO_PAGES : VIEW_PAGES;
        if (!cell->root->first_gen) {
            cell->root->first_gen = gen; /* a container is in no range, but flatview_root() reaches it */
        }
    }
    return view;
}

ViewCell *cell_new(MemoryRegion *root)
{
    ViewCell *cell = mem_zalloc(sizeof(*cell));

    if (!cell) {
        return NULL;
    }
    cell->line = mem_zalloc(sizeof(*cell->line));
    if (!cell->line) {
        mem_free(cell, sizeof(*cell));
        return NULL;
    }
    retire_line_init(cell->line, line_free);
    cell->root = root;
    cell->fresh = true;
    cell->dirty_all = true;
    root->cell = cell;
    count_cell(1);
    return cell;
}

static void cell_free(RetireHead *head)
{
    ViewCell *cell = container_of(head, ViewCell, retire);

    mem_vec_free((void **)&cell->spans, &cell->cap_spans, sizeof(*cell->spans));
    mem_free(cell, sizeof(*cell));
}

void cell_discard(ViewCell *cell)
{
    cell_drop_edit(cell);
    cell->root->cell = NULL;
    count_cell(-1);
    retire_line_unref(cell->line);
    cell_free(&cell->retire);
}

void cell_retire(ViewCell *cell)
{
    const FlatView *view = cell->current;
    uint64_t death = generation_next();
    ViewIter it;
    const FlatRange *r;

    /* Views of this line may be pinned and reach these regions: they end with the line. */
    for (r = view_iter_first(&it, view->root, 0); r; r = view_iter_next(&it)) {
        r->mr->last_gen = death;
    }
    view->root_mr->last_gen = death;
    count_cell(-1);
    if (cell->root->cell == cell) {
        cell->root->cell = NULL;
    }
    cell->current->pin.head.death = death;
    retire_push(&cell->current->pin.head);
    view_tree_retire((ViewNode *)(uintptr_t)view->root, death);
    retire_line_unref(cell->line);
    cell->line = NULL;
    cell->retire = (RetireHead){.free = cell_free, .bytes = sizeof(*cell), .kind = RETIRE_OBJECT};
    retire_push(&cell->retire);
}

int cell_prepare_view(ViewCell *cell)
{
    cell->next_view = view_new(cell, cell->edit.root, cell->edit.n_ranges, cell->edit.gen);
    return cell->next_view ? 0 : -ENOMEM;
}

void cell_publish(ViewCell *cell)
{
    FlatView *view = cell->next_view;

    lock_assert_held(&topology_lock);
    cell->old_view = cell->current;
    __atomic_store_n(&cell->page_mask, view->page_mask, __ATOMIC_RELAXED);
    /* The order that cell.h promises: a reader that has seen the new view does not find the old gen. */
    writer_publish(&cell->gen, view->gen);
    writer_publish(&cell->current, view);
}

void cell_retire_replaced(ViewCell *cell)
{
    uint64_t death = cell->next_view->gen;

    if (cell->old_view) {
        cell->old_view->root_mr->last_gen = death;
        cell->old_view->pin.head.death = death;
        retire_push(&cell->old_view->pin.head);
        cell->old_view = NULL;
    }
    view_edit_retire(&cell->edit, death);
    cell->next_view = NULL;
    cell->editing = false;
    cell->fresh = false;
}

void cell_drop_edit(ViewCell *cell)
{
    if (cell->next_view) {
        assert(!cell->next_view->pin.count && "a listener pinned a view before it was published");
        view_free(&cell->next_view->pin.head);
        cell->next_view = NULL;
    }
    if (cell->editing) {
        view_edit_abort(&cell->edit);
        cell->editing = false;
    }
}
