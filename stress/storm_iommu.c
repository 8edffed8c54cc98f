/* SPDX-License-Identifier: MIT */
/*
 * storm_iommu.c - the tables of an IOMMU, which a writer changes and notifies while vCPUs go through it.
 *
 * Invariant: a fact of a page is odd from before its entry in the table is changed until after memory_region_notify_iommu() has
 * returned for all of the change; storm_iommu_access.c judges by it. A frame is in at most one entry. Between two changes, what
 * each notifier was told is what the tables say within its window. After a drain nobody stores to a frame that was unmapped.
 * Established by the one writer. Entries are told in ranges of any size: of several pages where frames adjoin, of half a page.
 *
 * At rest: what was not invalidated is not asked for again, what was is asked for once.
 */
#include "storm_iommu.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#define S storm_iommu_state
#define FAR_APART 9u /* pages, farther than an entry reaches */

StormIommu storm_iommu_state;
uint64_t iommu_did[IOMMU_KINDS];

static const char *const kinds[] = { "loads", "stores", "faults", "across pages", "asked", "remaps", "drains",
                                     "replays", "notifiers refused", "told", NULL };

typedef struct Mirror {
    IOMMUNotifier notifier;
    uint64_t told[PAGES];
    bool registered;
} Mirror;

static struct {
    MemoryRegion sys_root, ram, dev_root, iommu, again, outer_root;
    Mirror mirrors[2]; /* of a window of table 0, always; of all of table 1, now and then */
    bool used[FRAMES];
    bool refuses;
} w;

static bool ok(const char *what, int error)
{
    return plane_ok(&storm_iommu, what, error);
}

/* ---- the tables ----------------------------------------------------------------------------------------------- */

static uint64_t entry_of(unsigned table, unsigned page)
{
    return __atomic_load_n(&S.table[table][page], __ATOMIC_ACQUIRE);
}

/* What adjoins @page, up to two pages each way, if its frames do. Another thread may be changing it: then a notification is
   to follow that covers what was changed. */
static IOMMUTLBEntry translate(MemoryRegion *mr, hwaddr addr, IOMMUAccessFlags flag, unsigned index)
{
    unsigned page = (unsigned)(addr / STORM_PAGE), first = page, last = page;
    uint64_t pte = entry_of(index, page), step = pte & PTE_VALID ? 1 : 0;
    IOMMUTLBEntry entry = { .target_as = &S.sys, .perm = pte_perm(pte) };

    (void)mr, (void)flag;
    __atomic_fetch_add(&S.calls, 1, __ATOMIC_RELAXED);
    if (page % 4 == 3) {
        entry.iova = addr & ~(STORM_PAGE / 2 - 1ull);
        entry.last = entry.iova + STORM_PAGE / 2 - 1;
    } else {
        while (first > 0 && page - first < 2 && entry_of(index, first - 1) == pte - step * (page - first + 1)) {
            first--;
        }
        while (last + 1 < PAGES && last - page < 2 && entry_of(index, last + 1) == pte + step * (last + 1 - page)) {
            last++;
        }
        entry.iova = first * STORM_PAGE;
        entry.last = (last + 1) * STORM_PAGE - 1;
    }
    if (pte & PTE_VALID) {
        entry.translated_addr = ((pte & PTE_FRAME) - 1) * STORM_PAGE + entry.iova - (hwaddr)page * STORM_PAGE;
    }
    return entry;
}

static unsigned attrs_to_index(MemoryRegion *mr, MemTxAttrs attrs)
{
    (void)mr;
    return attrs.secure;
}

static int notify_flag_changed(MemoryRegion *mr, IOMMUNotifierFlag old_flags, IOMMUNotifierFlag new_flags)
{
    (void)mr, (void)old_flags, (void)new_flags;
    return w.refuses ? -EPERM : 0;
}

static const MemoryRegionIOMMUOps ops = {
    .translate = translate,
    .attrs_to_index = attrs_to_index,
    .num_indexes = TABLES,
    .notify_flag_changed = notify_flag_changed,
};

static IOMMUTLBEntry translate_outer(MemoryRegion *mr, hwaddr addr, IOMMUAccessFlags flag, unsigned index)
{
    (void)addr, (void)flag, (void)index;
    return (IOMMUTLBEntry){ .target_as = &S.dev, .last = memory_region_size(mr) - 1, .perm = IOMMU_RW };
}

static const MemoryRegionIOMMUOps outer_ops = { .translate = translate_outer };

/* ---- who is told ---------------------------------------------------------------------------------------------- */

static void notified(IOMMUNotifier *notifier, const IOMMUTLBEntry *entry)
{
    Mirror *m = container_of(notifier, Mirror, notifier);

    if (entry->iova < notifier->first || entry->last > notifier->last) {
        storm_violation("%s: a notifier hears of what is outside of its window", storm_iommu.name);
        return;
    }
    for (hwaddr at = entry->iova; at < entry->last; at += STORM_PAGE) {
        uint64_t frame = (entry->translated_addr + (at - entry->iova)) / STORM_PAGE;

        m->told[at / STORM_PAGE] = entry->perm == IOMMU_NONE ? 0 : pte_of((unsigned)frame, entry->perm);
    }
    plane_did(&iommu_did[IOMMU_TOLD], 1);
}

static void judge_mirror(const Mirror *m, const char *when)
{
    for (uint64_t page = m->notifier.first / STORM_PAGE; m->registered && page <= m->notifier.last / STORM_PAGE; page++) {
        if (m->told[page] != S.table[m->notifier.iommu_idx][page]) {
            storm_violation("%s: %s, a notifier of table %u knows %llx of page %llu, and not %llx", storm_iommu.name, when,
                            m->notifier.iommu_idx, (unsigned long long)m->told[page], (unsigned long long)page,
                            (unsigned long long)S.table[m->notifier.iommu_idx][page]);
        }
    }
}

static bool listen(Mirror *m)
{
    memset(m->told, 0, sizeof(m->told));
    m->registered = ok("notifier", memory_region_register_iommu_notifier(&w.again, &m->notifier));
    if (m->registered && ok("replay", memory_region_iommu_replay(&w.iommu, &m->notifier))) {
        judge_mirror(m, "after a replay");
        plane_did(&iommu_did[IOMMU_REPLAYS], 1);
    }
    return m->registered;
}

static void leave(Mirror *m)
{
    if (!m->registered) {
        return;
    }
    ok("unmap all", memory_region_unmap_iommu_notifier_range(&m->notifier));
    for (unsigned page = 0; page < PAGES; page++) {
        if (m->told[page]) {
            storm_violation("%s: a notifier that leaves keeps page %u", storm_iommu.name, page);
        }
    }
    m->registered = !ok("notifier", memory_region_unregister_iommu_notifier(&w.iommu, &m->notifier));
}

static bool start(void)
{
    bool well = ok("root", memory_region_init(&w.sys_root, "iommu-sys", FRAMES * STORM_PAGE)) &&
                ok("RAM", memory_region_init_ram(&w.ram, "iommu-ram", FRAMES * STORM_PAGE)) &&
                ok("add", memory_region_add_subregion(&w.sys_root, 0, &w.ram)) &&
                ok("space", address_space_init(&S.sys, &w.sys_root, "iommu-sys")) &&
                ok("root", memory_region_init(&w.dev_root, "iommu-dev", 8 * IOMMU_SIZE)) &&
                ok("IOMMU", memory_region_init_iommu(&w.iommu, &ops, "iommu", IOMMU_SIZE)) &&
                ok("alias", memory_region_init_alias(&w.again, "iommu-again", &w.iommu, 0, IOMMU_SIZE)) &&
                ok("add", memory_region_add_subregion(&w.dev_root, IOMMU_AT, &w.iommu)) &&
                ok("add", memory_region_add_subregion(&w.dev_root, 0, &w.again)) &&
                ok("space", address_space_init(&S.dev, &w.dev_root, "iommu-dev")) &&
                ok("IOMMU", memory_region_init_iommu(&w.outer_root, &outer_ops, "iommu-outer", 8 * IOMMU_SIZE)) &&
                ok("space", address_space_init(&S.outer, &w.outer_root, "iommu-outer"));

    S.host = well ? memory_region_get_ram_ptr(&w.ram) : NULL;
    for (uint64_t at = 0; at < FRAMES * STORM_PAGE && well; at += 8) {
        uint64_t word = frame_word((unsigned)(at / STORM_PAGE), at % STORM_PAGE);

        if (at % STORM_PAGE / 64 != SLOT_AT / 64) {
            memcpy(S.host + at, &word, sizeof(word));
        }
    }
    for (unsigned i = 0; i < TABLES * PAGES; i++) {
        fact_init(&S.facts[i / PAGES][i % PAGES], 0);
    }
    iommu_notifier_init(&w.mirrors[0].notifier, notified, IOMMU_NOTIFIER_IOTLB_EVENTS, 4 * STORM_PAGE,
                        (PAGES - 4) * STORM_PAGE - 1, 0);
    iommu_notifier_init(&w.mirrors[1].notifier, notified, IOMMU_NOTIFIER_IOTLB_EVENTS, 0, IOMMU_SIZE - 1, 1);
    return well && listen(&w.mirrors[0]);
}

/* ---- changing ------------------------------------------------------------------------------------------------- */

static void notify(unsigned table, IOMMUNotifierFlag type, unsigned first, unsigned n)
{
    uint64_t pte = type == IOMMU_NOTIFIER_MAP ? S.table[table][first] : 0;
    IOMMUTLBEvent event = { .type = type,
                            .entry = { .target_as = &S.sys,
                                       .iova = first * STORM_PAGE,
                                       .last = (first + n) * STORM_PAGE - 1,
                                       .translated_addr = pte ? ((pte & PTE_FRAME) - 1) * STORM_PAGE : 0,
                                       .perm = pte_perm(pte) } };

    ok("notify", memory_region_notify_iommu(&w.iommu, table, event));
}

/* Runs of frames that are free, where there are some: then translations of more than a page come about. */
static unsigned free_frame(StormThread *t, unsigned after)
{
    unsigned frame = after < FRAMES && !w.used[after] ? after : (unsigned)storm_below(t, FRAMES);

    while (w.used[frame]) {
        frame = (frame + 1) % FRAMES;
    }
    return frame;
}

/* What was unmapped and drained is its owner's alone. */
static void drain(unsigned frame)
{
    uint64_t before[PLANE_VCPUS];

    if (!ok("drain", memory_region_iommu_drain(&w.iommu))) {
        return;
    }
    for (unsigned i = 0; i < PLANE_VCPUS; i++) {
        before[i] = iommu_slot(frame, i);
    }
    for (unsigned i = 0; i < 50; i++) {
        sched_yield();
    }
    for (unsigned i = 0; i < PLANE_VCPUS; i++) {
        if (iommu_slot(frame, i) != before[i]) {
            storm_violation("%s: vCPU %u stores to frame %u after it was unmapped and drained", storm_iommu.name, i, frame);
        }
    }
    plane_did(&iommu_did[IOMMU_DRAINS], 1);
}

static void change(StormThread *t, unsigned table, unsigned first, unsigned n, uint64_t old[])
{
    unsigned frame = FRAMES;
    uint64_t was = 0;

    for (unsigned i = 0; i < n; i++) {
        uint64_t next;

        frame = free_frame(t, frame + 1);
        next = storm_chance(t, 5) ? 0 : pte_of(frame, (IOMMUAccessFlags)(storm_chance(t, 3) ? 1 + storm_below(t, 2) : 3));
        w.used[frame] |= next != 0;
        was |= old[i] = S.table[table][first + i];
        fact_begin(&S.facts[table][first + i], next);
        __atomic_store_n(&S.table[table][first + i], next, __ATOMIC_RELEASE);
    }
    if (was) {
        notify(table, IOMMU_NOTIFIER_UNMAP, first, n);
    }
    for (unsigned i = 0; i < n; i++) {
        if (S.table[table][first + i]) {
            notify(table, IOMMU_NOTIFIER_MAP, first + i, 1);
        }
        fact_end(&S.facts[table][first + i], true);
    }
}

static void remap(StormThread *t)
{
    unsigned table = (unsigned)storm_below(t, TABLES), n = 1 + (unsigned)storm_below(t, 4);
    uint64_t old[4];

    change(t, table, (unsigned)storm_below(t, PAGES - n + 1), n, old);
    if (old[0] && storm_chance(t, 8)) {
        drain((unsigned)(old[0] & PTE_FRAME) - 1);
    }
    for (unsigned i = 0; i < n; i++) {
        if (old[i]) {
            w.used[(old[i] & PTE_FRAME) - 1] = false;
        }
    }
    plane_did(&iommu_did[IOMMU_REMAPS], 1);
    judge_mirror(&w.mirrors[0], "after a change");
    judge_mirror(&w.mirrors[1], "after a change");
}

static void writer_turn(StormThread *t)
{
    Mirror *visitor = &w.mirrors[1];

    for (unsigned i = 0; i < 4; i++) {
        remap(t);
    }
    if (!storm_chance(t, 4)) {
        return;
    }
    if (visitor->registered) {
        leave(visitor);
    } else {
        listen(visitor);
    }
}

/* The flags change when the only notifier goes and comes. */
static void refused_turn(StormThread *t)
{
    int error;

    if (w.mirrors[1].registered || !storm_chance(t, 4)) {
        return;
    }
    leave(&w.mirrors[0]);
    w.refuses = true;
    error = memory_region_register_iommu_notifier(&w.iommu, &w.mirrors[0].notifier);
    w.refuses = false;
    if (error != -EPERM) {
        storm_violation("%s: a registration that was refused: %s", storm_iommu.name, strerror(-error));
    }
    listen(&w.mirrors[0]);
    plane_did(&iommu_did[IOMMU_REFUSED], 1);
}

static void change_turn(StormThread *t)
{
    writer_turn(t);
    refused_turn(t);
}

/* ---- at rest -------------------------------------------------------------------------------------------------- */

/* How often a load of a page of table 0 asks for its translation. */
static uint64_t calls_of_load(unsigned page)
{
    uint64_t before = S.calls, word = 0;
    MemTxResult result = address_space_ldq_le(&S.dev, IOMMU_AT + page * STORM_PAGE, (MemTxAttrs){ .secure = 0 }, &word);

    if (result != MEMTX_OK || word != frame_word((unsigned)(S.table[0][page] & PTE_FRAME) - 1, 0)) {
        storm_violation("%s: at rest page %u reads as %llx", storm_iommu.name, page, (unsigned long long)word);
    }
    return S.calls - before;
}

static bool can_be_read(unsigned page)
{
    return pte_perm(S.table[0][page]) & IOMMU_RO;
}

static void judge_cache(unsigned page, unsigned other)
{
    calls_of_load(page);
    calls_of_load(other);
    if (calls_of_load(page) || calls_of_load(other)) {
        storm_violation("%s: a translation is asked for again that nobody has invalidated", storm_iommu.name);
    }
    notify(0, IOMMU_NOTIFIER_DEVIOTLB_UNMAP, other, 1);
    if (calls_of_load(page) != 0 || calls_of_load(other) != 1) {
        storm_violation("%s: an invalidation of page %u is not exactly that", storm_iommu.name, other);
    }
}

static void judge(void)
{
    static unsigned turn;
    unsigned page = turn++ % (PAGES - FAR_APART);

    judge_mirror(&w.mirrors[0], "at rest");
    judge_mirror(&w.mirrors[1], "at rest");
    for (unsigned other = page + FAR_APART; other < PAGES && can_be_read(page); other++) {
        if (can_be_read(other)) {
            judge_cache(page, other);
            break;
        }
    }
}

static void finish(void)
{
    leave(&w.mirrors[1]);
    leave(&w.mirrors[0]);
    ok("del", memory_region_del_subregion(&w.dev_root, &w.again));
    ok("del", memory_region_del_subregion(&w.dev_root, &w.iommu));
    ok("del", memory_region_del_subregion(&w.sys_root, &w.ram));
    plane_end(&storm_iommu, (AddressSpace *[]){ &S.outer, &S.dev, &S.sys, NULL },
              (MemoryRegion *[]){ &w.again, &w.iommu, &w.outer_root, &w.dev_root, &w.ram, &w.sys_root, NULL });
}

const StormPlane storm_iommu = {
    .name = "iommu",
    .kinds = kinds,
    .sabotages = (const char *const[]){ "drop-invalidate", "drop-notify", NULL },
    .did = iommu_did,
    .start = start,
    .turn = { iommu_accesses, change_turn, NULL },
    .judge = judge,
    .finish = finish,
};
