/* SPDX-License-Identifier: MIT */
/*
 * storm_windows.c - windows (MemoryRegionCache) onto slots in which memory modules come and go.
 *
 * Invariant: a load through a window gets a word of the module that was in its slot at some time of the load, or finds nothing
 * when nothing was there; nobody makes a window again after a change. Pointers are good for the read section. Established by
 * the library (memory_cache.h); judged by the facts of storm_dma.c. A window is its vCPU's alone.
 */
#include "storm_dma.h"

#define D storm_dma_state
#define WINDOWS (SLOTS + 1) /* one onto each slot, and one across two, which is never remembered */

static MemoryRegionCache windows[PLANE_VCPUS][WINDOWS];

bool windows_start(void)
{
    bool well = true;

    for (unsigned i = 0; i < PLANE_VCPUS * WINDOWS && well; i++) {
        unsigned k = i % WINDOWS;
        hwaddr addr = k < SLOTS ? k * MODULE_SIZE : MODULE_SIZE / 2;

        well = plane_ok(&storm_dma, "a window",
                        address_space_cache_init(&windows[i / WINDOWS][k], &D.space, addr, MODULE_SIZE));
    }
    return well;
}

static void load(StormThread *t, MemoryRegionCache *window, hwaddr base)
{
    hwaddr at = storm_below(t, MODULE_SIZE / 8) * 8, addr = base + at;
    unsigned slot = (unsigned)(addr / MODULE_SIZE);
    uint64_t since = fact_now(&D.slots[slot]), word;
    MemTxResult result = address_space_ldq_le_cached(window, at, MEMTXATTRS_UNSPECIFIED, &word);

    if (!is_stamped(addr % MODULE_SIZE)) {
        return;
    }
    if (result == MEMTX_OK) {
        dma_judge_word(slot, since, addr % MODULE_SIZE, word, "a window");
        plane_did(&dma_did[DMA_WINDOWS], 1);
    } else if (result != MEMTX_DECODE_ERROR || !fact_allows(&D.slots[slot], since, 0, UINT64_MAX)) {
        storm_violation("%s: a window onto slot %u finds nothing (result %d)", storm_dma.name, slot, (int)result);
    } else {
        plane_did(&dma_did[DMA_WINDOW_HOLES], 1);
    }
}

static void look(MemoryRegionCache *window, unsigned slot)
{
    uint64_t since = fact_now(&D.slots[slot]);
    const uint64_t *words;

    memory_read_begin();
    words = address_space_cache_ptr(window, 0, SCRATCH_AT, false);
    if (words) {
        plane_did(&dma_did[DMA_POINTERS], 1);
    } else if (!fact_allows(&D.slots[slot], since, 0, UINT64_MAX)) {
        storm_violation("%s: a window onto slot %u has no memory", storm_dma.name, slot);
    }
    for (uint64_t offset = 0; words && offset < SCRATCH_AT; offset += 64) {
        if (!dma_judge_word(slot, since, offset, words[offset / 8], "a pointer")) {
            break;
        }
    }
    memory_read_end();
}

void windows_turn(StormThread *t)
{
    for (unsigned i = 0; i < 48; i++) {
        unsigned k = (unsigned)storm_below(t, WINDOWS);

        if (k < SLOTS && storm_chance(t, 4)) {
            look(&windows[t->index][k], k);
        } else {
            load(t, &windows[t->index][k], k < SLOTS ? k * MODULE_SIZE : MODULE_SIZE / 2);
        }
    }
}
