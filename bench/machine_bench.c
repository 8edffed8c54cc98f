/* SPDX-License-Identifier: MIT */
/*
 * machine_bench.c - what one commit costs in maps of a certain shape.
 *
 *   chain     256 devices behind 16 aliases of aliases, each sliding its window and with something beside it
 *   masters   4,096 devices, and 64 bus masters that see them through an alias of everything
 *   q35       QEMU's q35 as captured, with 1,000 devices of 6 BARs each and 64 bus masters over its root:
 *               move    a BAR gets another address, as when a guest writes the register: memory_region_set_address()
 *               remap   the same as QEMU does it: taken out and put in again, one transaction
 *               toggle  a device's 6 BARs are disabled or enabled by its command register, one transaction
 *
 * Each operation is one outermost commit; all spaces see it.
 */
#include "bench.h"
#include "commits.h"
#include "maps.h"
#include "oracle.h"

/* ---- bus masters: an alias of everything in a container of its own. All of them show the root's view. ---- */

enum { MASTERS = 64 };

typedef struct Master {
    MemoryRegion bus, window;
    AddressSpace as;
} Master;

static Master *masters_new(MemoryRegion *root)
{
    Master *masters = bench_alloc(MASTERS, sizeof(*masters));
    MemoryStats before, after;
    unsigned i;

    memory_get_stats(&before);
    for (i = 0; i < MASTERS; i++) {
        Master *m = &masters[i];

        bench_check(memory_region_init(&m->bus, "bus master container", UINT64_MAX) == 0);
        bench_check(memory_region_init_alias(&m->window, "bus master", root, 0, UINT64_MAX) == 0);
        bench_check(memory_region_add_subregion(&m->bus, 0, &m->window) == 0);
        bench_check(address_space_init(&m->as, &m->bus, "device") == 0);
    }
    memory_get_stats(&after);
    bench_check(after.address_spaces == before.address_spaces + MASTERS && after.views == before.views);
    return masters;
}

static void masters_free(Master *masters)
{
    unsigned i;

    for (i = 0; i < MASTERS; i++) {
        Master *m = &masters[i];

        bench_check(address_space_destroy(&m->as, NULL) == 0);
        bench_check(memory_region_del_subregion(&m->bus, &m->window) == 0);
        bench_check(memory_region_destroy(&m->window) == 0 && memory_region_destroy(&m->bus) == 0);
    }
    for (i = 0; i < MASTERS; i++) {
        bench_check(memory_region_quiesce(&masters[i].window) == 0 && memory_region_quiesce(&masters[i].bus) == 0);
    }
    free(masters);
}

/* ---- one device, there and back ---- */

typedef struct Turns {
    Device *device;      /* of the operation, and the five after it, if it takes six */
    hwaddr home, there;  /* in its container */
    AddressSpace *as;    /* some space that sees it, */
    hwaddr seen;         /* and where, when it is at home */
    uint64_t turn;
} Turns;

static bool move(Turns *t, bool back)
{
    return memory_region_set_address(&t->device->mr, back ? t->home : t->there) == 0;
}

static bool remap(Turns *t, bool back)
{
    MemoryRegion *bus = memory_region_get_parent(&t->device->mr);

    return memory_transaction_begin() == 0 && memory_region_del_subregion(bus, &t->device->mr) == 0 &&
           memory_region_add_subregion_overlap(bus, back ? t->home : t->there, &t->device->mr, 1) == 0 &&
           memory_transaction_commit() == 0;
}

static bool toggle_one(Turns *t, bool back)
{
    return memory_region_set_enabled(&t->device->mr, back) == 0;
}

static bool toggle_six(Turns *t, bool back)
{
    bool ok = memory_transaction_begin() == 0;
    int i;

    for (i = 0; i < 6; i++) {
        ok = ok && memory_region_set_enabled(&t->device[i].mr, back) == 0;
    }
    return ok && memory_transaction_commit() == 0;
}

#define DEFINE_TURNS(name, call) \
    static uint64_t name(void *arg, uint64_t n) \
    { \
        Turns *t = arg; \
\
        for (n += t->turn; t->turn < n; t->turn++) { \
            bench_check(call(t, t->turn & 1)); \
        } \
        return t->turn; \
    }

DEFINE_TURNS(moves, move)
DEFINE_TURNS(remaps, remap)
DEFINE_TURNS(toggles, toggle_one)
DEFINE_TURNS(toggles_of_six, toggle_six)

static void check_home(void *arg, uint64_t n)
{
    Turns *t = arg;
    uint32_t value;

    commits_check(n);
    bench_check(address_space_ldl_le(t->as, t->seen, MEMTXATTRS_UNSPECIFIED, &value) == MEMTX_OK);
    bench_check(value == t->device->id);
}

/* The space sees the operation; the next one takes it back. */
static void check_effect(Turns *t, uint64_t (*run)(void *arg, uint64_t n))
{
    uint32_t value;

    run(t, 1);
    bench_check(address_space_ldl_le(t->as, t->seen, MEMTXATTRS_UNSPECIFIED, &value) != MEMTX_OK);
    run(t, 1);
}

static void run_turns(const char *params, Turns *t, uint64_t (*run)(void *arg, uint64_t n))
{
    BenchCase one = {
        .subject = "flatview",
        .params = params,
        .run = run,
        .after = check_home,
        .arg = t,
        .batch = 256,
        .count = 1024,
        .chunk = 32,
    };

    check_effect(t, run);
    commits_mark();
    bench_cases(&one, 1, bench_options.quick ? 2 : 4, bench_options.quick ? 8 : 20);
}

/* ---- shapes ---- */

static void chain(void)
{
    enum { DEPTH = 16, DEVICES = 256 };
    static MemoryRegion containers[DEPTH + 1], aliases[DEPTH];
    static Device beside[DEPTH], devices[DEVICES];
    hwaddr seen = DEPTH * UINT64_C(0x100000);
    AddressSpace as;
    Turns turns;
    int i;

    for (i = 0; i <= DEPTH; i++) {
        bench_check(memory_region_init(&containers[i], "container", UINT64_C(1) << 40) == 0);
    }
    for (i = 0; i < DEVICES; i++) {
        devices[i].id = (uint64_t)i;
        bench_check(memory_region_init_io(&devices[i].mr, &map_device_ops[0], "device", MAP_SIZE) == 0);
        bench_check(memory_region_add_subregion(&containers[DEPTH], (hwaddr)(i + 1) * MAP_STRIDE, &devices[i].mr) == 0);
    }
    /* Each alias shows the next container a megabyte further up; a device beside it keeps it from standing for the whole. */
    for (i = DEPTH - 1; i >= 0; i--) {
        bench_check(memory_region_init_alias(&aliases[i], "alias", &containers[i + 1], 0, UINT64_C(1) << 39) == 0);
        bench_check(memory_region_add_subregion(&containers[i], 0x100000, &aliases[i]) == 0);
        bench_check(memory_region_init_io(&beside[i].mr, &map_device_ops[0], "beside", MAP_SIZE) == 0);
        bench_check(memory_region_add_subregion(&containers[i], 0, &beside[i].mr) == 0);
    }
    bench_check(address_space_init(&as, &containers[0], "memory") == 0);
    turns = (Turns){
        .device = &devices[DEVICES / 2],
        .home = (DEVICES / 2 + 1) * MAP_STRIDE,
        .there = (DEVICES / 2 + 1) * MAP_STRIDE + MAP_STRIDE / 2,
        .as = &as,
        .seen = seen + (DEVICES / 2 + 1) * MAP_STRIDE,
    };
    run_turns("\"map\": \"chain\", \"op\": \"toggle\"", &turns, toggles);
    run_turns("\"map\": \"chain\", \"op\": \"move\"", &turns, moves);
    bench_check(address_space_destroy(&as, NULL) == 0);
    bench_check(memory_reclaim() == 0); /* as is the stack's; the regions are static, and stay */
}

static void with_masters(void)
{
    Map *map = map_new(4096, false);
    Master *masters = masters_new(&map->root);
    Turns turns = {
        .device = &map->devices[2048],
        .home = map_addr(2048),
        .there = map_addr(2048) + MAP_STRIDE / 2,
        .as = &masters[MASTERS - 1].as,
        .seen = map_addr(2048),
    };

    run_turns("\"map\": \"masters\", \"op\": \"toggle\"", &turns, toggles);
    run_turns("\"map\": \"masters\", \"op\": \"move\"", &turns, moves);
    masters_free(masters);
    map_free(map);
}

static void q35(void)
{
    enum { DEVICES = 1000, BARS = 6 };
    const hwaddr window = UINT64_C(0x380000000000), bar_stride = 0x10000;
    Device *bars = bench_alloc(DEVICES * BARS, sizeof(*bars));
    TopoFile *topo = oracle_read("x86_64/q35");
    MemoryRegion *pci;
    Machine machine;
    Master *masters;
    InputError err;
    Turns turns;
    size_t i;

    machine_init(&machine, NULL);
    bench_check(machine_become(&machine, topo, NULL, &err));
    pci = oracle_region(&machine, "pci");
    bench_check(memory_transaction_begin() == 0);
    for (i = 0; i < DEVICES * BARS; i++) {
        bars[i].id = i;
        bench_check(memory_region_init_io(&bars[i].mr, &map_device_ops[0], "BAR", 0x4000) == 0);
        bench_check(memory_region_add_subregion_overlap(pci, window + i * bar_stride, &bars[i].mr, 1) == 0);
    }
    bench_check(memory_transaction_commit() == 0);
    masters = masters_new(oracle_region(&machine, "system"));
    i = DEVICES / 2 * BARS;
    turns = (Turns){
        .device = &bars[i],
        .home = window + i * bar_stride,
        .there = window + i * bar_stride + 0x8000,
        .as = &masters[MASTERS - 1].as,
        .seen = window + i * bar_stride,
    };
    run_turns("\"map\": \"q35\", \"op\": \"move\"", &turns, moves);
    run_turns("\"map\": \"q35\", \"op\": \"remap\"", &turns, remaps);
    run_turns("\"map\": \"q35\", \"op\": \"toggle of 6\"", &turns, toggles_of_six);

    masters_free(masters);
    bench_check(memory_transaction_begin() == 0);
    for (i = 0; i < DEVICES * BARS; i++) {
        bench_check(memory_region_del_subregion(pci, &bars[i].mr) == 0 && memory_region_destroy(&bars[i].mr) == 0);
    }
    bench_check(memory_transaction_commit() == 0);
    for (i = 0; i < DEVICES * BARS; i++) {
        bench_check(memory_region_quiesce(&bars[i].mr) == 0);
    }
    machine_fini(&machine, NULL);
    oracle_free(topo);
    free(bars);
}

int main(int argc, char **argv)
{
    bench_init(argc, argv, "machine");
    bench_pin(1);
    chain();
    with_masters();
    if (oracle_folder()) {
        q35();
    }
    return 0;
}
