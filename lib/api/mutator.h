/* SPDX-License-Identifier: MIT */
/*
 * mutator.h - the frame of every public function that changes a region.
 *
 * A transaction of one change, or a nested one; between the two calls the region is live and the topology lock held.
 */
#ifndef FLATVIEW_API_MUTATOR_H
#define FLATVIEW_API_MUTATOR_H

#include <errno.h>

#include "publish/transaction.h"

static inline int mutator_begin(MemoryRegion *mr)
{
    int err;

    if (!mr) {
        return -EINVAL;
    }
    err = txn_begin();
    if (err == 0) {
        err = region_adopt(mr);
        if (err < 0) {
            txn_end();
        }
    }
    return err;
}

/* err: of a change that, if it failed, has left nothing behind: so there is nothing to abort. */
static inline int mutator_end(int err)
{
    int end = txn_end();

    return err < 0 ? err : end;
}

#endif
