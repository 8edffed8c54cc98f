/* SPDX-License-Identifier: MIT */
/*
 * sabotage.c - the names of the rules that can be broken on purpose.
 *
 * Invariant: sabotage_active is written once, before any other thread exists, so that reading it needs no order.
 * Without FLATVIEW_SABOTAGE this file defines nothing.
 */
#include "base/sabotage.h"

#ifdef FLATVIEW_SABOTAGE

#include <stddef.h>

enum Sabotage sabotage_active = SABOTAGE_NONE;

static const char *const names[SABOTAGE_COUNT] = {
    [SABOTAGE_NONE] = "none",
    [SABOTAGE_SKIP_GRACE] = "skip-grace",
    [SABOTAGE_EARLY_PUBLISH] = "early-publish",
    [SABOTAGE_EARLY_ADD] = "early-add",
    [SABOTAGE_LATE_DEL] = "late-del",
    [SABOTAGE_DROP_EVENT] = "drop-event",
    [SABOTAGE_STALE_CACHE] = "stale-cache",
    [SABOTAGE_LOST_SPAN] = "lost-span",
    [SABOTAGE_DROP_DIRTY] = "drop-dirty",
    [SABOTAGE_DROP_EVENTFD] = "drop-eventfd",
    [SABOTAGE_DROP_COALESCED_IO] = "drop-coalesced-io",
    [SABOTAGE_DROP_LOG] = "drop-log",
    [SABOTAGE_DROP_COALESCED] = "drop-coalesced",
    [SABOTAGE_DROP_INVALIDATE] = "drop-invalidate",
    [SABOTAGE_DROP_NOTIFY] = "drop-notify",
    [SABOTAGE_DROP_HOLD] = "drop-hold",
    [SABOTAGE_STALE_WINDOW] = "stale-window",
    [SABOTAGE_DROP_LOCK] = "drop-lock",
    [SABOTAGE_EARLY_STOP] = "early-stop",
    [SABOTAGE_DROP_GUARD] = "drop-guard",
    [SABOTAGE_DROP_GROWN] = "drop-grown",
    [SABOTAGE_DROP_INTERPOSER] = "drop-interposer",
};

bool sabotage_turn(enum Sabotage which, unsigned one_in)
{
    static unsigned turn; /* atomic */

    return sabotaged(which) && __atomic_add_fetch(&turn, 1, __ATOMIC_RELAXED) % one_in == 0;
}

const char *sabotage_name(int which)
{
    return which >= 0 && which < SABOTAGE_COUNT ? names[which] : NULL;
}

#endif
