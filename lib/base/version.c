/* SPDX-License-Identifier: MIT */
/*
 * version.c - the version that meson.build states, compiled in, so that it cannot differ from the package's.
 */
#include <flatview/version.h>

const char *flatview_version(void)
{
    return FLATVIEW_VERSION;
}
