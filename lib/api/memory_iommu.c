/* SPDX-License-Identifier: MIT */
/*
 * memory_iommu.c - the public face of topology/iommu.h and access/iommu.h, which own the invariants.
 *
 * Invariant: whoever calls a notifier, or an IOMMU's callback about notifiers, holds the region's notifier lock and has
 * said so (txn_set_notifying()): so nothing that the callback reaches waits for the topology lock, which ranks below, or for
 * readers, of which one may be waiting for this lock in an access callback. Established by: lock_notifiers().
 */
#include <errno.h>

#include <flatview/memory_iommu.h>

#include "access/iommu.h"
#include "base/reader.h"
#include "publish/transaction.h"
#include "topology/iommu.h"

/* ---- asking --------------------------------------------------------------------------------------------------- */

bool memory_region_is_iommu(const MemoryRegion *mr)
{
    return mr->kind == MEMORY_KIND_IOMMU;
}

MemoryRegion *memory_region_get_iommu(MemoryRegion *mr)
{
    while (mr && mr->kind == MEMORY_KIND_ALIAS) {
        mr = region_peek(mr->alias);
    }
    return mr && mr->kind == MEMORY_KIND_IOMMU ? mr : NULL;
}

unsigned memory_region_iommu_num_indexes(const MemoryRegion *mr)
{
    const IommuRegion *iommu = iommu_of(mr);

    return iommu ? iommu->n_tables : 0;
}

unsigned memory_region_iommu_attrs_to_index(MemoryRegion *mr, MemTxAttrs attrs)
{
    const IommuRegion *iommu = iommu_of(mr);

    return iommu ? iommu_index(iommu, mr, attrs) : 0;
}

uint64_t memory_region_iommu_get_min_page_size(MemoryRegion *mr)
{
    const IommuRegion *iommu = iommu_of(mr);

    if (!iommu) {
        return 0;
    }
    return iommu->ops->get_min_page_size ? iommu->ops->get_min_page_size(mr) : 1;
}

/* ---- notifiers ------------------------------------------------------------------------------------------------ */

static int lock_notifiers(IommuRegion *iommu)
{
    if (txn_notifying()) {
        return -EBUSY;
    }
    lock_acquire(&iommu->notify_lock);
    txn_set_notifying(true);
    return 0;
}

static void unlock_notifiers(IommuRegion *iommu)
{
    txn_set_notifying(false);
    lock_release(&iommu->notify_lock);
}

int memory_region_register_iommu_notifier(MemoryRegion *mr, IOMMUNotifier *notifier)
{
    IommuRegion *iommu;
    int ret;

    mr = memory_region_get_iommu(mr);
    iommu = mr ? iommu_of(mr) : NULL;
    if (!iommu || !notifier || !notifier->notify || !notifier->notifier_flags ||
        (notifier->notifier_flags & ~(unsigned)IOMMU_NOTIFIER_ALL) || notifier->iommu_idx >= iommu->n_tables ||
        notifier->first > notifier->last) {
        return -EINVAL;
    }
    ret = lock_notifiers(iommu);
    if (ret < 0) {
        return ret;
    }
    ret = notifier->mr ? -EBUSY : iommu_add_notifier(iommu, mr, notifier);
    unlock_notifiers(iommu);
    return ret;
}

/* With the lock of the region that notifier is registered with; mr NULL: any. */
static int lock_notifier(MemoryRegion *mr, IOMMUNotifier *notifier, IommuRegion **ret_iommu)
{
    int ret;

    mr = memory_region_get_iommu(mr);
    if (!mr || !notifier) {
        return -EINVAL;
    }
    *ret_iommu = mr->iommu;
    ret = lock_notifiers(*ret_iommu);
    if (ret == 0 && notifier->mr != mr) {
        unlock_notifiers(*ret_iommu);
        ret = -EINVAL;
    }
    return ret;
}

int memory_region_unregister_iommu_notifier(MemoryRegion *mr, IOMMUNotifier *notifier)
{
    IommuRegion *iommu;
    int ret = lock_notifier(mr, notifier, &iommu);

    if (ret == 0) {
        iommu_del_notifier(iommu, notifier->mr, notifier);
        unlock_notifiers(iommu);
    }
    return ret;
}

static bool event_is_sound(const IommuRegion *iommu, unsigned index, const IOMMUTLBEvent *event)
{
    const IOMMUTLBEntry *entry = &event->entry;

    if (index >= iommu->n_tables || entry->iova > entry->last) {
        return false;
    }
    switch (event->type) {
    case IOMMU_NOTIFIER_MAP:
        return entry->perm != IOMMU_NONE && entry->target_as;
    case IOMMU_NOTIFIER_UNMAP:
    case IOMMU_NOTIFIER_DEVIOTLB_UNMAP:
        return entry->perm == IOMMU_NONE;
    default:
        return false;
    }
}

/* Would what is mapped be seen at the region that maps it? Costs the ranges of the target window; usually one. */
static bool leads_to_itself(const MemoryRegion *mr, const IOMMUTLBEntry *entry)
{
    AddrRange window = {0, entry->last - entry->iova};
    const FlatRange *r;
    bool met = false;
    ViewIter it;

    if (!range_shift_up(window, entry->translated_addr, &window)) {
        return false;
    }
    reader_enter();
    r = view_iter_first(&it, cell_view(space_cell(entry->target_as))->root, window.first);
    for (; r && r->first <= window.last && !met; r = view_iter_next(&it)) {
        met = r->mr == mr;
    }
    reader_exit();
    return met;
}

int memory_region_notify_iommu(MemoryRegion *mr, unsigned iommu_idx, IOMMUTLBEvent event)
{
    IommuRegion *iommu = mr ? iommu_of(mr) : NULL;
    int ret;

    if (!iommu || !event_is_sound(iommu, iommu_idx, &event)) {
        return -EINVAL;
    }
    iommu_invalidate(iommu, iommu_idx, (AddrRange){event.entry.iova, event.entry.last});
    if (event.type == IOMMU_NOTIFIER_MAP && leads_to_itself(mr, &event.entry)) {
        return -ELOOP;
    }
    ret = lock_notifiers(iommu);
    if (ret == 0) {
        iommu_tell_all(iommu, iommu_idx, &event);
        unlock_notifiers(iommu);
    }
    return ret;
}

void memory_region_notify_iommu_one(IOMMUNotifier *notifier, const IOMMUTLBEvent *event)
{
    iommu_tell(notifier, event);
}

int memory_region_unmap_iommu_notifier_range(IOMMUNotifier *notifier)
{
    IOMMUTLBEvent event = {.type = IOMMU_NOTIFIER_UNMAP};
    IommuRegion *iommu;
    int ret;

    if (!notifier) {
        return -EINVAL;
    }
    ret = lock_notifier(notifier->mr, notifier, &iommu);
    if (ret == 0) {
        event.entry.iova = notifier->first;
        event.entry.last = notifier->last;
        iommu_tell(notifier, &event);
        unlock_notifiers(iommu);
    }
    return ret;
}

int memory_region_iommu_replay(MemoryRegion *mr, IOMMUNotifier *notifier)
{
    IommuRegion *iommu;
    int ret = lock_notifier(mr, notifier, &iommu);

    if (ret == 0) {
        reader_enter(); /* what translate() may rely on */
        ret = iommu_replay(iommu, notifier->mr, notifier);
        reader_exit();
        unlock_notifiers(iommu);
    }
    return ret;
}

int memory_region_iommu_drain(MemoryRegion *mr)
{
    if (!mr || !iommu_of(mr)) {
        return -EINVAL;
    }
    if (reader_ongoing() || txn_holds_lock()) {
        return -EDEADLK;
    }
    reader_wait();
    return 0;
}

/* ---- where an address leads ----------------------------------------------------------------------------------- */

MemTxResult address_space_get_iotlb_entry(AddressSpace *as, hwaddr addr, bool is_write, MemTxAttrs attrs,
                                          IOMMUTLBEntry *ret_entry)
{
    DispatchViews views;
    MemTxResult result;
    Resolved at;

    reader_enter();
    dispatch_views_begin(&views, as);
    result = dispatch_resolve(&views, as, addr, is_write, attrs, &at);
    reader_exit();
    if (result == MEMTX_OK) {
        *ret_entry = (IOMMUTLBEntry){
            .target_as = at.as,
            .iova = addr - at.before,
            .last = addr + at.after,
            .translated_addr = at.addr - at.before,
            .perm = at.perm,
        };
    }
    return result;
}
