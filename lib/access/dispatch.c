/* SPDX-License-Identifier: MIT */
/*
 * dispatch.c - accesses that are not one plain load, store or callback.
 *
 * Invariant: every function here that takes DispatchViews uses no other view of their spaces (R1), also after a callback
 * has committed a newer one: views, their ranges and regions stay as they are until the section ends (R2, R4).
 * Established by: the public entries, which begin with the space's view; dispatch_resolve(), which loads that of a space
 * which an IOMMU region leads to once for each call. Lock: none.
 *
 * A walk never passes 2^64 - 1: lengths are compared as len - 1, which cannot overflow, and a range or hole of 2^64
 * bytes is one step.
 */
#include "access/dispatch.h"

#include "access/bus.h"
#include "access/dirty.h"
#include "access/exact.h"
#include "access/interpose.h"
#include "access/iommu.h"
#include "access/reach.h"

static hwaddr min_len(hwaddr a, hwaddr b)
{
    return a < b ? a : b;
}

static MemTxResult memory_rw(const FlatRange *range, hwaddr addr, uint8_t *buf, size_t len, bool is_write)
{
    uint8_t *host = range->host + (addr - range->first);
    MemTxResult result = MEMTX_OK;

    if (range->flags & FLAT_EXACT) {
        result = exact_rw(range, addr, buf, len, is_write);
    } else if (is_write) {
        ram_copy(host, buf, len);
    } else {
        ram_copy(buf, host, len);
    }
    if (is_write) {
        dirty_mark_range(range, addr, len);
    }
    return result;
}

/* A part that device callbacks answer: cut into bus accesses. */
static MemTxResult device_rw(const FlatRange *range, hwaddr addr, MemTxAttrs attrs, uint8_t *buf, hwaddr len,
                             bool is_write)
{
    const MemoryRegionOps *ops = range->ops;
    bool big_endian = ops->endianness == MEMORY_BIG_ENDIAN;
    hwaddr offset = range->offset + (addr - range->first);
    MemTxResult result = MEMTX_OK;

    while (len) {
        unsigned size = splitter_bulk_size(ops, offset, len);

        if (is_write) {
            result |= bus_write(range, offset, size, attrs, value_from_bytes(buf, size, big_endian));
        } else {
            uint64_t value;
            MemTxResult read = bus_read(range, offset, size, attrs, &value);

            if (read == MEMTX_OK) {
                value_to_bytes(value, buf, size, big_endian);
            }
            result |= read;
        }
        buf += size;
        offset += size;
        len -= size;
    }
    return result;
}

static MemTxResult range_rw(const FlatRange *range, hwaddr addr, MemTxAttrs attrs, uint8_t *buf, hwaddr len,
                            bool is_write)
{
    if (__builtin_expect(range->flags & FLAT_INTERPOSED, 0)) {
        return interpose_rw(range, addr, attrs, buf, len, is_write);
    }
    if (range_is_memory(range, is_write)) {
        return memory_rw(range, addr, buf, len, is_write);
    }
    if (!range->ops && !range->host) {
        if (is_write && region_hooks(range->mr) & REGION_HOOK_EVENTFD) {
            return eventfd_write_bytes(range, range->offset + (addr - range->first), buf, len);
        }
        return MEMTX_DECODE_ERROR;
    }
    if (is_write && (range->flags & FLAT_READONLY)) {
        return MEMTX_ACCESS_ERROR;
    }
    return device_rw(range, addr, attrs, buf, len, is_write);
}

/* What lies behind an IOMMU region, piece by piece: the first one, as dispatch_resolve() found it (at, piece), and on. Each
   is asked for once, since translate() may report a fault. */
static MemTxResult translated_rw(DispatchViews *views, hwaddr addr, MemTxAttrs attrs, uint8_t *buf, hwaddr len,
                                 bool is_write, Resolved *at, MemTxResult piece)
{
    MemTxResult result = MEMTX_OK;

    for (;;) {
        hwaddr part = min_len(len - 1, at->after) + 1;

        if (piece == MEMTX_OK) {
            piece = range_rw(at->range, at->addr, attrs, buf, part, is_write);
        }
        result |= piece;
        len -= part;
        if (!len) {
            return result;
        }
        addr += part;
        buf += part;
        piece = dispatch_resolve(views, views->seen[0].as, addr, is_write, attrs, at);
    }
}

/* len bytes of a range. */
static MemTxResult part_rw(DispatchViews *views, const FlatRange *range, hwaddr addr, MemTxAttrs attrs, uint8_t *buf,
                           hwaddr len, bool is_write)
{
    MemTxResult piece;
    Resolved at;

    if (__builtin_expect(!(range->flags & FLAT_IOMMU), 1)) {
        return range_rw(range, addr, attrs, buf, len, is_write);
    }
    piece = dispatch_resolve(views, views->seen[0].as, addr, is_write, attrs, &at);
    return translated_rw(views, addr, attrs, buf, len, is_write, &at, piece);
}

/* In the space that views began with. */
static MemTxResult view_rw(DispatchViews *views, hwaddr addr, MemTxAttrs attrs, uint8_t *buf, hwaddr len, bool is_write)
{
    const FlatView *view = views->seen[0].view;
    MemTxResult result = MEMTX_OK;

    while (len) {
        const FlatRange *range = thread_cache_find(view, addr);
        hwaddr part; /* less one */

        if (range) {
            part = min_len(len - 1, range->last - addr);
            result |= part_rw(views, range, addr, attrs, buf, part + 1, is_write);
        } else {
            const FlatRange *next = view_lower(view->root, addr);

            part = min_len(len - 1, next ? next->first - 1 - addr : UINT64_MAX - addr);
            result |= MEMTX_DECODE_ERROR;
        }
        len -= part + 1;
        if (len && part == UINT64_MAX - addr) {
            return result | MEMTX_DECODE_ERROR; /* the rest is beyond the end of the space */
        }
        addr += part + 1;
        buf += part + 1;
    }
    return result;
}

/* In a section, which it closes. */
static __attribute__((noinline)) MemTxResult rw_slow(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, void *buf, hwaddr len,
                                                     bool is_write)
{
    DispatchViews views;
    MemTxResult result;

    dispatch_views_begin(&views, as);
    result = view_rw(&views, addr, attrs, buf, len, is_write);
    reader_exit();
    return result;
}

MemTxResult dispatch_rw(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, void *buf, hwaddr len, bool is_write)
{
    uint64_t delta;

    if (__builtin_expect(!reader_try_enter(), 0)) {
        reader_enter();
        return rw_slow(as, addr, attrs, buf, len, is_write);
    }
    /* All of it in memory that this thread used last: a single lookup, so R1 does not ask for the view to be loaded. (No
       bytes are none of this: buf may be NULL.) */
    if (thread_cache_memory(cell_gen(space_cell(as)), addr, &delta) && len - 1 < thread_cache.memory.limit - delta &&
        (!is_write || thread_cache.memory.writable)) {
        uint8_t *host = thread_cache.memory.host + delta;

        ram_copy(is_write ? (void *)host : buf, is_write ? buf : (void *)host, len);
        reader_exit_entered();
        return MEMTX_OK;
    }
    return rw_slow(as, addr, attrs, buf, len, is_write);
}

static void value_put(void *ret_value, unsigned size, uint64_t value)
{
    switch (size) {
    case 1:
        *(uint8_t *)ret_value = (uint8_t)value;
        break;
    case 2:
        *(uint16_t *)ret_value = (uint16_t)value;
        break;
    case 4:
        *(uint32_t *)ret_value = (uint32_t)value;
        break;
    default:
        *(uint64_t *)ret_value = value;
        break;
    }
}

/* One plain callback, with nothing to cut and nobody to ask? Of these the fast steps have left those of the other byte order, lest
   those that need no swap pay for it. fast is REGION_IO_FAST_*(). Not for interposed ranges. */
static bool takes_plainly(const FlatRange *range, hwaddr offset, unsigned size, uint32_t fast, uint32_t not_these)
{
    return dispatch_flags(range->flags, fast << FLAT_IO_SHIFT, not_these) && !(offset & (size - 1)) &&
           !region_hooks(range->mr);
}

/*
 * One value from a range that holds all of its bytes. Memory is not copied, for a copy may tear: here come the first access
 * of a thread, all of one that the program registered, and one whose earlier steps found an older view.
 */
static MemTxResult range_load(const FlatRange *range, hwaddr addr, MemTxAttrs attrs, unsigned size, bool big_endian,
                              uint64_t *ret_value)
{
    hwaddr offset = range->offset + (addr - range->first);
    uint8_t bytes[8] = { 0 };
    MemTxResult result;
    uint64_t value = 0;

    if (dispatch_flags(range->flags, FLAT_DIRECT_READ, FLAT_EXACT)) {
        *ret_value = value_order(ram_load(range->host + (addr - range->first), size), size, big_endian);
        return MEMTX_OK;
    }
    if (__builtin_expect(range->flags & FLAT_INTERPOSED, 0)) {
        result = interpose_access(range, addr, attrs, bytes, size, false);
        *ret_value = value_from_bytes(bytes, size, big_endian);
        return result;
    }
    if (!range_is_memory(range, false)) {
        if (takes_plainly(range, offset, size, REGION_IO_FAST_READ(__builtin_ctz(size)), 0)) {
            value = range->ops->read(range->mr, offset + range->bias, size);
            result = MEMTX_OK;
        } else {
            result = bus_read(range, offset, size, attrs, &value);
        }
        *ret_value = dispatch_order(range, value, size, big_endian);
        return result;
    }
    result = range_rw(range, addr, attrs, bytes, size, false);
    *ret_value = value_from_bytes(bytes, size, big_endian);
    return result;
}

static MemTxResult range_store(const FlatRange *range, hwaddr addr, MemTxAttrs attrs, unsigned size, bool big_endian,
                               uint64_t value)
{
    hwaddr offset = range->offset + (addr - range->first);
    uint8_t bytes[8];

    if (dispatch_flags(range->flags, FLAT_DIRECT_WRITE, FLAT_EXACT)) {
        ram_store(range->host + (addr - range->first), size, value_order(value, size, big_endian));
        dirty_mark_range(range, addr, size);
        return MEMTX_OK;
    }
    if (__builtin_expect(range->flags & FLAT_INTERPOSED, 0)) {
        value_to_bytes(value, bytes, size, big_endian);
        return interpose_access(range, addr, attrs, bytes, size, true);
    }
    if (!range_is_memory(range, true)) {
        value = dispatch_order(range, value, size, big_endian);
        if (takes_plainly(range, offset, size, REGION_IO_FAST_WRITE(__builtin_ctz(size)), FLAT_READONLY)) {
            range->ops->write(range->mr, offset + range->bias, value, size);
            return MEMTX_OK;
        }
        return bus_write(range, offset, size, attrs, value);
    }
    value_to_bytes(value, bytes, size, big_endian);
    return range_rw(range, addr, attrs, bytes, size, true);
}

MemTxResult dispatch_range(const FlatRange *range, hwaddr addr, MemTxAttrs attrs, uint8_t *bytes, unsigned size,
                           bool is_write)
{
    MemTxResult result;
    uint64_t value;

    if (is_write) {
        return range_store(range, addr, attrs, size, false, value_from_bytes(bytes, size, false));
    }
    result = range_load(range, addr, attrs, size, false, &value);
    if (result == MEMTX_OK) {
        value_to_bytes(value, bytes, size, false);
    }
    return result;
}

/* The range that holds all of a typed access, and where; NULL with *ret_result for one that has no such range: it fails as a
   whole, or it is done in parts, in buf. */
static const FlatRange *typed_range(DispatchViews *views, hwaddr *addr, MemTxAttrs attrs, unsigned size, uint8_t *buf,
                                    bool is_write, MemTxResult *ret_result)
{
    const FlatRange *range = thread_cache_find(views->seen[0].view, *addr);
    Resolved at;

    if (!dispatch_holds(range, *addr, size)) {
        *ret_result = view_rw(views, *addr, attrs, buf, size, is_write);
        return NULL;
    }
    if (!(range->flags & FLAT_IOMMU)) {
        return range;
    }
    *ret_result = dispatch_resolve(views, views->seen[0].as, *addr, is_write, attrs, &at);
    if (at.after < size - 1) {
        *ret_result = translated_rw(views, *addr, attrs, buf, size, is_write, &at, *ret_result);
        return NULL;
    }
    *addr = at.addr;
    return at.range;
}

MemTxResult dispatch_load_slow(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, unsigned size, bool big_endian,
                               void *ret_value)
{
    uint8_t bytes[8] = { 0 };
    DispatchViews views;
    const FlatRange *range;
    MemTxResult result;
    uint64_t value;

    dispatch_views_begin(&views, as);
    range = typed_range(&views, &addr, attrs, size, bytes, false, &result);
    if (range) {
        result = range_load(range, addr, attrs, size, big_endian, &value);
    } else {
        value = value_from_bytes(bytes, size, big_endian);
    }
    reader_exit();
    if (result == MEMTX_OK) {
        value_put(ret_value, size, value);
    }
    return result;
}

MemTxResult dispatch_store_slow(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, unsigned size, bool big_endian,
                                uint64_t value)
{
    DispatchViews views;
    const FlatRange *range;
    MemTxResult result;
    uint8_t bytes[8];

    value_to_bytes(value, bytes, size, big_endian);
    dispatch_views_begin(&views, as);
    range = typed_range(&views, &addr, attrs, size, bytes, true, &result);
    if (range) {
        result = range_store(range, addr, attrs, size, big_endian, value);
    }
    reader_exit();
    return result;
}

MemTxResult dispatch_load_unregistered(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, unsigned size, bool big_endian,
                                       void *ret_value)
{
    reader_enter();
    return dispatch_load_slow(as, addr, attrs, size, big_endian, ret_value);
}

MemTxResult dispatch_store_unregistered(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, unsigned size,
                                        bool big_endian, uint64_t value)
{
    reader_enter();
    return dispatch_store_slow(as, addr, attrs, size, big_endian, value);
}
