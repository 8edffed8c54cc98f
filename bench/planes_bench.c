/* SPDX-License-Identifier: MIT */
/*
 * planes_bench.c - what regions carry beside what they show: what changing it costs, and using it.
 *
 *   eventfds   3,200 ioeventfds on 100 devices, and on 50 and 10 (so that "linear" is a ratio), with a listener: one by one, each its
 *              own commit; by batch, a commit for each device; in one commit. Then one device with its 32 is moved, among
 *              others, and one ioeventfd is added and taken away: the listener counts what it is told.
 *   kick       a store that is an ioeventfd's, against the write() alone
 *   coalesced  stores to a coalesced range, flushed every 64, against direct calls; and how long a write waits at most
 *
 * One function for each plane; `--count` counts instructions.
 */
#include "bench.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <flatview/memory.h>

enum { DEVICES = 100, QUEUES = 32, SIZE = 0x1000 };

typedef struct Device {
    MemoryRegion mr;
    uint64_t written;
} Device;

typedef struct Machine {
    MemoryRegion root;
    AddressSpace as;
    MemoryListener listener;
    Device device[DEVICES];
    unsigned n;
    int fd;
} Machine;

static uint64_t told; /* calls of the listener about ioeventfds */

static uint64_t device_read(MemoryRegion *mr, hwaddr addr, unsigned size)
{
    (void)size;
    return addr + container_of(mr, Device, mr)->written;
}

static void device_write(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size)
{
    (void)addr;
    (void)size;
    container_of(mr, Device, mr)->written += data;
}

static const MemoryRegionOps device_ops = {
    .read = device_read,
    .write = device_write,
    .endianness = MEMORY_LITTLE_ENDIAN,
    .valid = {.min_access_size = 1, .max_access_size = 8},
    .impl = {.min_access_size = 1, .max_access_size = 8},
};

static void hear(MemoryListener *listener, const MemoryRegionSection *section, bool match_data, uint64_t data, int fd)
{
    (void)listener;
    (void)section;
    (void)match_data;
    (void)data;
    bench_check(fd >= 0);
    told++;
}

static Machine *machine_new(unsigned n)
{
    Machine *m = bench_alloc(1, sizeof(*m));
    unsigned i;

    m->n = n;
    m->fd = eventfd(0, EFD_NONBLOCK);
    bench_check(m->fd >= 0);
    bench_check(memory_region_init(&m->root, "root", UINT64_MAX) == 0);
    for (i = 0; i < n; i++) {
        bench_check(memory_region_init_io(&m->device[i].mr, &device_ops, "device", SIZE) == 0);
        bench_check(memory_region_add_subregion(&m->root, (hwaddr)i * 2 * SIZE, &m->device[i].mr) == 0);
    }
    bench_check(address_space_init(&m->as, &m->root, "space") == 0);
    m->listener.eventfd_add = hear;
    m->listener.eventfd_del = hear;
    bench_check(memory_listener_register(&m->listener, &m->as) == 0);
    return m;
}

static void machine_end(Machine *m)
{
    unsigned i;

    bench_check(memory_listener_unregister(&m->listener) == 0);
    bench_check(address_space_destroy(&m->as, NULL) == 0);
    for (i = 0; i < m->n; i++) {
        bench_check(memory_region_del_subregion(&m->root, &m->device[i].mr) == 0);
        bench_check(memory_region_destroy(&m->device[i].mr) == 0);
    }
    bench_check(memory_region_destroy(&m->root) == 0);
    bench_check(memory_reclaim() == 0);
    bench_check(memory_region_quiesce(&m->root) == 0);
    for (i = 0; i < m->n; i++) {
        bench_check(memory_region_quiesce(&m->device[i].mr) == 0);
    }
    close(m->fd);
    free(m);
}

enum How { ONE_BY_ONE, BATCHES, ONE_COMMIT };

static void device_queues(Machine *m, Device *device, enum How how, bool add)
{
    MemoryRegionEventfd queue[QUEUES];
    unsigned i;

    for (i = 0; i < QUEUES; i++) {
        queue[i] = (MemoryRegionEventfd){.addr = 0x100 + 4 * i, .size = 4, .fd = m->fd};
        if (how == ONE_BY_ONE) {
            bench_check((add ? memory_region_add_eventfds : memory_region_del_eventfds)(&device->mr, &queue[i], 1) == 0);
        }
    }
    if (how != ONE_BY_ONE) {
        bench_check((add ? memory_region_add_eventfds : memory_region_del_eventfds)(&device->mr, queue, QUEUES) == 0);
    }
}

static void all_queues(Machine *m, enum How how, bool add)
{
    uint64_t before = told;
    unsigned i;

    if (how == ONE_COMMIT) {
        bench_check(memory_transaction_begin() == 0);
    }
    for (i = 0; i < m->n; i++) {
        device_queues(m, &m->device[i], how, add);
    }
    if (how == ONE_COMMIT) {
        bench_check(memory_transaction_commit() == 0);
    }
    bench_check(told - before == (uint64_t)m->n * QUEUES);
}

static void setup_eventfds(unsigned n, enum How how)
{
    static const char *const names[] = {"one by one", "batch of a device", "one commit"};
    const char *params = bench_text("\"devices\":%u,\"eventfds\":%u,\"how\":\"%s\"", n, n * QUEUES, names[how]);
    unsigned passes = bench_options.quick ? 3 : 9, i;
    Machine *m = machine_new(n);
    Series times = {0};

    all_queues(m, how, true); /* hooks and vectors are there from now on */
    all_queues(m, how, false);
    if (bench_options.count) {
        bench_count_begin();
        bench_count_on();
        all_queues(m, how, true);
        bench_count_off();
        bench_count_end("eventfds: add", params, (uint64_t)n * QUEUES);
        all_queues(m, how, false);
    } else {
        for (i = 0; i < passes; i++) {
            uint64_t begun = bench_now();

            all_queues(m, how, true);
            series_add(&times, (double)(bench_now() - begun) / (n * QUEUES));
            all_queues(m, how, false);
        }
        bench_emit("eventfds: add", params, "time", "ns", &times);
    }
    machine_end(m);
}

/* ---- one device of many ---- */

static uint64_t move_device(void *arg, uint64_t n)
{
    Machine *m = arg;
    uint64_t i;

    for (i = 0; i < n; i++) {
        uint64_t before = told;

        bench_check(memory_region_set_address(&m->device[7].mr, (hwaddr)(2 * m->n + (i & 1)) * 2 * SIZE) == 0);
        bench_check(told - before == 2 * QUEUES); /* all of its own go and come, no other */
    }
    return n;
}

static uint64_t toggle_eventfd(void *arg, uint64_t n)
{
    Machine *m = arg;
    uint64_t i, before = told;

    for (i = 0; i < n; i++) {
        bench_check(memory_region_add_eventfd(&m->device[7].mr, 0x800, 4, false, 0, m->fd) == 0);
        bench_check(memory_region_del_eventfd(&m->device[7].mr, 0x800, 4, false, 0, m->fd) == 0);
    }
    bench_check(told - before == 2 * n);
    return n;
}

static void change_one(void)
{
    Machine *few = machine_new(10), *many = machine_new(DEVICES);
    BenchCase cases[] = {
        {"eventfds: move a device of 32", "\"devices\":10", move_device, NULL, few, 200, 100, 0, {0}},
        {"eventfds: move a device of 32", "\"devices\":100", move_device, NULL, many, 200, 100, 0, {0}},
        {"eventfds: add and delete one", "\"devices\":10", toggle_eventfd, NULL, few, 200, 100, 0, {0}},
        {"eventfds: add and delete one", "\"devices\":100", toggle_eventfd, NULL, many, 200, 100, 0, {0}},
    };

    all_queues(few, ONE_COMMIT, true);
    all_queues(many, ONE_COMMIT, true);
    bench_cases(cases, sizeof(cases) / sizeof(cases[0]), bench_options.quick ? 1 : 5, bench_options.quick ? 2 : 5);
    machine_end(few);
    machine_end(many);
}

/* ---- accesses ---- */

static uint64_t store_plain(void *arg, uint64_t n)
{
    Machine *m = arg;
    uint64_t i, before = m->device[0].written;

    for (i = 0; i < n; i++) {
        bench_check(address_space_stl_le(&m->as, 0x200, MEMTXATTRS_UNSPECIFIED, 1) == MEMTX_OK);
    }
    bench_check(m->device[0].written - before == n);
    return n;
}

static uint64_t store_coalesced(void *arg, uint64_t n)
{
    Machine *m = arg;
    uint64_t i, before = m->device[1].written;

    for (i = 0; i < n; i++) {
        bench_check(address_space_stl_le(&m->as, 2 * SIZE + 0x200, MEMTXATTRS_UNSPECIFIED, 1) == MEMTX_OK);
        if (i % 64 == 63) {
            bench_check(memory_region_flush_coalesced(&m->device[1].mr) == 0);
        }
    }
    bench_check(memory_region_flush_coalesced(&m->device[1].mr) == 0);
    bench_check(m->device[1].written - before == n);
    return n;
}

static uint64_t kick(void *arg, uint64_t n)
{
    Machine *m = arg;
    uint64_t i, counted = 0;

    for (i = 0; i < n; i++) {
        bench_check(address_space_stl_le(&m->as, 4 * SIZE + 0x100, MEMTXATTRS_UNSPECIFIED, 1) == MEMTX_OK);
    }
    bench_check(read(m->fd, &counted, sizeof(counted)) == sizeof(counted) && counted == n);
    return counted;
}

static uint64_t bare_write(void *arg, uint64_t n)
{
    Machine *m = arg;
    uint64_t i, counted = 0, one = 1;

    for (i = 0; i < n; i++) {
        bench_check(write(m->fd, &one, sizeof(one)) == sizeof(one));
    }
    bench_check(read(m->fd, &counted, sizeof(counted)) == sizeof(counted) && counted == n);
    return counted;
}

static void accesses(void)
{
    Machine *m = machine_new(3);
    BenchCase cases[] = {
        {"store: direct call", "", store_plain, NULL, m, 20000, 2000, 0, {0}},
        {"store: coalesced, flushed every 64", "", store_coalesced, NULL, m, 20000, 2000, 0, {0}},
        {"store: ioeventfd of 32", "", kick, NULL, m, 5000, 2000, 0, {0}},
        {"write(2) alone", "", bare_write, NULL, m, 5000, 2000, 0, {0}},
    };

    bench_check(memory_region_add_coalescing(&m->device[1].mr, 0, SIZE) == 0);
    device_queues(m, &m->device[2], BATCHES, true);
    bench_cases(cases, sizeof(cases) / sizeof(cases[0]), bench_options.quick ? 1 : 5, bench_options.quick ? 2 : 5);
    machine_end(m);
}

/* From a coalesced write to its delivery, if nobody asks. */
static void coalesced_in_time(void)
{
    unsigned times = bench_options.quick ? 5 : 50, i;
    Machine *m = machine_new(1);
    Series waits = {0};

    bench_check(memory_region_set_coalescing(&m->device[0].mr) == 0);
    for (i = 0; i < times && !bench_options.count; i++) {
        uint64_t before = __atomic_load_n(&m->device[0].written, __ATOMIC_RELAXED), begun = bench_now();
        struct timespec pause = {.tv_nsec = 50000};

        bench_check(address_space_stl_le(&m->as, 0, MEMTXATTRS_UNSPECIFIED, 1) == MEMTX_OK);
        while (__atomic_load_n(&m->device[0].written, __ATOMIC_RELAXED) == before) {
            nanosleep(&pause, NULL);
            bench_check(bench_now() - begun < UINT64_C(60000000000));
        }
        series_add(&waits, (double)(bench_now() - begun));
    }
    if (!bench_options.count) {
        bench_emit("coalesced: until delivered, unasked", "", "time", "ns", &waits);
    }
    machine_end(m);
}

int main(int argc, char **argv)
{
    enum How how;

    bench_init(argc, argv, "planes");
    bench_pin(0);
    for (how = ONE_BY_ONE; how <= ONE_COMMIT; how++) {
        setup_eventfds(DEVICES / 10, how);
        setup_eventfds(DEVICES / 2, how);
        setup_eventfds(DEVICES, how);
    }
    change_one();
    accesses();
    coalesced_in_time();
    return 0;
}
