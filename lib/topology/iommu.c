/* SPDX-License-Identifier: MIT */
/*
 * iommu.c - the log of invalidations, and the notifiers of an IOMMU region.
 *
 * Invariant: at every instant the log holds invalidations begun - IOMMU_LOG to seq - 1 whole: begun is raised before the
 * place of an older one is written over, seq after the new one is complete. Notifiers hear of every event that was
 * notified since they were registered, each once, one after the other.
 * Established by: iommu_invalidate() under log_lock; the notifier functions under notify_lock.
 * Relied on by:   the threads' caches (access/iommu.c), without a lock; whoever mirrors translations.
 */
#include "topology/iommu.h"

#include <errno.h>

#include "base/mem.h"
#include "base/sabotage.h"

static uint64_t last_id; /* atomic */
static uint64_t live_notifiers; /* atomic */

static size_t region_bytes(unsigned n_tables)
{
    return sizeof(IommuRegion) + n_tables * sizeof(IommuTable);
}

int iommu_new(const MemoryRegionIOMMUOps *ops, IommuRegion **ret_iommu)
{
    unsigned n, i;
    IommuRegion *iommu;

    if (!ops || !ops->translate || ops->num_indexes > MEMORY_IOMMU_MAX_INDEXES) {
        return -EINVAL;
    }
    n = ops->num_indexes ? ops->num_indexes : 1;
    iommu = mem_zalloc(region_bytes(n));
    if (!iommu) {
        return -ENOMEM;
    }
    iommu->ops = ops;
    iommu->n_tables = n;
    iommu->log_lock = (Lock)LOCK_INITIALIZER(LOCK_RANK_LEAF, "iommu log");
    iommu->notify_lock = (Lock)LOCK_INITIALIZER(LOCK_RANK_IOMMU, "iommu notifiers");
    for (i = 0; i < n; i++) {
        iommu->table[i].id = __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED);
    }
    *ret_iommu = iommu;
    return 0;
}

void iommu_free(IommuRegion *iommu)
{
    if (iommu) {
        mem_free(iommu, region_bytes(iommu->n_tables));
    }
}

/* ---- the log -------------------------------------------------------------------------------------------------- */

void iommu_invalidate(IommuRegion *iommu, unsigned index, AddrRange range)
{
    IommuTable *table = &iommu->table[index];
    AddrRange *at;
    uint64_t n;

    if (sabotage_turn(SABOTAGE_DROP_INVALIDATE, 8)) {
        return;
    }
    lock_acquire(&iommu->log_lock);
    n = table->seq;
    at = &table->log[n % IOMMU_LOG];
    region_poke(table->begun, n + 1);
    /* Releases: whoever reads either of the new values reads begun no older than this. */
    __atomic_store_n(&at->first, range.first, __ATOMIC_RELEASE);
    __atomic_store_n(&at->last, range.last, __ATOMIC_RELEASE);
    __atomic_store_n(&table->seq, n + 1, __ATOMIC_RELEASE);
    lock_release(&iommu->log_lock);
}

bool iommu_unchanged(const IommuTable *table, AddrRange range, uint64_t then, uint64_t *ret_now)
{
    uint64_t now = iommu_seq(table), n;

    if (now - then > IOMMU_LOG) {
        return false;
    }
    for (n = then; n != now; n++) {
        const AddrRange *at = &table->log[n % IOMMU_LOG];
        AddrRange gone;

        /* Acquires, which pair with the releases above: they keep the look at begun below after them. */
        gone.first = __atomic_load_n(&at->first, __ATOMIC_ACQUIRE);
        gone.last = __atomic_load_n(&at->last, __ATOMIC_ACQUIRE);
        if (range_overlaps(gone, range)) {
            return false; /* or it was written over meanwhile: then a translation is asked for in vain */
        }
    }
    if (region_peek(table->begun) - then > IOMMU_LOG) {
        return false; /* some of what was read may have been another's */
    }
    *ret_now = now; /* and not before: whoever was refused looks from where it stood the next time, too */
    return true;
}

/* ---- notifiers ------------------------------------------------------------------------------------------------ */

uint64_t iommu_notifiers_live(void)
{
    return __atomic_load_n(&live_notifiers, __ATOMIC_RELAXED);
}

static IOMMUNotifierFlag flags_but(const IommuRegion *iommu, const IOMMUNotifier *left_out)
{
    const IOMMUNotifier *notifier;
    unsigned flags = 0;

    for (notifier = iommu->notifiers; notifier; notifier = notifier->next) {
        flags |= notifier == left_out ? 0u : (unsigned)notifier->notifier_flags;
    }
    return (IOMMUNotifierFlag)flags;
}

static int flags_change(const IommuRegion *iommu, MemoryRegion *mr, IOMMUNotifierFlag from, IOMMUNotifierFlag to)
{
    return from != to && iommu->ops->notify_flag_changed ? iommu->ops->notify_flag_changed(mr, from, to) : 0;
}

static void count(IommuRegion *iommu, uint32_t by)
{
    region_poke(iommu->n_notifiers, iommu->n_notifiers + by);
    __atomic_fetch_add(&live_notifiers, (uint64_t)(int64_t)(int32_t)by, __ATOMIC_RELAXED);
}

int iommu_add_notifier(IommuRegion *iommu, MemoryRegion *mr, IOMMUNotifier *notifier)
{
    IOMMUNotifierFlag flags = flags_but(iommu, NULL);
    int ret = flags_change(iommu, mr, flags, (IOMMUNotifierFlag)(flags | notifier->notifier_flags));

    if (ret < 0) {
        return ret;
    }
    notifier->mr = mr;
    notifier->next = NULL;
    notifier->prev = iommu->notifiers_last;
    *(notifier->prev ? &notifier->prev->next : &iommu->notifiers) = notifier;
    iommu->notifiers_last = notifier;
    count(iommu, 1);
    return 0;
}

void iommu_del_notifier(IommuRegion *iommu, MemoryRegion *mr, IOMMUNotifier *notifier)
{
    IOMMUNotifierFlag flags = flags_but(iommu, NULL), left = flags_but(iommu, notifier);

    *(notifier->prev ? &notifier->prev->next : &iommu->notifiers) = notifier->next;
    *(notifier->next ? &notifier->next->prev : &iommu->notifiers_last) = notifier->prev;
    notifier->mr = NULL;
    notifier->next = notifier->prev = NULL;
    count(iommu, UINT32_MAX);
    flags_change(iommu, mr, flags, left);
}

void iommu_tell(IOMMUNotifier *notifier, const IOMMUTLBEvent *event)
{
    IOMMUTLBEntry entry = event->entry;
    AddrRange part;

    if (!(notifier->notifier_flags & event->type) ||
        !range_intersect((AddrRange){entry.iova, entry.last}, (AddrRange){notifier->first, notifier->last}, &part)) {
        return;
    }
    if (sabotage_turn(SABOTAGE_DROP_NOTIFY, 8)) {
        return;
    }
    entry.translated_addr += part.first - entry.iova;
    entry.iova = part.first;
    entry.last = part.last;
    notifier->notify(notifier, &entry);
}

void iommu_tell_all(IommuRegion *iommu, unsigned index, const IOMMUTLBEvent *event)
{
    IOMMUNotifier *notifier;

    for (notifier = iommu->notifiers; notifier; notifier = notifier->next) {
        if (notifier->iommu_idx == index) {
            iommu_tell(notifier, event);
        }
    }
}

/* What the notifier can see of the region, whose size may be changing right now. */
static bool seen_through(const MemoryRegion *mr, const IOMMUNotifier *notifier, AddrRange *ret)
{
    return !__atomic_load_n(&mr->size_is_zero, __ATOMIC_ACQUIRE) &&
           range_intersect((AddrRange){0, region_peek(mr->last)}, (AddrRange){notifier->first, notifier->last}, ret);
}

static int replay_by_asking(IommuRegion *iommu, MemoryRegion *mr, IOMMUNotifier *notifier)
{
    AddrRange window;
    hwaddr addr;

    if (!seen_through(mr, notifier, &window)) {
        return 0;
    }
    for (addr = window.first;; addr++) {
        IOMMUTLBEvent event = {.type = IOMMU_NOTIFIER_MAP};

        event.entry = iommu->ops->translate(mr, addr, IOMMU_NONE, notifier->iommu_idx);
        if (event.entry.iova > addr || event.entry.last < addr) {
            return -EIO;
        }
        if (event.entry.perm != IOMMU_NONE) {
            iommu_tell(notifier, &event);
        }
        if (event.entry.last >= window.last) {
            return 0;
        }
        addr = event.entry.last;
    }
}

int iommu_replay(IommuRegion *iommu, MemoryRegion *mr, IOMMUNotifier *notifier)
{
    return iommu->ops->replay ? iommu->ops->replay(mr, notifier) : replay_by_asking(iommu, mr, notifier);
}
