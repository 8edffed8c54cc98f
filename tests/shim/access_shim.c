/* SPDX-License-Identifier: MIT */
/*
 * access_shim.c - see access_shim.h.
 */
#include "shim/access_shim.h"

#include <stdlib.h>
#include <string.h>

#include "access/guest_ram.h"
#include "access/splitter.h"
#include "access/thread_cache.h"
#include "topology/region.h"

#define MAX_VERSIONS 64

struct ShimSpace {
    ViewCell cell; /* aligned, so first */
    AddressSpace as;
    RetireLine line;
    ViewEdit edits[MAX_VERSIONS];
    FlatView *views[MAX_VERSIONS];
    size_t n_versions;
};

static uint64_t newest_gen = 1000;

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static FlatRange make_range(const ShimRange *from)
{
    FlatRange range = {
        .first = from->first,
        .last = from->last,
        .mr = from->mr,
        .offset = from->offset,
        .bias = from->bias,
        .host = from->host,
        .ops = from->ops,
        .flags = FLAT_ROMD,
    };
    uint32_t io_flags = 0;

    require(ops_check(from->ops, &io_flags) == 0);
    range.flags |= io_flags << FLAT_IO_SHIFT;
    switch (from->kind) {
    case SHIM_IO:
        break;
    case SHIM_RAM:
        range.flags |= FLAT_DIRECT_READ | (from->readonly ? 0 : FLAT_DIRECT_WRITE);
        break;
    case SHIM_ROM:
        range.flags |= FLAT_DIRECT_READ | FLAT_READONLY;
        break;
    case SHIM_RAM_DEVICE:
        range.flags |= FLAT_DIRECT_READ | FLAT_EXACT | (from->readonly ? 0 : FLAT_DIRECT_WRITE);
        break;
    case SHIM_ROM_DEVICE:
        range.flags |= FLAT_DIRECT_READ;
        break;
    case SHIM_ROM_DEVICE_BUSY:
        range.flags &= ~FLAT_ROMD;
        range.host = NULL;
        break;
    }
    if (from->readonly) {
        range.flags |= FLAT_READONLY;
    }
    return range;
}

static FlatView *add_version(ShimSpace *space, const ShimRange *ranges, size_t n)
{
    uint64_t gen = ++newest_gen;
    FlatView *view = aligned_alloc(64, sizeof(*view));
    ViewEdit *edit = &space->edits[space->n_versions];
    size_t i;

    require(view && space->n_versions < MAX_VERSIONS);
    view_edit_begin(edit, NULL, 0, gen, &space->line);
    for (i = 0; i < n; i++) {
        FlatRange range = make_range(&ranges[i]);

        require(view_edit_fill(edit, &range) == 0);
    }
    *view = (FlatView){ .root = edit->root, .gen = gen, .n_ranges = edit->n_ranges, .page_mask = VIEW_PAGES };
    space->views[space->n_versions++] = view;
    return view;
}

ShimSpace *shim_space_new(const ShimRange *ranges, size_t n)
{
    ShimSpace *space = aligned_alloc(64, sizeof(*space));

    require(space != NULL);
    *space = (ShimSpace){ .cell = { .page_mask = VIEW_PAGES }, .line = { .refs = 1 } };
    shim_space_publish(space, ranges, n);
    space->as.cell = &space->cell;
    return space;
}

void shim_space_free(ShimSpace *space)
{
    while (space->n_versions) {
        space->n_versions--;
        view_edit_abort(&space->edits[space->n_versions]);
        free(space->views[space->n_versions]);
    }
    free(space);
}

AddressSpace *shim_space_as(ShimSpace *space)
{
    return &space->as;
}

void shim_space_publish(ShimSpace *space, const ShimRange *ranges, size_t n)
{
    shim_space_publish_gen(space, ranges, n);
    shim_space_publish_view(space);
}

void shim_space_publish_gen(ShimSpace *space, const ShimRange *ranges, size_t n)
{
    writer_publish(&space->cell.gen, add_version(space, ranges, n)->gen);
}

void shim_space_publish_view(ShimSpace *space)
{
    writer_publish(&space->cell.current, space->views[space->n_versions - 1]);
}

uint64_t shim_space_gen(ShimSpace *space)
{
    return cell_gen(&space->cell);
}

void shim_space_has_no_pages(ShimSpace *space)
{
    space->cell.page_mask = space->views[space->n_versions - 1]->page_mask = VIEW_NO_PAGES;
}

MemTxResult shim_splitter_read(const ShimRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs,
                               uint64_t *ret_value)
{
    FlatRange flat = make_range(range);

    return splitter_read(&flat, offset, size, attrs, ret_value);
}

MemTxResult shim_splitter_write(const ShimRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs,
                                uint64_t value)
{
    FlatRange flat = make_range(range);

    return splitter_write(&flat, offset, size, attrs, value);
}

unsigned shim_splitter_bulk_size(const MemoryRegionOps *ops, hwaddr offset, hwaddr len)
{
    return splitter_bulk_size(ops, offset, len);
}

unsigned shim_exact_width(uintptr_t host, size_t len)
{
    return ram_exact_width((const uint8_t *)host, len);
}

ShimCacheEntry shim_cache_memory(void)
{
    return (ShimCacheEntry){ thread_cache.memory.gen, thread_cache.memory.first,
                             thread_cache.memory.first + thread_cache.memory.limit + 7 };
}

ShimCacheEntry shim_cache_device(void)
{
    return (ShimCacheEntry){ thread_cache.device.gen, thread_cache.device.first,
                             thread_cache.device.first + thread_cache.device.span };
}

bool shim_cache_has_slots(void)
{
    return thread_cache.memory.slots != thread_cache_no_slots;
}

uint64_t shim_cache_slot_gen(hwaddr addr)
{
    return thread_cache_slot(VIEW_PAGES, addr)->gen;
}

uint64_t shim_cache_port_gen(hwaddr addr)
{
    return thread_cache_slot(VIEW_NO_PAGES, addr)->gen;
}

bool shim_has_pages(AddressSpace *as)
{
    return cell_view(space_cell(as))->page_mask == VIEW_PAGES && cell_page_mask(space_cell(as)) == VIEW_PAGES;
}

unsigned shim_cache_slot(hwaddr addr)
{
    return (unsigned)(thread_cache_slot(VIEW_PAGES, addr) - thread_cache.memory.slots);
}

const void *shim_cache_slots(void)
{
    return thread_cache.memory.slots;
}

void shim_cache_clear(void)
{
    CacheSlot *slots = thread_cache.memory.slots;

    thread_cache = (ThreadCache){ .memory = { .slots = slots } };
    if (slots != thread_cache_no_slots) {
        memset(slots, 0, CACHE_SLOTS * sizeof(*slots));
    }
}
