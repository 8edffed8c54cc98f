/* SPDX-License-Identifier: MIT */
/*
 * sabotage.c - the names of the rules that can be broken on purpose. Compiled into flatview-sabotaged and nothing else.
 *
 * Invariant: accel_sabotage_active is written once, before any other thread exists.
 */
#include "accel/sabotage.h"

#include <stddef.h>

#ifdef FLATVIEW_SABOTAGE

enum AccelSabotage accel_sabotage_active = ACCEL_SABOTAGE_NONE;

static const char *const names[ACCEL_SABOTAGE_COUNT] = {
    [ACCEL_SABOTAGE_NONE] = "none",
    [ACCEL_SABOTAGE_DROP_DEL] = "accel-drop-del",
    [ACCEL_SABOTAGE_EARLY_ADD] = "accel-early-add",
    [ACCEL_SABOTAGE_SKIP_KICK] = "accel-skip-kick",
};

const char *accel_sabotage_name(int which)
{
    return which >= 0 && which < ACCEL_SABOTAGE_COUNT ? names[which] : NULL;
}

bool accel_sabotage_now(enum AccelSabotage which)
{
    static unsigned turn;

    return accel_sabotaged(which) && ++turn % 4 == 0;
}

#endif
