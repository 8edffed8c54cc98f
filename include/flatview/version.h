/* SPDX-License-Identifier: MIT */
/*
 * version.h - which library is this?
 */
#ifndef FLATVIEW_VERSION_H
#define FLATVIEW_VERSION_H

#include <flatview/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * flatview_version() - the version of the library that is running
 *
 * Context:   any thread, at any time.
 * Ownership: the string is static; never free it.
 * Return:    "MAJOR.MINOR.PATCH".
 * Since:     0.1
 */
FLATVIEW_API const char *flatview_version(void);

#ifdef __cplusplus
}
#endif

#endif
