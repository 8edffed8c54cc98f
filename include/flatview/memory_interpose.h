/* SPDX-License-Identifier: MIT */
/*
 * memory_interpose.h - regions that see what is done to what lies below them in the tree.
 *
 * An interposer is a container whose callbacks come between an access and the region below it that answers: they may pass
 * the access on, as it is or changed, refuse it, answer it themselves, or write it down. To watch one device, put it into an
 * interposer of its size and that in the place of the device; to watch a bus, make its container one.
 *
 * What lies below is what is shown through the interposer, by its children, theirs, and aliases among them. The same
 * region seen another way, by an alias that does not lead through the interposer, is not interposed there. A hole of the
 * interposer is a hole: nobody answers there, so nothing is seen. Nor is an IOMMU region: it leads elsewhere, and what it
 * leads to is seen by the interposers that stand there.
 *
 * Interposers nest; the outermost, nearest to whoever makes the access, is asked first. What is interposed is never
 * accessed directly: listeners get it without a host address, and hear nothing of its ioeventfds and coalesced ranges, so
 * accelerators trap it; and RAM below an interposer costs a callback for each access of up to 8 bytes. A write that is
 * passed on still kicks an ioeventfd.
 *
 * Source: the proposal's "cannot interpose between a device and the core"; QEMU has nothing like it.
 */
#ifndef FLATVIEW_MEMORY_INTERPOSE_H
#define FLATVIEW_MEMORY_INTERPOSE_H

#include <flatview/memory_region.h>

FLATVIEW_BEGIN_DECLS

/** MemoryInterposed - one access on its way; valid during the callback that got it, on its thread. */
typedef struct MemoryInterposed MemoryInterposed;

/**
 * MemoryInterposerOps - what is done with accesses
 *
 * Must stay unchanged while a view that was made with it can be used, so as long as the region exists; normally static const.
 *
 * Callbacks: @addr is the offset within the interposer, @size 1, 2, 4 or 8, @data in host order, being the bytes of the access
 * read in @endianness. A typed access that one region answers comes as it was made, aligned or not, valid for that region or
 * not; what crosses from one region to the next, and bulk copies, come in parts, ascending: as the device below would take
 * them, RAM in naturally aligned parts of at most 8 bytes. All parts of a call are made in one view, the one that the access
 * began in.
 *
 * They run on the accessing thread, inside a read section, without a lock, many at once, and may do what callbacks of
 * regions may do. What they return is the result of the access; data of a read counts only with MEMTX_OK.
 */
typedef struct MemoryInterposerOps {
    /* NULL: passed on unseen */
    MemTxResult (*read)(MemoryRegion *mr, MemoryInterposed *access, hwaddr addr, uint64_t *data, unsigned size,
                        MemTxAttrs attrs);
    MemTxResult (*write)(MemoryRegion *mr, MemoryInterposed *access, hwaddr addr, uint64_t data, unsigned size,
                         MemTxAttrs attrs);
    MemoryEndianness endianness; /* zero is refused */
} MemoryInterposerOps;

/**
 * memory_region_init_interposer() - a container that is an interposer from the start
 *
 * As memory_region_init(); also -EINVAL if @ops is NULL, has no callback or no byte order.
 * Since: 0.1
 */
FLATVIEW_API int memory_region_init_interposer(MemoryRegion *mr, const MemoryInterposerOps *ops, const char *name,
                                               uint64_t size);

/**
 * memory_region_set_interposer() - make a container an interposer, or another, or none any more
 * @ops: NULL: none
 *
 * A change of what views show, as memory_region.h says; listeners hear of every range below.
 *
 * Return: 0, -EINVAL (@mr is no container, @ops as above), -EBUSY, -ENOMEM, -EAGAIN as configured, -E2BIG beyond
 *         MEMORY_INTERPOSED_MAX.
 * Since:  0.1
 */
FLATVIEW_API int memory_region_set_interposer(MemoryRegion *mr, const MemoryInterposerOps *ops);

/** The most ways through interposers that views may show at a time: about one for each region below each interposer. */
#define MEMORY_INTERPOSED_MAX ((1u << 22) - 1)

/** memory_region_is_interposer() - any thread. */
FLATVIEW_API bool memory_region_is_interposer(const MemoryRegion *mr);

/**
 * memory_interposer_pass_read() - let the next interposer, or the region itself, answer
 * @ret_data: untouched unless MEMTX_OK
 *
 * Context: the read callback that got @access; any number of times, for registers without side effects. In another it is
 *          MEMTX_ERROR.
 * Return:  the result of the access further down.
 * Since:   0.1
 */
FLATVIEW_API MemTxResult memory_interposer_pass_read(MemoryInterposed *access, uint64_t *ret_data);

/** memory_interposer_pass_write() - the same for a write callback; @data as it shall arrive. */
FLATVIEW_API MemTxResult memory_interposer_pass_write(MemoryInterposed *access, uint64_t data);

/** memory_interposed_region() - what will answer in the end, and at which offset (may be NULL) of its own. */
FLATVIEW_API MemoryRegion *memory_interposed_region(const MemoryInterposed *access, hwaddr *ret_offset);

FLATVIEW_END_DECLS

#endif
