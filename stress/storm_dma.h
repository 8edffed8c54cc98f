/* SPDX-License-Identifier: MIT */
/*
 * storm_dma.h - memory modules that are plugged, moved and unplugged (storm_dma.c), and who maps them (storm_dma_map.c) or looks
 * at them through cached windows (storm_windows.c).
 */
#ifndef FLATVIEW_STRESS_STORM_DMA_H
#define FLATVIEW_STRESS_STORM_DMA_H

#include "storm_planes.h"

#define SLOTS 6u
#define MODULES 40u /* more than slots: a module is used again when it has been released */
#define MODULE_SIZE (2 * STORM_PAGE)
#define REGS_AT (8 * MODULE_SIZE)
#define REGS_SIZE STORM_PAGE
#define BOUNCE_LIMIT 600u

/* A module's word says whose it is, in which of its lives, and where; but for words that vCPUs write, one for each. */
#define SCRATCH_AT 0x800u
#define SCRATCH_END (SCRATCH_AT + 64)
static inline bool is_stamped(uint64_t offset)
{
    return offset < SCRATCH_AT || offset >= SCRATCH_END;
}

static inline uint64_t module_word(uint64_t id, uint64_t offset)
{
    return id << 16 | offset;
}

typedef struct Module {
    MemoryRegion mr;
    uint64_t *words; /* its memory; its own from the start to the release */
    uint64_t id;     /* life * MODULES + index */
    bool free;       /* atomic: released */
    uint32_t going;  /* atomic: has been unplugged */
    uint32_t holders; /* atomic: mappings that are known to hold it */
} Module;

typedef struct StormDma {
    AddressSpace space;
    Module modules[MODULES];
    Fact slots[SLOTS]; /* the id of the module that is there; 0: none */
} StormDma;

extern StormDma storm_dma_state;

enum {
    DMA_PLUGS,
    DMA_UNPLUGS,
    DMA_MOVES,
    DMA_ABORTS,
    DMA_RELEASED,
    DMA_MAPPED,
    DMA_HOLES,
    DMA_OUTLIVED,
    DMA_BOUNCED,
    DMA_EXHAUSTED,
    DMA_TOLD,
    DMA_WINDOWS,
    DMA_WINDOW_HOLES,
    DMA_POINTERS,
    DMA_KINDS
};
extern uint64_t dma_did[DMA_KINDS];

/* Is @word what was there, in a slot at an offset, at some time since? Else a violation that says @what. */
bool dma_judge_word(unsigned slot, uint64_t since, uint64_t offset, uint64_t word, const char *what);

extern const MemoryRegionOps dma_regs_ops; /* storm_dma_map.c: each byte is what dma_reg() says */
static inline uint8_t dma_reg(hwaddr addr)
{
    return (uint8_t)(addr * 7 + 3);
}

void dma_map_turn(StormThread *t);
void dma_map_judge(void);
void dma_map_finish(void);

bool windows_start(void);
void windows_turn(StormThread *t);

#endif
