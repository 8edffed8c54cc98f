/* SPDX-License-Identifier: MIT */
/*
 * protocol.h - messages of the vhost-user protocol, version 1 (QEMU's docs/interop/vhost-user.rst). Host byte order; all
 * structures are as they go over the socket.
 */
#ifndef FLATVIEW_ACCEL_VHOST_USER_PROTOCOL_H
#define FLATVIEW_ACCEL_VHOST_USER_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum VhostUserRequest {
    VHOST_USER_GET_FEATURES = 1,
    VHOST_USER_SET_FEATURES = 2,
    VHOST_USER_SET_OWNER = 3,
    VHOST_USER_SET_MEM_TABLE = 5,
    VHOST_USER_SET_LOG_BASE = 6,
    VHOST_USER_SET_VRING_NUM = 8,
    VHOST_USER_SET_VRING_ADDR = 9,
    VHOST_USER_SET_VRING_BASE = 10,
    VHOST_USER_GET_VRING_BASE = 11,
    VHOST_USER_SET_VRING_KICK = 12,
    VHOST_USER_SET_VRING_CALL = 13,
    VHOST_USER_GET_PROTOCOL_FEATURES = 15,
    VHOST_USER_SET_PROTOCOL_FEATURES = 16,
    VHOST_USER_SET_VRING_ENABLE = 18,
    VHOST_USER_SET_BACKEND_REQ_FD = 21,
    VHOST_USER_IOTLB_MSG = 22,
    VHOST_USER_GET_CONFIG = 24,
    VHOST_USER_GET_MAX_MEM_SLOTS = 36,
    VHOST_USER_ADD_MEM_REG = 37,
    VHOST_USER_REM_MEM_REG = 38,
};

enum VhostUserBackendRequest { /* on the socket of SET_BACKEND_REQ_FD, from the back end */
    VHOST_USER_BACKEND_IOTLB_MSG = 1,
};

#define VHOST_USER_VERSION 1u
#define VHOST_USER_REPLY (1u << 2)
#define VHOST_USER_NEED_REPLY (1u << 3)

#define VHOST_F_LOG_ALL 26 /* bits of the device features */
#define VHOST_USER_F_PROTOCOL_FEATURES 30
#define VIRTIO_F_ACCESS_PLATFORM 33
#define VHOST_USER_PROTOCOL_F_MQ 0
#define VHOST_USER_PROTOCOL_F_LOG_SHMFD 1
#define VHOST_USER_PROTOCOL_F_REPLY_ACK 3
#define VHOST_USER_PROTOCOL_F_BACKEND_REQ 5
#define VHOST_USER_PROTOCOL_F_CONFIG 9
#define VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS 15

#define VHOST_USER_TABLE_MAX 8 /* regions in a SET_MEM_TABLE */
#define VHOST_USER_CONFIG_MAX 256

typedef struct VhostUserHeader {
    uint32_t request, flags, size;
} VhostUserHeader;

typedef struct VhostUserMemory {
    uint64_t guest_addr, size, user_addr, mmap_offset;
} VhostUserMemory;

typedef struct VhostUserOneRegion { /* ADD_MEM_REG, REM_MEM_REG */
    uint64_t padding;
    VhostUserMemory region;
} VhostUserOneRegion;

typedef struct VhostUserTable {
    uint32_t n, padding;
    VhostUserMemory region[VHOST_USER_TABLE_MAX];
} VhostUserTable;

typedef struct VhostUserVringState {
    uint32_t index, num;
} VhostUserVringState;

typedef struct VhostUserLog { /* SET_LOG_BASE */
    uint64_t mmap_size, mmap_offset;
} VhostUserLog;

#define VHOST_VRING_F_LOG 1u

typedef struct VhostUserVringAddr {
    uint32_t index, flags;
    uint64_t desc, used, avail, log;
} VhostUserVringAddr;

typedef struct VhostUserConfigSpace {
    uint32_t offset, size, flags;
    uint8_t data[VHOST_USER_CONFIG_MAX];
} VhostUserConfigSpace;

enum VhostIotlbType { VHOST_IOTLB_MISS = 1, VHOST_IOTLB_UPDATE = 2, VHOST_IOTLB_INVALIDATE = 3, VHOST_IOTLB_ACCESS_FAIL = 4 };

typedef struct VhostUserIotlb { /* struct vhost_iotlb_msg of the kernel */
    uint64_t iova, size, user_addr;
    uint8_t perm; /* as IOMMUAccessFlags */
    uint8_t type;
    uint8_t padding[6];
} VhostUserIotlb;

/* All return 0 or a negative errno, after which the connection is of no use. */
int protocol_connect(const char *path, unsigned timeout_ms, int *ret_fd);
int protocol_send(int fd, uint32_t request, uint32_t flags, const void *data, size_t size, const int *fds, size_t n_fds);
/* The answer to request, whose payload has to be size bytes long, unless ret_size: then at most that. */
int protocol_receive(int fd, uint32_t request, void *data, size_t size, size_t *ret_size);

/* What the back end asks, of at most size bytes. */
int protocol_receive_request(int fd, VhostUserHeader *ret_header, void *data, size_t size);

#endif
