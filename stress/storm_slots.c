/* SPDX-License-Identifier: MIT */
/*
 * storm_slots.c - a space without history, so that nothing but the grace period protects its readers.
 *
 * The history pins every view of the spaces that it watches, and a pinned view cannot be freed too early. Here nobody
 * pins anything (R4), and the exact history is in the answers themselves: slots come in pairs, each pair has a
 * version, a transaction moves it to the next, and with an odd version both slots of the pair hold a device whose id
 * is pair and version. Before the transaction its writer stores the new version in started, after it in done.
 *
 * Invariant: an access that read done as d before and started as s after sees one version v, d <= v <= s, and the same
 * in both slots, because one access sees one view (R1). Each pair has one writer.
 */
#include "storm.h"

#include <stdlib.h>
#include <string.h>

#define PAIRS 16
#define SLOT_SIZE STORM_PAGE
#define SLOT_ID_FLAG 0x80000000u
#define VERSION_MASK 0x3ffffffu /* 26 bits, then 5 of the pair */

static struct Pair {
    uint64_t started __attribute__((aligned(64))); /* atomic */
    uint64_t done;                                 /* atomic */
    HotDevice *device[2];
} pairs[PAIRS];

static MemoryRegion root;
static AddressSpace as;
static bool released;

static uint32_t slot_id(unsigned pair, uint64_t version)
{
    return SLOT_ID_FLAG | pair << 26 | (uint32_t)(version & VERSION_MASK);
}

bool pairs_init(void)
{
    return memory_region_init(&root, "slots", 2 * PAIRS * SLOT_SIZE) == 0 &&
           address_space_init(&as, &root, "slots") == 0;
}

static int fill_pair(unsigned pair, uint64_t version)
{
    int error = 0;

    for (unsigned i = 0; i < 2 && !error; i++) {
        hwaddr addr = (2 * (hwaddr)pair + i) * SLOT_SIZE;

        error = hot_plug(pairs[pair].device[i], &root, addr, (int)(version % 5));
    }
    return error;
}

static int empty_pair(unsigned pair)
{
    int error = hot_unplug(pairs[pair].device[0]);

    return error ? error : hot_unplug(pairs[pair].device[1]);
}

static bool next_version(unsigned pair)
{
    struct Pair *p = &pairs[pair];
    uint64_t version = __atomic_load_n(&p->done, __ATOMIC_RELAXED) + 1;
    int error;

    for (unsigned i = 0; version % 2 && i < 2; i++) {
        p->device[i] = hot_new_bare(slot_id(pair, version), SLOT_SIZE);
        if (!p->device[i]) {
            return false;
        }
    }
    __atomic_store_n(&p->started, version, __ATOMIC_RELEASE); /* before the publication, as accesses check */
    error = memory_transaction_begin();
    if (!error) {
        error = version % 2 ? fill_pair(pair, version) : empty_pair(pair);
        if (error) {
            memory_transaction_abort();
        } else {
            error = memory_transaction_commit();
        }
    }
    if (error) {
        storm_violation("slots: a change that cannot fail: %s", strerror(-error));
        return false;
    }
    __atomic_store_n(&p->done, version, __ATOMIC_RELEASE); /* after it */
    return true;
}

bool pairs_change(StormThread *t)
{
    unsigned mine = t->index - storm.n_vcpus;

    if (mine >= PAIRS) {
        return true;
    }
    return next_version(mine + storm.n_writers * (unsigned)storm_below(t, (PAIRS - mine - 1) / storm.n_writers + 1));
}

/* The version that one word shows: -1 if the word belongs to no version of this slot. */
static int64_t version_of(uint64_t word, unsigned pair, hwaddr offset)
{
    uint64_t found_offset;
    uint32_t id;

    backing_unword(word, &id, &found_offset);
    if (!(id & SLOT_ID_FLAG) || (id >> 26 & 31) != pair || found_offset != offset) {
        return -1;
    }
    return id & VERSION_MASK;
}

bool pairs_access(StormThread *t)
{
    unsigned pair = (unsigned)storm_below(t, PAIRS), n = storm_chance(t, 2) ? 1 : 8, i;
    hwaddr base = 2 * (hwaddr)pair * SLOT_SIZE;
    hwaddr addr = base + (n == 8 ? SLOT_SIZE - 8 * (1 + storm_below(t, 7)) : storm_below(t, 2 * SLOT_SIZE / 8) * 8);
    uint64_t done = __atomic_load_n(&pairs[pair].done, __ATOMIC_ACQUIRE), started;
    int64_t seen[8];
    uint64_t words[8];
    MemTxResult result;

    memset(words, ACCESS_UNTOUCHED, sizeof(words));
    if (n == 1) {
        result = address_space_ldq_le(&as, addr, MEMTXATTRS_UNSPECIFIED, &words[0]);
    } else {
        result = address_space_read(&as, addr, MEMTXATTRS_UNSPECIFIED, words, sizeof(words));
    }
    started = __atomic_load_n(&pairs[pair].started, __ATOMIC_ACQUIRE);
    storm_count(&t->slot_accesses);

    for (i = 0; i < n; i++) {
        hwaddr slot_offset = (addr + 8 * i) % SLOT_SIZE;

        seen[i] = version_of(words[i], pair, slot_offset);
        if (result == MEMTX_DECODE_ERROR && words[i] == UINT64_C(0xa5a5a5a5a5a5a5a5)) {
            seen[i] = 0; /* some empty version; all of them look alike */
        }
        if (seen[i] < 0 || seen[i] != seen[0]) {
            break;
        }
    }
    /* Versions fit their field for hours at any rate that a listener can be told of. */
    if (i == n && (seen[0] == 0 ? result == MEMTX_DECODE_ERROR && (done % 2 == 0 || started > done)
                                : result == MEMTX_OK && seen[0] % 2 && (uint64_t)seen[0] >= done &&
                                      (uint64_t)seen[0] <= started)) {
        return true;
    }
    storm_violation(
        "slots: pair %u, %u words at %llx: result %x, versions %llu to %llu were possible; word %u is %016llx, "
        "version %lld, the first is of version %lld",
        pair, n, (unsigned long long)addr, result, (unsigned long long)done, (unsigned long long)started, i < n ? i : 0,
        (unsigned long long)words[i < n ? i : 0], (long long)seen[i < n ? i : 0], (long long)seen[0]);
    return false;
}

static void note_release(AddressSpace *space)
{
    (void)space;
    __atomic_store_n(&released, true, __ATOMIC_RELEASE);
}

bool pairs_fini(void)
{
    bool ok = true;

    for (unsigned pair = 0; pair < PAIRS; pair++) {
        if (pairs[pair].done % 2) {
            ok = next_version(pair) && ok;
        }
    }
    ok = ok && address_space_destroy(&as, note_release) == 0 && memory_region_destroy(&root) == 0 &&
         memory_region_quiesce(&root) == 0;
    memory_reclaim();
    if (!ok || !__atomic_load_n(&released, __ATOMIC_ACQUIRE)) {
        storm_violation("slots: the space cannot be taken down");
    }
    return ok;
}
