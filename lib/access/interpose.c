/* SPDX-License-Identifier: MIT */
/*
 * interpose.c - an access on its way through interposers.
 *
 * Invariant: an interposer's callback stands between an access and everything further down; the only way on is to pass it, and
 * what is passed goes to the next interposer of the same range, in the same view (R1), and at last to the region, with
 * everything that dispatch asks about a region without interposers.
 * Established by: level(). Relied on by: whoever interposes in order to refuse. Lock: none.
 *
 * Between two levels an access is its bytes in ascending order; each interposer sees them as a value in its own order.
 */
#include "access/interpose.h"

#include "access/dispatch.h"
#include "access/guest_ram.h"
#include "access/splitter.h"
#include "base/sabotage.h"
#include "view/interposal.h"

struct MemoryInterposed {
    const FlatRange *range;
    hwaddr addr; /* absolute */
    MemTxAttrs attrs;
    unsigned size;
    unsigned depth; /* interposers further out than the one that has it, and itself */
    bool is_write, big_endian;
};

static MemTxResult level(const FlatRange *range, hwaddr addr, MemTxAttrs attrs, uint8_t *bytes, unsigned size,
                         bool is_write, unsigned depth);

/* On to what lies below the interposers [1, depth], the outermost being 1. */
static MemTxResult pass(const MemoryInterposed *access, uint8_t *bytes)
{
    return level(access->range, access->addr, access->attrs, bytes, access->size, access->is_write, access->depth);
}

static MemTxResult answer(const FlatRange *range, hwaddr addr, MemTxAttrs attrs, uint8_t *bytes, unsigned size,
                          bool is_write)
{
    FlatRange plain = interposal_below(range);

    return dispatch_range(&plain, addr, attrs, bytes, size, is_write);
}

static MemTxResult level(const FlatRange *range, hwaddr addr, MemTxAttrs attrs, uint8_t *bytes, unsigned size,
                         bool is_write, unsigned depth)
{
    const Interposal *ip = interposal_get(range->interposal);
    MemoryInterposed access = { range, addr, attrs, size, 0, is_write, false };
    uint64_t value = 0;
    MemTxResult result;
    hwaddr offset;

    if (ip->depth == depth) {
        return answer(range, addr, attrs, bytes, size, is_write);
    }
    while (ip->depth > depth + 1) {
        ip = interposal_get(ip->outer);
    }
    access.depth = ip->depth;
    access.big_endian = ip->ops->endianness == MEMORY_BIG_ENDIAN;
    if (is_write ? !ip->ops->write : !ip->ops->read) {
        return pass(&access, bytes);
    }
    offset = range->offset + (addr - range->first) + ip->delta;
    if (is_write) {
        value = value_from_bytes(bytes, size, access.big_endian);
        return ip->ops->write(ip->mr, &access, offset, value, size, attrs);
    }
    result = ip->ops->read(ip->mr, &access, offset, &value, size, attrs);
    if (result == MEMTX_OK) {
        value_to_bytes(value, bytes, size, access.big_endian);
    }
    return result;
}

MemTxResult interpose_access(const FlatRange *range, hwaddr addr, MemTxAttrs attrs, uint8_t *bytes, unsigned size,
                             bool is_write)
{
    if (sabotage_turn(SABOTAGE_DROP_INTERPOSER, 16)) {
        return answer(range, addr, attrs, bytes, size, is_write);
    }
    return level(range, addr, attrs, bytes, size, is_write, 0);
}

/* How many of len bytes the next access takes. */
static unsigned bulk_size(const FlatRange *range, hwaddr addr, hwaddr len, bool is_write)
{
    uint32_t memory = (is_write ? FLAT_DIRECT_WRITE : FLAT_DIRECT_READ) | FLAT_EXACT;
    hwaddr offset = range->offset + (addr - range->first);
    unsigned size = 8;

    if (range->ops && !(range->flags & memory << FLAT_BELOW_SHIFT)) {
        return splitter_bulk_size(range->ops, offset, len);
    }
    while ((offset & (size - 1)) || size > len) {
        size /= 2;
    }
    return size;
}

MemTxResult interpose_rw(const FlatRange *range, hwaddr addr, MemTxAttrs attrs, uint8_t *buf, hwaddr len,
                         bool is_write)
{
    MemTxResult result = MEMTX_OK;

    while (len) {
        unsigned size = bulk_size(range, addr, len, is_write);

        result |= interpose_access(range, addr, attrs, buf, size, is_write);
        addr += size;
        buf += size;
        len -= size;
    }
    return result;
}

/* ---- what callbacks may do ------------------------------------------------------------------------------------ */

MemTxResult interpose_pass_read(MemoryInterposed *access, uint64_t *ret_data)
{
    uint8_t bytes[8];
    MemTxResult result;

    if (access->is_write) {
        return MEMTX_ERROR;
    }
    result = pass(access, bytes);
    if (result == MEMTX_OK) {
        *ret_data = value_from_bytes(bytes, access->size, access->big_endian);
    }
    return result;
}

MemTxResult interpose_pass_write(MemoryInterposed *access, uint64_t data)
{
    uint8_t bytes[8];

    if (!access->is_write) {
        return MEMTX_ERROR;
    }
    value_to_bytes(data, bytes, access->size, access->big_endian);
    return pass(access, bytes);
}

MemoryRegion *interpose_region(const MemoryInterposed *access, hwaddr *ret_offset)
{
    if (ret_offset) {
        *ret_offset = access->range->offset + (access->addr - access->range->first);
    }
    return access->range->mr;
}
