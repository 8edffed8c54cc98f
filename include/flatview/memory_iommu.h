/* SPDX-License-Identifier: MIT */
/*
 * memory_iommu.h - regions that answer with another address in another space.
 *
 * A device's DMA goes to an address space of its own, whose root is, or shows, an IOMMU region. Each access that arrives
 * there is translated and goes on in the target space, at the translated address, cut where the translation changes.
 *
 * What an access through an IOMMU region means (source: QEMU's address_space_translate_iommu(); differences marked):
 * - not translated (IOMMU_NONE): MEMTX_DECODE_ERROR, as in QEMU;
 * - translated, but not for this direction: MEMTX_ACCESS_ERROR (QEMU: MEMTX_DECODE_ERROR);
 * - more than MEMORY_IOMMU_MAX_CHAIN regions one behind the other, as when a space leads back to itself, more than
 *   MEMORY_IOMMU_MAX_SPACES spaces in one call, or an entry that contradicts itself: MEMTX_ERROR (QEMU: no end, or an
 *   assertion);
 * - one call uses one view of each space that it comes to (ORDERING: R1);
 * - a typed access is one access if its bytes are translated by one entry to one range, else its parts are.
 *
 * Translations are cached, by each thread for itself. A translation that was there and is not any more, or is another, is
 * forgotten by memory_region_notify_iommu(): an access that starts after it returned (happens-after) uses none from
 * before; one that had begun may (memory_region_iommu_drain() waits for those). What is not translated, or not for the
 * direction that is asked for, is never cached: a translation may appear without a notification.
 */
#ifndef FLATVIEW_MEMORY_IOMMU_H
#define FLATVIEW_MEMORY_IOMMU_H

#include <flatview/types.h>

FLATVIEW_BEGIN_DECLS

/** IOMMUAccessFlags - what a translation permits, or an access wants; bits. */
typedef enum IOMMUAccessFlags {
    IOMMU_NONE = 0,
    IOMMU_RO = 1,
    IOMMU_WO = 2,
    IOMMU_RW = 3,
} IOMMUAccessFlags;

/**
 * IOMMUTLBEntry - a translation of [@iova, @last], a range of any size
 *
 * Address @iova + n of the IOMMU region is @translated_addr + n of @target_as; a part that would pass the end of the
 * target space is not there. With IOMMU_NONE it says that nothing in the range is translated, and the rest means nothing.
 */
typedef struct IOMMUTLBEntry {
    AddressSpace *target_as; /* initialised; stays so until translations to it are gone, notified and drained */
    hwaddr iova, last;       /* offsets in the IOMMU region, both included */
    hwaddr translated_addr;  /* of @iova */
    IOMMUAccessFlags perm;
} IOMMUTLBEntry;

/** IOMMUNotifierFlag - what a notifier wants to hear of; bits. */
typedef enum IOMMUNotifierFlag {
    IOMMU_NOTIFIER_NONE = 0,
    IOMMU_NOTIFIER_UNMAP = 1,          /* translations that are gone */
    IOMMU_NOTIFIER_MAP = 2,            /* translations that are new */
    IOMMU_NOTIFIER_DEVIOTLB_UNMAP = 4, /* what a device's own cache must forget */
} IOMMUNotifierFlag;

/** Both, as who shadows a table wants; and all. */
#define IOMMU_NOTIFIER_IOTLB_EVENTS ((IOMMUNotifierFlag)(IOMMU_NOTIFIER_MAP | IOMMU_NOTIFIER_UNMAP))
#define IOMMU_NOTIFIER_ALL ((IOMMUNotifierFlag)(IOMMU_NOTIFIER_IOTLB_EVENTS | IOMMU_NOTIFIER_DEVIOTLB_UNMAP))

/** IOMMUTLBEvent - what changed. @entry.perm is IOMMU_NONE for the two kinds of unmap, else not. */
typedef struct IOMMUTLBEvent {
    IOMMUNotifierFlag type; /* one of the bits */
    IOMMUTLBEntry entry;
} IOMMUTLBEvent;

typedef struct IOMMUNotifier IOMMUNotifier;

/**
 * MemoryRegionIOMMUOps - how an IOMMU region translates; unchanged while a region uses it, normally static const
 *
 * translate and attrs_to_index run on the accessing thread, inside a read section, without any lock of the library, many
 * at once, also for address_space_translate(). They may access memory (a table in RAM), though not through themselves
 * without end: MEMORY_IOMMU_MAX_CHAIN translations within each other get MEMTX_ERROR. They must not wait for a grace
 * period. notify_flag_changed and replay run under the region's notifier lock: see IOMMUNotifier.
 */
typedef struct MemoryRegionIOMMUOps {
    /*
     * The entry around @addr, an offset in the region (memory_region_set_offset() does not apply). Must contain @addr:
     * the larger, the fewer calls. @flag: what the access wants; IOMMU_NONE asks what there is on nobody's behalf: report
     * no fault to the guest. @iommu_idx: less than num_indexes.
     */
    IOMMUTLBEntry (*translate)(MemoryRegion *mr, hwaddr addr, IOMMUAccessFlags flag, unsigned iommu_idx);
    /* Which table an access with these attributes goes through. NULL: 0. A result that is none: MEMTX_ERROR. */
    unsigned (*attrs_to_index)(MemoryRegion *mr, MemTxAttrs attrs);
    unsigned num_indexes; /* tables, at most MEMORY_IOMMU_MAX_INDEXES; 0 stands for 1 */
    /* The OR of all notifiers' flags is about to change. A negative errno refuses a registration; at an unregistration it
       is ignored. May be NULL. */
    int (*notify_flag_changed)(MemoryRegion *mr, IOMMUNotifierFlag old_flags, IOMMUNotifierFlag new_flags);
    /* Walk the tables and call memory_region_notify_iommu_one() for each translation inside @notifier's window. 0 or a
       negative errno. NULL: translate is asked for entry after entry. */
    int (*replay)(MemoryRegion *mr, IOMMUNotifier *notifier);
    /* The smallest translation there is, in bytes, a power of two. Information only: nothing here counts in pages. NULL: 1. */
    uint64_t (*get_min_page_size)(MemoryRegion *mr);
} MemoryRegionIOMMUOps;

#define MEMORY_IOMMU_MAX_CHAIN 16   /* IOMMU regions that one access passes through */
#define MEMORY_IOMMU_MAX_SPACES 16  /* address spaces that one call comes to */
#define MEMORY_IOMMU_MAX_INDEXES 64 /* tables of one region */

/**
 * memory_region_init_iommu() - a region that translates
 *
 * As memory_region_init_io(): also -EINVAL without @ops or translate, or with too many indexes. It may have children, be
 * aliased, and stand anywhere. Read-only (itself or what shows it): writes get MEMTX_ACCESS_ERROR before translation.
 * memory_region_destroy() says -EBUSY while it has notifiers.
 *
 * Since: 0.1, as everything in this header.
 */
FLATVIEW_API int memory_region_init_iommu(MemoryRegion *mr, const MemoryRegionIOMMUOps *ops, const char *name,
                                          uint64_t size);

/* Context of these: any thread, no lock. */
FLATVIEW_API bool memory_region_is_iommu(const MemoryRegion *mr);
/** memory_region_get_iommu() - @mr, or what it is an alias of in the end, if that is an IOMMU region; else NULL. */
FLATVIEW_API MemoryRegion *memory_region_get_iommu(MemoryRegion *mr);
/* Of an IOMMU region; 0 for any other. */
FLATVIEW_API unsigned memory_region_iommu_num_indexes(const MemoryRegion *mr);
FLATVIEW_API unsigned memory_region_iommu_attrs_to_index(MemoryRegion *mr, MemTxAttrs attrs);
FLATVIEW_API uint64_t memory_region_iommu_get_min_page_size(MemoryRegion *mr);

/**
 * IOMMUNotifier - who mirrors translations: a vhost back end, VFIO
 *
 * notify hears of entries that touch [@first, @last] of table @iommu_idx, clipped to that window, in the order in which
 * memory_region_notify_iommu() was called (calls at once: in some order, each notifier the same); perm IOMMU_NONE: gone. One
 * call at a time for each region, on the notifying thread, under the region's notifier lock, possibly in a read section.
 *
 * It may access memory and look at views. Everything that would take the topology lock or a notifier lock is refused with
 * -EBUSY, also in a device callback that it reaches; waiting for readers with -EDEADLK.
 */
struct IOMMUNotifier {
    void (*notify)(IOMMUNotifier *notifier, const IOMMUTLBEntry *entry);
    IOMMUNotifierFlag notifier_flags;
    hwaddr first, last;
    unsigned iommu_idx;

    /* private: */
    MemoryRegion *mr;
    IOMMUNotifier *next, *prev;
};

/** iommu_notifier_init() - fill one in; arguments as QEMU has them. */
static inline void iommu_notifier_init(IOMMUNotifier *notifier,
                                       void (*notify)(IOMMUNotifier *notifier, const IOMMUTLBEntry *entry),
                                       IOMMUNotifierFlag flags, hwaddr first, hwaddr last, unsigned iommu_idx)
{
    notifier->notify = notify;
    notifier->notifier_flags = flags;
    notifier->first = first;
    notifier->last = last;
    notifier->iommu_idx = iommu_idx;
    notifier->mr = NULL;
    notifier->next = NULL;
    notifier->prev = NULL;
}

/**
 * memory_region_register_iommu_notifier() - begin to hear; of what is there already, memory_region_iommu_replay() tells
 * @mr: an IOMMU region, or an alias of one
 *
 * Context:   any thread; inside a read section, a transaction, a listener callback (region_add is the usual place); not
 *            in a notifier: -EBUSY. It changes no view.
 * Locking:   the region's notifier lock.
 * Ownership: @notifier is the library's until unregistered; on error it stays the caller's.
 * Return:    0; -EINVAL (no IOMMU region, no function, no flags, no such index, an empty window); -EBUSY (also: registered
 *            already); or what notify_flag_changed refused with.
 */
FLATVIEW_API int memory_region_register_iommu_notifier(MemoryRegion *mr, IOMMUNotifier *notifier);

/**
 * memory_region_unregister_iommu_notifier() - after it returned, notify is not running and will not be called
 *
 * Context and locking as for registering. Nothing is unmapped: memory_region_unmap_iommu_notifier_range() before it does.
 * Return: 0, -EINVAL (not registered with @mr), -EBUSY.
 */
FLATVIEW_API int memory_region_unregister_iommu_notifier(MemoryRegion *mr, IOMMUNotifier *notifier);

/**
 * memory_region_notify_iommu() - tell that translations changed: first what is cached, then the notifiers
 * @event: by value, as in QEMU. Its range may be any, not only a page or a power of two, and reach beyond the region
 *
 * To be called after the tables were changed. Whatever it returns but -EINVAL: what threads cache of this range of this
 * table is forgotten, and of no other (as far as memory_iommu.h's caches remember so much).
 *
 * Context: any thread, inside a read section (a guest writes to an invalidation register), transaction or listener. In a
 *          notifier: -EBUSY. Never waits for readers.
 * Locking: the region's notifier lock: notifiers of one region hear one event at a time.
 * Return:  0; -EINVAL (no IOMMU region, no such index, a range or type that is none, a map event without target or with
 *          IOMMU_NONE, an unmap event without it); -ELOOP for a map event that leads to the region itself, as far as that
 *          can be seen in the target's current view; -EBUSY. On errors no notifier is told.
 */
FLATVIEW_API int memory_region_notify_iommu(MemoryRegion *mr, unsigned iommu_idx, IOMMUTLBEvent event);

/**
 * memory_region_notify_iommu_one() - tell one notifier, clipped to its window, if it wants such events
 *
 * Context: in the replay callback, for the notifier that it was given.
 */
FLATVIEW_API void memory_region_notify_iommu_one(IOMMUNotifier *notifier, const IOMMUTLBEvent *event);

/** memory_region_unmap_iommu_notifier_range() - tell one registered notifier that all of its window is gone. 0, -EINVAL, -EBUSY. */
FLATVIEW_API int memory_region_unmap_iommu_notifier_range(IOMMUNotifier *notifier);

/**
 * memory_region_iommu_replay() - tell one notifier of all translations in its window
 * @notifier: registered with @mr
 *
 * No event is delivered in between; one that was notified meanwhile follows. By the replay callback, or by asking
 * translate, range after range: cost is the number of entries, not of pages.
 *
 * Context and locking as for registering.
 * Return: 0, -EINVAL (not registered with @mr), -EBUSY, -EIO (translate returned an entry without the address that it was
 *         asked for), or what the replay callback returned.
 */
FLATVIEW_API int memory_region_iommu_replay(MemoryRegion *mr, IOMMUNotifier *notifier);

/**
 * memory_region_iommu_drain() - wait for accesses that began before: they may use translations that are gone
 *
 * For who reuses what was mapped: change the table, notify, drain. It waits for all readers, as memory_reclaim() does.
 * Context: outside read sections, transactions, listeners and notifiers: else -EDEADLK. With no lock held that a callback
 *          takes.
 * Return:  0, -EDEADLK, -EINVAL (no IOMMU region).
 */
FLATVIEW_API int memory_region_iommu_drain(MemoryRegion *mr);

/**
 * address_space_get_iotlb_entry() - where an access would end up: what a vhost back end asks for on a miss
 * @ret_entry: [iova, last] around @addr in @as, where they are in target_as, and what is permitted; untouched on failure.
 *             Without an IOMMU on the way @as itself, translated to itself.
 *
 * Through all IOMMU regions there are; permissions are what all of them grant. The range ends where translations change, or
 * what answers in the target space does; whether that takes such an access is not asked. Nothing there: MEMTX_DECODE_ERROR.
 *
 * Context: any thread; of use in a read section of the caller's, or as long as a notifier says nothing else.
 * Return:  MEMTX_OK, or how an access would end.
 */
FLATVIEW_API MemTxResult address_space_get_iotlb_entry(AddressSpace *as, hwaddr addr, bool is_write, MemTxAttrs attrs,
                                                       IOMMUTLBEntry *ret_entry);

FLATVIEW_END_DECLS

#endif
