/* SPDX-License-Identifier: MIT */
/*
 * iommu_shim.c - see iommu_shim.h.
 */
#include "shim/iommu_shim.h"

#include <stdlib.h>

#include "topology/iommu.h"

struct ShimIommu {
    IommuRegion *region;
    MemoryRegionIOMMUOps ops;
};

static IOMMUTLBEntry translate_nothing(MemoryRegion *mr, hwaddr addr, IOMMUAccessFlags flag, unsigned iommu_idx)
{
    (void)mr;
    (void)addr;
    (void)flag;
    (void)iommu_idx;
    return (IOMMUTLBEntry){.last = UINT64_MAX};
}

ShimIommu *shim_iommu_new(unsigned n_tables)
{
    ShimIommu *iommu = malloc(sizeof(*iommu));

    if (!iommu) {
        abort();
    }
    iommu->ops = (MemoryRegionIOMMUOps){.translate = translate_nothing, .num_indexes = n_tables};
    if (iommu_new(&iommu->ops, &iommu->region) < 0) {
        abort();
    }
    return iommu;
}

void shim_iommu_free(ShimIommu *iommu)
{
    iommu_free(iommu->region);
    free(iommu);
}

void shim_iommu_invalidate(ShimIommu *iommu, unsigned index, hwaddr first, hwaddr last)
{
    iommu_invalidate(iommu->region, index, (AddrRange){first, last});
}

void shim_iommu_invalidate_half(ShimIommu *iommu, unsigned index, hwaddr first, hwaddr last)
{
    IommuTable *table = &iommu->region->table[index];

    table->begun = table->seq + 1;
    table->log[table->seq % IOMMU_LOG] = (AddrRange){first, last};
}

uint64_t shim_iommu_seq(ShimIommu *iommu, unsigned index)
{
    return iommu_seq(&iommu->region->table[index]);
}

bool shim_iommu_unchanged(ShimIommu *iommu, unsigned index, hwaddr first, hwaddr last, uint64_t then,
                          uint64_t *ret_now)
{
    return iommu_unchanged(&iommu->region->table[index], (AddrRange){first, last}, then, ret_now);
}

unsigned shim_iommu_log_size(void)
{
    return IOMMU_LOG;
}
