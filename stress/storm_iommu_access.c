/* SPDX-License-Identifier: MIT */
/*
 * storm_iommu_access.c - loads, stores and questions through an IOMMU whose translations change.
 *
 * Invariant: an access goes to a frame to which its page was translated at some time between its start and its end, and as far as
 * that permitted; or it fails as one of these translations says. In particular none that begins after a notification has
 * returned uses what was unmapped (ORDERING: R3). Established by the library; judged here by the facts of each page, which
 * storm_iommu.c keeps, without a lock.
 */
#include "storm_iommu.h"

#define S storm_iommu_state
#define BURST 48

typedef struct Place {
    unsigned table, page;
    uint64_t since; /* of the page's fact */
    AddressSpace *as;
    hwaddr addr; /* of the page */
    MemTxAttrs attrs;
} Place;

static Place somewhere(StormThread *t)
{
    Place at = { .table = (unsigned)storm_below(t, TABLES), .page = (unsigned)storm_below(t, PAGES) };

    at.as = storm_chance(t, 3) ? &S.outer : &S.dev;
    at.addr = (storm_chance(t, 3) ? 0 : IOMMU_AT) + at.page * STORM_PAGE;
    at.attrs = (MemTxAttrs){ .secure = at.table & 1 };
    at.since = fact_now(&S.facts[at.table][at.page]);
    return at;
}

static bool allowed(const Place *at, uint64_t value, uint64_t mask)
{
    return fact_allows(&S.facts[at->table][at->page], at->since, value, mask);
}

static void complain(const Place *at, const char *what, uint64_t got, MemTxResult result)
{
    storm_violation("%s: table %u, page %u, at %llx: %s (%llx, result %d), and was %llx last", storm_iommu.name, at->table,
                    at->page, (unsigned long long)at->addr, what, (unsigned long long)got, (int)result,
                    (unsigned long long)fact_value(&S.facts[at->table][at->page]));
}

/* The access failed: did a translation say so? */
static void judge_fault(const Place *at, MemTxResult result, IOMMUAccessFlags wanted)
{
    uint64_t perm = (uint64_t)wanted << PTE_PERM_SHIFT;
    bool right = result == MEMTX_DECODE_ERROR   ? allowed(at, 0, PTE_VALID)
                 : result == MEMTX_ACCESS_ERROR ? allowed(at, PTE_VALID, PTE_VALID | perm)
                                                : false;

    if (!right) {
        complain(at, "fails for no reason", 0, result);
    }
    plane_did(&iommu_did[IOMMU_FAULTS], 1);
}

static void judge_word(const Place *at, uint64_t offset, uint64_t word)
{
    uint64_t frame = word >> 32, read = (uint64_t)IOMMU_RO << PTE_PERM_SHIFT;

    if ((uint32_t)word != offset || frame == 0 || frame > FRAMES) {
        complain(at, "is no word of a frame", word, MEMTX_OK);
    } else if (!allowed(at, frame | read, PTE_FRAME | read)) {
        complain(at, "a load from where the page does not lead", word, MEMTX_OK);
    }
}

static void load(StormThread *t)
{
    Place at = somewhere(t);
    uint64_t offset = storm_below(t, SLOT_AT / 8) * 8, word;
    MemTxResult result = address_space_ldq_le(at.as, at.addr + offset, at.attrs, &word);

    if (result == MEMTX_OK) {
        judge_word(&at, offset, word);
        plane_did(&iommu_did[IOMMU_LOADS], 1);
    } else {
        judge_fault(&at, result, IOMMU_RO);
    }
}

/* The last word of a page and the first of the next, in one call: each is judged by its own page. */
static void load_across(StormThread *t)
{
    Place at = somewhere(t), next = at;
    uint64_t words[2];

    if (at.page + 1 == PAGES) {
        return;
    }
    next.page++;
    next.since = fact_now(&S.facts[next.table][next.page]);
    if (address_space_read(at.as, at.addr + STORM_PAGE - 8, at.attrs, words, sizeof(words)) == MEMTX_OK) {
        judge_word(&at, STORM_PAGE - 8, words[0]);
        judge_word(&next, 0, words[1]);
        plane_did(&iommu_did[IOMMU_ACROSS], 1);
    }
}

uint64_t iommu_slot(unsigned frame, unsigned index)
{
    void *slot = S.host + (size_t)frame * STORM_PAGE + SLOT_AT + 8 * index;

    return __atomic_load_n((uint64_t *)slot, __ATOMIC_RELAXED);
}

static void store(StormThread *t)
{
    static __thread uint64_t count;
    Place at = somewhere(t);
    uint64_t value = ++count, write = (uint64_t)IOMMU_WO << PTE_PERM_SHIFT;
    MemTxResult result = address_space_stq_le(at.as, at.addr + SLOT_AT + 8 * t->index, at.attrs, value);
    unsigned frame = 0;

    while (frame < FRAMES && iommu_slot(frame, t->index) != value) {
        frame++;
    }
    if (result != MEMTX_OK) {
        if (frame < FRAMES) {
            complain(&at, "a store that failed was made", frame + 1, result);
        }
        judge_fault(&at, result, IOMMU_WO);
        return;
    }
    if (frame == FRAMES || !allowed(&at, (frame + 1) | write, PTE_FRAME | write)) {
        complain(&at, "a store to where the page does not lead", frame == FRAMES ? 0 : frame + 1, result);
    }
    plane_did(&iommu_did[IOMMU_STORES], 1);
}

static void ask(StormThread *t)
{
    Place at = somewhere(t);
    uint64_t offset = storm_below(t, STORM_PAGE), frame, perm;
    IOMMUTLBEntry entry;
    MemTxResult result;

    memory_read_begin();
    result = address_space_get_iotlb_entry(at.as, at.addr + offset, false, at.attrs, &entry);
    memory_read_end();
    if (result != MEMTX_OK) {
        judge_fault(&at, result, IOMMU_RO);
        return;
    }
    frame = (entry.translated_addr + (at.addr + offset - entry.iova)) / STORM_PAGE + 1;
    perm = (uint64_t)entry.perm << PTE_PERM_SHIFT;
    if (entry.target_as != &S.sys || !allowed(&at, frame | perm, PTE_FRAME | 3u << PTE_PERM_SHIFT)) {
        complain(&at, "an entry that never was", frame | perm, result);
    }
    plane_did(&iommu_did[IOMMU_ASKED], 1);
}

void iommu_accesses(StormThread *t)
{
    for (unsigned i = 0; i < BURST; i++) {
        switch (storm_below(t, 8)) {
        case 0:
            load_across(t);
            break;
        case 1:
            ask(t);
            break;
        case 2:
        case 3:
            store(t);
            break;
        default:
            load(t);
        }
    }
}
