/* SPDX-License-Identifier: MIT */
/*
 * stage.h - from a changed tree to next versions of the views, not yet visible to readers.
 */
#ifndef FLATVIEW_PUBLISH_STAGE_H
#define FLATVIEW_PUBLISH_STAGE_H

#include "publish/space.h"

/* Bring the next versions up to date with the tree. May be called any number of times in a transaction. On error the
   tree is as it was and what could not be staged stays pending. 0, -ENOMEM, -E2BIG. */
int stage_all(void);

/* The tree that the space will have, after stage_all(); outside transactions the one that it has. */
const ViewNode *stage_root(const Space *space);

/* What the space will have at addr, after stage_all(). */
const FlatRange *stage_find(const Space *space, hwaddr addr);

/* The tree has been put back: forget all next versions, and let every space use what readers see. Cannot fail. */
void stage_forget(void);

#endif
