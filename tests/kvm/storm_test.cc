/* SPDX-License-Identifier: MIT */
/*
 * storm_test.cc - `flatview storm --accel kvm` on real KVM; see boot.py, which puts the commands beside this program.
 */
#include <string>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace {

int storm(std::vector<std::string> more)
{
    std::vector<std::string> all = {"/flatview", "storm", "--accel", "kvm"};
    std::vector<char *> argv;
    int status = -1;

    all.insert(all.end(), more.begin(), more.end());
    for (std::string &argument : all) {
        argv.push_back(argument.data());
    }
    argv.push_back(nullptr);
    pid_t child = fork();
    if (child == 0) {
        execv(argv[0], argv.data());
        _exit(127);
    }
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(KvmStorm, ItsSlotsAndItsGuestFollowTheStorm)
{
    EXPECT_EQ(storm({"--seconds", "6"}), 0);
}

class KvmStormSabotage : public testing::TestWithParam<const char *> {
};

TEST_P(KvmStormSabotage, IsCaught)
{
    EXPECT_EQ(storm({"--quiet", "--seconds", "20", "--sabotage", GetParam()}), 1);
}

INSTANTIATE_TEST_SUITE_P(, KvmStormSabotage, testing::Values("accel-drop-del", "accel-early-add", "accel-skip-kick"));

TEST(KvmStorm, TheSabotagedBinaryWithoutAFaultPasses)
{
    EXPECT_EQ(storm({"--quiet", "--seconds", "3", "--sabotage", "none"}), 0);
}

}
