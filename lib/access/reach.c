/* SPDX-License-Identifier: MIT */
/*
 * reach.c - going over a stretch of an address space: what is there, would it answer, fill it, patch what backs it.
 *
 * Invariant: as in reach.h. Pieces are ascending and adjoin; their lengths add up to what was asked for, whatever is there.
 * Who stores to host memory here marks it (dirty_mark_region()) before the read section ends. Lock: none.
 */
#include "access/reach.h"

#include <string.h>

#include "access/dirty.h"
#include "access/dispatch.h"
#include "access/exact.h"
#include "access/guest_ram.h"
#include "access/splitter.h"

static hwaddr min_len(hwaddr a, hwaddr b)
{
    return a < b ? a : b;
}

void reach_begin(Reach *reach, AddressSpace *as, MemTxAttrs attrs)
{
    reach->as = as;
    reach->attrs = attrs;
    dispatch_views_begin(&reach->views, as);
}

void reach_over(Reach *reach, hwaddr addr, hwaddr len)
{
    reach->addr = addr;
    reach->left = len;
    reach->beyond = false;
}

MemTxResult range_result(const FlatRange *range, bool is_write)
{
    const MemoryRegionOps *ops = range->ops;

    if (!ops && !range->host) {
        return MEMTX_DECODE_ERROR;
    }
    if (range->flags & FLAT_INTERPOSED) {
        return MEMTX_OK; /* how the interposer answers is its affair */
    }
    if (is_write && (range->flags & FLAT_READONLY)) {
        return MEMTX_ACCESS_ERROR;
    }
    if (range_is_direct(range, is_write) || (range->flags & FLAT_EXACT)) {
        return MEMTX_OK;
    }
    if (!ops) {
        return MEMTX_ACCESS_ERROR;
    }
    if (is_write) {
        return ops->write || ops->write_with_attrs ? MEMTX_OK : MEMTX_ACCESS_ERROR;
    }
    return ops->read || ops->read_with_attrs ? MEMTX_OK : MEMTX_ACCESS_ERROR;
}

bool reach_next(Reach *reach, bool is_write, ReachPiece *ret)
{
    Resolved to = {.after = UINT64_MAX};

    if (!reach->left) {
        return false;
    }
    *ret = (ReachPiece){.addr = reach->addr, .result = MEMTX_DECODE_ERROR};
    if (!reach->beyond) {
        ret->result = dispatch_resolve(&reach->views, reach->as, reach->addr, is_write, reach->attrs, &to);
    }
    if (to.range) {
        hwaddr delta = to.addr - to.range->first;

        ret->range = to.range;
        ret->at = to.addr;
        ret->perm = to.perm;
        ret->offset = to.range->offset + delta;
        ret->host = to.range->host ? to.range->host + delta : NULL;
        ret->result = range_result(to.range, is_write);
    }
    ret->len = min_len(reach->left - 1, to.after) + 1; /* no overflow: left - 1 is not 2^64 - 1 */
    reach->left -= ret->len;
    reach->addr += ret->len;
    reach->beyond |= reach->addr == 0;
    return true;
}

/* ---- whoever stores without dispatch ---- */

MemTxResult reach_set(AddressSpace *as, hwaddr addr, uint8_t c, hwaddr len, MemTxAttrs attrs)
{
    uint8_t bytes[512];
    MemTxResult result = MEMTX_OK;
    ReachPiece piece;
    Reach reach;
    hwaddr part;

    memset(bytes, c, sizeof(bytes));
    reader_enter();
    reach_begin(&reach, as, attrs);
    reach_over(&reach, addr, len);
    while (reach_next(&reach, true, &piece)) {
        if (piece.result != MEMTX_OK) {
            result |= piece.result;
        } else if (range_is_direct(piece.range, true)) {
            ram_fill(piece.host, c, piece.len);
            dirty_mark_region(piece.range->mr, piece.offset, piece.len);
        } else {
            for (; piece.len; piece.addr += part, piece.len -= part) {
                part = min_len(piece.len, sizeof(bytes));
                result |= dispatch_rw(as, piece.addr, attrs, bytes, part, true);
            }
        }
    }
    reader_exit();
    return result;
}

MemTxResult reach_write_rom(AddressSpace *as, hwaddr addr, const uint8_t *buf, hwaddr len, MemTxAttrs attrs)
{
    MemTxResult result = MEMTX_OK;
    ReachPiece piece;
    Reach reach;

    reader_enter();
    reach_begin(&reach, as, attrs);
    reach_over(&reach, addr, len);
    for (; reach_next(&reach, false, &piece); buf += piece.len) {
        MemoryRegion *mr = piece.range ? piece.range->mr : NULL;
        uint8_t *host = piece.host;

        if (mr && mr->kind == MEMORY_KIND_ROM_DEVICE && mr->host) {
            host = (uint8_t *)mr->host + piece.offset; /* out of read mode the range has none */
        }
        if (!mr) {
            result |= piece.result;
        } else if (!host && !mr->ops) {
            result |= MEMTX_DECODE_ERROR;
        } else if (!host) {
            result |= MEMTX_ACCESS_ERROR;
        } else if (piece.range->flags & (FLAT_EXACT | FLAT_EXACT << FLAT_BELOW_SHIFT)) {
            result |= exact_rw(piece.range, piece.at, (uint8_t *)(uintptr_t)buf, piece.len, true);
        } else {
            ram_copy(host, buf, piece.len);
            dirty_mark_region(mr, piece.offset, piece.len);
        }
    }
    reader_exit();
    return result;
}

/* ---- questions ---- */

/* Mapped hardware: can the access be cut into widths that it takes? */
static bool exact_valid(const FlatRange *range, const uint8_t *host, hwaddr len)
{
    return !range->ops || !(((uintptr_t)host | len) & (range->ops->valid.min_access_size - 1));
}

static bool piece_valid(const ReachPiece *piece, bool is_write, MemTxAttrs attrs)
{
    hwaddr offset = piece->offset, left = piece->len;
    unsigned size;

    if (piece->result != MEMTX_OK || range_is_direct(piece->range, is_write) ||
        (piece->range->flags & FLAT_INTERPOSED)) {
        return piece->result == MEMTX_OK;
    }
    if (piece->range->flags & FLAT_EXACT) {
        return exact_valid(piece->range, piece->host, piece->len);
    }
    for (; left; offset += size, left -= size) {
        size = splitter_bulk_size(piece->range->ops, offset, left);
        if (splitter_check(piece->range, offset, size, attrs, is_write) != MEMTX_OK) {
            return false;
        }
    }
    return true;
}

bool reach_valid(AddressSpace *as, hwaddr addr, hwaddr len, bool is_write, MemTxAttrs attrs)
{
    bool valid = true;
    ReachPiece piece;
    Reach reach;

    reader_enter();
    reach_begin(&reach, as, attrs);
    reach_over(&reach, addr, len);
    while (valid && reach_next(&reach, is_write, &piece)) {
        valid = piece_valid(&piece, is_write, attrs);
    }
    reader_exit();
    return valid;
}

/* The region as a view would show it, were it the root and nothing on it. */
static FlatRange range_alone(MemoryRegion *mr)
{
    bool is_memory = mr->kind != MEMORY_KIND_IO && (mr->kind != MEMORY_KIND_ROM_DEVICE || region_peek(mr->romd));
    bool readonly = region_peek(mr->readonly);
    FlatRange range = {
        .last = region_peek(mr->last),
        .mr = mr,
        .bias = region_peek(mr->bias),
        .host = is_memory ? region_peek(mr->host) : NULL,
        .ops = mr->ops,
        .flags = readonly ? FLAT_READONLY : 0,
    };

    if (range.host) {
        range.flags |= mr->kind == MEMORY_KIND_RAM_DEVICE           ? FLAT_EXACT :
                       mr->kind == MEMORY_KIND_RAM && !readonly ? FLAT_DIRECT_READ | FLAT_DIRECT_WRITE :
                                                                  FLAT_DIRECT_READ;
    }
    return range;
}

static bool inside(const MemoryRegion *mr, hwaddr addr, unsigned size)
{
    hwaddr last = region_peek(mr->last);

    return !region_peek(mr->size_is_zero) && addr <= last && last - addr >= size - 1;
}

bool reach_region_valid(MemoryRegion *mr, hwaddr addr, unsigned size, bool is_write, MemTxAttrs attrs)
{
    FlatRange range;
    bool valid;

    reader_enter();
    for (valid = inside(mr, addr, size); valid && region_peek(mr->alias); valid = inside(mr, addr, size)) {
        if (is_write && region_peek(mr->readonly)) {
            valid = false;
            break;
        }
        addr += region_peek(mr->alias_offset);
        mr = region_peek(mr->alias);
    }
    range = range_alone(mr);
    valid = valid && mr->kind != MEMORY_KIND_CONTAINER && range_result(&range, is_write) == MEMTX_OK &&
            (range_is_direct(&range, is_write) ||
             (range.flags & FLAT_EXACT ? exact_valid(&range, range.host + addr, size) :
                                         splitter_check(&range, addr, size, attrs, is_write) == MEMTX_OK));
    reader_exit();
    return valid;
}

bool reach_is_io(AddressSpace *as, hwaddr addr)
{
    ReachPiece piece;
    Reach reach;
    bool is_io;

    reader_enter();
    reach_begin(&reach, as, MEMTXATTRS_UNSPECIFIED);
    reach_over(&reach, addr, 1);
    reach_next(&reach, false, &piece);
    is_io = !piece.range || !(piece.range->flags & (FLAT_DIRECT_READ | FLAT_EXACT));
    reader_exit();
    return is_io;
}

void reach_flush_icache(AddressSpace *as, hwaddr addr, hwaddr len)
{
    ReachPiece piece;
    Reach reach;

    reader_enter();
    reach_begin(&reach, as, MEMTXATTRS_UNSPECIFIED);
    reach_over(&reach, addr, len);
    while (reach_next(&reach, false, &piece)) {
        if (piece.result == MEMTX_OK && range_is_direct(piece.range, false)) {
            __builtin___clear_cache((char *)piece.host, (char *)piece.host + piece.len);
        }
    }
    reader_exit();
}
