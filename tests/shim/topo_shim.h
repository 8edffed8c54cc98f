/* SPDX-License-Identifier: MIT */
/*
 * topo_shim.h - the readers of maps (stress/topo.h, stress/mtree.h) for test bodies in C++.
 */
#ifndef FLATVIEW_SHIM_TOPO_H
#define FLATVIEW_SHIM_TOPO_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Read a map from text. True if it is accepted; else `LINE: CAUSE` in complaint. */
bool topo_shim_parse(bool mtree, const char *text, size_t len, char *complaint, size_t complaint_len);

/* What became of it: the regions, one a line, `NAME flags container alias`, in the order of the map. */
bool topo_shim_regions(bool mtree, const char *text, size_t len, char *ret, size_t ret_len);

#ifdef __cplusplus
}
#endif

#endif
