/* SPDX-License-Identifier: MIT */
/*
 * sabotage.h - rules to be broken on purpose.
 *
 * A checker that cannot fail proves nothing. The stress command's second executable is built from the same sources with
 * FLATVIEW_SABOTAGE; there each SABOTAGE_* can be switched on, and the storm must notice. In the library that ships,
 * sabotaged() is the constant false and no code for it exists.
 */
#ifndef FLATVIEW_BASE_SABOTAGE_H
#define FLATVIEW_BASE_SABOTAGE_H

#include <stdbool.h>

enum Sabotage {
    SABOTAGE_NONE,
    SABOTAGE_SKIP_GRACE,    /* retired memory is reused at once */
    SABOTAGE_EARLY_PUBLISH, /* a view is published before it is finished */
    SABOTAGE_EARLY_ADD,     /* additions are delivered before publication */
    SABOTAGE_LATE_DEL,      /* removals are delivered after publication */
    SABOTAGE_DROP_EVENT,    /* now and then a listener is not told of a removal */
    SABOTAGE_STALE_CACHE,   /* a thread's cached range is used whatever the generation */
    SABOTAGE_LOST_SPAN,     /* now and then a commit forgets to render a dirty span */
    SABOTAGE_DROP_DIRTY,    /* now and then a store to logged memory is not marked */
    SABOTAGE_DROP_EVENTFD,  /* now and then a listener is not told of an ioeventfd */
    SABOTAGE_DROP_COALESCED_IO, /* or of a coalesced range */
    SABOTAGE_DROP_LOG,      /* or of a client of the dirty log */
    SABOTAGE_DROP_COALESCED, /* now and then a write to a coalesced range is lost */
    SABOTAGE_DROP_INVALIDATE, /* now and then threads keep translations that are gone */
    SABOTAGE_DROP_NOTIFY,   /* now and then a notifier is not told of translations */
    SABOTAGE_DROP_HOLD,     /* mappings do not keep memory from being released */
    SABOTAGE_STALE_WINDOW,  /* a cached window is used whatever the generation */
    SABOTAGE_DROP_LOCK,     /* now and then a call does without its region's lock */
    SABOTAGE_EARLY_STOP,    /* stopping calls does not wait for those in flight */
    SABOTAGE_DROP_GUARD,    /* now and then an access that comes back is not seen to */
    SABOTAGE_DROP_GROWN,    /* now and then RAM that appears by growing is not dirty */
    SABOTAGE_DROP_INTERPOSER, /* now and then an access goes past its interposers */
    SABOTAGE_COUNT,
};

#ifdef FLATVIEW_SABOTAGE
extern enum Sabotage sabotage_active; /* set once, before threads start */
const char *sabotage_name(int which); /* as on the command line; NULL if there is no such */
bool sabotage_turn(enum Sabotage which, unsigned one_in); /* now and then: one time in so many */
#define sabotaged(which) __builtin_expect(sabotage_active == (which), 0)
#else
#define sabotaged(which) false
#define sabotage_turn(which, one_in) ((void)(which), false)
#endif

#endif
