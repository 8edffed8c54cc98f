/* SPDX-License-Identifier: MIT */
/*
 * ram_block_shim.h - topology/ram_block.h, which g++ accepts, linked as C.
 */
#ifndef FLATVIEW_TESTS_RAM_BLOCK_SHIM_H
#define FLATVIEW_TESTS_RAM_BLOCK_SHIM_H

#ifdef __cplusplus
extern "C" {
#endif

#include "topology/ram_block.h"

#ifdef __cplusplus
}
#endif

#endif
