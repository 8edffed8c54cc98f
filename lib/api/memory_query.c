/* SPDX-License-Identifier: MIT */
/*
 * memory_query.c - the public face of publish/locate.h and topology/ram_index.h, which own the invariants.
 */
#include <errno.h>

#include <flatview/memory_query.h>

#include "publish/locate.h"
#include "publish/transaction.h"
#include "topology/ram_index.h"

static int locate(MemoryRegion *mr, hwaddr offset, uint64_t size, LocateFn fn, void *arg)
{
    AddrRange window = {0, size == UINT64_MAX ? UINT64_MAX : size - 1};
    int ret = txn_enter();

    if (ret < 0) {
        return ret;
    }
    ret = region_adopt(mr);
    if (ret == 0 && size && range_shift_up(window, offset, &window)) {
        ret = locate_region(mr, window, fn, arg);
    }
    txn_leave();
    return ret;
}

int memory_region_for_each_address(MemoryRegion *mr, hwaddr offset, uint64_t size,
                                   int (*fn)(AddressSpace *as, const MemoryRegionSection *section, void *arg), void *arg)
{
    return mr && fn ? locate(mr, offset, size, fn, arg) : -EINVAL;
}

typedef struct FindAddress {
    AddressSpace *as;
    hwaddr *addr;
} FindAddress;

static int note_address(AddressSpace *as, const MemoryRegionSection *section, void *arg)
{
    const FindAddress *find = arg;

    if (as != find->as) {
        return 0;
    }
    *find->addr = section->offset_within_address_space;
    return 1;
}

int memory_region_find_address(MemoryRegion *mr, hwaddr offset, AddressSpace *as, hwaddr *ret_addr)
{
    FindAddress find = {as, ret_addr};

    return mr && as && ret_addr ? locate(mr, offset, 1, note_address, &find) : -EINVAL;
}

MemoryRegion *memory_region_from_host(const void *ptr, hwaddr *ret_offset)
{
    uint64_t offset;
    MemoryRegion *mr = ram_index_find(ptr, &offset);

    if (mr && ret_offset) {
        *ret_offset = offset;
    }
    return mr;
}
