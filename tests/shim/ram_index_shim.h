/* SPDX-License-Identifier: MIT */
/*
 * ram_index_shim.h - topology/ram_index.h, which g++ accepts, linked as C.
 */
#ifndef FLATVIEW_TESTS_RAM_INDEX_SHIM_H
#define FLATVIEW_TESTS_RAM_INDEX_SHIM_H

#ifdef __cplusplus
extern "C" {
#endif

#include "topology/ram_index.h"

#ifdef __cplusplus
}
#endif

#endif
