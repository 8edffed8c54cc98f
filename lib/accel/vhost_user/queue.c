/* SPDX-License-Identifier: MIT */
/*
 * queue.c - virtqueues of a back end: running, suspended for a remap, or waiting for a connection.
 *
 * Invariant: a queue runs only if the back end is connected and has the memory of all three rings; is.base of one that does
 * not run is where it has to go on, so that every request is done at least once and none is skipped.
 * Established by: queue_start(), queue_halt(), queues_lost(). Relied on by: memory.c, which suspends before it takes memory away.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "accel/vhost_user/device.h"

#define DESC_BYTES(size) (16 * (uint64_t)(size))
#define AVAIL_BYTES(size) (6 + 2 * (uint64_t)(size))
#define USED_BYTES(size) (6 + 8 * (uint64_t)(size))

/* Front-end addresses are ours: where the memory is mapped here. 0: the back end does not have it. */
static uint64_t shared_address(FlatviewVhostUser *dev, hwaddr addr, uint64_t size)
{
    return dev->table.n_missing ? 0 : (uintptr_t)memory_host(dev, addr, size);
}

static bool queue_address(FlatviewVhostUser *dev, unsigned index, VhostUserVringAddr *ret)
{
    const FlatviewVhostUserQueue *is = &dev->queues[index].is;

    if (dev->config.dma) { /* the back end asks for what it needs */
        *ret = (VhostUserVringAddr){
            .index = index, .flags = dev->log.told ? VHOST_VRING_F_LOG : 0, .log = is->used,
            .desc = is->desc, .avail = is->avail, .used = is->used};
        return true;
    }
    *ret = (VhostUserVringAddr){
        .index = index,
        .flags = dev->log.told ? VHOST_VRING_F_LOG : 0,
        .log = is->used,
        .desc = shared_address(dev, is->desc, DESC_BYTES(is->size)),
        .avail = shared_address(dev, is->avail, AVAIL_BYTES(is->size)),
        .used = shared_address(dev, is->used, USED_BYTES(is->size)),
    };
    return ret->desc && ret->avail && ret->used;
}

static int set_state(FlatviewVhostUser *dev, uint32_t request, unsigned index, unsigned num)
{
    VhostUserVringState state = {index, num};

    return connection_tell(dev, request, &state, sizeof(state), NULL, 0);
}

static int set_fd(FlatviewVhostUser *dev, uint32_t request, unsigned index, int fd)
{
    uint64_t number = index;

    return connection_tell(dev, request, &number, sizeof(number), &fd, 1);
}

/* -EFAULT: the back end has not all of its memory. */
static int queue_start(FlatviewVhostUser *dev, unsigned index)
{
    Queue *queue = &dev->queues[index];
    VhostUserVringAddr addr;
    int err;

    if (dev->fd < 0) {
        return -ENOTCONN;
    }
    if (!queue_address(dev, index, &addr)) {
        return -EFAULT;
    }
    err = set_state(dev, VHOST_USER_SET_VRING_NUM, index, queue->is.size);
    err = err ? err : set_state(dev, VHOST_USER_SET_VRING_BASE, index, queue->is.base);
    err = err ? err : connection_tell(dev, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0);
    err = err ? err : set_fd(dev, VHOST_USER_SET_VRING_CALL, index, queue->is.call_fd);
    err = err ? err : set_fd(dev, VHOST_USER_SET_VRING_KICK, index, queue->is.kick_fd);
    if (err == 0 && dev->protocol_features) { /* without F_PROTOCOL_FEATURES a queue is enabled by its kick */
        err = set_state(dev, VHOST_USER_SET_VRING_ENABLE, index, 1);
    }
    if (err == 0) {
        const uint64_t one = 1;

        queue->running = true;
        /* What the driver kicked while nobody was listening. */
        if (write(queue->is.kick_fd, &one, sizeof(one)) < 0) {
            return 0; /* full: then it is kicked already */
        }
    }
    return err;
}

static void queue_halt(FlatviewVhostUser *dev, unsigned index)
{
    VhostUserVringState state = {.index = index}, answer;

    if (connection_ask(dev, VHOST_USER_GET_VRING_BASE, &state, sizeof(state), &answer, sizeof(answer)) == 0) {
        dev->queues[index].is.base = answer.num & 0xffff;
        dev->queues[index].running = false;
    }
}

static bool ring_in(hwaddr first, uint64_t bytes, const Slot *slot)
{
    return first <= slot_last(slot) && first + (bytes - 1) >= slot->first;
}

void queues_suspend(FlatviewVhostUser *dev, const Slot *slot)
{
    unsigned i;

    for (i = 0; i < dev->config.n_queues && !dev->config.dma; i++) {
        const FlatviewVhostUserQueue *is = &dev->queues[i].is;

        if (dev->queues[i].running &&
            (ring_in(is->desc, DESC_BYTES(is->size), slot) || ring_in(is->avail, AVAIL_BYTES(is->size), slot) ||
             ring_in(is->used, USED_BYTES(is->size), slot))) {
            queue_halt(dev, i);
            dev->stats.ring_stops++;
        }
    }
}

void queues_resume(FlatviewVhostUser *dev)
{
    unsigned i;

    for (i = 0; i < dev->config.n_queues; i++) {
        if (dev->queues[i].wanted && !dev->queues[i].running && !dev->queues[i].lost) {
            queue_start(dev, i);
        }
    }
}

void queues_readdress(FlatviewVhostUser *dev)
{
    VhostUserVringAddr addr;
    unsigned i;

    for (i = 0; i < dev->config.n_queues; i++) {
        if (dev->queues[i].running && queue_address(dev, i, &addr)) {
            connection_tell(dev, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0);
        }
    }
}

/* The used index in guest memory is what the back end has finished; from there its successor goes on. The ring of a queue that
   ran is in the table, or it would have been suspended. */
void queues_lost(FlatviewVhostUser *dev)
{
    unsigned i;

    for (i = 0; i < dev->config.n_queues; i++) {
        Queue *queue = &dev->queues[i];
        const uint16_t *used = queue->running && !dev->config.dma ? memory_host(dev, queue->is.used, USED_BYTES(queue->is.size)) : NULL;

        if (used) {
            queue->is.base = le16toh(__atomic_load_n(&used[1], __ATOMIC_ACQUIRE));
        }
        queue->lost |= queue->running && dev->config.dma;
        queue->running = false;
    }
}

void queues_find_base(FlatviewVhostUser *dev)
{
    unsigned i;

    for (i = 0; i < dev->config.n_queues; i++) {
        Queue *queue = &dev->queues[i];
        uint16_t used;
        bool lost;
        hwaddr at;

        pthread_mutex_lock(&dev->lock);
        connection_check(dev);
        lost = queue->wanted && queue->lost;
        at = queue->is.used + 2;
        pthread_mutex_unlock(&dev->lock);
        if (lost && address_space_lduw_le(dev->config.dma, at, dev->config.attrs, &used) == MEMTX_OK) {
            pthread_mutex_lock(&dev->lock);
            if (queue->wanted && queue->lost && queue->is.used + 2 == at) {
                queue->is.base = used;
                queue->lost = false;
            }
            pthread_mutex_unlock(&dev->lock);
        }
    }
}

int flatview_vhost_user_start_queue(FlatviewVhostUser *dev, unsigned index, const FlatviewVhostUserQueue *is)
{
    Queue *queue;
    int kick, call, err;

    if (index >= dev->config.n_queues || !is->size || is->size > 32768 || (is->size & (is->size - 1))) {
        return -EINVAL;
    }
    kick = fcntl(is->kick_fd, F_DUPFD_CLOEXEC, 0);
    call = fcntl(is->call_fd, F_DUPFD_CLOEXEC, 0);
    err = kick < 0 || call < 0 ? -errno : 0;
    pthread_mutex_lock(&dev->lock);
    queue = &dev->queues[index];
    if (err == 0 && queue->wanted) {
        err = -EINVAL;
    }
    if (err == 0) {
        queue->is = *is;
        queue->is.kick_fd = kick;
        queue->is.call_fd = call;
        err = queue_start(dev, index);
        queue->lost = false;
        queue->wanted = err == 0 || err == -ENOTCONN;
        queue->running = err == 0;
    }
    pthread_mutex_unlock(&dev->lock);
    if (err < 0 && err != -ENOTCONN) {
        if (kick >= 0) {
            close(kick);
        }
        if (call >= 0) {
            close(call);
        }
    }
    return err;
}

int flatview_vhost_user_stop_queue(FlatviewVhostUser *dev, unsigned index, unsigned *ret_base)
{
    Queue *queue = &dev->queues[index < FLATVIEW_VHOST_USER_QUEUES_MAX ? index : 0];
    int err = -EINVAL;

    if (dev->config.dma) {
        queues_find_base(dev);
    }
    pthread_mutex_lock(&dev->lock);
    if (index < dev->config.n_queues && queue->wanted) {
        if (queue->running) {
            queue_halt(dev, index);
        }
        queue->wanted = false;
        close(queue->is.kick_fd);
        close(queue->is.call_fd);
        if (ret_base) {
            *ret_base = queue->is.base;
        }
        err = 0;
    }
    pthread_mutex_unlock(&dev->lock);
    return err;
}
