/* SPDX-License-Identifier: MIT */
/*
 * space.h - the writers' side of an AddressSpace, and the chain of regions that decides which view it sees.
 *
 * Invariant (between transactions): a space is a user of exactly the cell whose root is render_root(space->root), or of
 * the empty cell if that is NULL; as->cell is that cell; and each region whose change could alter this answer carries a
 * ChainLink of the space. Inside a transaction, spaces whose chain was touched are on the resolve list until staging puts
 * them right.
 *
 * Everything here is guarded by the topology lock.
 */
#ifndef FLATVIEW_PUBLISH_SPACE_H
#define FLATVIEW_PUBLISH_SPACE_H

#include "publish/cell.h"
#include "publish/map_pool.h"
#include "topology/region.h"

typedef struct FlatviewChainLink {
    struct Space *space;
    MemoryRegion *mr;
    struct FlatviewChainLink *next, **pprev; /* on mr->chains; NULL pprev: not entered */
} ChainLink;

typedef struct Chain {
    unsigned n;
    ChainLink link[];
} Chain;

typedef struct Space {
    AddressSpace *as;
    MemoryRegion *root; /* as registered */
    char *name;
    void (*release)(AddressSpace *as);

    ViewCell *cell;      /* what the space will see when the transaction commits */
    ViewCell *seen_cell; /* what readers see: as->cell */
    struct Space *user_next, **user_pprev; /* on cell->users */

    Chain *chain;       /* entered in its regions */
    Chain *saved_chain; /* the one from before the transaction, if it was replaced */

    bool resolve; /* on the resolve list */
    bool moved;   /* on the list of spaces whose cell or chain changed in this transaction */
    struct Space *resolve_next, *moved_next;

    struct Space *rooted_next, *rooted_prev; /* on root->rooted */
    /* What the changes of transaction number dirt_serial can have shown at the registered root. Kept by the first of the spaces
       that have this root, for all of them: a machine has thousands with the same. */
    AddrRange dirt;
    uint64_t dirt_serial;

    MemoryListener *listeners, *listeners_last; /* ascending (priority, seq) */
    size_t n_listeners;
    size_t n_wanting[MEMORY_PLANE_COUNT]; /* listeners of a plane */

    MemoryDelta delta; /* if the space moves to another cell in this commit */

    MapPool maps; /* has its own lock */

    struct Space *next, *prev; /* all spaces, in order of creation */
    struct Space *same_hash;   /* next in the table of space_of() */
    RetireHead retire;
} Space;

typedef struct SpaceList {
    Space *first, *last;
    size_t count;
} SpaceList;
extern SpaceList all_spaces;

Space *space_new(AddressSpace *as, MemoryRegion *root, const char *name); /* NULL: -ENOMEM. A user of the empty cell */
void space_link(Space *space);                                          /* into all_spaces and onto root->rooted */
void space_unlink(Space *space);                                        /* the inverse; leaves its cell and chain */
Space *space_of(const AddressSpace *as);                                /* the one that is linked, or NULL; as is not read */
void space_retire(Space *space);                                        /* after space_unlink() */
void space_discard(Space *space);                                       /* after space_new(): nobody knows it yet */
void space_end(Space *space); /* outside transactions: it leaves its cell, its chain and the list, and is retired */
void space_use_cell(Space *space, ViewCell *cell);                      /* move between cells' user lists */
/* A listener of the space that wants these planes (bits) has come, by = 1, or gone, by = -1. */
void space_count_listener(Space *space, unsigned wanted, int by);

Chain *chain_new(Space *space); /* for the tree as it is now, not entered; NULL: -ENOMEM */
void chain_enter(Chain *chain);
void chain_leave(Chain *chain);
void chain_free(Chain *chain); /* NULL is a no-op */

#endif
