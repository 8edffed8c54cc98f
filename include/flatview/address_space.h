/* SPDX-License-Identifier: MIT */
/*
 * address_space.h - a root region, seen from an initiator: a CPU, a bus master, a port space.
 *
 * Accesses take no lock, no reference count and make no store to a shared line. One call uses one view throughout
 * (ORDERING: R1); a call that starts after a commit returned sees it or something newer (R3).
 *
 * @as has been initialised and not destroyed. The accesses do not check it, for that would cost each of them.
 *
 * What an access means, for every function below (source: QEMU's access rules; differences in docs/CAVEATS.md):
 * - It is cut where the answering range changes; parts are carried out in ascending order; their results are OR-ed.
 * - Nothing there: MEMTX_DECODE_ERROR. Read-only and written, or write-only and read: MEMTX_ACCESS_ERROR.
 * - A part that fails leaves its bytes of the destination untouched.
 * - RAM: typed accesses that are naturally aligned are single-copy atomic; bulk copies may tear.
 * - MMIO: a typed access, as far as it lies in one range, is one bus access and must satisfy the region's valid rules. A
 *   bulk access is cut into bus accesses of at most valid.max_access_size, naturally aligned unless both valid.unaligned
 *   and impl.unaligned. How a bus access becomes callbacks: MemoryRegionOps. It belongs to the region of its first byte.
 */
#ifndef FLATVIEW_ADDRESS_SPACE_H
#define FLATVIEW_ADDRESS_SPACE_H

#include <flatview/types.h>
#include <flatview/flatview.h>

FLATVIEW_BEGIN_DECLS

/** AddressSpace - embed it; touch nothing inside. Must not move between init and release. */
struct AddressSpace {
    /* private: */
    void *cell;  /* published: the ViewCell that readers follow */
    void *space; /* the writers' side */
};

/**
 * address_space_init() - make @root visible as an address space
 * @root: stays the caller's; cannot be destroyed while the space exists
 * @name: copied; need not be unique
 *
 * Context: any thread but a listener callback. Inside a transaction the space is empty until that commits, and gone if
 *          it aborts.
 * Locking: the topology lock.
 * Return:  0, -EINVAL, -ENOMEM, -EBUSY (from a listener, or @as is in use), -EAGAIN as configured in memory_stats.h;
 *          outside a transaction also -E2BIG, if @root shows too much.
 * Since:   0.1, as everything in this header.
 */
FLATVIEW_API int address_space_init(AddressSpace *as, MemoryRegion *root, const char *name);

/**
 * address_space_destroy() - end a space
 * @release: called once when no reader can be inside @as any more and its memory is the caller's again; as for
 *           memory_region_set_release(); may be NULL
 *
 * Listeners and map clients must have been unregistered, and mappings that the space lends to ended (memory_dma.h): -EBUSY
 * otherwise, and inside a transaction. No access may start after the call.
 * Return: 0, -EINVAL (no such space), -EBUSY, -ENOMEM, -EAGAIN as configured in memory_stats.h.
 */
FLATVIEW_API int address_space_destroy(AddressSpace *as, void (*release)(AddressSpace *as));

FLATVIEW_API const char *address_space_name(const AddressSpace *as);
FLATVIEW_API MemoryRegion *address_space_root(const AddressSpace *as);

/**
 * address_space_get_flatview() - pin the current view
 *
 * Context: any thread. Locking: none. Return: a view to be given back with flatview_unref(); never NULL.
 */
FLATVIEW_API FlatView *address_space_get_flatview(AddressSpace *as);

/**
 * address_space_current() - the current view without a pin
 *
 * Context: in a read section (memory_read_begin(), an access callback) or a listener call; valid until that ends.
 */
FLATVIEW_API FlatView *address_space_current(AddressSpace *as);

/**
 * address_space_read(), address_space_write() - copy bytes
 * @buf: @len bytes; on failure the bytes of the parts that failed are untouched. It may be guest memory itself (a mapping), also
 *       what @addr leads to: a part in one range of RAM is copied as by memmove(); parts are still copied one after the other, so
 *       an overlap that goes over several ranges may meet bytes that a part before has written
 * @len: 0 succeeds; a range that would pass the end of the space is MEMTX_DECODE_ERROR in the part beyond
 *
 * Context:   any thread. Device callbacks may run and may call back.
 * Locking:   none; safe while others commit.
 * Ownership: nothing changes hands.
 * Return:    MEMTX_OK or the OR of the parts' bits.
 */
FLATVIEW_API MemTxResult address_space_read(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, void *buf, hwaddr len);
FLATVIEW_API MemTxResult address_space_write(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, const void *buf,
                                             hwaddr len);

/** address_space_rw() - either, by a flag. */
FLATVIEW_API MemTxResult address_space_rw(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, void *buf, hwaddr len,
                                          bool is_write);

/**
 * address_space_ld*(), address_space_st*() - one value of 1, 2, 4 or 8 bytes, in the byte order that the name says
 * @ret_val: in host order; untouched unless the result is MEMTX_OK
 */
FLATVIEW_API MemTxResult address_space_ldub(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, uint8_t *ret_val);
FLATVIEW_API MemTxResult address_space_lduw_le(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, uint16_t *ret_val);
FLATVIEW_API MemTxResult address_space_lduw_be(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, uint16_t *ret_val);
FLATVIEW_API MemTxResult address_space_ldl_le(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, uint32_t *ret_val);
FLATVIEW_API MemTxResult address_space_ldl_be(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, uint32_t *ret_val);
FLATVIEW_API MemTxResult address_space_ldq_le(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, uint64_t *ret_val);
FLATVIEW_API MemTxResult address_space_ldq_be(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, uint64_t *ret_val);
FLATVIEW_API MemTxResult address_space_stb(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, uint8_t val);
FLATVIEW_API MemTxResult address_space_stw_le(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, uint16_t val);
FLATVIEW_API MemTxResult address_space_stw_be(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, uint16_t val);
FLATVIEW_API MemTxResult address_space_stl_le(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, uint32_t val);
FLATVIEW_API MemTxResult address_space_stl_be(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, uint32_t val);
FLATVIEW_API MemTxResult address_space_stq_le(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, uint64_t val);
FLATVIEW_API MemTxResult address_space_stq_be(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, uint64_t val);

/**
 * address_space_translate() - what answers at @addr, without accessing it
 * @is_write:    whether an access would be a write
 * @ret_section: the range around @addr; untouched unless something answers. Valid in the caller's read section, which
 *               must be open for it to be of use.
 *
 * Return: MEMTX_OK; MEMTX_DECODE_ERROR for a hole; MEMTX_ACCESS_ERROR for a write to read-only (with @ret_section set).
 */
FLATVIEW_API MemTxResult address_space_translate(AddressSpace *as, hwaddr addr, bool is_write, MemTxAttrs attrs,
                                                 MemoryRegionSection *ret_section);

/**
 * address_space_find_staged() - what will answer at @addr if this thread's transaction commits now
 *
 * Renders what is pending. Other threads keep seeing the published view.
 * Context: the thread that has a transaction open.
 * Return:  1 with @ret_section set, 0 for a hole, -EINVAL without a transaction of this thread, -ENOMEM, -E2BIG.
 */
FLATVIEW_API int address_space_find_staged(AddressSpace *as, hwaddr addr, MemoryRegionSection *ret_section);

/** address_space_foreach() - all spaces in order of creation, under the topology lock; as memory_region_foreach_child(). */
FLATVIEW_API int address_space_foreach(int (*fn)(AddressSpace *as, void *arg), void *arg);

FLATVIEW_END_DECLS

#endif
