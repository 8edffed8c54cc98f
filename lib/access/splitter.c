/* SPDX-License-Identifier: MIT */
/*
 * splitter.c - from one bus access to the callbacks of a region: the rules are in splitter.h.
 *
 * Invariant: a callback sees only what impl allows (EXTEND writes excepted, as documented), and the pieces of one access
 * are disjoint, ascending, and together its bytes. Established by next_piece(), which is the only code that cuts.
 * Relied on by: devices. Concurrency: pure but for the callbacks; no state, no lock.
 *
 * ops was checked when the region was made (topology/ops.c): sizes are powers of two from 1 to 8, minima do not exceed
 * maxima, there is a byte order.
 */
#include "access/splitter.h"

#include <assert.h>

typedef struct BusAccess {
    const FlatRange *range;
    const MemoryRegionOps *ops;
    hwaddr offset;
    unsigned size;
    MemTxAttrs attrs;
} BusAccess;

/* Bytes [skip, skip + count) of the width bytes at offset are bytes [at, at + count) of the access. */
typedef struct Piece {
    hwaddr offset;
    unsigned width;
    unsigned skip, count;
    unsigned at;
} Piece;

static uint64_t low_bytes(unsigned count)
{
    return UINT64_MAX >> (64 - 8 * count);
}

static unsigned min_size(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static unsigned pow2_at_most(unsigned n)
{
    return 1u << (31 - __builtin_clz(n));
}

/* The alignment of offset, as far as it matters: 1, 2, 4 or 8. */
static unsigned alignment_of(hwaddr offset)
{
    return 1u << __builtin_ctz((unsigned)offset | 8u);
}

/* Where bytes [first, first + count) of a string of total bytes sit in its value: how far to shift. */
static unsigned shift_of(const MemoryRegionOps *ops, unsigned first, unsigned count, unsigned total)
{
    return 8 * (ops->endianness == MEMORY_BIG_ENDIAN ? total - first - count : first);
}

/* The piece that begins with byte at of the access. */
static Piece next_piece(const BusAccess *access, unsigned at)
{
    const MemoryRegionOps *ops = access->ops;
    hwaddr offset = access->offset + at;
    unsigned left = access->size - at;
    unsigned width = pow2_at_most(min_size(left, ops->impl.max_access_size));
    unsigned skip;

    if (!ops->impl.unaligned) {
        width = min_size(width, alignment_of(offset));
    }
    if (width >= ops->impl.min_access_size) {
        return (Piece){ .offset = offset, .width = width, .count = width, .at = at };
    }
    width = ops->impl.min_access_size;
    skip = (unsigned)offset & (width - 1);
    return (Piece){
        .offset = offset - skip,
        .width = width,
        .skip = skip,
        .count = min_size(width - skip, left),
        .at = at,
    };
}

static bool needs_window(const BusAccess *access)
{
    Piece piece;
    unsigned at;

    for (at = 0; at < access->size; at += piece.count) {
        piece = next_piece(access, at);
        if (piece.count < piece.width) {
            return true;
        }
    }
    return false;
}

static bool can_read(const MemoryRegionOps *ops)
{
    return ops->read || ops->read_with_attrs;
}

static bool can_write(const MemoryRegionOps *ops)
{
    return ops->write || ops->write_with_attrs;
}

static MemTxResult call_read(const BusAccess *access, const Piece *piece, uint64_t *ret_value)
{
    const MemoryRegionOps *ops = access->ops;
    MemoryRegion *mr = access->range->mr;
    hwaddr addr = piece->offset + access->range->bias;
    MemTxResult result = MEMTX_OK;
    uint64_t value = 0;

    if (ops->read_with_attrs) {
        result = ops->read_with_attrs(mr, addr, &value, piece->width, access->attrs);
    } else {
        value = ops->read(mr, addr, piece->width);
    }
    *ret_value = value & low_bytes(piece->width);
    return result;
}

static MemTxResult call_write(const BusAccess *access, const Piece *piece, uint64_t value)
{
    const MemoryRegionOps *ops = access->ops;
    MemoryRegion *mr = access->range->mr;
    hwaddr addr = piece->offset + access->range->bias;

    if (ops->write_with_attrs) {
        return ops->write_with_attrs(mr, addr, value, piece->width, access->attrs);
    }
    ops->write(mr, addr, value, piece->width);
    return MEMTX_OK;
}

/* Refusals 1 to 4 of splitter.h. */
static MemTxResult check_access(const BusAccess *access, bool is_write)
{
    const FlatRange *range = access->range;
    const MemoryRegionOps *ops = access->ops;

    if (!ops && !range->host) {
        return MEMTX_DECODE_ERROR;
    }
    if (is_write && (range->flags & FLAT_READONLY)) {
        return MEMTX_ACCESS_ERROR;
    }
    if (!ops) {
        assert(!"memory is not accessed through callbacks");
        return MEMTX_ACCESS_ERROR;
    }
    if (access->size < ops->valid.min_access_size || access->size > ops->valid.max_access_size) {
        return MEMTX_DECODE_ERROR;
    }
    if (!ops->valid.unaligned && (access->offset & (access->size - 1))) {
        return MEMTX_DECODE_ERROR;
    }
    if (ops->valid.accepts &&
        !ops->valid.accepts(range->mr, access->offset + range->bias, access->size, is_write, access->attrs)) {
        return MEMTX_DECODE_ERROR;
    }
    if (is_write ? !can_write(ops) : !can_read(ops)) {
        return MEMTX_ACCESS_ERROR;
    }
    return MEMTX_OK;
}

MemTxResult splitter_read(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs, uint64_t *ret_value)
{
    const BusAccess access = { range, range->ops, offset, size, attrs };
    MemTxResult result = check_access(&access, false);
    uint64_t value = 0;
    uint64_t part;
    Piece piece;
    unsigned at;

    if (result != MEMTX_OK) {
        return result;
    }
    for (at = 0; at < size; at += piece.count) {
        piece = next_piece(&access, at);
        result |= call_read(&access, &piece, &part);
        part = (part >> shift_of(access.ops, piece.skip, piece.count, piece.width)) & low_bytes(piece.count);
        value |= part << shift_of(access.ops, at, piece.count, size);
    }
    if (result == MEMTX_OK) {
        *ret_value = value;
    }
    return result;
}

/* Refusal 5 of splitter.h, for a write that needs a window and is not extended. */
static bool can_merge(const MemoryRegionOps *ops)
{
    return ops->impl.narrow_write == MEMORY_NARROW_WRITE_MERGE && can_read(ops);
}

static MemTxResult check_all(const BusAccess *access, bool is_write)
{
    MemTxResult result = check_access(access, is_write);

    if (result == MEMTX_OK && is_write && access->ops->impl.narrow_write != MEMORY_NARROW_WRITE_EXTEND &&
        needs_window(access) && !can_merge(access->ops)) {
        return MEMTX_ACCESS_ERROR;
    }
    return result;
}

MemTxResult splitter_check(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs, bool is_write)
{
    const BusAccess access = { range, range->ops, offset, size, attrs };

    return check_all(&access, is_write);
}

MemTxResult splitter_check_shape(const FlatRange *range, hwaddr offset, unsigned size, bool is_write)
{
    MemoryRegionOps silent = *range->ops;
    const BusAccess access = { range, &silent, offset, size, MEMTXATTRS_UNSPECIFIED };

    silent.valid.accepts = NULL;
    return check_all(&access, is_write);
}

/* QEMU's way, for what does not fit impl. */
static MemTxResult write_extended(const BusAccess *access, uint64_t value)
{
    const MemoryRegionOps *ops = access->ops;
    unsigned width = min_size(access->size, ops->impl.max_access_size);
    MemTxResult result = MEMTX_OK;
    unsigned at;

    if (width < ops->impl.min_access_size) {
        Piece all = { .offset = access->offset, .width = ops->impl.min_access_size, .count = access->size };

        return call_write(access, &all, value << shift_of(ops, 0, all.count, all.width));
    }
    for (at = 0; at < access->size; at += width) {
        Piece piece = { .offset = access->offset + at, .width = width, .count = width, .at = at };
        uint64_t part = value >> shift_of(ops, at, width, access->size);

        result |= call_write(access, &piece, part & low_bytes(width));
    }
    return result;
}

/* One piece of a write whose value is given. */
static MemTxResult write_piece(const BusAccess *access, const Piece *piece, uint64_t value)
{
    const MemoryRegionOps *ops = access->ops;
    unsigned shift = shift_of(ops, piece->skip, piece->count, piece->width);
    uint64_t part = (value >> shift_of(ops, piece->at, piece->count, access->size)) & low_bytes(piece->count);
    MemTxResult result;
    uint64_t window;

    if (piece->count == piece->width) {
        return call_write(access, piece, part);
    }
    assert(ops->impl.narrow_write == MEMORY_NARROW_WRITE_MERGE);
    result = call_read(access, piece, &window);
    if (result != MEMTX_OK) {
        return result;
    }
    window = (window & ~(low_bytes(piece->count) << shift)) | part << shift;
    return call_write(access, piece, window);
}

MemTxResult splitter_write(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs, uint64_t value)
{
    const BusAccess access = { range, range->ops, offset, size, attrs };
    MemTxResult result = check_access(&access, true);
    Piece piece;
    unsigned at;

    if (result != MEMTX_OK) {
        return result;
    }
    value &= low_bytes(size);
    if (needs_window(&access)) {
        if (access.ops->impl.narrow_write == MEMORY_NARROW_WRITE_EXTEND) {
            return write_extended(&access, value);
        }
        if (!can_merge(access.ops)) {
            return MEMTX_ACCESS_ERROR;
        }
    }
    for (at = 0; at < size; at += piece.count) {
        piece = next_piece(&access, at);
        result |= write_piece(&access, &piece, value);
    }
    return result;
}

unsigned splitter_bulk_size(const MemoryRegionOps *ops, hwaddr offset, hwaddr len)
{
    unsigned size = ops->valid.max_access_size;

    if (!(ops->valid.unaligned && ops->impl.unaligned)) {
        size = min_size(size, alignment_of(offset));
    }
    return len < size ? pow2_at_most((unsigned)len) : size;
}
