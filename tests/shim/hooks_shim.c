/* SPDX-License-Identifier: MIT */
#include "shim/hooks_shim.h"

#include "publish/change.h"

_Static_assert(SHIM_HOOK_EVENTFD == REGION_HOOK_EVENTFD && SHIM_HOOK_LOG == REGION_HOOK_LOG, "as in region.h");

int shim_hooks_change(MemoryRegion *mr, uint32_t set, uint32_t clear)
{
    return change_hooks(mr, set, clear);
}

uint32_t shim_hooks_in_force(const MemoryRegion *mr)
{
    return region_hooks(mr);
}

uint64_t shim_hooks_regions(void)
{
    return region_peek(region_hooked_count);
}

const void *shim_hooks_view_root(AddressSpace *as)
{
    const void *root;

    reader_enter();
    root = cell_view(space_cell(as))->root;
    reader_exit();
    return root;
}
