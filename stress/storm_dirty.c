/* SPDX-License-Identifier: MIT */
/*
 * storm_dirty.c - a migration under way: RAM is copied by the dirty log while it is written, moved, hidden and taken out.
 *
 * Invariant (ORDERING: R7): for each client that is in force, copy[client] differs from the RAM only where the client's bits
 * are set. vCPUs establish it through every way that the library has to write: typed and bulk accesses, fills, mappings, cached
 * windows, and host pointers with memory_region_set_dirty(). The collector relies on it. judge() demands it: one more collect
 * while all stand still, and the copy is the original.
 *
 * A client that leaves and comes back begins with all bits set, which restores the invariant whatever was written meanwhile.
 * Copies are read in a space where the RAM stays, so that who moves it does not move it from under the collector.
 */
#include "storm_planes.h"

#include <stdlib.h>
#include <string.h>

#define RAM_PAGES 64u
#define RAM_SIZE ((uint64_t)RAM_PAGES * STORM_PAGE)
#define ROOM (64 * RAM_SIZE)
#define HOME (8 * RAM_SIZE)
#define BURST 48

typedef struct Client {
    unsigned client;
    uint8_t copy[RAM_PAGES * STORM_PAGE];
    bool on; /* changed in the writer's turns alone */
} Client;

static struct {
    MemoryRegion root, corner, ram, window, whole_root, whole_alias;
    AddressSpace space, whole;
    uint8_t *host;
    hwaddr where; /* atomic: in space; a hint */
    Client clients[2];
    MemoryRegionCache caches[PLANE_VCPUS][2]; /* of space and of whole */
} d = { .clients = { { .client = DIRTY_MEMORY_MIGRATION }, { .client = DIRTY_MEMORY_VGA } } };

enum { STORES, CHANGES, LOG_TOGGLES, MASKS, ABORTS, COLLECTS, RESETS, KINDS };
static const char *const kinds[] = { "stores", "changes", "clients on and off", "masks told", "aborts", "collects", "resets", NULL };
static uint64_t did[KINDS];

static bool ok(const char *what, int error)
{
    return plane_ok(&storm_dirty, what, error);
}

static bool start(void)
{
    static const uint64_t granules[] = { STORM_PAGE, 256 };
    bool well = ok("root", memory_region_init(&d.root, "dirty", ROOM)) &&
                ok("RAM", memory_region_init_ram(&d.ram, "dirty-ram", RAM_SIZE)) &&
                ok("window", memory_region_init_alias(&d.window, "dirty-window", &d.ram, RAM_SIZE / 4, RAM_SIZE / 2)) &&
                ok("corner", memory_region_init(&d.corner, "dirty-corner", ROOM)) &&
                ok("add", memory_region_add_subregion(&d.root, 0, &d.corner)) &&
                ok("add", memory_region_add_subregion(&d.corner, HOME, &d.ram)) &&
                ok("add", memory_region_add_subregion_overlap(&d.root, 2 * RAM_SIZE, &d.window, 1)) &&
                ok("space", address_space_init(&d.space, &d.root, "dirty")) &&
                ok("root", memory_region_init(&d.whole_root, "dirty-whole", RAM_SIZE)) &&
                ok("alias", memory_region_init_alias(&d.whole_alias, "dirty-all", &d.ram, 0, RAM_SIZE)) &&
                ok("add", memory_region_add_subregion(&d.whole_root, 0, &d.whole_alias)) &&
                ok("space", address_space_init(&d.whole, &d.whole_root, "dirty-whole"));

    d.host = well ? memory_region_get_ram_ptr(&d.ram) : NULL;
    d.where = HOME;
    for (unsigned i = 0; i < 2 && well; i++) {
        Client *c = &d.clients[i];

        well = ok("granule", memory_region_set_dirty_granule(&d.ram, c->client, granules[i])) &&
               ok("log", memory_region_set_log(&d.ram, true, c->client));
        c->on = well;
    }
    for (unsigned i = 0; i < PLANE_VCPUS && well; i++) {
        well = ok("cache", address_space_cache_init(&d.caches[i][0], &d.space, HOME, RAM_SIZE)) &&
               ok("cache", address_space_cache_init(&d.caches[i][1], &d.whole, RAM_SIZE / 2, RAM_SIZE / 2));
    }
    return well && log_mirror_start(&d.space, &did[MASKS]);
}

/* ---- writing -------------------------------------------------------------------------------------------------- */

/* By host pointer, as a device model does; byte by byte and atomically, for others write there too. */
static void scribble(uint8_t *host, size_t len, uint64_t value)
{
    for (size_t i = 0; i < len; i++) {
        __atomic_store_n(host + i, (uint8_t)(value >> i % 8 * 8), __ATOMIC_RELAXED);
    }
}

/* Some of it lands where no RAM is just now: whatever the result, what was written must be marked. */
static void write_mapped(StormThread *t, AddressSpace *as, hwaddr addr)
{
    MemoryMapRange ranges[3];
    MemoryMapping mapping = { 0 };
    hwaddr written, left;
    size_t n = 1 + storm_below(t, 3);

    for (size_t i = 0; i < n; i++) {
        ranges[i] = (MemoryMapRange){ (addr & ~(STORM_PAGE - 1ull)) + storm_below(t, STORM_PAGE),
                                      1 + storm_below(t, STORM_PAGE) };
    }
    if (address_space_map_sg(as, ranges, n, storm_chance(t, 2) ? MEMORY_MAP_WRITE : MEMORY_MAP_READ_WRITE,
                             MEMTXATTRS_UNSPECIFIED, &mapping) != 0) {
        return;
    }
    written = left = storm_below(t, mapping.len + 1);
    for (unsigned i = 0; i < mapping.n_iov && left; i++) {
        size_t len = left < mapping.iov[i].iov_len ? (size_t)left : mapping.iov[i].iov_len;

        scribble(mapping.iov[i].iov_base, len, storm_random(t));
        left -= len;
    }
    ok("the end of a mapping", address_space_unmap_sg(&mapping, written, NULL));
}

static void write_cached(StormThread *t)
{
    MemoryRegionCache *cache = &d.caches[t->index][storm_below(t, 2)];
    hwaddr addr = storm_below(t, RAM_SIZE / 2 - 8);
    MemTxResult ignored = MEMTX_OK;
    uint8_t bytes[200];
    void *host;

    switch (storm_below(t, 4)) {
    case 0:
        memory_read_begin();
        host = address_space_cache_ptr(cache, addr, 8, true);
        if (host) {
            scribble(host, 8, storm_random(t));
            ok("a cached window's mark", address_space_cache_invalidate(cache, addr, 8));
        }
        memory_read_end();
        break;
    case 1:
        memset(bytes, (int)storm_below(t, 256), sizeof(bytes));
        ignored = address_space_write_cached(cache, addr, MEMTXATTRS_UNSPECIFIED, bytes, sizeof(bytes));
        break;
    case 2:
        ignored = address_space_stl_le_cached(cache, addr & ~3ull, MEMTXATTRS_UNSPECIFIED, (uint32_t)storm_random(t));
        break;
    default:
        ignored = address_space_stq_be_cached(cache, addr & ~7ull, MEMTXATTRS_UNSPECIFIED, storm_random(t));
    }
    (void)ignored;
}

static void write_somehow(StormThread *t)
{
    bool fixed = storm_chance(t, 4);
    AddressSpace *as = fixed ? &d.whole : &d.space;
    hwaddr offset = storm_below(t, RAM_SIZE), addr = offset;
    uint8_t bytes[3 * STORM_PAGE];
    MemTxResult ignored = MEMTX_OK;
    uint64_t value = storm_random(t);

    if (!fixed) {
        addr += storm_chance(t, 4) ? 2 * RAM_SIZE - RAM_SIZE / 4 : __atomic_load_n(&d.where, __ATOMIC_RELAXED);
    }
    switch (storm_below(t, 10)) {
    case 0:
        memset(bytes, (int)(value & 255), sizeof(bytes));
        ignored = address_space_write(as, addr, MEMTXATTRS_UNSPECIFIED, bytes, 1 + (value >> 8) % sizeof(bytes));
        break;
    case 1:
        ignored = address_space_set(as, addr, (uint8_t)value, 1 + (value >> 8) % 5000, MEMTXATTRS_UNSPECIFIED);
        break;
    case 2:
        scribble(d.host + offset, 1, value);
        ok("set_dirty", memory_region_set_dirty(&d.ram, offset, 1));
        break;
    case 3:
        write_mapped(t, as, addr);
        break;
    case 4:
    case 5:
        write_cached(t);
        break;
    case 6:
        ignored = address_space_stb(as, addr, MEMTXATTRS_UNSPECIFIED, (uint8_t)value);
        break;
    case 7:
        ignored = address_space_stw_be(as, addr, MEMTXATTRS_UNSPECIFIED, (uint16_t)value); /* also across pages */
        break;
    case 8:
        ignored = address_space_write_rom(as, addr, MEMTXATTRS_UNSPECIFIED, &value, sizeof(value));
        break;
    default:
        ignored = address_space_stq_le(as, addr & ~7ull, MEMTXATTRS_UNSPECIFIED, value);
    }
    (void)ignored;
}

static void vcpu_turn(StormThread *t)
{
    for (unsigned i = 0; i < BURST; i++) {
        write_somehow(t);
    }
    plane_did(&did[STORES], BURST);
}

/* ---- changing ------------------------------------------------------------------------------------------------- */

static int move(StormThread *t)
{
    return memory_region_set_address(&d.ram, storm_chance(t, 2) ? HOME : (4 + storm_below(t, 56)) * RAM_SIZE);
}

static int toggle_log(Client *c, bool *ret_on)
{
    int error = memory_region_set_log(&d.ram, !*ret_on, c->client);

    *ret_on ^= !error;
    plane_did(&did[LOG_TOGGLES], 1);
    return error;
}

static int change(StormThread *t, bool on[2])
{
    unsigned i = (unsigned)storm_below(t, 2);

    switch (storm_below(t, 8)) {
    case 0:
        /* Not the RAM itself, which would vanish from d.whole, too. */
        return memory_region_set_enabled(&d.corner, !memory_region_is_enabled(&d.corner));
    case 1:
        return memory_region_get_parent(&d.ram) ? memory_region_del_subregion(&d.corner, &d.ram)
                                                : memory_region_add_subregion(&d.corner, HOME, &d.ram);
    case 2:
        return memory_region_set_readonly(&d.ram, !memory_region_is_readonly(&d.ram));
    case 3:
        return memory_region_set_alias_offset(&d.window, storm_below(t, RAM_PAGES / 2) * STORM_PAGE);
    case 4:
    case 5:
        return storm_chance(t, 4) ? toggle_log(&d.clients[i], &on[i]) : 0;
    default:
        return move(t);
    }
}

static void writer_turn(StormThread *t)
{
    bool on[2] = { d.clients[0].on, d.clients[1].on };
    unsigned n = 1 + (unsigned)storm_below(t, 3);
    int error = memory_transaction_begin();
    bool keep = !storm_chance(t, 4);

    if (!ok("begin", error)) {
        return;
    }
    for (unsigned i = 0; i < n && !error; i++) {
        error = change(t, on);
    }
    if (!ok("a change", error) || !keep) {
        memory_transaction_abort();
        plane_did(&did[ABORTS], 1);
        return;
    }
    if (ok("commit", memory_transaction_commit())) {
        plane_did(&did[CHANGES], 1);
        d.clients[0].on = on[0];
        d.clients[1].on = on[1];
        __atomic_store_n(&d.where, memory_region_get_addr(&d.ram), __ATOMIC_RELAXED);
    }
}

/* ---- collecting ----------------------------------------------------------------------------------------------- */

static bool copy(Client *c, hwaddr addr, uint64_t size)
{
    MemTxResult result = address_space_read(&d.whole, addr, MEMTXATTRS_UNSPECIFIED, c->copy + addr, size);

    if (result != MEMTX_OK) {
        storm_violation("%s: RAM that stays cannot be read at %llx", storm_dirty.name, (unsigned long long)addr);
    }
    return result == MEMTX_OK;
}

static void collect(Client *c, hwaddr addr, uint64_t size)
{
    DirtyBitmapSnapshot *snapshot;
    hwaddr at = 0;
    uint64_t len;

    if (!ok("a collect", memory_region_snapshot_and_clear_dirty(&d.ram, addr, size, c->client, &snapshot))) {
        return;
    }
    for (; memory_region_snapshot_next_dirty(snapshot, at, &at, &len); at += len) {
        if (!copy(c, at, len)) {
            break;
        }
    }
    memory_region_snapshot_free(snapshot);
}

static void collector_turn(StormThread *t)
{
    Client *c = &d.clients[storm_below(t, 2)];
    /* From anywhere on: a granule that is taken in part is told as a whole. */
    hwaddr addr = storm_chance(t, 2) ? 0 : storm_below(t, RAM_SIZE);
    uint64_t size = storm_chance(t, 2) ? 1 + storm_below(t, RAM_SIZE - addr) : RAM_SIZE - addr;

    if (storm_chance(t, 16)) { /* all anew, without looking */
        plane_did(&did[RESETS], 1);
        if (ok("reset", memory_region_reset_dirty(&d.ram, addr, size, c->client))) {
            copy(c, addr, size);
        }
    } else {
        plane_did(&did[COLLECTS], 1);
        collect(c, addr, size);
    }
}

/* ---- the end, and every moment of rest ------------------------------------------------------------------------ */

static void compare(void)
{
    for (unsigned i = 0; i < 2; i++) {
        Client *c = &d.clients[i];

        if (!c->on) {
            continue; /* it sees nothing, and says so by being off */
        }
        collect(c, 0, RAM_SIZE);
        for (unsigned page = 0; page < RAM_PAGES; page++) {
            uint8_t *ours = c->copy + (size_t)page * STORM_PAGE;
            const uint8_t *original = d.host + (size_t)page * STORM_PAGE;

            if (memcmp(ours, original, STORM_PAGE) != 0) {
                storm_violation("%s: client %u: page %u of the copy differs, and nothing says it is dirty",
                                storm_dirty.name, c->client, page);
                memcpy(ours, original, STORM_PAGE); /* each fault is told once */
            }
        }
    }
}

/* As the storm left it; then with a store to each page, so that a mark that is missed now and then is missed soon. */
static void judge(void)
{
    static uint64_t value;

    log_mirror_judge();
    compare();
    for (unsigned page = 0; page < RAM_PAGES; page++) {
        hwaddr addr = (hwaddr)page * STORM_PAGE + 8 * page;
        MemTxResult result = address_space_stq_le(&d.whole, addr, MEMTXATTRS_UNSPECIFIED, ++value);

        if (result != (memory_region_is_readonly(&d.ram) ? MEMTX_ACCESS_ERROR : MEMTX_OK)) {
            storm_violation("%s: a store to RAM at rest: result %d", storm_dirty.name, (int)result);
        }
    }
    compare();
}

static void finish(void)
{
    log_mirror_stop();
    for (unsigned i = 0; i < 2; i++) {
        if (d.clients[i].on) {
            ok("log", memory_region_set_log(&d.ram, false, d.clients[i].client));
        }
    }
    if (memory_region_get_parent(&d.ram)) {
        ok("del", memory_region_del_subregion(&d.corner, &d.ram));
    }
    ok("del", memory_region_del_subregion(&d.root, &d.corner));
    ok("del", memory_region_del_subregion(&d.root, &d.window));
    ok("del", memory_region_del_subregion(&d.whole_root, &d.whole_alias));
    plane_end(&storm_dirty, (AddressSpace *[]){ &d.space, &d.whole, NULL },
              (MemoryRegion *[]){ &d.window, &d.whole_alias, &d.ram, &d.corner, &d.root, &d.whole_root, NULL });
}

const StormPlane storm_dirty = {
    .name = "dirty-log",
    .kinds = kinds,
    .sabotages = (const char *const[]){ "drop-dirty", "drop-log", NULL },
    .did = did,
    .start = start,
    .turn = { vcpu_turn, writer_turn, collector_turn },
    .judge = judge,
    .finish = finish,
};
