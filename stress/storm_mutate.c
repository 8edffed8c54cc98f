/* SPDX-License-Identifier: MIT */
/*
 * storm_mutate.c - the changes that transactions are made of: what guests, firmware and hot-plug do to a map.
 *
 * Invariant: a target has one writer, which alone changes it; so what the writer knows of its targets and devices is
 * true outside transactions too. Each call here is one that must succeed: any error is a violation, except what a
 * listener refuses. At most one in AWAY_SHARE of a writer's targets is away from where it was at the start, so that
 * the map stays the map of a machine. Memory moves by whole pages (storm.h, SCRATCH).
 */
#include "storm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define AWAY_SHARE 6

static Target *target(StormThread *t, uint32_t index)
{
    return &t->writer.targets[index];
}

/* Where a region stands if no alias shows it elsewhere: good enough to know where to look. */
static hwaddr absolute(const MemoryRegion *mr)
{
    hwaddr addr = 0;

    for (; mr; mr = memory_region_get_parent(mr)) {
        addr += memory_region_get_addr(mr);
    }
    return addr;
}

static void mark_at(StormThread *t, hwaddr addr)
{
    Writer *w = &t->writer;

    w->marks[w->n_marks < WRITER_MARKS ? w->n_marks++ : storm_below(t, WRITER_MARKS)] = addr;
}

void writer_mark(StormThread *t, MemoryRegion *mr)
{
    uint64_t size = memory_region_size(mr);
    hwaddr addr = absolute(mr);

    mark_at(t, addr);
    mark_at(t, addr + size - 1);
    mark_at(t, addr + storm_below(t, size));
}

static bool is_away(const Target *g)
{
    return memory_region_get_addr(g->mr) != g->addr || memory_region_size(g->mr) != g->size ||
           memory_region_get_priority(g->mr) != g->priority || memory_region_is_enabled(g->mr) != g->enabled ||
           memory_region_is_nonvolatile(g->mr) != g->nonvolatile ||
           (!g->is_rom && memory_region_is_readonly(g->mr) != g->readonly) ||
           (g->is_rom_device && memory_region_is_romd(g->mr) != g->romd) ||
           (g->is_alias && memory_region_get_alias_offset(g->mr) != g->alias_offset);
}

static int place_again(const Target *g, hwaddr addr, int priority)
{
    int error = memory_region_del_subregion(g->parent, g->mr);

    return error ? error : memory_region_add_subregion_overlap(g->parent, addr, g->mr, priority);
}

static int send_home(const Target *g)
{
    int error = memory_region_set_enabled(g->mr, g->enabled);

    error = error ? error : memory_region_set_size(g->mr, g->size);
    error = error ? error : memory_region_set_nonvolatile(g->mr, g->nonvolatile);
    if (!error && !g->is_rom) {
        error = memory_region_set_readonly(g->mr, g->readonly);
    }
    if (!error && g->is_rom_device) {
        error = memory_region_rom_device_set_romd(g->mr, g->romd);
    }
    if (!error && g->is_alias) {
        error = memory_region_set_alias_offset(g->mr, g->alias_offset);
    }
    if (!error && memory_region_get_priority(g->mr) != g->priority) {
        return place_again(g, g->addr, g->priority);
    }
    return error ? error : memory_region_set_address(g->mr, g->addr);
}

/* Somewhere in the parent, near or far, aligned as such a thing would be. */
static hwaddr somewhere(StormThread *t, const Target *g)
{
    uint64_t room = memory_region_size(g->parent), step = g->has_memory ? STORM_PAGE : 4;
    hwaddr far = UINT64_C(1) << (12 + storm_below(t, 25)), unit = (g->size + step - 1) & ~(step - 1);

    if (storm_chance(t, 2)) {
        unit = unit && unit <= room / 32 ? unit : step;
        return g->addr + (storm_below(t, 33) - 16) * unit; /* may begin before its parent: shows nothing, or its end */
    }
    return g->addr % step + storm_below(t, far < room ? far : room) / step * step;
}

static uint64_t some_size(StormThread *t, const Target *g)
{
    uint64_t size = g->size >> (1 + storm_below(t, 3));

    if (!g->size || storm_chance(t, 16)) {
        return 0;
    }
    return size ? size : 1;
}

static int disturb(StormThread *t, const Target *g)
{
    switch (storm_below(t, 10)) {
    case 0:
        return memory_region_set_readonly(g->mr, g->is_rom || !g->readonly);
    case 1:
        return memory_region_set_nonvolatile(g->mr, !g->nonvolatile);
    case 2:
        return memory_region_set_size(g->mr, some_size(t, g));
    case 3:
        return place_again(g, g->addr, g->priority + (int)storm_below(t, 5) - 2);
    case 4:
        if (memory_region_get_ram_ptr(g->mr)) {
            bool log = memory_region_is_logging(g->mr, DIRTY_MEMORY_VGA); /* global logging has MIGRATION */

            return memory_region_set_log(g->mr, !log, DIRTY_MEMORY_VGA);
        }
        break;
    case 5:
        if (g->is_rom_device) {
            return memory_region_rom_device_set_romd(g->mr, !g->romd);
        }
        break;
    case 6:
        if (g->is_alias) {
            return memory_region_set_alias_offset(g->mr, g->alias_offset + storm_below(t, 64) * STORM_PAGE);
        }
        break;
    case 7:
        break;
    default:
        return memory_region_set_address(g->mr, somewhere(t, g));
    }
    return memory_region_set_enabled(g->mr, !g->enabled);
}

static int change_target(StormThread *t)
{
    Writer *w = &t->writer;
    bool many_away = w->n_away > w->n_targets / AWAY_SHARE;
    uint32_t index = (uint32_t)storm_below(t, w->n_targets);
    const Target *g;
    int error;

    if (!w->n_targets) {
        return 0;
    }
    if (w->n_away && (many_away || storm_chance(t, 4))) {
        index = w->away[storm_below(t, w->n_away)];
    }
    g = target(t, index);
    writer_mark(t, g->mr);
    if (w->n_touched < sizeof(w->touched) / sizeof(w->touched[0])) {
        w->touched[w->n_touched++] = index;
    } else {
        return 0; /* enough for one transaction: what it does not remember it could not settle */
    }
    error = is_away(g) && (many_away || !storm_chance(t, 3)) ? send_home(g) : disturb(t, g);
    writer_mark(t, g->mr);
    return error;
}

static int change_device(StormThread *t)
{
    Writer *w = &t->writer;
    unsigned i = (unsigned)storm_below(t, WRITER_DEVICES);
    MemoryRegion *place = storm.plug_places[storm_below(t, storm.n_plug_places)];
    HotDevice *d = w->devices[i];
    int error;

    if ((w->going | w->coming) >> i & 1) {
        return 0; /* once in a transaction is enough to keep the books by */
    }
    if (!w->plugged[i]) {
        if (!d) {
            return 0;
        }
        w->coming |= 1u << i;
        error = hot_plug(d, place, storm_below(t, 1u << storm_below(t, 21)) * STORM_PAGE, (int)storm_below(t, 6) - 2);
        writer_mark(t, &d->at[HOT_BOX].region.mr);
        return error;
    }
    writer_mark(t, &d->at[HOT_BOX].region.mr);
    switch (storm_below(t, 6)) {
    case 0:
        return memory_region_set_address(&d->at[HOT_REGS].region.mr, storm_below(t, 40) * STORM_PAGE);
    case 1:
        if (memory_region_is_rom_device(&d->at[HOT_MEMORY].region.mr) && storm_chance(t, 2)) {
            return memory_region_rom_device_set_romd(&d->at[HOT_MEMORY].region.mr, storm_chance(t, 2));
        }
        return memory_region_set_address(&d->at[HOT_MEMORY].region.mr, storm_below(t, 40) * STORM_PAGE);
    case 2:
        return memory_region_set_alias_offset(&d->at[HOT_WINDOW].region.mr, storm_below(t, 64) * 64);
    case 3: {
        Backing *b = &d->at[HOT_REGS].backing;
        uint64_t bias = __atomic_add_fetch(&b->bias, 1, __ATOMIC_RELAXED); /* first: callbacks check */

        return memory_region_set_offset(&d->at[HOT_REGS].region.mr, bias << BIAS_SHIFT);
    }
    default:
        w->going |= 1u << i;
        return hot_unplug(d);
    }
}

int writer_mutate(StormThread *t)
{
    return storm_chance(t, 4) ? change_device(t) : change_target(t);
}

/* After the transaction: was it done, or is everything as before? */
void writer_settle(StormThread *t, bool done)
{
    Writer *w = &t->writer;
    unsigned i;

    for (i = 0; i < WRITER_DEVICES; i++) {
        if (done && (w->going >> i & 1)) {
            w->devices[i] = NULL; /* it frees itself */
            w->plugged[i] = false;
        }
        if (done && (w->coming >> i & 1)) {
            w->plugged[i] = true;
        }
        if (!w->devices[i]) {
            w->devices[i] =
                hot_new((unsigned)storm_below(t, MODELS), (1 + storm_below(t, 4)) * STORM_PAGE, storm_chance(t, 3));
        }
    }
    for (i = 0; i < w->n_touched; i++) {
        size_t at;

        for (at = 0; at < w->n_away && w->away[at] != w->touched[i]; at++) {
        }
        if (is_away(target(t, w->touched[i]))) {
            w->away[at] = w->touched[i];
            w->n_away += at == w->n_away;
        } else if (at < w->n_away) {
            w->away[at] = w->away[--w->n_away];
        }
    }
    w->going = w->coming = 0;
    w->n_touched = 0;
}

int writer_go_home(StormThread *t)
{
    Writer *w = &t->writer;
    int error = memory_transaction_begin();

    if (error) {
        return error;
    }
    for (size_t i = 0; i < w->n_targets && !error; i++) {
        error = is_away(&w->targets[i]) ? send_home(&w->targets[i]) : 0;
    }
    for (unsigned i = 0; i < WRITER_DEVICES && !error; i++) {
        if (w->plugged[i]) {
            error = hot_unplug(w->devices[i]);
            w->going |= 1u << i;
        }
    }
    if (error) {
        memory_transaction_abort();
        return error;
    }
    error = memory_transaction_commit();
    for (unsigned i = 0; i < WRITER_DEVICES && !error; i++) {
        if (!(w->going >> i & 1) && w->devices[i]) {
            error = hot_discard(w->devices[i]);
        }
        w->devices[i] = NULL;
    }
    error = error ? error : memory_region_destroy(&w->ballast);
    return error ? error : memory_region_quiesce(&w->ballast);
}
