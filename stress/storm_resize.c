/* SPDX-License-Identifier: MIT */
/*
 * storm_resize.c - RAM that grows and shrinks under the dirty log, global logging that comes and goes, and RAM that is destroyed
 * while it is logged.
 *
 * Invariant: for each client that is in force, copy[client] differs from the RAM, as far as that reaches now, only where the client's
 * bits are set: what appears by growing is dirty, whatever was cut off before it was copied (memory_ram.h), and a client
 * that begins finds everything dirty. Established by the library; relied on by the collector; demanded at rest. VGA is always
 * in force, MIGRATION while global logging is.
 *
 * Guests come and go: RAM with a log of its own, born under global logging or not, destroyed while in force.
 */
#include "storm_planes.h"

#include <errno.h>
#include <string.h>

#define MAX_PAGES 32u
#define MAX_SIZE ((uint64_t)MAX_PAGES * STORM_PAGE)
#define GUESTS 8u /* more than are plugged at a time: those that were destroyed wait for their readers */
#define PLACES 3u
#define GUEST_SIZE (4 * STORM_PAGE)
#define GUESTS_AT (2 * MAX_SIZE)
#define BURST 48

typedef struct Guest {
    MemoryRegion mr;
    bool free; /* atomic: released, or never made */
} Guest;

typedef struct Copy {
    unsigned client;
    uint8_t bytes[MAX_PAGES * STORM_PAGE];
} Copy;

static struct {
    MemoryRegion root, ram;
    AddressSpace space;
    uint8_t *host;
    Guest guests[GUESTS], *places[PLACES];
    Copy copies[2];
    bool global, logged, listening; /* the writer's: global logging; the VGA client's first user */
    uint64_t told;                  /* of the size, by the callback */
    MemoryListener listener;
} r = { .copies = { { .client = DIRTY_MEMORY_VGA }, { .client = DIRTY_MEMORY_MIGRATION } } };

static __thread bool refuses; /* this thread's start of global logging is to be refused */

enum { STORES, RESIZES, ABORTS, GLOBALS, REFUSED, COLLECTS, BORN, DIED_LOGGED, CUT_OFF, KINDS };
static const char *const kinds[] = { "stores", "resizes", "aborts", "global on and off", "refused", "collects",
                                     "plugged", "destroyed while logged", "cut off under the collector", NULL };
static uint64_t did[KINDS];

static bool ok(const char *what, int error)
{
    return plane_ok(&storm_resize, what, error);
}

static void on_resized(MemoryRegion *mr, uint64_t size)
{
    (void)mr;
    r.told = size;
}

static int log_global_start(MemoryListener *l)
{
    (void)l;
    return refuses ? -EPERM : 0;
}

static void on_release(MemoryRegion *mr)
{
    __atomic_store_n(&container_of(mr, Guest, mr)->free, true, __ATOMIC_RELEASE);
}

static bool start(void)
{
    bool well = ok("root", memory_region_init(&r.root, "resize", 8 * MAX_SIZE)) &&
                ok("RAM", memory_region_init_resizeable_ram(&r.ram, "resize-ram", MAX_SIZE / 2, MAX_SIZE, on_resized)) &&
                ok("add", memory_region_add_subregion(&r.root, 0, &r.ram)) &&
                ok("space", address_space_init(&r.space, &r.root, "resize")) &&
                ok("granule", memory_region_set_dirty_granule(&r.ram, DIRTY_MEMORY_VGA, 1024)) &&
                ok("log", memory_region_set_log(&r.ram, true, DIRTY_MEMORY_VGA));

    r.logged = well;
    r.told = MAX_SIZE / 2;
    r.host = well ? memory_region_get_ram_ptr(&r.ram) : NULL;
    for (unsigned i = 0; i < GUESTS; i++) {
        r.guests[i].free = true;
    }
    r.listener = (MemoryListener){ .name = "resize", .priority = 1, .log_global_start = log_global_start };
    r.listening = well && ok("listener", memory_listener_register(&r.listener, &r.space));
    return r.listening;
}

/* ---- writing -------------------------------------------------------------------------------------------------- */

static void vcpu_turn(StormThread *t)
{
    uint8_t bytes[600];

    for (unsigned i = 0; i < BURST; i++) {
        uint64_t value = storm_random(t);
        hwaddr addr = storm_chance(t, 4) ? GUESTS_AT + storm_below(t, PLACES * GUEST_SIZE) : storm_below(t, MAX_SIZE);
        MemTxResult result;

        if (storm_chance(t, 4)) {
            memset(bytes, (int)(value & 255), sizeof(bytes));
            result = address_space_write(&r.space, addr, MEMTXATTRS_UNSPECIFIED, bytes, sizeof(bytes));
        } else {
            result = address_space_stq_le(&r.space, addr & ~7ull, MEMTXATTRS_UNSPECIFIED, value);
        }
        if (result != MEMTX_OK && result != MEMTX_DECODE_ERROR) {
            storm_violation("%s: a store at %llx gets %d", storm_resize.name, (unsigned long long)addr, (int)result);
        }
    }
    plane_did(&did[STORES], BURST);
}

/* ---- changing ------------------------------------------------------------------------------------------------- */

static void resize(StormThread *t)
{
    uint64_t before = memory_region_size(&r.ram), size = (1 + storm_below(t, MAX_PAGES)) * STORM_PAGE;
    bool keep = !storm_chance(t, 4);

    if (!ok("begin", memory_transaction_begin())) {
        return;
    }
    ok("resize", memory_region_ram_resize(&r.ram, size));
    if (storm_chance(t, 4)) { /* in one transaction, twice */
        ok("resize", memory_region_ram_resize(&r.ram, size = (1 + storm_below(t, MAX_PAGES)) * STORM_PAGE));
    }
    if (keep) {
        ok("commit", memory_transaction_commit());
    } else {
        memory_transaction_abort();
    }
    if (memory_region_size(&r.ram) != (keep ? size : before) || r.told != memory_region_size(&r.ram)) {
        storm_violation("%s: of %llu to %llu bytes: has %llu, and %llu were told", storm_resize.name,
                        (unsigned long long)before, (unsigned long long)size,
                        (unsigned long long)memory_region_size(&r.ram), (unsigned long long)r.told);
    }
    plane_did(&did[keep ? RESIZES : ABORTS], 1);
}

static void toggle_global(StormThread *t)
{
    int error;

    if (r.global) {
        r.global = !ok("the end of global logging", memory_global_dirty_log_stop(GLOBAL_DIRTY_MIGRATION));
    } else {
        refuses = storm_chance(t, 3);
        error = memory_global_dirty_log_start(GLOBAL_DIRTY_MIGRATION);
        if (refuses && error == -EPERM) {
            plane_did(&did[REFUSED], 1);
        } else {
            r.global = ok("global logging", refuses ? -EINVAL : error);
        }
        refuses = false;
    }
    if (memory_global_dirty_log_reasons() != (r.global ? GLOBAL_DIRTY_MIGRATION : 0)) {
        storm_violation("%s: reasons for global logging: %u", storm_resize.name, memory_global_dirty_log_reasons());
    }
    plane_did(&did[GLOBALS], 1);
}

static void unplug(unsigned place)
{
    Guest *guest = r.places[place];

    ok("begin", memory_transaction_begin());
    ok("del", memory_region_del_subregion(&r.root, &guest->mr));
    ok("destroy", memory_region_destroy(&guest->mr));
    ok("commit", memory_transaction_commit());
    r.places[place] = NULL;
    plane_did(&did[DIED_LOGGED], 1);
}

/* Each is logged by CODE until it dies, and all by MIGRATION if it is born, lives or dies under global logging. */
static void plug(unsigned place)
{
    unsigned i = 0;

    while (i < GUESTS && !__atomic_load_n(&r.guests[i].free, __ATOMIC_ACQUIRE)) {
        i++;
    }
    if (i < GUESTS) {
        Guest *guest = r.places[place] = &r.guests[i];

        guest->free = false;
        ok("RAM", memory_region_init_ram(&guest->mr, "resize-guest", GUEST_SIZE));
        ok("release", memory_region_set_release(&guest->mr, on_release));
        ok("log", memory_region_set_log(&guest->mr, true, DIRTY_MEMORY_CODE));
        ok("add", memory_region_add_subregion(&r.root, GUESTS_AT + place * GUEST_SIZE, &guest->mr));
        if (memory_region_is_logging(&guest->mr, DIRTY_MEMORY_MIGRATION) != r.global ||
            memory_region_get_dirty(&guest->mr, 0, GUEST_SIZE, DIRTY_MEMORY_MIGRATION) != r.global) {
            storm_violation("%s: RAM that is made %s global logging is not born %s", storm_resize.name,
                            r.global ? "under" : "without", r.global ? "dirty" : "without a log");
        }
        plane_did(&did[BORN], 1);
    }
}

static void writer_turn(StormThread *t)
{
    unsigned place = (unsigned)storm_below(t, PLACES);

    resize(t);
    if (storm_chance(t, 4)) {
        toggle_global(t);
    }
    if (r.places[place]) {
        unplug(place);
    } else {
        plug(place);
    }
}

/* ---- collecting ----------------------------------------------------------------------------------------------- */

/* A part that is cut off meanwhile is not there to be copied; if it appears again, it is dirty. */
static void collect(Copy *copy, hwaddr addr, uint64_t size)
{
    DirtyBitmapSnapshot *snapshot;
    hwaddr at = 0;
    uint64_t len;
    int error = memory_region_snapshot_and_clear_dirty(&r.ram, addr, size, copy->client, &snapshot);

    if (error == -EINVAL) {
        plane_did(&did[CUT_OFF], 1); /* or MIGRATION never was in force */
        return;
    }
    if (!ok("a collect", error)) {
        return;
    }
    for (; memory_region_snapshot_next_dirty(snapshot, at, &at, &len) && at < MAX_SIZE; at += len) {
        for (hwaddr page = at; page < at + len && page < MAX_SIZE; page += 256) {
            hwaddr left = at + len - page;

            if (address_space_read(&r.space, page, MEMTXATTRS_UNSPECIFIED, copy->bytes + page, left < 256 ? left : 256) !=
                MEMTX_OK) {
                plane_did(&did[CUT_OFF], 1);
            }
        }
    }
    memory_region_snapshot_free(snapshot);
    plane_did(&did[COLLECTS], 1);
}

static void collector_turn(StormThread *t)
{
    hwaddr addr = storm_below(t, MAX_SIZE / 2);

    collect(&r.copies[storm_below(t, 2)], addr, 1 + storm_below(t, MAX_SIZE - addr));
}

static void judge(void)
{
    uint64_t size = memory_region_size(&r.ram);

    for (unsigned i = 0; i < 2; i++) {
        Copy *copy = &r.copies[i];

        if (copy->client == DIRTY_MEMORY_MIGRATION && !r.global) {
            continue;
        }
        collect(copy, 0, size);
        for (hwaddr page = 0; page < size; page += STORM_PAGE) {
            if (memcmp(copy->bytes + page, r.host + page, STORM_PAGE) != 0) {
                storm_violation("%s: client %u: page %llx of the copy differs, and nothing says it is dirty", storm_resize.name,
                                copy->client, (unsigned long long)page);
                memcpy(copy->bytes + page, r.host + page, STORM_PAGE);
            }
        }
    }
}

static void finish(void)
{
    for (unsigned i = 0; i < PLACES; i++) {
        if (r.places[i]) {
            unplug(i);
        }
    }
    if (r.global) {
        ok("the end of global logging", memory_global_dirty_log_stop(GLOBAL_DIRTY_MIGRATION));
    }
    if (r.logged) {
        ok("log", memory_region_set_log(&r.ram, false, DIRTY_MEMORY_VGA));
    }
    if (r.listening) {
        ok("listener", memory_listener_unregister(&r.listener));
    }
    ok("del", memory_region_del_subregion(&r.root, &r.ram));
    plane_end(&storm_resize, (AddressSpace *[]){ &r.space, NULL }, (MemoryRegion *[]){ &r.ram, &r.root, NULL });
}

const StormPlane storm_resize = {
    .name = "resize",
    .kinds = kinds,
    .sabotages = (const char *const[]){ "drop-grown", NULL },
    .did = did,
    .start = start,
    .turn = { vcpu_turn, writer_turn, collector_turn },
    .judge = judge,
    .finish = finish,
};
