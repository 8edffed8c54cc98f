/* SPDX-License-Identifier: MIT */
/*
 * memory_thread.h - what a thread that accesses memory may say about itself.
 *
 * Nothing here is required: a thread registers itself at its first access and unregisters when it ends.
 */
#ifndef FLATVIEW_MEMORY_THREAD_H
#define FLATVIEW_MEMORY_THREAD_H

#include <flatview/types.h>

FLATVIEW_BEGIN_DECLS

/**
 * memory_thread_register() - do now what the first access would do
 *
 * Keeps the first access free of allocation and locks. Counted: each needs its unregister; the thread's end undoes all.
 * Context: any thread, outside read sections.
 * Return:  0, -ENOMEM.
 * Since:   0.1
 */
FLATVIEW_API int memory_thread_register(void);

/** memory_thread_unregister() - undo one register. -EBUSY inside a read section, -EINVAL if not registered. */
FLATVIEW_API int memory_thread_unregister(void);

/**
 * memory_thread_offline() - before blocking for long: grace periods stop looking at this thread
 *
 * The next access, or memory_thread_online(), brings it back.
 * Return: 0, -EBUSY inside a read section.
 */
FLATVIEW_API int memory_thread_offline(void);

/** memory_thread_online() - undo offline. 0, -ENOMEM. */
FLATVIEW_API int memory_thread_online(void);

/**
 * memory_read_begin() - open a read section: what was looked up inside stays valid until its end
 *
 * Nests. Readers wait for nobody (ORDERING: R5), but memory retired meanwhile is kept: be short; to hold a view for
 * long, pin it (flatview_ref()).
 * Context: any thread; registers it if need be (a failure to do so is fatal: call memory_thread_register() first to see
 *          it as an error).
 */
FLATVIEW_API void memory_read_begin(void);

/** memory_read_end() - close the innermost read section of this thread. */
FLATVIEW_API void memory_read_end(void);

/** memory_read_ongoing() - is this thread inside a read section, of its own or of a callback? */
FLATVIEW_API bool memory_read_ongoing(void);

FLATVIEW_END_DECLS

#endif
