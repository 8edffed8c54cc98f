/* SPDX-License-Identifier: MIT */
/*
 * exact.h - accesses to mapped hardware (FLAT_EXACT): each a load or store of a stated width, none of them a memcpy().
 */
#ifndef FLATVIEW_ACCESS_EXACT_H
#define FLATVIEW_ACCESS_EXACT_H

#include "view/flat_range.h"

/*
 * len bytes at addr, all of them in range, which is FLAT_EXACT and, for a write, not read-only: cut into accesses that are
 * naturally aligned in the host and as wide as the region takes: 8 bytes, or impl.max_access_size of its ops. A part that
 * would have to be narrower than valid.min_access_size is left out: MEMTX_DECODE_ERROR.
 */
MemTxResult exact_rw(const FlatRange *range, hwaddr addr, uint8_t *buf, hwaddr len, bool is_write);

#endif
