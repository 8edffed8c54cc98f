/* SPDX-License-Identifier: MIT */
/*
 * storm_accel.c - the space that an accelerator mirrors in the storm, and what its table is compared with.
 *
 * Invariant: what the accelerator has mapped is a part of the old view and of the new one when the last removal of a commit is
 * done (checked before the first addition of anybody else), and what the current view asks for, all of it and nothing else, when
 * a commit is over and whenever nobody commits. What counts is what the other side was told, not what the accelerator believes.
 * The accesses of its guest are judged by storm_access.c against the views of the same space.
 * Established by: the two listeners here, one of less and one of more priority than the accelerator, and accel_rest(), each
 * under the topology lock, which also guards `pieces`.
 *
 * The space shows the storm's first space through an alias, and above it memory that is the guest's own. Its code is replaced
 * by itself over and over (accel_rest()), which a vCPU survives only if it is held meanwhile.
 */
#include "storm_accel.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FULL_COMPARISON 8 /* one commit in so many */
#define FLIPS 6

static const StormAccel *const accels[] = {
#ifdef FLATVIEW_STORM_KVM
    &storm_kvm,
#endif
    &storm_unicorn, /* the last one: where it is not linked its address is NULL */
    NULL,
};

static struct {
    const StormAccel *accel;
    AddressSpace as;
    StormSpace *space;
    MemoryRegion root, window;
    MachineRegion code, pages;
    Backing code_backing, pages_backing;
    bool attached, listening;
    MemoryListener below, above;
    const MemoryDelta *delta; /* of the commit under way */
    bool checked;             /* between its removals and its additions */
    unsigned commits;
    uint64_t comparisons, checks;
} self;

static AccelPieces pieces;

/* ---- which there are ---- */

const StormAccel *accel_find(const char *name)
{
    const StormAccel *const *a = accels;

    while (*a && strcmp((*a)->name, name) != 0) {
        a++;
    }
    return *a;
}

const char *accel_names(void)
{
    static char names[80];

    names[0] = '\0';
    for (const StormAccel *const *a = accels; *a; a++) {
        snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", names[0] ? ", " : "", (*a)->name);
    }
    return names[0] ? names : "none";
}

/* ---- comparing ---- */

bool pieces_add(AccelPieces *list, const AccelPiece *piece)
{
    if (list->n == list->room) {
        size_t room = list->room ? 2 * list->room : 64;
        AccelPiece *grown = realloc(list->list, room * sizeof(*grown));

        if (!grown) {
            return false;
        }
        list->list = grown;
        list->room = room;
    }
    list->list[list->n++] = *piece;
    return true;
}

static int by_address(const void *a, const void *b)
{
    const AccelPiece *x = a, *y = b;

    return x->first < y->first ? -1 : x->first > y->first;
}

static bool read_table(unsigned i)
{
    pieces.n = 0;
    if (!self.accel->table(i, &pieces)) {
        return false;
    }
    qsort(pieces.list, pieces.n, sizeof(*pieces.list), by_address);
    for (size_t k = 1; k < pieces.n; k++) {
        if (pieces.list[k].first <= pieces.list[k - 1].last) {
            storm_violation("%s: table %u has %llx twice", self.accel->name, i, (unsigned long long)pieces.list[k].first);
        }
    }
    return true;
}

static bool same_memory(const AccelPiece *piece, const MemoryRegionSection *s, hwaddr at)
{
    bool readonly = false;

    return s->host && self.accel->wants(s, &readonly) &&
           (readonly == piece->readonly || (self.accel->lazy && piece->readonly)) &&
           (uint8_t *)s->host + (at - s->offset_within_address_space) == piece->host + (at - piece->first);
}

/* Each byte of the table is what the view says. */
static void demand_true(const FlatView *view, const char *when)
{
    for (size_t k = 0; k < pieces.n; k++) {
        const AccelPiece *piece = &pieces.list[k];
        MemoryRegionSection s;
        hwaddr at = piece->first;

        while (flatview_find(view, at, &s) && same_memory(piece, &s, at) && s.last < piece->last) {
            at = s.last + 1;
        }
        if (!flatview_find(view, at, &s) || !same_memory(piece, &s, at)) {
            storm_violation("%s: %s, %llx to %llx is mapped%s, and at %llx that is not what the view of generation %llu says",
                            self.accel->name, when, (unsigned long long)piece->first, (unsigned long long)piece->last,
                            piece->readonly ? " read-only" : "", (unsigned long long)at,
                            (unsigned long long)flatview_generation(view));
            return;
        }
    }
}

/* The whole pages of a section; false: there is none, or they do not lie in the host as in the guest. */
static bool whole_pages(const MemoryRegionSection *s, hwaddr *ret_first, hwaddr *ret_last)
{
    const hwaddr mask = STORM_PAGE - 1;

    *ret_first = (s->offset_within_address_space + mask) & ~mask;
    *ret_last = ((s->last + 1) & ~mask) - 1;
    return (((uintptr_t)s->host ^ s->offset_within_address_space) & mask) == 0 &&
           *ret_first >= s->offset_within_address_space && *ret_first < *ret_last && *ret_last <= s->last;
}

typedef struct Missing {
    size_t k; /* pieces before it lie below */
    hwaddr first;
    bool found;
} Missing;

static int look_for_missing(const MemoryRegionSection *s, void *arg)
{
    Missing *missing = arg;
    bool readonly = false;
    hwaddr at, last;

    if (!s->host || !self.accel->wants(s, &readonly) || !whole_pages(s, &at, &last)) {
        return 0;
    }
    while (at <= last) {
        while (missing->k < pieces.n && pieces.list[missing->k].last < at) {
            missing->k++;
        }
        if (missing->k == pieces.n || pieces.list[missing->k].first > at) {
            missing->first = at;
            missing->found = true;
            return 1;
        }
        at = pieces.list[missing->k].last + 1;
    }
    return 0;
}

static void demand_complete(const FlatView *view, const char *when)
{
    Missing missing = { .k = 0 };

    if (!self.accel->lazy) {
        flatview_for_each_range(view, 0, UINT64_MAX, look_for_missing, &missing);
    }
    if (missing.found) {
        storm_violation("%s: %s, memory at %llx is not mapped", self.accel->name, when, (unsigned long long)missing.first);
    }
}

/* Under the topology lock, between commits or at the end of one. */
static void compare(const char *when)
{
    const FlatView *view = address_space_current(self.space->as);

    for (unsigned i = 0; read_table(i); i++) {
        demand_true(view, when);
        demand_complete(view, when);
    }
    self.comparisons++;
}

/* ---- the listeners ---- */

static int below_prepare(MemoryListener *listener, const MemoryDelta *delta)
{
    (void)listener;
    self.delta = delta->old_view ? delta : NULL;
    self.checked = false;
    return 0;
}

static void check_between(void)
{
    if (!self.delta || self.checked || !self.attached) {
        return;
    }
    self.checked = true;
    for (unsigned i = 0; read_table(i); i++) {
        demand_true(self.delta->old_view, "after all removals, by the old view");
        demand_true(self.delta->new_view, "after all removals, by the new view");
    }
    self.checks++;
}

static void below_span_add(MemoryListener *listener, const MemorySpan *span)
{
    (void)listener;
    (void)span;
    check_between();
}

static void below_commit(MemoryListener *listener)
{
    (void)listener;
    if (!self.checked) { /* nothing was added */
        check_between();
    }
    self.delta = NULL;
}

static void above_commit(MemoryListener *listener)
{
    (void)listener;
    if (self.attached && ++self.commits % FULL_COMPARISON == 0) {
        compare("at the end of a commit");
    }
}

/* ---- the guest's own memory ---- */

GuestOp *accel_guest_page(unsigned vcpu)
{
    return (GuestOp *)(void *)(self.pages_backing.host + (size_t)vcpu * STORM_PAGE);
}

static bool make_memory(MachineRegion *region, Backing *backing, const char *name, uint64_t size, hwaddr addr)
{
    *backing = (Backing){
        .canary = BACKING_ALIVE, .id = backing_new_id(), .kind = BACKING_MEMORY, .size = size, .is_private = true
    };
    region->user = backing;
    if (memory_region_init_ram(&region->mr, name, size) != 0 ||
        memory_region_add_subregion_overlap(&self.root, addr, &region->mr, 1) != 0) {
        return false;
    }
    backing->host = memory_region_get_ram_ptr(&region->mr);
    return true;
}

bool accel_setup(const StormAccel *accel)
{
    size_t len = (size_t)(storm_guest_code_end - storm_guest_code);
    StormSpace *s = aligned_alloc(64, (sizeof(*s) + 63) & ~(size_t)63);

    if (!s || memory_region_init(&self.root, "guest", UINT64_MAX) != 0 ||
        memory_region_init_alias(&self.window, "guest-window", address_space_root(storm.spaces[0]->as), 0, GUEST_BASE) != 0 ||
        memory_region_add_subregion(&self.root, 0, &self.window) != 0 ||
        !make_memory(&self.code, &self.code_backing, "guest-code", STORM_PAGE, GUEST_CODE) ||
        !make_memory(&self.pages, &self.pages_backing, "guest-pages", (uint64_t)STORM_PAGE * STORM_MAX_THREADS,
                     GUEST_PAGES) ||
        address_space_init(&self.as, &self.root, "guest") != 0) {
        free(s);
        return false;
    }
    memcpy(self.code_backing.host, storm_guest_code, len);
    memset(s, 0, sizeof(*s));
    s->as = &self.as;
    s->name = address_space_name(s->as);
    s->has_memory = true;
    storm.spaces[storm.n_spaces++] = self.space = s;
    self.accel = accel;
    return true;
}

bool accel_start(void)
{
    const char *what = "";
    int error;

    self.below = (MemoryListener){
        .prepare = below_prepare,
        .span_add = below_span_add,
        .commit = below_commit,
        .priority = MEMORY_LISTENER_PRIORITY_MIN + 1,
        .name = "below the accelerator",
    };
    self.above = (MemoryListener){
        .commit = above_commit,
        .priority = MEMORY_LISTENER_PRIORITY_ACCEL + 1,
        .name = "above the accelerator",
    };
    error = self.accel->attach(&self.as, storm.n_vcpus, &what);
    if (error) {
        fprintf(stderr, "flatview: storm: %s: %s: %s\n", self.accel->name, what, strerror(-error));
        return false;
    }
    self.attached = true;
    self.listening = memory_listener_register(&self.below, &self.as) == 0 &&
                     memory_listener_register(&self.above, &self.as) == 0;
    return self.listening;
}

/* Memory that is the same but for a flag is another mapping: it goes, and comes again, while vCPUs run in it. */
static void replace_code(void)
{
    MemoryRegion *mr = &self.code.mr;
    int error = memory_region_set_readonly(mr, !memory_region_is_readonly(mr));

    if (error) {
        storm_violation("%s: a change of its code's memory: %s", self.accel->name, strerror(-error));
    }
}

static void compare_at_rest(void)
{
    if (memory_transaction_begin() != 0) {
        storm_violation("a transaction cannot begin");
        return;
    }
    compare("between commits");
    if (memory_transaction_commit() != 0) {
        storm_violation("a transaction without changes does not commit");
    }
}

void accel_rest(void)
{
    if (self.attached) {
        for (unsigned i = 0; i < FLIPS && self.accel->access; i++) {
            replace_code();
        }
        compare_at_rest();
    }
}

void accel_stop(void)
{
    bool ok = true;

    if (!self.attached) {
        return;
    }
    compare_at_rest();
    if (self.listening) {
        ok = memory_listener_unregister(&self.below) == 0;
        ok = memory_listener_unregister(&self.above) == 0 && ok;
    }
    if (!ok) {
        storm_violation("a listener does not leave");
    }
    self.accel->detach();
    self.attached = false;
}

void accel_teardown(void)
{
    if (!self.space) {
        return;
    }
    if (address_space_destroy(&self.as, NULL) != 0 || memory_region_del_subregion(&self.root, &self.window) != 0 ||
        memory_region_del_subregion(&self.root, &self.code.mr) != 0 ||
        memory_region_del_subregion(&self.root, &self.pages.mr) != 0 || memory_region_destroy(&self.window) != 0 ||
        memory_region_destroy(&self.code.mr) != 0 || memory_region_destroy(&self.pages.mr) != 0 ||
        memory_region_destroy(&self.root) != 0) {
        storm_violation("%s: its space cannot be taken down", self.accel->name);
    }
    memory_region_quiesce(&self.root);
    free(pieces.list);
}

void accel_print(void)
{
    uint64_t n = 0;

    for (unsigned i = 0; self.accel && i < storm.n_vcpus; i++) {
        n += storm.threads[i]->guest_accesses;
    }
    if (self.accel) {
        printf("%s: %" PRIu64 " accesses of its guest judged; its table compared %" PRIu64 " times, and %" PRIu64
               " times between removals and additions\n",
               self.accel->name, n, self.comparisons, self.checks);
    }
}

/* ---- accesses ---- */

StormSpace *accel_space(void)
{
    return self.attached ? self.space : NULL;
}

/* Some of those to its space; the others are the library's, as in any space. */
bool accel_take(StormThread *t, const StormSpace *space, Access *a)
{
    if (!self.attached || !self.accel->access || space != self.space || t->is_writer || a->addr >= GUEST_BASE - 8 ||
        storm_chance(t, 8)) {
        return false;
    }
    a->len = a->len >= 4 ? 4 : a->len >= 2 ? 2 : 1;
    a->addr &= ~(hwaddr)(a->len - 1);
    a->typed = a->by_guest = true;
    a->big_endian = false;
    return true;
}

const char *accel_access(StormThread *t, Access *a)
{
    storm_count(&t->guest_accesses);
    return self.accel->access(t->index, a);
}
