/* SPDX-License-Identifier: MIT */
/*
 * storm_setup.c - the machine, the spaces that are watched, and how all of it ends.
 *
 * Invariant, from storm_setup() to storm_calm(): every region that can show in a watched space has a Backing; every range
 * of memory is mapped at whole pages (or storm.memory_aligned is false, and nobody writes to memory); no target can make
 * the tree show itself without end. After storm_calm() the library holds what it held before, or that is a violation.
 *
 * Everything here runs on the main thread, before the others start and after they ended.
 */
#include "storm.h"

#include "builtin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STAMP_FIRST_PAGES 384
#define STAMP_EDGE_PAGES 16
#define MIRRORED_SPACES 3

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
 * A bus may show a window of itself, as long as the window does not show itself. Whoever moved such an alias, or what lies
 * between it and its target, could close the circle: they stay where they are.
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

/* ---- what answers ---- */

static const MemoryRegionOps *choose_ops(const TopoRegion *topo, const MachineOptions *options)
{
    static const uint8_t dice[] = { MODEL_PLAIN, MODEL_PLAIN, MODEL_PLAIN, MODEL_NARROW_BE, MODEL_NARROW_BE, MODEL_WORDS,
                                    MODEL_WORDS, MODEL_READ_ONLY, MODEL_WRITE_ONLY, MODEL_FAULTY, MODEL_FAULTY,
                                    MODEL_SILENT };

    (void)options;
    return model_ops(dice[(backing_word((uint32_t)topo->id, 0) ^ storm.seed) % sizeof(dice)]);
}

static bool make_backings(void)
{
    size_t n = storm.topo.n_regions;

    storm.backings = calloc(n + 1, sizeof(*storm.backings));
    for (uint32_t i = 0; storm.backings && i < n; i++) {
        const TopoRegion *r = &storm.topo.regions[i];
        Backing *b = &storm.backings[i];

        *b = (Backing){ .canary = BACKING_ALIVE, .id = backing_new_id(), .size = r->size };
        if (r->flags & (TOPO_RAM | TOPO_ROM_DEVICE)) {
            b->kind = r->flags & TOPO_RAM ? BACKING_MEMORY : BACKING_ROM_DEVICE;
            b->host = memory_region_get_ram_ptr(region(i));
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
static bool stamp_memory(void)
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

/* The space with the most to see first; then others that show other things; then one that shares the first one's view. */
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
    for (size_t i = 0; ok && i < n && storm.n_spaces < STORM_MAX_SPACES - 1; i++) {
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
    return true;
}

void writer_fini(StormThread *t)
{
    free(t->writer.targets);
    free(t->writer.away);
}

/* A write to its registers moves them: a commit from inside an access. Only when its own vCPU writes. */
static void own_written(Backing *b)
{
    StormThread *t = storm_self;
    HotDevice *d = t->own;
    int error;

    if (!d || b != &d->at[HOT_REGS].backing || t->depth != 1 || history_is_long(2)) {
        return;
    }
    error = memory_transaction_begin();
    if (!error) {
        error = memory_region_set_address(&d->at[HOT_REGS].region.mr, (16 + storm_below(t, 40)) * STORM_PAGE);
        error = error ? error : memory_region_set_enabled(&d->at[HOT_WINDOW].region.mr, storm_chance(t, 2));
        if (error) {
            memory_transaction_abort();
        } else {
            error = memory_transaction_commit();
        }
    }
    if (error) {
        storm_violation("a commit inside a callback: %s", strerror(-error));
    }
    storm_count(&t->commits);
}

bool vcpu_init(StormThread *t)
{
    uint64_t room = memory_region_size(storm.plug_places[0]), place = UINT64_C(0xc0000000);

    place = (room > UINT64_C(1) << 32 ? place : room / 2 / STORM_PAGE * STORM_PAGE) + t->index * 80ull * STORM_PAGE;
    t->own = hot_new(MODEL_PLAIN, STORM_PAGE, false);
    if (!t->own || hot_plug(t->own, storm.plug_places[0], place, 1000) != 0) {
        return false;
    }
    t->own->at[HOT_REGS].backing.written = own_written;
    return true;
}

/* ---- beginning and end ---- */

bool storm_setup(const char *file, InputError *err)
{
    const MachineOptions options = { .io_ops = choose_ops, .rom_ops = model_ops(MODEL_PLAIN) };
    static MemoryRegion *places[2];

    if (!(file ? topo_read_any(&storm.topo, file, err)
               : topo_parse(&storm.topo, builtin_q35, builtin_q35_len, err))) {
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
    if (!stamp_memory()) {
        return input_no_memory(err, 0);
    }
    memory_reclaim();
    memory_get_stats(&storm.start);
    return true;
}

/* Listeners, and the pins that last for the whole run. */
bool storm_watch(void)
{
    static const int priorities[] = { 5, 7, 2 };
    bool ok = slots_init();

    for (unsigned i = 0; i < storm.n_spaces && ok; i++) {
        StormSpace *s = storm.spaces[i];

        ok = history_start(s) && refuser_start(&storm.refusers[i], s->as, (int)(i % 3) * 4);
        if (ok && i < MIRRORED_SPACES) {
            ok = mirror_start(&storm.mirrors[i][0], s->as, "by spans", true, priorities[i]) &&
                 mirror_start(&storm.mirrors[i][1], s->as, "by regions", false, 12 - priorities[i]);
        }
        s->pinned = address_space_get_flatview(s->as);
        ok = ok && !sections_of(&s->pinned_sections, s->pinned);
    }
    return ok;
}

/* R2: a view that was pinned at the start is still, byte for byte, what it was. */
void storm_check_pins(void)
{
    char what[400];

    for (unsigned i = 0; i < storm.n_spaces; i++) {
        StormSpace *s = storm.spaces[i];

        if (!sections_match(&s->pinned_sections, s->pinned, what, sizeof(what))) {
            storm_violation("%s: the view pinned at the start has changed: %s", s->name, what);
        }
    }
}

static void demand_level(const char *what, uint64_t before, uint64_t after, uint64_t slack)
{
    if (after > before + slack) {
        storm_violation("%s: %llu before the storm, %llu after it", what, (unsigned long long)before,
                        (unsigned long long)after);
    }
}

bool storm_calm(void)
{
    MemoryStats end;
    bool ok = true;

    for (unsigned i = 0; i < storm.n_threads; i++) {
        StormThread *t = storm.threads[i];

        ok = (t->is_writer ? writer_go_home(t) == 0 : hot_unplug(t->own) == 0) && ok;
    }
    if (!ok) {
        storm_violation("what the storm moved does not go home");
    }
    storm_check_pins();
    audit_everything(storm.threads[0]);
    for (unsigned i = 0; i < storm.n_spaces; i++) {
        StormSpace *s = storm.spaces[i];

        if (i < MIRRORED_SPACES) {
            mirror_stop(&storm.mirrors[i][0]);
            mirror_stop(&storm.mirrors[i][1]);
        }
        ok = memory_listener_unregister(&storm.refusers[i]) == 0 && ok;
        ok = history_stop(s) && ok;
        flatview_unref(s->pinned);
        sections_free(&s->pinned_sections);
    }
    if (!ok) {
        storm_violation("a listener does not leave");
    }
    slots_fini();
    for (unsigned i = 0; i < 8; i++) {
        memory_reclaim();
    }
    if (hot_alive()) {
        storm_violation("%llu devices were never released", (unsigned long long)hot_alive());
    }
    memory_get_stats(&end);
    demand_level("regions", storm.start.regions, end.regions, 0);
    demand_level("address spaces", storm.start.address_spaces, end.address_spaces, 0);
    demand_level("listeners", storm.start.listeners, end.listeners, 0);
    demand_level("pinned bytes", storm.start.pinned_bytes, end.pinned_bytes, 0);
    demand_level("live bytes", storm.start.live_bytes, end.live_bytes, storm.start.live_bytes / 4 + (512u << 10));
    return __atomic_load_n(&storm.violations, __ATOMIC_RELAXED) == 0;
}

void storm_teardown(void)
{
    machine_fini(&storm.machine, NULL);
    hot_finish();
    for (unsigned i = 0; i < storm.n_spaces; i++) {
        free(storm.spaces[i]);
    }
    for (size_t i = 0; i < storm.topo.n_regions; i++) {
        free(storm.backings[i].pages);
    }
    free(storm.backings);
    free(memory_seen);
    topo_free(&storm.topo);
}
