/* SPDX-License-Identifier: MIT */
/*
 * sabotage.h - rules of accelerators to be broken on purpose, as base/sabotage.h has them for the core: for
 * `flatview storm --accel NAME --sabotage FAULT`, which must notice. Without FLATVIEW_SABOTAGE there is no code for it.
 */
#ifndef FLATVIEW_ACCEL_SABOTAGE_H
#define FLATVIEW_ACCEL_SABOTAGE_H

#include <stdbool.h>

enum AccelSabotage {
    ACCEL_SABOTAGE_NONE,
    ACCEL_SABOTAGE_DROP_DEL,  /* now and then what goes is not taken away from the other side */
    ACCEL_SABOTAGE_EARLY_ADD, /* now and then what comes is put in place before publication */
    ACCEL_SABOTAGE_SKIP_KICK, /* whoever executes is not held while memory goes and comes */
    ACCEL_SABOTAGE_COUNT,
};

#ifdef FLATVIEW_SABOTAGE
extern enum AccelSabotage accel_sabotage_active;             /* set once, before threads start */
bool accel_sabotage_now(enum AccelSabotage which);           /* one time in four; under the topology lock */
const char *accel_sabotage_name(int which);                  /* NULL if there is no such */
#define accel_sabotaged(which) (accel_sabotage_active == (which))
#else
#define accel_sabotage_now(which) false
#define accel_sabotaged(which) false
#endif

#endif
