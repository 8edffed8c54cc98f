/* SPDX-License-Identifier: MIT */
/*
 * memory_thread.c - what a thread says about itself.
 *
 * Invariant: registrations counts this thread's memory_thread_register() calls that wait for their unregister. It says
 * nothing about whether base/reader.c knows the thread: an access registers it without counting, going offline
 * unregisters it without uncounting. Thread-local; the thread's end drops both.
 */
#include <errno.h>

#include <flatview/memory_thread.h>

#include "base/reader.h"

static __thread unsigned long registrations;

int memory_thread_register(void)
{
    int ret = reader_registered ? 0 : reader_register_slow();

    if (ret == 0) {
        registrations++;
    }
    return ret;
}

int memory_thread_unregister(void)
{
    int ret = 0;

    if (reader_ongoing()) {
        return -EBUSY;
    }
    if (registrations == 0) {
        return -EINVAL;
    }
    if (registrations == 1 && reader_registered) {
        ret = reader_unregister();
    }
    if (ret == 0) {
        registrations--;
    }
    return ret;
}

int memory_thread_offline(void)
{
    return reader_unregister();
}

int memory_thread_online(void)
{
    return reader_registered ? 0 : reader_register_slow();
}

void memory_read_begin(void)
{
    reader_enter();
}

void memory_read_end(void)
{
    reader_exit();
}

bool memory_read_ongoing(void)
{
    return reader_ongoing();
}
