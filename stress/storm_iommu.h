/* SPDX-License-Identifier: MIT */
/*
 * storm_iommu.h - what storm_iommu.c, which changes translations, shares with storm_iommu_access.c, whose accesses go through
 * them.
 */
#ifndef FLATVIEW_STRESS_STORM_IOMMU_H
#define FLATVIEW_STRESS_STORM_IOMMU_H

#include "storm_planes.h"

#define PAGES 24u  /* of the IOMMU region */
#define TABLES 2u  /* chosen by MemTxAttrs.secure */
#define FRAMES 72u /* of RAM: more than can be mapped at a time, for each is mapped once at most */
#define IOMMU_SIZE (PAGES * STORM_PAGE)
#define IOMMU_AT (4 * IOMMU_SIZE) /* in the device's space, and at 0 again through an alias */

/* A translation, as a word: its frame + 1 (0: none), and what it permits. */
#define PTE_FRAME 0xffffu
#define PTE_PERM_SHIFT 16
#define PTE_VALID (1u << 18)
static inline uint64_t pte_of(unsigned frame, IOMMUAccessFlags perm)
{
    return (frame + 1) | (unsigned)perm << PTE_PERM_SHIFT | PTE_VALID;
}

static inline IOMMUAccessFlags pte_perm(uint64_t pte)
{
    return (IOMMUAccessFlags)(pte >> PTE_PERM_SHIFT & 3);
}

/* Each word of a frame says which one it is, and where in it; but for one word of each vCPU, which only it writes. */
#define SLOT_AT (STORM_PAGE / 2)
static inline uint64_t frame_word(unsigned frame, uint64_t offset)
{
    return (uint64_t)(frame + 1) << 32 | offset;
}

typedef struct StormIommu {
    AddressSpace sys, dev, outer; /* the RAM; behind the IOMMU; behind another one, which leads to dev as it is */
    uint8_t *host;                /* of all frames */
    Fact facts[TABLES][PAGES];
    uint64_t table[TABLES][PAGES]; /* atomic: what translate() says */
    uint64_t calls;                /* atomic: of translate() */
} StormIommu;

extern StormIommu storm_iommu_state;

enum {
    IOMMU_LOADS,
    IOMMU_STORES,
    IOMMU_FAULTS,
    IOMMU_ACROSS,
    IOMMU_ASKED,
    IOMMU_REMAPS,
    IOMMU_DRAINS,
    IOMMU_REPLAYS,
    IOMMU_REFUSED,
    IOMMU_TOLD,
    IOMMU_KINDS
};
extern uint64_t iommu_did[IOMMU_KINDS];

/* storm_iommu_access.c: a burst of accesses by a vCPU; the word of vCPU @index in a frame */
void iommu_accesses(StormThread *t);
uint64_t iommu_slot(unsigned frame, unsigned index);

#endif
