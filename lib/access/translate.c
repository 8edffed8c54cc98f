/* SPDX-License-Identifier: MIT */
/*
 * translate.c - what answers at an address, said and not accessed.
 *
 * Invariant: a section that is returned is one range as the space of the question sees it, in one view of each space (R1): all of
 * its addresses lead to their neighbours in that range. In a read section, which keeps what it names. Lock: none.
 */
#include "access/dispatch.h"
#include "access/iommu.h"
#include "access/reach.h"

static MemTxResult range_takes(const FlatRange *range, bool is_write)
{
    if (range_is_memory(range, is_write) || (range->flags & FLAT_INTERPOSED)) {
        return MEMTX_OK; /* how the interposer answers is its affair */
    }
    if (is_write) {
        bool answers = !(range->flags & FLAT_READONLY) && (range->ops->write || range->ops->write_with_attrs);

        return answers ? MEMTX_OK : MEMTX_ACCESS_ERROR;
    }
    return range->ops->read || range->ops->read_with_attrs ? MEMTX_OK : MEMTX_ACCESS_ERROR;
}

/* The range behind IOMMU regions, as as sees it: at its addresses, and no further than translations go. Not inlined: whoever
   has none of them pays nothing for it. */
static __attribute__((noinline)) MemTxResult translated_section(AddressSpace *as, hwaddr addr, bool is_write,
                                                                MemTxAttrs attrs, MemoryRegionSection *ret_section)
{
    DispatchViews views;
    FlatRange piece;
    Resolved at;
    MemTxResult result;

    dispatch_views_begin(&views, as);
    result = dispatch_resolve(&views, as, addr, is_write, attrs, &at);
    if (result != MEMTX_OK) {
        return result;
    }
    if (!at.range->ops && !at.range->host) {
        return MEMTX_DECODE_ERROR;
    }
    piece = flat_range_cut(at.range, at.addr - at.before, at.addr + at.after);
    *ret_section = flat_range_section(&piece);
    ret_section->offset_within_address_space = addr - at.before;
    ret_section->last = addr + at.after;
    ret_section->readonly |= !(at.perm & IOMMU_WO);
    return range_takes(at.range, is_write);
}

MemTxResult dispatch_translate(AddressSpace *as, hwaddr addr, bool is_write, MemTxAttrs attrs,
                               MemoryRegionSection *ret_section)
{
    const FlatRange *range = thread_cache_find(cell_view(space_cell(as)), addr);

    if (!range) {
        return MEMTX_DECODE_ERROR;
    }
    if (__builtin_expect(range->flags & FLAT_IOMMU, 0)) {
        return translated_section(as, addr, is_write, attrs, ret_section);
    }
    if (!range->ops && !range->host) {
        return MEMTX_DECODE_ERROR;
    }
    *ret_section = flat_range_section(range);
    return range_takes(range, is_write);
}
