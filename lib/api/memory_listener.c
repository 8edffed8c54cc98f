/* SPDX-License-Identifier: MIT */
/*
 * memory_listener.c - the public face of publish/deliver.c, which owns the invariant.
 */
#include <errno.h>

#include <flatview/memory_listener.h>

#include "publish/deliver.h"
#include "publish/transaction.h"

int memory_listener_register(MemoryListener *listener, AddressSpace *as)
{
    int err;

    if (!listener || !as) {
        return -EINVAL;
    }
    if (txn_depth) {
        return -EBUSY;
    }
    err = txn_begin();
    if (err < 0) {
        return err;
    }
    if (!as->space) {
        err = -EINVAL;
    } else if (listener->state != LISTENER_NONE) {
        err = -EBUSY;
    } else {
        err = listener_join(listener, as->space);
    }
    txn_end();
    return err;
}

int memory_listener_unregister(MemoryListener *listener)
{
    int err;

    if (!listener) {
        return -EINVAL;
    }
    if (txn_delivering()) { /* the round in which we are holds the topology lock */
        if (listener->state != LISTENER_REGISTERED) {
            return -EINVAL;
        }
        listener_leave_later(listener);
        return 0;
    }
    if (txn_depth) {
        return -EBUSY;
    }
    err = txn_begin_removal();
    if (err < 0) {
        return err;
    }
    if (listener->state == LISTENER_REGISTERED) {
        listener_leave(listener);
        round_end();
    } else {
        err = -EINVAL;
    }
    txn_end();
    return err;
}
