/* SPDX-License-Identifier: MIT */
/*
 * region.c - life and place of regions.
 *
 * Invariant: a child's parent has it in its index and counts it, as enabled if it is; an alias that is live is on its
 * target's list; a region's mapped_aliases counts those on its list which are mapped themselves. All of that under the
 * topology lock, and none of it can fail, so that a change can always be taken back.
 * Established by: the functions here and nobody else. Relied on by: everything above.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "topology/calls.h"
#include "topology/dirty_log.h"
#include "topology/iommu.h"
#include "topology/population.h"
#include "topology/plane_set.h"
#include "topology/ram_block.h"
#include "topology/ram_index.h"
#include "topology/ram_window.h"
#include "topology/region.h"

Lock topology_lock = LOCK_INITIALIZER(LOCK_RANK_TOPOLOGY, "topology");

static uint64_t live_regions; /* atomic */
static uint64_t last_order;   /* guarded by the topology lock */
uint64_t region_hooked_count; /* atomic: regions end without the lock */
uint64_t region_shape = 1;    /* no cell has found out anything yet */

uint64_t region_live_count(void)
{
    return __atomic_load_n(&live_regions, __ATOMIC_RELAXED);
}

uint64_t region_next_order(void)
{
    return ++last_order;
}

/* ---- life ----------------------------------------------------------------------------------------------------- */

static void come_alive(MemoryRegion *mr)
{
    mr->state = REGION_STATE_LIVE;
    __atomic_add_fetch(&live_regions, 1, __ATOMIC_RELAXED);
}

void region_init(MemoryRegion *mr, MemoryRegionKind kind, char *name, uint64_t size)
{
    memset(mr, 0, sizeof(*mr));
    mr->name = name;
    mr->name_is_ours = name != NULL;
    mr->kind = (uint8_t)kind;
    mr->size_is_zero = size == 0;
    mr->last = size == UINT64_MAX ? UINT64_MAX : size ? size - 1 : 0;
    mr->enabled = true;
    mr->romd = true; /* of every kind, as in QEMU: only a ROM device can leave read mode */
    mr->readonly = kind == MEMORY_KIND_ROM;
    come_alive(mr);
}

void region_hook(MemoryRegion *mr, uint32_t hooks)
{
    if (!mr->hooks && hooks) {
        __atomic_add_fetch(&region_hooked_count, 1, __ATOMIC_RELAXED);
    } else if (mr->hooks && !hooks) {
        __atomic_sub_fetch(&region_hooked_count, 1, __ATOMIC_RELAXED);
    }
    region_poke(mr->hooks, hooks);
}

void region_fini(MemoryRegion *mr)
{
    assert(!mr->parent && !mr->children && !mr->aliases && !mr->alias_prev);
    if (mr->name_is_ours) {
        mem_strfree((char *)(uintptr_t)mr->name);
    }
    if (mr->ops_is_ours) {
        legacy_ops_free(mr->ops);
    }
    ram_block_free(mr->block);
    ram_window_end(mr->window);
    mr->window = NULL;
    region_hook(mr, 0);
    region_calls_free(mr->calls);
    mr->calls = NULL;
    iommu_free(mr->iommu);
    population_free(mr->population);
    region_planes_free(mr->planes);
    mr->planes = NULL;
    mr->name = NULL;
    mr->name_is_ours = false;
    mr->ops = NULL;
    mr->ops_is_ours = false;
    mr->block = NULL;
    mr->iommu = NULL;
    mr->population = NULL;
    mr->host = NULL;
    mr->alias = NULL;
    __atomic_sub_fetch(&live_regions, 1, __ATOMIC_RELAXED);
}

static void alias_put_in(MemoryRegion *mr, MemoryRegion *target)
{
    mr->alias_next = target->aliases;
    mr->alias_prev = &target->aliases;
    if (mr->alias_next) {
        mr->alias_next->alias_prev = &mr->alias_next;
    }
    target->aliases = mr;
}

static void alias_take_out(MemoryRegion *mr)
{
    *mr->alias_prev = mr->alias_next;
    if (mr->alias_next) {
        mr->alias_next->alias_prev = mr->alias_prev;
    }
}

void region_alias_link(MemoryRegion *mr, MemoryRegion *target)
{
    region_shape_changed();
    region_poke(mr->alias, target); /* a static alias had it before, and may be asked for it right now */
    alias_put_in(mr, target);
}

void region_alias_unlink(MemoryRegion *mr)
{
    if (!mr->alias_prev) {
        return;
    }
    assert(!region_is_mapped(mr));
    region_shape_changed();
    alias_take_out(mr);
    mr->alias_next = NULL;
    mr->alias_prev = NULL;
}

void region_alias_to_front(MemoryRegion *mr)
{
    alias_take_out(mr);
    alias_put_in(mr, mr->alias);
}

/* Could this static region live? Says nothing about what it is an alias of. */
static int check_static(const MemoryRegion *mr)
{
    uint32_t io_flags;

    switch (mr->kind) {
    case MEMORY_KIND_CONTAINER:
        return 0;
    case MEMORY_KIND_IO:
        return ops_check(mr->ops, &io_flags);
    case MEMORY_KIND_RAM:
        return mr->host || mr->size_is_zero ? 0 : -EINVAL;
    case MEMORY_KIND_ALIAS:
        return mr->alias ? 0 : -EINVAL;
    default:
        return -EINVAL; /* no initialiser makes those */
    }
}

/* The static aliases from mr on, up to what is live or no alias: 0 if all could live, and the last of them. */
static int check_static_chain(MemoryRegion *mr, MemoryRegion **ret_last)
{
    MemoryRegion *milestone = mr;
    uint64_t steps = 0, next_milestone = 1;
    int ret;

    for (;;) {
        ret = check_static(mr);
        if (ret < 0) {
            return ret;
        }
        *ret_last = mr;
        if (mr->kind != MEMORY_KIND_ALIAS || mr->alias->state == REGION_STATE_LIVE) {
            return 0;
        }
        mr = mr->alias;
        if (mr->state != REGION_STATE_STATIC) {
            return -EINVAL;
        }
        if (mr == milestone) {
            return -ELOOP; /* only static aliases can name each other in a circle: none of them had to exist first */
        }
        if (++steps == next_milestone) {
            next_milestone *= 2;
            milestone = mr;
        }
    }
}

int region_adopt(MemoryRegion *mr)
{
    MemoryRegion *last;
    RamBlock *block = NULL;
    int ret;

    if (mr->state == REGION_STATE_LIVE) {
        return 0;
    }
    if (mr->state != REGION_STATE_STATIC) {
        return -EINVAL;
    }
    ret = check_static_chain(mr, &last);
    if (ret == 0 && last->kind == MEMORY_KIND_RAM && !last->size_is_zero) {
        ret = ram_block_new_ptr(last->host, region_size(last), &block);
        if (ret == 0) {
            ret = dirty_log_join_begin(block);
        }
    }
    if (ret < 0) {
        ram_block_free(block);
        return ret;
    }
    if (block) {
        last->block = block;
        dirty_log_join_end(block, last);
        ram_index_add(block, last);
    }
    for (;; mr = mr->alias) {
        if (mr->kind == MEMORY_KIND_IO) {
            ret = ops_check(mr->ops, &mr->io_flags);
            assert(ret == 0);
        } else if (mr->kind == MEMORY_KIND_ALIAS) {
            region_alias_link(mr, mr->alias);
        }
        come_alive(mr);
        if (mr == last) {
            return 0;
        }
    }
}

/* ---- place ---------------------------------------------------------------------------------------------------- */

/* mr's parent comes (by = 1) or goes (by = -1). What mr is an alias of, directly or through others, may thereby become
   mapped, or not be any more; as soon as that makes no difference, neither does it further on. */
static void set_parent(MemoryRegion *mr, MemoryRegion *parent)
{
    bool was_mapped = region_is_mapped(mr);

    if (mr->children || mr->alias) {
        region_shape_changed(); /* what shows nothing but itself, as most devices, is on nobody's way up */
    }
    region_poke(mr->parent, parent);
    while (mr->alias && region_is_mapped(mr) != was_mapped) {
        uint32_t count = mr->alias->mapped_aliases + (was_mapped ? UINT32_MAX : 1);

        was_mapped = region_is_mapped(mr->alias);
        mr = mr->alias;
        region_poke(mr->mapped_aliases, count);
    }
}

void region_link(MemoryRegion *parent, MemoryRegion *child, hwaddr addr, int32_t priority, uint64_t order)
{
    assert(!child->parent);
    region_poke(child->addr, addr);
    region_poke(child->priority, priority);
    child->order = order;
    set_parent(child, parent);
    children_insert(parent, child);
    parent->n_children++;
    parent->n_enabled_children += child->enabled;
}

void region_unlink(MemoryRegion *child)
{
    MemoryRegion *parent = child->parent;

    children_remove(child);
    parent->n_children--;
    parent->n_enabled_children -= child->enabled;
    set_parent(child, NULL);
}

void region_move(MemoryRegion *mr, hwaddr addr)
{
    if (!mr->parent) {
        region_poke(mr->addr, addr);
        return;
    }
    children_move(mr, addr);
}

void region_resize(MemoryRegion *mr, uint64_t size)
{
    /* memory_region_size() reads the flag, then the size: it must not find the size of before with the flag of now. */
    if (size) {
        region_poke(mr->last, size == UINT64_MAX ? UINT64_MAX : size - 1);
    }
    __atomic_store_n(&mr->size_is_zero, size == 0, __ATOMIC_RELEASE);
    if (mr->parent) {
        children_changed(mr);
    }
}

void region_enable(MemoryRegion *mr, bool enabled)
{
    size_t by = (size_t)enabled - (size_t)mr->enabled;

    region_poke(mr->enabled, enabled);
    if (mr->parent) {
        mr->parent->n_enabled_children += by;
        children_changed(mr);
    }
}
