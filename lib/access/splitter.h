/* SPDX-License-Identifier: MIT */
/*
 * splitter.h - from one bus access to the callbacks of a region. The only place that knows the rules.
 *
 * A bus access is a string of 1, 2, 4 or 8 bytes at [offset, offset + size) of a region. Its value is that string read in
 * the region's byte order: little-endian has the byte at offset in bits 0 to 7, big-endian in the topmost.
 *
 * Refused, in this order, before any callback that carries data runs:
 *   1. nothing answers (a reservation)                                          MEMTX_DECODE_ERROR
 *   2. a write to a read-only range                                             MEMTX_ACCESS_ERROR
 *   3. valid: size, then alignment of offset, then accepts()                    MEMTX_DECODE_ERROR
 *   4. no callback for this direction                                           MEMTX_ACCESS_ERROR
 *   5. a write that cannot be cut to fit impl: NARROW_WRITE_REFUSE, or
 *      NARROW_WRITE_MERGE without a read callback                               MEMTX_ACCESS_ERROR
 *
 * Cutting: from the first byte up, each callback gets the largest power of two of the bytes left that is at most
 * impl.max_access_size and, unless impl.unaligned, naturally aligned. Where that is narrower than impl.min_access_size,
 * the aligned window of that size around it is used, for as many of the bytes left as lie inside:
 *   - a read takes the window's value and picks its bytes;
 *   - a MERGE write reads the window, replaces its bytes and writes the window back; if the read fails the write is left
 *     out. Nothing makes the two one: concurrent accesses may come in between.
 *   - an EXTEND write is not cut in this way at all. If any part of it would need a window it goes out as QEMU sends it:
 *     callbacks of the size nearest to its own that impl allows, at its own offset and upward, aligned or not. If that
 *     size is wider than the access there is one callback, and the bytes after the access are zero.
 * A window may reach beyond the bytes of the access, beyond its range and beyond the end of the region.
 *
 * Alignment is that of the offset in the region, before memory_region_set_offset()'s bias is added.
 * All callbacks run, whatever the ones before returned; their results are OR-ed.
 *
 * Context: in the read section in which the range was found. The range's region must not be RAM (but a write to a ROM
 * or a ROM device in read mode may come here).
 */
#ifndef FLATVIEW_ACCESS_SPLITTER_H
#define FLATVIEW_ACCESS_SPLITTER_H

#include "view/flat_range.h"

/* offset: in the region, which has bytes [offset, offset + size) in range. *ret_value is untouched unless MEMTX_OK. */
MemTxResult splitter_read(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs, uint64_t *ret_value);

/* Bits of value beyond size bytes are ignored. */
MemTxResult splitter_write(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs, uint64_t value);

/* MEMTX_OK, or what would refuse this access before any callback that carries data. */
MemTxResult splitter_check(const FlatRange *range, hwaddr offset, unsigned size, MemTxAttrs attrs, bool is_write);

/* Likewise of a range with ops, but for accepts(): nobody is called. */
MemTxResult splitter_check_shape(const FlatRange *range, hwaddr offset, unsigned size, bool is_write);

/*
 * How many of len (> 0) bytes of a bulk copy the next bus access takes: the largest power of two that is at most
 * valid.max_access_size and len, and naturally aligned unless the region takes unaligned accesses all the way. It may be
 * less than valid.min_access_size: then that access will be refused.
 */
unsigned splitter_bulk_size(const MemoryRegionOps *ops, hwaddr offset, hwaddr len);

#endif
