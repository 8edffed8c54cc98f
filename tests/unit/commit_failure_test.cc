/* SPDX-License-Identifier: MIT */
/*
 * Every allocation of every kind of change fails once, the first, the second, and so on until the change succeeds: each
 * failure must be -ENOMEM, with the tree, the views, the mirror and the amount of memory as they were.
 *
 * The library keeps some vectors from transaction to transaction; so each change is tried twice, the second time on a
 * machine whose vectors have been used, and memory is compared after a first failed round has filled them.
 */
#include <gtest/gtest.h>

#include <cerrno>
#include <functional>
#include <map>
#include <set>
#include <string>

#include <sys/eventfd.h>
#include <unistd.h>

#include <flatview/memory.h>

#include "api/machine.h"
#include "shim/mem_shim.h"
#include "unit/settled.h"

namespace {

struct Mirror {
    MemoryListener listener;
    std::map<hwaddr, std::pair<hwaddr, MemoryRegion *>> ranges;
    std::set<std::pair<hwaddr, int>> eventfds; /* and coalesced ranges, with minus their length */
    std::map<hwaddr, unsigned> masks; /* of the dirty log */
    int global;                       /* starts less stops */
    int balance; /* begins less commits and aborts */
};

Mirror *mirror_of(MemoryListener *l)
{
    return reinterpret_cast<Mirror *>(l);
}

class CommitFailure : public Machine {
protected:
    void SetUp() override
    {
        Machine::SetUp();
        ASSERT_EQ(0, memory_region_init(&bus, "bus", UINT64_MAX));
        ASSERT_EQ(0, memory_region_init_alias(&window, "window", &root, 0, UINT64_MAX));
        ASSERT_EQ(0, memory_region_add_subregion(&bus, 0, &window));
        ASSERT_EQ(0, address_space_init(&master, &bus, "master"));
        for (unsigned i = 0; i < 40; i++) { /* enough for a tree with inner nodes */
            device_init(&many[i], "m", 0x10);
            ASSERT_EQ(0, memory_region_add_subregion(&root, 0x10000 + i * 0x20u, &many[i].mr));
        }
        device_init(&spare, "spare", 0x8000);
        for (auto m : {&mirror, &mirror2}) {
            *m = Mirror();
            m->listener.begin = [](MemoryListener *l) { mirror_of(l)->balance++; };
            m->listener.prepare = [](MemoryListener *, const MemoryDelta *) { return 0; };
            m->listener.abort = [](MemoryListener *l, const MemoryDelta *) { mirror_of(l)->balance--; };
            m->listener.commit = [](MemoryListener *l) { mirror_of(l)->balance--; };
            m->listener.log_start = m->listener.log_stop = [](MemoryListener *l, const MemoryRegionSection *s, unsigned,
                                                              unsigned mask) {
                mirror_of(l)->masks[s->offset_within_address_space] = mask;
            };
            m->listener.log_global_start = [](MemoryListener *l) {
                mirror_of(l)->global++;
                return 0;
            };
            m->listener.log_global_stop = [](MemoryListener *l) { mirror_of(l)->global--; };
            m->listener.region_add = [](MemoryListener *l, const MemoryRegionSection *s) {
                mirror_of(l)->ranges[s->offset_within_address_space] = {s->last, s->mr};
            };
            m->listener.region_del = [](MemoryListener *l, const MemoryRegionSection *s) {
                EXPECT_EQ(1u, mirror_of(l)->ranges.erase(s->offset_within_address_space));
            };
            m->listener.coalesced_io_add = [](MemoryListener *l, const MemoryRegionSection *s, hwaddr addr, hwaddr len) {
                EXPECT_EQ(s->last, addr + (len - 1));
                EXPECT_TRUE(mirror_of(l)->eventfds.insert({addr, -(int)len}).second);
            };
            m->listener.coalesced_io_del = [](MemoryListener *l, const MemoryRegionSection *, hwaddr addr, hwaddr len) {
                EXPECT_EQ(1u, mirror_of(l)->eventfds.erase({addr, -(int)len}));
            };
            m->listener.eventfd_add = [](MemoryListener *l, const MemoryRegionSection *s, bool, uint64_t, int fd) {
                EXPECT_TRUE(mirror_of(l)->eventfds.insert({s->offset_within_address_space, fd}).second);
            };
            m->listener.eventfd_del = [](MemoryListener *l, const MemoryRegionSection *s, bool, uint64_t, int fd) {
                EXPECT_EQ(1u, mirror_of(l)->eventfds.erase({s->offset_within_address_space, fd}));
            };
        }
        ASSERT_EQ(0, memory_listener_register(&mirror.listener, &as));
        ASSERT_EQ(0, memory_listener_register(&mirror2.listener, &master));
    }

    void TearDown() override
    {
        ASSERT_EQ(0, memory_listener_unregister(&mirror.listener));
        ASSERT_EQ(0, memory_listener_unregister(&mirror2.listener));
        ASSERT_EQ(0, address_space_destroy(&master, nullptr));
        for (auto &m : many) {
            ASSERT_EQ(0, memory_region_del_subregion(&root, &m.mr));
            ASSERT_EQ(0, memory_region_destroy(&m.mr));
        }
        if (memory_region_get_parent(&spare.mr)) {
            ASSERT_EQ(0, memory_region_del_subregion(&root, &spare.mr));
        }
        ASSERT_EQ(0, memory_region_destroy(&spare.mr));
        ASSERT_EQ(0, memory_region_del_subregion(&bus, &window));
        ASSERT_EQ(0, memory_region_destroy(&window));
        ASSERT_EQ(0, memory_region_destroy(&bus));
        ASSERT_EQ(0, memory_region_quiesce(&window));
        ASSERT_EQ(0, memory_region_quiesce(&bus));
        ASSERT_EQ(0, memory_region_quiesce(&spare.mr));
        for (auto &m : many) {
            ASSERT_EQ(0, memory_region_quiesce(&m.mr));
        }
        Machine::TearDown();
    }

    std::string everything()
    {
        std::ostringstream out;
        out << text_of(&as) << "|" << text_of(&master) << "|" << generation_of(&as) << "|" << generation_of(&master);
        for (auto m : {&mirror, &mirror2}) {
            out << "|" << m->balance << " " << m->global;
            for (auto &e : m->masks) {
                out << " " << std::hex << e.first << "=" << e.second;
            }
            for (auto &e : m->eventfds) {
                out << " " << std::hex << e.first << ">" << e.second;
            }
            for (auto &r : m->ranges) {
                out << " " << std::hex << r.first << "-" << r.second.first << memory_region_name(r.second.second);
            }
        }
        return out.str();
    }

    /* change returns 0 or an error; undo takes a success back. Returns how many failures it took. */
    unsigned fail_everywhere(const std::function<int()> &change, const std::function<void()> &undo)
    {
        unsigned failures = 0;

        for (int sticky = 0; sticky < 2; sticky++) {
            std::string before = everything();
            uint64_t bytes = 0;
            for (unsigned nth = 1;; nth++) {
                mem_shim_fail_nth(nth, sticky);
                int err = change();
                mem_shim_fail_nth(0, false);
                if (err == 0) {
                    break;
                }
                failures++;
                EXPECT_EQ(-ENOMEM, err) << "allocation " << nth;
                EXPECT_EQ(before, everything()) << "allocation " << nth;
                EXPECT_EQ(0u, memory_transaction_depth());
                if (sticky) { /* by now the vectors that the library keeps have what they need */
                    EXPECT_EQ(bytes ? bytes : settled_bytes(), settled_bytes()) << "allocation " << nth;
                }
                bytes = settled_bytes();
                if (testing::Test::HasFailure() || nth > 10000) {
                    ADD_FAILURE() << "gave up";
                    return failures;
                }
            }
            EXPECT_NE(before, everything()) << "in the end it took place";
            undo();
        }
        return failures;
    }

    MemoryRegion bus, window;
    Device many[40], spare;
    AddressSpace master = {};
    Mirror mirror, mirror2;
};

TEST_F(CommitFailure, AddingARegion)
{
    EXPECT_GT(fail_everywhere([&] { return memory_region_add_subregion_overlap(&root, 0xf000, &spare.mr, -1); },
                              [&] { ASSERT_EQ(0, memory_region_del_subregion(&root, &spare.mr)); }),
              4u);
}

TEST_F(CommitFailure, MovingARegion)
{
    EXPECT_GT(fail_everywhere([&] { return memory_region_set_address(&many[20].mr, 0x9000000); },
                              [&] { ASSERT_EQ(0, memory_region_set_address(&many[20].mr, 0x10000 + 20 * 0x20)); }),
              4u);
}

TEST_F(CommitFailure, ATransactionOfMany)
{
    EXPECT_GT(fail_everywhere(
                  [&] {
                      int err = memory_transaction_begin();
                      if (err < 0) {
                          return err;
                      }
                      for (unsigned i = 0; i < 40 && err == 0; i += 3) {
                          err = memory_region_set_address(&many[i].mr, 0x800000 + i * 0x100);
                      }
                      if (err == 0) {
                          err = memory_region_del_subregion(&root, &dev[1].mr);
                      }
                      if (err == 0) {
                          err = memory_region_add_subregion(&root, 0x7000, &spare.mr);
                      }
                      if (err < 0) {
                          memory_transaction_abort();
                          return err;
                      }
                      return memory_transaction_commit();
                  },
                  [&] {
                      ASSERT_EQ(0, memory_transaction_begin());
                      for (unsigned i = 0; i < 40; i += 3) {
                          ASSERT_EQ(0, memory_region_set_address(&many[i].mr, 0x10000 + i * 0x20));
                      }
                      ASSERT_EQ(0, memory_region_add_subregion(&root, 0x2000, &dev[1].mr));
                      ASSERT_EQ(0, memory_region_del_subregion(&root, &spare.mr));
                      ASSERT_EQ(0, memory_transaction_commit());
                  }),
              6u);
}

TEST_F(CommitFailure, TurningASpaceToAViewOfItsOwn)
{
    EXPECT_GT(fail_everywhere([&] { return memory_region_set_alias_offset(&window, 0x1000); },
                              [&] { ASSERT_EQ(0, memory_region_set_alias_offset(&window, 0)); }),
              4u);
}

TEST_F(CommitFailure, AStagedLookUpThatFailsLeavesTheTransactionWhole)
{
    EXPECT_GT(fail_everywhere(
                  [&] {
                      int err = memory_transaction_begin();
                      MemoryRegionSection s;
                      if (err < 0) {
                          return err;
                      }
                      err = memory_region_set_address(&dev[0].mr, 0x5000);
                      if (err == 0) {
                          err = address_space_find_staged(&as, 0x5000, &s);
                          if (err == -ENOMEM) {
                              mem_shim_fail_nth(0, false);
                              EXPECT_EQ(1, address_space_find_staged(&as, 0x5000, &s)) << "asking again helps";
                              EXPECT_EQ(&dev[0].mr, s.mr);
                          }
                      }
                      if (err < 0) {
                          memory_transaction_abort();
                          return err;
                      }
                      return memory_transaction_commit();
                  },
                  [&] { ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x1000)); }),
              4u);
}

TEST_F(CommitFailure, MakingASpaceAndRegisteringAListener)
{
    AddressSpace late = {};
    Mirror third = {};
    unsigned failures = 0;

    for (unsigned nth = 1;; nth++) {
        std::string before = everything();
        mem_shim_fail_nth(nth, false);
        int err = address_space_init(&late, &bus, "late");
        mem_shim_fail_nth(0, false);
        EXPECT_EQ(before, everything());
        if (err == 0) {
            break;
        }
        failures++;
        ASSERT_EQ(-ENOMEM, err);
        ASSERT_EQ(-EINVAL, address_space_destroy(&late, nullptr));
    }
    EXPECT_GT(failures, 2u);
    third.listener = mirror.listener;
    third.listener.space = nullptr;
    third.listener.state = 0;
    third.listener.next = third.listener.prev = nullptr;
    for (unsigned nth = 1;; nth++) {
        mem_shim_fail_nth(nth, true);
        int err = memory_listener_register(&third.listener, &late);
        mem_shim_fail_nth(0, false);
        if (err == 0) {
            break;
        }
        ASSERT_EQ(-ENOMEM, err);
        ASSERT_EQ(0, third.balance);
        ASSERT_TRUE(third.ranges.empty());
    }
    EXPECT_EQ(third.ranges, mirror.ranges);
    mem_shim_fail_nth(1, true);
    EXPECT_EQ(0, memory_listener_unregister(&third.listener)) << "needs no memory";
    mem_shim_fail_nth(0, false);
    EXPECT_TRUE(third.ranges.empty());
    ASSERT_EQ(0, address_space_destroy(&late, nullptr));
}

TEST_F(CommitFailure, LoggingARegionAndResizingIt)
{
    MemoryRegion ram;
    uint64_t granule = 64;

    ASSERT_EQ(0, memory_region_init_resizeable_ram(&ram, "ram", 0x10000, 0x40000, nullptr));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x40000000, &ram));
    EXPECT_GT(fail_everywhere(
                  [&] {
                      int err = memory_transaction_begin();
                      if (err < 0) {
                          return err;
                      }
                      err = memory_region_set_dirty_granule(&ram, DIRTY_MEMORY_VGA, granule);
                      err = err ? err : memory_region_set_log(&ram, true, DIRTY_MEMORY_VGA);
                      err = err ? err : memory_region_ram_resize(&ram, 0x20000);
                      err = err ? err : memory_region_set_log(&ram, true, DIRTY_MEMORY_VGA);
                      if (err < 0) {
                          memory_transaction_abort();
                          return err;
                      }
                      return memory_transaction_commit();
                  },
                  [&] {
                      EXPECT_EQ(granule, memory_region_get_dirty_granule(&ram, DIRTY_MEMORY_VGA));
                      ASSERT_EQ(0, memory_region_set_log(&ram, false, DIRTY_MEMORY_VGA));
                      ASSERT_EQ(0, memory_region_set_log(&ram, false, DIRTY_MEMORY_VGA));
                      ASSERT_EQ(0, memory_region_ram_resize(&ram, 0x10000));
                      granule *= 2; /* so that the next one needs another bitmap */
                  }),
              6u);
    ASSERT_EQ(0, memory_region_del_subregion(&root, &ram));
    ASSERT_EQ(0, memory_region_destroy(&ram));
    ASSERT_EQ(0, memory_region_quiesce(&ram));
}

TEST_F(CommitFailure, LoggingAllRam)
{
    MemoryRegion ram[3];

    for (auto &r : ram) {
        ASSERT_EQ(0, memory_region_init_ram(&r, "ram", 0x10000));
        ASSERT_EQ(0, memory_region_add_subregion(&root, 0x40000000 + (hwaddr)(&r - ram) * 0x10000, &r));
    }
    EXPECT_GT(fail_everywhere([&] { return memory_global_dirty_log_start(GLOBAL_DIRTY_MIGRATION); },
                              [&] { ASSERT_EQ(0, memory_global_dirty_log_stop(GLOBAL_DIRTY_MIGRATION)); }),
              6u);
    ASSERT_EQ(0, memory_global_dirty_log_start(GLOBAL_DIRTY_MIGRATION));
    fail_everywhere([&] { return memory_global_dirty_log_stop(GLOBAL_DIRTY_MIGRATION); },
                    [&] { ASSERT_EQ(0, memory_global_dirty_log_start(GLOBAL_DIRTY_MIGRATION)); });
    mem_shim_fail_nth(1, true);
    MemoryRegion late;
    EXPECT_EQ(-ENOMEM, memory_region_init_ram(&late, "late", 0x1000));
    mem_shim_fail_nth(2, true);
    EXPECT_EQ(-ENOMEM, memory_region_init_ram(&late, "late", 0x1000)) << "no memory for its bitmap";
    mem_shim_fail_nth(0, false);
    ASSERT_EQ(0, memory_global_dirty_log_stop(GLOBAL_DIRTY_MIGRATION));
    for (auto &r : ram) {
        ASSERT_EQ(0, memory_region_del_subregion(&root, &r));
        ASSERT_EQ(0, memory_region_destroy(&r));
        ASSERT_EQ(0, memory_region_quiesce(&r));
    }
}

TEST_F(CommitFailure, AddingIoeventfds)
{
    int fd = eventfd(0, EFD_NONBLOCK), before = dup(fd);
    MemoryRegionEventfd some[12];
    close(before);
    for (unsigned i = 0; i < 12; i++) {
        some[i] = {i, 1, i % 2 != 0, i, fd};
    }
    EXPECT_GT(fail_everywhere([&] { return memory_region_add_eventfds(&many[7].mr, some, 12); },
                              [&] { ASSERT_EQ(0, memory_region_del_eventfds(&many[7].mr, some, 12)); }),
              12u);
    settled_bytes();
    EXPECT_EQ(before, dup(fd)) << "and no descriptor is left behind";
    close(before);
    close(fd);
}

TEST_F(CommitFailure, CoalescingAndWhatMovesWithIt)
{
    ASSERT_EQ(0, memory_region_add_coalescing(&many[9].mr, 0, 4));
    EXPECT_GT(fail_everywhere(
                  [&] {
                      int err = memory_transaction_begin();
                      if (err < 0) {
                          return err;
                      }
                      err = memory_region_set_coalescing(&many[9].mr);
                      err = err ? err : memory_region_add_coalescing(&many[10].mr, 4, 4);
                      err = err ? err : memory_region_set_address(&many[9].mr, 0x9000000);
                      if (err < 0) {
                          memory_transaction_abort();
                          return err;
                      }
                      return memory_transaction_commit();
                  },
                  [&] {
                      ASSERT_EQ(0, memory_region_set_address(&many[9].mr, 0x10000 + 9 * 0x20));
                      ASSERT_EQ(0, memory_region_clear_coalescing(&many[9].mr));
                      ASSERT_EQ(0, memory_region_add_coalescing(&many[9].mr, 0, 4));
                      ASSERT_EQ(0, memory_region_clear_coalescing(&many[10].mr));
                  }),
              6u);
}

TEST_F(CommitFailure, MovingWhatHasIoeventfds)
{
    int fd = eventfd(0, EFD_NONBLOCK);
    for (unsigned i = 0; i < 16; i += 4) {
        ASSERT_EQ(0, memory_region_add_eventfd(&many[7].mr, i, 4, false, 0, fd));
    }
    EXPECT_GT(fail_everywhere(
                  [&] {
                      int err = memory_transaction_begin();
                      if (err < 0) {
                          return err;
                      }
                      err = memory_region_set_address(&many[7].mr, 0x9000000);
                      err = err ? err : memory_region_del_eventfd(&many[7].mr, 4, 4, false, 0, fd);
                      err = err ? err : memory_region_add_eventfd(&many[8].mr, 4, 0, false, 0, fd);
                      if (err < 0) {
                          memory_transaction_abort();
                          return err;
                      }
                      return memory_transaction_commit();
                  },
                  [&] {
                      ASSERT_EQ(0, memory_region_set_address(&many[7].mr, 0x10000 + 7 * 0x20));
                      ASSERT_EQ(0, memory_region_add_eventfd(&many[7].mr, 4, 4, false, 0, fd));
                      ASSERT_EQ(0, memory_region_del_eventfd(&many[8].mr, 4, 0, false, 0, fd));
                  }),
              6u);
    close(fd);
}

TEST_F(CommitFailure, AbortNeedsNoMemory)
{
    std::string before = everything();
    MemoryRegionSection s;
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_set_alias_offset(&window, 0x1000));
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x5000));
    ASSERT_EQ(1, address_space_find_staged(&as, 0x5000, &s));
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_del_subregion(&root, &many[3].mr));
    mem_shim_fail_nth(1, true);
    memory_transaction_abort();
    memory_transaction_abort();
    mem_shim_fail_nth(0, false);
    EXPECT_EQ(before, everything());
}

TEST_F(CommitFailure, MakingRegions)
{
    MemoryRegion mr;
    const std::function<int()> inits[] = {
        [&] { return memory_region_init(&mr, "x", 1); },
        [&] { return memory_region_init_io(&mr, device_ops(), "x", 1); },
        [&] { return memory_region_init_ram(&mr, "x", 0x2000); },
        [&] { return memory_region_init_ram_memfd(&mr, "x", 0x2000); },
        [&] { return memory_region_init_rom(&mr, "x", 0x2000); },
        [&] { return memory_region_init_alias(&mr, "x", &root, 0, 0x2000); },
    };
    for (auto &init : inits) {
        unsigned failures = 0;
        for (unsigned nth = 1;; nth++) {
            uint64_t bytes = settled_bytes();
            mem_shim_fail_nth(nth, false);
            int err = init();
            mem_shim_fail_nth(0, false);
            if (err == 0) {
                break;
            }
            failures++;
            ASSERT_EQ(-ENOMEM, err);
            ASSERT_EQ(bytes, settled_bytes());
        }
        EXPECT_GE(failures, 1u);
        ASSERT_EQ(0, memory_region_destroy(&mr));
        ASSERT_EQ(0, memory_region_quiesce(&mr));
    }
}

TEST_F(CommitFailure, AnInterposer)
{
    static const MemoryInterposerOps ops = {
        [](MemoryRegion *, MemoryInterposed *access, hwaddr, uint64_t *data, unsigned, MemTxAttrs) {
            return memory_interposer_pass_read(access, data);
        },
        nullptr, MEMORY_LITTLE_ENDIAN};

    EXPECT_GT(fail_everywhere([&] { return memory_region_set_interposer(&root, &ops); },
                              [&] { ASSERT_EQ(0, memory_region_set_interposer(&root, nullptr)); }),
              4u);
}

TEST_F(CommitFailure, MemoryOfADevice)
{
    static uint64_t memory[0x20];
    MemoryRegion mr;

    ASSERT_EQ(0, memory_region_init_ram_device(&mr, nullptr, "bar", sizeof(memory)));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x4000, &mr));
    EXPECT_GT(fail_everywhere([&] { return memory_region_ram_device_set_ptr(&mr, memory, nullptr, nullptr); },
                              [&] { ASSERT_EQ(0, memory_region_ram_device_set_ptr(&mr, nullptr, nullptr, nullptr)); }),
              4u);
    ASSERT_EQ(0, memory_region_del_subregion(&root, &mr));
    ASSERT_EQ(0, memory_region_destroy(&mr));
    ASSERT_EQ(0, memory_region_quiesce(&mr));
}

TEST_F(CommitFailure, ASearchForAddresses)
{
    auto count = [](AddressSpace *, const MemoryRegionSection *, void *arg) { return ++*static_cast<int *>(arg), 0; };
    int found = 0;

    mem_shim_fail_nth(1, true);
    EXPECT_EQ(-ENOMEM, memory_region_for_each_address(&many[3].mr, 0, 1, count, &found));
    mem_shim_fail_nth(0, false);
    EXPECT_EQ(0, found);
    EXPECT_EQ(0, memory_region_for_each_address(&many[3].mr, 0, 1, count, &found));
    EXPECT_EQ(2, found);
}

TEST_F(CommitFailure, AttributesOfCalls)
{
    static MemoryLock lock = {nullptr, [](MemoryLock *) { return true; }, [](MemoryLock *) {}};
    MemoryRegion *mr = &many[20].mr;

    EXPECT_GT(fail_everywhere([&] { return memory_region_set_reentrancy(mr, MEMORY_REENTRANCY_REFUSE); },
                              [&] { ASSERT_EQ(0, memory_region_set_reentrancy(mr, MEMORY_REENTRANCY_ALLOW)); }),
              1u);
    EXPECT_GT(fail_everywhere([&] { return memory_region_set_lock(mr, &lock); },
                              [&] { ASSERT_EQ(0, memory_region_set_lock(mr, nullptr)); }),
              1u);
    EXPECT_GT(fail_everywhere([&] { return memory_region_set_counted(mr, true); },
                              [&] { ASSERT_EQ(0, memory_region_set_counted(mr, false)); }),
              1u);
    EXPECT_EQ(nullptr, memory_region_get_lock(mr));
}

} // namespace
