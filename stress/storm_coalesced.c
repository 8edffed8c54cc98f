/* SPDX-License-Identifier: MIT */
/*
 * storm_coalesced.c - devices with coalesced ranges that move, vanish and come back, and are written to by vCPUs.
 *
 * Invariant: got[v] of a device is the number of the last write that its callback has seen of vCPU v, and the next one to be seen
 * is the one after it: so the writes of one thread to one region arrive in order, each once, coalesced or not, whatever happens
 * to the device in between. A write is owed when it was MEMTX_OK. Established by the library (memory_coalesced.h); demanded by
 * on_write(), and by settled(), after whatever flushes: a read of the region, a kick of its ioeventfd, an access to the port,
 * a call, the end of the region. got[] is not atomic: ThreadSanitizer judges whether deliveries are ordered.
 *
 * A listener's mirror is at rest what the devices' ranges are in the ranges of the view.
 */
#include "storm_planes.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DEVICES 3u
#define CORNER (8 * STORM_PAGE)
#define BUS (DEVICES * CORNER)
#define SLOTS 8u /* ranges that can be coalesced, of 16 bytes, from offset 0 up */
#define SLOT_SIZE 16u
#define WHOLE (1u << SLOTS) /* all of the device is */
#define COVER_AT 0x20u      /* slots 2 and 3 can be hidden */
#define COVER_SIZE 0x20u
#define SEEN_AT 0x80u /* 8 bytes for each vCPU: what was seen of it */
#define KICK_AT 0xc0u
#define MAX_TOLD (8 * DEVICES * SLOTS)
#define BURST 96
#define NUMBER_MASK ((UINT64_C(1) << 40) - 1)

typedef struct State {
    uint32_t ranges;
    bool shown, covered;
    hwaddr where;
} State;

typedef struct Device {
    MemoryRegion corner, regs, cover;
    State now;                  /* the writer's */
    hwaddr where;               /* atomic: a hint for vCPUs */
    uint64_t sent[PLANE_VCPUS]; /* each its vCPU's */
    uint64_t got[PLANE_VCPUS];
} Device;

typedef struct Told {
    hwaddr addr;
    uint64_t len;
} Told;

static struct {
    MemoryRegion root, bus, again, port;
    AddressSpace space;
    Device devices[DEVICES];
    MemoryListener listener;
    bool listening;
    Told told[MAX_TOLD];
    unsigned n_told;
    int kicked;
} c = { .kicked = -1 };

static __thread bool refuses; /* this thread's next commit is to be refused */

enum { WRITES, HIDDEN, READS, PORTS, KICKS, FLUSHES, FLOODS, BY_WORKER, CHANGES, ABORTS, REFUSED, KINDS };
static const char *const kinds[] = { "writes", "to what is hidden", "reads", "through the port", "kicks", "flushes", "floods",
                                     "delivered by the library's worker", "changes", "aborts", "refused", NULL };
static uint64_t did[KINDS];

static bool ok(const char *what, int error)
{
    return plane_ok(&storm_coalesced, what, error);
}

/* ---- what answers --------------------------------------------------------------------------------------------- */

static MemTxResult on_write(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size, MemTxAttrs attrs)
{
    Device *device = container_of(mr, Device, regs);
    unsigned vcpu = (unsigned)(data >> 56);

    (void)attrs;
    if (!storm_self) {
        plane_did(&did[BY_WORKER], 1);
    }
    if (size != 8 || vcpu >= PLANE_VCPUS || (data >> 40 & 0xffff) != addr) {
        storm_violation("%s: a write that nobody made: %llx of %u bytes at %llx", storm_coalesced.name,
                        (unsigned long long)data, size, (unsigned long long)addr);
        return MEMTX_OK;
    }
    data &= NUMBER_MASK;
    if (data != device->got[vcpu] + 1) {
        storm_violation("%s: device %u: write %llu of vCPU %u comes after write %llu", storm_coalesced.name,
                        (unsigned)(device - c.devices), (unsigned long long)data, vcpu,
                        (unsigned long long)device->got[vcpu]);
    }
    device->got[vcpu] = data;
    return MEMTX_OK;
}

static uint64_t on_read(MemoryRegion *mr, hwaddr addr, unsigned size)
{
    const Device *device = container_of(mr, Device, regs);

    (void)size;
    return addr >= SEEN_AT ? device->got[(addr - SEEN_AT) / 8 % PLANE_VCPUS] : 0;
}

static const MemoryRegionOps ops = {
    .read = on_read,
    .write_with_attrs = on_write,
    .endianness = MEMORY_LITTLE_ENDIAN,
    .valid = { .min_access_size = 8, .max_access_size = 8 },
    .impl = { .min_access_size = 8, .max_access_size = 8 },
};

static MemTxResult on_cover(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size, MemTxAttrs attrs)
{
    (void)mr, (void)addr, (void)data, (void)size, (void)attrs;
    return MEMTX_ERROR; /* so that whoever wrote knows that it did not come to the device */
}

static uint64_t on_port(MemoryRegion *mr, hwaddr addr, unsigned size)
{
    (void)mr, (void)addr, (void)size;
    return 1;
}

static const MemoryRegionOps cover_ops = { .write_with_attrs = on_cover,
                                           .endianness = MEMORY_LITTLE_ENDIAN,
                                           .valid = { .min_access_size = 1, .max_access_size = 8 },
                                           .impl = { .min_access_size = 1, .max_access_size = 8 } };
static const MemoryRegionOps port_ops = { .read = on_port,
                                          .endianness = MEMORY_LITTLE_ENDIAN,
                                          .valid = { .min_access_size = 1, .max_access_size = 8 },
                                          .impl = { .min_access_size = 1, .max_access_size = 8 } };

/* ---- who is told ---------------------------------------------------------------------------------------------- */

static int find_told(hwaddr addr, uint64_t len)
{
    for (unsigned i = 0; i < c.n_told; i++) {
        if (c.told[i].addr == addr && c.told[i].len == len) {
            return (int)i;
        }
    }
    return -1;
}

static int prepare(MemoryListener *l, const MemoryDelta *delta)
{
    (void)l, (void)delta;
    return refuses ? -EPERM : 0;
}

static void coalesced_io_add(MemoryListener *l, const MemoryRegionSection *s, hwaddr addr, hwaddr len)
{
    (void)l, (void)s;
    if (c.n_told == MAX_TOLD) {
        storm_violation("%s: a listener is told of more ranges than there are", storm_coalesced.name);
        return;
    }
    c.told[c.n_told++] = (Told){ addr, len };
}

static void coalesced_io_del(MemoryListener *l, const MemoryRegionSection *s, hwaddr addr, hwaddr len)
{
    int i = find_told(addr, len);

    (void)l, (void)s;
    if (i < 0) {
        storm_violation("%s: at %llx a listener is told that a range goes of which it was not told that it came",
                        storm_coalesced.name, (unsigned long long)addr);
        return;
    }
    c.told[i] = c.told[--c.n_told];
}

static bool make_device(Device *device, unsigned i)
{
    device->now = (State){ .shown = true };
    return ok("corner", memory_region_init(&device->corner, "corner", CORNER)) &&
           ok("device", memory_region_init_io(&device->regs, &ops, "coalesced", STORM_PAGE)) &&
           ok("cover", memory_region_init_io(&device->cover, &cover_ops, "cover", COVER_SIZE)) &&
           ok("add", memory_region_add_subregion_overlap(&device->regs, COVER_AT, &device->cover, 1)) &&
           ok("hide", memory_region_set_enabled(&device->cover, false)) &&
           ok("eventfd", memory_region_add_eventfd(&device->regs, KICK_AT, 8, false, 0, c.kicked)) &&
           ok("add", memory_region_add_subregion(&device->corner, 0, &device->regs)) &&
           ok("add", memory_region_add_subregion(&c.bus, i * CORNER, &device->corner));
}

static bool start(void)
{
    bool well;

    c.kicked = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    well = c.kicked >= 0 && ok("root", memory_region_init(&c.root, "coalesced", 2 * BUS + STORM_PAGE)) &&
           ok("bus", memory_region_init(&c.bus, "bus", BUS)) &&
           ok("alias", memory_region_init_alias(&c.again, "again", &c.bus, 0, BUS)) &&
           ok("port", memory_region_init_io(&c.port, &port_ops, "port", STORM_PAGE)) &&
           ok("port", memory_region_set_flush_coalesced(&c.port)) &&
           ok("add", memory_region_add_subregion(&c.root, 0, &c.bus)) &&
           ok("add", memory_region_add_subregion(&c.root, BUS, &c.again)) &&
           ok("add", memory_region_add_subregion(&c.root, 2 * BUS, &c.port)) &&
           ok("space", address_space_init(&c.space, &c.root, "coalesced"));
    for (unsigned i = 0; i < DEVICES && well; i++) {
        well = make_device(&c.devices[i], i);
    }
    c.listener = (MemoryListener){ .name = "coalesced",
                                   .priority = 4,
                                   .prepare = prepare,
                                   .coalesced_io_add = coalesced_io_add,
                                   .coalesced_io_del = coalesced_io_del };
    c.listening = well && ok("listener", memory_listener_register(&c.listener, &c.space));
    return c.listening;
}

/* ---- writing, and what flushes -------------------------------------------------------------------------------- */

static void settled(const Device *device, unsigned vcpu, const char *what)
{
    if (device->got[vcpu] != device->sent[vcpu]) {
        storm_violation("%s: device %u: after %s it has %llu of %llu writes of vCPU %u", storm_coalesced.name,
                        (unsigned)(device - c.devices), what, (unsigned long long)device->got[vcpu],
                        (unsigned long long)device->sent[vcpu], vcpu);
    }
}

static bool write_one(StormThread *t, Device *device, hwaddr base, hwaddr at)
{
    uint64_t value = (uint64_t)t->index << 56 | at << 40 | (device->sent[t->index] + 1);
    MemTxResult result;

    if (storm_chance(t, 4)) { /* as a bulk write that is one bus access; the device is little-endian, as is x86 */
        result = address_space_write(&c.space, base + at, MEMTXATTRS_UNSPECIFIED, &value, sizeof(value));
    } else {
        result = address_space_stq_le(&c.space, base + at, MEMTXATTRS_UNSPECIFIED, value);
    }
    device->sent[t->index] += result == MEMTX_OK;
    return result == MEMTX_OK;
}

static void flush(StormThread *t, Device *device, hwaddr base)
{
    uint64_t value;

    switch (storm_below(t, 6)) {
    case 0:
        if (address_space_ldq_le(&c.space, 2 * BUS, MEMTXATTRS_UNSPECIFIED, &value) == MEMTX_OK) {
            for (unsigned i = 0; i < DEVICES; i++) {
                settled(&c.devices[i], t->index, "an access to the port");
            }
            plane_did(&did[PORTS], 1);
        }
        break;
    case 1:
        if (address_space_stq_le(&c.space, base + KICK_AT, MEMTXATTRS_UNSPECIFIED, 0) == MEMTX_OK) {
            settled(device, t->index, "a kick");
            plane_did(&did[KICKS], 1);
        }
        break;
    case 2:
        if (storm_chance(t, 2)) {
            ok("a flush", memory_region_flush_coalesced(&device->regs));
        } else {
            ok("a flush", address_space_flush_coalesced(&c.space));
        }
        settled(device, t->index, "a flush");
        plane_did(&did[FLUSHES], 1);
        break;
    default:
        if (address_space_ldq_le(&c.space, base + SEEN_AT + 8 * t->index, MEMTXATTRS_UNSPECIFIED, &value) == MEMTX_OK) {
            settled(device, t->index, "a read");
            if (value != device->sent[t->index]) {
                storm_violation("%s: a read that came before writes: %llu of %llu", storm_coalesced.name,
                                (unsigned long long)value, (unsigned long long)device->sent[t->index]);
            }
            plane_did(&did[READS], 1);
        }
    }
}

static void vcpu_turn(StormThread *t)
{
    unsigned n = storm_chance(t, 8) ? MEMORY_COALESCED_RING + 100 : BURST, n_written = 0;

    for (unsigned i = 0; i < n; i++) {
        unsigned which = (unsigned)(n > BURST ? n % DEVICES : storm_below(t, DEVICES));
        Device *device = &c.devices[which];
        hwaddr base = (storm_chance(t, 4) ? BUS : 0) + which * CORNER + __atomic_load_n(&device->where, __ATOMIC_RELAXED);

        if (n == BURST && storm_chance(t, 12)) {
            flush(t, device, base);
        } else {
            n_written += write_one(t, device, base, storm_below(t, SLOTS * SLOT_SIZE / 8) * 8);
        }
    }
    plane_did(&did[WRITES], n_written);
    plane_did(&did[HIDDEN], n - n_written);
    plane_did(&did[FLOODS], n > BURST && n_written > MEMORY_COALESCED_RING);
}

/* ---- changing ------------------------------------------------------------------------------------------------- */

static int add_range(StormThread *t, Device *device, State *next)
{
    unsigned slot = (unsigned)storm_below(t, SLOTS);
    bool overlaps = next->ranges & (WHOLE | 1u << slot);
    int error = memory_region_add_coalescing(&device->regs, slot * SLOT_SIZE, SLOT_SIZE);

    if (overlaps) {
        return error == -EEXIST ? 0 : -EINVAL;
    }
    next->ranges |= error ? 0 : 1u << slot;
    return error;
}

static int change(StormThread *t, Device *device, State *next)
{
    int error;

    switch (storm_below(t, 10)) {
    case 0:
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
    case 4:
        next->ranges = 0;
        return memory_region_clear_coalescing(&device->regs);
    case 5:
        next->ranges = WHOLE;
        return memory_region_set_coalescing(&device->regs);
    default:
        return add_range(t, device, next);
    }
}

static void writer_turn(StormThread *t)
{
    Device *device = &c.devices[storm_below(t, DEVICES)];
    State next = device->now;
    int error = memory_transaction_begin();

    if (!ok("begin", error)) {
        return;
    }
    for (unsigned n = 1 + (unsigned)storm_below(t, 4); n && !error; n--) {
        error = change(t, device, &next);
    }
    if (!ok("a change", error) || storm_chance(t, 5)) {
        memory_transaction_abort();
        plane_did(&did[ABORTS], 1);
        return;
    }
    refuses = storm_chance(t, 6);
    error = memory_transaction_commit();
    plane_did(&did[error == -EPERM ? REFUSED : CHANGES], 1);
    if (refuses && error == -EPERM) {
        next = device->now;
    } else {
        ok("commit", error);
    }
    refuses = false;
    device->now = next;
    __atomic_store_n(&device->where, next.where, __ATOMIC_RELAXED);
}

/* ---- at rest -------------------------------------------------------------------------------------------------- */

static void judge_piece(const MemoryRegionSection *s, uint64_t first, uint64_t last, unsigned *n_seen)
{
    uint64_t shown_last = s->offset_within_region + (s->last - s->offset_within_address_space);
    hwaddr addr;

    first = first < s->offset_within_region ? s->offset_within_region : first;
    last = last > shown_last ? shown_last : last;
    if (first > last) {
        return;
    }
    addr = s->offset_within_address_space + (first - s->offset_within_region);
    ++*n_seen;
    if (find_told(addr, last - first + 1) < 0) {
        storm_violation("%s: a listener was not told of %llu bytes at %llx", storm_coalesced.name,
                        (unsigned long long)(last - first + 1), (unsigned long long)addr);
    }
}

static int judge_range(const MemoryRegionSection *s, void *arg)
{
    for (unsigned k = 0; k < DEVICES * (SLOTS + 1); k++) {
        Device *device = &c.devices[k / (SLOTS + 1)];
        unsigned slot = k % (SLOTS + 1);
        bool whole = slot == SLOTS;

        if (s->mr == &device->regs && device->now.ranges >> slot & 1) {
            judge_piece(s, whole ? 0 : slot * SLOT_SIZE, whole ? STORM_PAGE - 1 : slot * SLOT_SIZE + SLOT_SIZE - 1, arg);
        }
    }
    return 0;
}

static void judge(void)
{
    FlatView *view = address_space_get_flatview(&c.space);
    unsigned n_seen = 0;

    flatview_for_each_range(view, 0, UINT64_MAX, judge_range, &n_seen);
    flatview_unref(view);
    if (n_seen < c.n_told) {
        storm_violation("%s: a listener believes in %u ranges that are not there", storm_coalesced.name, c.n_told - n_seen);
    }
    for (unsigned i = 0; i < DEVICES * PLANE_VCPUS; i++) {
        ok("a flush", memory_region_flush_coalesced(&c.devices[i / PLANE_VCPUS].regs));
        settled(&c.devices[i / PLANE_VCPUS], i % PLANE_VCPUS, "all stood still");
    }
}

static void finish(void)
{
    MemoryRegion *regions[3 * DEVICES + 5];
    unsigned n = 0;

    if (c.listening) {
        ok("listener", memory_listener_unregister(&c.listener));
        if (c.n_told) {
            storm_violation("%s: a listener that leaves keeps %u ranges", storm_coalesced.name, c.n_told);
        }
    }
    ok("del", memory_region_del_subregion(&c.root, &c.again));
    ok("del", memory_region_del_subregion(&c.root, &c.bus));
    ok("del", memory_region_del_subregion(&c.root, &c.port));
    regions[n++] = &c.again;
    for (unsigned i = 0; i < DEVICES; i++) {
        Device *device = &c.devices[i];

        if (device->now.shown) {
            ok("del", memory_region_del_subregion(&device->corner, &device->regs));
        }
        ok("del", memory_region_del_subregion(&device->regs, &device->cover));
        ok("del", memory_region_del_subregion(&c.bus, &device->corner));
        regions[n++] = &device->cover;
        regions[n++] = &device->regs;
        regions[n++] = &device->corner;
    }
    regions[n++] = &c.bus;
    regions[n++] = &c.port;
    regions[n++] = &c.root;
    regions[n] = NULL;
    plane_end(&storm_coalesced, (AddressSpace *[]){ &c.space, NULL }, regions);
    close(c.kicked);
}

const StormPlane storm_coalesced = {
    .name = "coalesced",
    .kinds = kinds,
    .sabotages = (const char *const[]){ "drop-coalesced", "drop-coalesced-io", NULL },
    .did = did,
    .start = start,
    .turn = { vcpu_turn, writer_turn, NULL },
    .judge = judge,
    .finish = finish,
};
