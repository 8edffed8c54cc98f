/* SPDX-License-Identifier: MIT */
/*
 * device.h - the insides of a FlatviewVhostUser, shared by its connection, its memory and its queues.
 */
#ifndef FLATVIEW_ACCEL_VHOST_USER_DEVICE_H
#define FLATVIEW_ACCEL_VHOST_USER_DEVICE_H

#include <pthread.h>

#include <flatview/accel/vhost_user.h>

#include "accel/slots.h"
#include "accel/vhost_user/protocol.h"

typedef struct Queue {
    FlatviewVhostUserQueue is; /* base: where it goes on when it is started next */
    bool wanted;               /* between start_queue() and stop_queue() */
    bool lost;                 /* ran when the connection ended: base is in guest memory, behind an IOMMU */
    bool running;              /* the back end has it */
} Queue;

typedef struct LogBitmap {
    uint64_t *words; /* NULL: none */
    uint64_t bytes;
    int fd;
} LogBitmap;

typedef struct DeviceLog {
    bool on;    /* some shared piece is logged */
    bool told;  /* the connected back end logs into now */
    bool blind; /* one may have written what it has not noted */
    LogBitmap now, next; /* next: between prepare and log_apply() or log_abort() */
} DeviceLog;

typedef struct DeviceIotlb {
    MemoryListener listener; /* of config.dma */
    struct IotlbWatch *watches, *spares; /* spares: under the topology lock */
    uint64_t age;   /* steps with each invalidation */
    bool closed;    /* a commit has withdrawn and is not over, or an IOMMU comes whose notifier is not there yet */
    pthread_cond_t reopened;
    pthread_t thread;
    bool started, stop;
    int wake;    /* eventfd */
    int offered; /* our end of the pair of a new connection, until the thread takes it; -1 */
} DeviceIotlb;

/*
 * Locks, outermost first: the topology lock (the listener's callbacks run under it), lock. Under lock we wait for the back
 * end, never longer than the timeout; it needs neither of the two.
 */
struct FlatviewVhostUser {
    FlatviewVhostUserConfig config;
    MemoryListener listener;
    uint64_t page;

    pthread_mutex_t lock; /* everything below */
    int fd;               /* -1: not connected */
    uint64_t features, protocol_features;
    uint64_t told_features; /* SET_FEATURES, without VHOST_F_LOG_ALL */
    bool offers_log;
    SlotTable table; /* limit: of the last back end that was connected */
    SlotPlan plan;
    bool planned, removed, added;
    DeviceLog log;
    DeviceIotlb iotlb;
    Queue queues[FLATVIEW_VHOST_USER_QUEUES_MAX];
    FlatviewVhostUserStats stats;
};

static inline bool device_has(const FlatviewVhostUser *dev, unsigned protocol_feature)
{
    return dev->protocol_features >> protocol_feature & 1;
}

static inline FlatviewVhostUser *listener_device(MemoryListener *listener)
{
    return (FlatviewVhostUser *)((char *)listener - offsetof(FlatviewVhostUser, listener));
}

/* connection.c: under lock. An error ends the connection; without one these do nothing and return -ENOTCONN. */
int connection_open(FlatviewVhostUser *dev); /* connect and negotiate */
void connection_close(FlatviewVhostUser *dev, int err);
void connection_check(FlatviewVhostUser *dev); /* a back end that has hung up is one that is gone */
int connection_tell(FlatviewVhostUser *dev, uint32_t request, const void *data, size_t size, const int *fds,
                    size_t n_fds); /* and wait until it has been done, if the back end can say so */
int connection_ask(FlatviewVhostUser *dev, uint32_t request, const void *data, size_t size, void *answer,
                   size_t answer_size);

int connection_give_log(FlatviewVhostUser *dev, const VhostUserLog *log, int fd);

/* log.c: under lock. */
int log_prepare(FlatviewVhostUser *dev, const MemoryDelta *delta); /* after planning: memory for what the commit needs */
void log_abort(FlatviewVhostUser *dev);
void log_apply(FlatviewVhostUser *dev);  /* before what was planned comes, or when logging starts */
void log_settle(FlatviewVhostUser *dev); /* at the end of a commit: still? */
void log_tell(FlatviewVhostUser *dev);   /* a back end that has just been connected, before it gets memory */
void log_fini(FlatviewVhostUser *dev);
void log_collect(FlatviewVhostUser *dev, hwaddr first, hwaddr last);
void log_collect_slot(FlatviewVhostUser *dev, const Slot *slot);
/* log.c: of the listener. */
void log_start(MemoryListener *listener, const MemoryRegionSection *section, unsigned old_mask, unsigned new_mask);
void log_stop(MemoryListener *listener, const MemoryRegionSection *section, unsigned old_mask, unsigned new_mask);
void log_sync(MemoryListener *listener, const MemoryRegionSection *section);
int log_global_start(MemoryListener *listener);

/* iotlb.c: under lock, but the life of it. */
void iotlb_init(FlatviewVhostUser *dev);
int iotlb_start(FlatviewVhostUser *dev);
void iotlb_stop(FlatviewVhostUser *dev);
int iotlb_connect(FlatviewVhostUser *dev);
void iotlb_invalidate(FlatviewVhostUser *dev, hwaddr first, hwaddr last); /* without config.dma: nothing to do */
void iotlb_close(FlatviewVhostUser *dev);
void iotlb_reopen(FlatviewVhostUser *dev);

/* memory.c: under lock. */
extern const MemoryListener memory_listener_callbacks;
void memory_share_all(FlatviewVhostUser *dev); /* after connecting: what the table has */
/* Where [addr, addr + size) is here, if it lies in one slot; NULL if not. */
void *memory_host(FlatviewVhostUser *dev, hwaddr addr, uint64_t size);

/* queue.c: under lock. */
void queues_suspend(FlatviewVhostUser *dev, const Slot *slot); /* those with a ring in it */
void queues_resume(FlatviewVhostUser *dev);                    /* all that are wanted, do not run, and can */
void queues_lost(FlatviewVhostUser *dev);                      /* the back end is gone: find out how far it came */
void queues_find_base(FlatviewVhostUser *dev);                 /* without lock, before reconnecting */
void queues_readdress(FlatviewVhostUser *dev);                 /* of those that run, what is logged has changed */

#endif
