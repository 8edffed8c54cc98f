/* SPDX-License-Identifier: MIT */
/*
 * storm_serial.c - regions with a lock, regions that are stopped and quiesced, and regions that an access comes back to.
 *
 * Invariant: no two calls under one lock run at once; none runs from the return of a stop to the resume; none that began before
 * a quiesce runs when that has returned. What a call does under its lock, or between two stops, is therefore ordered: the
 * counters are not atomic, for ThreadSanitizer to judge. A write that comes back to its device is carried out nested, refused
 * without a call, or put off to the end of the outermost call, as a policy says that was in force meanwhile; and once at most.
 * Established by the library (memory_serial.h, memory_reentrancy.h), judged by vCPUs and the writer.
 */
#include "storm_planes.h"

#include <sched.h>
#include <string.h>

#define PAIR 2u /* regions that share a lock */
#define BURST 32
#define RUNNING 0u /* what a fact says of the stopped region: this or a MemoryStop */

enum { PAIR_AT = 0, SWITCHED_AT = 0x2000, CONFIG_AT = 0x3000, DEVICE_AT = 0x4000, HELPER_AT = 0x5000, SPACE_SIZE = 0x8000 };
enum { OUTER = 0, INNER = 8 }; /* registers of the device: a write to the first comes back to the second */

typedef struct Serial { /* not atomic: what the library serialises */
    unsigned inside;
    uint64_t calls;
    bool stopped;
} Serial;

typedef struct Config {
    uint64_t canary;
} Config;

static struct {
    MemoryRegion root, pair[PAIR], switched, config_user, device, helper;
    AddressSpace space;
    pthread_mutex_t mutexes[3];
    MemoryLock locks[3]; /* of the pair; two for `switched` in turn */
    Serial of_pair, of_switched;
    Fact state, policy;
    unsigned lock;
    Config configs[2], *config; /* config: atomic */
} s;

/* Of this thread's access to the device. */
static __thread struct {
    unsigned depth, outer_ran, inner_ran, inner_nested;
    MemTxResult inner;
} came;

enum { LOCKED, SWITCHES, STOPPED, REFUSED, QUIESCED, POLICIES, ABORTS, NESTED, SENT_BACK, PUT_OFF, SCOPES, KINDS };
static const char *const kinds[] = { "locked calls", "locks changed", "stops", "refused while stopped", "quiesced", "policies",
                                     "aborts", "nested", "refused as re-entrant", "put off", "scopes", NULL };
static uint64_t did[KINDS];

static bool ok(const char *what, int error)
{
    return plane_ok(&storm_serial, what, error);
}

/* ---- what answers --------------------------------------------------------------------------------------------- */

/* Long enough to be met, now and then by a thread that is not running meanwhile. */
static void dwell(uint64_t turn)
{
    if (turn % 64 == 0) {
        sched_yield();
    }
    for (volatile unsigned i = 0; i < 100; i++) {
    }
}

static void serial_call(Serial *serial, const char *what)
{
    if (serial->inside++ || serial->stopped) {
        storm_violation("%s: %s: %u other calls are inside%s", storm_serial.name, what, serial->inside - 1,
                        serial->stopped ? ", and it is stopped" : "");
    }
    dwell(++serial->calls);
    serial->inside--;
}

static MemTxResult on_write(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size, MemTxAttrs attrs)
{
    const Config *config;

    (void)size;
    if (mr == &s.switched) {
        serial_call(&s.of_switched, "a region that is stopped");
    } else if (mr == &s.config_user) {
        config = __atomic_load_n(&s.config, __ATOMIC_ACQUIRE);
        for (unsigned i = 0; i < 2; i++) {
            if (config->canary != BACKING_ALIVE) {
                storm_violation("%s: a call uses what it was quiesced for", storm_serial.name);
            }
            dwell(data);
        }
    } else if (mr == &s.helper) {
        return address_space_stl_le(&s.space, DEVICE_AT + INNER, attrs, (uint32_t)data);
    } else if (mr == &s.device && addr == OUTER) {
        came.outer_ran++;
        came.depth++;
        came.inner = address_space_stl_le(&s.space, HELPER_AT, attrs, (uint32_t)data);
        came.depth--;
    } else if (mr == &s.device) {
        came.inner_ran++;
        came.inner_nested += came.depth;
    } else {
        serial_call(&s.of_pair, "a pair under one lock");
    }
    return MEMTX_OK;
}

static const MemoryRegionOps ops = {
    .write_with_attrs = on_write,
    .endianness = MEMORY_LITTLE_ENDIAN,
    .valid = { .min_access_size = 4, .max_access_size = 4 },
    .impl = { .min_access_size = 4, .max_access_size = 4 },
};

static bool add(MemoryRegion *mr, const char *name, hwaddr at)
{
    return ok(name, memory_region_init_io(mr, &ops, name, STORM_PAGE)) &&
           ok("add", memory_region_add_subregion(&s.root, at, mr));
}

static bool start(void)
{
    bool well = ok("root", memory_region_init(&s.root, "serial", SPACE_SIZE)) &&
                ok("space", address_space_init(&s.space, &s.root, "serial"));

    for (unsigned i = 0; i < 3; i++) {
        pthread_mutex_init(&s.mutexes[i], NULL);
        s.locks[i].mutex = &s.mutexes[i];
    }
    for (unsigned i = 0; i < PAIR && well; i++) {
        well = add(&s.pair[i], "pair", PAIR_AT + i * STORM_PAGE) && ok("lock", memory_region_set_lock(&s.pair[i], &s.locks[0]));
    }
    fact_init(&s.state, RUNNING);
    fact_init(&s.policy, MEMORY_REENTRANCY_ALLOW);
    s.configs[0].canary = BACKING_ALIVE;
    s.config = &s.configs[0];
    s.lock = 1;
    return well && add(&s.switched, "switched", SWITCHED_AT) && add(&s.config_user, "config", CONFIG_AT) &&
           add(&s.device, "device", DEVICE_AT) && add(&s.helper, "helper", HELPER_AT) &&
           ok("lock", memory_region_set_lock(&s.switched, &s.locks[s.lock])) &&
           ok("count", memory_region_set_counted(&s.switched, true)) &&
           ok("count", memory_region_set_counted(&s.config_user, true)) &&
           ok("guard", memory_region_set_guard(&s.device, &s));
}

/* ---- calling -------------------------------------------------------------------------------------------------- */

static MemTxResult call(hwaddr addr, uint32_t value)
{
    return address_space_stl_le(&s.space, addr, MEMTXATTRS_UNSPECIFIED, value);
}

static void demand_ok(const char *what, MemTxResult result)
{
    if (result != MEMTX_OK) {
        storm_violation("%s: %s: a write gets %d", storm_serial.name, what, (int)result);
    }
}

static void call_switched(void)
{
    uint64_t since = fact_now(&s.state);
    MemTxResult result = call(SWITCHED_AT, 0);

    if (!fact_allows(&s.state, since, result == MEMTX_OK ? RUNNING : MEMORY_STOP_REFUSE, UINT64_MAX) ||
        (result != MEMTX_OK && result != MEMTX_ERROR)) {
        storm_violation("%s: a region that is %s: a write gets %d", storm_serial.name,
                        fact_value(&s.state) == RUNNING ? "running" : "stopped", (int)result);
    }
    plane_did(&did[REFUSED], result == MEMTX_ERROR);
}

static void judge_policy(uint64_t since, MemTxResult inner, unsigned nested, unsigned late, const char *what)
{
    MemoryReentrancy was = inner != MEMTX_OK ? MEMORY_REENTRANCY_REFUSE
                           : nested          ? MEMORY_REENTRANCY_ALLOW
                                             : MEMORY_REENTRANCY_QUEUE;

    if (nested + late != (inner == MEMTX_OK) || (inner != MEMTX_OK && inner != MEMTX_ACCESS_ERROR) ||
        !fact_allows(&s.policy, since, was, UINT64_MAX)) {
        storm_violation("%s: %s: result %d, carried out %u times at once and %u times later; the policy is %u",
                        storm_serial.name, what, (int)inner, nested, late, (unsigned)fact_value(&s.policy));
    }
    plane_did(&did[was == MEMORY_REENTRANCY_ALLOW ? NESTED : was == MEMORY_REENTRANCY_REFUSE ? SENT_BACK : PUT_OFF], 1);
}

/* The device writes to the helper, which writes to the device. */
static void call_device(void)
{
    uint64_t since = fact_now(&s.policy);

    memset(&came, 0, sizeof(came));
    demand_ok("a device that is not busy", call(DEVICE_AT + OUTER, 1));
    if (came.outer_ran != 1) {
        storm_violation("%s: a write reaches its device %u times", storm_serial.name, came.outer_ran);
    }
    judge_policy(since, came.inner, came.inner_nested, came.inner_ran - came.inner_nested, "A to B to A");
}

/* A device that works on its own accord is busy, too. */
static void call_in_scope(void)
{
    uint64_t since = fact_now(&s.policy);
    MemoryGuardScope scope;
    MemTxResult result;
    unsigned nested;

    memset(&came, 0, sizeof(came));
    if (!ok("a scope", memory_guard_begin(&scope, &s))) {
        return;
    }
    result = call(DEVICE_AT + INNER, 1);
    nested = came.inner_ran;
    demand_ok("the end of a scope", memory_guard_end(&scope));
    judge_policy(since, result, nested, came.inner_ran - nested, "in a scope");
    plane_did(&did[SCOPES], 1);
}

static void vcpu_turn(StormThread *t)
{
    for (unsigned i = 0; i < BURST; i++) {
        switch (storm_below(t, 6)) {
        case 0:
            call_switched();
            break;
        case 1:
            demand_ok("a region that is quiesced", call(CONFIG_AT, (uint32_t)storm_random(t)));
            break;
        case 2:
            call_device();
            break;
        case 3:
            call_in_scope();
            break;
        default:
            demand_ok("a region with a lock", call(PAIR_AT + storm_below(t, PAIR) * STORM_PAGE, 0));
            plane_did(&did[LOCKED], 1);
        }
    }
}

/* ---- changing ------------------------------------------------------------------------------------------------- */

static void stop_and_switch(StormThread *t)
{
    MemoryStop how = storm_chance(t, 2) ? MEMORY_STOP_REFUSE : MEMORY_STOP_WAIT;
    uint64_t calls;

    fact_begin(&s.state, how);
    if (!ok("stop", memory_region_stop_calls(&s.switched, how))) {
        fact_end(&s.state, false);
        return;
    }
    fact_end(&s.state, true);
    if (s.of_switched.inside) {
        storm_violation("%s: a stop returns while %u calls are inside", storm_serial.name, s.of_switched.inside);
    }
    s.of_switched.stopped = true;
    calls = s.of_switched.calls;
    if (storm_chance(t, 2)) {
        s.lock = 3 - s.lock;
        ok("lock", memory_region_set_lock(&s.switched, &s.locks[s.lock]));
        plane_did(&did[SWITCHES], 1);
    }
    for (unsigned i = 0; i < 8; i++) {
        sched_yield();
    }
    if (s.of_switched.calls != calls) {
        storm_violation("%s: a region that is stopped was called", storm_serial.name);
    }
    s.of_switched.stopped = false;
    fact_begin(&s.state, RUNNING);
    fact_end(&s.state, ok("resume", memory_region_resume_calls(&s.switched)));
    plane_did(&did[STOPPED], 1);
}

static void quiesce(void)
{
    Config *old = s.config, *next = old == &s.configs[0] ? &s.configs[1] : &s.configs[0];

    next->canary = BACKING_ALIVE;
    __atomic_store_n(&s.config, next, __ATOMIC_RELEASE);
    if (ok("quiesce", memory_region_quiesce_calls(&s.config_user))) {
        old->canary = BACKING_DEAD;
        plane_did(&did[QUIESCED], 1);
    }
}

static void change_policy(StormThread *t)
{
    MemoryReentrancy next = (MemoryReentrancy)storm_below(t, 3), old = (MemoryReentrancy)fact_value(&s.policy);

    if (storm_chance(t, 4)) { /* calls may see it until the abort */
        ok("begin", memory_transaction_begin());
        fact_begin(&s.policy, next);
        fact_end(&s.policy, ok("policy", memory_region_set_reentrancy(&s.device, next)));
        fact_begin(&s.policy, old);
        memory_transaction_abort();
        fact_end(&s.policy, true);
        plane_did(&did[ABORTS], 1);
        return;
    }
    fact_begin(&s.policy, next);
    fact_end(&s.policy, ok("policy", memory_region_set_reentrancy(&s.device, next)));
    plane_did(&did[POLICIES], 1);
}

static void writer_turn(StormThread *t)
{
    for (unsigned i = 0; i < 2; i++) {
        stop_and_switch(t);
        change_policy(t);
        quiesce();
    }
}

/* ---- at rest -------------------------------------------------------------------------------------------------- */

static void judge(void)
{
    if (s.of_pair.inside || s.of_switched.inside) {
        storm_violation("%s: at rest calls are inside", storm_serial.name);
    }
    if (memory_region_get_reentrancy(&s.device) != (MemoryReentrancy)fact_value(&s.policy) ||
        memory_region_get_lock(&s.switched) != &s.locks[s.lock]) {
        storm_violation("%s: an attribute is not what was set last", storm_serial.name);
    }
}

static void finish(void)
{
    MemoryRegion *regions[] = { &s.pair[0], &s.pair[1], &s.switched, &s.config_user, &s.device, &s.helper, &s.root, NULL };

    for (MemoryRegion **mr = regions; *mr != &s.root; mr++) {
        ok("del", memory_region_del_subregion(&s.root, *mr));
    }
    plane_end(&storm_serial, (AddressSpace *[]){ &s.space, NULL }, regions);
}

const StormPlane storm_serial = {
    .name = "serial",
    .kinds = kinds,
    .sabotages = (const char *const[]){ "drop-lock", "early-stop", "drop-guard", NULL },
    .did = did,
    .start = start,
    .turn = { vcpu_turn, writer_turn, NULL },
    .judge = judge,
    .finish = finish,
};
