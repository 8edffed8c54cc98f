/* SPDX-License-Identifier: MIT */
/*
 * memory_stats.h - what is alive, what waits for readers, and the limit on it.
 */
#ifndef FLATVIEW_MEMORY_STATS_H
#define FLATVIEW_MEMORY_STATS_H

#include <flatview/types.h>

FLATVIEW_BEGIN_DECLS

/** MemoryStats - a snapshot; the figures are each exact, but not taken at one instant. Bytes where not said. */
typedef struct MemoryStats {
    uint64_t regions;        /* initialised and not yet released; a count */
    uint64_t address_spaces; /* a count */
    uint64_t views;          /* distinct current views; a count */
    uint64_t kept_views;     /* current, replaced and not yet freed, or pinned; a count */
    uint64_t listeners;      /* a count */
    uint64_t threads;        /* registered: by memory_thread_register() or their first access; a count */
    uint64_t iommu_notifiers; /* registered; a count */
    uint64_t eventfds;       /* files of ioeventfds, duplicated and not yet closed; a count */
    uint64_t coalesced_ranges; /* of regions not yet released; a count */
    uint64_t coalesced_waiting; /* regions with a coalesced write that waits; a count */
    uint64_t log_clients;    /* dirty log: for each region not yet released, clients that log it; a count */
    uint64_t dirty_snapshots; /* not yet freed; a count */
    uint64_t discard_sources; /* of population; a count */
    uint64_t discard_listeners; /* of population; a count */
    uint64_t discard_rights; /* ram_block_discard_disable() and its kin, not yet taken back; a count */
    uint64_t stopped_regions; /* memory_region_stop_calls(), not yet resumed; a count */
    uint64_t interposed_ways; /* pairs of an interposer, or several, and what is seen through them; a count */
    uint64_t mappings;       /* made by address_space_map() and its kin, not yet ended; a count */
    uint64_t mapped_parts;   /* of those: pieces of RAM, each of which keeps its region from being released; a count */
    uint64_t bounce_bytes;   /* of those: lent from the pools of their spaces */
    uint64_t map_clients;    /* that wait for bounce memory; a count */
    uint64_t cached_windows; /* address_space_cache_init() less address_space_cache_destroy(), so those that were
                                just forgotten, too; they hold nothing; a count */
    uint64_t ram_blocks;     /* of regions not yet destroyed; a count */
    uint64_t ram_bytes;      /* of those: host memory behind regions, the guest's as well as the caller's */
    uint64_t generation;     /* of the newest view */
    uint64_t commits;        /* outermost commits that published; a count */
    uint64_t refused;        /* outermost commits that failed; a count */
    uint64_t aborted;        /* outermost transactions aborted by their owner; a count */
    uint64_t live_bytes;     /* allocated by the library for its own structures, retired ones included; no guest RAM */
    uint64_t retired_bytes;  /* replaced, waiting for readers to leave */
    uint64_t retired_peak;   /* the most that retired_bytes has been */
    uint64_t pinned_bytes;   /* replaced, kept only for pinned views and for mappings */
    uint64_t grace_periods;  /* waited for by the library; a count */
    uint64_t helped;         /* times a writer had to wait because of the limit; a count */
} MemoryStats;

/** memory_get_stats() - context: any thread, no lock of the caller's. Since: 0.1, as all here. */
FLATVIEW_API void memory_get_stats(MemoryStats *ret_stats);

typedef enum MemoryReclaimPolicy {
    MEMORY_RECLAIM_WAIT = 0,  /* a writer over the limit, outside read sections, waits for readers and frees. It must
                                 not hold a lock that a device callback takes (docs/LOCKING.md) */
    MEMORY_RECLAIM_EAGAIN = 1 /* it is told -EAGAIN before anything changed */
} MemoryReclaimPolicy;

/** MEMORY_RECLAIM_DEFAULT_LIMIT - bytes */
#define MEMORY_RECLAIM_DEFAULT_LIMIT (64u << 20)

/**
 * memory_set_reclaim_limit() - bound on retired_bytes
 * @bytes: a change that begins outside read sections while more is retired first pays (policy). A commit inside a read
 *         section never waits and may overshoot. Pinned memory does not count and makes nobody wait (ORDERING: R4, R5).
 *         UINT64_MAX: nobody ever pays.
 *
 * Context: any thread. Return: 0, -EINVAL for an unknown @policy.
 */
FLATVIEW_API int memory_set_reclaim_limit(uint64_t bytes, MemoryReclaimPolicy policy);

/**
 * memory_reclaim() - wait for readers once and free what that allows, release functions included
 *
 * A release function that another thread has begun to run is not waited for: memory_region_quiesce() does that.
 *
 * Context: outside read sections, transactions, listeners and foreach callbacks: else -EDEADLK. With no lock held that a
 *          reader may want.
 * Return:  0, -EDEADLK.
 */
FLATVIEW_API int memory_reclaim(void);

FLATVIEW_END_DECLS

#endif
