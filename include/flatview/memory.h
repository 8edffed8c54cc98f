/* SPDX-License-Identifier: MIT */
/*
 * memory.h - everything; includes the headers of the objects and nothing else.
 */
#ifndef FLATVIEW_MEMORY_H
#define FLATVIEW_MEMORY_H

#include <flatview/types.h>
#include <flatview/version.h>
#include <flatview/memory_thread.h>
#include <flatview/memory_region.h>
#include <flatview/memory_population.h>
#include <flatview/memory_ram_device.h>
#include <flatview/memory_interpose.h>
#include <flatview/memory_reentrancy.h>
#include <flatview/memory_serial.h>
#include <flatview/memory_transaction.h>
#include <flatview/flatview.h>
#include <flatview/address_space.h>
#include <flatview/memory_cache.h>
#include <flatview/memory_dma.h>
#include <flatview/memory_coalesced.h>
#include <flatview/memory_eventfd.h>
#include <flatview/memory_listener.h>
#include <flatview/memory_dirty.h>
#include <flatview/memory_iommu.h>
#include <flatview/memory_ram.h>
#include <flatview/memory_query.h>
#include <flatview/memory_stats.h>
#include <flatview/memory_text.h>

#endif
