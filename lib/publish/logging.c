/* SPDX-License-Identifier: MIT */
/*
 * logging.c - who has the dirty log of a region on, and how large its RAM is, in a transaction.
 *
 * Invariant: mr->dirty_log_mask has the bits of the clients that have users in the transaction so far, and REGION_HOOK_LOG is
 * wanted if and only if it is not 0. No view is rendered for any of it: where stores are marked, and for whom, is the block's
 * business (topology/dirty_log.h), which follows when the transaction commits.
 * Established by: put(), the only place that changes either. Relied on by: dispatch (the hook), listeners (the mask).
 */
#include "publish/logging.h"

#include <errno.h>

#include <flatview/memory_dirty.h>

#include "publish/change.h"
#include "publish/log_tell.h"
#include "topology/dirty_log.h"

static void show(MemoryRegion *mr)
{
    region_poke(mr->dirty_log_mask, dirty_log_wanted(mr->block));
}

static void put_back(MemoryRegion *mr, unsigned client, bool log, bool global)
{
    RamBlock *block = mr->block;

    if (log) {
        dirty_log_unuse(block, client);
    } else {
        dirty_log_reuse(block, client);
    }
    if (global) {
        block->dirty.global = !log;
    }
    show(mr);
}

static int put(MemoryRegion *mr, unsigned client, bool log, bool global)
{
    RamBlock *block = mr->block;
    UndoEntry *entry = txn_log(UNDO_LOG, mr);
    int err;

    if (!entry) {
        return -ENOMEM;
    }
    entry->a = client;
    entry->b = log;
    entry->c = global;
    if (!log) {
        dirty_log_unuse(block, client);
    } else if (dirty_log_use(block, client) < 0) {
        txn.n_undo--;
        return -ENOMEM;
    }
    if (global) {
        block->dirty.global = log;
    }
    show(mr);
    err = change_hooks(mr, mr->dirty_log_mask ? REGION_HOOK_LOG : 0, mr->dirty_log_mask ? 0 : REGION_HOOK_LOG);
    if (err < 0) {
        put_back(mr, client, log, global);
        txn.n_undo--;
    }
    return err;
}

int change_log(MemoryRegion *mr, unsigned client, bool log)
{
    return put(mr, client, log, false);
}

int change_granule(MemoryRegion *mr, unsigned client, unsigned shift)
{
    RamBlock *block = mr->block;
    UndoEntry *entry = txn_log(UNDO_GRANULE, mr);

    if (!entry) {
        return -ENOMEM;
    }
    entry->a = client;
    entry->b = block->dirty.shift[client];
    block->dirty.shift[client] = (uint8_t)shift;
    return 0;
}

/* ---- all RAM -------------------------------------------------------------------------------------------------- */

/* Until this transaction is over, at least: whatever happens to it needs the topology lock. */
static bool is_alive(const MemoryRegion *mr)
{
    return mr->state == REGION_STATE_LIVE || mr->state == REGION_STATE_DYING;
}

/* A RAM device's memory is hardware's, and nobody copies it. */
static bool concerns(const RamBlock *block, bool log)
{
    const MemoryRegion *mr = block->dirty.mr;

    return block->dirty.global != log && mr->kind != MEMORY_KIND_RAM_DEVICE && is_alive(mr);
}

static int global_visit(RamBlock *block, void *arg)
{
    bool log = *(const bool *)arg;

    return concerns(block, log) ? put(block->dirty.mr, DIRTY_MEMORY_MIGRATION, log, true) : 0;
}

static int newborn_visit(RamBlock *block, void *arg)
{
    MemoryRegion *mr = block->dirty.mr;

    (void)arg;
    /* One that is dead, and mapped still, may be freed as soon as the blocks' lock is given back: then it must not be on the list
       of those that this transaction touched. Its log ends with it. */
    if (block->dirty.global && is_alive(mr)) {
        put_back(mr, DIRTY_MEMORY_MIGRATION, true, true);
        mr->dirty_log_seen = mr->dirty_log_mask;
        mr->hooks_wanted &= mr->dirty_log_mask ? UINT32_MAX : ~REGION_HOOK_LOG;
        region_hook(mr, mr->hooks_wanted);
    }
    return 0;
}

/* What is made from now on is not logged, nor what was made since the transaction began and has not been seen by it. That cannot
   fail: nobody can have mapped it without the topology lock. */
static void stop_newborn(void)
{
    dirty_log_set_global(false);
    dirty_log_foreach(false, newborn_visit, NULL);
}

static unsigned global_users[GLOBAL_LOG_REASONS];

static void count_reasons(unsigned reasons, bool log)
{
    unsigned i;

    for (i = 0; i < GLOBAL_LOG_REASONS; i++) {
        global_users[i] += reasons >> i & 1 ? (log ? 1u : UINT32_MAX) : 0;
    }
}

unsigned global_log_reasons(void)
{
    unsigned i, reasons = 0;

    for (i = 0; i < GLOBAL_LOG_REASONS; i++) {
        reasons |= (unsigned)(region_peek(global_users[i]) != 0) << i;
    }
    return reasons;
}

int change_global_log(unsigned reasons, bool log)
{
    bool was = global_log_reasons() != 0, is;
    UndoEntry *entry = txn_log(UNDO_GLOBAL_LOG, NULL);

    if (!entry) {
        return -ENOMEM;
    }
    count_reasons(reasons, log);
    is = global_log_reasons() != 0;
    entry->a = reasons;
    entry->b = log;
    entry->c = was != is; /* and not only one reason more, or less */
    if (was == is) {
        return 0;
    }
    log_global_change(log ? 1 : -1);
    if (log) {
        dirty_log_set_global(true); /* and not after those that there are, or one made between would be forgotten */
    }
    return dirty_log_foreach(false, global_visit, &log);
}

void logging_undo(const UndoEntry *entry)
{
    if (entry->op == UNDO_GLOBAL_LOG) {
        count_reasons((unsigned)entry->a, !entry->b);
        if (entry->c) {
            log_global_change(0);
            if (entry->b) {
                stop_newborn();
            }
        }
    } else if (entry->op == UNDO_RAM_SIZE) {
        region_poke(((RamBlock *)entry->mr->block)->used, entry->a);
    } else if (entry->op == UNDO_LOG) {
        put_back(entry->mr, (unsigned)entry->a, entry->b, entry->c);
    } else {
        ((RamBlock *)entry->mr->block)->dirty.shift[entry->a] = (uint8_t)entry->b;
    }
}

/* ---- RAM that grows and shrinks ------------------------------------------------------------------------------- */

int change_ram_size(MemoryRegion *mr, uint64_t size)
{
    RamBlock *block = mr->block;
    UndoEntry *entry;
    uint64_t old = block->used;
    int err;

    if (old != size) {
        entry = txn_log(UNDO_RAM_SIZE, mr);
        if (!entry) {
            return -ENOMEM;
        }
        entry->a = old;
        region_poke(block->used, size);
    }
    err = change_size(mr, size);
    if (err < 0 && old != size) {
        region_poke(block->used, old);
        txn.n_undo--;
    }
    return err;
}

static void ram_resized(MemoryRegion *mr, uint64_t old)
{
    RamBlock *block = mr->block;

    dirty_log_resized(block, old);
    if (block->told != block->used) { /* once, however often it was resized in this transaction */
        __atomic_store_n(&block->told, block->used, __ATOMIC_RELAXED);
        if (block->resized) {
            txn_set_delivering(true);
            block->resized(mr, block->used);
            txn_set_delivering(false);
        }
    }
}

void logging_committed(const UndoEntry *entry)
{
    if (entry->op == UNDO_GLOBAL_LOG && entry->c && !entry->b) {
        stop_newborn();
    } else if (entry->op == UNDO_RAM_SIZE) {
        ram_resized(entry->mr, entry->a);
    }
}
