/* SPDX-License-Identifier: MIT */
/*
 * change_calls.h - policy, guard and lock of a region (topology/calls.h), changed as publish/change.h says.
 */
#ifndef FLATVIEW_PUBLISH_CHANGE_CALLS_H
#define FLATVIEW_PUBLISH_CHANGE_CALLS_H

#include "publish/change.h"
#include "topology/calls.h"

enum CallsField { CALLS_POLICY, CALLS_GUARD, CALLS_LOCK };

int change_calls(MemoryRegion *mr, enum CallsField field, uint64_t value); /* pointers as uintptr_t */
void change_calls_undo(const UndoEntry *entry);

#endif
