/* SPDX-License-Identifier: MIT */
/*
 * change_calls.c - what a region says about its calls, as a transaction changes it.
 *
 * Invariant: a hook is on while the field behind it says anything but the default, and it is on before the outermost commit
 * that set the field returns, in every view that shows the region (change_hooks()). No view looks different for it.
 * Established by: change_calls(). Relied on by: access/call.h. Under the topology lock.
 */
#include "publish/change_calls.h"

#include <errno.h>

static uint64_t get_field(const RegionCalls *calls, uint64_t field)
{
    switch (field) {
    case CALLS_POLICY:
        return calls->policy;
    case CALLS_GUARD:
        return (uintptr_t)calls->guard;
    default:
        return (uintptr_t)calls->lock;
    }
}

static void put_field(RegionCalls *calls, uint64_t field, uint64_t value)
{
    switch (field) {
    case CALLS_POLICY:
        region_poke(calls->policy, value);
        break;
    case CALLS_GUARD:
        region_poke(calls->guard, (const void *)(uintptr_t)value);
        break;
    default:
        region_poke(calls->lock, (MemoryLock *)(uintptr_t)value);
        break;
    }
}

static bool is_hooked(const MemoryRegion *mr, const RegionCalls *calls, uint64_t field)
{
    if (field == CALLS_LOCK) {
        return calls->lock;
    }
    return calls->policy != MEMORY_REENTRANCY_ALLOW || calls->guard != mr;
}

int change_calls(MemoryRegion *mr, enum CallsField field, uint64_t value)
{
    uint32_t hook = field == CALLS_LOCK ? REGION_HOOK_LOCK : REGION_HOOK_GUARD;
    RegionCalls *calls = region_calls_make(mr);
    UndoEntry *entry;
    uint64_t old;
    bool on;
    int err;

    if (!calls) {
        return -ENOMEM;
    }
    old = get_field(calls, field);
    if (old == value) {
        return 0;
    }
    entry = txn_log(UNDO_CALLS, mr);
    if (!entry) {
        return -ENOMEM;
    }
    entry->a = old;
    entry->b = field;
    put_field(calls, field, value);
    on = is_hooked(mr, calls, field);
    err = change_hooks(mr, on ? hook : 0, on ? 0 : hook);
    if (err < 0) {
        put_field(calls, field, old); /* and the entry puts it there once more, if it comes to that */
    }
    return err;
}

void change_calls_undo(const UndoEntry *entry)
{
    put_field(entry->mr->calls, entry->b, entry->a);
}
