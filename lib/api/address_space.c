/* SPDX-License-Identifier: MIT */
/*
 * address_space.c - making, ending and listing address spaces; what readers do is in address_space_access.c.
 *
 * Invariant: as->cell names a cell from the moment address_space_init() has returned until the space is released, so a
 * reader needs no check; as->space is the writers' side for as long as the space is registered.
 */
#include <errno.h>

#include <flatview/address_space.h>

#include "publish/dirty.h"
#include "publish/stage.h"
#include "publish/transaction.h"

static int space_init(AddressSpace *as, MemoryRegion *root, const char *name)
{
    Space *space;
    UndoEntry *entry;
    int err = region_adopt(root);

    if (err < 0) {
        return err;
    }
    if (space_of(as)) { /* the struct itself may hold anything, so it cannot be asked */
        return -EBUSY;
    }
    space = space_new(as, root, name);
    if (!space) {
        return -ENOMEM;
    }
    entry = txn_log(UNDO_SPACE_INIT, NULL);
    if (!entry) {
        space_discard(space);
        return -ENOMEM;
    }
    entry->space = space;
    as->space = space;
    writer_publish(&as->cell, (void *)&empty_cell);
    space_link(space);
    space_use_cell(space, &empty_cell);
    dirty_resolve_space(space);
    return 0;
}

int address_space_init(AddressSpace *as, MemoryRegion *root, const char *name)
{
    int err, end;

    if (!as || !root) {
        return -EINVAL;
    }
    err = txn_begin();
    if (err < 0) {
        return err;
    }
    err = space_init(as, root, name);
    end = txn_end();
    return err < 0 ? err : end;
}

int address_space_destroy(AddressSpace *as, void (*release)(AddressSpace *as))
{
    Space *space;
    int err;

    if (!as) {
        return -EINVAL;
    }
    if (txn_depth) {
        return -EBUSY;
    }
    err = txn_begin();
    if (err < 0) {
        return err;
    }
    space = as->space;
    if (!space) {
        err = -EINVAL;
    } else if (space->n_listeners || !map_pool_close(&space->maps)) {
        err = -EBUSY;
    } else {
        as->space = NULL;
        space->release = release;
        space_end(space);
    }
    txn_end();
    return err;
}

const char *address_space_name(const AddressSpace *as)
{
    const Space *space = as->space;

    return space ? space->name : NULL;
}

MemoryRegion *address_space_root(const AddressSpace *as)
{
    const Space *space = as->space;

    return space ? space->root : NULL;
}

int address_space_find_staged(AddressSpace *as, hwaddr addr, MemoryRegionSection *ret_section)
{
    const FlatRange *r;
    int err;

    if (!txn_depth || txn_delivering() || !as || !as->space) {
        return -EINVAL;
    }
    err = stage_all();
    if (err < 0) {
        return err;
    }
    r = stage_find(as->space, addr);
    if (!r) {
        return 0;
    }
    *ret_section = flat_range_section(r);
    return 1;
}

int address_space_foreach(int (*fn)(AddressSpace *as, void *arg), void *arg)
{
    Space *space;
    int ret;

    if (!fn) {
        return -EINVAL;
    }
    ret = txn_enter();
    if (ret < 0) {
        return ret;
    }
    for (space = all_spaces.first; space && ret == 0; space = space->next) {
        ret = fn(space->as, arg);
    }
    txn_leave();
    return ret;
}
