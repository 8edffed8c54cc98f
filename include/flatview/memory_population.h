/* SPDX-License-Identifier: MIT */
/*
 * memory_population.h - which ranges of a RAM region have memory behind them: virtio-mem, balloons, private memory.
 *
 * A region is populated all over unless sources say otherwise. Each source has its own granule and its own opinion; a range is
 * populated where all sources agree that it is, discarded where one says so. Whoever must know (an accelerator that pins pages)
 * registers a listener for a section and hears of what changes in it, coalesced, and may refuse what is to be populated.
 *
 * This is bookkeeping beside the map: no view is rendered, accesses do not ask. A guest that touches a discarded range reads
 * what the host has there.
 *
 * All functions here, unless they say otherwise:
 *
 * Context: any thread, also in a read section, an access callback, a MemoryListener's callback (region_add is where one
 *          registers for RAM that appears). Not from a RamDiscardListener's or an IOMMUNotifier's callback: -EBUSY.
 * Locking: the population lock of the region, above the topology lock in rank, held around callbacks. So a callback must not
 *          wait for a thread that uses this region's population, and cannot change the map (-EBUSY); it may access memory and
 *          ask about population, and hears of the state before the change.
 * Return:  0 or a negative errno with nothing changed; besides what a function names: -EINVAL for a region without host memory
 *          of its own (static ones have theirs once they are in a tree), -ENOMEM.
 *
 * Offsets and sizes are bytes of the region. Source: QEMU's RamDiscardManager and RamDiscardSource (2026).
 */
#ifndef FLATVIEW_MEMORY_POPULATION_H
#define FLATVIEW_MEMORY_POPULATION_H

#include <flatview/flatview.h>
#include <flatview/memory_region.h>

FLATVIEW_BEGIN_DECLS

typedef struct RamDiscardSource RamDiscardSource;
typedef struct RamDiscardListener RamDiscardListener;

/** RamDiscardSource - an opinion on what is populated; embed it, all zeroes before its first use; touch nothing inside */
struct RamDiscardSource {
    /* private: */
    MemoryRegion *mr;
    void *discarded; /* a bit for each granule */
    RamDiscardSource *next;
};

/**
 * RamDiscardListener - who mirrors what is populated; embed it, zeroes but for the callbacks
 *
 * Sections are pieces of the one it was registered for, with their addresses in it, ascending within one change. Listeners hear
 * of population in the order of their registration, of discarding in the reverse.
 */
struct RamDiscardListener {
    /** populate() - about to have memory. Negative: refused, and those told before hear discard() of it. NULL accepts. */
    int (*populate)(RamDiscardListener *listener, const MemoryRegionSection *section);
    /** discard() - about to lose its memory; not to be touched afterwards. May be NULL. */
    void (*discard)(RamDiscardListener *listener, const MemoryRegionSection *section);
    /* private: */
    MemoryRegionSection section;
    RamDiscardListener *next, *prev;
};

/* ---- sources -------------------------------------------------------------------------------------------------- */

/**
 * memory_region_add_ram_discard_source() - one more opinion
 * @granule:   bytes, a power of two from 64 up; what it populates and discards is made of these
 * @populated: its opinion to begin with, on all of the region; if false, listeners hear discard()
 *
 * Ownership: @source is the library's until it is deleted; @mr cannot be destroyed before (-EBUSY).
 * Return:    also -EINVAL (@granule), -EBUSY (@source is in use).
 * Since:     0.1, as everything in this header.
 */
FLATVIEW_API int memory_region_add_ram_discard_source(MemoryRegion *mr, RamDiscardSource *source, uint64_t granule,
                                                      bool populated);

/**
 * memory_region_del_ram_discard_source() - one less
 *
 * What only it had discarded becomes populated, which listeners may refuse: then it stays, and theirs is the error.
 * Return: also -EINVAL (not a source of @mr).
 */
FLATVIEW_API int memory_region_del_ram_discard_source(MemoryRegion *mr, RamDiscardSource *source);

/** memory_region_has_ram_discard_source() - is there any? Any context. */
FLATVIEW_API bool memory_region_has_ram_discard_source(MemoryRegion *mr);

/**
 * ram_discard_source_populate() - this source has memory for [@offset, @offset + @size)
 *
 * Listeners hear populate() of what becomes populated by that: where this source had discarded and all others agree. If one
 * refuses, those who were told hear discard(), and nothing has changed.
 *
 * Return: also -EINVAL (@source is none; beyond the region; not whole granules, but that the last may be cut off by the region's
 *         end), or what a listener refused with.
 */
FLATVIEW_API int ram_discard_source_populate(RamDiscardSource *source, uint64_t offset, uint64_t size);

/**
 * ram_discard_source_discard() - this source takes the memory of [@offset, @offset + @size) away
 *
 * Listeners hear discard() of what was populated. What the host keeps there is another matter: memory_region_discard_range().
 */
FLATVIEW_API int ram_discard_source_discard(RamDiscardSource *source, uint64_t offset, uint64_t size);

/* ---- asking --------------------------------------------------------------------------------------------------- */

/**
 * memory_region_is_populated() - is all of [@offset, @offset + @size)? False beyond the region
 *
 * Also from callbacks about this region; in one about another it is false for a region that has sources.
 */
FLATVIEW_API bool memory_region_is_populated(MemoryRegion *mr, uint64_t offset, uint64_t size);

/**
 * memory_region_replay_populated(), memory_region_replay_discarded() - what is so now, in a section
 * @section: of RAM, as from a view or a listener
 * @fn:      for each piece, ascending and coalesced; non-zero stops
 *
 * @fn runs as a callback (see above). Also from callbacks about this region. Return: what @fn returned last, 0 if there was nothing.
 */
FLATVIEW_API int memory_region_replay_populated(const MemoryRegionSection *section,
                                                int (*fn)(const MemoryRegionSection *section, void *arg), void *arg);
FLATVIEW_API int memory_region_replay_discarded(const MemoryRegionSection *section,
                                                int (*fn)(const MemoryRegionSection *section, void *arg), void *arg);

/* ---- listeners ------------------------------------------------------------------------------------------------ */

/**
 * memory_region_register_ram_discard_listener() - hear of a section, beginning with what is populated in it now
 * @section: copied. Its region must not be released before the listener is unregistered: region_del is the time
 *
 * If the listener refuses a piece of that first replay, it hears discard() of the ones before and is not registered.
 *
 * Return: also -EINVAL (no RAM, beyond the region), -EBUSY (is registered), or what the listener refused with.
 */
FLATVIEW_API int memory_region_register_ram_discard_listener(RamDiscardListener *listener,
                                                             const MemoryRegionSection *section);

/** memory_region_unregister_ram_discard_listener() - it hears discard() of what is populated. -EINVAL if not registered. */
FLATVIEW_API int memory_region_unregister_ram_discard_listener(RamDiscardListener *listener);

/* ---- the host's memory ---------------------------------------------------------------------------------------- */

/**
 * memory_region_discard_range() - give the host back the memory of [@offset, @offset + @size), which then reads as zeroes
 *
 * Anonymous memory and memfd; of files where the file system can punch holes. Marked in the dirty log, for it has changed.
 *
 * Context: any thread. Locking: none; what the guest writes there meanwhile may be lost or not.
 * Return:  0, -EINVAL (not whole pages of the region), -EBUSY (discarding is disabled), -EOPNOTSUPP (memory of the caller's,
 *          which is his to discard), or what the host says.
 */
FLATVIEW_API int memory_region_discard_range(MemoryRegion *mr, uint64_t offset, uint64_t size);

/*
 * Who relies on memory staying, and who takes it away: counted, for the whole process, as in QEMU. Coordinated is discarding of
 * which listeners of this header are told; uncoordinated is any other, a balloon's for example.
 *
 * ram_block_discard_disable():               nobody may discard. -EBUSY if someone requires to.
 * ram_block_uncoordinated_discard_disable(): only coordinated discarding. -EBUSY if someone requires the other.
 * ram_block_discard_require():               must be able to, uncoordinated. -EBUSY if either is disabled.
 * ram_block_coordinated_discard_require():   must be able to, coordinated. -EBUSY if all is disabled.
 *
 * @state true adds one, false takes one back: -EINVAL if there is none. Any context.
 */
FLATVIEW_API int ram_block_discard_disable(bool state);
FLATVIEW_API int ram_block_uncoordinated_discard_disable(bool state);
FLATVIEW_API int ram_block_discard_require(bool state);
FLATVIEW_API int ram_block_coordinated_discard_require(bool state);
FLATVIEW_API bool ram_block_discard_is_disabled(void); /* either */
FLATVIEW_API bool ram_block_discard_is_required(void); /* either */

FLATVIEW_END_DECLS

#endif
