/* SPDX-License-Identifier: MIT */
/*
 * The race of a store to a page that is dirty already with the collect that cleans it (topology/dirty_log.h), in its smallest form.
 */
#include <gtest/gtest.h>

#include "shim/dirty_shim.h"

namespace {

TEST(DirtyRace, AStoreThatLeftItsBitAloneIsVisibleToWhoClearedIt)
{
    uint64_t rounds = 0;

    EXPECT_EQ(0u, dirty_shim_race(1.5, true, &rounds));
    EXPECT_LT(0u, rounds);
}

} // namespace
