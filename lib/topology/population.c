/* SPDX-License-Identifier: MIT */
/*
 * population.c - runs of bytes that are populated, that are discarded, and that are about to change.
 *
 * Invariant: as in population.h. What listeners are told of is computed from the bits as they are before the change, and the
 * bits change last; so a refusal leaves them alone, and what was told can be computed again to be taken back.
 */
#include "topology/population.h"

#include "base/live.h"
#include "base/mem.h"
#include "topology/dirty_bitmap.h"
#include "topology/ram_block.h"

static __thread const Population *inside;

Population *population_of(MemoryRegion *mr)
{
    Population *p = __atomic_load_n(&mr->population, __ATOMIC_ACQUIRE), *expected = NULL;

    if (p) {
        return p;
    }
    p = mem_zalloc(sizeof(*p));
    if (!p) {
        return NULL;
    }
    p->lock = (Lock)LOCK_INITIALIZER(LOCK_RANK_POPULATION, "population");
    p->last = ((const RamBlock *)mr->block)->size - 1;
    /* Release: whoever finds it finds it made. */
    if (!__atomic_compare_exchange_n(&mr->population, (void **)&expected, p, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        mem_free(p, sizeof(*p));
        return expected;
    }
    return p;
}

void population_free(Population *p)
{
    const RamDiscardListener *listener;

    if (p) {
        for (listener = p->listeners; listener; listener = listener->next) {
            live_sub(LIVE_DISCARD_LISTENERS, 1);
        }
        mem_free(p, sizeof(*p));
    }
}

bool population_enter(Population *p)
{
    if (inside == p) {
        return false;
    }
    lock_acquire(&p->lock);
    inside = p;
    return true;
}

void population_leave(Population *p)
{
    inside = NULL;
    lock_release(&p->lock);
}

bool population_inside(void)
{
    return inside;
}

bool population_is_inside(const Population *p)
{
    return inside == p;
}

/* ---- runs ----------------------------------------------------------------------------------------------------- */

/* Has this source discarded the byte at, and up to which byte is that so? */
static bool source_run(const RamDiscardSource *source, uint64_t at, uint64_t *ret_last)
{
    const DirtyBitmap *map = source->discarded;
    uint64_t first, last, bit = at >> map->shift;

    if (!dirty_words_run(map->words, bit, map->n_bits, &first, &last)) {
        *ret_last = UINT64_MAX;
        return false;
    }
    *ret_last = ((first > bit ? first : last + 1) << map->shift) - 1; /* a block is not as large as that this overflows */
    return first == bit;
}

/* Do all sources but one (NULL: all) agree that the byte is populated, and up to which is that so? Not necessarily the longest
   such run of what is discarded. */
static bool others_run(const Population *p, const RamDiscardSource *but, uint64_t at, uint64_t *ret_last)
{
    const RamDiscardSource *source;
    bool populated = true;
    uint64_t last;

    *ret_last = p->last;
    for (source = p->sources; source; source = source->next) {
        if (source != but && source_run(source, at, &last)) {
            *ret_last = (populated || last > *ret_last) ? last : *ret_last;
            populated = false;
        } else if (source != but && populated && last < *ret_last) {
            *ret_last = last;
        }
    }
    *ret_last = *ret_last < p->last ? *ret_last : p->last;
    return populated;
}

/* The next run from *at to last whose state is populated or not, as wanted; the longest. *at goes beyond it. */
static bool next_run(const Population *p, bool populated, uint64_t *at, uint64_t last, AddrRange *ret)
{
    bool found = false;
    uint64_t end;

    for (; *at <= last; *at = end + 1) {
        if (others_run(p, NULL, *at, &end) != populated) {
            if (found) {
                return true;
            }
        } else {
            end = end < last ? end : last;
            *ret = (AddrRange){found ? ret->first : *at, end};
            found = true;
        }
        if (end >= last) {
            *at = UINT64_MAX; /* beyond: no block ends there */
            return found;
        }
    }
    return found;
}

/* The next run from *at to last in which source is about to decide: it has discarded (or not), and all others have not. */
static bool next_change(const Population *p, const RamDiscardSource *source, bool discarded, uint64_t *at, uint64_t last,
                        AddrRange *ret)
{
    uint64_t own_end, end;

    while (*at <= last) {
        bool own = source_run(source, *at, &own_end);
        bool others = others_run(p, source, *at, &end);

        ret->first = *at;
        ret->last = own_end < end ? own_end : end;
        ret->last = ret->last < last ? ret->last : last;
        *at = ret->last + 1;
        if (own == discarded && others) {
            return true;
        }
    }
    return false;
}

/* ---- telling -------------------------------------------------------------------------------------------------- */

/* What of a run of the region's bytes is in a section. */
static bool section_cut(const MemoryRegionSection *section, AddrRange run, MemoryRegionSection *ret)
{
    uint64_t first = section->offset_within_region;
    uint64_t last = first + (section->last - section->offset_within_address_space);

    if (run.last < first || run.first > last) {
        return false;
    }
    run.first = run.first > first ? run.first : first;
    run.last = run.last < last ? run.last : last;
    *ret = *section;
    ret->offset_within_region = run.first;
    ret->offset_within_address_space += run.first - first;
    ret->last = ret->offset_within_address_space + (run.last - run.first);
    if (ret->host) {
        ret->host = (uint8_t *)ret->host + (run.first - first);
    }
    return true;
}

static int tell_populate(RamDiscardListener *listener, AddrRange run)
{
    MemoryRegionSection piece;
    int ret = 0;

    if (listener->populate && section_cut(&listener->section, run, &piece)) {
        ret = listener->populate(listener, &piece);
    }
    return ret < 0 ? ret : 0;
}

static void tell_discard(RamDiscardListener *listener, AddrRange run)
{
    MemoryRegionSection piece;

    if (listener->discard && section_cut(&listener->section, run, &piece)) {
        listener->discard(listener, &piece);
    }
}

/* Backwards from listener. */
static void tell_discard_from(RamDiscardListener *listener, AddrRange run)
{
    for (; listener; listener = listener->prev) {
        tell_discard(listener, run);
    }
}

static int tell_populate_all(Population *p, AddrRange run)
{
    RamDiscardListener *listener;
    int err;

    for (listener = p->listeners; listener; listener = listener->next) {
        err = tell_populate(listener, run);
        if (err < 0) {
            tell_discard_from(listener->prev, run);
            return err;
        }
    }
    return 0;
}

/* ---- sources -------------------------------------------------------------------------------------------------- */

static void set_bits(RamDiscardSource *source, uint64_t first, uint64_t last, bool discarded)
{
    DirtyBitmap *map = source->discarded;

    if (discarded) {
        dirty_bitmap_set(map, first >> map->shift, last >> map->shift);
    } else {
        dirty_bitmap_clear(map, first >> map->shift, last >> map->shift);
    }
}

void population_add(Population *p, RamDiscardSource *source, void *discarded)
{
    source->discarded = discarded;
    source->next = p->sources;
    region_poke(p->sources, source);
    live_add(LIVE_DISCARD_SOURCES, 1);
}

void population_del(Population *p, RamDiscardSource *source)
{
    RamDiscardSource **link;

    for (link = &p->sources; *link != source; link = &(*link)->next) {
    }
    region_poke(*link, source->next);
    dirty_bitmap_free(source->discarded);
    live_sub(LIVE_DISCARD_SOURCES, 1);
    *source = (RamDiscardSource){.mr = NULL};
}

int population_populate(Population *p, RamDiscardSource *source, uint64_t first, uint64_t last)
{
    uint64_t at = first, again = first;
    AddrRange run, told;
    int err;

    while (next_change(p, source, true, &at, last, &run)) {
        err = tell_populate_all(p, run);
        if (err < 0) {
            while (next_change(p, source, true, &again, last, &told) && told.first != run.first) {
                tell_discard_from(p->listeners_last, told);
            }
            return err;
        }
    }
    set_bits(source, first, last, false);
    return 0;
}

void population_discard(Population *p, RamDiscardSource *source, uint64_t first, uint64_t last)
{
    uint64_t at = first;
    AddrRange run;

    while (next_change(p, source, false, &at, last, &run)) {
        tell_discard_from(p->listeners_last, run);
    }
    set_bits(source, first, last, true);
}

/* ---- listeners ------------------------------------------------------------------------------------------------ */

static int replay_populate(const MemoryRegionSection *piece, void *arg)
{
    RamDiscardListener *listener = arg;
    int ret = listener->populate ? listener->populate(listener, piece) : 0;

    return ret < 0 ? ret : 0;
}

typedef struct TakeBack {
    RamDiscardListener *listener;
    uint64_t before; /* pieces at this offset or beyond it were not taken */
} TakeBack;

static int replay_discard(const MemoryRegionSection *piece, void *arg)
{
    TakeBack *back = arg;

    if (piece->offset_within_region >= back->before) {
        return 1;
    }
    if (back->listener->discard) {
        back->listener->discard(back->listener, piece);
    }
    return 0;
}

typedef struct Register {
    RamDiscardListener *listener;
    uint64_t refused_at;
} Register;

static int replay_register(const MemoryRegionSection *piece, void *arg)
{
    Register *reg = arg;

    reg->refused_at = piece->offset_within_region;
    return replay_populate(piece, reg->listener);
}

int population_register(Population *p, RamDiscardListener *listener)
{
    Register reg = {.listener = listener};
    TakeBack back;
    int err = population_replay(p, &listener->section, true, replay_register, &reg);

    if (err < 0) {
        back = (TakeBack){listener, reg.refused_at};
        population_replay(p, &listener->section, true, replay_discard, &back);
        return err;
    }
    listener->next = NULL;
    listener->prev = p->listeners_last;
    *(listener->prev ? &listener->prev->next : &p->listeners) = listener;
    p->listeners_last = listener;
    live_add(LIVE_DISCARD_LISTENERS, 1);
    return 0;
}

void population_unregister(Population *p, RamDiscardListener *listener)
{
    TakeBack back = {listener, UINT64_MAX};

    population_replay(p, &listener->section, true, replay_discard, &back);
    *(listener->prev ? &listener->prev->next : &p->listeners) = listener->next;
    *(listener->next ? &listener->next->prev : &p->listeners_last) = listener->prev;
    listener->section = (MemoryRegionSection){.mr = NULL};
    live_sub(LIVE_DISCARD_LISTENERS, 1);
}

int population_replay(const Population *p, const MemoryRegionSection *section, bool populated, PopulationFn fn, void *arg)
{
    uint64_t at = section->offset_within_region;
    uint64_t last = at + (section->last - section->offset_within_address_space);
    MemoryRegionSection piece;
    AddrRange run;
    int ret = 0;

    while (ret == 0 && next_run(p, populated, &at, last, &run)) {
        section_cut(section, run, &piece);
        ret = fn(&piece, arg);
    }
    return ret;
}
