/* SPDX-License-Identifier: MIT */
/*
 * dirty_clients.c - who wants to know what is written to which RAM block, and the list of all blocks.
 *
 * Invariant: outside transactions, a client is in on if and only if it has users, and then it has a map of its granule; a block
 * is in the list of the logged if and only if it is logged. A ticket is GRACE_NEVER only between dirty_log_raise() and
 * dirty_log_settle() of one commit.
 * Established by: those two, under the topology lock; join, before anybody knows the block. Relied on by: dirty_log.c.
 *
 * The list has a lock of its own, because blocks come and go without the topology lock: regions are made by anyone, and freed
 * by a worker.
 */
#include <errno.h>
#include <string.h>

#include <flatview/memory_dirty.h>

#include "base/grace.h"
#include "base/live.h"
#include "base/lock.h"
#include "base/mem.h"
#include "base/retire.h"
#include "topology/dirty_log.h"
#include "topology/region.h"

static RamBlock *touched; /* guarded by the topology lock; their clients changed in the open transaction */

static Lock blocks_lock = LOCK_INITIALIZER(LOCK_RANK_LEAF, "RAM blocks");
static RamBlock *all;            /* guarded by blocks_lock */
static RamBlock *logged;         /* likewise; whether there is any, anybody may ask */
static bool global_logging;      /* likewise */

static void touch(RamBlock *block)
{
    DirtyLog *log = &block->dirty;

    if (!log->touched) {
        log->touched = true;
        log->touched_next = touched;
        touched = block;
    }
}

static unsigned shift_of(const DirtyLog *log, unsigned client)
{
    return log->shift[client] ? log->shift[client] : DIRTY_SHIFT_DEFAULT;
}

/* The client will have a map of its granule when the transaction commits. */
static int stage(RamBlock *block, unsigned client)
{
    DirtyLog *log = &block->dirty;
    unsigned shift = shift_of(log, client);
    DirtyBitmap *map = log->staged[client];

    if ((log->map[client] && log->map[client]->shift == shift) || (map && map->shift == shift)) {
        return 0;
    }
    map = dirty_bitmap_new(block->size, shift);
    if (!map) {
        return -ENOMEM;
    }
    dirty_bitmap_free(log->staged[client]);
    log->staged[client] = map;
    return 0;
}

int dirty_log_use(RamBlock *block, unsigned client)
{
    reader_fence_init();
    touch(block);
    if (!block->dirty.users[client] && stage(block, client) < 0) {
        return -ENOMEM;
    }
    block->dirty.users[client]++;
    return 0;
}

void dirty_log_reuse(RamBlock *block, unsigned client)
{
    touch(block);
    block->dirty.users[client]++;
}

void dirty_log_unuse(RamBlock *block, unsigned client)
{
    touch(block);
    block->dirty.users[client]--;
}

uint8_t dirty_log_wanted(const RamBlock *block)
{
    uint8_t mask = 0;
    unsigned client;

    for (client = 0; client < DIRTY_CLIENTS; client++) {
        mask |= (uint8_t)((block->dirty.users[client] != 0) << client);
    }
    return mask;
}

static void map_free(RetireHead *head)
{
    dirty_bitmap_free(container_of(head, DirtyBitmap, retire));
}

static void set_all(DirtyBitmap *map)
{
    dirty_bitmap_set(map, 0, map->n_bits - 1);
}

static void raise_client(DirtyLog *log, unsigned client)
{
    DirtyBitmap *old = log->map[client], *map = old;

    if (log->staged[client] && (!old || old->shift != shift_of(log, client))) {
        map = log->staged[client];
        log->staged[client] = NULL;
    }
    /* In this order: who takes a bit that is set here finds the ticket gone. */
    __atomic_store_n(&map->ticket, GRACE_NEVER, __ATOMIC_RELEASE);
    reader_fence_light(); /* a bit that is set already is left alone: pairs as in dirty_log_mark(), with take() */
    set_all(map);
    if (map != old) {
        __atomic_store_n(&log->map[client], map, __ATOMIC_RELEASE);
        if (old) {
            old->retire = (RetireHead){.free = map_free, .bytes = (uint32_t)sizeof(*old), .kind = RETIRE_OBJECT};
            retire_push(&old->retire);
        }
    }
}

static void set_on(DirtyLog *log, uint32_t on)
{
    live_add(LIVE_LOG_CLIENTS, (uint64_t)__builtin_popcount(on) - (uint64_t)__builtin_popcount(log->on));
    __atomic_store_n(&log->on, on, __ATOMIC_RELEASE);
}

MemoryRegion *dirty_log_changed(const MemoryRegion *after)
{
    RamBlock *block = after ? ((RamBlock *)after->block)->dirty.touched_next : touched;

    while (block && block->dirty.mr->dirty_log_mask == block->dirty.mr->dirty_log_seen) {
        block = block->dirty.touched_next;
    }
    return block ? block->dirty.mr : NULL;
}

bool dirty_log_in_use(void)
{
    return __atomic_load_n(&logged, __ATOMIC_RELAXED) || touched;
}

void dirty_log_raise(void)
{
    RamBlock *block;

    for (block = touched; block; block = block->dirty.touched_next) {
        DirtyLog *log = &block->dirty;
        uint32_t begin = dirty_log_wanted(block) & ~log->on;
        unsigned client;

        for (client = 0; client < DIRTY_CLIENTS; client++) {
            bool other_granule = log->staged[client] && log->users[client] && log->map[client] &&
                                 log->map[client]->shift != shift_of(log, client);

            if (begin >> client & 1 || other_granule) {
                raise_client(log, client);
            }
        }
        set_on(log, log->on | begin);
        log->mr->dirty_log_seen = log->mr->dirty_log_mask;
    }
}

/* blocks_lock is held. In the list of the logged as long as a store may mark, or will. */
static void list_logged(RamBlock *block)
{
    DirtyLog *log = &block->dirty;
    bool wanted = log->on || dirty_log_wanted(block);

    if (wanted && !log->logged_pprev) {
        log->logged_next = logged;
        log->logged_pprev = &logged;
        if (logged) {
            logged->dirty.logged_pprev = &log->logged_next;
        }
        __atomic_store_n(&logged, block, __ATOMIC_RELAXED);
    } else if (!wanted && log->logged_pprev) {
        __atomic_store_n(log->logged_pprev, log->logged_next, __ATOMIC_RELAXED);
        if (log->logged_next) {
            log->logged_next->dirty.logged_pprev = log->logged_pprev;
        }
        log->logged_pprev = NULL;
    }
}

static void settle_block(RamBlock *block, uint64_t *ticket)
{
    DirtyLog *log = &block->dirty;
    unsigned client;

    set_on(log, dirty_log_wanted(block));
    for (client = 0; client < DIRTY_CLIENTS; client++) {
        dirty_bitmap_free(log->staged[client]);
        log->staged[client] = NULL;
        if (log->map[client] && log->map[client]->ticket == GRACE_NEVER) {
            *ticket = *ticket ? *ticket : grace_begin();
            __atomic_store_n(&log->map[client]->ticket, *ticket, __ATOMIC_RELEASE);
        }
    }
    lock_acquire(&blocks_lock);
    list_logged(block);
    lock_release(&blocks_lock);
}

void dirty_log_settle(void)
{
    RamBlock *block;
    uint64_t ticket = 0;

    while ((block = touched)) {
        touched = block->dirty.touched_next;
        block->dirty.touched = false;
        settle_block(block, &ticket);
    }
}

/* ---- all blocks ----------------------------------------------------------------------------------------------- */

int dirty_log_join_begin(RamBlock *block)
{
    DirtyLog *log = &block->dirty;
    DirtyBitmap *map;

    lock_acquire(&blocks_lock);
    if (global_logging) {
        map = dirty_bitmap_new(block->size, DIRTY_SHIFT_DEFAULT);
        if (!map) {
            lock_release(&blocks_lock);
            return -ENOMEM;
        }
        set_all(map); /* whoever migrates has seen nothing of it; nobody can be storing, so it is settled */
        log->map[DIRTY_MEMORY_MIGRATION] = map;
        log->users[DIRTY_MEMORY_MIGRATION] = 1;
        set_on(log, 1u << DIRTY_MEMORY_MIGRATION);
        log->global = true;
    }
    return 0;
}

void dirty_log_join_end(RamBlock *block, MemoryRegion *mr)
{
    DirtyLog *log = &block->dirty;

    log->mr = mr;
    if (log->on) {
        mr->dirty_log_mask = mr->dirty_log_seen = (uint8_t)log->on;
        mr->hooks_wanted = REGION_HOOK_LOG;
        region_hook(mr, REGION_HOOK_LOG);
        list_logged(block);
    }
    log->next = all;
    log->pprev = &all;
    if (all) {
        all->dirty.pprev = &log->next;
    }
    all = block;
    lock_release(&blocks_lock);
}

void dirty_log_join_cancel(void)
{
    lock_release(&blocks_lock);
}

void dirty_log_leave(RamBlock *block)
{
    DirtyLog *log = &block->dirty;
    unsigned client;

    if (log->mr) {
        lock_acquire(&blocks_lock);
        memset(log->users, 0, sizeof(log->users));
        set_on(log, 0);
        list_logged(block);
        *log->pprev = log->next;
        if (log->next) {
            log->next->dirty.pprev = log->pprev;
        }
        log->mr = NULL;
        lock_release(&blocks_lock);
    } else {
        set_on(log, 0); /* never joined */
    }
    for (client = 0; client < DIRTY_CLIENTS; client++) {
        dirty_bitmap_free(log->staged[client]);
        dirty_bitmap_free(log->map[client]);
    }
}

void dirty_log_set_global(bool global)
{
    lock_acquire(&blocks_lock);
    global_logging = global;
    lock_release(&blocks_lock);
}

int dirty_log_foreach(bool logged_only, int (*fn)(RamBlock *block, void *arg), void *arg)
{
    RamBlock *block, *next;
    int ret = 0;

    lock_acquire(&blocks_lock);
    for (block = logged_only ? logged : all; block && ret == 0; block = next) {
        next = logged_only ? block->dirty.logged_next : block->dirty.next;
        ret = fn(block, arg);
    }
    lock_release(&blocks_lock);
    return ret;
}
