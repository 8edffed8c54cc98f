/* SPDX-License-Identifier: MIT */
/*
 * disk.cc - see disk.h.
 */
#include "vhost/disk.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

#include <gtest/gtest.h>

constexpr hwaddr DESC = DISK_DESC, AVAIL = DISK_AVAIL, USED = DISK_USED, HEADER = DISK_HEADER, STATUS = HEADER + 0x100;
constexpr unsigned QUEUE_SIZE = 64;
constexpr uint64_t VIRTIO_F_VERSION_1 = uint64_t(1) << 32;

Disk::Disk()
{
    char name[] = "/tmp/flatview-disk-XXXXXX";

    EXPECT_NE(mkdtemp(name), nullptr);
    folder = name;
    image = folder + "/image";
    socket = folder + "/socket";
    int fd = open(image.c_str(), O_RDWR | O_CREAT, 0600);
    EXPECT_EQ(ftruncate(fd, off_t(DISK_SECTORS) * SECTOR), 0);
    close(fd);

    EXPECT_EQ(memory_region_init(&root, "memory", UINT64_MAX), 0);
    EXPECT_EQ(memory_region_init_ram_memfd(&ram, "ram", RAM_SIZE), 0);
    EXPECT_EQ(memory_region_add_subregion(&root, 0, &ram), 0);
    EXPECT_EQ(address_space_init(&memory, &root, "memory"), 0);
    kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    start_daemon();
    FlatviewVhostUserConfig config = {};
    config.path = socket.c_str();
    config.memory = &memory;
    config.features = VIRTIO_F_VERSION_1;
    config.n_queues = 1;
    config.priority = MEMORY_LISTENER_PRIORITY_DEV_BACKEND;
    EXPECT_EQ(patiently([&] { return flatview_vhost_user_new(&config, &dev); }), 0);
}

Disk::~Disk()
{
    if (dev) {
        EXPECT_EQ(flatview_vhost_user_free(dev), 0);
    }
    kill_daemon();
    EXPECT_EQ(address_space_destroy(&memory, nullptr), 0);
    EXPECT_EQ(memory_region_del_subregion(&root, &ram), 0);
    for (MemoryRegion *mr : {&ram, &root}) {
        EXPECT_EQ(memory_region_destroy(mr), 0);
        EXPECT_EQ(memory_region_quiesce(mr), 0);
    }
    close(kick);
    close(call);
    unlink(image.c_str());
    unlink(socket.c_str());
    rmdir(folder.c_str());
}

void Disk::start_daemon()
{
    unlink(socket.c_str());
    daemon = fork();
    if (daemon == 0) {
        std::string blockdev = "driver=file,node-name=disk,filename=" + image;
        std::string exported = "type=vhost-user-blk,id=e,node-name=disk,addr.type=unix,addr.path=" + socket + ",writable=on";

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("qemu-storage-daemon", "qemu-storage-daemon", "--blockdev", blockdev.c_str(), "--export", exported.c_str(),
               static_cast<char *>(nullptr));
        _exit(127);
    }
    for (int i = 0; i < 3000 && access(socket.c_str(), F_OK) < 0; i++) {
        usleep(10000);
    }
    ASSERT_EQ(access(socket.c_str(), F_OK), 0) << "qemu-storage-daemon does not listen";
}

void Disk::kill_daemon()
{
    if (daemon > 0) {
        kill(daemon, SIGKILL);
        waitpid(daemon, nullptr, 0);
        daemon = -1;
    }
}

void Disk::start_queue(unsigned base)
{
    FlatviewVhostUserQueue queue = {};

    queue.size = QUEUE_SIZE;
    queue.base = base;
    queue.desc = DESC;
    queue.avail = AVAIL;
    queue.used = USED;
    queue.kick_fd = kick;
    queue.call_fd = call;
    ASSERT_EQ(flatview_vhost_user_start_queue(dev, 0, &queue), 0);
}

int Disk::reconnect()
{
    return patiently([&] { return flatview_vhost_user_reconnect(dev); });
}

template <typename T> static void put(AddressSpace *as, hwaddr addr, T value)
{
    ASSERT_EQ(address_space_write(as, addr, MEMTXATTRS_UNSPECIFIED, &value, sizeof(value)), MEMTX_OK);
}

struct Descriptor {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

void Disk::submit(bool write, uint64_t sector, hwaddr buffer, uint32_t bytes)
{
    struct { uint32_t type, reserved; uint64_t sector; } header = {write ? 1u : 0u, 0, sector};

    put(&memory, HEADER, header);
    put(&memory, STATUS, uint8_t(0xff));
    put(&memory, DESC, Descriptor{HEADER, sizeof(header), 1, 1});
    put(&memory, DESC + 16, Descriptor{buffer, bytes, uint16_t(write ? 1 : 3), 2});
    put(&memory, DESC + 32, Descriptor{STATUS, 1, 2, 0});
    put(&memory, AVAIL + 4 + 2 * (avail_index % QUEUE_SIZE), uint16_t(0));
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    ASSERT_EQ(address_space_stw_le(&memory, AVAIL + 2, MEMTXATTRS_UNSPECIFIED, ++avail_index), MEMTX_OK);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (doorbell) {
        ASSERT_EQ(address_space_stw_le(&memory, doorbell, MEMTXATTRS_UNSPECIFIED, 0), MEMTX_OK);
        return;
    }
    uint64_t one = 1;
    ASSERT_EQ(::write(kick, &one, sizeof(one)), ssize_t(sizeof(one)));
}

bool Disk::wait_used(unsigned timeout_ms)
{
    struct timespec begin, now;
    uint16_t used = 0;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (;;) {
        uint64_t events;
        struct pollfd wait = {call, POLLIN, 0};

        EXPECT_EQ(address_space_lduw_le(&memory, USED + 2, MEMTXATTRS_UNSPECIFIED, &used), MEMTX_OK);
        if (used == avail_index) {
            return true;
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
        if ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 > long(timeout_ms)) {
            return false;
        }
        if (poll(&wait, 1, 20) > 0 && read(call, &events, sizeof(events)) < 0) {
            return false;
        }
    }
}

uint8_t Disk::status()
{
    uint8_t value = 0xff;

    EXPECT_EQ(address_space_ldub(&memory, STATUS, MEMTXATTRS_UNSPECIFIED, &value), MEMTX_OK);
    return value;
}

int Disk::transfer(bool write, uint64_t sector, hwaddr buffer, uint32_t bytes, uint8_t *ret_status, unsigned timeout_ms)
{
    submit(write, sector, buffer, bytes);
    if (!wait_used(timeout_ms)) {
        return -ETIMEDOUT;
    }
    *ret_status = status();
    return 0;
}

static std::vector<uint32_t> pattern(uint32_t bytes, uint32_t seed)
{
    std::vector<uint32_t> words(bytes / 4);

    for (uint32_t &word : words) {
        seed = seed * 1664525 + 1013904223;
        word = seed;
    }
    return words;
}

void Disk::fill(hwaddr addr, uint32_t bytes, uint32_t seed)
{
    std::vector<uint32_t> words = pattern(bytes, seed);

    ASSERT_EQ(address_space_write(&memory, addr, MEMTXATTRS_UNSPECIFIED, words.data(), bytes), MEMTX_OK);
}

bool Disk::holds(hwaddr addr, uint32_t bytes, uint32_t seed)
{
    std::vector<uint32_t> words(bytes / 4);

    return address_space_read(&memory, addr, MEMTXATTRS_UNSPECIFIED, words.data(), bytes) == MEMTX_OK &&
           words == pattern(bytes, seed);
}

bool Disk::image_holds(uint64_t sector, uint32_t bytes, uint32_t seed)
{
    std::vector<uint32_t> words(bytes / 4);
    int fd = open(image.c_str(), O_RDONLY);
    ssize_t n = pread(fd, words.data(), bytes, off_t(sector * SECTOR));

    close(fd);
    return n == ssize_t(bytes) && words == pattern(bytes, seed);
}

FlatviewVhostUserStats Disk::stats()
{
    FlatviewVhostUserStats stats;

    flatview_vhost_user_get_stats(dev, &stats);
    return stats;
}
