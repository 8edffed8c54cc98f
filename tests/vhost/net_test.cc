/* SPDX-License-Identifier: MIT */
/*
 * net_test.cc - a network card behind an IOMMU, served by DPDK's testpmd, which sends back what it gets: packets land where
 * the IOMMU says, before and after it says something else.
 *
 * testpmd polls: it keeps a CPU busy while a test lasts. Its IOTLB begins cold, and it drops a packet for which it has to ask;
 * so a packet is sent until it comes back.
 */
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <flatview/accel/vhost_user.h>
#include <flatview/memory.h>

#include <gtest/gtest.h>

#include "vhost/disk.h"

namespace {

constexpr uint64_t PAGE = 4096, PAGES = 64, CARD_RAM = 16 << 20;
constexpr unsigned RX = 0, TX = 1, QUEUE_SIZE = 64, HEADER = 12, PAYLOAD = 200;
constexpr uint64_t FEATURES = uint64_t(1) << 32 | uint64_t(1) << 33; /* VERSION_1, ACCESS_PLATFORM */

/* An IOMMU of one table: page i of the device's addresses is page[i] of memory, or nothing. */
struct Iommu {
    MemoryRegion mr;
    AddressSpace *target;
    std::atomic<int64_t> page[PAGES];
};

Iommu *iommu_of(MemoryRegion *mr)
{
    return reinterpret_cast<Iommu *>(mr);
}

IOMMUTLBEntry translate(MemoryRegion *mr, hwaddr addr, IOMMUAccessFlags, unsigned)
{
    int64_t page = iommu_of(mr)->page[addr / PAGE];
    IOMMUTLBEntry entry = {};

    entry.target_as = iommu_of(mr)->target;
    entry.iova = addr & ~(PAGE - 1);
    entry.last = entry.iova + PAGE - 1;
    entry.translated_addr = hwaddr(page) * PAGE;
    entry.perm = page < 0 ? IOMMU_NONE : IOMMU_RW;
    return entry;
}

uint64_t now_ms()
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return uint64_t(t.tv_sec) * 1000 + uint64_t(t.tv_nsec) / 1000000;
}

class VhostUserNet : public testing::Test {
protected:
    void SetUp() override
    {
        static MemoryRegionIOMMUOps ops = {};
        char name[] = "/tmp/flatview-net-XXXXXX";

        ops.translate = translate;
        ASSERT_NE(mkdtemp(name), nullptr);
        folder = name;
        socket = folder + "/socket";
        ASSERT_EQ(memory_region_init(&root, "memory", UINT64_MAX), 0);
        ASSERT_EQ(memory_region_init_ram_memfd(&ram, "ram", CARD_RAM), 0);
        ASSERT_EQ(memory_region_add_subregion(&root, 0, &ram), 0);
        ASSERT_EQ(address_space_init(&memory, &root, "memory"), 0);
        ASSERT_EQ(memory_region_init_iommu(&iommu.mr, &ops, "iommu", PAGES * PAGE), 0);
        iommu.target = &memory;
        for (uint64_t i = 0; i < PAGES; i++) {
            iommu.page[i] = int64_t(1000 + 7 * i); /* far from where it seems to be */
        }
        ASSERT_EQ(address_space_init(&dma, &iommu.mr, "dma"), 0);
        for (unsigned q : {RX, TX}) {
            kick[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
            call[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        }
        start_testpmd();
        FlatviewVhostUserConfig config = {};
        config.path = socket.c_str();
        config.memory = &memory;
        config.dma = &dma;
        config.features = FEATURES;
        config.n_queues = 2;
        config.priority = MEMORY_LISTENER_PRIORITY_DEV_BACKEND;
        ASSERT_EQ(patiently([&] { return flatview_vhost_user_new(&config, &dev); }), 0);
        ASSERT_EQ(flatview_vhost_user_features(dev), FEATURES);
        start_queues();
    }

    void TearDown() override
    {
        if (dev) {
            EXPECT_EQ(flatview_vhost_user_free(dev), 0);
        }
        kill_testpmd();
        EXPECT_EQ(address_space_destroy(&dma, nullptr), 0);
        EXPECT_EQ(address_space_destroy(&memory, nullptr), 0);
        if (memory_region_get_parent(&ram)) {
            EXPECT_EQ(memory_region_del_subregion(&root, &ram), 0);
        }
        for (MemoryRegion *mr : {&iommu.mr, &ram, &root}) {
            EXPECT_EQ(memory_region_destroy(mr), 0);
            EXPECT_EQ(memory_region_quiesce(mr), 0);
        }
        for (unsigned q : {RX, TX}) {
            close(kick[q]);
            close(call[q]);
        }
        unlink(socket.c_str());
        rmdir(folder.c_str());
    }

    void start_testpmd()
    {
        std::string vdev = "net_vhost0,iface=" + socket + ",queues=1,iommu-support=1";
        std::string prefix = "flatview-" + std::to_string(getpid());

        unlink(socket.c_str());
        daemon = fork();
        if (daemon == 0) {
            int null = open("/dev/null", O_RDWR);

            prctl(PR_SET_PDEATHSIG, SIGKILL);
            dup2(null, 1);
            dup2(null, 2);
            execlp("dpdk-testpmd", "dpdk-testpmd", "--no-huge", "-m", "256", "--no-pci", "--iova-mode", "va", "-l", "0,1",
                   "--file-prefix", prefix.c_str(), "--vdev", vdev.c_str(), "--", "--auto-start", "--forward-mode=io",
                   "--port-topology=loop", "--total-num-mbufs=2048", "--no-mlockall", "--stats-period=3600",
                   static_cast<char *>(nullptr));
            _exit(127);
        }
        for (int i = 0; i < 6000 && access(socket.c_str(), F_OK) < 0; i++) {
            usleep(10000);
        }
        ASSERT_EQ(access(socket.c_str(), F_OK), 0) << "testpmd does not listen";
    }

    void kill_testpmd()
    {
        if (daemon > 0) {
            kill(daemon, SIGKILL);
            waitpid(daemon, nullptr, 0);
            daemon = -1;
        }
    }

    /* Device addresses: a page for each ring, then the buffers. */
    static hwaddr desc(unsigned q) { return q * 3 * PAGE; }
    static hwaddr avail(unsigned q) { return desc(q) + PAGE; }
    static hwaddr used(unsigned q) { return desc(q) + 2 * PAGE; }
    static constexpr hwaddr RX_BUFFER = 16 * PAGE, TX_BUFFER = 17 * PAGE;

    void start_queues()
    {
        for (unsigned q : {RX, TX}) {
            FlatviewVhostUserQueue queue = {};

            queue.size = QUEUE_SIZE;
            queue.desc = desc(q);
            queue.avail = avail(q);
            queue.used = used(q);
            queue.kick_fd = kick[q];
            queue.call_fd = call[q];
            ASSERT_EQ(flatview_vhost_user_start_queue(dev, q, &queue), 0);
        }
    }

    template <typename T> void put(hwaddr addr, T value)
    {
        ASSERT_EQ(address_space_write(&dma, addr, MEMTXATTRS_UNSPECIFIED, &value, sizeof(value)), MEMTX_OK);
    }

    uint16_t used_index(unsigned q)
    {
        uint16_t value = 0;

        EXPECT_EQ(address_space_lduw_le(&dma, used(q) + 2, MEMTXATTRS_UNSPECIFIED, &value), MEMTX_OK);
        return value;
    }

    struct Descriptor {
        uint64_t addr;
        uint32_t len;
        uint16_t flags, next;
    };

    void offer(unsigned q, hwaddr buffer, uint32_t bytes)
    {
        uint16_t slot = uint16_t(avail_index[q] % QUEUE_SIZE);

        put(desc(q) + 16 * hwaddr(slot), Descriptor{buffer, bytes, uint16_t(q == RX ? 2 : 0), 0});
        put(avail(q) + 4 + 2 * hwaddr(slot), slot);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        ASSERT_EQ(address_space_stw_le(&dma, avail(q) + 2, MEMTXATTRS_UNSPECIFIED, ++avail_index[q]), MEMTX_OK);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        uint64_t one = 1;
        ASSERT_EQ(write(kick[q], &one, sizeof(one)), ssize_t(sizeof(one)));
    }

    /* Sends packets of this content until one comes back. What was offered for receiving is used up by one that comes. */
    bool round_trip(uint8_t content)
    {
        std::vector<uint8_t> packet(HEADER + PAYLOAD, content);
        uint64_t until = now_ms() + 30000;

        memset(packet.data(), 0, HEADER);
        if (uint16_t(avail_index[RX] - used_index(RX)) == 0) {
            offer(RX, RX_BUFFER, 2048);
        }
        uint16_t before = used_index(RX);
        while (now_ms() < until) {
            if (uint16_t(avail_index[TX] - used_index(TX)) == 0) {
                EXPECT_EQ(address_space_write(&dma, TX_BUFFER, MEMTXATTRS_UNSPECIFIED, packet.data(), packet.size()), MEMTX_OK);
                offer(TX, TX_BUFFER, uint32_t(packet.size()));
            }
            if (used_index(RX) != before) {
                return true;
            }
            usleep(1000);
        }
        return false;
    }

    /* Until testpmd has nothing of ours in hand: more than one packet may have been on the way. */
    void let_it_rest()
    {
        uint64_t until = now_ms() + 30000;

        while (uint16_t(avail_index[TX] - used_index(TX)) && now_ms() < until) {
            usleep(1000);
        }
        usleep(20000);
    }

    bool page_holds(int64_t page, uint8_t content)
    {
        std::vector<uint8_t> got(PAYLOAD);

        return address_space_read(&memory, hwaddr(page) * PAGE + HEADER, MEMTXATTRS_UNSPECIFIED, got.data(), PAYLOAD) ==
                   MEMTX_OK &&
               got == std::vector<uint8_t>(PAYLOAD, content);
    }

    /* The way an IOMMU's driver does it: the table, then the invalidation. */
    void remap(hwaddr iova, int64_t page)
    {
        IOMMUTLBEvent event = {};

        iommu.page[iova / PAGE] = page;
        event.type = IOMMU_NOTIFIER_UNMAP;
        event.entry.iova = iova;
        event.entry.last = iova + PAGE - 1;
        event.entry.perm = IOMMU_NONE;
        ASSERT_EQ(memory_region_notify_iommu(&iommu.mr, 0, event), 0);
    }

    FlatviewVhostUserStats stats()
    {
        FlatviewVhostUserStats stats;

        flatview_vhost_user_get_stats(dev, &stats);
        return stats;
    }

    std::string folder, socket;
    MemoryRegion root, ram;
    Iommu iommu;
    AddressSpace memory, dma;
    FlatviewVhostUser *dev = nullptr;
    pid_t daemon = -1;
    int kick[2], call[2];
    uint16_t avail_index[2] = {0, 0};
};

TEST_F(VhostUserNet, PacketsLandWhereTheIommuSaysBeforeAndAfterARemap)
{
    ASSERT_TRUE(round_trip(0xa5));
    EXPECT_TRUE(page_holds(iommu.page[RX_BUFFER / PAGE], 0xa5));
    EXPECT_GT(stats().iotlb_misses, 0u);
    EXPECT_EQ(stats().iotlb_faults, 0u);
    for (int i = 1; i <= 5; i++) {
        int64_t old_page = iommu.page[RX_BUFFER / PAGE], new_page = 2000 + i;
        uint8_t content = uint8_t(0x10 * i), marker = 0xee;
        std::vector<uint8_t> blank(PAYLOAD, marker);

        let_it_rest();
        remap(RX_BUFFER, new_page);
        EXPECT_EQ(stats().iotlb_invalidations, unsigned(i));
        ASSERT_EQ(address_space_write(&memory, hwaddr(old_page) * PAGE + HEADER, MEMTXATTRS_UNSPECIFIED, blank.data(), PAYLOAD),
                  MEMTX_OK);
        ASSERT_TRUE(round_trip(content));
        ASSERT_TRUE(page_holds(new_page, content) || (round_trip(content) && page_holds(new_page, content)))
            << "one of before may have been on its way";
        EXPECT_TRUE(page_holds(old_page, marker)) << "nothing in the page that it was";
    }
    EXPECT_EQ(stats().disconnects, 0u);
}

TEST_F(VhostUserNet, MemoryIsPluggedAndPulledBehindTheIommu)
{
    int64_t home = iommu.page[RX_BUFFER / PAGE];
    MemoryRegion more;

    ASSERT_EQ(memory_region_init_ram_memfd(&more, "more", 1 << 20), 0);
    ASSERT_TRUE(round_trip(0x31));
    for (int i = 0; i < 4; i++) {
        uint8_t content = uint8_t(0x40 + i);

        let_it_rest();
        ASSERT_EQ(memory_region_add_subregion(&root, 0x40000000, &more), 0);
        remap(RX_BUFFER, 0x40000 + i);
        ASSERT_TRUE(round_trip(content));
        EXPECT_TRUE(page_holds(0x40000 + i, content) || (round_trip(content) && page_holds(0x40000 + i, content)));
        let_it_rest();
        remap(RX_BUFFER, home);
        ASSERT_EQ(memory_region_del_subregion(&root, &more), 0);
        ASSERT_TRUE(round_trip(uint8_t(content + 0x80)));
        EXPECT_TRUE(page_holds(home, uint8_t(content + 0x80)) ||
                    (round_trip(uint8_t(content + 0x80)) && page_holds(home, uint8_t(content + 0x80))));
    }
    EXPECT_EQ(stats().disconnects, 0u);
    ASSERT_EQ(memory_region_destroy(&more), 0);
    ASSERT_EQ(memory_region_quiesce(&more), 0);
}

TEST_F(VhostUserNet, WhatIsNotTranslatedIsNotReached)
{
    int64_t old_page;

    ASSERT_TRUE(round_trip(0x11));
    let_it_rest();
    old_page = iommu.page[RX_BUFFER / PAGE];
    remap(RX_BUFFER, -1);
    std::vector<uint8_t> packet(HEADER + PAYLOAD, 0x22);
    memset(packet.data(), 0, HEADER);
    if (uint16_t(avail_index[RX] - used_index(RX)) == 0) {
        offer(RX, RX_BUFFER, 2048);
    }
    ASSERT_EQ(address_space_write(&dma, TX_BUFFER, MEMTXATTRS_UNSPECIFIED, packet.data(), packet.size()), MEMTX_OK);
    uint64_t faults = stats().iotlb_faults, until = now_ms() + 30000;
    while (stats().iotlb_faults == faults && now_ms() < until) {
        if (uint16_t(avail_index[TX] - used_index(TX)) == 0) {
            offer(TX, TX_BUFFER, uint32_t(packet.size()));
        }
        usleep(1000);
    }
    EXPECT_GT(stats().iotlb_faults, faults) << "it asked, and there was no answer to give";
    EXPECT_FALSE(page_holds(old_page, 0x22));
    EXPECT_TRUE(stats().connected);
}

TEST(VhostUserIommu, NeedsABackEndThatCanAsk)
{
    MemoryRegion root;
    AddressSpace as;
    FlatviewVhostUserConfig config = {};
    FlatviewVhostUser *dev;

    ASSERT_EQ(memory_region_init(&root, "root", 4096), 0);
    ASSERT_EQ(address_space_init(&as, &root, "as"), 0);
    config.path = "/nonexistent/socket";
    config.memory = config.dma = &as;
    config.n_queues = 1;
    EXPECT_EQ(flatview_vhost_user_new(&config, &dev), -ENOENT) << "its thread ends, too";
    ASSERT_EQ(address_space_destroy(&as, nullptr), 0);
    EXPECT_EQ(memory_region_destroy(&root), 0);
    EXPECT_EQ(memory_region_quiesce(&root), 0);
}

} // namespace
