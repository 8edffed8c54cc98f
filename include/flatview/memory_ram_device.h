/* SPDX-License-Identifier: MIT */
/*
 * memory_ram_device.h - mapped hardware whose memory comes and goes.
 *
 * A BAR of a real device that is passed through (VFIO) is memory of the host while it can be mapped, and callbacks while it
 * cannot: before it is powered, during a reset, while interrupts must be trapped. Such a region is *deferred*: it is made
 * and placed first, and gets its memory later, loses it, gets another. It is *typed*: its ops state the widths that the
 * hardware takes, and an access of the guest arrives as accesses of such widths, never as a memcpy().
 *
 * The simple form, memory that is there from the start and takes 1 to 8 bytes, is memory_region_init_ram_device_ptr().
 */
#ifndef FLATVIEW_MEMORY_RAM_DEVICE_H
#define FLATVIEW_MEMORY_RAM_DEVICE_H

#include <flatview/memory_region.h>

FLATVIEW_BEGIN_DECLS

/**
 * memory_region_init_ram_device() - mapped hardware, without memory yet
 * @ops:  its widths, and what answers while there is no memory. NULL: all widths, and nothing answers
 *        (MEMTX_DECODE_ERROR)
 *
 * With memory, an access is cut from its first byte up into naturally aligned pieces of at most impl.max_access_size. A
 * piece narrower than valid.min_access_size does not take place: MEMTX_DECODE_ERROR, and the others do. The callbacks, accepts()
 * included, are not asked, and the byte order is the hardware's own. So a 64-bit load by the guest from registers of 32 bits
 * is two loads, and so is each 8 bytes of a bulk copy.
 *
 * As memory_region_init_io(). The region cannot be resized.
 * Since: 0.1
 */
FLATVIEW_API int memory_region_init_ram_device(MemoryRegion *mr, const MemoryRegionOps *ops, const char *name,
                                               uint64_t size);

/**
 * memory_region_ram_device_set_ptr() - give it memory, other memory, or none
 * @mr:       made by memory_region_init_ram_device(), else -EINVAL
 * @ptr:      host address of its offset 0, as many bytes as the region has; NULL takes the memory away
 * @released: may be NULL. Called once, with @ptr and @arg, when nobody can reach @ptr through the library any more: after
 *            other memory, or none, took its place, or before @mr's own release function. Not if @ptr never came into
 *            force, because the transaction was aborted or refused, and not by exit(). On any thread, as release functions
 *            of regions; it may unmap @ptr
 *
 * A change of what views show, as memory_region.h says: listeners hear of it as of a range that was replaced, with the old
 * and the new host address, so accelerators unmap the old memory before and map the new one after publication.
 *
 * Return: 0, -EINVAL (also @released without @ptr), -EBUSY, -ENOMEM, -EAGAIN as configured, or what a listener refused with.
 * Since:  0.1
 */
FLATVIEW_API int memory_region_ram_device_set_ptr(MemoryRegion *mr, void *ptr, void (*released)(void *ptr, void *arg),
                                                  void *arg);

FLATVIEW_END_DECLS

#endif
