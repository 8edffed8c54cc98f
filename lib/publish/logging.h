/* SPDX-License-Identifier: MIT */
/*
 * logging.h - clients of the dirty log come and go, as a transaction makes them.
 *
 * Each returns 0 or -ENOMEM with nothing changed; a transaction is open and the region has a RAM block.
 */
#ifndef FLATVIEW_PUBLISH_LOGGING_H
#define FLATVIEW_PUBLISH_LOGGING_H

#include "publish/transaction.h"
#include "topology/ram_block.h"

/* One user more of the client, or one less (there is one). */
int change_log(MemoryRegion *mr, unsigned client, bool log);
int change_granule(MemoryRegion *mr, unsigned client, unsigned shift); /* the client has no users */
/* One user more of each of these reasons (bits 0 to GLOBAL_LOG_REASONS - 1), or one less (there is one). With the first, all RAM
   there is, and all that will be made, is logged for migration; with the last, none is. On an error some of it is: undo. */
enum { GLOBAL_LOG_REASONS = 3 };
int change_global_log(unsigned reasons, bool log);
unsigned global_log_reasons(void); /* those that have users; any thread */

/* The region's resizable block uses size bytes (not more than it has), and the region shows them. */
int change_ram_size(MemoryRegion *mr, uint64_t size);

void logging_undo(const UndoEntry *entry);      /* those in transaction.h that these write */
void logging_committed(const UndoEntry *entry); /* likewise, and any other */

#endif
