/* SPDX-License-Identifier: MIT */
/*
 * kernel.c - asynchronous write-protection by userfaultfd, and PAGEMAP_SCAN.
 *
 * Invariant: a page of an armed range is protected, or was written since it last was protected, which the kernel remembers by its not
 * being protected; kernel_collect() reads and protects each page in one step, under the lock of its page table. So a store is in
 * the collect that comes first after it. (A store by a processor that still has the page in its TLB as writable completes before the
 * call returns, which flushes; the page is in what the call returns.)
 * Established by: the kernel. Relied on by: tracker.c.
 *
 * Write-protection with a thread that handles each fault would work from Linux 5.7 on, and is left out: every store of every
 * thread would wait for that thread, also of those that hold locks which it may come to need, and stores in system calls would
 * fail for whoever may not have kernel faults handled.
 */
#include "accel/uffd/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than the headers of Debian 12: linux/userfaultfd.h, linux/fs.h of Linux 6.7. */
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define FEATURES ((uint64_t)(UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC))

#define SCAN_WP_MATCHING UINT64_C(1)
#define SCAN_CHECK_WPASYNC UINT64_C(2)
#define SCAN_IS_WRITTEN UINT64_C(2)
#define SCAN_RUNS 256

typedef struct ScanRun {
    uint64_t start, end, categories;
} ScanRun;

typedef struct ScanArg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
} ScanArg;

#define SCAN _IOWR('f', 16, ScanArg)

/* Asynchronous faults are never handed to us, so it does not matter that we might not have those of the kernel's. */
static int open_uffd(uint64_t features, uint64_t *ret_features)
{
    struct uffdio_api api = {.api = UFFD_API, .features = features};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    int err;

    if (fd < 0) {
        return -errno;
    }
    if (ioctl(fd, UFFDIO_API, &api) < 0) {
        err = -errno;
        close(fd);
        return err;
    }
    *ret_features = api.features;
    return fd;
}

static int find_uffd(const char **ret_reason)
{
    uint64_t has = 0;
    int fd = open_uffd(0, &has);

    if (fd < 0) {
        *ret_reason = fd == -EPERM ? "userfaultfd is not allowed here" : "no userfaultfd that knows UFFD_USER_MODE_ONLY (Linux 5.11)";
        return fd == -ENOSYS || fd == -EINVAL ? -EOPNOTSUPP : fd;
    }
    close(fd);
    if (~has & FEATURES) {
        *ret_reason = has & UFFD_FEATURE_PAGEFAULT_FLAG_WP
                          ? "userfaultfd without asynchronous write-protection (Linux 6.7)"
                          : "userfaultfd without write-protection";
        return -EOPNOTSUPP;
    }
    fd = open_uffd(FEATURES, &has); /* features are chosen once */
    if (fd < 0) {
        *ret_reason = "userfaultfd refuses the features that it says to have";
    }
    return fd;
}

int kernel_open(UffdKernel *kernel, const char **ret_reason)
{
    ScanArg nothing = {.size = sizeof(nothing), .category_mask = SCAN_IS_WRITTEN, .return_mask = SCAN_IS_WRITTEN};
    int err;

    kernel->page = (uintptr_t)sysconf(_SC_PAGESIZE);
    kernel->uffd = find_uffd(ret_reason);
    if (kernel->uffd < 0) {
        return kernel->uffd;
    }
    kernel->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (kernel->pagemap < 0 || ioctl(kernel->pagemap, SCAN, &nothing) < 0) {
        err = errno == ENOTTY ? -EOPNOTSUPP : -errno;
        *ret_reason = kernel->pagemap < 0 ? "no /proc/self/pagemap" : "no PAGEMAP_SCAN (Linux 6.7)";
        kernel_close(kernel);
        return err;
    }
    return 0;
}

void kernel_close(UffdKernel *kernel)
{
    close(kernel->uffd); /* unregisters what is left */
    if (kernel->pagemap >= 0) {
        close(kernel->pagemap);
    }
}

int kernel_arm(UffdKernel *kernel, uintptr_t first, uintptr_t end)
{
    struct uffdio_register range = {.range = {first, end - first}, .mode = UFFDIO_REGISTER_MODE_WP};
    struct uffdio_writeprotect protect = {.range = {first, end - first}, .mode = UFFDIO_WRITEPROTECT_MODE_WP};
    int err;

    if (ioctl(kernel->uffd, UFFDIO_REGISTER, &range) < 0) {
        return -errno;
    }
    while (ioctl(kernel->uffd, UFFDIO_WRITEPROTECT, &protect) < 0) {
        if (errno != EAGAIN) { /* else mappings were changing */
            err = -errno;
            kernel_disarm(kernel, first, end);
            return err;
        }
    }
    return 0;
}

void kernel_disarm(UffdKernel *kernel, uintptr_t first, uintptr_t end)
{
    struct uffdio_range range = {first, end - first};

    ioctl(kernel->uffd, UFFDIO_UNREGISTER, &range); /* fails if nothing is mapped there any more: as good */
}

int kernel_collect(UffdKernel *kernel, uintptr_t first, uintptr_t end, void (*fn)(uintptr_t first, uintptr_t end, void *arg),
                   void *arg)
{
    ScanRun runs[SCAN_RUNS];
    ScanArg scan = {
        .size = sizeof(scan),
        .flags = SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC,
        .end = end,
        .vec = (uintptr_t)runs,
        .vec_len = SCAN_RUNS,
        .category_mask = SCAN_IS_WRITTEN,
        .return_mask = SCAN_IS_WRITTEN,
    };
    int i, n;

    while (first < end) {
        scan.start = first;
        n = ioctl(kernel->pagemap, SCAN, &scan);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        for (i = 0; i < n; i++) {
            fn((uintptr_t)runs[i].start, (uintptr_t)runs[i].end, arg);
        }
        if (scan.walk_end <= first) {
            return -EIO;
        }
        first = (uintptr_t)scan.walk_end;
    }
    return 0;
}
