/* SPDX-License-Identifier: MIT */
/*
 * serial.c - a call's part in the count and the lock of its region.
 *
 * Invariant: the topology lock is taken inside a region's lock, never the other way round; and a thread that holds it waits for
 * no region to be resumed. So a callback that commits waits for writers only, and no writer waits for a callback.
 * Established by: may_take(), which refuses a call that would take the lock in the wrong order. Relied on by: devices
 * that change the map from callbacks under their lock, and whoever stops a region in order to move it.
 *
 * Counted first, locked second, by the lock that is named then: a call that waits for a lock is in flight, and whoever stops the
 * region waits for it; one that waited for the region to be resumed takes the lock that it was given meanwhile.
 * Nested calls of a region that this thread is in count once, or a stop between the two would never come to rest; and a
 * lock that it has through an outer call is not taken again.
 */
#include "access/call.h"

#include <pthread.h>

#include "base/sabotage.h"
#include "publish/transaction.h"

static bool has_lock(const MemoryLock *lock)
{
    const CallFrame *frame;

    for (frame = call_chain; frame && frame->lock != lock; frame = frame->up) {
    }
    return frame;
}

/* With the topology lock held, only if it was taken inside of that very lock: by a callback that changes the map. */
static bool may_take(const MemoryLock *lock)
{
    return has_lock(lock) || !txn_holds_lock();
}

static bool acquire(MemoryLock *lock)
{
    if (lock->acquire) {
        return lock->acquire(lock);
    }
    return pthread_mutex_lock((pthread_mutex_t *)lock->mutex) == 0;
}

static void release(MemoryLock *lock)
{
    if (lock->acquire) {
        lock->release(lock);
    } else {
        pthread_mutex_unlock((pthread_mutex_t *)lock->mutex);
    }
}

static void uncount(CallFrame *frame)
{
    if (frame->counts) {
        calls_leave(frame->counted);
    }
    frame->counted = NULL;
}

MemTxResult serial_enter(CallFrame *frame, RegionCalls *calls, uint32_t hooks)
{
    MemoryLock *lock;

    if (hooks & REGION_HOOK_COUNT) {
        if (!call_is_in(calls)) {
            if (!calls_enter(calls, !txn_holds_lock())) {
                return MEMTX_ERROR;
            }
            frame->counts = true;
        }
        frame->counted = calls;
    }
    /* Only now: what the lock was before a stop, nobody may touch after it. Whether there is one may have changed, too. */
    lock = hooks & REGION_HOOK_LOCK || frame->counts ? region_peek(calls->lock) : NULL;
    if (lock && !may_take(lock)) {
        uncount(frame);
        return MEMTX_ERROR;
    }
    if (lock && !sabotage_turn(SABOTAGE_DROP_LOCK, 4)) {
        frame->locked = !has_lock(lock) && acquire(lock);
        frame->lock = lock;
    }
    return MEMTX_OK;
}

void serial_leave(CallFrame *frame)
{
    if (frame->locked) {
        release(frame->lock);
    }
    uncount(frame);
    frame->lock = NULL; /* what was queued under the guard of this frame runs without either */
}
