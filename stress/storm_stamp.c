/* SPDX-License-Identifier: MIT */
/*
 * storm_stamp.c - what each region of the machine answers with, and the stamps in its memory.
 *
 * Invariant: every region of the machine has a Backing, as its user pointer, from before the first access to after the
 * last one; every page in Backing.pages carries the stamps of backing_word(), every other page is as the host made it:
 * zero. So any byte of memory can be predicted, but for scratch, and a guest of many GiB costs a few hundred pages for
 * each block of memory. Runs before the threads do.
 */
#include "storm.h"

#include <stdlib.h>

#define STAMP_FIRST_PAGES 384
#define STAMP_EDGE_PAGES 16

const MemoryRegionOps *choose_ops(const TopoRegion *topo, const MachineOptions *options)
{
    static const uint8_t dice[] = { MODEL_PLAIN,      MODEL_PLAIN,  MODEL_PLAIN,  MODEL_NARROW_BE,
                                    MODEL_NARROW_BE,  MODEL_WORDS,  MODEL_WORDS,  MODEL_READ_ONLY,
                                    MODEL_WRITE_ONLY, MODEL_FAULTY, MODEL_FAULTY, MODEL_SILENT };

    (void)options;
    return model_ops(dice[(backing_word((uint32_t)topo->id, 0) ^ storm.seed) % sizeof(dice)]);
}

bool make_backings(void)
{
    size_t n = storm.topo.n_regions;

    storm.backings = calloc(n + 1, sizeof(*storm.backings));
    for (uint32_t i = 0; storm.backings && i < n; i++) {
        const TopoRegion *r = &storm.topo.regions[i];
        Backing *b = &storm.backings[i];

        *b = (Backing){ .canary = BACKING_ALIVE, .id = backing_new_id(), .size = r->size };
        if (r->flags & (TOPO_RAM | TOPO_ROM_DEVICE)) {
            b->kind = r->flags & TOPO_RAM ? BACKING_MEMORY : BACKING_ROM_DEVICE;
            b->host = memory_region_get_ram_ptr(&storm.machine.regions[i]->mr);
            b->ops = r->flags & TOPO_RAM ? NULL : model_ops(MODEL_PLAIN);
        } else if (r->alias == TOPO_NONE && r->flags & TOPO_TERMINATES) {
            b->ops = choose_ops(r, NULL);
        }
        storm.machine.regions[i]->user = b;
    }
    return storm.backings != NULL;
}

static bool want_pages(Backing *b, uint64_t first, unsigned n)
{
    uint64_t page = first & ~(uint64_t)(STORM_PAGE - 1);
    uint64_t *grown = realloc(b->pages, (b->n_pages + n) * sizeof(*b->pages));

    if (!grown) {
        return false;
    }
    b->pages = grown;
    for (; n > 0 && page < b->size; n--, page += STORM_PAGE) {
        b->pages[b->n_pages++] = page;
    }
    return true;
}

static bool want_around(Backing *b, uint64_t offset)
{
    uint64_t back = STAMP_EDGE_PAGES / 2 * STORM_PAGE;

    return want_pages(b, offset > back ? offset - back : 0, STAMP_EDGE_PAGES);
}

static int want_section(const MemoryRegionSection *s, void *arg)
{
    Backing *b = backing_of(s->mr);

    if (b->host) {
        *(bool *)arg &= want_around(b, s->offset_within_region) &&
                        want_around(b, s->offset_within_region + (s->last - s->offset_within_address_space));
        if ((s->offset_within_address_space - s->offset_within_region) % STORM_PAGE) {
            storm.memory_aligned = false;
        }
    }
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void stamp_pages(Backing *b)
{
    size_t kept = 0;

    qsort(b->pages, b->n_pages, sizeof(*b->pages), by_offset);
    for (size_t i = 0; i < b->n_pages; i++) {
        if (i == 0 || b->pages[i] != b->pages[kept - 1]) {
            uint64_t first = b->pages[i], left = b->size - first;

            b->pages[kept++] = first;
            backing_stamp(b, first, first + (left < STORM_PAGE ? left : STORM_PAGE) - 1);
        }
    }
    b->n_pages = kept;
}

/* Stamps go where guests go: to the start of each memory, and to where ranges begin and end. */
bool stamp_memory(void)
{
    bool ok = true;

    storm.memory_aligned = true;
    for (unsigned i = 0; i < storm.n_spaces; i++) {
        FlatView *view = address_space_get_flatview(storm.spaces[i]->as);

        flatview_for_each_range(view, 0, UINT64_MAX, want_section, &ok);
        flatview_unref(view);
    }
    for (size_t i = 0; ok && i < storm.topo.n_regions; i++) {
        Backing *b = &storm.backings[i];

        if (b->host && b->size) {
            ok = want_pages(b, 0, STAMP_FIRST_PAGES) && want_around(b, b->size - 1);
            stamp_pages(b);
        }
    }
    return ok;
}
