/* SPDX-License-Identifier: MIT */
/*
 * memory_eventfd.h - ioeventfds: a guest's write to a doorbell is a write to a file, and no callback runs.
 *
 * An ioeventfd belongs to a region and follows it: where the region is visible, a matching write kicks the file, whether
 * the write comes through the library's dispatch or an accelerator that was told of it (memory_listener.h: eventfd_add,
 * eventfd_del). Both mean the same, and that is KVM's meaning:
 *
 * - A write matches if it begins at the ioeventfd's own address and has its size (or the ioeventfd is of any size), and,
 *   if there is a value to match, carries that value. Matching comes before everything that the region's ops say: before
 *   valid sizes and alignment, before splitting. A bulk write is matched as the bus accesses of which it consists.
 * - So at most one ioeventfd matches a write; two that could both match the same one are not accepted (-EEXIST).
 * - A write that matches is done with the kick: MEMTX_OK, and no callback. One that does not goes its usual way.
 * - It is there where the whole of it is visible in one range of the view that takes writes: not where it is clipped, covered in
 *   part, or read-only. (QEMU also announces what is visible in part.)
 *
 * A kick is one write() of the number 1, eight bytes. It never sleeps on a full counter: the file is readable then, which
 * is all that a kick is for, and the write is MEMTX_OK. The file should be O_NONBLOCK, as eventfds made with EFD_NONBLOCK
 * are; if it is not (when it is added), each kick asks poll() first. If the file refuses the write, MEMTX_ERROR.
 *
 * The library writes to its own duplicate of the descriptor, which it keeps until listeners have been told that the
 * ioeventfd goes and every reader has left. The caller may close its own at any time.
 */
#ifndef FLATVIEW_MEMORY_EVENTFD_H
#define FLATVIEW_MEMORY_EVENTFD_H

#include <flatview/types.h>

FLATVIEW_BEGIN_DECLS

/** MemoryRegionEventfd - an ioeventfd, for adding or deleting several at once. Fields: memory_region_add_eventfd(). */
typedef struct MemoryRegionEventfd {
    hwaddr addr;
    unsigned size;
    bool match_data;
    uint64_t data;
    int fd;
} MemoryRegionEventfd;

/**
 * memory_region_add_eventfd() - kick @fd when the guest writes to @addr
 * @addr:       offset in the region, as callbacks of a region without memory_region_set_offset() get it
 * @size:       bytes of the write: 1, 2, 4, 8, or 0 for any
 * @match_data: only if the value written is @data
 * @data:       the value as a write callback of the region would get it, so in the region's own byte order, whatever the
 *              guest's (QEMU takes the guest's and swaps at registration); without @match_data ignored
 * @fd:         an eventfd, or anything that takes a write of eight bytes; duplicated
 *
 * @mr is an MMIO region, a reservation or a ROM device. See memory_region.h for context, locking and further errors;
 * inside a transaction nothing is matched or announced before the commit. No view is rendered.
 * Return: 0, -EINVAL (another kind of region, another size, a value to match without a size or beyond it), -ERANGE (not
 *         wholly inside the region), -EEXIST (one that could match the same write is there), -EBADF (@fd is not open for
 *         writing), -EMFILE.
 * Since:  0.1, as everything in this header.
 */
FLATVIEW_API int memory_region_add_eventfd(MemoryRegion *mr, hwaddr addr, unsigned size, bool match_data, uint64_t data,
                                           int fd);

/**
 * memory_region_del_eventfd() - take back an ioeventfd
 * @fd: the number that was given when it was added, or -1 for whichever it was
 *
 * Return: 0, -EINVAL, -ENOENT (there is none with just these).
 */
FLATVIEW_API int memory_region_del_eventfd(MemoryRegion *mr, hwaddr addr, unsigned size, bool match_data, uint64_t data,
                                           int fd);

/**
 * memory_region_add_eventfds() - add @n in one commit: all or, on error, none
 *
 * The cost is linear in @n and in how many the region has. For several regions, open a transaction around the calls.
 */
FLATVIEW_API int memory_region_add_eventfds(MemoryRegion *mr, const MemoryRegionEventfd *eventfds, size_t n);

/** memory_region_del_eventfds() - take @n back in one commit: all or none. */
FLATVIEW_API int memory_region_del_eventfds(MemoryRegion *mr, const MemoryRegionEventfd *eventfds, size_t n);

/** memory_region_count_eventfds() - how many @mr has; inside this thread's transaction, will have. 0 for NULL. */
FLATVIEW_API size_t memory_region_count_eventfds(MemoryRegion *mr);

FLATVIEW_END_DECLS

#endif
