/* SPDX-License-Identifier: MIT */
/*
 * memory_cache.h - a window of an address space that is looked at again and again: a ring, a descriptor table.
 *
 * A MemoryRegionCache remembers where its window leads. Each access compares one number, the generation of the map, and if
 * that is still the same goes straight to the memory; if not, the window is looked up anew, by itself. So there is nothing to
 * rebuild when the map changes, and nothing to hold: RAM that vanishes is not written to afterwards, and is released without
 * waiting for the window. (QEMU's caches hold their region, and whoever owns one listens for changes to make it again.)
 *
 * What is remembered of a window is one range of plain RAM in which all of it lies; of a window that lies in an IOMMU region, the
 * stretch around the last access that is translated by one entry to plain RAM, as long as nobody says by
 * memory_region_notify_iommu() that this very entry is gone. Any other window, with devices, with holes, behind several IOMMUs, is
 * accessed as address_space_ldl_le() and friends would: same answers, at their cost. So are stores to RAM whose writes are
 * logged.
 *
 * A cache is used by one thread at a time, as any data of the caller's; several may look at one window with a cache each.
 */
#ifndef FLATVIEW_MEMORY_CACHE_H
#define FLATVIEW_MEMORY_CACHE_H

#include <flatview/address_space.h>

FLATVIEW_BEGIN_DECLS

/** MemoryRegionCache - memory of the caller; touch nothing inside. All zeroes is a window of no bytes. */
typedef struct MemoryRegionCache {
    /* private: */
    uint64_t gen;     /* of the view in which the rest was found; 0: none */
    uint64_t limit[4]; /* where an access of 1, 2, 4, 8 bytes to plain RAM must begin before; 0: it is none, or too short */
    uint8_t *host;    /* of its first byte, if it is plain RAM */
    AddressSpace *as; /* NULL: a window of no bytes */
    hwaddr addr;
    hwaddr len;
    MemoryRegion *mr; /* likewise */
    uint64_t offset;  /* of the window's first byte, in mr, or where that would be */
    bool writable;    /* stores may go to host */
    bool unasked;     /* and nobody wants to know */
    bool readonly;    /* the IOMMU region is */
    uint8_t perm;     /* of the entry: IOMMUAccessFlags */
    uint32_t index;   /* of the table */
    /* A window in an IOMMU region: host, mr and offset are those of the stretch. */
    MemoryRegion *iommu;     /* NULL: it is not in one */
    hwaddr iova;             /* of the window's first byte, in that region */
    hwaddr first, last;      /* the stretch, in the window */
    hwaddr entry_first, entry_last; /* the entry, in the region */
    uint64_t seq;            /* of the table's invalidations, when the entry was known to be good */
    AddressSpace *target_as; /* where it leads; NULL: nothing is remembered */
    uint64_t target_gen;     /* of its view */
    /* What address_space_cache_ptr() gave away for writing */
    MemoryRegion *lent_mr; /* NULL: nothing */
    uint64_t lent_offset;  /* as offset */
    hwaddr lent_first, lent_last; /* in the window */
} MemoryRegionCache;

/**
 * address_space_cache_init() - a window [@addr, @addr + @len)
 * @as:  not destroyed before the last access through @cache
 * @len: bytes, above 0, not beyond the end of the space; what is there does not matter and may change
 *
 * Context: any thread. Locking: none. Nothing is looked up yet and nothing allocated.
 * Return:  0, -EINVAL.
 * Since:   0.1, as everything in this header.
 */
FLATVIEW_API int address_space_cache_init(MemoryRegionCache *cache, AddressSpace *as, hwaddr addr, hwaddr len);

/** address_space_cache_destroy() - a window of no bytes; every access is MEMTX_DECODE_ERROR. */
FLATVIEW_API void address_space_cache_destroy(MemoryRegionCache *cache);

/**
 * address_space_*_cached() - as the functions of address_space.h, at @addr bytes into the window
 *
 * Reaching beyond the window is MEMTX_DECODE_ERROR, for the whole of the access, which is not carried out then.
 */
FLATVIEW_API MemTxResult address_space_ldub_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs,
                                                   uint8_t *ret_val);
FLATVIEW_API MemTxResult address_space_lduw_le_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs,
                                                      uint16_t *ret_val);
FLATVIEW_API MemTxResult address_space_lduw_be_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs,
                                                      uint16_t *ret_val);
FLATVIEW_API MemTxResult address_space_ldl_le_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs,
                                                     uint32_t *ret_val);
FLATVIEW_API MemTxResult address_space_ldl_be_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs,
                                                     uint32_t *ret_val);
FLATVIEW_API MemTxResult address_space_ldq_le_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs,
                                                     uint64_t *ret_val);
FLATVIEW_API MemTxResult address_space_ldq_be_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs,
                                                     uint64_t *ret_val);
FLATVIEW_API MemTxResult address_space_stb_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs, uint8_t val);
FLATVIEW_API MemTxResult address_space_stw_le_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs,
                                                     uint16_t val);
FLATVIEW_API MemTxResult address_space_stw_be_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs,
                                                     uint16_t val);
FLATVIEW_API MemTxResult address_space_stl_le_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs,
                                                     uint32_t val);
FLATVIEW_API MemTxResult address_space_stl_be_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs,
                                                     uint32_t val);
FLATVIEW_API MemTxResult address_space_stq_le_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs,
                                                     uint64_t val);
FLATVIEW_API MemTxResult address_space_stq_be_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs,
                                                     uint64_t val);

FLATVIEW_API MemTxResult address_space_read_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs, void *buf,
                                                   hwaddr len);
FLATVIEW_API MemTxResult address_space_write_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs,
                                                    const void *buf, hwaddr len);

/**
 * address_space_cache_ptr() - the host memory of @len bytes at @addr into the window
 *
 * For loops over a ring: one comparison for all of it. Who writes says so by address_space_cache_invalidate(). In an IOMMU
 * region the entry is asked for with MEMTXATTRS_UNSPECIFIED, and all bytes must be in its stretch.
 *
 * Context: in a read section (memory_read_begin(), an access callback); the pointer is valid until that ends.
 * Return:  NULL if the window is not plain RAM now, or read-only and @is_write, or shorter, or outside read sections.
 */
FLATVIEW_API void *address_space_cache_ptr(MemoryRegionCache *cache, hwaddr addr, hwaddr len, bool is_write);

/**
 * address_space_cache_invalidate() - @access_len bytes at @addr were written through address_space_cache_ptr()
 *
 * Marks them dirty, in the memory to which the latest such pointer for writing leads, whatever the map has become since, and
 * whatever else was done through @cache. In the same read section. (QEMU's name; what @cache remembers stays.)
 *
 * Return: 0; -EINVAL outside read sections, or for bytes that are not in the RAM of which there was a pointer for writing.
 */
FLATVIEW_API int address_space_cache_invalidate(MemoryRegionCache *cache, hwaddr addr, hwaddr access_len);

FLATVIEW_END_DECLS

#endif
