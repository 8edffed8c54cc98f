/* SPDX-License-Identifier: MIT */
/*
 * memory_dirty_global.c - the dirty log of all RAM: start, stop, ask.
 *
 * Invariant: reasons are counted in a transaction, like everything that can fail, so a start that a listener refuses has counted
 * nothing (publish/logging.c).
 */
#include <errno.h>

#include <flatview/memory_dirty.h>

#include "publish/log_tell.h"
#include "publish/logging.h"

static int change(unsigned reasons, bool log)
{
    int err;

    if (!reasons || reasons & ~GLOBAL_DIRTY_MASK) {
        return -EINVAL;
    }
    if (txn_depth) {
        return -EBUSY;
    }
    err = log ? txn_begin() : txn_begin_removal();
    if (err < 0) {
        return err;
    }
    err = !log && (global_log_reasons() & reasons) != reasons ? -EINVAL : change_global_log(reasons, log);
    if (err < 0) {
        txn_abort();
        return err;
    }
    return txn_end();
}

int memory_global_dirty_log_start(unsigned reasons)
{
    return change(reasons, true);
}

int memory_global_dirty_log_stop(unsigned reasons)
{
    return change(reasons, false);
}

unsigned memory_global_dirty_log_reasons(void)
{
    return global_log_reasons();
}

int memory_global_dirty_log_sync(bool last_stage)
{
    int err;

    if (!log_listening()) {
        return txn_delivering() ? -EBUSY : 0;
    }
    err = txn_enter();
    if (err == 0) {
        err = log_sync_all(last_stage);
        txn_leave();
    }
    return err;
}

int memory_global_after_dirty_log_sync(void)
{
    int err = txn_enter();

    if (err == 0) {
        err = log_after_sync();
        txn_leave();
    }
    return err;
}
