/* SPDX-License-Identifier: MIT */
/*
 * transaction.h - who may change the topology now, and how to take changes back.
 *
 * Invariant: a thread with txn_depth > 0 holds the topology lock, and no other thread does. Between outermost begin and
 * end every change to the tree has its inverse in the undo log, written before the change was made (so a change that
 * could not be logged was not made), and everything that the changes can have shown is in the dirty spans of the cells.
 * The log is empty outside transactions.
 */
#ifndef FLATVIEW_PUBLISH_TRANSACTION_H
#define FLATVIEW_PUBLISH_TRANSACTION_H

#include "publish/space.h"

extern __thread unsigned txn_depth; /* of this thread */

enum UndoOp {
    UNDO_LINK,   /* was linked: unlink, and put back addr = a, priority = b */
    UNDO_UNLINK, /* was taken out of parent: link at a, with priority b and order c */
    UNDO_ADDR,   /* was at a */
    UNDO_SIZE,
    UNDO_ENABLED,
    UNDO_ALIAS_OFFSET,
    UNDO_READONLY,
    UNDO_NONVOLATILE,
    UNDO_ROMD,
    UNDO_BIAS,
    /* from here on the commit, once it cannot fail any more, may have something to do for each: Txn.late */
    UNDO_LOG,        /* b: client a got a user, or lost one; c: on behalf of all RAM */
    UNDO_GRANULE,    /* of client a was b */
    UNDO_GLOBAL_LOG, /* b: reasons a got a user each, or lost one; c: and so it began, or ended */
    UNDO_RAM_SIZE,   /* its block used a bytes */
    UNDO_HOOKS,     /* a were wanted, b were in force */
    UNDO_INTERPOSER, /* was a */
    UNDO_WINDOW,    /* had the RamWindow a */
    UNDO_CALLS,     /* field b of what it says about calls was a */
    UNDO_PLANE, /* item a of plane was added, or taken out: plane.h */
    UNDO_DESTROY,   /* was live */
    UNDO_SPACE_INIT, /* space did not exist */
    UNDO_FIRST_LATE = UNDO_LOG
};

typedef struct UndoEntry {
    enum UndoOp op;
    uint8_t plane; /* MemoryPlane */
    bool added;
    MemoryRegion *mr, *parent;
    union {
        Space *space;
        struct PlaneObject *object;
    };
    uint64_t a, b, c;
} UndoEntry;

/* What the open transaction has touched. Guarded by the topology lock. */
typedef struct Txn {
    uint64_t serial;   /* of the outermost transaction */
    UndoEntry *undo;
    size_t n_undo, cap_undo;
    ViewCell *touched; /* cells with something to render, publish or end */
    Space *resolve;    /* spaces whose root must be resolved again */
    Space *moved;      /* spaces whose cell or chain is not the one from before */
    bool late;         /* something was logged that step 8 has to look for */
    struct RegionPlanes *staged_planes;
} Txn;
extern Txn txn;

/* Begin, also nested. 0, -EBUSY from a listener, -EAGAIN, -ENOMEM. */
int txn_begin(void);
/* The same for a change that only takes away: it is never told -EAGAIN. */
int txn_begin_removal(void);
/* End; the outermost commits: 0, or an error with everything undone. -EINVAL without a transaction of this thread. */
int txn_end(void);
/* End and undo since the matching begin. */
void txn_abort(void);

/* Only keep others out, for reading the tree or for changes that no view can show: 0 or -EBUSY. */
int txn_enter(void);
void txn_leave(void);
/* Does this thread hold the topology lock, in whatever way, or one of an IOMMU region's? Then it must not wait for readers. */
bool txn_holds_lock(void);

/* Log an inverse; must precede the change. NULL: -ENOMEM. Valid until the next call. */
UndoEntry *txn_log(enum UndoOp op, MemoryRegion *mr);
/* Undo the newest n_undo - keep entries. */
void txn_undo_to(size_t keep, bool mark);

/* While listeners are called, this thread must not change anything. */
void txn_set_delivering(bool delivering);
bool txn_delivering(void);

/* While notifiers of an IOMMU region are called, under its lock, this thread must not take the topology lock, nor end what
   it has open. Returns what it was. */
bool txn_set_notifying(bool notifying);
bool txn_notifying(void);

/* Called by nobody but the owner, once the lock is free: detached() of these. */
void txn_defer_detached(MemoryListener *listener);

typedef struct TxnStats {
    uint64_t commits, refused, aborted;
} TxnStats;
void txn_get_stats(TxnStats *ret_stats);

#endif
