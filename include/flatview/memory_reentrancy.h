/* SPDX-License-Identifier: MIT */
/*
 * memory_reentrancy.h - what happens to an access that comes back to a device which is still busy with an earlier one.
 *
 * A guest programs a device to copy into its own registers: the callback that starts the copy is entered again before it
 * has returned (CVE-2023-0330, and many like it). Whether that is what the hardware would do is the device's to know.
 *
 * Judged on the chain of calls that this thread is in, never on a flag of the device: two threads in one device are
 * concurrency, which memory_serial.h is for, not re-entrancy. A calls B calls A is found however long the way. RAM is
 * memory, and never guarded.
 *
 * Source: QEMU's MemReentrancyGuard, less what its users complain of: it is one flag for a device, so it refuses other
 * threads too, and a region that is exempt can clear it for the others.
 */
#ifndef FLATVIEW_MEMORY_REENTRANCY_H
#define FLATVIEW_MEMORY_REENTRANCY_H

#include <flatview/types.h>

FLATVIEW_BEGIN_DECLS

/** MemoryReentrancy - what an access to a region gets while a call under the same guard is active on the thread. */
typedef enum MemoryReentrancy {
    /* It runs, nested. The default, because it costs nothing and most devices that are written for several threads at
       once are ready for it; QEMU's default is REFUSE, and devices that come from there should say so. */
    MEMORY_REENTRANCY_ALLOW = 0,
    MEMORY_REENTRANCY_REFUSE = 1, /* MEMTX_ACCESS_ERROR, no callback runs */
    /* A write returns MEMTX_OK at once and runs when the outermost active call has returned: on the same thread, in order,
       one by one, before the access that it waited for returns. Errors of the write are OR-ed into that access's result.
       A read is refused, for there is no value yet; so is a write beyond MEMORY_REENTRANCY_QUEUE_MAX. */
    MEMORY_REENTRANCY_QUEUE = 2,
} MemoryReentrancy;

/** Writes that one outermost call can put off, those made by writes that were put off included: so it ends. */
#define MEMORY_REENTRANCY_QUEUE_MAX 64

/**
 * memory_region_set_reentrancy() - how @mr takes accesses that come back
 * @policy: MEMORY_REENTRANCY_*; else -EINVAL
 *
 * An attribute of the region, changed as memory_region.h says (any thread, transactions, -EBUSY from a listener,
 * -ENOMEM), and in force for calls that begin after the outermost commit has returned; one that begins while the transaction
 * is open may see either. Calls that are active by then do not count as such. Meaningless for regions without callbacks.
 *
 * Return: 0, -EINVAL, -EBUSY, -ENOMEM, -EAGAIN as configured.
 * Since:  0.1
 */
FLATVIEW_API int memory_region_set_reentrancy(MemoryRegion *mr, MemoryReentrancy policy);

/** memory_region_get_reentrancy() - any thread; MEMORY_REENTRANCY_ALLOW initially. */
FLATVIEW_API MemoryReentrancy memory_region_get_reentrancy(const MemoryRegion *mr);

/**
 * memory_region_set_guard() - which calls count as coming back to @mr: those of all regions with the same guard
 * @guard: any address, usually the device's; compared, never looked at. NULL (initially): @mr alone
 *
 * A device whose DMA reaches one of its regions from the callback of another has one guard for all of them. A region
 * that has a guard counts as active whatever its own policy, which decides about accesses to itself only.
 *
 * As memory_region_set_reentrancy().
 */
FLATVIEW_API int memory_region_set_guard(MemoryRegion *mr, const void *guard);

/** MemoryGuardScope - memory of the caller for memory_guard_begin(), on its stack as a rule. */
typedef struct MemoryGuardScope {
    void *private_[12];
} MemoryGuardScope;

/**
 * memory_guard_begin() - this thread works for a device, though no access brought it there
 * @guard: as for memory_region_set_guard(), not NULL
 *
 * For DMA that starts in a timer, a worker or a bottom half: until memory_guard_end(), accesses to regions of @guard come
 * back to a busy device. Scopes end in the reverse order of their beginning, on the same thread.
 *
 * Context:   any thread. Locking: none. Ownership: @scope is the library's until memory_guard_end().
 * Return:    0; -EINVAL; -EBUSY if @guard is active on this thread, and then nothing has begun.
 * Since:     0.1
 */
FLATVIEW_API int memory_guard_begin(MemoryGuardScope *scope, const void *guard);

/**
 * memory_guard_end() - the work is done; runs what was put off meanwhile (MEMORY_REENTRANCY_QUEUE)
 *
 * Return: MEMTX_OK, or the errors of those writes.
 * Since:  0.1
 */
FLATVIEW_API MemTxResult memory_guard_end(MemoryGuardScope *scope);

FLATVIEW_END_DECLS

#endif
