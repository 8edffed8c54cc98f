/* SPDX-License-Identifier: MIT */
/*
 * migrate_accel.c - an accelerator as KVM is one: it writes to memory that it has mapped, without the library, and remembers
 * which pages, slot by slot. With the slot its bitmap goes; so what was not handed in before is lost, and the copy differs.
 *
 * Invariant: a guest's store and its bit happen under the slot's lock with the slot in place; log_sync empties the bitmap into
 * the library's under the same lock. Bits are kept for any slot whose region is logged, from log_start to log_stop.
 */
#include "migrate.h"

#include <string.h>

typedef struct Slot {
    pthread_mutex_t lock;
    bool mapped, logging;
    hwaddr first, last; /* in the space */
    uint64_t offset;    /* in the region, of first */
    uint64_t dirty[(MIGRATE_PAGES + 63) / 64]; /* as of offset */
} Slot;

static Slot slots[MIGRATE_RAMS];
static MemoryListener listener;

static Slot *slot_of(const MemoryRegionSection *section)
{
    for (int i = 0; i < MIGRATE_RAMS; i++) {
        if (section->mr == &migrate.ram[i].mr) {
            pthread_mutex_lock(&slots[i].lock);
            return &slots[i];
        }
    }
    return NULL;
}

static void unlock(Slot *slot)
{
    pthread_mutex_unlock(&slot->lock);
}

static void region_add(MemoryListener *l, const MemoryRegionSection *section)
{
    Slot *slot = slot_of(section);

    (void)l;
    if (slot) {
        slot->mapped = !section->readonly;
        slot->first = section->offset_within_address_space;
        slot->last = section->last;
        slot->offset = section->offset_within_region;
        slot->logging = memory_region_get_dirty_log_mask(section->mr) != 0; /* not only when log_start says so */
        memset(slot->dirty, 0, sizeof(slot->dirty));
        unlock(slot);
    }
}

/* Under the slot's lock. */
static void hand_in(Slot *slot, MemoryRegion *mr)
{
    if (slot->mapped && slot->logging) {
        memory_region_merge_dirty(mr, slot->offset, ~0u, MIGRATE_PAGE, slot->dirty, 0,
                                  (slot->last - slot->first) / MIGRATE_PAGE + 1);
        memset(slot->dirty, 0, sizeof(slot->dirty));
    }
}

static void region_del(MemoryListener *l, const MemoryRegionSection *section)
{
    Slot *slot = slot_of(section);

    (void)l;
    if (slot) {
        hand_in(slot, section->mr); /* what came after log_sync: from now on nobody writes through the slot */
        slot->mapped = slot->logging = false;
        unlock(slot);
    }
}

static void log_start(MemoryListener *l, const MemoryRegionSection *section, unsigned old_mask, unsigned new_mask)
{
    Slot *slot = slot_of(section);

    (void)l;
    (void)old_mask;
    if (slot) {
        slot->logging = new_mask != 0;
        unlock(slot);
    }
}

static void log_stop(MemoryListener *l, const MemoryRegionSection *section, unsigned old_mask, unsigned new_mask)
{
    log_start(l, section, old_mask, new_mask);
}

static void log_sync(MemoryListener *l, const MemoryRegionSection *section)
{
    Slot *slot = slot_of(section);

    (void)l;
    if (!slot) {
        return;
    }
    hand_in(slot, section->mr);
    unlock(slot);
}

bool migrate_accel_store(uint64_t *random)
{
    uint64_t r = migrate_random(random);
    Slot *slot = &slots[r % MIGRATE_RAMS];
    bool done = false;

    pthread_mutex_lock(&slot->lock);
    if (slot->mapped) {
        uint64_t offset = (r >> 8) % (slot->last - slot->first + 1) & ~UINT64_C(7), page = offset / MIGRATE_PAGE;
        uint8_t *host = migrate.ram[slot - slots].host + slot->offset + offset;

        __atomic_store_n((uint64_t *)(void *)host, r, __ATOMIC_RELAXED);
        if (slot->logging) {
            slot->dirty[page / 64] |= UINT64_C(1) << (page % 64);
        }
        done = true;
    }
    pthread_mutex_unlock(&slot->lock);
    return done;
}

int migrate_accel_init(void)
{
    for (int i = 0; i < MIGRATE_RAMS; i++) {
        pthread_mutex_init(&slots[i].lock, NULL);
    }
    listener = (MemoryListener){
        .name = "accelerator",
        .priority = MEMORY_LISTENER_PRIORITY_ACCEL,
        .region_add = region_add,
        .region_del = region_del,
        .log_start = log_start,
        .log_stop = log_stop,
        .log_sync = log_sync,
    };
    return memory_listener_register(&listener, &migrate.as);
}

void migrate_accel_fini(void)
{
    memory_listener_unregister(&listener);
}
