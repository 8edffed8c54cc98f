/* SPDX-License-Identifier: MIT */
/* settled.h - what is allocated once nothing is left for the background to free. */
#ifndef TESTS_UNIT_SETTLED_H
#define TESTS_UNIT_SETTLED_H

#include <gtest/gtest.h>

#include <flatview/memory.h>

#include "shim/mem_shim.h"

/* With everything freed, also what the worker is in the middle of freeing. Two calls agree unless something was kept between
   them: mem_shim_live_bytes() by itself falls whenever the worker gets its turn. */
inline uint64_t settled_bytes()
{
    MemoryStats stats;

    do {
        EXPECT_EQ(0, memory_reclaim());
        memory_get_stats(&stats);
    } while (stats.retired_bytes);
    return mem_shim_live_bytes();
}

#endif
