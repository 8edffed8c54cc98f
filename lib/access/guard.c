/* SPDX-License-Identifier: MIT */
/*
 * guard.c - accesses that come back to a device which this thread is still in.
 *
 * Invariant: what waits for a call hangs on the outermost frame under its guard, so when it runs no call under that guard
 * is active but the empty shell of that frame, which stays on the chain: what queued writes cause is queued behind them.
 * At most MEMORY_REENTRANCY_QUEUE_MAX of it in the life of a frame, so the life ends.
 * Established by: guard_check(), guard_queue(). Relied on by: devices with MEMORY_REENTRANCY_QUEUE. Lock: none, all of it
 * is the thread's.
 *
 * A queued write keeps the range it was decoded to: it goes where it was sent, whatever is mapped there when it runs. For
 * that the range must live, so the first one opens a read section that lasts until the last one has run. (Sections nest:
 * it makes the present one longer. Under a MemoryGuardScope it may be the only one.)
 */
#include "access/call.h"

#include <assert.h>
#include <errno.h>

#include "base/mem.h"
#include "base/reader.h"
#include "base/sabotage.h"

typedef struct QueuedWrite {
    FlatRange range;
    hwaddr offset;
    uint64_t value;
    MemTxAttrs attrs;
    unsigned size;
} QueuedWrite;

static CallFrame *outermost(const void *guard)
{
    CallFrame *frame, *found = NULL;

    for (frame = call_chain; frame; frame = frame->up) {
        if (frame->guard == guard) {
            found = frame;
        }
    }
    return found;
}

MemTxResult guard_check(const void *guard, MemoryReentrancy policy, bool is_write, CallFrame **ret_busy)
{
    *ret_busy = call_chain && !sabotage_turn(SABOTAGE_DROP_GUARD, 64) ? outermost(guard) : NULL;
    if (!*ret_busy || policy == MEMORY_REENTRANCY_ALLOW || (policy == MEMORY_REENTRANCY_QUEUE && is_write)) {
        return MEMTX_OK;
    }
    return MEMTX_ACCESS_ERROR;
}

MemTxResult guard_queue(CallFrame *busy, const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs,
                        uint64_t value)
{
    bool first = !busy->queue;
    void *queue = busy->queue;

    if (busy->n_queued == MEMORY_REENTRANCY_QUEUE_MAX ||
        mem_vec_reserve(&queue, &busy->cap_queued, busy->n_queued + 1, sizeof(QueuedWrite)) < 0) {
        return MEMTX_ACCESS_ERROR; /* as if the policy were to refuse: the device knows that answer */
    }
    busy->queue = queue;
    if (first) {
        reader_enter();
    }
    busy->queue[busy->n_queued++] = (QueuedWrite){
        .range = *range, .offset = offset, .value = value, .attrs = attrs, .size = size };
    return MEMTX_OK;
}

MemTxResult guard_drain(CallFrame *frame)
{
    MemTxResult result = MEMTX_OK;
    void *queue;
    size_t i;

    for (i = 0; i < frame->n_queued; i++) {
        QueuedWrite write = frame->queue[i]; /* a copy: the vector may grow */

        result |= call_write_queued(&write.range, write.offset, write.size, write.attrs, write.value);
    }
    queue = frame->queue;
    mem_vec_free(&queue, &frame->cap_queued, sizeof(QueuedWrite));
    frame->queue = NULL;
    reader_exit();
    return result;
}

/* ---- work that no access began -------------------------------------------------------------------------------- */

int guard_begin(CallFrame *frame, const void *guard)
{
    if (outermost(guard)) {
        return -EBUSY;
    }
    *frame = (CallFrame){ .guard = guard };
    call_push(frame);
    return 0;
}

MemTxResult guard_end(CallFrame *frame)
{
    MemTxResult result;

    assert(call_chain == frame && "scopes end in the reverse order of their beginning");
    result = frame->queue ? guard_drain(frame) : MEMTX_OK;
    call_pop(frame);
    return result;
}
