/* SPDX-License-Identifier: MIT */
/*
 * log_tell.h - asking and telling listeners about the dirty log outside of what a commit changes.
 *
 * All under the topology lock, outside rounds. Ranges are those of the views that readers see.
 */
#ifndef FLATVIEW_PUBLISH_LOG_TELL_H
#define FLATVIEW_PUBLISH_LOG_TELL_H

#include "publish/space.h"

/* Does any listener keep bits of its own? Any thread: who registers one meanwhile has nothing to tell yet. */
bool log_listening(void);
void log_count_listener(const MemoryListener *listener, int by);

/* Where bytes [first, last] of mr show: 0 or -ENOMEM. Then, with the lock still held, what can not fail: log_sync (and
   log_sync_global), log_clear, for those places. */
int log_list_region(MemoryRegion *mr, hwaddr first, hwaddr last);
void log_tell_sync(void);
void log_tell_clear(void);
/* Of all regions that are logged. */
int log_sync_all(bool last_stage);
int log_after_sync(void);

/* The open transaction makes global logging begin (1) or end (-1). In the commit: begin is told to all, of whom one may refuse, before
   anyone is prepared; the end when all is done. */
void log_global_change(int change);
int log_global_tell(void);    /* step 3. 0, -ENOMEM, or a refusal, after which nobody has heard anything that stands */
void log_global_cancel(void); /* the commit failed after it */
void log_global_done(void);   /* step 7 */
bool log_global_on(void);     /* as of the last commit */

#endif
