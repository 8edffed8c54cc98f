/* SPDX-License-Identifier: MIT */
/*
 * call.h - from dispatch to the callbacks of a region, past what the region says about its calls.
 *
 * Invariant: no callback of a region whose hooks ask something runs but through here: fast steps decline what has hooks
 * (access/thread_cache.c), so such an access comes to step 5, which calls nothing else.
 *
 * What is asked, in this order: does it come back to a busy device (guard.c)? is the region stopped, and who else has its
 * lock (serial.c)? Then splitter.h.
 */
#ifndef FLATVIEW_ACCESS_CALL_H
#define FLATVIEW_ACCESS_CALL_H

#include "access/splitter.h"
#include "topology/calls.h"

#define REGION_HOOKS_CALL (REGION_HOOK_GUARD | REGION_HOOK_LOCK | REGION_HOOK_COUNT)

/* One active call of this thread, or a MemoryGuardScope; on its stack. */
typedef struct CallFrame {
    struct CallFrame *up;
    const void *guard;    /* NULL: none */
    RegionCalls *counted; /* NULL: not counted by this frame or one above */
    MemoryLock *lock;     /* NULL: none */
    bool counts, locked;  /* by this frame: to be undone */
    /* MEMORY_REENTRANCY_QUEUE: what waits for this call to return */
    struct QueuedWrite *queue;
    size_t n_queued, cap_queued;
} CallFrame;

/* The innermost. Each points to those it is nested in. */
extern __thread CallFrame *call_chain;

static inline void call_push(CallFrame *frame)
{
    frame->up = call_chain;
    call_chain = frame;
}

static inline void call_pop(const CallFrame *frame)
{
    call_chain = frame->up;
}

/* Is this thread in a counted call of the region? */
bool call_is_in(const RegionCalls *calls);

/* ---- guard.c ---- */

/* May a call under this guard begin? MEMTX_OK, or why not. *ret_busy is the outermost active call under the guard. */
MemTxResult guard_check(const void *guard, MemoryReentrancy policy, bool is_write, CallFrame **ret_busy);
/* Put a write off until busy returns. MEMTX_OK: it will run. */
MemTxResult guard_queue(CallFrame *busy, const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs,
                        uint64_t value);
/* The call of frame, which is on the chain, has returned: run what waited for it. */
MemTxResult guard_drain(CallFrame *frame);

/* A frame that no access pushed. 0, or -EBUSY if guard is active on this thread. */
int guard_begin(CallFrame *frame, const void *guard);
MemTxResult guard_end(CallFrame *frame); /* the innermost one */

/* ---- serial.c ---- */

/* Take part: count, lock. MEMTX_OK, or why not, with nothing done. frame is not yet on the chain. */
MemTxResult serial_enter(CallFrame *frame, RegionCalls *calls, uint32_t hooks);
void serial_leave(CallFrame *frame);

/* ---- call.c ---- */
MemTxResult call_read_hooked(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs,
                             uint64_t *ret_value);
MemTxResult call_write_hooked(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs, uint64_t value);
/* A write that guard_check() need not see again. */
MemTxResult call_write_queued(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs, uint64_t value);

static inline bool call_has_hooks(const FlatRange *range)
{
    return __builtin_expect(region_hooks(range->mr) & REGION_HOOKS_CALL, 0);
}

/* splitter_read() and splitter_write(), with those questions asked. */
static inline MemTxResult call_read(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs,
                                    uint64_t *ret_value)
{
    return call_has_hooks(range) ? call_read_hooked(range, offset, size, attrs, ret_value) :
                                   splitter_read(range, offset, size, attrs, ret_value);
}

static inline MemTxResult call_write(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs,
                                     uint64_t value)
{
    return call_has_hooks(range) ? call_write_hooked(range, offset, size, attrs, value) :
                                   splitter_write(range, offset, size, attrs, value);
}

#endif
