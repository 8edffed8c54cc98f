/* SPDX-License-Identifier: MIT */
/*
 * memory_population.c - the public side of population.
 *
 * Invariant: what changes a region's population, and what calls back about it, holds the region's population lock and has
 * said so (txn_set_notifying()), and is refused where either is the case already: so nothing that a callback reaches waits for
 * the topology lock, which ranks below, or for the lock that its own thread holds.
 */
#include <errno.h>

#include <flatview/memory_population.h>

#include "access/dirty.h"
#include "base/mem.h"
#include "publish/transaction.h"
#include "topology/dirty_bitmap.h"
#include "topology/population.h"

#define MIN_GRANULE 64

/* For a change: the lock, and no changes of the map by this thread. */
static int change_begin(MemoryRegion *mr, Population **ret_p)
{
    Population *p;

    if (!mr || !mr->block) {
        return -EINVAL;
    }
    if (txn_notifying()) {
        return -EBUSY;
    }
    p = population_of(mr);
    if (!p) {
        return -ENOMEM;
    }
    population_enter(p);
    txn_set_notifying(true);
    *ret_p = p;
    return 0;
}

static int change_end(Population *p, int err)
{
    txn_set_notifying(false);
    population_leave(p);
    return err;
}

/* ---- sources -------------------------------------------------------------------------------------------------- */

int memory_region_add_ram_discard_source(MemoryRegion *mr, RamDiscardSource *source, uint64_t granule, bool populated)
{
    DirtyBitmap *map;
    Population *p;
    int err;

    if (!source || granule < MIN_GRANULE || (granule & (granule - 1))) {
        return -EINVAL;
    }
    err = change_begin(mr, &p);
    if (err < 0) {
        return err;
    }
    if (source->mr) {
        return change_end(p, -EBUSY);
    }
    map = dirty_bitmap_new(p->last + 1, (unsigned)__builtin_ctzll(granule));
    if (!map) {
        return change_end(p, -ENOMEM);
    }
    source->mr = mr;
    population_add(p, source, map);
    if (!populated) {
        population_discard(p, source, 0, p->last);
    }
    return change_end(p, 0);
}

int memory_region_del_ram_discard_source(MemoryRegion *mr, RamDiscardSource *source)
{
    Population *p;
    int err = change_begin(mr, &p);

    if (err < 0) {
        return err;
    }
    if (!source || source->mr != mr) {
        return change_end(p, -EINVAL);
    }
    err = population_populate(p, source, 0, p->last);
    if (err == 0) {
        population_del(p, source);
    }
    return change_end(p, err);
}

/* Takes no lock: only another source's coming or going makes a difference, and who asks while one comes is early or late. */
bool memory_region_has_ram_discard_source(MemoryRegion *mr)
{
    const Population *p = mr ? __atomic_load_n(&mr->population, __ATOMIC_ACQUIRE) : NULL;

    return p && region_peek(p->sources);
}

/* The bytes of a change, if they are whole granules. */
static int change_bounds(const Population *p, const RamDiscardSource *source, uint64_t offset, uint64_t size,
                         uint64_t *ret_last)
{
    const DirtyBitmap *map = source->discarded;
    uint64_t rest = (UINT64_C(1) << map->shift) - 1;

    if (!size || offset > p->last || size - 1 > p->last - offset) {
        return -EINVAL;
    }
    *ret_last = offset + (size - 1);
    return (offset & rest) || ((*ret_last + 1) & rest && *ret_last != p->last) ? -EINVAL : 0;
}

static int source_change(RamDiscardSource *source, uint64_t offset, uint64_t size, bool populate)
{
    MemoryRegion *mr = source ? region_peek(source->mr) : NULL;
    Population *p;
    uint64_t last;
    int err = change_begin(mr, &p);

    if (err < 0) {
        return err;
    }
    err = source->mr == mr ? change_bounds(p, source, offset, size, &last) : -EINVAL; /* deleted while we waited */
    if (err == 0 && populate) {
        err = population_populate(p, source, offset, last);
    } else if (err == 0) {
        population_discard(p, source, offset, last);
    }
    return change_end(p, err);
}

int ram_discard_source_populate(RamDiscardSource *source, uint64_t offset, uint64_t size)
{
    return source_change(source, offset, size, true);
}

int ram_discard_source_discard(RamDiscardSource *source, uint64_t offset, uint64_t size)
{
    return source_change(source, offset, size, false);
}

/* ---- asking --------------------------------------------------------------------------------------------------- */

static int stop(const MemoryRegionSection *section, void *arg)
{
    (void)section;
    (void)arg;
    return 1;
}

/* Of a region with host memory, and inside it. */
static bool section_is_ram(const MemoryRegionSection *section)
{
    const RamBlock *block = section && section->mr ? section->mr->block : NULL;
    uint64_t len; /* less one */

    if (!block || section->last < section->offset_within_address_space) {
        return false;
    }
    len = section->last - section->offset_within_address_space;
    return section->offset_within_region < block->size && len < block->size - section->offset_within_region;
}

/* Also in a callback, also of another region: then of ranks equal, so that one is not waited for. */
static int replay(const MemoryRegionSection *section, bool populated, PopulationFn fn, void *arg)
{
    bool entered, was_notifying;
    Population *p;
    int ret;

    if (!fn || !section_is_ram(section)) {
        return -EINVAL;
    }
    p = population_of(section->mr);
    if (!p) {
        return -ENOMEM;
    }
    if (population_inside() && !population_is_inside(p)) {
        return -EBUSY;
    }
    entered = population_enter(p);
    was_notifying = txn_set_notifying(true);
    ret = population_replay(p, section, populated, fn, arg);
    txn_set_notifying(was_notifying);
    if (entered) {
        population_leave(p);
    }
    return ret;
}

int memory_region_replay_populated(const MemoryRegionSection *section,
                                   int (*fn)(const MemoryRegionSection *section, void *arg), void *arg)
{
    return replay(section, true, fn, arg);
}

int memory_region_replay_discarded(const MemoryRegionSection *section,
                                   int (*fn)(const MemoryRegionSection *section, void *arg), void *arg)
{
    return replay(section, false, fn, arg);
}

bool memory_region_is_populated(MemoryRegion *mr, uint64_t offset, uint64_t size)
{
    MemoryRegionSection section = {.mr = mr, .last = size - 1, .offset_within_region = offset};

    return mr && size && section_is_ram(&section) &&
           (!memory_region_has_ram_discard_source(mr) || replay(&section, false, stop, NULL) == 0);
}

/* ---- listeners ------------------------------------------------------------------------------------------------ */

int memory_region_register_ram_discard_listener(RamDiscardListener *listener, const MemoryRegionSection *section)
{
    Population *p;
    int err;

    if (!listener || !section_is_ram(section)) {
        return -EINVAL;
    }
    err = change_begin(section->mr, &p);
    if (err < 0) {
        return err;
    }
    if (listener->section.mr) {
        return change_end(p, -EBUSY);
    }
    listener->section = *section;
    err = population_register(p, listener);
    if (err < 0) {
        listener->section = (MemoryRegionSection){.mr = NULL};
    }
    return change_end(p, err);
}

int memory_region_unregister_ram_discard_listener(RamDiscardListener *listener)
{
    Population *p;
    int err = change_begin(listener ? listener->section.mr : NULL, &p);

    if (err < 0) {
        return err;
    }
    population_unregister(p, listener);
    return change_end(p, 0);
}

/* ---- the host's memory ---------------------------------------------------------------------------------------- */

int memory_region_discard_range(MemoryRegion *mr, uint64_t offset, uint64_t size)
{
    int err;

    if (!mr || !mr->block) {
        return -EINVAL;
    }
    if (ram_discard_any(RAM_DISCARD_DISABLE)) {
        return -EBUSY;
    }
    err = ram_block_punch(mr->block, offset, size);
    if (err == 0) {
        reader_enter();
        dirty_mark_region(mr, offset, size);
        reader_exit();
    }
    return err;
}

int ram_block_discard_disable(bool state)
{
    return ram_discard_count(RAM_DISCARD_DISABLE, state);
}

int ram_block_uncoordinated_discard_disable(bool state)
{
    return ram_discard_count(RAM_DISCARD_DISABLE_UNCOORDINATED, state);
}

int ram_block_discard_require(bool state)
{
    return ram_discard_count(RAM_DISCARD_REQUIRE, state);
}

int ram_block_coordinated_discard_require(bool state)
{
    return ram_discard_count(RAM_DISCARD_REQUIRE_COORDINATED, state);
}

bool ram_block_discard_is_disabled(void)
{
    return ram_discard_any(RAM_DISCARD_DISABLE) || ram_discard_any(RAM_DISCARD_DISABLE_UNCOORDINATED);
}

bool ram_block_discard_is_required(void)
{
    return ram_discard_any(RAM_DISCARD_REQUIRE) || ram_discard_any(RAM_DISCARD_REQUIRE_COORDINATED);
}
