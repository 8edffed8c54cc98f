/* SPDX-License-Identifier: MIT */
/*
 * recorder.h - what a listener is told, all of it and in order, to be printed and compared. Library: flatview-recorder.
 *
 * To be put beside an accelerator that misbehaves: it shows what that was told, at the same priority. `flatview events`
 * prints the stream of a captured machine.
 */
#ifndef FLATVIEW_ACCEL_RECORDER_H
#define FLATVIEW_ACCEL_RECORDER_H

#include <stdio.h>

#include <flatview/types.h>

FLATVIEW_BEGIN_DECLS

typedef struct FlatviewRecorder FlatviewRecorder;

/**
 * FlatviewEventKind - the callbacks of memory_listener.h, under their names
 *
 * log_sync_global is not among them: the recorder hears log_sync, and who does is not told of both. To record what collectors
 * ask, it counts as one who keeps bits: each collect takes the topology lock while it listens.
 */
typedef enum FlatviewEventKind {
    FLATVIEW_EVENT_BEGIN,
    FLATVIEW_EVENT_PREPARE,
    FLATVIEW_EVENT_ABORT,
    FLATVIEW_EVENT_COMMIT,
    FLATVIEW_EVENT_SPAN_DEL,
    FLATVIEW_EVENT_SPAN_ADD,
    FLATVIEW_EVENT_REGION_DEL,
    FLATVIEW_EVENT_REGION_ADD,
    FLATVIEW_EVENT_EVENTFD_DEL,
    FLATVIEW_EVENT_EVENTFD_ADD,
    FLATVIEW_EVENT_COALESCED_IO_DEL,
    FLATVIEW_EVENT_COALESCED_IO_ADD,
    FLATVIEW_EVENT_LOG_START,
    FLATVIEW_EVENT_LOG_STOP,
    FLATVIEW_EVENT_LOG_SYNC,
    FLATVIEW_EVENT_LOG_CLEAR,
    FLATVIEW_EVENT_LOG_GLOBAL_START,
    FLATVIEW_EVENT_LOG_GLOBAL_STOP,
    FLATVIEW_EVENT_LOG_GLOBAL_AFTER_SYNC,
    FLATVIEW_EVENT_DETACHED,
    FLATVIEW_EVENT_COUNT
} FlatviewEventKind;

/** FlatviewEvent - by value; @region is the recorder's copy of the name, so an event outlives its region. */
typedef struct FlatviewEvent {
    FlatviewEventKind kind;
    uint64_t commit;     /* how many begins this recorder has heard; a collect between commits belongs to none of its own */
    hwaddr first, last;  /* span, range or place; an eventfd of any size has last = first - 1 */
    const char *region;  /* "" where none is meant */
    hwaddr offset;       /* in the region, of first */
    bool ram, readonly;
    bool match_data;     /* eventfd */
    uint64_t data;       /* eventfd: to match. Span: old ranges << 32 | new ranges. Log: old clients << 32 | new clients */
} FlatviewEvent;

/** flatview_event_name() - as the callback is called; NULL for no kind. */
FLATVIEW_API const char *flatview_event_name(FlatviewEventKind kind);

/**
 * flatview_recorder_new() - register a listener of @priority with @as that records
 * @limit: events to keep; later ones are only counted. 0: as many as there is memory for
 *
 * Context: outside transactions and listener callbacks.
 * Return:  0, -EINVAL, -ENOMEM, or what memory_listener_register() gave.
 * Since:   0.1, as everything in this header.
 */
FLATVIEW_API int flatview_recorder_new(AddressSpace *as, int priority, size_t limit, FlatviewRecorder **ret_recorder);

/** flatview_recorder_stop() - unregister, which is recorded too; what was recorded stays. 0, -EINVAL, -EBUSY. */
FLATVIEW_API int flatview_recorder_stop(FlatviewRecorder *recorder);

/**
 * flatview_recorder_free() - stop if need be, and forget. 0, -EBUSY (in a transaction)
 *
 * In a callback of a listener that takes effect when the present commit has been delivered.
 */
FLATVIEW_API int flatview_recorder_free(FlatviewRecorder *recorder);

/** flatview_recorder_clear() - forget what was recorded; commits go on counting. */
FLATVIEW_API void flatview_recorder_clear(FlatviewRecorder *recorder);

/** flatview_recorder_count() - events kept; *@ret_lost: how many more there were (for want of memory or beyond the limit). */
FLATVIEW_API size_t flatview_recorder_count(FlatviewRecorder *recorder, uint64_t *ret_lost);

/**
 * flatview_recorder_for_each() - in order
 * @fn: returns non-zero to stop; must not call the recorder nor change the map
 *
 * Context: any thread; nothing is recorded meanwhile. Return: what @fn returned last, or 0.
 */
FLATVIEW_API int flatview_recorder_for_each(FlatviewRecorder *recorder,
                                            int (*fn)(const FlatviewEvent *event, void *arg), void *arg);

/** flatview_recorder_print() - a line for each. 0, or -EIO. */
FLATVIEW_API int flatview_recorder_print(FlatviewRecorder *recorder, FILE *file);

/**
 * flatview_recorder_compare() - the index of the first event in which two streams differ, SIZE_MAX if in none
 *
 * Numbers of commits are compared relative to each stream's first event.
 */
FLATVIEW_API size_t flatview_recorder_compare(FlatviewRecorder *a, FlatviewRecorder *b);

FLATVIEW_END_DECLS

#endif
