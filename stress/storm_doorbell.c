/* SPDX-License-Identifier: MIT */
/*
 * storm_doorbell.c - ioeventfds of devices that move, vanish and come back: what changes, and who is told.
 *
 * Invariant: `now` of a device is what its last commit left, whenever `seq` is even. Established by the writer, which makes
 * seq odd before it changes anything and even after it: a write that reads the same even number before and after was carried
 * out under `now`, for the library publishes after the first step (ORDERING: R3). Relied on by storm_doorbell_ring.c. A
 * listener's mirror must be, at rest, what the tree's bells are in the ranges of the view, and each descriptor that it was
 * given must ring the file that it stands for; each file holds as many kicks as were owed to it.
 */
#include "storm_doorbell.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MAX_TOLD (4 * DEVICES * BELLS) /* each bell shows twice; room for what must not be */

typedef struct Told {
    hwaddr addr;
    uint64_t size, data;
    bool match;
    int fd;
} Told;

static struct {
    MemoryRegion root, bus, again; /* again: an alias of all of the bus */
    MemoryListener listener;
    bool listening;
    Told told[MAX_TOLD];
    unsigned n_told;
} b;

static const char *const kinds[] = { "kicks", "callbacks", "writes to what is hidden", "changes", "aborts", NULL };

uint64_t doorbell_did[DOORBELL_KINDS];
AddressSpace doorbell_space;
DoorDevice doorbell_devices[DEVICES];

static bool ok(const char *what, int error)
{
    return plane_ok(&storm_doorbell, what, error);
}

/* ---- what answers --------------------------------------------------------------------------------------------- */

static void eventfd_add(MemoryListener *l, const MemoryRegionSection *s, bool match, uint64_t data, int fd)
{
    Told told = { s->offset_within_address_space, s->last - s->offset_within_address_space + 1, match ? data : 0, match,
                  fd };

    (void)l;
    if (b.n_told == MAX_TOLD) {
        storm_violation("%s: a listener is told of more ioeventfds than there are", storm_doorbell.name);
        return;
    }
    b.told[b.n_told++] = told;
}

static int find_told(hwaddr addr, uint64_t size, bool match, uint64_t data)
{
    for (unsigned i = 0; i < b.n_told; i++) {
        const Told *t = &b.told[i];

        if (t->addr == addr && t->size == size && t->match == match && (!match || t->data == data)) {
            return (int)i;
        }
    }
    return -1;
}

static void eventfd_del(MemoryListener *l, const MemoryRegionSection *s, bool match, uint64_t data, int fd)
{
    uint64_t size = s->last - s->offset_within_address_space + 1;
    int i = find_told(s->offset_within_address_space, size, match, data);

    (void)l;
    if (i < 0 || b.told[i].fd != fd) {
        storm_violation("%s: at %llx a listener is told that an ioeventfd goes of which it was not told that it came",
                        storm_doorbell.name, (unsigned long long)s->offset_within_address_space);
        return;
    }
    b.told[i] = b.told[--b.n_told];
}

static bool make_device(DoorDevice *device, unsigned i)
{
    bool well = ok("corner", memory_region_init(&device->corner, "corner", CORNER)) &&
                ok("device", memory_region_init_io(&device->regs, &doorbell_ops, "doorbells", STORM_PAGE)) &&
                ok("cover", memory_region_init_io(&device->cover, &doorbell_ops, "cover", COVER_SIZE)) &&
                ok("add", memory_region_add_subregion_overlap(&device->regs, COVER_AT, &device->cover, 1)) &&
                ok("hide", memory_region_set_enabled(&device->cover, false)) &&
                ok("add", memory_region_add_subregion(&device->corner, 0, &device->regs)) &&
                ok("add", memory_region_add_subregion(&b.bus, i * CORNER, &device->corner));

    device->now = (DoorState){ .shown = well };
    for (unsigned k = 0; k < BELLS; k++) {
        device->bells[k].fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        well = device->bells[k].fd >= 0 && well;
    }
    return well;
}

static bool start(void)
{
    bool well = ok("root", memory_region_init(&b.root, "doorbells", 2 * BUS)) &&
                ok("bus", memory_region_init(&b.bus, "bus", BUS)) &&
                ok("alias", memory_region_init_alias(&b.again, "again", &b.bus, 0, BUS)) &&
                ok("add", memory_region_add_subregion(&b.root, 0, &b.bus)) &&
                ok("add", memory_region_add_subregion(&b.root, BUS, &b.again)) &&
                ok("space", address_space_init(&doorbell_space, &b.root, "doorbells"));

    for (unsigned i = 0; i < DEVICES && well; i++) {
        well = make_device(&doorbell_devices[i], i);
    }
    b.listener = (MemoryListener){
        .name = "doorbells", .priority = 3, .eventfd_add = eventfd_add, .eventfd_del = eventfd_del
    };
    b.listening = well && ok("listener", memory_listener_register(&b.listener, &doorbell_space));
    return b.listening;
}

/* ---- changing ------------------------------------------------------------------------------------------------- */

/* Add what is absent of a random set, or take away what is there: all in one call. */
static int change_bells(StormThread *t, DoorDevice *device, DoorState *next, bool add)
{
    uint32_t set = (uint32_t)storm_random(t) & ((1u << BELLS) - 1) & (add ? ~next->bells : next->bells);
    MemoryRegionEventfd batch[BELLS];
    size_t n = 0;
    int error;

    if (storm_chance(t, 2)) {
        set &= -set; /* one */
    }
    for (unsigned i = 0; i < BELLS; i++) {
        if (set >> i & 1) {
            batch[n++] = doorbell_spec(device, i);
        }
    }
    if (n == 1) {
        error = add ? memory_region_add_eventfd(&device->regs, batch[0].addr, batch[0].size, batch[0].match_data,
                                                batch[0].data, batch[0].fd)
                    : memory_region_del_eventfd(&device->regs, batch[0].addr, batch[0].size, batch[0].match_data,
                                                batch[0].data, batch[0].fd);
    } else if (n) {
        error = add ? memory_region_add_eventfds(&device->regs, batch, n) : memory_region_del_eventfds(&device->regs, batch, n);
    } else {
        return 0;
    }
    next->bells ^= error ? 0 : set;
    return error;
}

static int change(StormThread *t, DoorDevice *device, DoorState *next)
{
    int error;

    switch (storm_below(t, 8)) {
    case 0: /* vanishes, or comes back, with its bells */
        error = next->shown ? memory_region_del_subregion(&device->corner, &device->regs)
                            : memory_region_add_subregion(&device->corner, next->where, &device->regs);
        next->shown ^= !error;
        return error;
    case 1:
        error = memory_region_set_enabled(&device->cover, !next->covered);
        next->covered ^= !error;
        return error;
    case 2:
    case 3:
        next->where = storm_below(t, CORNER / STORM_PAGE) * STORM_PAGE;
        return memory_region_set_address(&device->regs, next->where);
    default:
        return change_bells(t, device, next, !storm_chance(t, 3));
    }
}

static void writer_turn(StormThread *t)
{
    DoorDevice *device = &doorbell_devices[storm_below(t, DEVICES)];
    DoorState next = device->now;
    unsigned n = 1 + (unsigned)storm_below(t, 4);
    int error = memory_transaction_begin();

    if (!ok("begin", error)) {
        return;
    }
    for (unsigned i = 0; i < n && !error; i++) {
        error = change(t, device, &next);
    }
    if (!ok("a change", error) || storm_chance(t, 4)) {
        memory_transaction_abort();
        plane_did(&doorbell_did[DOORBELL_ABORTS], 1);
        return;
    }
    __atomic_fetch_add(&device->seq, 1, __ATOMIC_ACQ_REL);
    if (ok("commit", memory_transaction_commit())) {
        __atomic_store_n(&device->now.bells, next.bells, __ATOMIC_RELAXED);
        __atomic_store_n(&device->now.shown, next.shown, __ATOMIC_RELAXED);
        __atomic_store_n(&device->now.covered, next.covered, __ATOMIC_RELAXED);
        __atomic_store_n(&device->now.where, next.where, __ATOMIC_RELAXED);
    }
    __atomic_fetch_add(&device->seq, 1, __ATOMIC_RELEASE);
    plane_did(&doorbell_did[DOORBELL_CHANGES], 1);
}

/* ---- at rest -------------------------------------------------------------------------------------------------- */

/* The bells that one range shows must have been told; each is rung as an accelerator would. */
static int judge_range(const MemoryRegionSection *s, void *arg)
{
    unsigned *n_seen = arg;
    uint64_t last = s->offset_within_region + (s->last - s->offset_within_address_space);

    for (unsigned k = 0; k < DEVICES * BELLS; k++) {
        DoorDevice *device = &doorbell_devices[k / BELLS];
        unsigned i = k % BELLS;
        MemoryRegionEventfd spec = doorbell_spec(device, i);
        hwaddr addr = s->offset_within_address_space + (spec.addr - s->offset_within_region);
        int told;

        if (s->mr != &device->regs || !(device->now.bells >> i & 1) || spec.addr < s->offset_within_region ||
            spec.addr + (spec.size ? spec.size : 1) - 1 > last) {
            continue;
        }
        ++*n_seen;
        told = find_told(addr, spec.size, spec.match_data, spec.data);
        if (told < 0) {
            storm_violation("%s: bell %u at %llx: a listener was not told", storm_doorbell.name, k,
                            (unsigned long long)addr);
        } else if (write(b.told[told].fd, &(uint64_t){ 1 }, 8) != 8) {
            storm_violation("%s: bell %u: the descriptor that a listener was given is not the file", storm_doorbell.name, k);
        } else {
            device->bells[i].owed++;
        }
    }
    return 0;
}

static void judge(void)
{
    FlatView *view = address_space_get_flatview(&doorbell_space);
    unsigned n_seen = 0;

    flatview_for_each_range(view, 0, UINT64_MAX, judge_range, &n_seen);
    flatview_unref(view);
    if (n_seen < b.n_told) {
        storm_violation("%s: a listener believes in %u ioeventfds that are not there", storm_doorbell.name,
                        b.n_told - n_seen);
    }
    for (unsigned k = 0; k < DEVICES * BELLS; k++) {
        Bell *bell = &doorbell_devices[k / BELLS].bells[k % BELLS];
        uint64_t kicks;

        if (read(bell->fd, &kicks, sizeof(kicks)) != sizeof(kicks)) {
            kicks = 0;
        }
        if (kicks != bell->owed) {
            storm_violation("%s: bell %u was kicked %llu times, and should have been %llu times", storm_doorbell.name, k,
                            (unsigned long long)kicks, (unsigned long long)bell->owed);
        }
        bell->owed = 0;
    }
}

static void finish(void)
{
    MemoryRegion *regions[3 * DEVICES + 4];
    unsigned n = 0;

    if (b.listening) {
        ok("listener", memory_listener_unregister(&b.listener));
        if (b.n_told) {
            storm_violation("%s: a listener that leaves keeps %u ioeventfds", storm_doorbell.name, b.n_told);
        }
    }
    ok("del", memory_region_del_subregion(&b.root, &b.again));
    ok("del", memory_region_del_subregion(&b.root, &b.bus));
    regions[n++] = &b.again;
    for (unsigned i = 0; i < DEVICES; i++) {
        DoorDevice *device = &doorbell_devices[i];

        if (device->now.shown) {
            ok("del", memory_region_del_subregion(&device->corner, &device->regs));
        }
        ok("del", memory_region_del_subregion(&device->regs, &device->cover));
        ok("del", memory_region_del_subregion(&b.bus, &device->corner));
        regions[n++] = &device->cover;
        regions[n++] = &device->regs;
        regions[n++] = &device->corner;
        for (unsigned k = 0; k < BELLS; k++) {
            close(device->bells[k].fd);
        }
    }
    regions[n++] = &b.bus;
    regions[n++] = &b.root;
    regions[n] = NULL;
    plane_end(&storm_doorbell, (AddressSpace *[]){ &doorbell_space, NULL }, regions);
}

const StormPlane storm_doorbell = {
    .name = "ioeventfds",
    .kinds = kinds,
    .sabotages = (const char *const[]){ "drop-eventfd", NULL },
    .did = doorbell_did,
    .start = start,
    .turn = { doorbell_ring, writer_turn, NULL },
    .judge = judge,
    .finish = finish,
};
