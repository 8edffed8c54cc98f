/* SPDX-License-Identifier: MIT */
/*
 * lock_shim.h - two locks, the second of higher rank, and one of the same rank as the first.
 */
#ifndef FLATVIEW_TESTS_LOCK_SHIM_H
#define FLATVIEW_TESTS_LOCK_SHIM_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LOCK_SHIM_LOW, LOCK_SHIM_LOW_TWIN, LOCK_SHIM_HIGH };

bool lock_shim_checked(void); /* are orders checked in this build? */
void lock_shim_acquire(int which);
bool lock_shim_try(int which);
void lock_shim_release(int which);
void lock_shim_assert_held(int which);
void lock_shim_assert_not_held(int which);
void lock_shim_assert_none_held(void);
void lock_shim_wait(int which); /* until the next signal, or for nothing */
void lock_shim_signal(void);

#ifdef __cplusplus
}
#endif

#endif
