/* SPDX-License-Identifier: MIT */
/*
 * vhost_user.h - a device that another process implements, with the guest's memory in its hands. Library:
 * flatview-vhost_user.
 *
 * The front end of the vhost-user protocol (QEMU's docs/interop/vhost-user.rst): it connects to a back end's socket, mirrors
 * the RAM of an address space into it, and starts virtqueues that lie in that RAM. Only memory that has a file descriptor
 * (memory_region_init_ram_memfd(), _from_fd(), _from_file()) can be shared; the rest of the view is not the back end's.
 *
 * What the mirror holds to:
 *   - ADD_MEM_REG and REM_MEM_REG for what changes and nothing else, if the back end has memory slots; SET_MEM_TABLE else;
 *   - protection is not a reason to remap: a read-only view of RAM is RAM to a device, ROM is not shared at all. So firmware
 *     that write-protects what it has shadowed disturbs no ring;
 *   - a change that needs more regions than the back end takes (GET_MAX_MEM_SLOTS) is refused before anything has happened;
 *   - memory is taken back before the view is published in which it is not there, and each step is acknowledged by the back
 *     end before the commit goes on;
 *   - behind an IOMMU, the back end gets a translation when it asks for it, and has forgotten it when
 *     memory_region_notify_iommu(), or the commit that took it away, returns;
 *   - the dirty log: while memory that it shares is logged (memory_dirty.h) the back end notes what it writes, used rings
 *     included, and that reaches the library's bitmaps when somebody collects, and when the memory goes;
 *   - a queue whose ring lies in memory that must be remapped is stopped for that moment and goes on where it was; one whose
 *     ring is gone is suspended until it is there again.
 *
 * The back end may die, or hang beyond the timeout: the connection is closed, the map goes on without it, and
 * flatview_vhost_user_reconnect() replays everything to the next one.
 *
 * Context of all functions: any thread, outside listener callbacks; those that talk wait for the back end, up to the timeout.
 */
#ifndef FLATVIEW_ACCEL_VHOST_USER_H
#define FLATVIEW_ACCEL_VHOST_USER_H

#include <flatview/types.h>

FLATVIEW_BEGIN_DECLS

typedef struct FlatviewVhostUser FlatviewVhostUser;

#define FLATVIEW_VHOST_USER_QUEUES_MAX 64

/** FlatviewVhostUserConfig - zero what you do not set. */
typedef struct FlatviewVhostUserConfig {
    const char *path;      /* the back end's listening Unix socket; copied */
    AddressSpace *memory;  /* what the device sees: must outlive the front end */
    /* Behind an IOMMU: the device's own space, in which rings and buffers have their addresses, and whose accesses end in RAM
       that memory shows, too, through one IOMMU region at most (a second one behind it would not tell). @features must then
       have VIRTIO_F_ACCESS_PLATFORM (bit 33). NULL: none. Must outlive it, too. */
    AddressSpace *dma;
    MemTxAttrs attrs;      /* of the device's accesses to dma: the requester that an IOMMU knows it by */
    uint64_t features;     /* virtio feature bits that the driver has accepted; what the back end lacks is left out */
    unsigned n_queues;     /* 1 to FLATVIEW_VHOST_USER_QUEUES_MAX */
    int priority;          /* of the listener; MEMORY_LISTENER_PRIORITY_DEV_BACKEND fits */
    unsigned timeout_ms;   /* how long to wait for an answer before the back end counts as dead; 0: 5000 */
} FlatviewVhostUserConfig;

/**
 * flatview_vhost_user_new() - connect, negotiate, share the memory
 *
 * With a dma space the library has a thread of its own, which answers the back end's IOTLB misses; translate callbacks run on it.
 *
 * Context: outside transactions.
 * Return:  0; -ENOSPC, the back end takes fewer regions than the view has; -EPROTO, -ETIMEDOUT, -ECONNRESET, the errno of
 *          connect(); -EOPNOTSUPP, a back end that cannot be behind an IOMMU; -EINVAL, -ENOMEM, or what
 *          memory_listener_register() gave.
 * Since:   0.1, as everything in this header.
 */
FLATVIEW_API int flatview_vhost_user_new(const FlatviewVhostUserConfig *config, FlatviewVhostUser **ret_dev);

/**
 * flatview_vhost_user_free() - stop all queues, take all memory back, disconnect
 *
 * Return: 0; -EBUSY inside a transaction or a callback of a listener, with nothing done; as memory_transaction_begin().
 */
FLATVIEW_API int flatview_vhost_user_free(FlatviewVhostUser *dev);

/**
 * flatview_vhost_user_reconnect() - to a new back end at the same path: share all, start the queues that were running
 *
 * A queue goes on behind the last request that the old back end had completed (the used index in guest memory), so what it
 * had only begun is done again by the new one.
 * Return: 0, -EALREADY (connected), or as flatview_vhost_user_new().
 */
FLATVIEW_API int flatview_vhost_user_reconnect(FlatviewVhostUser *dev);

/** flatview_vhost_user_features() - what was negotiated: virtio feature bits. */
FLATVIEW_API uint64_t flatview_vhost_user_features(FlatviewVhostUser *dev);

/**
 * flatview_vhost_user_get_config() - the device's configuration space
 * @buf: gets @len bytes from @offset on; @offset + @len at most 256
 *
 * Return: 0, -EOPNOTSUPP (a back end without one), -ENOTCONN, -EINVAL, or the error of the connection.
 */
FLATVIEW_API int flatview_vhost_user_get_config(FlatviewVhostUser *dev, unsigned offset, void *buf, unsigned len);

/** FlatviewVhostUserQueue - a split virtqueue (virtio 1.2, section 2.7). Addresses are guest-physical. */
typedef struct FlatviewVhostUserQueue {
    unsigned size;           /* descriptors; a power of two up to 32768 */
    hwaddr desc, avail, used;
    unsigned base;           /* available index to begin at */
    int kick_fd, call_fd;    /* eventfds, driver to device and back; the library duplicates them */
} FlatviewVhostUserQueue;

/**
 * flatview_vhost_user_start_queue() - hand a queue to the device
 *
 * Return: 0; -EINVAL (also: running); -EFAULT, a ring does not lie in one shared piece of memory; -ENOTCONN: will start when
 *         reconnected; -EMFILE and others of dup(); the error of the connection.
 */
FLATVIEW_API int flatview_vhost_user_start_queue(FlatviewVhostUser *dev, unsigned index,
                                                 const FlatviewVhostUserQueue *queue);

/** flatview_vhost_user_stop_queue() - take it back. *ret_base: where to go on; may be NULL. 0, -EINVAL (not running). */
FLATVIEW_API int flatview_vhost_user_stop_queue(FlatviewVhostUser *dev, unsigned index, unsigned *ret_base);

/** FlatviewVhostUserRegion - one piece of memory that the back end has, by value. */
typedef struct FlatviewVhostUserRegion {
    hwaddr first;
    uint64_t size;   /* bytes */
    void *host;
    bool missing;    /* not told: disconnected, or refused */
} FlatviewVhostUserRegion;

/** flatview_vhost_user_for_each_region() - ascending. @fn: non-zero stops, must not call the library. */
FLATVIEW_API int flatview_vhost_user_for_each_region(FlatviewVhostUser *dev,
                                                     int (*fn)(const FlatviewVhostUserRegion *region, void *arg),
                                                     void *arg);

/** FlatviewVhostUserStats - counts since flatview_vhost_user_new(), except where "now" is said. */
typedef struct FlatviewVhostUserStats {
    bool connected;              /* now */
    uint64_t regions, max_regions; /* now; the back end's limit */
    uint64_t added, removed, tables; /* ADD_MEM_REG, REM_MEM_REG, SET_MEM_TABLE */
    uint64_t refused_commits;    /* for want of regions */
    uint64_t ring_stops;         /* queues that were stopped for a remap */
    uint64_t disconnects;
    int last_error;              /* why it was disconnected last; 0 if never */
    uint64_t iotlb_misses;       /* what the back end has asked for */
    uint64_t iotlb_faults;       /* of these: no translation, or not to memory that it shares */
    uint64_t iotlb_invalidations; /* what it was told to forget */
    bool logging;                /* now: some shared memory has its writes logged */
    bool log_blind;              /* now: a back end may have written what it could not note; all it reaches counts as dirty */
} FlatviewVhostUserStats;

FLATVIEW_API void flatview_vhost_user_get_stats(FlatviewVhostUser *dev, FlatviewVhostUserStats *ret_stats);

FLATVIEW_END_DECLS

#endif
