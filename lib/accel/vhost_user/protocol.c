/* SPDX-License-Identifier: MIT */
/*
 * protocol.c - a message goes out whole or the connection is over; an answer is the one to the question or it is over too.
 *
 * Invariant: what comes from the back end is not trusted: its size is checked against what we have room for before it is
 * read, and it can neither stop us (SIGPIPE) nor hold us for longer than two timeouts and a second for each of header and
 * payload, byte by byte.
 * Established by: the functions here. Relied on by: device.c, under its lock, so that questions and answers alternate.
 */
#include "accel/vhost_user/protocol.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

int protocol_connect(const char *path, unsigned timeout_ms, int *ret_fd)
{
    struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = (timeout_ms % 1000) * 1000};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, err;

    if (strlen(path) >= sizeof(address.sun_path)) {
        return -ENAMETOOLONG;
    }
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        err = -errno;
        close(fd);
        return err;
    }
    *ret_fd = fd;
    return 0;
}

static int error_now(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK ? -ETIMEDOUT : -errno;
}

int protocol_send(int fd, uint32_t request, uint32_t flags, const void *data, size_t size, const int *fds, size_t n_fds)
{
    VhostUserHeader header = {.request = request, .flags = VHOST_USER_VERSION | flags, .size = (uint32_t)size};
    struct iovec parts[2] = {{&header, sizeof(header)}, {(void *)(uintptr_t)data, size}};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(VHOST_USER_TABLE_MAX * sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = size ? 2 : 1};
    ssize_t sent;

    if (n_fds) {
        struct cmsghdr *cmsg;

        memset(&control, 0, sizeof(control));
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        cmsg = CMSG_FIRSTHDR(&message);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
    }
    do {
        sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        return error_now();
    }
    return (size_t)sent == sizeof(header) + size ? 0 : -EPIPE;
}

/* One timeout for all of it, not for each byte. */
static int read_all(int fd, void *data, size_t size)
{
    struct timespec begin, now;
    struct timeval limit = {0};
    socklen_t len = sizeof(limit);
    char *at = data;

    getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, &len);
    clock_gettime(CLOCK_MONOTONIC, &begin);

    while (size) {
        ssize_t n = recv(fd, at, size, 0);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? error_now() : -ECONNRESET;
        }
        at += n;
        size -= (size_t)n;
        if (size) {
            clock_gettime(CLOCK_MONOTONIC, &now);
            if (now.tv_sec - begin.tv_sec > limit.tv_sec) {
                return -ETIMEDOUT;
            }
        }
    }
    return 0;
}

int protocol_receive(int fd, uint32_t request, void *data, size_t size, size_t *ret_size)
{
    VhostUserHeader header;
    int err = read_all(fd, &header, sizeof(header));

    if (err < 0) {
        return err;
    }
    if (header.request != request || !(header.flags & VHOST_USER_REPLY) || header.size > size ||
        (!ret_size && header.size != size)) {
        return -EPROTO;
    }
    if (ret_size) {
        *ret_size = header.size;
    }
    return read_all(fd, data, header.size);
}

int protocol_receive_request(int fd, VhostUserHeader *ret_header, void *data, size_t size)
{
    int err = read_all(fd, ret_header, sizeof(*ret_header));

    if (err == 0 && ((ret_header->flags & VHOST_USER_REPLY) || ret_header->size > size)) {
        err = -EPROTO;
    }
    return err ? err : read_all(fd, data, ret_header->size);
}
