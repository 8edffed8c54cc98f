/* SPDX-License-Identifier: MIT */
/*
 * uffd.h - what the kernel is asked, apart from why.
 */
#ifndef FLATVIEW_ACCEL_UFFD_UFFD_H
#define FLATVIEW_ACCEL_UFFD_UFFD_H

#include <stdbool.h>
#include <stdint.h>

typedef struct UffdKernel {
    int uffd, pagemap; /* file descriptors */
    uintptr_t page;    /* bytes, of the host */
} UffdKernel;

/* [first, end) of host memory, whole pages. All return 0 or a negative errno. */
int kernel_open(UffdKernel *kernel, const char **ret_reason);
void kernel_close(UffdKernel *kernel);
int kernel_arm(UffdKernel *kernel, uintptr_t first, uintptr_t end); /* on failure nothing is armed */
void kernel_disarm(UffdKernel *kernel, uintptr_t first, uintptr_t end);
/* What was written, and protect it again; fn is called for runs of whole pages, also before a failure. */
int kernel_collect(UffdKernel *kernel, uintptr_t first, uintptr_t end, void (*fn)(uintptr_t first, uintptr_t end, void *arg),
                   void *arg);

#endif
