/* SPDX-License-Identifier: MIT */
/*
 * iommu_shim.h - the log of lib/topology/iommu.h, by index in place of a table.
 */
#ifndef FLATVIEW_TESTS_IOMMU_SHIM_H
#define FLATVIEW_TESTS_IOMMU_SHIM_H

#include <flatview/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ShimIommu ShimIommu;

ShimIommu *shim_iommu_new(unsigned n_tables); /* aborts without memory */
void shim_iommu_free(ShimIommu *iommu);
void shim_iommu_invalidate(ShimIommu *iommu, unsigned index, hwaddr first, hwaddr last);
/* As far as a writer has come who has yet to say so: shim_iommu_invalidate() of the same range completes it. */
void shim_iommu_invalidate_half(ShimIommu *iommu, unsigned index, hwaddr first, hwaddr last);
uint64_t shim_iommu_seq(ShimIommu *iommu, unsigned index);
bool shim_iommu_unchanged(ShimIommu *iommu, unsigned index, hwaddr first, hwaddr last, uint64_t then,
                          uint64_t *ret_now);
unsigned shim_iommu_log_size(void);

#ifdef __cplusplus
}
#endif

#endif
