/* SPDX-License-Identifier: MIT */
/*
 * uffd.h - the kernel as a source of dirty bits: which pages of RAM anything in this process has written. Library: flatview-uffd.
 *
 * For RAM that is written behind the library's back, by an engine, a device thread or a system call, and whose writers keep no log
 * of their own. A page that is clean is write-protected; the first store to it faults, and the kernel notes that and lets it go
 * on by itself (userfaultfd's asynchronous write-protection, PAGEMAP_SCAN: Linux 6.7). A collect asks for what was noted and
 * protects it again, in one call. So a writer pays a page fault for each page between two collects, and nothing else.
 *
 * A tracker is a listener: it tracks the RAM of one address space that is logged (memory_dirty.h), from log_start on, hands in what it
 * knows when somebody is about to collect, and a last time when a range goes (ORDERING: R7). Register it with less priority than
 * the accelerators whose guests write, as MEMORY_LISTENER_PRIORITY_MIN is: then it arms before they map, and asks after
 * they have let go.
 *
 * What it does not see: writes by other processes, through other mappings of the same file, or to the file itself. Memory that
 * the kernel does not track (mappings of ordinary files; memory that another tracker has) is taken to be dirty, all of it,
 * each time: FlatviewUffdStats tells.
 */
#ifndef FLATVIEW_ACCEL_UFFD_H
#define FLATVIEW_ACCEL_UFFD_H

#include <flatview/types.h>

FLATVIEW_BEGIN_DECLS

typedef struct FlatviewUffd FlatviewUffd;

/**
 * flatview_uffd_new() - track the logged RAM of @as
 * @ret_reason: what is missing, in words, when it is -EOPNOTSUPP, -EPERM or another error of the kernel's; a string that stays.
 *              May be NULL; untouched otherwise
 *
 * Context: outside transactions and listener callbacks: registers a listener of @priority.
 * Return:  0, -EINVAL, -ENOMEM, -EOPNOTSUPP (this kernel cannot), -EPERM (it may not), another negative errno of opening
 *          userfaultfd or /proc/self/pagemap, or what memory_listener_register() gave.
 * Since:   0.1, as everything in this header.
 */
FLATVIEW_API int flatview_uffd_new(AddressSpace *as, int priority, FlatviewUffd **ret_uffd, const char **ret_reason);

/**
 * flatview_uffd_free() - collect a last time, take protection away, forget. 0, -EBUSY (in a transaction)
 *
 * In a callback of a listener that takes effect when the present commit has been delivered.
 */
FLATVIEW_API int flatview_uffd_free(FlatviewUffd *uffd);

/** FlatviewUffdStats - but for ranges and coarse, counts since flatview_uffd_new(). */
typedef struct FlatviewUffdStats {
    uint64_t ranges;     /* of the address space that are tracked by the page now */
    uint64_t coarse;     /* that are not, though they are logged: dirty as a whole at each collect */
    uint64_t collects;   /* of ranges */
    uint64_t pages;      /* found written by these; of the host */
    uint64_t failures;   /* of the kernel, and of our own memory: each made something dirty as a whole */
    uint64_t last_errno; /* of the latest failure */
} FlatviewUffdStats;

/** flatview_uffd_get_stats() - any thread. */
FLATVIEW_API void flatview_uffd_get_stats(FlatviewUffd *uffd, FlatviewUffdStats *ret_stats);

FLATVIEW_END_DECLS

#endif
