/* SPDX-License-Identifier: MIT */
/*
 * version_shim.h - the version that the build states, for comparison with the one the library reports.
 */
#ifndef FLATVIEW_TESTS_VERSION_SHIM_H
#define FLATVIEW_TESTS_VERSION_SHIM_H

#ifdef __cplusplus
extern "C" {
#endif

const char *version_shim_of_build(void);

#ifdef __cplusplus
}
#endif

#endif
