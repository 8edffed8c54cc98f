/* SPDX-License-Identifier: MIT */
/* Transactions: all or nothing, nested, staged, from any thread. */
#include "machine.h"

#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

namespace {

const char *const START = "1000-10ff a@0 2000-20ff b@0 3000-30ff c@0";

class Transaction : public Machine {};

TEST_F(Transaction, NothingIsVisibleBeforeTheOutermostCommit)
{
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(1u, memory_transaction_depth());
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x5000));
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_set_enabled(&dev[1].mr, false));
    ASSERT_EQ(0, memory_transaction_commit());
    EXPECT_EQ(START, text_of(&as));
    ASSERT_EQ(0, memory_transaction_commit());
    EXPECT_EQ("3000-30ff c@0 5000-50ff a@0", text_of(&as));
    EXPECT_EQ(0u, memory_transaction_depth());
}

TEST_F(Transaction, AbortPutsEverythingBack)
{
    uint64_t gen = generation_of(&as);
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x5000));
    ASSERT_EQ(0, memory_region_set_size(&dev[0].mr, 0x80));
    ASSERT_EQ(0, memory_region_set_readonly(&dev[0].mr, true));
    ASSERT_EQ(0, memory_region_set_nonvolatile(&dev[0].mr, true));
    ASSERT_EQ(0, memory_region_set_offset(&dev[0].mr, 7));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &dev[1].mr));
    ASSERT_EQ(0, memory_region_destroy(&dev[1].mr));
    ASSERT_EQ(0, memory_region_set_enabled(&dev[2].mr, false));
    memory_transaction_abort();
    EXPECT_EQ(START, text_of(&as));
    EXPECT_EQ(gen, generation_of(&as)) << "not even a new version";
    EXPECT_EQ(0x100u, memory_region_size(&dev[0].mr));
    EXPECT_FALSE(memory_region_is_readonly(&dev[0].mr));
    EXPECT_FALSE(memory_region_is_nonvolatile(&dev[0].mr));
    EXPECT_EQ(&root, memory_region_get_parent(&dev[1].mr));
    EXPECT_EQ(0, dev[1].released);
}

TEST_F(Transaction, ANestedAbortUndoesItsOwnPartOnly)
{
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x5000));
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x6000));
    ASSERT_EQ(0, memory_region_set_enabled(&dev[1].mr, false));
    memory_transaction_abort();
    ASSERT_EQ(0, memory_transaction_commit());
    EXPECT_EQ("2000-20ff b@0 3000-30ff c@0 5000-50ff a@0", text_of(&as));
}

TEST_F(Transaction, RemovalRestoresWhatLayBelow)
{
    Device low;
    device_init(&low, "low", 0x10000);
    ASSERT_EQ(0, memory_region_add_subregion_overlap(&root, 0, &low.mr, -1));
    EXPECT_EQ("0-fff low@0 1000-10ff a@0 1100-1fff low@1100 2000-20ff b@0 2100-2fff low@2100 3000-30ff c@0 "
              "3100-ffff low@3100",
              text_of(&as));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &dev[1].mr));
    EXPECT_EQ("0-fff low@0 1000-10ff a@0 1100-2fff low@1100 3000-30ff c@0 3100-ffff low@3100", text_of(&as));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &low.mr));
    ASSERT_EQ(0, memory_region_destroy(&low.mr));
    ASSERT_EQ(0, memory_region_quiesce(&low.mr));
    EXPECT_EQ(1, low.released);
}

TEST_F(Transaction, MovingKeepsThePlaceAmongEquals)
{
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x2080));
    EXPECT_EQ("2000-20ff b@0 2100-217f a@80 3000-30ff c@0", text_of(&as)) << "b was added after a";
    ASSERT_EQ(0, memory_region_set_address(&dev[2].mr, 0x20c0));
    EXPECT_EQ("2000-20bf b@0 20c0-21bf c@0", text_of(&as)) << "c was added after both";
}

TEST_F(Transaction, AStagedLookUpSeesTheNewMapAndOtherThreadsTheOld)
{
    MemoryRegionSection s;
    EXPECT_EQ(-EINVAL, address_space_find_staged(&as, 0x5000, &s)) << "without a transaction";
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x5000));
    ASSERT_EQ(1, address_space_find_staged(&as, 0x5010, &s));
    EXPECT_EQ(&dev[0].mr, s.mr);
    EXPECT_EQ(0x5000u, s.offset_within_address_space);
    EXPECT_EQ(0, address_space_find_staged(&as, 0x1000, &s));
    std::thread([&] {
        MemoryRegionSection other;
        EXPECT_EQ(-EINVAL, address_space_find_staged(&as, 0x5000, &other)) << "not its transaction";
        EXPECT_EQ(START, text_of(&as));
    }).join();
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x6000));
    EXPECT_EQ(0, address_space_find_staged(&as, 0x5010, &s)) << "staging goes on after a look-up";
    EXPECT_EQ(1, address_space_find_staged(&as, 0x6010, &s));
    ASSERT_EQ(0, memory_transaction_commit());
    EXPECT_EQ("2000-20ff b@0 3000-30ff c@0 6000-60ff a@0", text_of(&as));
}

TEST_F(Transaction, OtherWritersWait)
{
    std::atomic<bool> moved(false);
    ASSERT_EQ(0, memory_transaction_begin());
    std::thread other([&] {
        ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x7000));
        moved = true;
    });
    for (int i = 0; i < 100; i++) {
        std::this_thread::yield();
    }
    EXPECT_FALSE(moved);
    ASSERT_EQ(0, memory_region_set_address(&dev[1].mr, 0x8000));
    ASSERT_EQ(0, memory_transaction_commit());
    other.join();
    EXPECT_EQ("3000-30ff c@0 7000-70ff a@0 8000-80ff b@0", text_of(&as));
}

TEST_F(Transaction, MisuseIsAnErrorAndChangesNothing)
{
    MemoryRegion alias, never = {};
    uint64_t gen = generation_of(&as);
    ASSERT_EQ(0, memory_region_init_alias(&alias, "alias", &root, 0, 0x1000));
    EXPECT_EQ(-EINVAL, memory_transaction_commit());
    memory_transaction_abort();
    EXPECT_EQ(-EBUSY, memory_region_add_subregion(&root, 0, &dev[0].mr)) << "has a parent";
    EXPECT_EQ(-EINVAL, memory_region_add_subregion(&root, 0, &root));
    EXPECT_EQ(-EINVAL, memory_region_add_subregion(&root, 0, &never));
    EXPECT_EQ(-EINVAL, memory_region_add_subregion(&never, 0, &alias));
    EXPECT_EQ(-EINVAL, memory_region_add_subregion(&alias, 0, &dev[0].mr)) << "an alias shows its target, not children";
    EXPECT_EQ(-EINVAL, memory_region_del_subregion(&dev[0].mr, &root));
    EXPECT_EQ(-EINVAL, memory_region_set_alias_offset(&root, 1));
    EXPECT_EQ(-EINVAL, memory_region_rom_device_set_romd(&root, true));
    EXPECT_EQ(-EINVAL, memory_region_set_enabled(nullptr, true));
    EXPECT_EQ(-EBUSY, memory_region_destroy(&root));
    EXPECT_EQ(-EBUSY, memory_region_destroy(&dev[0].mr)) << "mapped";
    EXPECT_EQ(-EINVAL, memory_region_quiesce(&dev[0].mr)) << "not destroyed";
    EXPECT_EQ(gen, generation_of(&as));
    ASSERT_EQ(0, memory_region_destroy(&alias));
    EXPECT_EQ(-EINVAL, memory_region_destroy(&alias)) << "twice";
    ASSERT_EQ(0, memory_region_quiesce(&alias));
}

TEST_F(Transaction, ARegionIsReleasedOnlyWhenNoPinReachesIt)
{
    FlatView *pin = address_space_get_flatview(&as);
    ASSERT_EQ(0, memory_region_del_subregion(&root, &dev[0].mr));
    ASSERT_EQ(0, memory_region_destroy(&dev[0].mr));
    ASSERT_EQ(0, memory_reclaim());
    ASSERT_EQ(0, memory_reclaim());
    EXPECT_EQ(0, dev[0].released);
    EXPECT_EQ(START, text_of(pin)) << "and the pinned view still names it";
    flatview_unref(pin);
    ASSERT_EQ(0, memory_reclaim());
    ASSERT_EQ(0, memory_region_quiesce(&dev[0].mr));
    EXPECT_EQ(1, dev[0].released);
    device_init(&dev[0], "a", 0x100); /* for TearDown() */
}

TEST_F(Transaction, APinFromBeforeARegionWasShownDoesNotHoldIt)
{
    Device late;
    FlatView *pin = address_space_get_flatview(&as);
    device_init(&late, "late", 0x100);
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x9000, &late.mr));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &late.mr));
    ASSERT_EQ(0, memory_region_destroy(&late.mr));
    ASSERT_EQ(0, memory_region_quiesce(&late.mr));
    EXPECT_EQ(1, late.released);
    flatview_unref(pin);
}

TEST_F(Transaction, QuiesceInAReadSectionIsRefused)
{
    memory_read_begin();
    EXPECT_EQ(-EDEADLK, memory_region_quiesce(&dev[0].mr));
    EXPECT_EQ(-EDEADLK, memory_reclaim());
    EXPECT_EQ(0, memory_region_set_address(&dev[0].mr, 0x4000)) << "but a commit is not, and does not wait";
    memory_read_end();
    EXPECT_EQ("2000-20ff b@0 3000-30ff c@0 4000-40ff a@0", text_of(&as));
}

TEST_F(Transaction, DestroyGoesWithTheTransactionThatUnmaps)
{
    MemoryRegion alias;
    ASSERT_EQ(0, memory_region_init_alias(&alias, "alias", &dev[2].mr, 0, 0x100));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0xa000, &alias));
    EXPECT_EQ(-EBUSY, memory_region_destroy(&alias));
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_del_subregion(&root, &alias));
    EXPECT_EQ(-EBUSY, memory_region_destroy(&dev[2].mr)) << "mapped, and an alias's target";
    ASSERT_EQ(0, memory_region_del_subregion(&root, &dev[2].mr));
    ASSERT_EQ(0, memory_region_destroy(&alias));
    ASSERT_EQ(0, memory_region_destroy(&dev[2].mr)) << "its only alias goes in the same transaction";
    EXPECT_EQ(-EINVAL, memory_region_add_subregion(&root, 0, &alias)) << "it is going";
    memory_transaction_abort();
    EXPECT_EQ("1000-10ff a@0 2000-20ff b@0 3000-30ff c@0 a000-a0ff c@0", text_of(&as));
    ASSERT_EQ(0, memory_region_set_address(&alias, 0xb000)) << "the edge to its target is back";
    ASSERT_EQ(0, memory_region_set_enabled(&dev[2].mr, false));
    EXPECT_EQ("1000-10ff a@0 2000-20ff b@0", text_of(&as));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &alias));
    ASSERT_EQ(0, memory_region_destroy(&alias));
    ASSERT_EQ(0, memory_region_quiesce(&alias));
}

TEST_F(Transaction, LayersUponLayersAreRefusedInsteadOfRenderedForever)
{
    constexpr unsigned CHIPS = 8192, LAYERS = 4200; /* each layer is found to lie under 2 * CHIPS ranges */
    std::vector<MemoryRegion> chips(CHIPS), layers(LAYERS);
    std::string before = text_of(&as);
    ASSERT_EQ(0, memory_transaction_begin());
    for (unsigned i = 0; i < CHIPS; i++) {
        ASSERT_EQ(0, memory_region_init_io(&chips[i], device_ops(), "chip", 0x10));
        ASSERT_EQ(0, memory_region_add_subregion_overlap(&root, 0x100000 + 0x20 * i, &chips[i], 1));
    }
    for (auto &layer : layers) {
        ASSERT_EQ(0, memory_region_init_io(&layer, device_ops(), "layer", 0x20 * CHIPS));
        ASSERT_EQ(0, memory_region_add_subregion(&root, 0x100000, &layer));
    }
    EXPECT_EQ(-E2BIG, memory_transaction_commit());
    EXPECT_EQ(before, text_of(&as));
    for (auto all : {&chips, &layers}) {
        for (auto &mr : *all) {
            EXPECT_EQ(nullptr, memory_region_get_parent(&mr));
            ASSERT_EQ(0, memory_region_destroy(&mr));
        }
    }
    for (auto all : {&chips, &layers}) {
        for (auto &mr : *all) {
            ASSERT_EQ(0, memory_region_quiesce(&mr));
        }
    }
}

} // namespace
