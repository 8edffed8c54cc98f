/* SPDX-License-Identifier: MIT */
/*
 * rungs.c - the ladder, lowest first.
 */
#include "rungs/rung.h"

const char *const rung_change_names[RUNG_CHANGES] = {"toggle", "move", "resize"};

const Rung *const rungs[] = {
    &rung_generator, &rung_nothing, &rung_bare,     &rung_mutex, &rung_rwlock, &rung_rebuild, &rung_flatview,
#ifdef BENCH_UNICORN
    &rung_unicorn,   &rung_uc_mem,
#endif
    NULL,
};
