/* SPDX-License-Identifier: MIT */
/*
 * disk.h - a machine with a disk that qemu-storage-daemon serves over vhost-user, and the little of a virtio-blk driver that
 * it takes to read and write it (virtio 1.2, sections 2.7 and 5.2).
 */
#ifndef FLATVIEW_TESTS_VHOST_DISK_H
#define FLATVIEW_TESTS_VHOST_DISK_H

#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include <flatview/accel/vhost_user.h>
#include <flatview/memory.h>

constexpr uint64_t RAM_SIZE = 8 << 20;
constexpr hwaddr DISK_DESC = 0x10000, DISK_AVAIL = 0x12000, DISK_USED = 0x13000, DISK_HEADER = 0x14000;
constexpr unsigned SECTOR = 512, DISK_SECTORS = 8192;

/* A socket has a name before anybody listens: what is refused so is tried again. */
template <typename Connect> int patiently(Connect connect)
{
    int err = connect();

    for (int i = 0; i < 3000 && err == -ECONNREFUSED; i++) {
        usleep(10000);
        err = connect();
    }
    return err;
}

class Disk {
public:
    Disk();
    ~Disk();
    Disk(const Disk &) = delete;

    void start_daemon();
    void kill_daemon();
    void start_queue(unsigned base = 0);
    int reconnect();

    /* One request: 0 and the device's status, or -ETIMEDOUT. buffer is guest-physical. */
    int transfer(bool write, uint64_t sector, hwaddr buffer, uint32_t bytes, uint8_t *ret_status, unsigned timeout_ms = 5000);
    /* The same in three parts. */
    void submit(bool write, uint64_t sector, hwaddr buffer, uint32_t bytes);
    bool wait_used(unsigned timeout_ms);
    uint8_t status();

    void fill(hwaddr addr, uint32_t bytes, uint32_t seed);  /* with a pattern */
    bool holds(hwaddr addr, uint32_t bytes, uint32_t seed);
    bool image_holds(uint64_t sector, uint32_t bytes, uint32_t seed); /* as the host sees the file */
    FlatviewVhostUserStats stats();
    int kick_fd() const { return kick; }

    hwaddr doorbell = 0; /* where to store the queue's number; 0: kick by hand */

    std::string folder, image, socket;
    MemoryRegion root, ram;
    AddressSpace memory;
    FlatviewVhostUser *dev = nullptr;

private:
    pid_t daemon = -1;
    int kick = -1, call = -1;
    uint16_t avail_index = 0;
};

#endif
