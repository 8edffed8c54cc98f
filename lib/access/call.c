/* SPDX-License-Identifier: MIT */
/*
 * call.c - a call of callbacks, as a frame on the thread's chain.
 *
 * Invariant: call_chain lists the calls that this thread is in, innermost first, of all regions that asked for it; each
 * frame lives on the stack of the function that pushed it and is popped by that function. So the chain is the truth
 * about this thread and about no other, needs no lock, and costs regions without hooks nothing.
 * Established by: read_framed(), write_framed(), memory_guard_begin(). Relied on by: guard.c, serial.c.
 *
 * Refusals of the splitter come after those here: a wrong access to a busy device is refused as re-entrant.
 */
#include "access/call.h"

__thread CallFrame *call_chain;

bool call_is_in(const RegionCalls *calls)
{
    const CallFrame *frame;

    for (frame = call_chain; frame && frame->counted != calls; frame = frame->up) {
    }
    return frame;
}

/* Hooks and what they mean, as one call sees them. False: there are none after all. */
static bool ask(const FlatRange *range, uint32_t *ret_hooks, RegionCalls **ret_calls)
{
    *ret_calls = region_calls(range->mr);
    *ret_hooks = region_hooks(range->mr);
    return *ret_calls != NULL;
}

static MemTxResult end_call(CallFrame *frame)
{
    MemTxResult result;

    serial_leave(frame); /* before what was queued runs: each of that takes its own region's lock */
    result = frame->queue ? guard_drain(frame) : MEMTX_OK;
    call_pop(frame);
    return result;
}

static const void *guard_of(const RegionCalls *calls, uint32_t hooks)
{
    return hooks & REGION_HOOK_GUARD ? region_peek(calls->guard) : NULL;
}

MemTxResult call_read_hooked(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs,
                             uint64_t *ret_value)
{
    CallFrame frame = { 0 }, *busy;
    RegionCalls *calls;
    MemTxResult result;
    uint64_t value;
    uint32_t hooks;

    if (!ask(range, &hooks, &calls)) {
        return splitter_read(range, offset, size, attrs, ret_value);
    }
    frame.guard = guard_of(calls, hooks);
    if (frame.guard) {
        result = guard_check(frame.guard, (MemoryReentrancy)region_peek(calls->policy), false, &busy);
        if (result != MEMTX_OK) {
            return result;
        }
    }
    result = serial_enter(&frame, calls, hooks);
    if (result != MEMTX_OK) {
        return result;
    }
    call_push(&frame);
    result = splitter_read(range, offset, size, attrs, &value);
    result |= end_call(&frame);
    if (result == MEMTX_OK) {
        *ret_value = value;
    }
    return result;
}

static MemTxResult write_framed(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs, uint64_t value,
                                RegionCalls *calls, uint32_t hooks)
{
    CallFrame frame = { .guard = guard_of(calls, hooks) };
    MemTxResult result = serial_enter(&frame, calls, hooks);

    if (result != MEMTX_OK) {
        return result;
    }
    call_push(&frame);
    result = splitter_write(range, offset, size, attrs, value);
    return result | end_call(&frame);
}

MemTxResult call_write_hooked(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs, uint64_t value)
{
    CallFrame *busy = NULL;
    RegionCalls *calls;
    MemTxResult result;
    uint32_t hooks;

    if (!ask(range, &hooks, &calls)) {
        return splitter_write(range, offset, size, attrs, value);
    }
    if (hooks & REGION_HOOK_GUARD) {
        MemoryReentrancy policy = (MemoryReentrancy)region_peek(calls->policy);

        result = guard_check(region_peek(calls->guard), policy, true, &busy);
        if (result != MEMTX_OK) {
            return result;
        }
        if (busy && policy == MEMORY_REENTRANCY_QUEUE) {
            return guard_queue(busy, range, offset, size, attrs, value);
        }
    }
    return write_framed(range, offset, size, attrs, value, calls, hooks);
}

MemTxResult call_write_queued(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs, uint64_t value)
{
    RegionCalls *calls;
    uint32_t hooks;

    if (!ask(range, &hooks, &calls)) {
        return splitter_write(range, offset, size, attrs, value);
    }
    return write_framed(range, offset, size, attrs, value, calls, hooks);
}
