/* SPDX-License-Identifier: MIT */
/*
 * hooks_shim.h - what an access must ask about: change_hooks() and what it does to views.
 */
#ifndef FLATVIEW_TESTS_HOOKS_SHIM_H
#define FLATVIEW_TESTS_HOOKS_SHIM_H

#include <flatview/address_space.h>
#include <flatview/memory_region.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SHIM_HOOK_EVENTFD (1u << 0)
#define SHIM_HOOK_LOG (1u << 2)

int shim_hooks_change(MemoryRegion *mr, uint32_t set, uint32_t clear); /* inside a transaction */
uint32_t shim_hooks_in_force(const MemoryRegion *mr);
uint64_t shim_hooks_regions(void);                /* how many regions have any */
const void *shim_hooks_view_root(AddressSpace *as); /* the tree of the current view */

#ifdef __cplusplus
}
#endif

#endif
