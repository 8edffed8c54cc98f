/* SPDX-License-Identifier: MIT */
/*
 * memory_dirty.h - the dirty log: which pages of RAM were written since somebody asked last.
 *
 * Logging is an attribute of a region with host memory (RAM, ROM, ROM device, RAM device), kept while it is unmapped, and never a
 * reason to render a view. Each of three clients has its own bits, in granules of its own, as of offset 0 of the region, whoever
 * shows the region where. Stores that go through the library are marked; what others write (a device thread through
 * memory_region_get_ram_ptr(), an accelerator's guest) they report: memory_region_set_dirty(), memory_region_merge_dirty().
 *
 * The promise (ORDERING: R7): a store that was completed before a collect began is in that collect or a later one; and when a
 * collect returns, the data behind its bits, and behind the bits that were cleared a moment too late for a store to notice, are
 * visible to the caller. So "collect, copy what it says, again" misses nothing.
 *
 * How a client begins. The commit that gives a client its first user makes every granule dirty for it: what was there before is
 * as unknown to it as what is written next. For a few milliseconds after that (until threads have left the read sections in
 * which they were) a collect reports everything and clears nothing, because stores that began before need not be marked. It does
 * not wait, so that it may be called with any lock held; who wants the first collect to clear calls memory_dirty_log_wait()
 * before.
 *
 * Users of one client share its bits: what one collects, another does not see.
 *
 * Source: QEMU's functions of these names, less its one granule, its bitmap over all RAM, and its assertions.
 */
#ifndef FLATVIEW_MEMORY_DIRTY_H
#define FLATVIEW_MEMORY_DIRTY_H

#include <flatview/types.h>

FLATVIEW_BEGIN_DECLS

/* Clients, numbered as QEMU does. Bits of a mask: 1 << client. */
#define DIRTY_MEMORY_VGA 0
#define DIRTY_MEMORY_CODE 1
#define DIRTY_MEMORY_MIGRATION 2

/* ---- who wants it --------------------------------------------------------------------------------------------- */

/**
 * memory_region_set_log() - one user of a client more, or one less
 * @client: DIRTY_MEMORY_*
 *
 * Counted: the client is in force from its first user to its last. Staged in a transaction, undone by an abort. What was marked
 * before the last user left may still be collected.
 *
 * Context: as all mutators (memory_region.h).
 * Return:  also -EINVAL (no such client; no host memory: a container, an alias, I/O, RAM of size 0; one less than none), -ENOMEM.
 * Since:   0.1, as everything in this header.
 */
FLATVIEW_API int memory_region_set_log(MemoryRegion *mr, bool log, unsigned client);

/** memory_region_is_logging() - is the client in force? Any thread; inside the transaction of this thread, as staged. */
FLATVIEW_API bool memory_region_is_logging(const MemoryRegion *mr, unsigned client);

/**
 * memory_region_set_dirty_granule() - what one bit stands for
 * @granule: bytes, a power of two from 64 to 1 GiB; 4,096 initially
 *
 * Coarser costs less memory, finer tells more: a display may ask for its scanlines. Holds from the client's next beginning on.
 *
 * Return: also -EINVAL, -EBUSY (the client has users), -ENOMEM.
 */
FLATVIEW_API int memory_region_set_dirty_granule(MemoryRegion *mr, unsigned client, uint64_t granule);

/** memory_region_get_dirty_granule() - as set; 0 without host memory or for no client. Any thread. */
FLATVIEW_API uint64_t memory_region_get_dirty_granule(const MemoryRegion *mr, unsigned client);

/**
 * memory_dirty_log_wait() - until every client that is in force can be cleared
 *
 * Waits for threads to leave the read sections in which they are now, a few milliseconds at most if none of their callbacks
 * waits. The caller must hold no lock that such a callback may want.
 *
 * Return: 0, -EDEADLK in a read section, a transaction, or a callback of a listener.
 */
FLATVIEW_API int memory_dirty_log_wait(void);

/* ---- marking -------------------------------------------------------------------------------------------------- */

/**
 * memory_region_set_dirty() - bytes [@addr, @addr + @size) of the region were written
 *
 * After the store, by whoever wrote without the library: also ROM, which a guest cannot write. For all clients in force; nothing
 * to do without any. A page that is dirty already costs a load and a branch.
 *
 * Context: any thread and callback; takes no lock. Return: 0, -EINVAL (beyond the region's memory, none, or @size is 0).
 */
FLATVIEW_API int memory_region_set_dirty(MemoryRegion *mr, hwaddr addr, uint64_t size);

/**
 * memory_region_merge_dirty() - the same by the page, from a bitmap that somebody else has kept
 * @addr:      offset in the region of the first page; any
 * @clients:   mask of the clients to tell; those that are not in force are passed over. ~0u: all
 * @page_size: bytes, a power of two from 64 to 1 GiB; of the foreign bitmap, whatever the granules here
 * @bitmap:    bit i is bit i % 64 of word i / 64, as the kernel's unsigned long arrays are on little-endian hosts. Not written to,
 *             and by nobody else meanwhile
 * @first_bit: the bit of the page at @addr; any. @n_bits: how many pages; those beyond the region are ignored
 *
 * Word by word, however the two lie to each other, if @page_size is the granule and @addr a multiple of it.
 *
 * Context: any thread and callback, log_sync of a listener above all; takes no lock. Return: 0, -EINVAL.
 */
FLATVIEW_API int memory_region_merge_dirty(MemoryRegion *mr, hwaddr addr, unsigned clients, uint64_t page_size,
                                           const uint64_t *bitmap, uint64_t first_bit, uint64_t n_bits);

/* ---- collecting ----------------------------------------------------------------------------------------------- */

/** DirtyBitmapSnapshot - what was dirty, a copy that nobody changes any more. Freed by memory_region_snapshot_free(). */
typedef struct DirtyBitmapSnapshot DirtyBitmapSnapshot;

/**
 * memory_region_snapshot_dirty() - a copy of a client's bits, which stay
 * @addr, @size: bytes of the region; @size > 0. Widened to whole granules
 * @ret_snapshot: the caller's
 *
 * Context: any thread and callback; takes no lock. Does not ask listeners: memory_region_sync_dirty().
 * Return:  0, -EINVAL (beyond the region, no such client, or it never was in force here), -ENOMEM.
 */
FLATVIEW_API int memory_region_snapshot_dirty(MemoryRegion *mr, hwaddr addr, uint64_t size, unsigned client,
                                              DirtyBitmapSnapshot **ret_snapshot);

/**
 * memory_region_snapshot_and_clear_dirty() - take a client's bits away
 *
 * Asks listeners first (memory_region_sync_dirty(); not when called from a listener), then takes, then tells them (log_clear).
 * What is in the copy is clean after it, unless the client has only just begun (above). Two that collect at once each get a part,
 * and no bit is lost between them.
 *
 * Locking: takes the topology lock if a listener keeps bits; else none.
 * Return:  as memory_region_snapshot_dirty(). On error nothing was taken.
 */
FLATVIEW_API int memory_region_snapshot_and_clear_dirty(MemoryRegion *mr, hwaddr addr, uint64_t size, unsigned client,
                                                        DirtyBitmapSnapshot **ret_snapshot);

/** memory_region_snapshot_get_dirty() - was any of these bytes dirty? Outside of the granules asked for, none is. */
FLATVIEW_API bool memory_region_snapshot_get_dirty(const DirtyBitmapSnapshot *snapshot, hwaddr addr, uint64_t size);

/**
 * memory_region_snapshot_next_dirty() - the next run of dirty bytes that ends beyond @addr
 * @ret_addr, @ret_size: whole granules, also where only a part was asked for: all of one is cleared at once. Clipped at the end of the
 *                       memory; never begins before @addr. Untouched if there is none
 *
 * for (addr = 0; memory_region_snapshot_next_dirty(s, addr, &addr, &size); addr += size) copies what must be copied.
 */
FLATVIEW_API bool memory_region_snapshot_next_dirty(const DirtyBitmapSnapshot *snapshot, hwaddr addr, hwaddr *ret_addr,
                                                    uint64_t *ret_size);

/** memory_region_snapshot_free() - NULL is a no-op. Any thread. */
FLATVIEW_API void memory_region_snapshot_free(DirtyBitmapSnapshot *snapshot);

/** memory_region_get_dirty() - is any of these bytes dirty now? False for what cannot be. Takes no lock. */
FLATVIEW_API bool memory_region_get_dirty(MemoryRegion *mr, hwaddr addr, uint64_t size, unsigned client);

/**
 * memory_region_reset_dirty() - clean without looking: the granules that lie wholly inside [@addr, @addr + @size)
 *
 * For a caller that knows what is there, as after a full copy that begins after this returned. Like a collect, it leaves what
 * cannot be cleared yet.
 *
 * Context and locking: as memory_region_snapshot_and_clear_dirty(), but listeners are not asked, only told. Return: 0, -EINVAL.
 */
FLATVIEW_API int memory_region_reset_dirty(MemoryRegion *mr, hwaddr addr, uint64_t size, unsigned client);

/* ---- listeners ------------------------------------------------------------------------------------------------ */

/**
 * memory_region_sync_dirty() - have listeners hand in what they know of a region
 *
 * Calls log_sync for each of its sections in each space, and log_sync_global of those that have no log_sync.
 * memory_region_snapshot_and_clear_dirty() and memory_global_dirty_log_sync() do it by themselves.
 *
 * Context: any thread; in a listener callback -EBUSY. In a transaction that has moved the region it finds it where both the old
 *          map and the new one show it; what leaves is asked by the commit.
 * Locking: takes the topology lock, unless no listener keeps bits.
 * Return:  0, -EINVAL, -EBUSY, -ENOMEM with nobody asked.
 */
FLATVIEW_API int memory_region_sync_dirty(MemoryRegion *mr);

/**
 * memory_region_clear_dirty_bitmap() - tell listeners that a part of a region was collected: log_clear
 *
 * For who takes bits in one go and has pages protected again piece by piece, before copying each. Does not touch the library's
 * bits. memory_region_snapshot_and_clear_dirty() and memory_region_reset_dirty() do it by themselves.
 *
 * As memory_region_sync_dirty().
 */
FLATVIEW_API int memory_region_clear_dirty_bitmap(MemoryRegion *mr, hwaddr addr, uint64_t size);

/* ---- all RAM -------------------------------------------------------------------------------------------------- */

/* Reasons, as QEMU numbers them. */
#define GLOBAL_DIRTY_MIGRATION (1u << 0)
#define GLOBAL_DIRTY_DIRTY_RATE (1u << 1)
#define GLOBAL_DIRTY_LIMIT (1u << 2)
#define GLOBAL_DIRTY_MASK 7u

/**
 * memory_global_dirty_log_start() - DIRTY_MEMORY_MIGRATION for all RAM, whoever mapped it where
 * @reasons: GLOBAL_DIRTY_*, each counted
 *
 * All regions with host memory but RAM devices, mapped or not, and those made later, which are born dirty. Listeners hear
 * log_global_start, which may refuse, then log_start for each range. Renders nothing.
 *
 * Context: any thread, also an access callback, outside transactions: else -EBUSY.
 * Return:  0, -EINVAL, -EBUSY, -ENOMEM, -EAGAIN as configured, or what a listener refused with; on error nothing has changed.
 */
FLATVIEW_API int memory_global_dirty_log_start(unsigned reasons);

/** memory_global_dirty_log_stop() - the inverse: log_stop, then log_global_stop. Also -EINVAL for a reason without a user. */
FLATVIEW_API int memory_global_dirty_log_stop(unsigned reasons);

/** memory_global_dirty_log_reasons() - those in force, GLOBAL_DIRTY_*. Any thread. */
FLATVIEW_API unsigned memory_global_dirty_log_reasons(void);

/**
 * memory_global_dirty_log_sync() - have listeners hand in what they know of all that is logged
 * @last_stage: the guest stands still; passed on to log_sync_global
 *
 * As memory_region_sync_dirty(). Looks at the ranges of logged regions only, however many others there are.
 */
FLATVIEW_API int memory_global_dirty_log_sync(bool last_stage);

/** memory_global_after_dirty_log_sync() - listeners' log_global_after_sync, once all of a round was collected. */
FLATVIEW_API int memory_global_after_dirty_log_sync(void);

FLATVIEW_END_DECLS

#endif
