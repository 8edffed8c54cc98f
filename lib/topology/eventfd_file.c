/* SPDX-License-Identifier: MIT */
/*
 * eventfd_file.c - duplicating, kicking, closing.
 *
 * Invariant: as in eventfd_file.h. may_block is what the file's O_NONBLOCK was when it was added; it is a flag of the open
 * file that all its descriptors share, so the library does not set it behind the caller's back.
 * Established by: eventfd_file_new(). Relied on by: dispatch, which must not sleep. No lock.
 */
#include "topology/eventfd_file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "base/mem.h"

static uint64_t live_files; /* atomic */

uint64_t eventfd_files_live(void)
{
    return __atomic_load_n(&live_files, __ATOMIC_RELAXED);
}

static void file_free(RetireHead *head)
{
    eventfd_file_free(container_of(head, EventfdFile, object.retire));
}

int eventfd_file_new(int fd, EventfdFile **ret_file)
{
    EventfdFile *file = mem_alloc(sizeof(*file));
    int flags, err;

    if (!file) {
        return -ENOMEM;
    }
    *file = (EventfdFile){.caller_fd = fd, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)};
    file->object.retire = (RetireHead){.free = file_free, .bytes = sizeof(*file), .kind = RETIRE_OBJECT};
    if (file->fd < 0) {
        err = errno == EBADF || errno == EMFILE ? -errno : -ENOMEM;
        mem_free(file, sizeof(*file));
        return err;
    }
    __atomic_add_fetch(&live_files, 1, __ATOMIC_RELAXED);
    flags = fcntl(file->fd, F_GETFL);
    file->may_block = flags >= 0 && !(flags & O_NONBLOCK);
    if (flags >= 0 && (flags & O_ACCMODE) == O_RDONLY) {
        eventfd_file_free(file);
        return -EBADF;
    }
    *ret_file = file;
    return 0;
}

void eventfd_file_free(EventfdFile *file)
{
    __atomic_sub_fetch(&live_files, 1, __ATOMIC_RELAXED);
    close(file->fd);
    mem_free(file, sizeof(*file));
}

/*
 * A file that may block is asked first, at the price of a second call. Between the two, others may fill the counter; that
 * takes 2^64 - 2 kicks that nobody read, or someone who writes such a number on purpose, and then lasts until it is read.
 */
bool eventfd_file_kick(const EventfdFile *file)
{
    struct pollfd ready = {.fd = file->fd, .events = POLLOUT};
    const uint64_t one = 1;
    int saved = errno; /* the program's, whose access this is */
    bool ok = true;

    if (!file->may_block || (poll(&ready, 1, 0) == 1 && ready.revents & POLLOUT)) {
        ok = write(file->fd, &one, sizeof(one)) == (ssize_t)sizeof(one) || errno == EAGAIN;
    }
    errno = saved;
    return ok;
}
