/* SPDX-License-Identifier: MIT */
/*
 * device.c - the life of a front end.
 *
 * Invariant: a front end that exists has been connected once and is registered as a listener until it is freed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "accel/vhost_user/device.h"

#define TIMEOUT_MS 5000
#define SLOTS_MAX 4096 /* more than any back end takes: what it does take is asked of each */

static void discard(FlatviewVhostUser *dev)
{
    iotlb_stop(dev);
    log_fini(dev);
    slots_fini(&dev->table);
    slots_plan_fini(&dev->plan);
    pthread_mutex_destroy(&dev->lock);
    free((char *)(uintptr_t)dev->config.path);
    free(dev);
}

static FlatviewVhostUser *device_new(const FlatviewVhostUserConfig *config)
{
    FlatviewVhostUser *dev = calloc(1, sizeof(*dev));

    if (!dev) {
        return NULL;
    }
    dev->fd = -1;
    dev->config = *config;
    dev->config.timeout_ms = config->timeout_ms ? config->timeout_ms : TIMEOUT_MS;
    dev->config.path = strdup(config->path);
    dev->page = (uint64_t)sysconf(_SC_PAGESIZE);
    dev->listener = memory_listener_callbacks;
    dev->listener.priority = config->priority;
    iotlb_init(dev);
    pthread_mutex_init(&dev->lock, NULL);
    if (!dev->config.path || slots_init(&dev->table, SLOTS_MAX) < 0) {
        discard(dev);
        return NULL;
    }
    return dev;
}

/* Under lock: the thread of the IOTLB may be answering. */
static void disconnect(FlatviewVhostUser *dev)
{
    pthread_mutex_lock(&dev->lock);
    connection_close(dev, -ESHUTDOWN);
    pthread_mutex_unlock(&dev->lock);
}

static int listen(FlatviewVhostUser *dev)
{
    int err = memory_listener_register(&dev->listener, dev->config.memory);

    if (err == 0 && dev->config.dma) {
        err = memory_listener_register(&dev->iotlb.listener, dev->config.dma);
        if (err < 0) {
            memory_listener_unregister(&dev->listener);
        }
    }
    return err;
}

int flatview_vhost_user_new(const FlatviewVhostUserConfig *config, FlatviewVhostUser **ret_dev)
{
    FlatviewVhostUser *dev;
    int err;

    if (!config || !config->path || !config->memory || !ret_dev || !config->n_queues ||
        config->n_queues > FLATVIEW_VHOST_USER_QUEUES_MAX) {
        return -EINVAL;
    }
    dev = device_new(config);
    if (!dev) {
        return -ENOMEM;
    }
    err = config->dma ? iotlb_start(dev) : 0;
    if (err == 0) {
        pthread_mutex_lock(&dev->lock);
        err = connection_open(dev);
        pthread_mutex_unlock(&dev->lock);
    }
    if (err == 0) {
        err = listen(dev);
    }
    if (err < 0) {
        disconnect(dev);
        discard(dev);
        return err;
    }
    *ret_dev = dev;
    return 0;
}

int flatview_vhost_user_free(FlatviewVhostUser *dev)
{
    int err;
    unsigned i;

    /* Before anything is undone: in a callback of a listener, where nobody may begin, unregistering would be put off and say 0. */
    err = memory_transaction_depth() ? -EBUSY : memory_transaction_begin();
    if (err < 0) {
        return err;
    }
    memory_transaction_abort();
    for (i = 0; i < dev->config.n_queues; i++) {
        flatview_vhost_user_stop_queue(dev, i, NULL);
    }
    err = memory_listener_unregister(&dev->listener);
    if (err < 0) {
        return err;
    }
    if (dev->config.dma) {
        memory_listener_unregister(&dev->iotlb.listener);
    }
    disconnect(dev);
    discard(dev);
    return 0;
}

int flatview_vhost_user_reconnect(FlatviewVhostUser *dev)
{
    uint64_t limit;
    int err;

    queues_find_base(dev);
    pthread_mutex_lock(&dev->lock);
    connection_check(dev);
    limit = dev->stats.max_regions;
    err = dev->fd >= 0 ? -EALREADY : connection_open(dev);
    if (err == 0 && dev->table.n > dev->stats.max_regions) {
        err = -ENOSPC;
        connection_close(dev, err);
        dev->stats.max_regions = limit;
    }
    if (err == 0) {
        log_tell(dev);
        memory_share_all(dev);
        queues_resume(dev);
        err = dev->fd >= 0 ? 0 : dev->stats.last_error;
    }
    pthread_mutex_unlock(&dev->lock);
    if (dev->config.dma && (err == 0 || err == -EALREADY)) { /* it died since, or its ring was not translated */
        queues_find_base(dev);
        pthread_mutex_lock(&dev->lock);
        queues_resume(dev);
        pthread_mutex_unlock(&dev->lock);
    }
    return err;
}

uint64_t flatview_vhost_user_features(FlatviewVhostUser *dev)
{
    uint64_t features;

    pthread_mutex_lock(&dev->lock);
    features = dev->features;
    pthread_mutex_unlock(&dev->lock);
    return features;
}

int flatview_vhost_user_get_config(FlatviewVhostUser *dev, unsigned offset, void *buf, unsigned len)
{
    VhostUserConfigSpace space = {.offset = offset, .size = len};
    size_t bytes = offsetof(VhostUserConfigSpace, data) + len;
    int err;

    if (offset > VHOST_USER_CONFIG_MAX || len > VHOST_USER_CONFIG_MAX - offset) {
        return -EINVAL;
    }
    pthread_mutex_lock(&dev->lock);
    err = device_has(dev, VHOST_USER_PROTOCOL_F_CONFIG) ?
              connection_ask(dev, VHOST_USER_GET_CONFIG, &space, bytes, &space, bytes) : -EOPNOTSUPP;
    pthread_mutex_unlock(&dev->lock);
    if (err == 0) {
        memcpy(buf, space.data, len);
    }
    return err;
}

int flatview_vhost_user_for_each_region(FlatviewVhostUser *dev, int (*fn)(const FlatviewVhostUserRegion *region, void *arg),
                                        void *arg)
{
    size_t i;
    int ret = 0;

    pthread_mutex_lock(&dev->lock);
    for (i = 0; i < dev->table.n && ret == 0; i++) {
        const Slot *slot = &dev->table.at[i];
        FlatviewVhostUserRegion value = {
            .first = slot->first, .size = slot->size, .host = slot->host, .missing = slot->missing};

        ret = fn(&value, arg);
    }
    pthread_mutex_unlock(&dev->lock);
    return ret;
}

void flatview_vhost_user_get_stats(FlatviewVhostUser *dev, FlatviewVhostUserStats *ret_stats)
{
    pthread_mutex_lock(&dev->lock);
    connection_check(dev);
    *ret_stats = dev->stats;
    ret_stats->connected = dev->fd >= 0;
    ret_stats->regions = dev->table.n;
    ret_stats->logging = dev->log.on;
    ret_stats->log_blind = dev->log.blind;
    pthread_mutex_unlock(&dev->lock);
}
