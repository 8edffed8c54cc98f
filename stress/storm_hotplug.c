/* SPDX-License-Identifier: MIT */
/*
 * storm_hotplug.c - devices that come and go, and the proof that nobody touches them afterwards.
 *
 * Invariant: a HotDevice is in use from hot_new() until the library has released each of its regions (ORDERING: R4).
 * Then no callback of it runs and none will: its canaries die, its memory is overwritten, and it is kept in a queue
 * for a while, so that whoever comes too late finds a dead canary and not somebody else's memory. Under
 * AddressSanitizer it is freed at once, which says more about who came too late.
 *
 * Plugging and unplugging are for one thread at a time, its owner; release functions run anywhere.
 */
#include "storm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define GRAVES 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GRAVES 0
#endif
#endif
#ifndef GRAVES
#define GRAVES 256
#endif

#define HOT_MEMORY_SIZE (4 * STORM_PAGE)
#define HOT_BOX_SIZE (64 * STORM_PAGE)

static struct {
    pthread_mutex_t lock;
    HotDevice *first, **last;
    unsigned n;
} grave = { .lock = PTHREAD_MUTEX_INITIALIZER, .last = &grave.first };

static uint64_t alive; /* atomic */

uint64_t hot_alive(void)
{
    return __atomic_load_n(&alive, __ATOMIC_RELAXED);
}

static void bury(HotDevice *d)
{
    HotDevice *oldest = NULL;

    for (unsigned i = 0; i < HOT_REGIONS; i++) {
        memset(&d->at[i].region.mr, 0xdb, sizeof(d->at[i].region.mr));
    }
    if (d->memory) {
        memset(d->memory, 0xdb, HOT_MEMORY_SIZE);
    }
    pthread_mutex_lock(&grave.lock);
    d->next = NULL;
    *grave.last = d;
    grave.last = &d->next;
    if (++grave.n > GRAVES) {
        oldest = grave.first;
        grave.first = oldest->next;
        grave.last = grave.first ? grave.last : &grave.first;
        grave.n--;
    }
    pthread_mutex_unlock(&grave.lock);
    if (oldest) {
        free(oldest->memory);
        free(oldest);
    }
    __atomic_fetch_sub(&alive, 1, __ATOMIC_RELAXED);
}

void hot_finish(void)
{
    HotDevice *d;

    while ((d = grave.first)) {
        grave.first = d->next;
        free(d->memory);
        free(d);
    }
    grave.last = &grave.first;
    grave.n = 0;
}

static void released(MemoryRegion *mr)
{
    Backing *b = backing_of(mr);
    HotRegion *r = container_of(mr, HotRegion, region.mr);
    uint64_t inside = __atomic_load_n(&b->inside, __ATOMIC_ACQUIRE);
    uint64_t canary = __atomic_exchange_n(&b->canary, BACKING_DEAD, __ATOMIC_ACQ_REL);

    if (inside) {
        storm_violation("device %u is released while %llu of its callbacks run", b->id, (unsigned long long)inside);
    }
    if (canary != BACKING_ALIVE) {
        storm_violation("device %u is released twice: canary %llx", b->id, (unsigned long long)canary);
        return;
    }
    if (__atomic_sub_fetch(&r->device->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        bury(r->device);
    }
}

static void prepare(HotDevice *d, unsigned which, BackingKind kind, const MemoryRegionOps *ops, uint64_t size)
{
    HotRegion *r = &d->at[which];

    r->device = d;
    r->region.user = &r->backing;
    r->backing = (Backing){
        .canary = BACKING_ALIVE,
        .id = backing_new_id(),
        .kind = kind,
        .comes_and_goes = true,
        .ops = ops,
        .size = size,
        .all_pages = true,
    };
}

static bool made(HotDevice *d, unsigned which, int error)
{
    HotRegion *r = &d->at[which];

    if (!error) {
        error = memory_region_set_release(&r->region.mr, released);
        r->made = true;
        __atomic_fetch_add(&d->refs, 1, __ATOMIC_RELAXED);
    }
    if (error) {
        storm_violation("making a device: %s", strerror(-error));
    }
    return !error;
}

static HotDevice *hot_alloc(void)
{
    HotDevice *d = calloc(1, sizeof(*d));

    if (!d) {
        storm_violation("no memory for a device");
    } else {
        __atomic_fetch_add(&alive, 1, __ATOMIC_RELAXED);
    }
    return d;
}

static MemoryRegion *region_of(HotDevice *d, unsigned which)
{
    return &d->at[which].region.mr;
}

/* Memory of the library's own, or ours, which the library must not touch after release. */
static int init_memory(HotDevice *d, bool is_flash)
{
    return is_flash ? memory_region_init_rom_device(region_of(d, HOT_MEMORY), model_ops(MODEL_PLAIN), "hot-flash",
                                                    HOT_MEMORY_SIZE)
                    : memory_region_init_ram_ptr(region_of(d, HOT_MEMORY), "hot-memory", HOT_MEMORY_SIZE, d->memory);
}

HotDevice *hot_new(unsigned model, uint64_t regs_size, bool is_flash)
{
    HotDevice *d = hot_alloc();
    Backing *memory;
    bool ok;

    if (!d) {
        return NULL;
    }
    d->memory = is_flash ? NULL : aligned_alloc(STORM_PAGE, HOT_MEMORY_SIZE);
    prepare(d, HOT_BOX, BACKING_IO, NULL, HOT_BOX_SIZE);
    prepare(d, HOT_REGS, BACKING_IO, model_ops(model), regs_size);
    prepare(d, HOT_MEMORY, is_flash ? BACKING_ROM_DEVICE : BACKING_MEMORY, is_flash ? model_ops(MODEL_PLAIN) : NULL,
            HOT_MEMORY_SIZE);
    prepare(d, HOT_WINDOW, BACKING_IO, NULL, regs_size);
    ok = (is_flash || d->memory) && made(d, HOT_MEMORY, init_memory(d, is_flash));
    if (ok) {
        memory = &d->at[HOT_MEMORY].backing;
        memory->host = memory_region_get_ram_ptr(region_of(d, HOT_MEMORY));
        backing_stamp(memory, 0, HOT_MEMORY_SIZE - 1);
    }
    ok = ok && made(d, HOT_BOX, memory_region_init(region_of(d, HOT_BOX), "hot-box", HOT_BOX_SIZE));
    ok =
        ok && made(d, HOT_REGS, memory_region_init_io(region_of(d, HOT_REGS), model_ops(model), "hot-regs", regs_size));
    ok = ok && made(d, HOT_WINDOW,
                    memory_region_init_alias(region_of(d, HOT_WINDOW), "hot-window", region_of(d, HOT_REGS),
                                             regs_size / 4, regs_size / 2));
    ok = ok && !memory_region_add_subregion(region_of(d, HOT_BOX), 0, region_of(d, HOT_REGS));
    ok = ok && !memory_region_add_subregion(region_of(d, HOT_BOX), 8 * STORM_PAGE, region_of(d, HOT_MEMORY));
    ok = ok &&
         !memory_region_add_subregion_overlap(region_of(d, HOT_BOX), 9 * STORM_PAGE + 64, region_of(d, HOT_WINDOW), -1);
    return ok ? d : NULL; /* what is left behind is a violation already */
}

HotDevice *hot_new_bare(uint32_t id, uint64_t size)
{
    HotDevice *d = hot_alloc();

    if (!d) {
        return NULL;
    }
    prepare(d, HOT_REGS, BACKING_IO, model_ops(MODEL_PLAIN), size);
    d->at[HOT_REGS].backing.id = id;
    return made(d, HOT_REGS, memory_region_init_io(region_of(d, HOT_REGS), model_ops(MODEL_PLAIN), "slot", size))
               ? d
               : NULL;
}

int hot_plug(HotDevice *d, MemoryRegion *parent, hwaddr addr, int priority)
{
    MemoryRegion *top = region_of(d, d->at[HOT_BOX].made ? HOT_BOX : HOT_REGS);

    d->parent = parent;
    return memory_region_add_subregion_overlap(parent, addr, top, priority);
}

/* The window goes first: a region cannot end while an alias shows it. */
static int end_all(HotDevice *d)
{
    static const unsigned order[] = { HOT_WINDOW, HOT_MEMORY, HOT_REGS };
    bool boxed = d->at[HOT_BOX].made;
    int error = 0;

    for (unsigned i = 0; i < 3 && !error; i++) {
        if (d->at[order[i]].made) {
            error = boxed ? memory_region_del_subregion(region_of(d, HOT_BOX), region_of(d, order[i])) : 0;
            error = error ? error : memory_region_destroy(region_of(d, order[i]));
        }
    }
    return error || !boxed ? error : memory_region_destroy(region_of(d, HOT_BOX));
}

int hot_unplug(HotDevice *d)
{
    int error = memory_region_del_subregion(d->parent, region_of(d, d->at[HOT_BOX].made ? HOT_BOX : HOT_REGS));

    return error ? error : end_all(d);
}

int hot_discard(HotDevice *d)
{
    int error = memory_transaction_begin();

    if (!error) {
        error = end_all(d);
        if (error) {
            memory_transaction_abort();
        } else {
            error = memory_transaction_commit();
        }
    }
    if (error) {
        storm_violation("discarding a device: %s", strerror(-error));
    }
    return error;
}
