/* SPDX-License-Identifier: MIT */
/*
 * grace.h - has everybody left who was inside then? Asked, not waited for.
 *
 * Invariant: grace_ended(t) is true only if a grace period has ended that began after grace_begin() returned t; so every
 * read section that was open at that call is over, and what it stored is visible to whoever got the answer.
 *
 * For what may not wait (a collect of dirty pages is made by threads that hold locks of the program, which a callback in a
 * read section may want) and has no object to retire.
 */
#ifndef FLATVIEW_BASE_GRACE_H
#define FLATVIEW_BASE_GRACE_H

#include <flatview/types.h>

#define GRACE_NEVER UINT64_MAX /* a ticket whose grace period has not begun */

/* From now on. Any context and thread; never waits, never fails. Tickets ascend; 0 is none of them, and has ended. */
uint64_t grace_begin(void);
bool grace_ended(uint64_t ticket);
/* Until all tickets taken so far have ended. Outside sections, with no lock that a reader may want. */
void grace_wait(void);

#endif
