/* SPDX-License-Identifier: MIT */
/*
 * memory_stats.c - one printout of everything alive; each figure belongs to the module that keeps it.
 */
#include <errno.h>

#include <flatview/memory_stats.h>

#include "access/dma.h"
#include "base/live.h"
#include "base/mem.h"
#include "base/retire.h"
#include "publish/deliver.h"
#include "publish/transaction.h"
#include "topology/calls.h"
#include "topology/eventfd_file.h"
#include "topology/iommu.h"
#include "topology/plane_set.h"
#include "topology/ram_index.h"
#include "topology/release.h"

void memory_get_stats(MemoryStats *ret_stats)
{
    RetireStats retire;
    RamIndexStats ram;
    TxnStats txns;

    retire_get_stats(&retire);
    ram_index_get_stats(&ram);
    txn_get_stats(&txns);
    *ret_stats = (MemoryStats){
        .regions = region_live_count(),
        .address_spaces = __atomic_load_n(&all_spaces.count, __ATOMIC_RELAXED),
        .views = cell_live_count(),
        .kept_views = live_number(LIVE_VIEWS),
        .listeners = listener_live_count(),
        .threads = live_number(LIVE_THREADS),
        .iommu_notifiers = iommu_notifiers_live(),
        .eventfds = eventfd_files_live(),
        .coalesced_ranges = plane_set_live(MEMORY_PLANE_COALESCED),
        .coalesced_waiting = live_number(LIVE_COALESCED_WAITING),
        .log_clients = live_number(LIVE_LOG_CLIENTS),
        .dirty_snapshots = live_number(LIVE_SNAPSHOTS),
        .discard_sources = live_number(LIVE_DISCARD_SOURCES),
        .discard_listeners = live_number(LIVE_DISCARD_LISTENERS),
        .discard_rights = live_number(LIVE_DISCARD_RIGHTS),
        .stopped_regions = live_number(LIVE_STOPPED),
        .interposed_ways = live_number(LIVE_INTERPOSALS),
        .mappings = dma_mappings_live(),
        .mapped_parts = live_number(LIVE_MAP_HOLDS),
        .bounce_bytes = live_number(LIVE_BOUNCE_BYTES),
        .map_clients = live_number(LIVE_MAP_CLIENTS),
        .cached_windows = live_number(LIVE_CACHED_WINDOWS),
        .ram_blocks = ram.blocks,
        .ram_bytes = ram.bytes,
        .generation = generation_newest(),
        .commits = txns.commits,
        .refused = txns.refused,
        .aborted = txns.aborted,
        .live_bytes = mem_live_bytes(),
        .retired_bytes = retire.retired_bytes,
        .retired_peak = retire.retired_peak,
        .pinned_bytes = retire.pinned_bytes,
        .grace_periods = reader_grace_periods(),
        .helped = retire.helped,
    };
}

int memory_set_reclaim_limit(uint64_t bytes, MemoryReclaimPolicy policy)
{
    if (policy != MEMORY_RECLAIM_WAIT && policy != MEMORY_RECLAIM_EAGAIN) {
        return -EINVAL;
    }
    return retire_set_limit(bytes, policy);
}

int memory_reclaim(void)
{
    if (reader_ongoing() || txn_holds_lock() || calls_make_readers_wait()) {
        return -EDEADLK;
    }
    retire_help();
    return 0;
}
