/* SPDX-License-Identifier: MIT */
/* ioeventfds: what matches, who is told where, what is refused, and how long the file stays open. */
#include "machine.h"
#include "plane_mirror.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

namespace {

const MemTxAttrs attrs = MEMTXATTRS_UNSPECIFIED;

int new_eventfd()
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    EXPECT_GE(fd, 0);
    return fd;
}

/* How often it was kicked since it was asked last. */
uint64_t kicks(int fd)
{
    uint64_t n = 0;
    return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

class Eventfd : public Machine {
protected:
    void SetUp() override
    {
        Machine::SetUp();
        fd = new_eventfd();
    }

    void TearDown() override
    {
        close(fd);
        Machine::TearDown();
    }

    void reclaim_all()
    {
        MemoryStats stats;
        do {
            ASSERT_EQ(0, memory_reclaim());
            memory_get_stats(&stats);
        } while (stats.retired_bytes);
    }

    MemoryRegion *a() { return &dev[0].mr; }

    int fd;
};

TEST_F(Eventfd, AWriteThatMatchesIsAKickAndNoCallback)
{
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 0x10, 4, false, 0, fd));
    EXPECT_EQ(1u, memory_region_count_eventfds(a()));
    dev[0].written_at = 0xdead;
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x1010, attrs, 7));
    EXPECT_EQ(MEMTX_OK, address_space_stl_be(&as, 0x1010, attrs, 7));
    uint32_t word = 5;
    EXPECT_EQ(MEMTX_OK, address_space_write(&as, 0x1010, attrs, &word, 4));
    EXPECT_EQ(3u, kicks(fd));
    EXPECT_EQ(0xdeadu, dev[0].written_at);
    EXPECT_EQ(MEMTX_OK, address_space_stw_le(&as, 0x1010, attrs, 7)) << "another size";
    EXPECT_EQ(0x10u, dev[0].written_at);
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x1014, attrs, 7)) << "another address";
    EXPECT_EQ(0x14u, dev[0].written_at);
    uint32_t value;
    EXPECT_EQ(MEMTX_OK, address_space_ldl_le(&as, 0x1010, attrs, &value));
    EXPECT_EQ(0x10u, value) << "reads are not concerned";
    EXPECT_EQ(0u, kicks(fd));
    ASSERT_EQ(0, memory_region_del_eventfd(a(), 0x10, 4, false, 0, fd));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x1010, attrs, 7));
    EXPECT_EQ(0x10u, dev[0].written_at);
    EXPECT_EQ(0u, kicks(fd));
}

TEST_F(Eventfd, TheValueToMatchIsTheOneThatACallbackWouldGet)
{
    MemoryRegionOps big = *device_ops();
    Device d = {};
    int other = new_eventfd();
    big.endianness = MEMORY_BIG_ENDIAN;
    ASSERT_EQ(0, memory_region_init_io(&d.mr, &big, "big", 0x100));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x8000, &d.mr));
    for (MemoryRegion *mr : {a(), &d.mr}) {
        hwaddr at = mr == a() ? 0x1000 : 0x8000;
        for (unsigned size : {1, 2, 4, 8}) {
            uint64_t data = UINT64_C(0x8182838485868788) >> (64 - 8 * size);
            ASSERT_EQ(0, memory_region_add_eventfd(mr, 0x20, size, true, data, fd));
            ASSERT_EQ(0, memory_region_add_eventfd(mr, 0x20, size, true, 3, other)) << "the same place, another value";
            uint8_t bytes[8];
            for (unsigned i = 0; i < size; i++) { /* as the guest lays them out for this region */
                bytes[i] = (uint8_t)(data >> 8 * (mr == a() ? i : size - 1 - i));
            }
            EXPECT_EQ(MEMTX_OK, address_space_write(&as, at + 0x20, attrs, bytes, size));
            EXPECT_EQ(1u, kicks(fd)) << size;
            EXPECT_EQ(0u, kicks(other));
            bytes[0] ^= 1;
            EXPECT_EQ(MEMTX_OK, address_space_write(&as, at + 0x20, attrs, bytes, size));
            EXPECT_EQ(0u, kicks(fd));
            ASSERT_EQ(0, memory_region_del_eventfd(mr, 0x20, size, true, data, fd));
            ASSERT_EQ(0, memory_region_del_eventfd(mr, 0x20, size, true, 3, -1));
        }
    }
    EXPECT_EQ(MEMTX_OK, address_space_stl_be(&as, 0x8000, attrs, 0x01020304));
    close(other);
    ASSERT_EQ(0, memory_region_del_subregion(&root, &d.mr));
    ASSERT_EQ(0, memory_region_destroy(&d.mr));
    ASSERT_EQ(0, memory_region_quiesce(&d.mr));
}

TEST_F(Eventfd, OfAnySizeMatchesEverySizeAtItsAddressAlone)
{
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 0xff, 0, false, 0, fd));
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 0x40, 0, false, 0, fd));
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 0x4c, 0, false, 0, fd));
    EXPECT_EQ(MEMTX_OK, address_space_stb(&as, 0x1040, attrs, 1));
    EXPECT_EQ(MEMTX_OK, address_space_stw_le(&as, 0x1040, attrs, 1));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x1040, attrs, 1));
    EXPECT_EQ(MEMTX_OK, address_space_stq_le(&as, 0x1040, attrs, 1));
    EXPECT_EQ(MEMTX_OK, address_space_stb(&as, 0x10ff, attrs, 1)) << "the last byte";
    EXPECT_EQ(5u, kicks(fd));
    EXPECT_EQ(MEMTX_OK, address_space_stq_le(&as, 0x1048, attrs, 1)) << "begins before";
    EXPECT_EQ(0u, kicks(fd));
}

TEST_F(Eventfd, ComesBeforeWhatTheOpsSay)
{
    MemoryRegionOps narrow = *device_ops();
    Device d = {};
    narrow.valid.max_access_size = narrow.impl.max_access_size = 2;
    ASSERT_EQ(0, memory_region_init_io(&d.mr, &narrow, "narrow", 0x100));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x8000, &d.mr));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_stl_le(&as, 0x8001, attrs, 1));
    ASSERT_EQ(0, memory_region_add_eventfd(&d.mr, 1, 4, false, 0, fd)) << "neither size nor alignment is valid";
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x8001, attrs, 1));
    EXPECT_EQ(1u, kicks(fd));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &d.mr));
    ASSERT_EQ(0, memory_region_destroy(&d.mr));
    ASSERT_EQ(0, memory_region_quiesce(&d.mr));
}

TEST_F(Eventfd, AReservationMayConsistOfDoorbells)
{
    MemoryRegion doorbells;
    ASSERT_EQ(0, memory_region_init_reservation(&doorbells, "doorbells", 0x1000));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x8000, &doorbells));
    ASSERT_EQ(0, memory_region_add_eventfd(&doorbells, 4, 4, false, 0, fd));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x8004, attrs, 1));
    uint32_t words[3] = {1, 2, 3};
    EXPECT_EQ(MEMTX_OK, address_space_write(&as, 0x8004, attrs, words, 4));
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_write(&as, 0x8004, attrs, words, 12)) << "4 and 8 bytes";
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_stw_le(&as, 0x8004, attrs, 1));
    EXPECT_EQ(3u, kicks(fd));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &doorbells));
    ASSERT_EQ(0, memory_region_destroy(&doorbells));
    ASSERT_EQ(0, memory_region_quiesce(&doorbells));
}

TEST_F(Eventfd, BadInputIsNamedAndChangesNothing)
{
    MemoryRegion ram, alias;
    PlaneMirror mirror;
    plane_mirror_init(&mirror);
    ASSERT_EQ(0, memory_region_init_ram(&ram, "ram", 0x1000));
    ASSERT_EQ(0, memory_region_init_alias(&alias, "alias", a(), 0, 0x100));
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 0x10, 4, true, 1, fd));
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 0x20, 0, false, 0, fd));
    ASSERT_EQ(0, memory_listener_register(&mirror.listener, &as));
    auto before = mirror.eventfds;
    uint64_t gen = generation_of(&as);

    EXPECT_EQ(-EINVAL, memory_region_add_eventfd(nullptr, 0, 4, false, 0, fd));
    EXPECT_EQ(-EINVAL, memory_region_add_eventfd(&ram, 0, 4, false, 0, fd)) << "memory";
    EXPECT_EQ(-EINVAL, memory_region_add_eventfd(&root, 0, 4, false, 0, fd)) << "a container";
    EXPECT_EQ(-EINVAL, memory_region_add_eventfd(&alias, 0, 4, false, 0, fd)) << "an alias";
    EXPECT_EQ(-EINVAL, memory_region_add_eventfd(a(), 0, 3, false, 0, fd)) << "size 3";
    EXPECT_EQ(-EINVAL, memory_region_add_eventfd(a(), 0, 16, false, 0, fd));
    EXPECT_EQ(-EINVAL, memory_region_add_eventfd(a(), 0, 0, true, 0, fd)) << "a value of no size";
    EXPECT_EQ(-EINVAL, memory_region_add_eventfd(a(), 0, 1, true, 0x100, fd)) << "a value that no byte has";
    EXPECT_EQ(-EINVAL, memory_region_add_eventfds(a(), nullptr, 1));
    EXPECT_EQ(-ERANGE, memory_region_add_eventfd(a(), 0xfe, 4, false, 0, fd)) << "beyond the end";
    EXPECT_EQ(-ERANGE, memory_region_add_eventfd(a(), 0x100, 0, false, 0, fd));
    EXPECT_EQ(-ERANGE, memory_region_add_eventfd(a(), UINT64_MAX, 8, false, 0, fd));
    EXPECT_EQ(-EEXIST, memory_region_add_eventfd(a(), 0x10, 4, true, 1, fd)) << "the same";
    EXPECT_EQ(-EEXIST, memory_region_add_eventfd(a(), 0x10, 4, false, 0, fd)) << "any value";
    EXPECT_EQ(-EEXIST, memory_region_add_eventfd(a(), 0x10, 0, false, 0, fd)) << "any size";
    EXPECT_EQ(-EEXIST, memory_region_add_eventfd(a(), 0x20, 8, true, 4, fd)) << "a size where any matches";
    EXPECT_EQ(-EBADF, memory_region_add_eventfd(a(), 0x30, 4, false, 0, -1));
    int ro = open("/dev/null", O_RDONLY);
    EXPECT_EQ(-EBADF, memory_region_add_eventfd(a(), 0x30, 4, false, 0, ro)) << "not for writing";
    close(ro);
    EXPECT_EQ(-ENOENT, memory_region_del_eventfd(a(), 0x14, 4, true, 1, fd));
    EXPECT_EQ(-ENOENT, memory_region_del_eventfd(a(), 0x10, 4, true, 2, fd));
    EXPECT_EQ(-ENOENT, memory_region_del_eventfd(a(), 0x10, 4, true, 1, fd + 1)) << "of another file";
    EXPECT_EQ(-EINVAL, memory_region_del_eventfd(a(), 0x10, 3, false, 0, fd));
    const MemoryRegionEventfd some[] = {{0x50, 4, false, 0, fd}, {0x54, 4, false, 0, fd}, {0x50, 4, false, 0, fd}};
    EXPECT_EQ(-EEXIST, memory_region_add_eventfds(a(), some, 3)) << "one of a batch: none";

    EXPECT_EQ(before, mirror.eventfds);
    EXPECT_EQ(2u, memory_region_count_eventfds(a()));
    EXPECT_EQ(gen, generation_of(&as));
    EXPECT_EQ(1u, mirror.rounds) << "registration";
    EXPECT_EQ(0, memory_region_add_eventfds(a(), some, 2));
    EXPECT_EQ(4u, mirror.eventfds.size());
    EXPECT_EQ(0, memory_region_add_eventfds(a(), nullptr, 0));
    ASSERT_EQ(0, memory_listener_unregister(&mirror.listener));
    EXPECT_TRUE(mirror.eventfds.empty());
    ASSERT_EQ(0, memory_region_destroy(&alias));
    ASSERT_EQ(0, memory_region_destroy(&ram));
    ASSERT_EQ(0, memory_region_quiesce(&alias));
    ASSERT_EQ(0, memory_region_quiesce(&ram));
}

TEST_F(Eventfd, ListenersAreToldWhereTheWholeOfItIsVisible)
{
    PlaneMirror mirror;
    Device cover;
    plane_mirror_init(&mirror);
    device_init(&cover, "cover", 0x10);
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 0x10, 4, true, 9, fd));
    ASSERT_EQ(0, memory_listener_register(&mirror.listener, &as));
    EXPECT_EQ((std::set<PlaneEventfd>{PlaneEventfd(0x1010, 4, true, 9)}), mirror.eventfds) << "replay";
    EXPECT_NE(fd, mirror.fd) << "a duplicate";
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 0x20, 0, false, 0, fd));
    EXPECT_EQ(1u, mirror.eventfds.count(PlaneEventfd(0x1020, 0, false, 0)));
    ASSERT_EQ(0, memory_region_set_address(a(), 0x9000));
    EXPECT_EQ((std::set<PlaneEventfd>{PlaneEventfd(0x9010, 4, true, 9), PlaneEventfd(0x9020, 0, false, 0)}),
              mirror.eventfds)
        << "they follow";
    ASSERT_EQ(0, memory_region_add_subregion_overlap(&root, 0x9013, &cover.mr, 1));
    EXPECT_EQ((std::set<PlaneEventfd>{}), mirror.eventfds) << "covered in its last byte, and covered";
    ASSERT_EQ(0, memory_region_set_address(&cover.mr, 0x9014));
    EXPECT_EQ((std::set<PlaneEventfd>{PlaneEventfd(0x9010, 4, true, 9)}), mirror.eventfds);
    ASSERT_EQ(0, memory_region_set_enabled(&cover.mr, false));
    EXPECT_EQ(2u, mirror.eventfds.size());
    ASSERT_EQ(0, memory_region_set_size(a(), 0x12));
    EXPECT_EQ(0u, mirror.eventfds.size()) << "cut short";
    ASSERT_EQ(0, memory_region_set_size(a(), 0x100));
    EXPECT_EQ(2u, mirror.eventfds.size());
    ASSERT_EQ(0, memory_region_set_readonly(a(), true));
    EXPECT_EQ(0u, mirror.eventfds.size()) << "takes no writes";
    EXPECT_EQ(MEMTX_ACCESS_ERROR, address_space_stb(&as, 0x9020, attrs, 1));
    EXPECT_EQ(0u, kicks(fd));
    ASSERT_EQ(0, memory_region_set_readonly(a(), false));
    ASSERT_EQ(0, memory_region_set_enabled(a(), false));
    EXPECT_EQ(0u, mirror.eventfds.size()) << "gone with its region";
    ASSERT_EQ(0, memory_region_set_enabled(a(), true));
    EXPECT_EQ(2u, mirror.eventfds.size()) << "and back with it";
    ASSERT_EQ(0, memory_listener_unregister(&mirror.listener));
    EXPECT_EQ(0u, mirror.eventfds.size()) << "the inverse replay";
    EXPECT_EQ(0u, mirror.ranges.size());
    ASSERT_EQ(0, memory_region_del_subregion(&root, &cover.mr));
    ASSERT_EQ(0, memory_region_destroy(&cover.mr));
    ASSERT_EQ(0, memory_region_quiesce(&cover.mr));
}

TEST_F(Eventfd, ItIsToldForEveryPlaceThroughAliasesAndInEverySpace)
{
    MemoryRegion alias, bus;
    AddressSpace other = {};
    PlaneMirror mirror, theirs;
    plane_mirror_init(&mirror);
    plane_mirror_init(&theirs);
    ASSERT_EQ(0, memory_region_init_alias(&alias, "alias", &root, 0x1000, 0x1000));
    ASSERT_EQ(0, memory_region_init(&bus, "bus", UINT64_MAX));
    ASSERT_EQ(0, memory_region_add_subregion(&bus, 0x40000000, &alias));
    ASSERT_EQ(0, address_space_init(&other, &bus, "other"));
    ASSERT_EQ(0, memory_listener_register(&mirror.listener, &as));
    ASSERT_EQ(0, memory_listener_register(&theirs.listener, &other));
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 8, 2, false, 0, fd));
    EXPECT_EQ(1u, mirror.eventfds.count(PlaneEventfd(0x1008, 2, false, 0)));
    EXPECT_EQ(1u, theirs.eventfds.count(PlaneEventfd(0x40000008, 2, false, 0)));
    EXPECT_EQ(MEMTX_OK, address_space_stw_le(&other, 0x40000008, attrs, 1));
    EXPECT_EQ(1u, kicks(fd));
    ASSERT_EQ(0, memory_region_set_address(a(), 0x1800));
    EXPECT_EQ(1u, theirs.eventfds.count(PlaneEventfd(0x40000808, 2, false, 0)));
    ASSERT_EQ(0, memory_region_set_address(a(), 0x5000));
    EXPECT_EQ(0u, theirs.eventfds.size());
    EXPECT_EQ(1u, mirror.eventfds.count(PlaneEventfd(0x5008, 2, false, 0)));
    ASSERT_EQ(0, memory_listener_unregister(&mirror.listener));
    ASSERT_EQ(0, memory_listener_unregister(&theirs.listener));
    ASSERT_EQ(0, address_space_destroy(&other, nullptr));
    ASSERT_EQ(0, memory_region_del_subregion(&bus, &alias));
    for (auto mr : {&alias, &bus}) {
        ASSERT_EQ(0, memory_region_destroy(mr));
        ASSERT_EQ(0, memory_region_quiesce(mr));
    }
}

TEST_F(Eventfd, AMoveThereAndBackWithAnEditBetweenIsToldOnce)
{
    PlaneMirror mirror;
    plane_mirror_init(&mirror);
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 0, 4, false, 0, fd));
    ASSERT_EQ(0, memory_listener_register(&mirror.listener, &as));
    mirror.calls = 0;
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_set_address(a(), 0x5000));
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 4, 4, false, 0, fd));
    ASSERT_EQ(0, memory_region_del_eventfd(a(), 0, 4, false, 0, fd));
    ASSERT_EQ(0, memory_region_set_address(a(), 0x1000));
    ASSERT_EQ(0, memory_transaction_commit());
    EXPECT_EQ((std::set<PlaneEventfd>{PlaneEventfd(0x1004, 4, false, 0)}), mirror.eventfds);
    EXPECT_EQ(2u, mirror.calls);
    ASSERT_EQ(0, memory_listener_unregister(&mirror.listener));
}

TEST_F(Eventfd, AnEditMakesNoMapAndTellsNobodyElse)
{
    PlaneMirror mirror, deaf;
    plane_mirror_init(&mirror);
    plane_mirror_init(&deaf);
    deaf.listener.eventfd_add = nullptr;
    deaf.listener.eventfd_del = nullptr;
    deaf.listener.coalesced_io_add = nullptr;
    deaf.listener.coalesced_io_del = nullptr;
    ASSERT_EQ(0, memory_listener_register(&mirror.listener, &as));
    ASSERT_EQ(0, memory_listener_register(&deaf.listener, &as));
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 0, 4, false, 0, fd));
    FlatView *first = address_space_get_flatview(&as);
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 4, 4, false, 0, fd));
    EXPECT_EQ(flatview_generation(first), generation_of(&as)) << "only the first one makes threads look again";
    flatview_unref(first);
    EXPECT_EQ(3u, mirror.rounds);
    EXPECT_EQ(1u, deaf.rounds) << "registration";
    ASSERT_EQ(0, memory_region_set_enabled(a(), false));
    EXPECT_EQ(2u, deaf.rounds);
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 8, 4, false, 0, fd));
    EXPECT_EQ(4u, mirror.rounds) << "of what nobody sees nobody is told";
    ASSERT_EQ(0, memory_listener_unregister(&mirror.listener));
    ASSERT_EQ(0, memory_listener_unregister(&deaf.listener));
}

TEST_F(Eventfd, AbortsAndRefusalsPutBackWhatWasThere)
{
    PlaneMirror mirror;
    plane_mirror_init(&mirror);
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 0, 4, true, 1, fd));
    ASSERT_EQ(0, memory_listener_register(&mirror.listener, &as));
    auto before = mirror.eventfds;
    auto edit = [&](size_t others) {
        ASSERT_EQ(0, memory_region_del_eventfd(a(), 0, 4, true, 1, fd));
        ASSERT_EQ(0, memory_region_add_eventfd(a(), 0, 4, true, 2, fd));
        for (unsigned i = 1; i < 20; i++) {
            ASSERT_EQ(0, memory_region_add_eventfd(a(), i * 8, 4, false, 0, fd));
        }
        ASSERT_EQ(0, memory_region_del_eventfd(a(), 8, 4, false, 0, fd));
        EXPECT_EQ(19 + others, memory_region_count_eventfds(a()));
    };
    ASSERT_EQ(0, memory_transaction_begin());
    edit(0);
    memory_transaction_abort();
    EXPECT_EQ(1u, memory_region_count_eventfds(a()));
    EXPECT_EQ(before, mirror.eventfds);

    ASSERT_EQ(0, memory_transaction_begin());
    edit(0);
    mirror.refuse_with = -ENOSPC;
    EXPECT_EQ(-ENOSPC, memory_transaction_commit());
    mirror.refuse_with = 0;
    EXPECT_EQ(1u, mirror.n_old);
    EXPECT_EQ(19u, mirror.n_new);
    EXPECT_EQ(1u, memory_region_count_eventfds(a()));
    EXPECT_EQ(before, mirror.eventfds);
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x1000, attrs, 1));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x1000, attrs, 2));
    EXPECT_EQ(1u, kicks(fd));

    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 0x84, 4, false, 0, fd));
    ASSERT_EQ(0, memory_transaction_begin());
    edit(1);
    memory_transaction_abort();
    EXPECT_EQ(2u, memory_region_count_eventfds(a()));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x1084, attrs, 1));
    EXPECT_EQ(0u, kicks(fd)) << "not before the commit";
    ASSERT_EQ(0, memory_transaction_commit());
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x1084, attrs, 1));
    EXPECT_EQ(1u, kicks(fd));
    EXPECT_EQ(2u, mirror.eventfds.size());
    ASSERT_EQ(0, memory_transaction_begin());
    edit(1);
    ASSERT_EQ(0, memory_transaction_commit());
    EXPECT_EQ(20u, mirror.eventfds.size());
    ASSERT_EQ(0, memory_listener_unregister(&mirror.listener));
}

TEST_F(Eventfd, TheDuplicateIsOpenUntilEveryReaderHasLeft)
{
    PlaneMirror mirror;
    plane_mirror_init(&mirror);
    int mine = new_eventfd();
    ASSERT_EQ(0, memory_listener_register(&mirror.listener, &as));
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 0, 4, false, 0, mine));
    int theirs = mirror.fd;
    EXPECT_NE(0, fcntl(theirs, F_GETFD) & FD_CLOEXEC);
    EXPECT_EQ(0, dup2(mine, fd) - fd) << "fd reads what mine counts";
    close(mine);
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x1000, attrs, 1));
    EXPECT_EQ(1u, kicks(fd)) << "the caller closed its own";
    memory_read_begin();
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_del_eventfd(a(), 0, 4, false, 0, mine)) << "the number, though closed";
    EXPECT_TRUE(is_open(theirs));
    ASSERT_EQ(0, memory_transaction_commit());
    EXPECT_TRUE(mirror.eventfds.empty());
    EXPECT_TRUE(is_open(theirs)) << "a reader is inside";
    memory_read_end();
    reclaim_all();
    EXPECT_FALSE(is_open(theirs));

    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 0, 4, false, 0, fd));
    memory_transaction_abort();
    reclaim_all();
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 0, 4, false, 0, fd));
    ASSERT_EQ(0, memory_region_del_eventfd(a(), 0, 4, false, 0, fd));
    ASSERT_EQ(0, memory_transaction_commit());
    reclaim_all();
    int next = dup(fd);
    EXPECT_LE(next, theirs) << "no descriptor was lost";
    close(next);
    ASSERT_EQ(0, memory_listener_unregister(&mirror.listener));
}

TEST_F(Eventfd, ADestroyedRegionClosesItsFiles)
{
    Device d;
    int before = dup(fd);
    close(before);
    device_init(&d, "d", 0x100);
    for (unsigned i = 0; i < 16; i++) {
        ASSERT_EQ(0, memory_region_add_eventfd(&d.mr, i * 4, 4, false, 0, fd));
    }
    ASSERT_EQ(0, memory_region_destroy(&d.mr));
    ASSERT_EQ(0, memory_region_quiesce(&d.mr));
    int after = dup(fd);
    close(after);
    EXPECT_EQ(before, after);
}

TEST_F(Eventfd, AFullCounterIsAKickAndNeverBlocks)
{
    uint64_t most = UINT64_MAX - 1;
    int blocking = eventfd(0, 0);
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 0, 4, false, 0, fd));
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 4, 4, false, 0, blocking));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x1004, attrs, 1));
    EXPECT_EQ(1u, kicks(blocking));
    ASSERT_EQ((ssize_t)sizeof(most), write(fd, &most, sizeof(most)));
    ASSERT_EQ((ssize_t)sizeof(most), write(blocking, &most, sizeof(most)));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x1000, attrs, 1));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x1004, attrs, 1));
    EXPECT_EQ(most, kicks(fd));
    EXPECT_EQ(most, kicks(blocking));
    close(blocking);
    int pipes[2];
    ASSERT_EQ(0, pipe2(pipes, O_NONBLOCK | O_CLOEXEC));
    ASSERT_EQ(0, memory_region_add_eventfd(a(), 8, 4, false, 0, pipes[1]));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x1008, attrs, 1));
    close(pipes[0]);
    signal(SIGPIPE, SIG_IGN);
    EXPECT_EQ(MEMTX_ERROR, address_space_stl_le(&as, 0x1008, attrs, 1)) << "nobody reads it any more";
    signal(SIGPIPE, SIG_DFL);
    close(pipes[1]);
}

TEST_F(Eventfd, FromAListenerItIsRefusedAndFromACallbackItWorks)
{
    static int static_fd;
    static MemoryRegion *target;
    PlaneMirror mirror;
    plane_mirror_init(&mirror);
    static_fd = fd;
    target = a();
    mirror.listener.span_add = [](MemoryListener *, const MemorySpan *) {
        EXPECT_EQ(-EBUSY, memory_region_add_eventfd(target, 0, 4, false, 0, static_fd));
        EXPECT_EQ(0u, memory_region_count_eventfds(target));
    };
    ASSERT_EQ(0, memory_listener_register(&mirror.listener, &as));
    MemoryRegionOps ops = *device_ops();
    ops.write = [](MemoryRegion *, hwaddr, uint64_t, unsigned) {
        EXPECT_EQ(0, memory_region_add_eventfd(target, 0, 4, false, 0, static_fd));
    };
    Device d = {};
    ASSERT_EQ(0, memory_region_init_io(&d.mr, &ops, "d", 0x100));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x8000, &d.mr));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x8000, attrs, 1));
    EXPECT_EQ(1u, mirror.eventfds.size());
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, 0x1000, attrs, 1)) << "at once: the change is over (R3)";
    EXPECT_EQ(1u, kicks(fd));
    ASSERT_EQ(0, memory_listener_unregister(&mirror.listener));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &d.mr));
    ASSERT_EQ(0, memory_region_destroy(&d.mr));
    ASSERT_EQ(0, memory_region_quiesce(&d.mr));
}

} // namespace
