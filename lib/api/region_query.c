/* SPDX-License-Identifier: MIT */
/*
 * region_query.c - asking a region.
 *
 * Invariant: no function here changes anything, and none but memory_region_foreach_child() waits for anybody: each answer
 * is one atomic read of a field whose writers hold the topology lock (region_poke()). So answers may be asked for from
 * listeners and access callbacks; two answers need not belong together.
 */
#include <errno.h>
#include <stdlib.h>

#include <flatview/memory_region.h>

#include "base/mem.h"
#include "publish/transaction.h"
#include "topology/ram_block.h"
#include "topology/region.h"

const char *memory_region_name(const MemoryRegion *mr)
{
    return mr->name ? mr->name : "";
}

uint64_t memory_region_size(const MemoryRegion *mr)
{
    hwaddr last;

    /* Pairs with region_resize(): whoever sees that there is a size sees one. */
    if (__atomic_load_n(&mr->size_is_zero, __ATOMIC_ACQUIRE)) {
        return 0;
    }
    last = region_peek(mr->last);
    return last == UINT64_MAX ? UINT64_MAX : last + 1;
}

hwaddr memory_region_get_addr(const MemoryRegion *mr)
{
    return region_peek(mr->addr);
}

int memory_region_get_priority(const MemoryRegion *mr)
{
    return region_peek(mr->priority);
}

bool memory_region_is_enabled(const MemoryRegion *mr)
{
    return region_peek(mr->enabled);
}

bool memory_region_is_mapped(const MemoryRegion *mr)
{
    return region_is_mapped(mr);
}

bool memory_region_is_ram(const MemoryRegion *mr)
{
    return mr->kind == MEMORY_KIND_RAM || mr->kind == MEMORY_KIND_ROM || mr->kind == MEMORY_KIND_RAM_DEVICE;
}

bool memory_region_is_rom(const MemoryRegion *mr)
{
    return memory_region_is_ram(mr) && region_peek(mr->readonly);
}

bool memory_region_is_romd(const MemoryRegion *mr)
{
    return mr->kind == MEMORY_KIND_ROM_DEVICE && region_peek(mr->romd);
}

bool memory_region_is_rom_device(const MemoryRegion *mr)
{
    return mr->kind == MEMORY_KIND_ROM_DEVICE;
}

bool memory_region_is_ram_device(const MemoryRegion *mr)
{
    return mr->kind == MEMORY_KIND_RAM_DEVICE;
}

bool memory_region_is_readonly(const MemoryRegion *mr)
{
    return region_peek(mr->readonly);
}

bool memory_region_is_nonvolatile(const MemoryRegion *mr)
{
    return region_peek(mr->nonvolatile);
}

bool memory_region_is_container(const MemoryRegion *mr)
{
    return mr->kind == MEMORY_KIND_CONTAINER;
}

MemoryRegion *memory_region_get_parent(const MemoryRegion *mr)
{
    return region_peek(mr->parent);
}

MemoryRegion *memory_region_get_alias_target(const MemoryRegion *mr)
{
    return region_peek(mr->alias);
}

hwaddr memory_region_get_alias_offset(const MemoryRegion *mr)
{
    return region_peek(mr->alias_offset);
}

uint8_t memory_region_get_dirty_log_mask(const MemoryRegion *mr)
{
    return region_peek(mr->dirty_log_mask);
}

void *memory_region_get_ram_ptr(const MemoryRegion *mr)
{
    return region_peek(mr->host);
}

int memory_region_get_fd(const MemoryRegion *mr)
{
    const RamBlock *block = mr->block;

    return block ? block->fd : -1;
}

uint64_t memory_region_get_fd_offset(const MemoryRegion *mr)
{
    const RamBlock *block = mr->block;

    return block ? block->fd_offset : 0;
}

/* ---- children ------------------------------------------------------------------------------------------------- */

static int topmost_first(const void *a, const void *b)
{
    const MemoryRegion *x = *(MemoryRegion *const *)a, *y = *(MemoryRegion *const *)b;

    if (x->priority != y->priority) {
        return x->priority > y->priority ? -1 : 1;
    }
    return x->order > y->order ? -1 : x->order < y->order;
}

int memory_region_foreach_child(MemoryRegion *mr, int (*fn)(MemoryRegion *child, void *arg), void *arg)
{
    MemoryRegion **children = NULL, *child;
    size_t cap = 0, n = 0, i;
    int ret;

    if (!mr || !fn) {
        return -EINVAL;
    }
    ret = txn_enter();
    if (ret < 0) {
        return ret;
    }
    ret = region_adopt(mr);
    if (ret == 0) {
        ret = mem_vec_reserve((void **)&children, &cap, mr->n_children, sizeof(*children));
    }
    /* The index knows addresses, not what is on top. */
    if (ret == 0 && mr->n_children) {
        for (child = children_begin(mr); child; child = children_after(child)) {
            children[n++] = child;
        }
        qsort(children, n, sizeof(*children), topmost_first);
        for (i = 0; i < n && ret == 0; i++) {
            ret = fn(children[i], arg);
        }
    }
    mem_vec_free((void **)&children, &cap, sizeof(*children));
    txn_leave();
    return ret;
}
