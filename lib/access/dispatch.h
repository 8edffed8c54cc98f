/* SPDX-License-Identifier: MIT */
/*
 * dispatch.h - an access of a thread to an address space.
 *
 * Invariant: what an access touches was found in one view, in one read section that lasts until its last callback has
 * returned (R1, R4). A thread's accesses never go back to an older view of a space (coherence of ViewCell.current).
 * Established by: the functions here, the only ways in. Relied on by: devices, and whoever frees what they use. Lock: none
 * (R5).
 *
 * A typed access goes through up to five steps, each a function that ends in a tail call of the next, all in the read
 * section that the first one opened. What is fast does not pay for what is not, not even with a saved register:
 *   1. memory that this thread used last;
 *   2. the device that it used last, if that implements just this access, in this byte order;
 *   3. any memory, and any device that implements just this access, on a page that the thread remembers;
 *   4. the same, wherever it is;
 *   5. whatever has a question attached, a hook of its region among them: from the start, with a view of its own.
 */
#ifndef FLATVIEW_ACCESS_DISPATCH_H
#define FLATVIEW_ACCESS_DISPATCH_H

#include "access/guest_ram.h"
#include "access/thread_cache.h"
#include "topology/region.h"

/* Bytes of a buffer. Inside a read section or not. buf is only read if is_write. */
MemTxResult dispatch_rw(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, void *buf, hwaddr len, bool is_write);

/* Step 5: in a read section of the caller's, which it closes. ret_value points to a value of size bytes. */
MemTxResult dispatch_load_slow(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, unsigned size, bool big_endian,
                               void *ret_value);
MemTxResult dispatch_store_slow(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, unsigned size, bool big_endian,
                                uint64_t value);

/* The same for a thread that has no read section because it was never registered. */
MemTxResult dispatch_load_unregistered(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, unsigned size, bool big_endian,
                                       void *ret_value);
MemTxResult dispatch_store_unregistered(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, unsigned size,
                                        bool big_endian, uint64_t value);

/* One access of 1, 2, 4 or 8 bytes in memory order, all of them in range; inside a read section in which it was found. bytes of a
   read: untouched unless MEMTX_OK. */
MemTxResult dispatch_range(const FlatRange *range, hwaddr addr, MemTxAttrs attrs, uint8_t *bytes, unsigned size,
                           bool is_write);

/* What answers at addr; inside a read section. See address_space_translate(). */
MemTxResult dispatch_translate(AddressSpace *as, hwaddr addr, bool is_write, MemTxAttrs attrs,
                               MemoryRegionSection *ret_section);

#define DISPATCH_INLINE static inline __attribute__((always_inline))

/* Between a region's order and the one that is asked for; its own inverse. */
DISPATCH_INLINE uint64_t dispatch_order(const FlatRange *range, uint64_t value, unsigned size, bool big_endian)
{
    bool region_is_big = range->flags & ((uint32_t)REGION_IO_BIG_ENDIAN << FLAT_IO_SHIFT);

    return region_is_big != big_endian ? value_swap(value, size) : value;
}

static inline bool dispatch_holds(const FlatRange *range, hwaddr addr, unsigned size)
{
    return range && range->last - addr >= size - 1;
}

/* All of these are set in flags and none of those. */
static inline bool dispatch_flags(uint32_t flags, uint32_t these, uint32_t not_those)
{
    return (flags & (these | not_those)) == these;
}

/*
 * Steps 1 to 4; size and big_endian are constants where these are inlined. Values in host order, of size bytes. now is the
 * generation that the section has seen to be current. False: nothing was done.
 */
DISPATCH_INLINE bool dispatch_load_memory(uint64_t now, hwaddr addr, unsigned size, bool big_endian, uint64_t *ret_value)
{
    uint64_t delta;

    if (__builtin_expect(!thread_cache_memory(now, addr, &delta), 0)) {
        return false;
    }
    *ret_value = value_order(ram_load(thread_cache.memory.host + delta, size), size, big_endian);
    return true;
}

DISPATCH_INLINE bool dispatch_store_memory(uint64_t now, hwaddr addr, unsigned size, bool big_endian, uint64_t value)
{
    uint64_t delta;

    if (__builtin_expect(!thread_cache_memory(now, addr, &delta), 0) ||
        __builtin_expect(!thread_cache.memory.writable, 0)) {
        return false;
    }
    ram_store(thread_cache.memory.host + delta, size, value_order(value, size, big_endian));
    return true;
}

/* What flags must be, of those named here and in not_these, for one plain callback in the order of the access. */
#define DISPATCH_FAST(which, size, big_endian) \
    (((uint32_t)REGION_IO_FAST_##which(__builtin_ctz(size)) << FLAT_IO_SHIFT) | \
     ((big_endian) && (size) > 1 ? (uint32_t)REGION_IO_BIG_ENDIAN << FLAT_IO_SHIFT : 0))

DISPATCH_INLINE bool dispatch_is_fast(uint32_t flags, uint32_t fast, uint32_t not_these, unsigned size)
{
    const uint32_t order = size > 1 ? (uint32_t)REGION_IO_BIG_ENDIAN << FLAT_IO_SHIFT : 0;

    return (flags & (fast | order | not_these)) == fast;
}

DISPATCH_INLINE bool dispatch_load_device(uint64_t now, hwaddr addr, unsigned size, bool big_endian, uint64_t *ret_value)
{
    const uint32_t fast = DISPATCH_FAST(READ, size, big_endian);

    if (!thread_cache_device(now, addr) ||
        !dispatch_is_fast(thread_cache.device.flags, fast, FLAT_DIRECT_READ, size) || (addr & (size - 1))) {
        return false;
    }
    *ret_value = thread_cache.device.ops->read(thread_cache.device.mr, addr + thread_cache.device.offset, size);
    return true;
}

DISPATCH_INLINE bool dispatch_store_device(uint64_t now, hwaddr addr, unsigned size, bool big_endian, uint64_t value)
{
    const uint32_t fast = DISPATCH_FAST(WRITE, size, big_endian);

    if (!thread_cache_device(now, addr) ||
        !dispatch_is_fast(thread_cache.device.flags, fast, FLAT_DIRECT_WRITE | FLAT_READONLY, size) ||
        (addr & (size - 1))) {
        return false;
    }
    thread_cache.device.ops->write(thread_cache.device.mr, addr + thread_cache.device.offset, value, size);
    return true;
}

/* With a range that holds addr, and what must be asked (CACHE_ASK_*). A device of the other byte order
   is left to the last step. */
DISPATCH_INLINE bool dispatch_load_range(const FlatRange *range, unsigned asks, hwaddr addr, unsigned size,
                                         bool big_endian, uint64_t *ret_value)
{
    const uint32_t fast = DISPATCH_FAST(READ, size, big_endian);
    hwaddr delta = addr - range->first;

    if (__builtin_expect(range->last - addr < size - 1, 0) || __builtin_expect(asks & CACHE_ASK_LOAD, 0)) {
        return false;
    }
    if (dispatch_flags(range->flags, FLAT_DIRECT_READ, FLAT_EXACT)) {
        *ret_value = value_order(ram_load(range->host + delta, size), size, big_endian);
        return true;
    }
    delta += range->offset;
    if (!dispatch_is_fast(range->flags, fast, FLAT_DIRECT_READ, size) || (delta & (size - 1))) {
        return false;
    }
    *ret_value = range->ops->read(range->mr, delta + range->bias, size);
    return true;
}

DISPATCH_INLINE bool dispatch_store_range(const FlatRange *range, unsigned asks, hwaddr addr, unsigned size,
                                          bool big_endian, uint64_t value)
{
    const uint32_t fast = DISPATCH_FAST(WRITE, size, big_endian);
    hwaddr delta = addr - range->first;

    if (__builtin_expect(range->last - addr < size - 1, 0) || __builtin_expect(asks & CACHE_ASK_STORE, 0)) {
        return false;
    }
    if (dispatch_flags(range->flags, FLAT_DIRECT_WRITE, FLAT_EXACT)) {
        ram_store(range->host + delta, size, value_order(value, size, big_endian));
        return true;
    }
    delta += range->offset;
    if (!dispatch_is_fast(range->flags, fast, FLAT_DIRECT_WRITE | FLAT_READONLY, size) || (delta & (size - 1))) {
        return false;
    }
    range->ops->write(range->mr, delta + range->bias, value, size);
    return true;
}

#endif
