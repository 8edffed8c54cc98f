/* SPDX-License-Identifier: MIT */
/*
 * memory_ram.h - RAM that grows and shrinks in place.
 *
 * Firmware tables are longer on one host than on another, and memory is plugged in below what was reserved for it. Such RAM has
 * a size and a greatest one. The host memory of the greatest is mapped from the beginning (untouched pages cost nothing), so host
 * addresses never change; the dirty log covers it too.
 */
#ifndef FLATVIEW_MEMORY_RAM_H
#define FLATVIEW_MEMORY_RAM_H

#include <flatview/types.h>

FLATVIEW_BEGIN_DECLS

/**
 * memory_region_init_resizeable_ram() - anonymous RAM whose size memory_region_ram_resize() may change
 * @size:     bytes at first; may be 0
 * @max_size: bytes at most; @size <= @max_size, not 0
 * @resized:  told of each new size once it is committed; may be NULL. Runs on the committing thread, under the topology lock,
 *            possibly in a read section: like a listener's callback it may look and access, not change the topology (-EBUSY)
 *
 * As memory_region_init_ram(). Source: QEMU's function of this name.
 *
 * Return: 0, -EINVAL, -ENOMEM.
 * Since:  0.1, as everything in this header.
 */
FLATVIEW_API int memory_region_init_resizeable_ram(MemoryRegion *mr, const char *name, uint64_t size, uint64_t max_size,
                                                   void (*resized)(MemoryRegion *mr, uint64_t size));

/**
 * memory_region_ram_resize() - change the RAM's size, and the region's with it
 *
 * What is cut off keeps its content, and is not dirty any more; what appears is dirty for every client in force, whatever it
 * holds. memory_region_set_size() can make the region smaller than its RAM, and up to it again, without any of that.
 *
 * Context: as all mutators (memory_region.h): staged in a transaction, undone by an abort.
 * Return:  0, -EINVAL (not made resizeable; larger than its greatest size), and as all mutators.
 */
FLATVIEW_API int memory_region_ram_resize(MemoryRegion *mr, uint64_t size);

/** memory_region_ram_max_size() - bytes that the RAM can have; of RAM that cannot be resized, those that it has. 0: no memory. */
FLATVIEW_API uint64_t memory_region_ram_max_size(const MemoryRegion *mr);

FLATVIEW_END_DECLS

#endif
