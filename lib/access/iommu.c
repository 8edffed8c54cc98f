/* SPDX-License-Identifier: MIT */
/*
 * iommu.c - following translations, and what a thread remembers of them.
 *
 * Invariant: a slot holds a translation that translate() returned after seq had been read from the log of the table with
 * that id (topology/iommu.h). It is used only if it permits the access and the log, looked at now, says that its range
 * has not been invalidated since. So nobody has to reach into a thread to make it forget; and the space that it names
 * is only followed while the translation is good, which is as long as its owner must keep it. What is not permitted is
 * not kept: tables may grant more at any time without a word.
 * Established by: iommu_translate(). Relied on by: memory_region_notify_iommu()'s promise. Lock: none; the slots are the thread's.
 *
 * Slots are found by page, whatever the sizes of ranges: a large range fills as many slots as pages of it are used, which
 * costs a call each and saves a search. Chains are followed in a loop with a limit; calls of translate() within each other
 * are counted.
 */
#include "access/iommu.h"

#include "access/thread_cache.h"
#include "topology/iommu.h"

#define SLOTS 32

typedef struct Slot {
    uint64_t id; /* of the table; 0: empty */
    uint64_t seq;
    AddrRange range;
    hwaddr translated_addr; /* of range.first */
    AddressSpace *target_as;
    IOMMUAccessFlags perm;
} Slot;

static __thread Slot slots[SLOTS];
static __thread unsigned translating; /* depth */

static Slot *slot_of(const IommuTable *table, hwaddr offset)
{
    uint64_t page = offset >> 12;

    return &slots[(page ^ page >> 5 ^ table->id * 11) % SLOTS];
}

static bool slot_serves(Slot *slot, const IommuTable *table, hwaddr offset, IOMMUAccessFlags wanted)
{
    return slot->id == table->id && range_contains(slot->range, offset) && (slot->perm & wanted) &&
           iommu_unchanged(table, slot->range, slot->seq, &slot->seq);
}

static void slot_fill(Slot *slot, const IommuTable *table, uint64_t seq, const IOMMUTLBEntry *entry)
{
    *slot = (Slot){
        .id = table->id,
        .seq = seq,
        .range = {entry->iova, entry->last},
        .translated_addr = entry->translated_addr,
        .target_as = entry->target_as,
        .perm = entry->perm,
    };
}

bool iommu_remembered(MemoryRegion *mr, hwaddr offset, bool is_write, MemTxAttrs attrs, IommuTrail *ret)
{
    const IommuRegion *iommu = mr->iommu;
    unsigned index = iommu_index(iommu, mr, attrs);
    Slot *slot;

    if (index >= iommu->n_tables) {
        return false;
    }
    slot = slot_of(&iommu->table[index], offset);
    if (!slot_serves(slot, &iommu->table[index], offset, is_write ? IOMMU_WO : IOMMU_RO)) {
        return false;
    }
    *ret = (IommuTrail){
        .index = index,
        .seq = slot->seq,
        .entry = {slot->target_as, slot->range.first, slot->range.last, slot->translated_addr, slot->perm},
    };
    return true;
}

/* One IOMMU region. *ret has offset in its range unless MEMTX_ERROR. In line for dispatch, where a call costs 40 instructions. */
static inline __attribute__((always_inline)) MemTxResult translate(MemoryRegion *mr, hwaddr offset, bool is_write,
                                                                   MemTxAttrs attrs, IOMMUTLBEntry *ret)
{
    const IOMMUAccessFlags wanted = is_write ? IOMMU_WO : IOMMU_RO;
    const IommuRegion *iommu = mr->iommu;
    unsigned index = iommu_index(iommu, mr, attrs);
    const IommuTable *table;
    uint64_t seq;
    Slot *slot;

    if (index >= iommu->n_tables) {
        return MEMTX_ERROR;
    }
    table = &iommu->table[index];
    slot = slot_of(table, offset);
    if (slot_serves(slot, table, offset, wanted)) {
        *ret = (IOMMUTLBEntry){slot->target_as, slot->range.first, slot->range.last, slot->translated_addr, slot->perm};
        return MEMTX_OK;
    }
    if (translating == MEMORY_IOMMU_MAX_CHAIN) {
        return MEMTX_ERROR; /* tables that are read through the region itself */
    }
    seq = iommu_seq(table);
    translating++;
    *ret = iommu->ops->translate(mr, offset, wanted, index);
    translating--;
    if (ret->iova > offset || ret->last < offset || (ret->perm != IOMMU_NONE && !ret->target_as)) {
        return MEMTX_ERROR;
    }
    if (!(ret->perm & wanted)) {
        return ret->perm == IOMMU_NONE ? MEMTX_DECODE_ERROR : MEMTX_ACCESS_ERROR;
    }
    slot_fill(slot, table, seq, ret);
    return MEMTX_OK;
}

MemTxResult iommu_translate(MemoryRegion *mr, hwaddr offset, bool is_write, MemTxAttrs attrs, IOMMUTLBEntry *ret)
{
    return translate(mr, offset, is_write, attrs, ret);
}

/* as's view in this call; NULL if there are too many. */
static const FlatView *view_of(DispatchViews *views, AddressSpace *as)
{
    unsigned i;

    for (i = 0; i < views->n; i++) {
        if (views->seen[i].as == as) {
            return views->seen[i].view;
        }
    }
    if (i == MEMORY_IOMMU_MAX_SPACES) {
        return NULL;
    }
    views->seen[i].as = as;
    views->seen[i].view = cell_view(space_cell(as));
    views->n = i + 1;
    return views->seen[i].view;
}

static void clip(Resolved *r, hwaddr before, hwaddr after)
{
    r->before = r->before < before ? r->before : before;
    r->after = r->after < after ? r->after : after;
}

static void clip_to_hole(Resolved *r, const FlatView *view)
{
    const FlatRange *next = view_lower(view->root, r->addr);

    clip(r, 0, next ? next->first - 1 - r->addr : UINT64_MAX);
}

MemTxResult dispatch_resolve(DispatchViews *views, AddressSpace *as, hwaddr addr, bool is_write, MemTxAttrs attrs,
                             Resolved *ret)
{
    unsigned chain;

    *ret = (Resolved){.as = as, .addr = addr, .before = addr, .after = UINT64_MAX - addr, .perm = IOMMU_RW};
    for (chain = 0;; chain++) {
        const FlatView *view = view_of(views, ret->as);
        const FlatRange *range = view ? thread_cache_find(view, ret->addr) : NULL;
        IOMMUTLBEntry entry;
        MemTxResult result;
        hwaddr offset;

        if (!view) {
            return MEMTX_ERROR;
        }
        if (!range) {
            clip_to_hole(ret, view);
            return MEMTX_DECODE_ERROR;
        }
        clip(ret, ret->addr - range->first, range->last - ret->addr);
        if (!(range->flags & FLAT_IOMMU)) {
            ret->range = range;
            return MEMTX_OK;
        }
        if (is_write && (range->flags & FLAT_READONLY)) {
            return MEMTX_ACCESS_ERROR;
        }
        if (chain == MEMORY_IOMMU_MAX_CHAIN) {
            return MEMTX_ERROR;
        }
        offset = range->offset + (ret->addr - range->first);
        result = translate(range->mr, offset, is_write, attrs, &entry);
        if (result == MEMTX_ERROR) {
            return result;
        }
        clip(ret, offset - entry.iova, entry.last - offset);
        if (result != MEMTX_OK) {
            return result;
        }
        if (offset - entry.iova > UINT64_MAX - entry.translated_addr) {
            return MEMTX_DECODE_ERROR; /* beyond the end of the target space */
        }
        ret->as = entry.target_as;
        ret->addr = entry.translated_addr + (offset - entry.iova);
        ret->perm = (IOMMUAccessFlags)(ret->perm & entry.perm &
                                       (range->flags & FLAT_READONLY ? IOMMU_RO : IOMMU_RW));
        clip(ret, ret->addr, UINT64_MAX - ret->addr);
    }
}
