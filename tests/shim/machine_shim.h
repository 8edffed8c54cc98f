/* SPDX-License-Identifier: MIT */
/*
 * machine_shim.h - live machines led from map to map (stress/machine.h), for test bodies in C++.
 */
#ifndef FLATVIEW_SHIM_MACHINE_H
#define FLATVIEW_SHIM_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Build each of the n maps in turn from the one before, in one transaction each or call by call (@each), with mirrors on
 * every space; after each compare all views with those of a machine built from nothing. True if they agree, or if neither
 * machine can be built; otherwise the first difference in complaint.
 */
bool machine_shim_lead(const char *const *texts, size_t n, bool each, char *complaint, size_t complaint_len);

/* The calls that lead from one map to another, as letters: A add, D del, S set_*, M made, G gone, + - spaces. */
bool machine_shim_step(const char *before, const char *after, char *ret, size_t ret_len);

#ifdef __cplusplus
}
#endif

#endif
