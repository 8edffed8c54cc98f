/* SPDX-License-Identifier: MIT */
/*
 * access_shim.h - address spaces built by hand, range by range, so that lib/access is tested without the floors above the
 * view; and the insides of lib/access.
 */
#ifndef FLATVIEW_TESTS_ACCESS_SHIM_H
#define FLATVIEW_TESTS_ACCESS_SHIM_H

#include <flatview/address_space.h>
#include <flatview/memory_region.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ShimKind {
    SHIM_IO, /* NULL ops: a reservation */
    SHIM_RAM,
    SHIM_ROM,
    SHIM_RAM_DEVICE,
    SHIM_ROM_DEVICE,      /* in read mode */
    SHIM_ROM_DEVICE_BUSY, /* out of it */
} ShimKind;

typedef struct ShimRange {
    hwaddr first, last;
    ShimKind kind;
    bool readonly;
    uint64_t offset; /* in the region, of first */
    uint64_t bias;
    void *host; /* of first */
    const MemoryRegionOps *ops;
    MemoryRegion *mr; /* handed to callbacks; may be NULL */
} ShimRange;

typedef struct ShimSpace ShimSpace;

/* Ranges ascending, disjoint. Versions live until the space is freed. */
ShimSpace *shim_space_new(const ShimRange *ranges, size_t n);
void shim_space_free(ShimSpace *space);
AddressSpace *shim_space_as(ShimSpace *space);

/* Replace the view, as a commit does; or in two halves, in the order of a commit. */
void shim_space_publish(ShimSpace *space, const ShimRange *ranges, size_t n);
void shim_space_publish_gen(ShimSpace *space, const ShimRange *ranges, size_t n);
void shim_space_publish_view(ShimSpace *space);
uint64_t shim_space_gen(ShimSpace *space);
void shim_space_has_no_pages(ShimSpace *space); /* its current view is remembered port by port */

/* lib/access/splitter.h, with a range in place of a FlatRange. */
MemTxResult shim_splitter_read(const ShimRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs,
                               uint64_t *ret_value);
MemTxResult shim_splitter_write(const ShimRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs,
                                uint64_t value);
unsigned shim_splitter_bulk_size(const MemoryRegionOps *ops, hwaddr offset, hwaddr len);

/* lib/access/guest_ram.h; host is only looked at as a number. */
unsigned shim_exact_width(uintptr_t host, size_t len);

/* lib/access/thread_cache.h */
typedef struct ShimCacheEntry {
    uint64_t gen; /* 0: empty */
    hwaddr first, last;
} ShimCacheEntry;

ShimCacheEntry shim_cache_memory(void);
ShimCacheEntry shim_cache_device(void);
bool shim_cache_has_slots(void);
uint64_t shim_cache_slot_gen(hwaddr addr); /* of the slot of addr's page; 0: empty */
uint64_t shim_cache_port_gen(hwaddr addr); /* the same where there are no pages */
bool shim_has_pages(AddressSpace *as);
unsigned shim_cache_slot(hwaddr addr);     /* which that is */
const void *shim_cache_slots(void);        /* where they are */
void shim_cache_clear(void); /* all entries; slots that the thread has, it keeps */

#ifdef __cplusplus
}
#endif

#endif
