/* SPDX-License-Identifier: MIT */
/*
 * memory_reentrancy.c - policies and scopes: check the contract, begin, change, end.
 *
 * Invariant: a region's policy is one of the three, its guard is never NULL; so who asks need not doubt either.
 */
#include <errno.h>

#include <flatview/memory_reentrancy.h>

#include "access/call.h"
#include "publish/change_calls.h"

_Static_assert(sizeof(CallFrame) <= sizeof(MemoryGuardScope), "a scope is the memory of a frame");

static int change_one(MemoryRegion *mr, enum CallsField field, uint64_t value)
{
    int err = mr ? txn_begin() : -EINVAL, end;

    if (err < 0) {
        return err;
    }
    err = region_adopt(mr);
    if (err == 0) {
        err = change_calls(mr, field, value);
    }
    end = txn_end();
    return err < 0 ? err : end;
}

int memory_region_set_reentrancy(MemoryRegion *mr, MemoryReentrancy policy)
{
    if (policy != MEMORY_REENTRANCY_ALLOW && policy != MEMORY_REENTRANCY_REFUSE && policy != MEMORY_REENTRANCY_QUEUE) {
        return -EINVAL;
    }
    return change_one(mr, CALLS_POLICY, policy);
}

MemoryReentrancy memory_region_get_reentrancy(const MemoryRegion *mr)
{
    const RegionCalls *calls = region_calls(mr);

    return calls ? (MemoryReentrancy)region_peek(calls->policy) : MEMORY_REENTRANCY_ALLOW;
}

int memory_region_set_guard(MemoryRegion *mr, const void *guard)
{
    return change_one(mr, CALLS_GUARD, (uintptr_t)(guard ? guard : mr));
}

int memory_guard_begin(MemoryGuardScope *scope, const void *guard)
{
    return scope && guard ? guard_begin((CallFrame *)(void *)scope, guard) : -EINVAL;
}

MemTxResult memory_guard_end(MemoryGuardScope *scope)
{
    return guard_end((CallFrame *)(void *)scope);
}
