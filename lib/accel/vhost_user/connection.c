/* SPDX-License-Identifier: MIT */
/*
 * connection.c - one back end, from connect() to the error that ends it.
 *
 * Invariant: while fd >= 0, front end and back end agree on what was sent and answered; the first error closes the
 * connection, so nobody talks to a back end of unknown state. When it is closed, no queue runs and every slot is missing.
 * Established by: connection_open(), connection_close(). Relied on by: memory.c and queue.c. Under lock.
 */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "accel/vhost_user/device.h"

void connection_close(FlatviewVhostUser *dev, int err)
{
    size_t i;

    if (dev->fd < 0) {
        return;
    }
    close(dev->fd);
    dev->fd = -1;
    dev->log.told = false;
    dev->stats.disconnects++;
    dev->stats.last_error = err;
    for (i = 0; i < dev->table.n; i++) {
        dev->table.at[i].missing = true;
    }
    dev->table.n_missing = dev->table.n;
    for (i = 0; i < dev->plan.n_add; i++) {
        dev->plan.add[i].missing = true;
    }
    queues_lost(dev);
}

void connection_check(FlatviewVhostUser *dev)
{
    struct pollfd state = {.fd = dev->fd, .events = POLLRDHUP};

    if (dev->fd >= 0 && poll(&state, 1, 0) > 0 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR))) {
        connection_close(dev, -ECONNRESET);
    }
}

static int ask(FlatviewVhostUser *dev, uint32_t request, const void *data, size_t size, const int *fd, void *answer,
               size_t answer_size, size_t *ret_size)
{
    int err = protocol_send(dev->fd, request, 0, data, size, fd, fd ? 1 : 0);

    if (err == 0) {
        err = protocol_receive(dev->fd, request, answer, answer_size, ret_size);
    }
    if (err < 0) {
        connection_close(dev, err);
    }
    return err;
}

int connection_ask(FlatviewVhostUser *dev, uint32_t request, const void *data, size_t size, void *answer,
                   size_t answer_size)
{
    return dev->fd < 0 ? -ENOTCONN : ask(dev, request, data, size, NULL, answer, answer_size, NULL);
}

int connection_give_log(FlatviewVhostUser *dev, const VhostUserLog *log, int fd)
{
    uint64_t answer[2]; /* the protocol leaves open what is in it, and back ends differ */
    size_t size;

    return dev->fd < 0 ? -ENOTCONN :
                         ask(dev, VHOST_USER_SET_LOG_BASE, log, sizeof(*log), &fd, answer, sizeof(answer), &size);
}

/* A back end that cannot acknowledge answers in order: a question that it answers is behind what was told before. */
static int wait_done(FlatviewVhostUser *dev, uint32_t request, bool acknowledges)
{
    uint64_t status = 0;
    int err;

    if (!acknowledges) {
        return ask(dev, VHOST_USER_GET_FEATURES, NULL, 0, NULL, &status, sizeof(status), NULL);
    }
    err = protocol_receive(dev->fd, request, &status, sizeof(status), NULL);
    if (err == 0 && status) {
        err = -EREMOTEIO;
    }
    if (err < 0) {
        connection_close(dev, err);
    }
    return err;
}

int connection_tell(FlatviewVhostUser *dev, uint32_t request, const void *data, size_t size, const int *fds,
                    size_t n_fds)
{
    bool acknowledges = device_has(dev, VHOST_USER_PROTOCOL_F_REPLY_ACK);
    int err;

    if (dev->fd < 0) {
        return -ENOTCONN;
    }
    err = protocol_send(dev->fd, request, acknowledges ? VHOST_USER_NEED_REPLY : 0, data, size, fds, n_fds);
    if (err < 0) {
        connection_close(dev, err);
        return err;
    }
    return wait_done(dev, request, acknowledges);
}

static int tell_u64(FlatviewVhostUser *dev, uint32_t request, uint64_t value)
{
    int err = protocol_send(dev->fd, request, 0, &value, sizeof(value), NULL, 0);

    if (err < 0) {
        connection_close(dev, err);
    }
    return err;
}

static int ask_u64(FlatviewVhostUser *dev, uint32_t request, uint64_t *ret_value)
{
    return connection_ask(dev, request, NULL, 0, ret_value, sizeof(*ret_value));
}

static int negotiate_protocol(FlatviewVhostUser *dev)
{
    const uint64_t ours = UINT64_C(1) << VHOST_USER_PROTOCOL_F_MQ | UINT64_C(1) << VHOST_USER_PROTOCOL_F_REPLY_ACK |
                          UINT64_C(1) << VHOST_USER_PROTOCOL_F_CONFIG | UINT64_C(1) << VHOST_USER_PROTOCOL_F_LOG_SHMFD |
                          (uint64_t)(dev->config.dma != NULL) << VHOST_USER_PROTOCOL_F_BACKEND_REQ |
                          UINT64_C(1) << VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS;
    uint64_t theirs = 0;
    int err = ask_u64(dev, VHOST_USER_GET_PROTOCOL_FEATURES, &theirs);

    if (err == 0) {
        err = tell_u64(dev, VHOST_USER_SET_PROTOCOL_FEATURES, theirs & ours);
    }
    if (err == 0) {
        dev->protocol_features = theirs & ours;
    }
    return err;
}

static int find_limit(FlatviewVhostUser *dev)
{
    uint64_t limit = VHOST_USER_TABLE_MAX;
    int err = 0;

    if (device_has(dev, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) {
        err = ask_u64(dev, VHOST_USER_GET_MAX_MEM_SLOTS, &limit);
    }
    if (err == 0) { /* of a back end that could not say, the table must not suffer */
        dev->stats.max_regions = limit;
    }
    return err;
}

int connection_open(FlatviewVhostUser *dev)
{
    const uint64_t protocol = UINT64_C(1) << VHOST_USER_F_PROTOCOL_FEATURES;
    uint64_t theirs = 0;
    int err = protocol_connect(dev->config.path, dev->config.timeout_ms, &dev->fd);

    if (err < 0) {
        dev->fd = -1;
        return err;
    }
    dev->protocol_features = 0;
    err = ask_u64(dev, VHOST_USER_GET_FEATURES, &theirs);
    if (err == 0 && (theirs & protocol)) {
        err = negotiate_protocol(dev);
    }
    if (err == 0) {
        err = protocol_send(dev->fd, VHOST_USER_SET_OWNER, 0, NULL, 0, NULL, 0);
    }
    if (err == 0) {
        err = find_limit(dev);
    }
    if (err == 0) {
        dev->features = theirs & dev->config.features;
        dev->told_features = dev->features | (theirs & protocol);
        dev->offers_log = theirs >> VHOST_F_LOG_ALL & 1;
        err = tell_u64(dev, VHOST_USER_SET_FEATURES, dev->told_features);
    }
    if (err == 0 && dev->config.dma) {
        err = iotlb_connect(dev);
    }
    if (err < 0) {
        connection_close(dev, err);
    }
    return err;
}
