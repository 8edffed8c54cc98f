/* SPDX-License-Identifier: MIT */
/*
 * memory_query.h - from a region to its addresses, and from a host pointer to its region.
 *
 * The other way round, from an address to what answers: flatview_find(), memory_region_find(), address_space_translate().
 */
#ifndef FLATVIEW_MEMORY_QUERY_H
#define FLATVIEW_MEMORY_QUERY_H

#include <flatview/types.h>
#include <flatview/flatview.h>

FLATVIEW_BEGIN_DECLS

/**
 * memory_region_for_each_address() - where accesses reach a part of a region: in every space, through every alias
 * @mr:     what is to answer: not an alias or a container, which are in no view and so have none
 * @offset: first byte of the part, in @mr
 * @size:   bytes, UINT64_MAX stands for 2^64; cut at the end of @mr
 * @fn:     for each space in order of creation, in it by ascending address: the piece, clipped to the part; by value but
 *          for what it points to, which is as safe as the caller's own knowledge of the region and the space. Returns
 *          non-zero to stop. May not change the topology (-EBUSY; inside a transaction not refused, and wrong)
 *
 * What is covered by something else, disabled or clipped is not listed. An IOMMU region is listed, not what is behind it.
 * Inside a transaction of this thread the answer is what would be published now, as for address_space_find_staged().
 *
 * Cost:    what shows @mr (parents, aliases and their parents) and the ranges in the windows through which it does: not the
 *          machine.
 * Context: any thread but a listener callback or notifier (-EBUSY). Locking: the topology lock, also around @fn.
 * Return:  what @fn returned last, 0 if there are none, -EINVAL, -EBUSY, -ENOMEM; inside a transaction -E2BIG.
 * Since:   0.1, as all here.
 */
FLATVIEW_API int memory_region_for_each_address(MemoryRegion *mr, hwaddr offset, uint64_t size,
                                                int (*fn)(AddressSpace *as, const MemoryRegionSection *section, void *arg),
                                                void *arg);

/**
 * memory_region_find_address() - the lowest address at which @as shows byte @offset of @mr
 * @ret_addr: untouched unless found
 *
 * Context, locking and cost as above. Return: 1 found, 0 not shown there, or an error as above.
 */
FLATVIEW_API int memory_region_find_address(MemoryRegion *mr, hwaddr offset, AddressSpace *as, hwaddr *ret_addr);

/**
 * memory_region_from_host() - the region of whose host memory @ptr is a byte; NULL if there is none
 * @ret_offset: offset of that byte in the region, so that memory_region_get_ram_ptr() + it is @ptr again; may be NULL
 *
 * Knows all memory with which regions are initialised, mapped or not, from init to destroy (its commit, that is); of regions
 * over the same memory, any; not memory_region_ram_device_set_ptr()'s. Of a resizable region all that is reserved counts.
 *
 * Context: any thread, anywhere, in callbacks of all sorts. Locking: one of its own, held for O(log n) steps and nothing
 *          else; no lock of yours can be waited for.
 * Lifetime: what was found in a read section stays until that ends; otherwise, as long as you know it not to be destroyed.
 */
FLATVIEW_API MemoryRegion *memory_region_from_host(const void *ptr, hwaddr *ret_offset);

FLATVIEW_END_DECLS

#endif
