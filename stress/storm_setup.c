/* SPDX-License-Identifier: MIT */
/*
 * storm_setup.c - the machine, the spaces that are watched, and what may change in it.
 *
 * Invariant: every range of memory is mapped at whole pages (or storm.memory_aligned is false, and nobody writes to
 * memory), and stays so; no target can make the tree show itself without end. Established here, before the threads
 * start.
 */
#include "storm_accel.h"

#include "builtin.h"

#include <stdlib.h>
#include <string.h>

/* ---- what the map says ---- */

/* Does a region show memory, or can it? By index; filled by note_memory(). */
static uint8_t *memory_seen; /* 0: not asked, 1: being asked, 2: no, 3: yes */

static bool shows_memory(uint32_t i)
{
    const TopoRegion *r = &storm.topo.regions[i];
    bool yes;

    if (memory_seen[i]) {
        return memory_seen[i] == 3;
    }
    memory_seen[i] = 1;
    yes = (r->flags & (TOPO_RAM | TOPO_ROM_DEVICE)) || (r->alias != TOPO_NONE && shows_memory(r->alias));
    for (uint32_t c = r->first_child; c != TOPO_NONE && !yes; c = storm.topo.regions[c].below) {
        yes = shows_memory(c);
    }
    memory_seen[i] = yes ? 3 : 2;
    return yes;
}

/* Can what i shows include the region at `wanted`? A depth-first search; marks are this search's number. */
static bool reaches(uint32_t i, uint32_t wanted, uint32_t *marks, uint32_t mark)
{
    const TopoRegion *r = &storm.topo.regions[i];

    if (i == wanted) {
        return true;
    }
    if (marks[i] == mark) {
        return false;
    }
    marks[i] = mark;
    if (r->alias != TOPO_NONE) {
        return reaches(r->alias, wanted, marks, mark);
    }
    for (uint32_t c = r->first_child; c != TOPO_NONE; c = storm.topo.regions[c].below) {
        if (reaches(c, wanted, marks, mark)) {
            return true;
        }
    }
    return false;
}

/*
 * A bus may show a window of itself, as long as the window does not show itself. Whoever moved such an alias, or what
 * lies between it and its target, could close the circle: they stay where they are.
 */
static bool note_fixed(bool *fixed)
{
    uint32_t *marks = calloc(storm.topo.n_regions + 1, sizeof(*marks)), mark = 0;

    for (uint32_t i = 0; marks && i < storm.topo.n_regions; i++) {
        if (storm.topo.regions[i].alias != TOPO_NONE && reaches(storm.topo.regions[i].alias, i, marks, ++mark)) {
            for (uint32_t at = i; at != TOPO_NONE; at = storm.topo.regions[at].container) {
                fixed[at] = true;
            }
        }
    }
    free(marks);
    return marks != NULL;
}

static MemoryRegion *region(uint32_t i)
{
    return &storm.machine.regions[i]->mr;
}

/* ---- what is watched ---- */

static bool watch(MachineSpace *space)
{
    StormSpace *s = aligned_alloc(64, (sizeof(*s) + 63) & ~(size_t)63);

    if (s) {
        memset(s, 0, sizeof(*s));
        s->as = &space->as;
        s->name = address_space_name(s->as);
        s->root = storm.topo.spaces[space->index].root;
        storm.spaces[storm.n_spaces++] = s;
    }
    return s != NULL;
}

/* Every CPU has spaces of its own, and every function of a device: one of each sort will do. */
static bool same_sort(const char *a, const char *b)
{
    size_t n = strcspn(a, "0123456789");

    return a[n] && n == strcspn(b, "0123456789") && strncmp(a, b, n) == 0;
}

static bool is_watched(MachineSpace *space)
{
    FlatView *view = address_space_get_flatview(&space->as);
    bool seen = false;

    for (unsigned i = 0; i < storm.n_spaces; i++) {
        FlatView *other = address_space_get_flatview(storm.spaces[i]->as);

        seen |= other == view || same_sort(storm.spaces[i]->name, address_space_name(&space->as));
        flatview_unref(other);
    }
    flatview_unref(view);
    return seen;
}

/* The space with the most to see; then others that show other things; then one that shares the first one's view. */
static bool choose_spaces(InputError *err)
{
    size_t n = storm.topo.n_spaces, first = 0, most = 0;
    bool ok;

    for (size_t i = 0; i < n; i++) {
        FlatView *view = address_space_get_flatview(&storm.machine.spaces[i]->as);
        size_t count = shows_memory(storm.topo.spaces[i].root) ? flatview_count(view) : 0;

        first = count > most ? i : first;
        most = count > most ? count : most;
        flatview_unref(view);
    }
    if (!n) {
        return input_fail(err, 0, "there is no address space in it");
    }
    ok = watch(storm.machine.spaces[first]);
    for (size_t i = 0; ok && i < n && storm.n_spaces < STORM_MAX_SPACES - 2; i++) {
        ok = is_watched(storm.machine.spaces[i]) || watch(storm.machine.spaces[i]);
    }
    for (size_t i = 0; ok && i < n; i++) {
        if (i != first && storm.topo.spaces[i].view == storm.topo.spaces[first].view) {
            ok = watch(storm.machine.spaces[i]);
            break;
        }
    }
    return ok || input_no_memory(err, 0);
}

static bool is_place(uint32_t i)
{
    const TopoRegion *r = &storm.topo.regions[i];

    return r->alias == TOPO_NONE && !(r->flags & TOPO_KIND_FLAGS) && r->size >= UINT64_C(1) << 20;
}

/* Where devices are plugged: the top of the first space, and the fullest container below, which is a bus. */
static void choose_places(void)
{
    uint32_t top = storm.spaces[0]->root, bus = TOPO_NONE;
    size_t most = 0;

    while (storm.topo.regions[top].alias != TOPO_NONE) {
        top = storm.topo.regions[top].alias;
    }
    for (uint32_t i = 0; i < storm.topo.n_regions; i++) {
        size_t n = 0;

        for (uint32_t c = storm.topo.regions[i].first_child; c != TOPO_NONE; c = storm.topo.regions[c].below) {
            n++;
        }
        if (n > most && i != top && is_place(i)) {
            most = n;
            bus = i;
        }
    }
    memset(memory_seen, 0, storm.topo.n_regions);
    storm.plug_places[storm.n_plug_places++] = region(top);
    memory_seen[top] = 3; /* devices bring memory along */
    if (bus != TOPO_NONE) {
        storm.plug_places[storm.n_plug_places++] = region(bus);
        memory_seen[bus] = 3;
    }
    for (unsigned i = 0; i < storm.n_spaces; i++) {
        storm.spaces[i]->has_memory = shows_memory(storm.spaces[i]->root);
    }
}

/* ---- who changes what ---- */

bool writer_init(StormThread *t)
{
    Writer *w = &t->writer;
    unsigned mine = t->index - storm.n_vcpus, next = 0;
    bool *fixed = calloc(storm.topo.n_regions + 1, sizeof(*fixed));

    w->targets = calloc(storm.topo.n_regions + 1, sizeof(*w->targets));
    w->away = calloc(storm.topo.n_regions + 1, sizeof(*w->away));
    if (!fixed || !w->targets || !w->away || !note_fixed(fixed)) {
        free(fixed);
        return false;
    }
    for (uint32_t i = 0; i < storm.topo.n_regions; i++) {
        MemoryRegion *mr = region(i);

        if (storm.topo.regions[i].container != TOPO_NONE && !fixed[i] && next++ % storm.n_writers == mine) {
            w->targets[w->n_targets++] = (Target){
                .mr = mr,
                .parent = memory_region_get_parent(mr),
                .addr = memory_region_get_addr(mr),
                .size = memory_region_size(mr),
                .priority = memory_region_get_priority(mr),
                .alias_offset = memory_region_get_alias_offset(mr),
                .enabled = memory_region_is_enabled(mr),
                .readonly = memory_region_is_readonly(mr),
                .nonvolatile = memory_region_is_nonvolatile(mr),
                .romd = memory_region_is_romd(mr),
                .has_memory = shows_memory(i),
                .is_alias = storm.topo.regions[i].alias != TOPO_NONE,
                .is_rom = memory_region_is_rom(mr),
                .is_rom_device = memory_region_is_rom_device(mr),
            };
        }
    }
    free(fixed);
    for (unsigned i = 0; i < WRITER_DEVICES; i++) {
        w->devices[i] = hot_new(i % MODELS, STORM_PAGE, i % 3 == 0);
    }
    return memory_region_init(&w->ballast, "ballast", 1) == 0;
}

void writer_fini(StormThread *t)
{
    free(t->writer.targets);
    free(t->writer.away);
}

/* ---- beginning and end ---- */

bool storm_setup(const char *file, const StormAccel *accel, InputError *err)
{
    const MachineOptions options = { .io_ops = choose_ops, .rom_ops = model_ops(MODEL_PLAIN) };
    static MemoryRegion *places[2];

    if (!(file ? topo_read_any(&storm.topo, file, err) : topo_parse(&storm.topo, builtin_q35, builtin_q35_len, err))) {
        return false;
    }
    storm.plug_places = places;
    machine_init(&storm.machine, &options);
    memory_seen = calloc(storm.topo.n_regions + 1, 1);
    if (!memory_seen || !machine_become(&storm.machine, &storm.topo, NULL, err)) {
        return memory_seen ? false : input_no_memory(err, 0);
    }
    if (!make_backings()) {
        return input_no_memory(err, 0);
    }
    if (!choose_spaces(err)) {
        return false;
    }
    choose_places();
    if (!stamp_memory() || (accel && !accel_setup(accel))) {
        return input_no_memory(err, 0);
    }
    memory_reclaim();
    memory_get_stats(&storm.start);
    return true;
}

void storm_forget(void)
{
    for (size_t i = 0; i < storm.topo.n_regions; i++) {
        free(storm.backings[i].pages);
    }
    free(storm.backings);
    free(memory_seen);
    topo_free(&storm.topo);
}
