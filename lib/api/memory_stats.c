/* SPDX-License-Identifier: MIT */
/*
 * memory_stats.c - one printout of everything alive; each figure belongs to the module that keeps it.
 */
#include <errno.h>

#include <flatview/memory_stats.h>

#include "access/dma.h"
#include "base/mem.h"
#include "base/retire.h"
#include "publish/deliver.h"
#include "publish/transaction.h"
#include "topology/calls.h"
#include "topology/eventfd_file.h"
#include "topology/iommu.h"
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
        .listeners = listener_live_count(),
        .iommu_notifiers = iommu_notifiers_live(),
        .eventfds = eventfd_files_live(),
        .mappings = dma_mappings_live(),
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
