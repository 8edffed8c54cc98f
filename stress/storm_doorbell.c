/* SPDX-License-Identifier: MIT */
/*
 * storm_doorbell.c - ioeventfds of devices that move, vanish and come back, rung by vCPUs.
 *
 * What is demanded of each write by dispatch: it kicks exactly one file, or reaches exactly one callback, or nothing is there;
 * and which of these is known if its device was not being changed meanwhile. All kicks are accounted: at rest each file holds as
 * many as were owed to it.
 *
 * Invariant: `now` of a device is what its last commit left, whenever `seq` is even. Established by the writer, which makes
 * seq odd before it changes anything and even after it: a write that reads the same even number before and after was carried
 * out under `now`, for the library publishes after the first step (ORDERING: R3). A listener's mirror must be, at rest, what
 * the tree's bells are in the ranges of the view, and each descriptor that it was given must ring the file that it stands for.
 */
#include "storm_planes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DEVICES 4u
#define BELLS 24u
#define CORNER (16 * STORM_PAGE) /* where one device moves about */
#define BUS (DEVICES * CORNER)
#define COVER_AT 0x20u /* what lies there is hidden when the cover is on: bells 8 to 15 */
#define COVER_SIZE 0x20u
#define MAX_TOLD (4 * DEVICES * BELLS) /* each bell shows twice; room for what must not be */
#define BURST 64

typedef struct State { /* each field atomic, for vCPUs read while the writer writes, and then do not believe it */
    uint32_t bells;    /* mask */
    bool shown, covered;
    hwaddr where; /* on the bus */
} State;

typedef struct Bell {
    int fd;
    uint64_t owed; /* atomic: kicks since the last rest */
} Bell;

typedef struct Device {
    MemoryRegion corner, regs, cover;
    uint64_t seq; /* atomic */
    State now;
    Bell bells[BELLS];
} Device;

typedef struct Told {
    hwaddr addr;
    uint64_t size, data;
    bool match;
    int fd;
} Told;

static struct {
    MemoryRegion root, bus, again; /* again: an alias of all of the bus */
    AddressSpace space;
    Device devices[DEVICES];
    MemoryListener listener;
    bool listening;
    Told told[MAX_TOLD];
    unsigned n_told;
} b;

/* What callbacks were told by this thread's write. */
static __thread struct {
    unsigned calls, size;
    const MemoryRegion *mr;
    hwaddr addr;
    uint64_t data;
} heard;

static bool ok(const char *what, int error)
{
    return plane_ok(&storm_doorbell, what, error);
}

/* Two bells to 8 bytes: two values of one word, or one for any size and one for two bytes. */
static MemoryRegionEventfd spec_of(const Device *device, unsigned i)
{
    bool by_value = i / 2 % 2 == 0;
    MemoryRegionEventfd spec = { .addr = i / 2 * 8, .size = 4, .match_data = by_value, .fd = device->bells[i].fd };

    if (by_value) {
        spec.data = 1 + i % 2;
    } else {
        spec.size = i % 2 ? 2 : 0;
        spec.addr += i % 2 ? 4 : 0;
    }
    return spec;
}

static int matching(hwaddr addr, unsigned size, uint64_t value)
{
    for (unsigned i = 0; i < BELLS; i++) {
        MemoryRegionEventfd s = spec_of(&b.devices[0], i);

        if (s.addr == addr && (!s.size || s.size == size) && (!s.match_data || s.data == value)) {
            return (int)i;
        }
    }
    return -1;
}

/* ---- what answers --------------------------------------------------------------------------------------------- */

static MemTxResult on_write(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size, MemTxAttrs attrs)
{
    (void)attrs;
    heard.calls++;
    heard.mr = mr;
    heard.addr = addr;
    heard.data = data;
    heard.size = size;
    return MEMTX_OK;
}

static const MemoryRegionOps ops = {
    .write_with_attrs = on_write,
    .endianness = MEMORY_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8 },
    .impl = { .min_access_size = 1, .max_access_size = 8 },
};

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

static bool make_device(Device *device, unsigned i)
{
    bool well = ok("corner", memory_region_init(&device->corner, "corner", CORNER)) &&
                ok("device", memory_region_init_io(&device->regs, &ops, "doorbells", STORM_PAGE)) &&
                ok("cover", memory_region_init_io(&device->cover, &ops, "cover", COVER_SIZE)) &&
                ok("add", memory_region_add_subregion_overlap(&device->regs, COVER_AT, &device->cover, 1)) &&
                ok("hide", memory_region_set_enabled(&device->cover, false)) &&
                ok("add", memory_region_add_subregion(&device->corner, 0, &device->regs)) &&
                ok("add", memory_region_add_subregion(&b.bus, i * CORNER, &device->corner));

    device->now = (State){ .shown = well };
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
                ok("space", address_space_init(&b.space, &b.root, "doorbells"));

    for (unsigned i = 0; i < DEVICES && well; i++) {
        well = make_device(&b.devices[i], i);
    }
    b.listener = (MemoryListener){
        .name = "doorbells", .priority = 3, .eventfd_add = eventfd_add, .eventfd_del = eventfd_del
    };
    b.listening = well && ok("listener", memory_listener_register(&b.listener, &b.space));
    return b.listening;
}

/* ---- ringing -------------------------------------------------------------------------------------------------- */

static State look(const Device *device, uint64_t *ret_seq)
{
    State s;

    *ret_seq = __atomic_load_n(&device->seq, __ATOMIC_ACQUIRE);
    s.bells = __atomic_load_n(&device->now.bells, __ATOMIC_RELAXED);
    s.shown = __atomic_load_n(&device->now.shown, __ATOMIC_RELAXED);
    s.covered = __atomic_load_n(&device->now.covered, __ATOMIC_RELAXED);
    s.where = __atomic_load_n(&device->now.where, __ATOMIC_RELAXED);
    return s;
}

static MemTxResult ring(StormThread *t, hwaddr addr, unsigned size, uint64_t value)
{
    uint8_t bytes[8];

    if (storm_chance(t, 4)) { /* as a bulk write that is one bus access */
        for (unsigned i = 0; i < 8; i++) {
            bytes[i] = (uint8_t)(value >> 8 * i);
        }
        return address_space_write(&b.space, addr, MEMTXATTRS_UNSPECIFIED, bytes, size);
    }
    switch (size) {
    case 1:
        return address_space_stb(&b.space, addr, MEMTXATTRS_UNSPECIFIED, (uint8_t)value);
    case 2:
        return address_space_stw_le(&b.space, addr, MEMTXATTRS_UNSPECIFIED, (uint16_t)value);
    case 4:
        return address_space_stl_le(&b.space, addr, MEMTXATTRS_UNSPECIFIED, (uint32_t)value);
    default:
        return address_space_stq_le(&b.space, addr, MEMTXATTRS_UNSPECIFIED, value);
    }
}

/* What a device in this state must do: 'n' nothing there, 'c' the cover, 'k' a kick, 'd' the device's callback. */
static char owed(const State *s, hwaddr addr, int bell)
{
    if (!s->shown) {
        return 'n';
    }
    if (s->covered && addr - COVER_AT < COVER_SIZE) {
        return 'c';
    }
    return bell >= 0 && s->bells >> bell & 1 ? 'k' : 'd';
}

/* What it did; '?' if it was more than one of these, or half of one. */
static char done(const Device *device, MemTxResult result, hwaddr addr, unsigned size, uint64_t value)
{
    bool cover = heard.mr == &device->cover;

    if (result == MEMTX_DECODE_ERROR) {
        return heard.calls ? '?' : 'n';
    }
    if (result != MEMTX_OK || heard.calls > 1) {
        return '?';
    }
    if (!heard.calls) {
        return 'k';
    }
    if ((heard.mr != &device->regs && !cover) || heard.size != size || heard.data != value ||
        heard.addr != (cover ? addr - COVER_AT : addr)) {
        return '?';
    }
    return cover ? 'c' : 'd';
}

static void ring_one(StormThread *t)
{
    unsigned which = (unsigned)storm_below(t, DEVICES), size = 1u << storm_below(t, 4);
    Device *device = &b.devices[which];
    hwaddr addr = storm_below(t, BELLS / 2) * 8 + (size < 8 && storm_chance(t, 4) ? 4 : 0);
    uint64_t value = storm_below(t, 4), before, after;
    int bell = matching(addr, size, value);
    State s = look(device, &before);
    MemTxResult result;
    char must, did;

    memset(&heard, 0, sizeof(heard));
    result = ring(t, (storm_chance(t, 4) ? BUS : 0) + which * CORNER + s.where + addr, size, value);
    after = __atomic_load_n(&device->seq, __ATOMIC_ACQUIRE);
    did = done(device, result, addr, size, value);
    must = owed(&s, addr, bell);
    if (did == '?' || (did == 'k' && bell < 0) || (before == after && before % 2 == 0 && did != must)) {
        storm_violation("%s: device %u: a write of %u bytes, value %u, at %llx did '%c' (result %d, %u callbacks); "
                        "'%c' would be right%s",
                        storm_doorbell.name, which, size, (unsigned)value, (unsigned long long)addr, did, (int)result,
                        heard.calls, must, before == after && before % 2 == 0 ? "" : " or was a moment ago");
    }
    if (did == 'k' && bell >= 0) {
        __atomic_fetch_add(&device->bells[bell].owed, 1, __ATOMIC_RELAXED);
    }
}

static void vcpu_turn(StormThread *t)
{
    for (unsigned i = 0; i < BURST; i++) {
        ring_one(t);
    }
    plane_count(&storm_doorbell, BURST);
}

/* ---- changing ------------------------------------------------------------------------------------------------- */

/* Add what is absent of a random set, or take away what is there: all in one call. */
static int change_bells(StormThread *t, Device *device, State *next, bool add)
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
            batch[n++] = spec_of(device, i);
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

static int change(StormThread *t, Device *device, State *next)
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
    Device *device = &b.devices[storm_below(t, DEVICES)];
    State next = device->now;
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
}

/* ---- at rest -------------------------------------------------------------------------------------------------- */

/* The bells that one range shows must have been told; each is rung as an accelerator would. */
static int judge_range(const MemoryRegionSection *s, void *arg)
{
    unsigned *n_seen = arg;
    uint64_t last = s->offset_within_region + (s->last - s->offset_within_address_space);

    for (unsigned k = 0; k < DEVICES * BELLS; k++) {
        Device *device = &b.devices[k / BELLS];
        unsigned i = k % BELLS;
        MemoryRegionEventfd spec = spec_of(device, i);
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
    FlatView *view = address_space_get_flatview(&b.space);
    unsigned n_seen = 0;

    flatview_for_each_range(view, 0, UINT64_MAX, judge_range, &n_seen);
    flatview_unref(view);
    if (n_seen < b.n_told) {
        storm_violation("%s: a listener believes in %u ioeventfds that are not there", storm_doorbell.name,
                        b.n_told - n_seen);
    }
    for (unsigned k = 0; k < DEVICES * BELLS; k++) {
        Bell *bell = &b.devices[k / BELLS].bells[k % BELLS];
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
        Device *device = &b.devices[i];

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
    plane_end(&storm_doorbell, (AddressSpace *[]){ &b.space, NULL }, regions);
}

const StormPlane storm_doorbell = {
    .name = "ioeventfds",
    .start = start,
    .turn = { vcpu_turn, writer_turn, NULL },
    .judge = judge,
    .finish = finish,
};
