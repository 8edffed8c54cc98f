/* SPDX-License-Identifier: MIT */
/*
 * memory_transaction.h - several changes, one publication.
 *
 * A transaction belongs to the thread that began it; other threads that want to change something wait, readers do not.
 * It is not a lock for anything but the topology (docs/LOCKING.md).
 */
#ifndef FLATVIEW_MEMORY_TRANSACTION_H
#define FLATVIEW_MEMORY_TRANSACTION_H

#include <flatview/types.h>

FLATVIEW_BEGIN_DECLS

/**
 * memory_transaction_begin() - open a transaction, or a nested one
 *
 * Context: any thread, also inside a read section (an access callback). Not from a listener.
 * Locking: the outermost one takes the topology lock and keeps it until commit or abort.
 * Return:  0; -EBUSY from a listener or a foreach callback; -EAGAIN if retired memory is over its limit and the
 *          policy says so (memory_stats.h); -ENOMEM. On error there is nothing to commit or abort.
 * Since:   0.1
 */
FLATVIEW_API int memory_transaction_begin(void);

/**
 * memory_transaction_commit() - close the innermost transaction; if it was the outermost, publish
 *
 * All or nothing: on error everything that happened since the outermost begin is undone, views are as before, and the
 * transaction is closed.
 *
 * Return: 0; -EINVAL without a transaction of this thread; -ENOMEM; -E2BIG if a view would be too large
 *         (MEMORY_VIEW_MAX_RANGES) or aliases multiply beyond reason; or what a listener's prepare returned (ORDERING: R6).
 *         A nested one only closes and returns 0.
 * Since:  0.1
 */
FLATVIEW_API int memory_transaction_commit(void);

/**
 * memory_transaction_abort() - close the innermost transaction and undo what happened since its begin
 *
 * A nested one undoes its own part; the outer goes on. Cannot fail; without a transaction of this thread it does nothing.
 * Since: 0.1
 */
FLATVIEW_API void memory_transaction_abort(void);

/** memory_transaction_depth() - how many transactions this thread has open; 0 for a thread that owns none. */
FLATVIEW_API unsigned memory_transaction_depth(void);

/** MEMORY_VIEW_MAX_RANGES - the most ranges a view may have: what 40 aliases that double each other can allocate at most. */
#define MEMORY_VIEW_MAX_RANGES (1u << 23)

FLATVIEW_END_DECLS

#endif
