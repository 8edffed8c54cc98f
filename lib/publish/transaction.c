/* SPDX-License-Identifier: MIT */
/*
 * transaction.c - depth, savepoints, and the undo log.
 *
 * Invariant: as in transaction.h. The depth is thread-local: a thread whose depth is not zero is the owner, so asking "is
 * this my transaction?" needs no shared variable, and no thread can mistake another's for its own.
 * Established by: txn_begin() and txn_end(), the only places that take and give back the topology lock for changes.
 * Relied on by:   every public function that changes something.
 *
 * The lock is never held while waiting for readers: a writer that owes a wait (retired memory over its limit) pays before
 * it takes the lock, and not at all inside a read section, or while readers wait for this very thread (a region that it has
 * stopped). So a device callback that changes the topology, in its read section, can wait for the lock without closing a
 * cycle.
 */
#include "publish/transaction.h"

#include <errno.h>

#include <flatview/memory_stats.h>

#include "base/mem.h"
#include "publish/change.h"
#include "publish/commit.h"
#include "publish/deliver.h"
#include "publish/dirty.h"
#include "publish/stage.h"
#include "topology/calls.h"
#include "topology/dirty_log.h"

#define KEEP_UNDO 4096 /* entries whose memory is kept between transactions */

__thread unsigned txn_depth;
static __thread bool delivering;
static __thread bool notifying; /* holds the notifier lock of an IOMMU region, which ranks above the topology's */
static __thread unsigned readers_of_tree; /* txn_enter() depth outside transactions */

Txn txn = {.serial = 1};

static size_t *savepoints;
static size_t cap_savepoints;
static MemoryListener *detached;
static TxnStats stats; /* written under the lock, read anywhere */

static void count(uint64_t *counter)
{
    __atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

void txn_get_stats(TxnStats *ret_stats)
{
    ret_stats->commits = __atomic_load_n(&stats.commits, __ATOMIC_RELAXED);
    ret_stats->refused = __atomic_load_n(&stats.refused, __ATOMIC_RELAXED);
    ret_stats->aborted = __atomic_load_n(&stats.aborted, __ATOMIC_RELAXED);
}

void txn_set_delivering(bool value)
{
    delivering = value;
}

bool txn_delivering(void)
{
    return delivering;
}

bool txn_set_notifying(bool value)
{
    bool before = notifying;

    notifying = value;
    return before;
}

bool txn_notifying(void)
{
    return notifying;
}

void txn_defer_detached(MemoryListener *listener)
{
    listener->round_next = detached;
    detached = listener;
}

static void unlock_and_tell(void)
{
    MemoryListener *listener = detached, *next;

    detached = NULL;
    lock_release(&topology_lock);
    for (; listener; listener = next) {
        next = listener->round_next;
        if (listener->detached) {
            listener->detached(listener);
        }
    }
}

int txn_enter(void)
{
    if (delivering || notifying) {
        return -EBUSY;
    }
    if (!txn_depth && !readers_of_tree++) {
        lock_acquire(&topology_lock);
    }
    return 0;
}

void txn_leave(void)
{
    if (!txn_depth && !--readers_of_tree) {
        unlock_and_tell();
    }
}

bool txn_holds_lock(void)
{
    return txn_depth || delivering || notifying || readers_of_tree;
}

static int begin(bool may_be_refused)
{
    if (delivering || notifying || readers_of_tree) {
        return -EBUSY;
    }
    if (!txn_depth) {
        if (__builtin_expect(retire_over_limit(), 0) && !reader_ongoing() && !calls_make_readers_wait()) {
            if (may_be_refused && retire_policy() == MEMORY_RECLAIM_EAGAIN) {
                return -EAGAIN;
            }
            retire_help();
        }
        lock_acquire(&topology_lock);
    }
    if (mem_vec_reserve((void **)&savepoints, &cap_savepoints, txn_depth + 1, sizeof(*savepoints)) < 0) {
        if (!txn_depth) {
            lock_release(&topology_lock);
        }
        return -ENOMEM;
    }
    savepoints[txn_depth++] = txn.n_undo;
    return 0;
}

int txn_begin(void)
{
    return begin(true);
}

int txn_begin_removal(void)
{
    return begin(false);
}

UndoEntry *txn_log(enum UndoOp op, MemoryRegion *mr)
{
    UndoEntry *entry;

    lock_assert_held(&topology_lock);
    if (mem_vec_reserve((void **)&txn.undo, &txn.cap_undo, txn.n_undo + 1, sizeof(*txn.undo)) < 0) {
        return NULL;
    }
    entry = &txn.undo[txn.n_undo++];
    *entry = (UndoEntry){.op = op, .mr = mr};
    txn.late |= op >= UNDO_FIRST_LATE;
    return entry;
}

/* A space that this transaction made must vanish from all lists. Nobody else can know of it yet. */
static void undo_space_init(Space *space)
{
    Space **at;

    for (at = &txn.resolve; *at; at = &(*at)->resolve_next) {
        if (*at == space) {
            *at = space->resolve_next;
            break;
        }
    }
    for (at = &txn.moved; *at; at = &(*at)->moved_next) {
        if (*at == space) {
            *at = space->moved_next;
            chain_leave(space->chain);
            chain_free(space->chain);
            break;
        }
    }
    space_use_cell(space, NULL);
    space_unlink(space);
    space->as->space = NULL;
    space_retire(space);
}

void txn_undo_to(size_t keep, bool mark)
{
    while (txn.n_undo > keep) {
        UndoEntry *entry = &txn.undo[--txn.n_undo];

        if (entry->op == UNDO_SPACE_INIT) {
            undo_space_init(entry->space);
        } else {
            change_undo(entry, mark);
        }
    }
}

static void finish(void)
{
    dirty_log_settle(); /* before anything retired can be freed */
    txn.n_undo = 0;
    txn.late = false;
    txn.serial++; /* what spaces noted as dirt of this transaction is void */
    if (txn.cap_undo > KEEP_UNDO) {
        mem_vec_free((void **)&txn.undo, &txn.cap_undo, sizeof(*txn.undo));
    }
    retire_flush();
    txn_depth = 0;
    unlock_and_tell();
}

int txn_end(void)
{
    int err = 0;

    if (!txn_depth || delivering || notifying) {
        return -EINVAL;
    }
    if (txn_depth > 1) {
        txn_depth--;
        return 0;
    }
    if (txn.n_undo) {
        err = commit_run();
        if (err < 0) {
            stage_forget();
            txn_undo_to(0, false);
        }
        count(err < 0 ? &stats.refused : &stats.commits);
    } else {
        stage_forget(); /* nested aborts took everything back: what was staged or marked for it goes, too */
    }
    finish();
    return err;
}

void txn_abort(void)
{
    if (!txn_depth || delivering || notifying) {
        return;
    }
    if (txn_depth > 1) {
        txn_undo_to(savepoints[txn_depth - 1], true);
        txn_depth--;
        return;
    }
    stage_forget();
    txn_undo_to(0, false);
    count(&stats.aborted);
    finish();
}
