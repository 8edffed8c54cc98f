/* SPDX-License-Identifier: MIT */
/*
 * change.h - changes of the tree as a transaction makes them: logged, and marked in the views.
 *
 * Each returns 0 or -ENOMEM with nothing changed; the caller has checked that the change is legal and has a transaction
 * open. A change to the value that is there already is free.
 */
#ifndef FLATVIEW_PUBLISH_CHANGE_H
#define FLATVIEW_PUBLISH_CHANGE_H

#include "publish/transaction.h"

struct RamWindow;

int change_link(MemoryRegion *parent, MemoryRegion *child, hwaddr addr, int32_t priority);
int change_unlink(MemoryRegion *child);
int change_addr(MemoryRegion *mr, hwaddr addr);
int change_size(MemoryRegion *mr, uint64_t size);
int change_enabled(MemoryRegion *mr, bool enabled);
int change_alias_offset(MemoryRegion *mr, hwaddr offset);
int change_readonly(MemoryRegion *mr, bool readonly);
int change_nonvolatile(MemoryRegion *mr, bool nonvolatile);
int change_romd(MemoryRegion *mr, bool romd);
int change_bias(MemoryRegion *mr, uint64_t bias);
/*
 * What an access must ask about (REGION_HOOK_* in topology/region.h): these are wanted from now on, those no more. A new one is
 * in force at once, and every view that shows the region gets a new generation in this commit, so that what threads have
 * remembered without it dies; nothing is rendered. One that goes is in force until the commit has succeeded.
 */
int change_hooks(MemoryRegion *mr, uint32_t set, uint32_t clear);
/* The commit has succeeded: only what is wanted is in force. */
void change_hooks_settle(MemoryRegion *mr);
int change_interposer(MemoryRegion *mr, const struct MemoryInterposerOps *ops);
/* Of a RAM device: another RamWindow, or NULL. On success it is the transaction's: in force when that commits, discarded when
   it does not. */
int change_window(MemoryRegion *mr, struct RamWindow *window);
/* The commit has succeeded: the window that was replaced can go. */
void change_window_settle(const UndoEntry *entry);
int change_destroy(MemoryRegion *mr);

/* Take one logged change back. mark: views must follow (a nested abort); otherwise the caller forgets their edits. */
void change_undo(const UndoEntry *entry, bool mark);

#endif
