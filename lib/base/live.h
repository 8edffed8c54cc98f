/* SPDX-License-Identifier: MIT */
/*
 * live.h - how many there are of each thing that a program makes, registers or takes, and must end again.
 *
 * Invariant: a number is that of the things made less those ended. Whoever makes or ends one says so, once; relaxed, since a
 * number orders nothing: who ended a thing and looks for it here sees it gone.
 */
#ifndef FLATVIEW_BASE_LIVE_H
#define FLATVIEW_BASE_LIVE_H

#include <stdint.h>

typedef enum LiveKind {
    LIVE_BOUNCE_BYTES,
    LIVE_CACHED_WINDOWS,
    LIVE_COALESCED_WAITING,
    LIVE_DISCARD_LISTENERS,
    LIVE_DISCARD_RIGHTS,
    LIVE_DISCARD_SOURCES,
    LIVE_INTERPOSALS,
    LIVE_LOG_CLIENTS,
    LIVE_MAP_CLIENTS,
    LIVE_MAP_HOLDS,
    LIVE_SNAPSHOTS,
    LIVE_STOPPED,
    LIVE_THREADS,
    LIVE_VIEWS,
    LIVE_KINDS
} LiveKind;

/* Atomic. Of things that come and go less often than accesses do: a line for all of them will do. */
extern uint64_t live_numbers[LIVE_KINDS];

static inline void live_add(LiveKind kind, uint64_t by)
{
    __atomic_fetch_add(&live_numbers[kind], by, __ATOMIC_RELAXED);
}

static inline void live_sub(LiveKind kind, uint64_t by)
{
    __atomic_fetch_sub(&live_numbers[kind], by, __ATOMIC_RELAXED);
}

static inline uint64_t live_number(LiveKind kind)
{
    return __atomic_load_n(&live_numbers[kind], __ATOMIC_RELAXED);
}

#endif
