/* SPDX-License-Identifier: MIT */
/*
 * region_init.c - making regions.
 *
 * Invariant: everything that can fail happens before the caller's struct is touched, so a failed init leaves it as it was,
 * and one that succeeded hands region_fini() exactly what was allocated here.
 *
 * No lock: until it is linked or shown by an alias, a region is known to its maker alone. Only an alias changes something
 * that others can see, its target's list; so only that one enters the topology.
 */
#include <errno.h>

#include <flatview/memory_iommu.h>
#include <flatview/memory_ram.h>
#include <flatview/memory_ram_device.h>
#include <flatview/memory_region.h>

#include "base/mem.h"
#include "publish/transaction.h"
#include "topology/dirty_log.h"
#include "topology/iommu.h"
#include "topology/ram_block.h"
#include "topology/ram_index.h"
#include "topology/region.h"

/* The library's copy of a name; none is needed for "". */
static int copy_name(const char *name, char **ret_name)
{
    *ret_name = NULL;
    if (name && *name) {
        *ret_name = mem_strdup(name);
        if (!*ret_name) {
            return -ENOMEM;
        }
    }
    return 0;
}

static int init_plain(MemoryRegion *mr, MemoryRegionKind kind, const MemoryRegionOps *ops, const char *name,
                      uint64_t size)
{
    uint32_t io_flags;
    char *copy = NULL;
    int ret;

    if (!mr) {
        return -EINVAL;
    }
    ret = ops_check(ops, &io_flags);
    if (ret == 0) {
        ret = copy_name(name, &copy);
    }
    if (ret < 0) {
        return ret;
    }
    region_init(mr, kind, copy, size);
    mr->ops = ops;
    mr->io_flags = io_flags;
    return 0;
}

int memory_region_init(MemoryRegion *mr, const char *name, uint64_t size)
{
    return init_plain(mr, MEMORY_KIND_CONTAINER, NULL, name, size);
}

int memory_region_init_io(MemoryRegion *mr, const MemoryRegionOps *ops, const char *name, uint64_t size)
{
    return init_plain(mr, MEMORY_KIND_IO, ops, name, size);
}

int memory_region_init_reservation(MemoryRegion *mr, const char *name, uint64_t size)
{
    return init_plain(mr, MEMORY_KIND_IO, NULL, name, size);
}

int memory_region_init_io_legacy(MemoryRegion *mr, const MemoryRegionLegacyOps *ops, const char *name, uint64_t size)
{
    const MemoryRegionOps *adapter;
    int ret;

    ret = legacy_ops_new(ops, &adapter);
    if (ret < 0) {
        return ret;
    }
    ret = init_plain(mr, MEMORY_KIND_IO, adapter, name, size);
    if (ret < 0) {
        legacy_ops_free(adapter);
        return ret;
    }
    mr->ops_is_ours = true;
    return 0;
}

int memory_region_init_iommu(MemoryRegion *mr, const MemoryRegionIOMMUOps *ops, const char *name, uint64_t size)
{
    IommuRegion *iommu;
    int ret;

    ret = iommu_new(ops, &iommu);
    if (ret < 0) {
        return ret;
    }
    ret = init_plain(mr, MEMORY_KIND_IOMMU, NULL, name, size);
    if (ret < 0) {
        iommu_free(iommu);
        return ret;
    }
    mr->iommu = iommu;
    return 0;
}

/* ---- with memory ---------------------------------------------------------------------------------------------- */

/* Takes over block, also on failure; NULL for size 0. */
static int init_with_block(MemoryRegion *mr, MemoryRegionKind kind, const MemoryRegionOps *ops, const char *name,
                           uint64_t size, RamBlock *block)
{
    int ret = block ? dirty_log_join_begin(block) : 0;

    if (ret == 0) {
        ret = init_plain(mr, kind, ops, name, size);
        if (ret < 0 && block) {
            dirty_log_join_cancel();
        }
    }
    if (ret < 0) {
        ram_block_free(block);
        return ret;
    }
    if (block) {
        mr->block = block;
        mr->host = block->host;
        dirty_log_join_end(block, mr);
        ram_index_add(block, mr);
    }
    return 0;
}

static int init_anon(MemoryRegion *mr, MemoryRegionKind kind, const MemoryRegionOps *ops, const char *name,
                     uint64_t size)
{
    RamBlock *block = NULL;
    int ret = size ? ram_block_new_anon(size, &block) : 0;

    return ret < 0 ? ret : init_with_block(mr, kind, ops, name, size, block);
}

static int init_ptr(MemoryRegion *mr, MemoryRegionKind kind, const char *name, uint64_t size, void *ptr)
{
    RamBlock *block = NULL;
    int ret = size ? ram_block_new_ptr(ptr, size, &block) : 0;

    return ret < 0 ? ret : init_with_block(mr, kind, NULL, name, size, block);
}

int memory_region_init_ram(MemoryRegion *mr, const char *name, uint64_t size)
{
    return init_anon(mr, MEMORY_KIND_RAM, NULL, name, size);
}

int memory_region_init_rom(MemoryRegion *mr, const char *name, uint64_t size)
{
    return init_anon(mr, MEMORY_KIND_ROM, NULL, name, size);
}

int memory_region_init_rom_device(MemoryRegion *mr, const MemoryRegionOps *ops, const char *name, uint64_t size)
{
    return ops ? init_anon(mr, MEMORY_KIND_ROM_DEVICE, ops, name, size) : -EINVAL;
}

int memory_region_init_ram_ptr(MemoryRegion *mr, const char *name, uint64_t size, void *ptr)
{
    return init_ptr(mr, MEMORY_KIND_RAM, name, size, ptr);
}

int memory_region_init_rom_ptr(MemoryRegion *mr, const char *name, uint64_t size, void *ptr)
{
    return init_ptr(mr, MEMORY_KIND_ROM, name, size, ptr);
}

int memory_region_init_ram_device_ptr(MemoryRegion *mr, const char *name, uint64_t size, void *ptr)
{
    return init_ptr(mr, MEMORY_KIND_RAM_DEVICE, name, size, ptr);
}

int memory_region_init_ram_device(MemoryRegion *mr, const MemoryRegionOps *ops, const char *name, uint64_t size)
{
    return init_plain(mr, MEMORY_KIND_RAM_DEVICE, ops, name, size);
}

int memory_region_init_ram_memfd(MemoryRegion *mr, const char *name, uint64_t size)
{
    RamBlock *block = NULL;
    int ret = size ? ram_block_new_memfd(name, size, &block) : 0;

    return ret < 0 ? ret : init_with_block(mr, MEMORY_KIND_RAM, NULL, name, size, block);
}

int memory_region_init_ram_from_fd(MemoryRegion *mr, const char *name, uint64_t size, int fd, uint64_t offset)
{
    RamBlock *block = NULL;
    int ret = size ? ram_block_new_fd(fd, offset, size, &block) : 0;

    return ret < 0 ? ret : init_with_block(mr, MEMORY_KIND_RAM, NULL, name, size, block);
}

int memory_region_init_ram_from_file(MemoryRegion *mr, const char *name, uint64_t size, const char *path)
{
    RamBlock *block = NULL;
    int ret = size ? ram_block_new_file(path, size, &block) : 0;

    return ret < 0 ? ret : init_with_block(mr, MEMORY_KIND_RAM, NULL, name, size, block);
}

int memory_region_init_resizeable_ram(MemoryRegion *mr, const char *name, uint64_t size, uint64_t max_size,
                                      void (*resized)(MemoryRegion *mr, uint64_t size))
{
    RamBlock *block;
    int err;

    if (!mr || !max_size || size > max_size) {
        return -EINVAL;
    }
    err = ram_block_new_anon(max_size, &block);
    if (err < 0) {
        return err;
    }
    block->resizable = true;
    block->used = block->told = size;
    block->resized = resized;
    return init_with_block(mr, MEMORY_KIND_RAM, NULL, name, size, block);
}

/* ---- an alias ------------------------------------------------------------------------------------------------- */

int memory_region_init_alias(MemoryRegion *mr, const char *name, MemoryRegion *target, hwaddr offset, uint64_t size)
{
    char *copy = NULL;
    int ret;

    if (!mr || !target || mr == target) {
        return -EINVAL;
    }
    ret = copy_name(name, &copy);
    if (ret < 0) {
        return ret;
    }
    ret = txn_enter();
    if (ret == 0) {
        ret = region_adopt(target);
        if (ret == 0) {
            region_init(mr, MEMORY_KIND_ALIAS, copy, size);
            mr->alias_offset = offset;
            region_alias_link(mr, target);
        }
        txn_leave();
    }
    if (ret < 0) {
        mem_strfree(copy);
    }
    return ret;
}

/* ---- the end -------------------------------------------------------------------------------------------------- */

int memory_region_set_release(MemoryRegion *mr, void (*release)(MemoryRegion *mr))
{
    int ret;

    if (!mr) {
        return -EINVAL;
    }
    ret = txn_enter();
    if (ret < 0) {
        return ret;
    }
    ret = region_adopt(mr);
    if (ret == 0) {
        mr->release = release;
    }
    txn_leave();
    return ret;
}
