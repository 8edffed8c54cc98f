/* SPDX-License-Identifier: MIT */
/*
 * memory_serial.h - devices whose callbacks must not run at once, and devices at rest.
 *
 * The library takes no lock around callbacks. A device model that is not made for several threads names a mutex of its
 * own here; a region whose calls are counted can be brought to rest, to reset or unplug what stands behind it, while all
 * other regions go on.
 */
#ifndef FLATVIEW_MEMORY_SERIAL_H
#define FLATVIEW_MEMORY_SERIAL_H

#include <flatview/types.h>

FLATVIEW_BEGIN_DECLS

/**
 * MemoryLock - what serialises the callbacks of regions
 *
 * Either @mutex, or both functions. acquire() returns whether it took the lock: false if the program knows that this
 * thread has it already, and then release() is not called. Must not change while regions name it.
 */
typedef struct MemoryLock MemoryLock;
struct MemoryLock {
    void *mutex; /* a pthread_mutex_t, which this header does not drag in */
    bool (*acquire)(MemoryLock *lock);
    void (*release)(MemoryLock *lock);
};

/**
 * memory_region_set_lock() - the callbacks of @mr run with @lock held, accepts() included
 * @lock: may be named by any number of regions, which then exclude each other; NULL (initially): none
 *
 * Held for one bus access: all callbacks into which it is cut, so that a write that MEMORY_NARROW_WRITE_MERGE widens is one
 * piece. A bulk copy takes the lock for each bus access anew.
 *
 * Recursion: an access that a callback makes to a region under the same lock runs nested, without taking it again. Who
 * does not want that refuses it (memory_reentrancy.h).
 *
 * Order: lock first, topology lock second, for a callback may change the map. So a thread that holds the topology lock (in
 * a transaction, a listener, a foreach callback) without having come through a call under @lock does not wait for it: the
 * access ends with MEMTX_ERROR and no callback runs. Among several such locks the program keeps an order; regions that
 * access each other had best share one.
 *
 * An attribute of the region, changed as memory_region.h says, in force for calls that begin after the outermost commit has
 * returned. A call in flight keeps the lock that it took. The old lock may be freed once no call that took it can be in
 * flight: memory_region_stop_calls(), or a grace period.
 *
 * Return: 0, -EINVAL (@lock has neither), -EBUSY, -ENOMEM, -EAGAIN as configured.
 * Since:  0.1
 */
FLATVIEW_API int memory_region_set_lock(MemoryRegion *mr, MemoryLock *lock);

/** memory_region_get_lock() - any thread. */
FLATVIEW_API MemoryLock *memory_region_get_lock(const MemoryRegion *mr);

/**
 * memory_region_set_counted() - count the calls of @mr that are in flight, so that it can be stopped
 *
 * Costs each call two atomic operations on a line that the threads in @mr share. As memory_region.h says, but if @mr has
 * been in a view, calls that nobody counted may be in flight, and setting it waits for a grace period: then not in a read
 * section or transaction. Best done before the region is first added: nothing is waited for. Until that grace period is over
 * nobody can stop @mr, and who sets it once more waits, too.
 *
 * Not while @mr is stopped: what is stopped stays counted. From the call that ends counting, also in a transaction still open, no
 * thread can stop @mr.
 *
 * Return: 0, -EINVAL, -EBUSY (also: it is stopped), -ENOMEM, -EAGAIN; -EDEADLK if it would wait for itself.
 * Since:  0.1
 */
FLATVIEW_API int memory_region_set_counted(MemoryRegion *mr, bool counted);

/** MemoryStop - what an access to a stopped region does. */
typedef enum MemoryStop {
    MEMORY_STOP_REFUSE = 1, /* MEMTX_ERROR, no callback runs */
    /* It waits for memory_region_resume_calls(), in its read section: while it does, nothing that commits retire is freed,
       also not what others wait for. So not for long. A thread that holds the topology lock gets MEMTX_ERROR instead. */
    MEMORY_STOP_WAIT = 2,
} MemoryStop;

/**
 * memory_region_stop_calls() - no call in flight, and none will be
 *
 * Returns when the last call of @mr has returned. Other regions are not concerned. Waits for no grace period, so it may be
 * in a read section. Moving or hiding a region stops nothing: the calls that found it before go on.
 *
 * Until resumed by any thread: nested accesses of calls that are in flight go on, and are waited for with them. The
 * thread that stopped with MEMORY_STOP_WAIT cannot quiesce or reclaim (-EDEADLK), because readers may be waiting for it.
 *
 * Do not hold a lock that callbacks of @mr take. Of regions that access each other, stop the caller first.
 *
 * Return: 0; -EINVAL (not counted, not counted yet or not for long, @how); -EBUSY (it is stopped); -EDEADLK (this thread is in a call of @mr, or in a
 *         transaction or listener, for which such a call may be waiting).
 * Since:  0.1
 */
FLATVIEW_API int memory_region_stop_calls(MemoryRegion *mr, MemoryStop how);

/** memory_region_resume_calls() - go on; any thread, waits for nothing. -EINVAL if it is not stopped, -EBUSY if whoever stops
    it is still waiting for calls. */
FLATVIEW_API int memory_region_resume_calls(MemoryRegion *mr);

/**
 * memory_region_quiesce_calls() - every call of @mr that had begun has returned
 *
 * Stops with MEMORY_STOP_WAIT and resumes at once. Errors as memory_region_stop_calls().
 */
FLATVIEW_API int memory_region_quiesce_calls(MemoryRegion *mr);

FLATVIEW_END_DECLS

#endif
