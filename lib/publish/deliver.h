/* SPDX-License-Identifier: MIT */
/*
 * deliver.h - calling listeners, in the order of R6.
 *
 * Two users: a commit (a round of all listeners that it concerns), and a registration or unregistration (one listener).
 * All under the topology lock.
 */
#ifndef FLATVIEW_PUBLISH_DELIVER_H
#define FLATVIEW_PUBLISH_DELIVER_H

#include "publish/space.h"

enum ListenerState {
    LISTENER_NONE = 0,
    LISTENER_REGISTERED,
    LISTENER_LEAVING, /* unregistered from a callback: at the end of the round */
};

/* ---- a round ---- */
void round_reset(void);
/* Every listener of space hears of delta, which stays valid until the round ends, if anything in it is for it. 0 or
   -ENOMEM. */
int round_add_space(Space *space, const MemoryDelta *delta);
/* begin and prepare. 0, or what a listener refused with, everything aborted. */
int round_prepare(void);
void round_remove(void);
void round_add(void);
void round_commit(void);
/* Let go those that left meanwhile; also after listener_leave(), whose callbacks may have unregistered others. */
void round_end(void);

/* ---- one listener ---- */
int listener_join(MemoryListener *listener, Space *space); /* 0, -ENOMEM, or its refusal */
void listener_leave(MemoryListener *listener);             /* inverse replay, unlink; detached() is deferred to unlock */
uint64_t listener_live_count(void); /* any thread */
void listener_leave_later(MemoryListener *listener);

#endif
