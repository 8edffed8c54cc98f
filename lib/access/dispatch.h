/* SPDX-License-Identifier: MIT */
/*
 * dispatch.h - an access of a thread to an address space.
 *
 * Invariant: what an access touches was found in one view, in one read section that lasts until its last callback has
 * returned (R1, R4). A thread's accesses never go back to an older view of a space (coherence of ViewCell.current).
 * Established by: dispatch_load(), dispatch_store(), dispatch_rw(), the only ways in. Lock: none (R5).
 *
 * The common cases are inline and of constant size: memory, and a device that implements just this access. Whatever has
 * a question attached is answered out of line, from the start: the slow path loads its own view and looks up again.
 */
#ifndef FLATVIEW_ACCESS_DISPATCH_H
#define FLATVIEW_ACCESS_DISPATCH_H

#include "access/guest_ram.h"
#include "access/thread_cache.h"
#include "topology/region.h"

/* Bytes of a buffer. Inside a read section or not. buf is only read if is_write. */
MemTxResult dispatch_rw(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, void *buf, hwaddr len, bool is_write);

/* Inside a read section: an access of size bytes with all the questions. *ret_value in host order, set if MEMTX_OK. */
MemTxResult dispatch_load_slow(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, unsigned size, bool big_endian,
                               uint64_t *ret_value);
MemTxResult dispatch_store_slow(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, unsigned size, bool big_endian,
                                uint64_t value);

/* What answers at addr; inside a read section. See address_space_translate(). */
MemTxResult dispatch_translate(AddressSpace *as, hwaddr addr, bool is_write, MemoryRegionSection *ret_section);

/* All of these in flags and none of those. */
static inline bool dispatch_flags(uint32_t flags, uint32_t these, uint32_t not_those)
{
    return (flags & (these | not_those)) == these;
}

/* The answer of a region in its byte order, or a value for it, to or from the order that is asked for. */
static inline uint64_t dispatch_order(const FlatRange *range, uint64_t value, unsigned size, bool big_endian)
{
    bool region_is_big = range->flags & ((uint32_t)REGION_IO_BIG_ENDIAN << FLAT_IO_SHIFT);

    return region_is_big != big_endian ? value_swap(value, size) : value;
}

static inline bool dispatch_holds(const FlatRange *range, hwaddr addr, unsigned size)
{
    return range && range->last - addr >= size - 1;
}

/* size and big_endian are constants where these two are inlined; *ret_value is untouched unless MEMTX_OK. */
static inline __attribute__((always_inline)) MemTxResult dispatch_load(AddressSpace *as, hwaddr addr, MemTxAttrs attrs,
                                                                       unsigned size, bool big_endian,
                                                                       uint64_t *ret_value)
{
    const uint32_t fast = (uint32_t)REGION_IO_FAST_READ(__builtin_ctz(size)) << FLAT_IO_SHIFT;
    MemTxResult result = MEMTX_OK;
    const FlatRange *range;

    reader_enter();
    range = thread_cache_find(space_cell(as), addr);
    if (__builtin_expect(dispatch_holds(range, addr, size), 1)) {
        if (__builtin_expect(dispatch_flags(range->flags, FLAT_DIRECT_READ, FLAT_EXACT), 1)) {
            *ret_value = value_order(ram_load(range->host + (addr - range->first), size), size, big_endian);
            goto out;
        }
        if (__builtin_expect(range->flags & fast, 1)) {
            hwaddr offset = range->offset + (addr - range->first);

            if (__builtin_expect((offset & (size - 1)) == 0, 1)) {
                uint64_t value = range->ops->read(range->mr, offset + range->bias, size);

                *ret_value = dispatch_order(range, value, size, big_endian);
                goto out;
            }
        }
    }
    result = dispatch_load_slow(as, addr, attrs, size, big_endian, ret_value);
out:
    reader_exit();
    return result;
}

static inline __attribute__((always_inline)) MemTxResult dispatch_store(AddressSpace *as, hwaddr addr,
                                                                        MemTxAttrs attrs, unsigned size,
                                                                        bool big_endian, uint64_t value)
{
    const uint32_t fast = (uint32_t)REGION_IO_FAST_WRITE(__builtin_ctz(size)) << FLAT_IO_SHIFT;
    MemTxResult result = MEMTX_OK;
    const FlatRange *range;

    reader_enter();
    range = thread_cache_find(space_cell(as), addr);
    if (__builtin_expect(dispatch_holds(range, addr, size), 1)) {
        if (__builtin_expect(dispatch_flags(range->flags, FLAT_DIRECT_WRITE, FLAT_EXACT), 1)) {
            ram_store(range->host + (addr - range->first), size, value_order(value, size, big_endian));
            goto out;
        }
        if (__builtin_expect(dispatch_flags(range->flags, fast, FLAT_READONLY), 1)) {
            hwaddr offset = range->offset + (addr - range->first);

            if (__builtin_expect((offset & (size - 1)) == 0, 1)) {
                range->ops->write(range->mr, offset + range->bias, dispatch_order(range, value, size, big_endian), size);
                goto out;
            }
        }
    }
    result = dispatch_store_slow(as, addr, attrs, size, big_endian, value);
out:
    reader_exit();
    return result;
}

#endif
