/* SPDX-License-Identifier: MIT */
/*
 * memory_coalesced.h - coalesced MMIO: writes without an effect that anybody waits for are collected, and delivered together.
 *
 * Coalesced ranges belong to a region and follow it: unmapped and mapped again, they are there and announced at the new address
 * without the device knowing (memory_listener.h: coalesced_io_add, coalesced_io_del; cut to what is visible).
 *
 * In the library's own dispatch a write that lies in a coalesced range, and that the region's ops accept, goes to a ring of the
 * region and is MEMTX_OK; what the callback says later is nobody's. Any other write goes the usual way, after a flush.
 *
 * Order: the ring is one for the whole region. The writes of one thread are delivered in the order in which it made them, also
 * with respect to its other writes to the region; writes of several threads in some order that agrees with each. Nothing
 * is said about writes to different regions: that is what coalescing means.
 *
 * A flush delivers what was in the ring when it began, and returns when that has been delivered. The ring of a region is flushed
 *   - before a read of the region, a write to it that is not coalesced, and a kick of one of its ioeventfds;
 *   - before any access to a region with memory_region_set_flush_coalesced(): then all rings;
 *   - when it is full, by the thread that finds it so;
 *   - by memory_region_flush_coalesced(), memory_region_clear_coalescing() and memory_region_destroy();
 *   - in time: the first write that waits arms a thread of the library's own, which flushes a millisecond later, whatever read
 *     sections there are; what delays it is a processor that is busy, and callbacks of other flushes. Nothing is armed per
 *     write. (Where that thread cannot be started: after a grace period, on liburcu's worker.)
 *
 * Callbacks of a flush run on the thread that flushes, or on that one, inside a read section, with the MemTxAttrs of the
 * write, and under the region's own lock, if it has one (memory_serial.h). They must not wait for a thread that waits for
 * such a flush. A callback of a flush that accesses its own region does not flush it again: what it writes to a coalesced
 * range is delivered by the next flush, and if the ring is full the write is MEMTX_ERROR. A thread waits for another's flush only
 * if it is in no flush itself, holds no region's lock and has no transaction open and is no listener; otherwise it goes on
 * without. Re-entrancy is judged when the write is made, not when it is delivered. What waits when its region is released is dropped.
 */
#ifndef FLATVIEW_MEMORY_COALESCED_H
#define FLATVIEW_MEMORY_COALESCED_H

#include <flatview/types.h>

FLATVIEW_BEGIN_DECLS

/* Writes that wait in one region at most. */
#define MEMORY_COALESCED_RING 256

/**
 * memory_region_add_coalescing() - coalesce writes to [@offset, @offset + @size) of the region
 *
 * @mr is an MMIO region with callbacks. See memory_region.h for context, locking and further errors. No view is rendered.
 * A region that ever had a coalesced range is accessed the slow way for good.
 * Return: 0, -EINVAL (another kind of region, size 0), -ERANGE (not wholly inside the region), -EEXIST (overlaps one that is
 *         there).
 * Since:  0.1, as everything in this header.
 */
FLATVIEW_API int memory_region_add_coalescing(MemoryRegion *mr, hwaddr offset, uint64_t size);

/** memory_region_set_coalescing() - coalesce the whole region, as large as it is now, in place of what ranges it had. */
FLATVIEW_API int memory_region_set_coalescing(MemoryRegion *mr);

/** memory_region_clear_coalescing() - flush, and coalesce nothing any more. 0 also if there was nothing. */
FLATVIEW_API int memory_region_clear_coalescing(MemoryRegion *mr);

/**
 * memory_region_set_flush_coalesced() - before any access to @mr, flush all that waits anywhere
 *
 * For a region whose accesses depend on another's coalesced writes, such as the ports of a VGA adapter on its frame buffer.
 * Return: 0, -EINVAL (not an MMIO region).
 */
FLATVIEW_API int memory_region_set_flush_coalesced(MemoryRegion *mr);
FLATVIEW_API int memory_region_clear_flush_coalesced(MemoryRegion *mr);

/**
 * memory_region_flush_coalesced() - deliver what waits in @mr
 *
 * Context: any thread; callbacks of @mr may run. Also for a region without coalesced ranges, which costs nothing.
 * Locking: none.
 * Return:  0, -EINVAL (NULL, not initialised).
 */
FLATVIEW_API int memory_region_flush_coalesced(MemoryRegion *mr);

/** address_space_flush_coalesced() - deliver what waits in regions that @as shows, and in all others. 0, -EINVAL. */
FLATVIEW_API int address_space_flush_coalesced(AddressSpace *as);

/* ---- for accelerators that collect such writes themselves --------------------------------------------------------- */

/**
 * address_space_queue_coalesced() - hand in a write that an accelerator has collected
 * @size: 1, 2, 4 or 8 bytes; @value: what they are, as a little-endian number
 * @withdrawn: the accelerator is told just now, by coalesced_io_del, to collect there no more, and what it hands in are the
 *             last ones: they may use room that is kept for them, MEMORY_COALESCED_RING writes for each region
 *
 * The write goes to the ring of the region that the current view shows at @addr, as if it were made now, and what is said
 * above about order holds for it. Nothing is delivered and nobody is called: valid.accepts(), if there is one, is asked
 * when the write is delivered, and what it refuses is dropped. Who hands in several does so in order, one at a time.
 *
 * Context: any thread and callback. Locking: none that anybody waits under.
 * Return:  0: it will be delivered; -ENOBUFS: no room, a flush makes some (not under a lock that callbacks may want); -ENOENT: not a
 *          write that waits: nothing there, or not coalesced, or of an ioeventfd. Make it with address_space_write(). -EACCES: the
 *          region's ops refuse its size or alignment, or it may not be written: it has no effect, also if it is made. -EINVAL.
 */
FLATVIEW_API int address_space_queue_coalesced(AddressSpace *as, hwaddr addr, unsigned size, uint64_t value, MemTxAttrs attrs,
                                               bool withdrawn);

/** memory_region_coalesced_room() - how many @withdrawn writes the region would take now. 0 if it never coalesced. Any thread. */
FLATVIEW_API size_t memory_region_coalesced_room(const MemoryRegion *mr);

/** MemoryCoalescedSource - who has writes that are in no ring of the library yet. Zero but for collect. */
typedef struct MemoryCoalescedSource MemoryCoalescedSource;
struct MemoryCoalescedSource {
    /*
     * Hand in what there is (address_space_queue_coalesced()). Before every flush of a ring, on the thread that flushes, which may
     * hold the topology lock and locks of regions: so without waiting for whoever may want one of these. True: a region
     * had no room, and there is more.
     */
    bool (*collect)(MemoryCoalescedSource *source);

    /* private: */
    MemoryCoalescedSource *next;
};

/** memory_coalesced_source_register() - from now on flushes ask @source. Any thread. 0, -EINVAL. */
FLATVIEW_API int memory_coalesced_source_register(MemoryCoalescedSource *source);

/**
 * memory_coalesced_source_unregister() - no more
 *
 * Waits until nobody is in it. Context: outside read sections, transactions and callbacks.
 * Return: 0, -EDEADLK, -EINVAL (not registered).
 */
FLATVIEW_API int memory_coalesced_source_unregister(MemoryCoalescedSource *source);

FLATVIEW_END_DECLS

#endif
