/* SPDX-License-Identifier: MIT */
/*
 * memory_serial.c - locks and counts of regions: check the contract, begin, change, end.
 *
 * Invariant: whoever would wait for itself is told so (-EDEADLK): for a grace period in a read section, for a call that it is
 * in, for a call that may be waiting for the topology lock that it holds.
 */
#include <errno.h>

#include <flatview/memory_serial.h>

#include "access/call.h"
#include "base/reader.h"
#include "base/retire.h"
#include "publish/change_calls.h"

static int begin_on(MemoryRegion *mr)
{
    int err = mr ? txn_begin() : -EINVAL;

    if (err == 0) {
        err = region_adopt(mr);
        if (err < 0) {
            txn_end();
        }
    }
    return err;
}

static int end_with(int err)
{
    int end = txn_end();

    return err < 0 ? err : end;
}

int memory_region_set_lock(MemoryRegion *mr, MemoryLock *lock)
{
    int err;

    if (lock && (lock->acquire ? !lock->release : lock->release || !lock->mutex)) {
        return -EINVAL;
    }
    err = begin_on(mr);
    return err < 0 ? err : end_with(change_calls(mr, CALLS_LOCK, (uintptr_t)lock));
}

MemoryLock *memory_region_get_lock(const MemoryRegion *mr)
{
    const RegionCalls *calls = region_calls(mr);

    return calls ? region_peek(calls->lock) : NULL;
}

/*
 * *ret_counting: 0, or the number of a count that settles when a grace period has passed: calls that nobody counts may be in
 * flight. It may be that of another thread, which is waiting just now: then its count is not ours to rely on any sooner.
 */
static int count_calls(MemoryRegion *mr, bool may_wait, uint64_t *ret_counting)
{
    bool in_force = mr->hooks & REGION_HOOK_COUNT; /* still, if this transaction took it away */
    bool wait = in_force ? calls_count_unsettled(mr->calls) : mr->first_gen;
    int err;

    if (wait && !may_wait) {
        return -EDEADLK;
    }
    err = region_calls_make(mr) ? change_hooks(mr, REGION_HOOK_COUNT, 0) : -ENOMEM;
    if (err < 0) {
        return err;
    }
    if (in_force) {
        calls_count_put_back(mr->calls, true);
    } else {
        calls_count_begin(mr->calls, !wait);
    }
    *ret_counting = calls_count_unsettled(mr->calls);
    return 0;
}

static int uncount_calls(MemoryRegion *mr)
{
    int err;

    if (!(mr->hooks_wanted & REGION_HOOK_COUNT)) {
        return 0;
    }
    err = calls_count_end(mr->calls);
    if (err < 0) {
        return err;
    }
    err = change_hooks(mr, 0, REGION_HOOK_COUNT);
    if (err < 0) {
        calls_count_put_back(mr->calls, true);
    }
    return err;
}

int memory_region_set_counted(MemoryRegion *mr, bool counted)
{
    bool may_wait = !reader_ongoing() && !txn_holds_lock() && !calls_make_readers_wait();
    uint64_t counting = 0;
    int err = begin_on(mr);

    if (err < 0) {
        return err;
    }
    err = end_with(counted ? count_calls(mr, may_wait, &counting) : uncount_calls(mr));
    if (err == 0 && counting) {
        reader_wait();
        calls_count_settle(region_calls(mr), counting);
    }
    return err;
}

int memory_region_stop_calls(MemoryRegion *mr, MemoryStop how)
{
    RegionCalls *calls = mr ? region_calls(mr) : NULL;

    if (!calls || (how != MEMORY_STOP_REFUSE && how != MEMORY_STOP_WAIT)) {
        return -EINVAL;
    }
    if (call_is_in(calls) || txn_holds_lock()) {
        return -EDEADLK;
    }
    return calls_stop(calls, how == MEMORY_STOP_WAIT);
}

int memory_region_resume_calls(MemoryRegion *mr)
{
    RegionCalls *calls = mr ? region_calls(mr) : NULL;

    return calls ? calls_resume(calls) : -EINVAL;
}

int memory_region_quiesce_calls(MemoryRegion *mr)
{
    int err = memory_region_stop_calls(mr, MEMORY_STOP_WAIT);

    return err < 0 ? err : memory_region_resume_calls(mr);
}
