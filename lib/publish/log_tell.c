/* SPDX-License-Identifier: MIT */
/*
 * log_tell.c - who has bits of a region that the library has not seen yet, and who must know that they were taken.
 *
 * Invariant: everything that a walk finds is listed before the first listener is called, so that a failure calls nobody, and
 * callbacks may do what needs a walk. Cost: the regions asked about and the stretches of views that show them; what is not logged
 * is not looked at.
 * Established by: list_region(). Relied on by: collectors, for whom a failed question means a failed collect.
 */
#include "publish/log_tell.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "publish/dirty.h"
#include "publish/plane_delta.h"
#include "publish/transaction.h"
#include "topology/dirty_log.h"

typedef struct Place {
    ViewCell *cell;
    MemoryRegionSection section;
} Place;

static struct {
    Place *at;
    size_t n, cap;
} places;

static struct {
    MemoryRegion **at;
    size_t n, cap;
} regions;

static struct {
    MemoryListener **at;
    size_t n, cap;
} everyone;

static uint64_t listening; /* atomic, relaxed */

bool log_listening(void)
{
    return __atomic_load_n(&listening, __ATOMIC_RELAXED) != 0;
}

void log_count_listener(const MemoryListener *listener, int by)
{
    if (listener->log_sync || listener->log_sync_global || listener->log_clear) {
        __atomic_fetch_add(&listening, (uint64_t)(int64_t)by, __ATOMIC_RELAXED);
    }
}

/* ---- where a region shows ------------------------------------------------------------------------------------- */

typedef struct Search {
    MemoryRegion *mr;
    AddrRange bytes; /* of the region */
    int err;
} Search;

/* What of the stretch is the region's. */
static void list_stretch(Search *search, ViewCell *cell, AddrRange stretch)
{
    const FlatRange *range;
    AddrRange shown, part;
    FlatRange cut;
    ViewIter it;

    if (!cell->n_wanting[MEMORY_PLANE_LOG] || !cell->current) {
        return;
    }
    for (range = view_iter_first(&it, cell->current->root, stretch.first); range && range->first <= stretch.last;
         range = view_iter_next(&it)) {
        shown = (AddrRange){range->first, range->last};
        if (range->mr != search->mr || range->flags & FLAT_INTERPOSED || !range_intersect(shown, stretch, &shown)) {
            continue;
        }
        part = (AddrRange){range->offset + (shown.first - range->first), range->offset + (shown.last - range->first)};
        if (!range_intersect(part, search->bytes, &part)) {
            continue;
        }
        if (mem_vec_reserve((void **)&places.at, &places.cap, places.n + 1, sizeof(*places.at)) < 0) {
            search->err = -ENOMEM;
            return;
        }
        cut = flat_range_cut(range, range->first + (part.first - range->offset), range->first + (part.last - range->offset));
        places.at[places.n++] = (Place){cell, flat_range_section(&cut)};
    }
}

static bool search_visit(MemoryRegion *mr, AddrRange window, MemoryRegion **aliases, void *arg)
{
    Search *search = arg;
    AddrRange absolute;

    if (mr->cell && mr->aliases) {
        *aliases = dirty_loud_aliases(mr);
    }
    if (mr->cell && range_shift_up(window, mr->addr, &absolute)) {
        list_stretch(search, mr->cell, absolute);
    }
    return search->err == 0;
}

/* A walk that is given up looks everywhere, once in each cell. */
static void list_everywhere(Search *search)
{
    Space *space;

    for (space = all_spaces.first; space && search->err == 0; space = space->next) {
        if (space->seen_cell->users == space) {
            list_stretch(search, space->seen_cell, ADDR_RANGE_ALL);
        }
    }
}

static int list_region(MemoryRegion *mr, AddrRange bytes)
{
    Search search = {.mr = mr, .bytes = bytes};
    size_t before = places.n;

    if (!region_walk_up(mr, bytes, search_visit, &search)) {
        places.n = before;
        list_everywhere(&search);
    }
    return search.err;
}

/* ---- telling -------------------------------------------------------------------------------------------------- */

static void tell_places(bool clear)
{
    MemoryListener *listener;
    Space *space;
    size_t i;

    for (i = 0; i < places.n; i++) {
        const MemoryRegionSection *section = &places.at[i].section;

        for (space = places.at[i].cell->users; space; space = space->user_next) {
            for (listener = space->seen_cell == places.at[i].cell ? space->listeners : NULL; listener;
                 listener = listener->next) {
                if (clear && listener->log_clear) {
                    listener->log_clear(listener, section);
                } else if (!clear && listener->log_sync) {
                    listener->log_sync(listener, section);
                }
            }
        }
    }
}

static void tell_sync_global(bool last_stage)
{
    MemoryListener *listener;
    Space *space;

    for (space = all_spaces.first; space; space = space->next) {
        for (listener = space->listeners; listener; listener = listener->next) {
            if (listener->log_sync_global && !listener->log_sync) {
                listener->log_sync_global(listener, last_stage);
            }
        }
    }
}

int log_list_region(MemoryRegion *mr, hwaddr first, hwaddr last)
{
    places.n = 0;
    return mr->state == REGION_STATE_LIVE ? list_region(mr, (AddrRange){first, last}) : 0;
}

void log_tell_sync(void)
{
    txn_set_delivering(true);
    tell_places(false);
    tell_sync_global(false);
    txn_set_delivering(false);
}

void log_tell_clear(void)
{
    txn_set_delivering(true);
    tell_places(true);
    txn_set_delivering(false);
}

/* A region that is alive while the topology lock is held stays so, though its block's list may move on. */
static int list_block(RamBlock *block, void *arg)
{
    MemoryRegion *mr = block->dirty.mr;

    (void)arg;
    if (mr->state != REGION_STATE_LIVE && mr->state != REGION_STATE_DYING) {
        return 0;
    }
    if (mem_vec_reserve((void **)&regions.at, &regions.cap, regions.n + 1, sizeof(*regions.at)) < 0) {
        return -ENOMEM;
    }
    regions.at[regions.n++] = mr;
    return 0;
}

int log_sync_all(bool last_stage)
{
    size_t i;
    int err;

    regions.n = places.n = 0;
    err = dirty_log_foreach(true, list_block, NULL);
    for (i = 0; i < regions.n && err == 0; i++) {
        err = list_region(regions.at[i], ADDR_RANGE_ALL);
    }
    if (err == 0) {
        txn_set_delivering(true);
        tell_places(false);
        tell_sync_global(last_stage);
        txn_set_delivering(false);
    }
    return err;
}

/* ---- everyone ------------------------------------------------------------------------------------------------- */

static int everyone_order(const void *a, const void *b)
{
    const MemoryListener *x = *(MemoryListener *const *)a, *y = *(MemoryListener *const *)b;

    if (x->priority != y->priority) {
        return x->priority < y->priority ? -1 : 1;
    }
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static int list_everyone(void)
{
    MemoryListener *listener;
    Space *space;

    everyone.n = 0;
    for (space = all_spaces.first; space; space = space->next) {
        if (mem_vec_reserve((void **)&everyone.at, &everyone.cap, everyone.n + space->n_listeners,
                            sizeof(*everyone.at)) < 0) {
            return -ENOMEM;
        }
        for (listener = space->listeners; listener; listener = listener->next) {
            everyone.at[everyone.n++] = listener;
        }
    }
    if (everyone.n > 1) {
        qsort(everyone.at, everyone.n, sizeof(*everyone.at), everyone_order);
    }
    return 0;
}

int log_after_sync(void)
{
    size_t i;
    int err = list_everyone();

    txn_set_delivering(true);
    for (i = 0; err == 0 && i < everyone.n; i++) {
        if (everyone.at[i]->log_global_after_sync) {
            everyone.at[i]->log_global_after_sync(everyone.at[i]);
        }
    }
    txn_set_delivering(false);
    return err;
}

static int global_change; /* of the open transaction */
static bool global_on;

void log_global_change(int change)
{
    global_change = change;
}

bool log_global_on(void)
{
    return global_on;
}

/* In reverse, the first n. */
static void tell_stop(size_t n)
{
    txn_set_delivering(true);
    while (n-- > 0) {
        if (everyone.at[n]->log_global_stop) {
            everyone.at[n]->log_global_stop(everyone.at[n]);
        }
    }
    txn_set_delivering(false);
}

int log_global_tell(void)
{
    size_t i;
    int err = global_change ? list_everyone() : 0;

    if (err < 0 || global_change <= 0) {
        return err;
    }
    txn_set_delivering(true);
    for (i = 0; i < everyone.n && err >= 0; i++) {
        err = everyone.at[i]->log_global_start ? everyone.at[i]->log_global_start(everyone.at[i]) : 0;
    }
    txn_set_delivering(false);
    if (err < 0) {
        tell_stop(i - 1);
        return err;
    }
    return 0;
}

void log_global_cancel(void)
{
    if (global_change > 0) {
        tell_stop(everyone.n);
    }
}

void log_global_done(void)
{
    if (global_change < 0) {
        tell_stop(everyone.n);
    }
    if (global_change) {
        global_on = global_change > 0;
        global_change = 0;
    }
}
