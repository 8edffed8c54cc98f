/* SPDX-License-Identifier: MIT */
/* live.c - the numbers of live.h, which has the invariant. */
#include "base/live.h"

uint64_t live_numbers[LIVE_KINDS] __attribute__((aligned(64)));
