/* SPDX-License-Identifier: MIT */
/*
 * retire_shim.h - base/retire.h with objects and versions whose end is told.
 *
 * told(arg) is called by an object's free function; the object exists until told() has returned.
 */
#ifndef FLATVIEW_TESTS_RETIRE_SHIM_H
#define FLATVIEW_TESTS_RETIRE_SHIM_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ShimLine ShimLine;
typedef struct ShimObject ShimObject;
typedef struct ShimVersion ShimVersion;
typedef void (*ShimTold)(void *arg);

ShimLine *retire_shim_line_new(ShimTold told, void *arg); /* told may be NULL here and below */
void retire_shim_line_unref(ShimLine *line);

/* line: NULL for an object of no line */
ShimObject *retire_shim_object_new(ShimLine *line, uint64_t birth, uint32_t bytes, ShimTold told, void *arg);
/* of no line; the following two are for such only */
ShimObject *retire_shim_counted_new(uint64_t birth, uint32_t bytes, ShimTold told, void *arg);
void retire_shim_hold(ShimObject *object);
void retire_shim_unhold(ShimObject *object);
void retire_shim_object_push(ShimObject *object, uint64_t death);
uint64_t retire_shim_object_ticket(const ShimObject *object); /* before it is freed */

ShimVersion *retire_shim_version_new(ShimLine *line, uint64_t gen, uint32_t bytes, ShimTold told, void *arg);
void retire_shim_version_push(ShimVersion *version, uint64_t death);
void retire_shim_version_pin(ShimVersion *version);
void retire_shim_version_unpin(ShimVersion *version);
/* The version's data: two words that are equal while it lives. */
bool retire_shim_version_is_whole(const ShimVersion *version);

/* Where readers find the current version of something. */
void retire_shim_publish(ShimVersion *version);
ShimVersion *retire_shim_current(void);

void retire_shim_flush(void);
bool retire_shim_over_limit(void);
void retire_shim_help(void);
int retire_shim_set_limit(uint64_t bytes, int policy);
int retire_shim_policy(void);
bool retire_shim_is_done(uint64_t ticket);
void retire_shim_wait_done(uint64_t ticket);
bool retire_shim_releasing(void);

typedef struct ShimStats {
    uint64_t retired_bytes, retired_peak, pinned_bytes, helped;
} ShimStats;
ShimStats retire_shim_stats(void);

#ifdef __cplusplus
}
#endif

#endif
