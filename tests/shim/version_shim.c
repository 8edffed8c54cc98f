/* SPDX-License-Identifier: MIT */
/*
 * version_shim.c - see version_shim.h. Also the smallest example of a shim.
 */
#include "shim/version_shim.h"

const char *version_shim_of_build(void)
{
    return FLATVIEW_VERSION;
}
