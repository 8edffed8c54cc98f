/* SPDX-License-Identifier: MIT */
/*
 * soon.h - what has to be done in a moment, by nobody in particular.
 *
 * Not liburcu's worker: that one wakes when readers have left, and a reader may stay for long. Here a thread of the library's
 * own, begun when it is first wanted, does the work after SOON_DELAY_US; it waits for nobody, unless the work does.
 */
#ifndef FLATVIEW_BASE_SOON_H
#define FLATVIEW_BASE_SOON_H

#include <stdbool.h>

#define SOON_DELAY_US 1000

/* Static memory. Private, all zero at first. */
typedef struct SoonWork {
    struct SoonWork *next;
    void (*fn)(struct SoonWork *work);
} SoonWork;

/* fn runs once, with no lock held and outside read sections; work may be given away anew from then on, by itself, too. Not while it
   waits to be run. False: there is no such thread, and cannot be. Any context. */
bool soon_run(SoonWork *work, void (*fn)(SoonWork *work));

#endif
