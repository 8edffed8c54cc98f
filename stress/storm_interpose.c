/* SPDX-License-Identifier: MIT */
/*
 * storm_interpose.c - interposers that are put in and taken out while vCPUs access what lies below.
 *
 * Invariant: an access through the outer container meets what `outer` says was there at some time of the access: nothing, one that
 * passes, one that changes, one that refuses; then, unless refused, what `inner` says, in that order, each once; then the device,
 * once. An access by the alias, which leads through neither, meets the device alone. Established by the library
 * (memory_interpose.h), judged by the facts, without a lock.
 */
#include "storm_planes.h"

#include <string.h>

#define MASK UINT64_C(0x5555000055550000)
#define BURST 48

enum { OUTER_AT = 0, INNER_AT = 0x4000, DEVICE_AT = 0x1000, RAM_AT = 0x2000, ALIAS_AT = 0x10000, SPACE_SIZE = 0x20000 };
enum { MODE_NONE, MODE_PASS, MODE_CHANGE, MODE_REFUSE, MODES };

static struct {
    MemoryRegion root, outer, inner, device, ram, alias;
    AddressSpace space;
    Fact at_outer, at_inner; /* modes; the inner one is MODE_NONE or MODE_PASS */
} p;

/* What this thread's access met. */
static __thread struct {
    unsigned n, outer, inner, device; /* when each was met: 1, 2, 3; 0: was not */
    unsigned mode;                    /* of the outer one */
    uint64_t data;
} met;

enum { WRITES, READS, OF_RAM, BY_ALIAS, PLAIN, PASSED, CHANGED, REFUSED, TOGGLES, ABORTS, KINDS };
static const char *const kinds[] = { "writes", "reads", "of RAM", "by the alias", "plain", "passed", "changed", "refused",
                                     "toggles", "aborts", NULL };
static uint64_t did[KINDS];

static bool ok(const char *what, int error)
{
    return plane_ok(&storm_interpose, what, error);
}

/* ---- what is met ---------------------------------------------------------------------------------------------- */

static void meet(unsigned *which)
{
    *which = *which ? ~0u : ++met.n; /* twice is no order at all */
}

static MemTxResult meet_read(MemoryInterposed *access, uint64_t *data, unsigned mode)
{
    MemTxResult result;

    meet(&met.outer);
    met.mode = mode;
    result = mode == MODE_REFUSE ? MEMTX_ERROR : memory_interposer_pass_read(access, data);
    if (result == MEMTX_OK && mode == MODE_CHANGE) {
        *data ^= MASK;
    }
    return result;
}

static MemTxResult meet_write(MemoryInterposed *access, uint64_t data, unsigned mode)
{
    meet(&met.outer);
    met.mode = mode;
    return mode == MODE_REFUSE ? MEMTX_ERROR : memory_interposer_pass_write(access, mode == MODE_CHANGE ? data ^ MASK : data);
}

#define OUTER_OPS(name, mode)                                                                                             \
    static MemTxResult name##_read(MemoryRegion *mr, MemoryInterposed *access, hwaddr addr, uint64_t *data, unsigned size,   \
                                   MemTxAttrs attrs)                                                                         \
    {                                                                                                                        \
        (void)mr, (void)addr, (void)size, (void)attrs;                                                                       \
        return meet_read(access, data, mode);                                                                                \
    }                                                                                                                        \
    static MemTxResult name##_write(MemoryRegion *mr, MemoryInterposed *access, hwaddr addr, uint64_t data, unsigned size,   \
                                    MemTxAttrs attrs)                                                                        \
    {                                                                                                                        \
        (void)mr, (void)addr, (void)size, (void)attrs;                                                                       \
        return meet_write(access, data, mode);                                                                               \
    }                                                                                                                        \
    static const MemoryInterposerOps name##_ops = { name##_read, name##_write, MEMORY_LITTLE_ENDIAN };

OUTER_OPS(pass, MODE_PASS)
OUTER_OPS(change, MODE_CHANGE)
OUTER_OPS(refuse, MODE_REFUSE)

static const MemoryInterposerOps *const outer_ops[MODES] = { NULL, &pass_ops, &change_ops, &refuse_ops };

static MemTxResult inner_read(MemoryRegion *mr, MemoryInterposed *access, hwaddr addr, uint64_t *data, unsigned size,
                              MemTxAttrs attrs)
{
    (void)mr, (void)addr, (void)size, (void)attrs;
    meet(&met.inner);
    return memory_interposer_pass_read(access, data);
}

static MemTxResult inner_write(MemoryRegion *mr, MemoryInterposed *access, hwaddr addr, uint64_t data, unsigned size,
                               MemTxAttrs attrs)
{
    (void)mr, (void)addr, (void)size, (void)attrs;
    meet(&met.inner);
    return memory_interposer_pass_write(access, data);
}

static const MemoryInterposerOps inner_ops = { inner_read, inner_write, MEMORY_LITTLE_ENDIAN };

static uint64_t on_read(MemoryRegion *mr, hwaddr addr, unsigned size)
{
    (void)mr, (void)size;
    meet(&met.device);
    return backing_word(1, addr);
}

static void on_write(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size)
{
    (void)mr, (void)addr, (void)size;
    meet(&met.device);
    met.data = data;
}

static const MemoryRegionOps ops = { .read = on_read,
                                     .write = on_write,
                                     .endianness = MEMORY_LITTLE_ENDIAN,
                                     .valid = { .min_access_size = 8, .max_access_size = 8 },
                                     .impl = { .min_access_size = 8, .max_access_size = 8 } };

static bool start(void)
{
    bool well = ok("root", memory_region_init(&p.root, "interpose", SPACE_SIZE)) &&
                ok("outer", memory_region_init(&p.outer, "outer", 0x10000)) &&
                ok("inner", memory_region_init(&p.inner, "inner", 0x4000)) &&
                ok("device", memory_region_init_io(&p.device, &ops, "interposed", STORM_PAGE)) &&
                ok("RAM", memory_region_init_ram(&p.ram, "interposed-ram", STORM_PAGE)) &&
                ok("alias", memory_region_init_alias(&p.alias, "beside", &p.device, 0, STORM_PAGE)) &&
                ok("add", memory_region_add_subregion(&p.inner, DEVICE_AT, &p.device)) &&
                ok("add", memory_region_add_subregion(&p.inner, RAM_AT, &p.ram)) &&
                ok("add", memory_region_add_subregion(&p.outer, INNER_AT, &p.inner)) &&
                ok("add", memory_region_add_subregion(&p.root, OUTER_AT, &p.outer)) &&
                ok("add", memory_region_add_subregion(&p.root, ALIAS_AT, &p.alias)) &&
                ok("space", address_space_init(&p.space, &p.root, "interpose"));

    fact_init(&p.at_outer, MODE_NONE);
    fact_init(&p.at_inner, MODE_NONE);
    for (uint64_t offset = 0; offset < STORM_PAGE && well; offset += 8) {
        uint64_t word = backing_word(1, offset);

        memcpy((char *)memory_region_get_ram_ptr(&p.ram) + offset, &word, sizeof(word));
    }
    return well;
}

/* ---- accesses ------------------------------------------------------------------------------------------------- */

/* @value is what was read, or what was written; the device, or the RAM, has @word. */
static void judge_access(uint64_t outer, uint64_t inner, bool is_ram, MemTxResult result, uint64_t value, uint64_t word)
{
    unsigned mode = met.outer ? met.mode : MODE_NONE, order = 0;
    bool right = fact_allows(&p.at_outer, outer, mode, UINT64_MAX);

    right &= met.outer == (mode != MODE_NONE ? ++order : 0);
    if (mode == MODE_REFUSE) {
        right &= result == MEMTX_ERROR && !met.inner && !met.device;
    } else {
        right &= result == MEMTX_OK && value == (mode == MODE_CHANGE ? word ^ MASK : word);
        right &= fact_allows(&p.at_inner, inner, met.inner ? MODE_PASS : MODE_NONE, UINT64_MAX);
        right &= met.inner == (met.inner ? ++order : 0);
        right &= met.device == (is_ram ? 0 : ++order);
    }
    if (!right) {
        storm_violation("%s: result %d, %llx for %llx; met outer %u (mode %u), inner %u, device %u; last were modes %u, %u",
                        storm_interpose.name, (int)result, (unsigned long long)value, (unsigned long long)word, met.outer, mode,
                        met.inner, met.device, (unsigned)fact_value(&p.at_outer), (unsigned)fact_value(&p.at_inner));
    }
    plane_did(&did[PLAIN + mode], 1);
}

static void vcpu_turn(StormThread *t)
{
    for (unsigned i = 0; i < BURST; i++) {
        hwaddr offset = storm_below(t, STORM_PAGE / 8) * 8;
        uint64_t outer = fact_now(&p.at_outer), inner = fact_now(&p.at_inner), value = storm_random(t);
        unsigned kind = (unsigned)storm_below(t, 4);
        MemTxResult result;

        memset(&met, 0, sizeof(met));
        if (kind == BY_ALIAS) {
            result = address_space_ldq_le(&p.space, ALIAS_AT + offset, MEMTXATTRS_UNSPECIFIED, &value);
            if (result != MEMTX_OK || value != backing_word(1, offset) || met.outer || met.inner || met.device != 1) {
                storm_violation("%s: an access beside the interposers: result %d", storm_interpose.name, (int)result);
            }
        } else if (kind == WRITES) {
            result = address_space_stq_le(&p.space, INNER_AT + DEVICE_AT + offset, MEMTXATTRS_UNSPECIFIED, value);
            judge_access(outer, inner, false, result, met.data, value);
        } else {
            result = address_space_ldq_le(&p.space, INNER_AT + (kind == OF_RAM ? RAM_AT : DEVICE_AT) + offset,
                                          MEMTXATTRS_UNSPECIFIED, &value);
            judge_access(outer, inner, kind == OF_RAM, result, value, backing_word(1, offset));
        }
        plane_did(&did[kind], 1);
    }
}

/* ---- changing ------------------------------------------------------------------------------------------------- */

static void writer_turn(StormThread *t)
{
    unsigned outer = (unsigned)storm_below(t, MODES), inner = (unsigned)storm_below(t, 2);
    bool keep = !storm_chance(t, 5), done;

    if (!ok("begin", memory_transaction_begin())) {
        return;
    }
    done = ok("outer", memory_region_set_interposer(&p.outer, outer_ops[outer])) &&
           ok("inner", memory_region_set_interposer(&p.inner, inner ? &inner_ops : NULL));
    if (!keep || !done) {
        memory_transaction_abort();
        plane_did(&did[ABORTS], 1);
        return;
    }
    fact_begin(&p.at_outer, outer);
    fact_begin(&p.at_inner, inner);
    done = ok("commit", memory_transaction_commit());
    fact_end(&p.at_outer, done);
    fact_end(&p.at_inner, done);
    plane_did(&did[TOGGLES], 1);
}

static void judge(void)
{
    if (memory_region_is_interposer(&p.outer) != (fact_value(&p.at_outer) != MODE_NONE) ||
        memory_region_is_interposer(&p.inner) != (fact_value(&p.at_inner) != MODE_NONE)) {
        storm_violation("%s: an interposer is not what was set last", storm_interpose.name);
    }
}

static void finish(void)
{
    ok("outer", memory_region_set_interposer(&p.outer, NULL));
    ok("inner", memory_region_set_interposer(&p.inner, NULL));
    ok("del", memory_region_del_subregion(&p.root, &p.alias));
    ok("del", memory_region_del_subregion(&p.root, &p.outer));
    ok("del", memory_region_del_subregion(&p.outer, &p.inner));
    ok("del", memory_region_del_subregion(&p.inner, &p.device));
    ok("del", memory_region_del_subregion(&p.inner, &p.ram));
    plane_end(&storm_interpose, (AddressSpace *[]){ &p.space, NULL },
              (MemoryRegion *[]){ &p.alias, &p.device, &p.ram, &p.inner, &p.outer, &p.root, NULL });
}

const StormPlane storm_interpose = {
    .name = "interpose",
    .kinds = kinds,
    .sabotages = (const char *const[]){ "drop-interposer", NULL },
    .did = did,
    .start = start,
    .turn = { vcpu_turn, writer_turn, NULL },
    .judge = judge,
    .finish = finish,
};
