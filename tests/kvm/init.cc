/* SPDX-License-Identifier: MIT */
/*
 * init.cc - main() of a test that may be the first process of a machine: then it makes /dev/kvm appear, runs the tests and
 * turns the machine off.
 */
#include <fcntl.h>
#include <linux/reboot.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>

#include <gtest/gtest.h>

static void load_module(const char *path)
{
    int fd = open(path, O_RDONLY);

    if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0) {
        perror(path);
    }
    close(fd);
}

static void boot()
{
    for (const char *dir : {"/proc", "/sys", "/dev", "/tmp"}) {
        mkdir(dir, 0755);
    }
    mount("proc", "/proc", "proc", 0, "");
    mount("sysfs", "/sys", "sysfs", 0, "");
    mount("devtmpfs", "/dev", "devtmpfs", 0, "");
    for (const char *module : {"/modules/irqbypass.ko", "/modules/kvm.ko", "/modules/kvm-amd.ko"}) {
        load_module(module);
    }
}

int main(int argc, char **argv)
{
    bool first = getpid() == 1;
    int failed;

    if (first) {
        boot();
    }
    testing::InitGoogleTest(&argc, argv);
    if (first) {
        testing::GTEST_FLAG(color) = "no";
    }
    failed = RUN_ALL_TESTS();
    if (first) {
        printf("tests ended with status %d\n", failed);
        fflush(stdout);
        reboot(LINUX_REBOOT_CMD_POWER_OFF);
    }
    return failed;
}
