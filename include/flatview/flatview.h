/* SPDX-License-Identifier: MIT */
/*
 * flatview.h - what is visible at each address of an address space: disjoint ranges, ordered, immutable.
 *
 * A view never changes after publication (ORDERING: R2). Pin one to look at it for as long as you like; a pin keeps only
 * what that view reaches (docs/LIFETIMES.md).
 */
#ifndef FLATVIEW_FLATVIEW_H
#define FLATVIEW_FLATVIEW_H

#include <flatview/types.h>

FLATVIEW_BEGIN_DECLS

/**
 * MemoryRegionSection - a piece of a view, by value
 *
 * Valid as long as what it came from: the pin, the read section, the listener call. Closed: it covers
 * [@offset_within_address_space, @last]; @last - @offset_within_address_space + 1 bytes, which may be 2^64.
 */
struct MemoryRegionSection {
    MemoryRegion *mr;                   /* what answers; never an alias or a container */
    hwaddr offset_within_address_space; /* first address */
    hwaddr last;                        /* last address */
    hwaddr offset_within_region;        /* of the first address */
    void *host;                         /* host address of the first byte; NULL for what is not memory to reads */
    bool readonly;                      /* the region or something on the way to it is */
    bool nonvolatile;                   /* likewise */
    bool romd;                          /* the region's romd flag (true unless a ROM device left read mode) */
    bool interposed;                    /* seen through interposers, hence without host: memory_interpose.h */
};

/**
 * flatview_ref() - pin a view once more
 * @view: pinned already, or current and this thread is in a read section or listener call
 *
 * Context: any thread. Locking: none. Return: @view.
 * Since:   0.1, as everything in this header.
 */
FLATVIEW_API FlatView *flatview_ref(FlatView *view);

/**
 * flatview_unref() - drop a pin; NULL is a no-op
 *
 * Context: any thread, also in a read section or listener; the last one frees what only this view reached. Release
 *          functions of regions are not called from here, but soon after, on another thread.
 */
FLATVIEW_API void flatview_unref(FlatView *view);

/**
 * flatview_generation() - unique over all views of the process; a view never gets another
 *
 * A later version has a greater one. A space that turns to a view which exists already (another root's, or the empty one)
 * may see a smaller one: compare for equality to ask "the same map?".
 */
FLATVIEW_API uint64_t flatview_generation(const FlatView *view);

/** flatview_count() - how many ranges. */
FLATVIEW_API size_t flatview_count(const FlatView *view);

/** flatview_root() - the region that the view was rendered from; NULL for the empty view of a root that shows nothing. */
FLATVIEW_API MemoryRegion *flatview_root(const FlatView *view);

/**
 * flatview_find() - what answers at @addr
 * @ret_section: the whole range around @addr; untouched if none
 *
 * Context: @view pinned, or looked up in this read section. Return: whether something answers there.
 */
FLATVIEW_API bool flatview_find(const FlatView *view, hwaddr addr, MemoryRegionSection *ret_section);

/**
 * memory_region_find() - the first piece inside a window, clipped to it
 * @addr: first address; @size: bytes, UINT64_MAX stands for 2^64; clipped at the end of the space
 * @ret_section: untouched if nothing answers inside
 *
 * QEMU's function of this name, on a view that does not move and without a reference to give back.
 */
FLATVIEW_API bool memory_region_find(const FlatView *view, hwaddr addr, uint64_t size,
                                     MemoryRegionSection *ret_section);

/**
 * flatview_for_each_range() - all ranges of [@first, @last] in ascending order, whole (not clipped)
 * @fn: returns non-zero to stop; may access memory and change the topology
 *
 * Return: what @fn returned last; 0 if there are none.
 */
FLATVIEW_API int flatview_for_each_range(const FlatView *view, hwaddr first, hwaddr last,
                                         int (*fn)(const MemoryRegionSection *section, void *arg), void *arg);

/**
 * flatview_diff() - what differs between two views, in ascending order, each difference as it stands in either view
 * @fn: @old_section NULL for a range only in @new_view, @new_section NULL for one only in @old_view. A range counts as
 *      the same only if all its fields are. Returns non-zero to stop.
 *
 * Cost: the difference, times log n, if one view descends from the other; otherwise both views.
 */
FLATVIEW_API int flatview_diff(const FlatView *old_view, const FlatView *new_view,
                               int (*fn)(const MemoryRegionSection *old_section,
                                         const MemoryRegionSection *new_section, void *arg),
                               void *arg);

FLATVIEW_END_DECLS

#endif
