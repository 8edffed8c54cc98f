/* SPDX-License-Identifier: MIT */
/*
 * iotlb.c - a device behind an IOMMU: its back end asks for translations, and is told which of them are gone.
 *
 * Invariant: what a connected back end has in its IOTLB is what the device's space translates to now, in memory that it shares,
 * as soon as whoever changed that has returned: memory_region_notify_iommu(), or a commit. A translation is looked up without
 * lock, because a translate callback may do anything, and sent under it only if nothing was invalidated since (`age`); while a
 * commit is between withdrawal and its end (`closed`), when the old views still answer or a notifier is not there yet, nothing is
 * looked up at all. Holds for one IOMMU between the device and memory: behind a second one nobody tells us.
 * Established by: answer(), iotlb_invalidate(), the listener of the device's space, and memory.c, which closes for its own
 * removals. Relied on by: whoever reuses memory after an unmap.
 *
 * Locks: topology lock, or the notifier lock of an IOMMU region, before lock.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "accel/vhost_user/device.h"

/* An IOMMU region where it shows in the device's space. */
typedef struct IotlbWatch {
    IOMMUNotifier notifier;
    FlatviewVhostUser *dev;
    hwaddr first, last; /* in the space */
    hwaddr offset;      /* in the region, of first */
    bool deaf;          /* the region refused to tell: then nothing is asked of it */
    struct IotlbWatch *next;
} IotlbWatch;

/* ---- telling ---- */

static int tell(FlatviewVhostUser *dev, uint8_t type, hwaddr first, hwaddr last, const uint8_t *host, uint8_t perm)
{
    VhostUserIotlb message = {
        .iova = first,
        /* Back ends add the two, which must not wrap; the last byte by itself is nobody's page. */
        .size = last == UINT64_MAX && first != last ? last - first : last - first + 1,
        .user_addr = (uintptr_t)host,
        .perm = perm,
        .type = type,
    };

    return connection_tell(dev, VHOST_USER_IOTLB_MSG, &message, sizeof(message), NULL, 0);
}

void iotlb_invalidate(FlatviewVhostUser *dev, hwaddr first, hwaddr last)
{
    if (dev->config.dma) {
        dev->iotlb.age++;
        if (dev->fd >= 0 && tell(dev, VHOST_IOTLB_INVALIDATE, first, last, NULL, 0) == 0) {
            dev->stats.iotlb_invalidations++;
        }
    }
}

void iotlb_close(FlatviewVhostUser *dev)
{
    dev->iotlb.closed = true;
    dev->iotlb.age++;
}

void iotlb_reopen(FlatviewVhostUser *dev)
{
    dev->iotlb.closed = false;
    pthread_cond_broadcast(&dev->iotlb.reopened);
}

/* ---- asking ---- */

/* What answers to iova: [first, last] of the space, and where it is in a region. */
typedef struct Target {
    hwaddr first, last;
    MemoryRegion *mr;
    hwaddr offset; /* of first */
    uint8_t perm;
} Target;

static bool is_deaf(const FlatviewVhostUser *dev, hwaddr iova)
{
    const IotlbWatch *watch;

    for (watch = dev->iotlb.watches; watch; watch = watch->next) {
        if (watch->deaf && watch->first <= iova && iova <= watch->last) {
            return true;
        }
    }
    return false;
}

static bool look_up(FlatviewVhostUser *dev, hwaddr iova, bool write, Target *ret)
{
    MemoryRegionSection section;
    IOMMUTLBEntry entry;
    hwaddr at, before, after;
    bool found;

    memory_read_begin();
    found = address_space_get_iotlb_entry(dev->config.dma, iova, write, dev->config.attrs, &entry) == MEMTX_OK;
    at = found ? entry.translated_addr + (iova - entry.iova) : 0;
    /* Of other spaces we hear nothing; and what is seen through an interposer is no memory for a device. */
    found = found && (entry.target_as == dev->config.memory || entry.target_as == dev->config.dma) &&
            flatview_find(address_space_current(entry.target_as), at, &section) && section.host;
    if (found) {
        before = at - section.offset_within_address_space;
        before = iova - entry.iova < before ? iova - entry.iova : before;
        after = section.last - at;
        after = entry.last - iova < after ? entry.last - iova : after;
        *ret = (Target){
            .first = iova - before,
            .last = iova + after,
            .mr = section.mr,
            .offset = section.offset_within_region + (at - section.offset_within_address_space) - before,
            .perm = (uint8_t)entry.perm,
        };
    }
    memory_read_end();
    return found;
}

/* Cuts the target to the piece that is shared around iova. Under lock. */
static const Slot *shared_piece(const FlatviewVhostUser *dev, hwaddr iova, Target *target)
{
    hwaddr at = target->offset + (iova - target->first);
    size_t i;

    for (i = 0; i < dev->table.n; i++) {
        const Slot *slot = &dev->table.at[i];

        if (slot->mr == target->mr && at - slot->mr_offset < slot->size && !slot->missing) {
            hwaddr room = at - slot->mr_offset, rest = slot->size - 1 - room;

            if (iova - target->first > room) {
                target->offset += iova - target->first - room;
                target->first = iova - room;
            }
            if (target->last - iova > rest) {
                target->last = iova + rest;
            }
            return slot;
        }
    }
    return NULL;
}

static void answer(FlatviewVhostUser *dev, hwaddr iova, bool write)
{
    const Slot *slot;
    Target target = {0};
    uint64_t age;
    bool found;

    pthread_mutex_lock(&dev->lock);
    do {
        while (dev->iotlb.closed) {
            pthread_cond_wait(&dev->iotlb.reopened, &dev->lock);
        }
        age = dev->iotlb.age;
        found = !is_deaf(dev, iova);
        pthread_mutex_unlock(&dev->lock);
        found = found && look_up(dev, iova, write, &target);
        pthread_mutex_lock(&dev->lock);
    } while (dev->iotlb.age != age);
    slot = found ? shared_piece(dev, iova, &target) : NULL;
    dev->stats.iotlb_misses++;
    if (!slot) {
        dev->stats.iotlb_faults++;
    } else if (dev->fd >= 0) {
        tell(dev, VHOST_IOTLB_UPDATE, target.first, target.last, slot->host + (target.offset - slot->mr_offset), target.perm);
    }
    pthread_mutex_unlock(&dev->lock);
}

/* ---- the thread that is asked ---- */

static bool serve_one(FlatviewVhostUser *dev, int fd)
{
    VhostUserHeader header;
    VhostUserIotlb message;
    uint64_t failed = 1;

    if (protocol_receive_request(fd, &header, &message, sizeof(message)) < 0) {
        return false;
    }
    if (header.request == VHOST_USER_BACKEND_IOTLB_MSG && header.size == sizeof(message)) {
        failed = 0;
        if (message.type == VHOST_IOTLB_MISS) {
            answer(dev, message.iova, message.perm & IOMMU_WO);
        }
    }
    return !(header.flags & VHOST_USER_NEED_REPLY) ||
           protocol_send(fd, header.request, VHOST_USER_REPLY, &failed, sizeof(failed), NULL, 0) == 0;
}

/* The end of a socket pair that the last connection has left for us, if there is one; or what we have. */
static int take_over(FlatviewVhostUser *dev, int fd, bool *ret_stop)
{
    pthread_mutex_lock(&dev->lock);
    if (dev->iotlb.offered >= 0) {
        if (fd >= 0) {
            close(fd);
        }
        fd = dev->iotlb.offered;
        dev->iotlb.offered = -1;
    }
    *ret_stop = dev->iotlb.stop;
    pthread_mutex_unlock(&dev->lock);
    return fd;
}

static void *serve(void *arg)
{
    FlatviewVhostUser *dev = arg;
    struct pollfd wait[2] = {{.fd = dev->iotlb.wake, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    uint64_t n;
    bool stop;

    for (;;) {
        wait[1].fd = take_over(dev, wait[1].fd, &stop);
        if (stop) {
            break;
        }
        if (poll(wait, 2, -1) < 0) {
            continue;
        }
        if (wait[0].revents && read(dev->iotlb.wake, &n, sizeof(n)) == sizeof(n)) {
            continue; /* there may be another socket */
        }
        if (wait[1].revents && !serve_one(dev, wait[1].fd)) {
            close(wait[1].fd);
            wait[1].fd = -1;
        }
    }
    if (wait[1].fd >= 0) {
        close(wait[1].fd);
    }
    return NULL;
}

static void wake(FlatviewVhostUser *dev)
{
    eventfd_write(dev->iotlb.wake, 1);
}

int iotlb_connect(FlatviewVhostUser *dev)
{
    struct timeval timeout = {.tv_sec = dev->config.timeout_ms / 1000, .tv_usec = (dev->config.timeout_ms % 1000) * 1000};
    int pair[2], err;

    if (!(dev->features >> VIRTIO_F_ACCESS_PLATFORM & 1) || !device_has(dev, VHOST_USER_PROTOCOL_F_BACKEND_REQ)) {
        return -EOPNOTSUPP;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        return -errno;
    }
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    err = connection_tell(dev, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &pair[1], 1);
    close(pair[1]);
    if (err < 0) {
        close(pair[0]);
        return err;
    }
    if (dev->iotlb.offered >= 0) {
        close(dev->iotlb.offered);
    }
    dev->iotlb.offered = pair[0];
    wake(dev);
    return 0;
}

/* ---- the listener of the device's space ---- */

static FlatviewVhostUser *iotlb_device(MemoryListener *listener)
{
    return (FlatviewVhostUser *)((char *)listener - offsetof(FlatviewVhostUser, iotlb.listener));
}

static void drop_spares(FlatviewVhostUser *dev)
{
    while (dev->iotlb.spares) {
        IotlbWatch *spare = dev->iotlb.spares;

        dev->iotlb.spares = spare->next;
        free(spare);
    }
}

static int iotlb_prepare(MemoryListener *listener, const MemoryDelta *delta)
{
    FlatviewVhostUser *dev = iotlb_device(listener);
    bool comes = false;
    size_t i, k;

    for (i = 0; i < delta->n_spans; i++) {
        for (k = 0; k < delta->spans[i].n_new; k++) {
            IotlbWatch *spare;

            if (!memory_region_is_iommu(delta->spans[i].new_sections[k].mr)) {
                continue;
            }
            comes = true;
            spare = calloc(1, sizeof(*spare));
            if (!spare) {
                drop_spares(dev);
                return -ENOMEM;
            }
            spare->next = dev->iotlb.spares;
            dev->iotlb.spares = spare;
        }
    }
    if (comes) { /* it will answer before its notifier is there */
        pthread_mutex_lock(&dev->lock);
        iotlb_close(dev);
        pthread_mutex_unlock(&dev->lock);
    }
    return 0;
}

static void iotlb_commit(MemoryListener *listener)
{
    FlatviewVhostUser *dev = iotlb_device(listener);

    drop_spares(dev);
    pthread_mutex_lock(&dev->lock);
    iotlb_reopen(dev);
    pthread_mutex_unlock(&dev->lock);
}

static void iotlb_abort(MemoryListener *listener, const MemoryDelta *delta)
{
    (void)delta;
    iotlb_commit(listener);
}

static void notified(IOMMUNotifier *notifier, const IOMMUTLBEntry *entry)
{
    IotlbWatch *watch = (IotlbWatch *)((char *)notifier - offsetof(IotlbWatch, notifier));
    FlatviewVhostUser *dev = watch->dev;

    pthread_mutex_lock(&dev->lock);
    iotlb_invalidate(dev, watch->first + (entry->iova - watch->offset), watch->first + (entry->last - watch->offset));
    pthread_mutex_unlock(&dev->lock);
}

static void iotlb_region_add(MemoryListener *listener, const MemoryRegionSection *section)
{
    FlatviewVhostUser *dev = iotlb_device(listener);
    IotlbWatch *watch = dev->iotlb.spares;
    hwaddr first = section->offset_within_region;

    if (!memory_region_is_iommu(section->mr)) {
        return;
    }
    dev->iotlb.spares = watch->next;
    watch->dev = dev;
    watch->first = section->offset_within_address_space;
    watch->last = section->last;
    watch->offset = first;
    iommu_notifier_init(&watch->notifier, notified, IOMMU_NOTIFIER_UNMAP, first, first + (watch->last - watch->first),
                        memory_region_iommu_attrs_to_index(section->mr, dev->config.attrs));
    watch->deaf = memory_region_register_iommu_notifier(section->mr, &watch->notifier) < 0;
    pthread_mutex_lock(&dev->lock);
    watch->next = dev->iotlb.watches;
    dev->iotlb.watches = watch;
    pthread_mutex_unlock(&dev->lock);
}

static void iotlb_region_del(MemoryListener *listener, const MemoryRegionSection *section)
{
    FlatviewVhostUser *dev = iotlb_device(listener);
    IotlbWatch **link, *watch;

    pthread_mutex_lock(&dev->lock);
    iotlb_close(dev);
    iotlb_invalidate(dev, section->offset_within_address_space, section->last);
    for (link = &dev->iotlb.watches; (watch = *link) && watch->first != section->offset_within_address_space;) {
        link = &watch->next;
    }
    if (watch) {
        *link = watch->next;
    }
    pthread_mutex_unlock(&dev->lock);
    if (watch) { /* not under lock: a notification that runs waits for it */
        if (!watch->deaf) {
            memory_region_unregister_iommu_notifier(section->mr, &watch->notifier);
        }
        free(watch);
    }
}

/* ---- its life ---- */

void iotlb_init(FlatviewVhostUser *dev)
{
    dev->iotlb.wake = dev->iotlb.offered = -1;
    dev->iotlb.listener = (MemoryListener){
        .name = "vhost-user IOTLB",
        .priority = dev->config.priority,
        .prepare = iotlb_prepare,
        .abort = iotlb_abort,
        .region_add = iotlb_region_add,
        .region_del = iotlb_region_del,
        .commit = iotlb_commit,
    };
    pthread_cond_init(&dev->iotlb.reopened, NULL);
}

int iotlb_start(FlatviewVhostUser *dev)
{
    int err;

    dev->iotlb.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (dev->iotlb.wake < 0) {
        return -errno;
    }
    err = -pthread_create(&dev->iotlb.thread, NULL, serve, dev);
    dev->iotlb.started = err == 0;
    return err;
}

void iotlb_stop(FlatviewVhostUser *dev)
{
    if (dev->iotlb.started) {
        pthread_mutex_lock(&dev->lock);
        dev->iotlb.stop = true;
        pthread_mutex_unlock(&dev->lock);
        wake(dev);
        pthread_join(dev->iotlb.thread, NULL);
    }
    if (dev->iotlb.offered >= 0) {
        close(dev->iotlb.offered);
    }
    if (dev->iotlb.wake >= 0) {
        close(dev->iotlb.wake);
    }
    pthread_cond_destroy(&dev->iotlb.reopened);
}
