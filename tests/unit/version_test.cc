/* SPDX-License-Identifier: MIT */
#include <flatview/version.h>
#include <gtest/gtest.h>

#include "shim/version_shim.h"

TEST(Version, IsTheOneTheBuildStates)
{
    EXPECT_STREQ(flatview_version(), version_shim_of_build());
}
