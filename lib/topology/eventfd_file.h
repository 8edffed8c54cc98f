/* SPDX-License-Identifier: MIT */
/*
 * eventfd_file.h - the library's own hold on a file that ioeventfds write to.
 *
 * Invariant: fd is open from eventfd_file_new() until the object's free function runs, which is after every listener has been
 * told that it goes and after a grace period. So what the caller does with its own descriptor is its business.
 */
#ifndef FLATVIEW_TOPOLOGY_EVENTFD_FILE_H
#define FLATVIEW_TOPOLOGY_EVENTFD_FILE_H

#include "topology/plane_set.h"

typedef struct EventfdFile {
    PlaneObject object;
    int fd;        /* ours */
    int caller_fd; /* what it was a duplicate of; only a number */
    bool may_block;
} EventfdFile;

/* 0, -EBADF, -EMFILE, -ENOMEM. */
int eventfd_file_new(int fd, EventfdFile **ret_file);
void eventfd_file_free(EventfdFile *file); /* one that nobody else has seen */

/* Wake whoever reads it: one write() of 1. Never blocks on a full counter, which is as good as a write: it is readable.
   False if the file takes no writes. */
bool eventfd_file_kick(const EventfdFile *file);

uint64_t eventfd_files_live(void); /* retired ones included; any thread */

static inline EventfdFile *eventfd_file_of(const PlaneItem *item)
{
    return container_of(item->object, EventfdFile, object);
}

#endif
