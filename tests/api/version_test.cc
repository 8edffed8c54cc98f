/* SPDX-License-Identifier: MIT */
#include <flatview/version.h>
#include <gtest/gtest.h>

#include <cstdio>

TEST(Version, IsThreeNumbers)
{
    int major, minor, patch, end = 0;

    ASSERT_EQ(sscanf(flatview_version(), "%d.%d.%d%n", &major, &minor, &patch, &end), 3);
    EXPECT_EQ(flatview_version()[end], '\0');
}
