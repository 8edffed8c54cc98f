/* SPDX-License-Identifier: MIT */
/*
 * space.c - spaces, which cell each uses, and the chains that tie it to the tree.
 *
 * Invariant: as stated in space.h. A cell's n_users, n_listening and n_wanting are the lengths of what they count.
 * Established by: space_use_cell(), called by staging and by its undo. Relied on by: staging, which lets a cell die when
 * its last user leaves, and by the commit, which looks for listeners only where n_listening says there are some.
 */
#include "publish/space.h"

#include <errno.h>

#include "base/mem.h"
#include "view/render.h"

SpaceList all_spaces;

/* ---- lists ---- */

static struct {
    Space **bucket;
    size_t n; /* a power of two, or 0 */
} table;

static Space **bucket_of(const AddressSpace *as)
{
    uint64_t hash = (uint64_t)(uintptr_t)as * UINT64_C(0x9e3779b97f4a7c15); /* 2^64 / the golden ratio */

    return &table.bucket[(hash >> 32) & (table.n - 1)];
}

static void table_put(Space *space)
{
    Space **bucket = bucket_of(space->as);

    space->same_hash = *bucket;
    *bucket = space;
}

/* Room for one more. A table that cannot grow gets slower; only without any there is no more space. */
static int table_reserve(void)
{
    size_t n = table.n ? 2 * table.n : 16;
    Space **bucket = table.bucket, *space;

    if (all_spaces.count < table.n) {
        return 0;
    }
    table.bucket = mem_zalloc(n * sizeof(*bucket));
    if (!table.bucket) {
        table.bucket = bucket;
        return table.n ? 0 : -ENOMEM;
    }
    mem_free(bucket, table.n * sizeof(*bucket));
    table.n = n;
    for (space = all_spaces.first; space; space = space->next) {
        table_put(space);
    }
    return 0;
}

Space *space_of(const AddressSpace *as)
{
    Space *space = table.n ? *bucket_of(as) : NULL;

    while (space && space->as != as) {
        space = space->same_hash;
    }
    return space;
}

void space_link(Space *space)
{
    Space *rooted = space->root->rooted;

    space->prev = all_spaces.last;
    space->next = NULL;
    *(all_spaces.last ? &all_spaces.last->next : &all_spaces.first) = space;
    all_spaces.last = space;
    __atomic_store_n(&all_spaces.count, all_spaces.count + 1, __ATOMIC_RELAXED);
    table_put(space);

    space->rooted_next = rooted;
    if (rooted) {
        rooted->rooted_prev = space;
        space->dirt = rooted->dirt;
        space->dirt_serial = rooted->dirt_serial;
    }
    space->root->rooted = space;
}

void space_unlink(Space *space)
{
    Space **at = bucket_of(space->as), *next = space->rooted_next;

    *(space->prev ? &space->prev->next : &all_spaces.first) = space->next;
    *(space->next ? &space->next->prev : &all_spaces.last) = space->prev;
    __atomic_store_n(&all_spaces.count, all_spaces.count - 1, __ATOMIC_RELAXED);
    while (*at != space) {
        at = &(*at)->same_hash;
    }
    *at = space->same_hash;
    if (!all_spaces.first) {
        mem_free(table.bucket, table.n * sizeof(*table.bucket));
        table.bucket = NULL;
        table.n = 0;
    }

    if (next) {
        next->rooted_prev = space->rooted_prev;
    }
    if (space->rooted_prev) {
        space->rooted_prev->rooted_next = next;
        return;
    }
    if (next) {
        next->dirt = space->dirt;
        next->dirt_serial = space->dirt_serial;
    }
    space->root->rooted = next;
}

Space *space_new(AddressSpace *as, MemoryRegion *root, const char *name)
{
    Space *space = table_reserve() < 0 ? NULL : mem_zalloc(sizeof(*space));

    if (!space) {
        return NULL;
    }
    space->name = mem_strdup(name ? name : "");
    if (!space->name) {
        mem_free(space, sizeof(*space));
        return NULL;
    }
    space->as = as;
    space->root = root;
    space->seen_cell = &empty_cell;
    map_pool_init(&space->maps);
    return space;
}

static void space_free(RetireHead *head)
{
    Space *space = container_of(head, Space, retire);
    AddressSpace *as = space->as;
    void (*release)(AddressSpace *as) = space->release;

    map_pool_fini(&space->maps);
    mem_strfree(space->name);
    mem_free(space, sizeof(*space));
    if (release) {
        release(as);
    }
}

void space_retire(Space *space)
{
    space->retire = (RetireHead){.free = space_free, .bytes = sizeof(*space), .kind = RETIRE_OBJECT};
    retire_push(&space->retire);
}

void space_discard(Space *space)
{
    map_pool_fini(&space->maps);
    mem_strfree(space->name);
    mem_free(space, sizeof(*space));
}

void space_end(Space *space)
{
    ViewCell *cell = space->cell;

    chain_leave(space->chain);
    chain_free(space->chain);
    space_use_cell(space, NULL);
    space_unlink(space);
    if (!cell->n_users && cell != &empty_cell) {
        cell_retire(cell);
    }
    space_retire(space);
}

/* Among the users of cell, space comes or goes with all its listeners. */
static void count_user(ViewCell *cell, const Space *space, int by)
{
    unsigned plane;

    cell->n_users += (size_t)by;
    if (space->n_listeners) {
        cell->n_listening += (size_t)by;
        for (plane = 0; plane < MEMORY_PLANE_COUNT; plane++) {
            cell->n_wanting[plane] += space->n_wanting[plane] ? (size_t)by : 0;
        }
    }
}

void space_count_listener(Space *space, unsigned wanted, int by)
{
    unsigned plane;

    count_user(space->cell, space, -1);
    space->n_listeners += (size_t)by;
    for (plane = 0; plane < MEMORY_PLANE_COUNT; plane++) {
        space->n_wanting[plane] += wanted >> plane & 1 ? (size_t)by : 0;
    }
    count_user(space->cell, space, 1);
}

void space_use_cell(Space *space, ViewCell *cell)
{
    ViewCell *old = space->cell;

    if (old == cell) {
        return;
    }
    if (old) {
        *space->user_pprev = space->user_next;
        if (space->user_next) {
            space->user_next->user_pprev = space->user_pprev;
        }
        count_user(old, space, -1);
    }
    space->cell = cell;
    region_shape_changed();
    if (cell) {
        space->user_next = cell->users;
        space->user_pprev = &cell->users;
        if (cell->users) {
            cell->users->user_pprev = &space->user_next;
        }
        cell->users = space;
        count_user(cell, space, 1);
    }
}

/* ---- chains ---- */

typedef struct ChainBuild {
    Space *space;
    Chain *chain; /* NULL while counting */
    unsigned n, cap;
} ChainBuild;

static void chain_visit(MemoryRegion *mr, void *arg)
{
    ChainBuild *build = arg;

    if (build->chain && build->n < build->cap) {
        build->chain->link[build->n] = (ChainLink){.space = build->space, .mr = mr};
    }
    build->n++;
}

Chain *chain_new(Space *space)
{
    ChainBuild build = {.space = space};
    Chain *chain;

    render_root(space->root, chain_visit, &build);
    build.cap = build.n;
    chain = mem_alloc(sizeof(*chain) + build.cap * sizeof(chain->link[0]));
    if (chain) {
        build.chain = chain;
        build.n = 0;
        chain->n = build.cap;
        render_root(space->root, chain_visit, &build);
    }
    return chain;
}

void chain_enter(Chain *chain)
{
    unsigned i;

    region_shape_changed();
    for (i = 0; i < chain->n; i++) {
        ChainLink *link = &chain->link[i];
        ChainLink **head = &link->mr->chains;

        link->next = *head;
        link->pprev = head;
        if (*head) {
            (*head)->pprev = &link->next;
        }
        *head = link;
    }
}

void chain_leave(Chain *chain)
{
    unsigned i;

    region_shape_changed();
    for (i = 0; i < chain->n; i++) {
        ChainLink *link = &chain->link[i];

        if (link->pprev) {
            *link->pprev = link->next;
            if (link->next) {
                link->next->pprev = link->pprev;
            }
            link->pprev = NULL;
        }
    }
}

void chain_free(Chain *chain)
{
    if (chain) {
        mem_free(chain, sizeof(*chain) + chain->n * sizeof(chain->link[0]));
    }
}
