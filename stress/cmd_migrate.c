/* SPDX-License-Identifier: MIT */
/*
 * cmd_migrate.c - `flatview migrate`: copies RAM while it is written and moved, as a live migration does.
 *
 *     flatview migrate --seconds 10 --vcpus 3
 *     flatview migrate --sabotage drop-dirty     forgets to mark a store now and then: must end with status 1
 *
 * Rounds: the collector copies what is dirty, again and again, while vCPUs store through dispatch in every way that there is, an
 * accelerator's guest stores through its slots, RAM moves, vanishes, comes back, and clients of the log come and go. Then all
 * stand still, once more is collected and copied, and the copy must equal the original, byte by byte (ORDERING: R7). One line at
 * the end; a difference is a line on standard error, and status 1.
 */
#include "commands.h"
#include "migrate.h"

#include "base/sabotage.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_VCPUS = 16, ROUND_MS = 30 };

struct Migrate migrate;

static struct {
    unsigned long seconds, vcpus, seed;
} options = {5, 2, 1};

static struct {
    pthread_t threads[MAX_VCPUS + 2];
    unsigned n;
    pthread_barrier_t barrier;
    bool pause, stop; /* atomic */
    uint64_t rounds, passes, copied, wrong;
} run;

const char migrate_options[] =
    "  --seconds N       how long (5)\n"
    "  --vcpus N         threads that store through dispatch (2); an accelerator and a mover come on top\n"
    "  --seed N          of the random decisions (1)\n"
    "  --sabotage NAME   drop-dirty: must end with status 1\n";

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void count(uint64_t *what)
{
    __atomic_fetch_add(what, 1, __ATOMIC_RELAXED);
}

/* ---- threads that change things ------------------------------------------------------------------------------- */

static bool store(uint64_t *random)
{
    static const MemTxAttrs attrs;
    uint64_t r = migrate_random(random), value = migrate_random(random);
    unsigned i = (unsigned)(r % MIGRATE_RAMS);
    uint64_t offset = (r >> 8) % MIGRATE_BYTES;
    bool fixed = r >> 60 & 1;
    AddressSpace *as = fixed ? &migrate.whole : &migrate.as;
    hwaddr addr = offset + (fixed ? (uint64_t)i << 32 : __atomic_load_n(&migrate.ram[i].where, __ATOMIC_RELAXED));
    uint8_t bytes[3 * MIGRATE_PAGE];

    switch (r >> 56 & 15) {
    case 0:
        memset(bytes, (int)value, sizeof(bytes));
        return address_space_write(as, addr, attrs, bytes, 1 + value % sizeof(bytes)) == MEMTX_OK;
    case 1:
        return address_space_set(as, addr, (uint8_t)value, 1 + (value >> 8) % 5000, attrs) == MEMTX_OK;
    case 2: /* a device thread with a pointer */
        __atomic_store_n(migrate.ram[i].host + offset, (uint8_t)value, __ATOMIC_RELAXED);
        return memory_region_set_dirty(&migrate.ram[i].mr, offset, 1) == 0;
    case 3:
    case 4:
        return address_space_stb(as, addr, attrs, (uint8_t)value) == MEMTX_OK;
    case 5:
        return address_space_stw_le(as, addr, attrs, (uint16_t)value) == MEMTX_OK;
    case 6:
    case 7:
        return address_space_stl_be(as, addr & ~UINT64_C(3), attrs, (uint32_t)value) == MEMTX_OK;
    default:
        return address_space_stq_le(as, addr & ~UINT64_C(7), attrs, value) == MEMTX_OK;
    }
}

static bool at_work(void)
{
    if (__atomic_load_n(&run.pause, __ATOMIC_ACQUIRE)) {
        pthread_barrier_wait(&run.barrier); /* all stand still */
        pthread_barrier_wait(&run.barrier); /* compared */
    }
    return !__atomic_load_n(&run.stop, __ATOMIC_RELAXED);
}

static uint64_t seed_of(const void *arg)
{
    return (options.seed * 1000 + (uintptr_t)arg + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

static void *vcpu_main(void *arg)
{
    uint64_t random = seed_of(arg);

    while (at_work()) {
        if (store(&random)) {
            count(&migrate.stores);
        }
    }
    return NULL;
}

static void *accel_main(void *arg)
{
    uint64_t random = seed_of(arg);

    while (at_work()) {
        if (migrate_accel_store(&random)) {
            count(&migrate.accel_stores);
        }
    }
    return NULL;
}

static void move(MigrateRam *ram, uint64_t r)
{
    MemoryRegion *mr = &ram->mr;
    /* In its corner, so that two never overlap and a slot is all of a RAM or nothing. */
    hwaddr addr = (r >> 32 & 63) * MIGRATE_BYTES;

    switch (r >> 40 & 7) {
    case 0:
        memory_region_set_enabled(&ram->corner, !memory_region_is_enabled(&ram->corner));
        break;
    case 1:
        if (memory_region_get_parent(mr)) {
            memory_region_del_subregion(&ram->corner, mr);
        } else {
            memory_region_add_subregion(&ram->corner, addr, mr);
        }
        break;
    case 2:
        memory_region_set_log(mr, !memory_region_is_logging(mr, DIRTY_MEMORY_VGA), DIRTY_MEMORY_VGA);
        break;
    case 3:
        memory_region_set_readonly(mr, !memory_region_is_readonly(mr));
        break;
    case 4:
        memory_transaction_begin();
        memory_region_set_log(mr, true, DIRTY_MEMORY_MIGRATION); /* a second user, for a moment */
        memory_region_set_address(mr, addr);
        if (r >> 50 & 1) {
            memory_region_set_log(mr, false, DIRTY_MEMORY_MIGRATION);
            memory_transaction_commit();
        } else {
            memory_transaction_abort();
        }
        break;
    default:
        memory_region_set_address(mr, addr);
    }
    __atomic_store_n(&ram->where, memory_region_get_addr(&ram->corner) + memory_region_get_addr(mr), __ATOMIC_RELAXED);
}

static void *mover_main(void *arg)
{
    uint64_t random = seed_of(arg);

    while (at_work()) {
        uint64_t r = migrate_random(&random);

        move(&migrate.ram[r % MIGRATE_RAMS], r);
        count(&migrate.moves);
        nanosleep(&(struct timespec){.tv_nsec = (long)(r >> 20 & 0x3ffff)}, NULL);
    }
    return NULL;
}

/* ---- the collector -------------------------------------------------------------------------------------------- */

/* Copies what is dirty; bytes, or -1. */
static int64_t pass(MigrateRam *ram, unsigned i)
{
    static const MemTxAttrs attrs;
    DirtyBitmapSnapshot *snapshot;
    uint64_t size, bytes = 0;
    hwaddr addr = 0;

    if (memory_region_snapshot_and_clear_dirty(&ram->mr, 0, MIGRATE_BYTES, DIRTY_MEMORY_MIGRATION, &snapshot) < 0) {
        return -1;
    }
    for (; memory_region_snapshot_next_dirty(snapshot, addr, &addr, &size); addr += size) {
        if (address_space_read(&migrate.whole, ((uint64_t)i << 32) + addr, attrs, ram->copy + addr, size) != MEMTX_OK) {
            memory_region_snapshot_free(snapshot);
            return -1;
        }
        bytes += size;
    }
    memory_region_snapshot_free(snapshot);
    return (int64_t)bytes;
}

static bool pass_all(void)
{
    for (unsigned i = 0; i < MIGRATE_RAMS; i++) {
        int64_t bytes = pass(&migrate.ram[i], i);

        if (bytes < 0) {
            fprintf(stderr, "flatview: migrate: RAM %u: no snapshot\n", i);
            run.wrong++;
            return false;
        }
        run.copied += (uint64_t)bytes;
    }
    run.passes++;
    return true;
}

static void compare(void)
{
    for (unsigned i = 0; i < MIGRATE_RAMS; i++) {
        MigrateRam *ram = &migrate.ram[i];

        for (unsigned page = 0; page < MIGRATE_PAGES; page++) {
            size_t at = (size_t)page * MIGRATE_PAGE;

            if (memcmp(ram->host + at, ram->copy + at, MIGRATE_PAGE) != 0) {
                if (run.wrong++ < 10) {
                    fprintf(stderr, "flatview: migrate: round %lu: RAM %u page %u: the copy differs\n",
                            (unsigned long)run.rounds, i, page);
                }
                memcpy(ram->copy + at, ram->host + at, MIGRATE_PAGE); /* each fault is told once */
            }
        }
    }
}

/* A migration from its beginning to the moment at which the vCPUs stand still. */
static bool one_round(bool again)
{
    uint64_t end = now_ms() + ROUND_MS;
    bool ok = true;

    if (again) {
        ok = memory_global_dirty_log_start(GLOBAL_DIRTY_MIGRATION) == 0 && memory_dirty_log_wait() == 0;
    }
    while (ok && now_ms() < end) {
        ok = pass_all();
    }
    __atomic_store_n(&run.pause, true, __ATOMIC_RELEASE);
    pthread_barrier_wait(&run.barrier);
    ok = ok && pass_all();
    compare();
    run.rounds++;
    __atomic_store_n(&run.pause, false, __ATOMIC_RELEASE);
    pthread_barrier_wait(&run.barrier);
    return ok;
}

static void collect_until(uint64_t end)
{
    bool ok = true, on = false;

    while (ok && now_ms() < end) {
        ok = one_round(!on);
        on = run.rounds % 4 != 0;
        if (!on) {
            ok = memory_global_dirty_log_stop(GLOBAL_DIRTY_MIGRATION) == 0 && ok;
        }
    }
    if (on) {
        memory_global_dirty_log_stop(GLOBAL_DIRTY_MIGRATION);
    }
    run.wrong += !ok;
}

/* ---- setting up ----------------------------------------------------------------------------------------------- */

static int setup(MemoryRegion *root, MemoryRegion *all, MemoryRegion *aliases)
{
    int error = memory_region_init(root, "root", UINT64_MAX);

    error = error ? error : memory_region_init(all, "all", UINT64_MAX);
    for (unsigned i = 0; i < MIGRATE_RAMS && !error; i++) {
        MigrateRam *ram = &migrate.ram[i];

        ram->copy = calloc(1, MIGRATE_BYTES);
        ram->where = (uint64_t)i << 28;
        error = ram->copy ? memory_region_init_ram(&ram->mr, "ram", MIGRATE_BYTES) : -1;
        error = error ? error : memory_region_init(&ram->corner, "corner", UINT64_C(1) << 28);
        error = error ? error : memory_region_add_subregion(root, ram->where, &ram->corner);
        error = error ? error : memory_region_add_subregion(&ram->corner, 0, &ram->mr);
        error = error ? error : memory_region_init_alias(&aliases[i], "alias", &ram->mr, 0, MIGRATE_BYTES);
        error = error ? error : memory_region_add_subregion(all, (uint64_t)i << 32, &aliases[i]);
        ram->host = memory_region_get_ram_ptr(&ram->mr);
    }
    error = error ? error : address_space_init(&migrate.as, root, "guest");
    error = error ? error : address_space_init(&migrate.whole, all, "whole");
    return error ? error : migrate_accel_init();
}

static bool start(void *(*main_fn)(void *), void *arg)
{
    return pthread_create(&run.threads[run.n], NULL, main_fn, arg) == 0 && ++run.n;
}

static int migrate_run(void)
{
    static MemoryRegion root, all, aliases[MIGRATE_RAMS];

    pthread_barrier_init(&run.barrier, NULL, (unsigned)options.vcpus + 3);
    if (setup(&root, &all, aliases) != 0 || !start(mover_main, (void *)(uintptr_t)77) || !start(accel_main, (void *)(uintptr_t)99)) {
        fprintf(stderr, "flatview: migrate: cannot set up\n");
        return EXIT_UNUSABLE;
    }
    for (unsigned long i = 0; i < options.vcpus; i++) {
        if (!start(vcpu_main, (void *)(uintptr_t)i)) {
            fprintf(stderr, "flatview: migrate: cannot start a thread\n");
            return EXIT_UNUSABLE;
        }
    }
    collect_until(now_ms() + options.seconds * 1000);
    __atomic_store_n(&run.stop, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < run.n; i++) {
        pthread_join(run.threads[i], NULL);
    }
    migrate_accel_fini();
    printf("%s: %lu rounds, %lu passes, %lu MiB copied, %lu stores, %lu by the accelerator, %lu moves, %lu pages wrong\n",
           run.wrong ? "failed" : "ok", (unsigned long)run.rounds, (unsigned long)run.passes,
           (unsigned long)(run.copied >> 20), (unsigned long)migrate.stores, (unsigned long)migrate.accel_stores,
           (unsigned long)migrate.moves, (unsigned long)run.wrong);
    return run.wrong ? EXIT_WRONG : EXIT_OK;
}

/* ---- the command line ----------------------------------------------------------------------------------------- */

static bool parse_number(const char *text, unsigned long min, unsigned long max, unsigned long *ret)
{
    char *end;
    unsigned long value = strtoul(text, &end, 0);

    if (end == text || *end || text[0] == '-' || value < min || value > max) {
        fprintf(stderr, "flatview: migrate: '%s' is not a number from %lu to %lu\n", text, min, max);
        return false;
    }
    *ret = value;
    return true;
}

static bool choose_sabotage(const char *name)
{
#ifdef FLATVIEW_SABOTAGE
    if (strcmp(name, "drop-dirty") == 0) {
        sabotage_active = SABOTAGE_DROP_DIRTY;
        return true;
    }
#endif
    fprintf(stderr, "flatview: migrate: no sabotage '%s'\n", name);
    return false;
}

int migrate_main(int argc, char **argv)
{
    static const struct option longs[] = {
        { "sabotage", required_argument, NULL, 'x' },
        { "seconds", required_argument, NULL, 's' },
        { "seed", required_argument, NULL, 'r' },
        { "vcpus", required_argument, NULL, 'v' },
        { NULL, 0, NULL, 0 },
    };
    bool ok = true;
    int option;

    while (ok && (option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (option) {
        case 'x':
            ok = choose_sabotage(optarg);
            break;
        case 's':
            ok = parse_number(optarg, 1, 1000000, &options.seconds);
            break;
        case 'r':
            ok = parse_number(optarg, 0, 1000000, &options.seed);
            break;
        case 'v':
            ok = parse_number(optarg, 1, MAX_VCPUS, &options.vcpus);
            break;
        default:
            ok = false;
        }
    }
    if (ok && optind < argc) {
        fprintf(stderr, "flatview: migrate: unexpected '%s'\n", argv[optind]);
        ok = false;
    }
    return ok ? migrate_run() : EXIT_UNUSABLE;
}
