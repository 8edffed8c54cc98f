/* SPDX-License-Identifier: MIT */
/*
 * failing_test.cc - four ways in which a test goes wrong, for selftest.py: a harness that never reports a failure
 * proves nothing.
 */
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

TEST(Harness, FailsOnAWrongExpectation)
{
    EXPECT_EQ(1 + 1, 3);
}

TEST(Harness, FailsOnAnAbort)
{
    abort();
}

TEST(Harness, FailsOnASegmentationFault)
{
    raise(SIGSEGV);
}

TEST(Harness, FailsOnAnEarlyExit)
{
    exit(0);
}

TEST(Harness, PassesOnARightExpectation)
{
    EXPECT_EQ(1 + 1, 2);
}
