/* SPDX-License-Identifier: MIT */
/*
 * iommu.h - what an IOMMU region remembers: its notifiers, and for each table what was said to be gone.
 *
 * Invalidations of a table are numbered. seq is how many there were, and the last IOMMU_LOG of them are kept. Whoever
 * caches a translation notes the table's id and the seq that it read before it asked translate(); later it is good if no
 * invalidation since then touched its range, and if more came than are kept, it is not. So a change of one range costs
 * the others a look at the log, not a translation; and ids are never used twice, so that nothing cached is ever mistaken
 * for something of a region that took the place of another.
 *
 * Why none escapes: the table was changed before iommu_invalidate(), whose store of seq is a release. Whoever cached with
 * a seq of that number or greater has read it with acquire before it translated, so translate saw the change. Whoever
 * cached with a smaller one finds it in the log, if it loads seq after iommu_invalidate() returned.
 */
#ifndef FLATVIEW_TOPOLOGY_IOMMU_H
#define FLATVIEW_TOPOLOGY_IOMMU_H

#include <flatview/memory_iommu.h>

#include "base/lock.h"
#include "base/range.h"
#include "topology/region.h"

#define IOMMU_LOG 64

typedef struct IommuTable {
    uint64_t id;    /* constant; of no other table ever */
    uint64_t begun; /* invalidations whose place in the log is theirs: seq, or one more */
    uint64_t seq;
    AddrRange log[IOMMU_LOG]; /* number n (from 0) is at n % IOMMU_LOG */
} IommuTable;

typedef struct IommuRegion {
    const MemoryRegionIOMMUOps *ops;
    unsigned n_tables;
    Lock log_lock;    /* who writes to a log */
    Lock notify_lock; /* guards the list, and is held while it is told */
    IOMMUNotifier *notifiers, *notifiers_last; /* in order of registration */
    uint32_t n_notifiers; /* read anywhere */
    IommuTable table[];
} IommuRegion;

int iommu_new(const MemoryRegionIOMMUOps *ops, IommuRegion **ret_iommu); /* 0, -EINVAL, -ENOMEM */
void iommu_free(IommuRegion *iommu);                                     /* NULL is a no-op */

/* NULL if mr is none, or not live. Any thread. */
static inline IommuRegion *iommu_of(const MemoryRegion *mr)
{
    return mr->kind == MEMORY_KIND_IOMMU && region_peek(mr->state) == REGION_STATE_LIVE ? mr->iommu : NULL;
}

static inline bool iommu_has_notifiers(const MemoryRegion *mr)
{
    const IommuRegion *iommu = mr->iommu;

    return iommu && region_peek(iommu->n_notifiers);
}

/* What an access with attrs goes through; n_tables or more is no table. */
static inline unsigned iommu_index(const IommuRegion *iommu, MemoryRegion *mr, MemTxAttrs attrs)
{
    return iommu->ops->attrs_to_index ? iommu->ops->attrs_to_index(mr, attrs) : 0;
}

/* To be loaded before translate() is asked. */
static inline uint64_t iommu_seq(const IommuTable *table)
{
    return __atomic_load_n(&table->seq, __ATOMIC_ACQUIRE);
}

void iommu_invalidate(IommuRegion *iommu, unsigned index, AddrRange range);

/* Has nothing in range been invalidated since seq was then? If so, it is the same at *ret_now, else
   *ret_now stays as it is. No lock. */
bool iommu_unchanged(const IommuTable *table, AddrRange range, uint64_t then, uint64_t *ret_now);

/* ---- notifiers; under notify_lock ---- */
int iommu_add_notifier(IommuRegion *iommu, MemoryRegion *mr, IOMMUNotifier *notifier); /* 0, or a refusal */
void iommu_del_notifier(IommuRegion *iommu, MemoryRegion *mr, IOMMUNotifier *notifier);
void iommu_tell_all(IommuRegion *iommu, unsigned index, const IOMMUTLBEvent *event);
void iommu_tell(IOMMUNotifier *notifier, const IOMMUTLBEvent *event); /* clipped; no lock of its own */
int iommu_replay(IommuRegion *iommu, MemoryRegion *mr, IOMMUNotifier *notifier);

uint64_t iommu_notifiers_live(void); /* of all regions; any thread */

#endif
