/* SPDX-License-Identifier: MIT */
/*
 * dispatch.c - accesses that are not one plain load, store or callback.
 *
 * Invariant: every function here that takes a FlatView uses no other (R1), also after a callback has committed a newer
 * one: the view, its ranges and their regions stay as they are until the section ends (R2, R4).
 * Established by: the public entries, which load the view once. Lock: none.
 *
 * A walk never passes 2^64 - 1: lengths are compared as len - 1, which cannot overflow, and a range or hole of 2^64
 * bytes is one step.
 */
#include "access/dispatch.h"

#include "access/call.h"
#include "access/dirty.h"
#include "access/exact.h"

static hwaddr min_len(hwaddr a, hwaddr b)
{
    return a < b ? a : b;
}

static uint64_t value_from_bytes(const uint8_t *bytes, unsigned size, bool big_endian)
{
    uint64_t value = 0;
    unsigned i;

    for (i = 0; i < size; i++) {
        value |= (uint64_t)bytes[i] << (8 * (big_endian ? size - 1 - i : i));
    }
    return value;
}

static void value_to_bytes(uint64_t value, uint8_t *bytes, unsigned size, bool big_endian)
{
    unsigned i;

    for (i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(value >> (8 * (big_endian ? size - 1 - i : i)));
    }
}

static bool is_memory_for(const FlatRange *range, bool is_write)
{
    if (range->flags & FLAT_EXACT) {
        return !(is_write && (range->flags & FLAT_READONLY));
    }
    return range->flags & (is_write ? FLAT_DIRECT_WRITE : FLAT_DIRECT_READ);
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
            result |= call_write(range, offset, size, attrs, value_from_bytes(buf, size, big_endian));
        } else {
            uint64_t value;
            MemTxResult read = call_read(range, offset, size, attrs, &value);

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
    if (is_memory_for(range, is_write)) {
        return memory_rw(range, addr, buf, len, is_write);
    }
    if (!range->ops && !range->host) {
        return MEMTX_DECODE_ERROR;
    }
    if (is_write && (range->flags & FLAT_READONLY)) {
        return MEMTX_ACCESS_ERROR;
    }
    return device_rw(range, addr, attrs, buf, len, is_write);
}

static MemTxResult view_rw(const FlatView *view, hwaddr addr, MemTxAttrs attrs, uint8_t *buf, hwaddr len, bool is_write)
{
    MemTxResult result = MEMTX_OK;

    while (len) {
        const FlatRange *range = thread_cache_find(view, addr);
        hwaddr part; /* less one */

        if (range) {
            part = min_len(len - 1, range->last - addr);
            result |= range_rw(range, addr, attrs, buf, part + 1, is_write);
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

MemTxResult dispatch_rw(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, void *buf, hwaddr len, bool is_write)
{
    MemTxResult result = MEMTX_OK;
    ViewCell *cell;
    uint64_t delta;

    reader_enter();
    cell = space_cell(as);
    /* All of it in memory that this thread used last: a single lookup, so R1 does not ask for the view to be loaded. (No
       bytes are none of this: buf may be NULL.) */
    if (thread_cache_memory(cell, addr, &delta) && len - 1 < thread_cache.memory.limit - delta &&
        (!is_write || thread_cache.memory.writable)) {
        uint8_t *host = thread_cache.memory.host + delta;

        ram_copy(is_write ? (void *)host : buf, is_write ? buf : (void *)host, len);
    } else {
        result = view_rw(cell_view(cell), addr, attrs, buf, len, is_write);
    }
    reader_exit();
    return result;
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

MemTxResult dispatch_load_slow(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, unsigned size, bool big_endian,
                               void *ret_value)
{
    const FlatView *view = cell_view(space_cell(as));
    const FlatRange *range = thread_cache_find(view, addr);
    uint64_t value = 0;
    MemTxResult result;

    if (dispatch_holds(range, addr, size) && dispatch_flags(range->flags, FLAT_DIRECT_READ, FLAT_EXACT)) {
        /* Not a copy, which may tear: here come the first access of a thread, all of one that the program registered, and
           one whose earlier steps found an older view. */
        value = value_order(ram_load(range->host + (addr - range->first), size), size, big_endian);
        result = MEMTX_OK;
    } else if (dispatch_holds(range, addr, size) && !is_memory_for(range, false)) {
        result = call_read(range, range->offset + (addr - range->first), size, attrs, &value);
        value = dispatch_order(range, value, size, big_endian);
    } else {
        uint8_t bytes[8] = { 0 };

        result = view_rw(view, addr, attrs, bytes, size, false);
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
    const FlatView *view = cell_view(space_cell(as));
    const FlatRange *range = thread_cache_find(view, addr);
    MemTxResult result;

    if (dispatch_holds(range, addr, size) && dispatch_flags(range->flags, FLAT_DIRECT_WRITE, FLAT_EXACT)) {
        ram_store(range->host + (addr - range->first), size, value_order(value, size, big_endian));
        dirty_mark_range(range, addr, size);
        result = MEMTX_OK;
    } else if (dispatch_holds(range, addr, size) && !is_memory_for(range, true)) {
        result = call_write(range, range->offset + (addr - range->first), size, attrs,
                                dispatch_order(range, value, size, big_endian));
    } else {
        uint8_t bytes[8];

        value_to_bytes(value, bytes, size, big_endian);
        result = view_rw(view, addr, attrs, bytes, size, true);
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

MemTxResult dispatch_translate(AddressSpace *as, hwaddr addr, bool is_write, MemoryRegionSection *ret_section)
{
    const FlatRange *range = thread_cache_find(cell_view(space_cell(as)), addr);

    if (!range || (!range->ops && !range->host)) {
        return MEMTX_DECODE_ERROR;
    }
    *ret_section = flat_range_section(range);
    if (is_memory_for(range, is_write)) {
        return MEMTX_OK;
    }
    if (is_write) {
        bool answers = !(range->flags & FLAT_READONLY) && (range->ops->write || range->ops->write_with_attrs);

        return answers ? MEMTX_OK : MEMTX_ACCESS_ERROR;
    }
    return range->ops->read || range->ops->read_with_attrs ? MEMTX_OK : MEMTX_ACCESS_ERROR;
}
