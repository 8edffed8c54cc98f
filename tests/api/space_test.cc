/* SPDX-License-Identifier: MIT */
/* Address spaces: which view each sees, and who shares one. */
#include "machine.h"

#include <cerrno>
#include <cstring>
#include <memory>
#include <sched.h>

namespace {

class Space : public Machine {
protected:
    bool share(AddressSpace *x, AddressSpace *y)
    {
        memory_read_begin();
        bool same = address_space_current(x) == address_space_current(y);
        memory_read_end();
        return same;
    }
};

TEST_F(Space, RootsThatShowTheSameShareOneView)
{
    MemoryRegion bus, window;
    AddressSpace direct = {}, master = {};
    ASSERT_EQ(0, address_space_init(&direct, &root, "direct"));
    EXPECT_TRUE(share(&as, &direct));
    ASSERT_EQ(0, memory_region_init(&bus, "bus master container", UINT64_MAX));
    ASSERT_EQ(0, memory_region_init_alias(&window, "bus master", &root, 0, UINT64_MAX));
    ASSERT_EQ(0, memory_region_set_enabled(&window, false));
    ASSERT_EQ(0, memory_region_add_subregion(&bus, 0, &window));
    ASSERT_EQ(0, address_space_init(&master, &bus, "dev"));
    EXPECT_EQ("", text_of(&master));
    ASSERT_EQ(0, memory_region_set_enabled(&window, true));
    EXPECT_TRUE(share(&as, &master)) << "through the container and the alias";
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x5000));
    EXPECT_TRUE(share(&as, &master));
    EXPECT_EQ(text_of(&as), text_of(&master));
    ASSERT_EQ(0, memory_region_set_alias_offset(&window, 0x1000));
    EXPECT_FALSE(share(&as, &master));
    EXPECT_EQ("1000-10ff b@0 2000-20ff c@0 4000-40ff a@0", text_of(&master));
    ASSERT_EQ(0, memory_region_set_alias_offset(&window, 0));
    EXPECT_TRUE(share(&as, &master));
    ASSERT_EQ(0, memory_region_set_enabled(&window, false));
    EXPECT_EQ("", text_of(&master));
    ASSERT_EQ(0, address_space_destroy(&master, nullptr));
    ASSERT_EQ(0, address_space_destroy(&direct, nullptr));
    ASSERT_EQ(0, memory_region_del_subregion(&bus, &window));
    ASSERT_EQ(0, memory_region_destroy(&window));
    ASSERT_EQ(0, memory_region_destroy(&bus));
    ASSERT_EQ(0, memory_region_quiesce(&window));
    ASSERT_EQ(0, memory_region_quiesce(&bus));
}

// What is known of the ways up from a root (dirty.c skips those that lead to nobody else) must be found out again when one of
// them becomes a way to somebody.
TEST_F(Space, ABusThatComesToBeSeenElsewhereShowsLaterChangesThere)
{
    MemoryRegion bus, window, top, peek;
    Device extra;
    AddressSpace master = {}, spy = {};
    ASSERT_EQ(0, memory_region_init(&bus, "bus", UINT64_MAX));
    ASSERT_EQ(0, memory_region_init_alias(&window, "window", &root, 0, UINT64_MAX));
    ASSERT_EQ(0, memory_region_add_subregion(&bus, 0, &window));
    ASSERT_EQ(0, address_space_init(&master, &bus, "master"));
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x5000));
    EXPECT_TRUE(share(&as, &master));

    // through an alias of the bus, shifted, in a container with something else
    ASSERT_EQ(0, memory_region_init(&top, "top", UINT64_MAX));
    device_init(&extra, "extra", 0x10);
    ASSERT_EQ(0, memory_region_add_subregion(&top, 0, &extra.mr));
    ASSERT_EQ(0, memory_region_init_alias(&peek, "peek", &bus, 0x1000, 0x8000));
    ASSERT_EQ(0, memory_region_add_subregion(&top, 0x10000, &peek));
    ASSERT_EQ(0, address_space_init(&spy, &top, "spy"));
    EXPECT_EQ("0-f extra@0 11000-110ff b@0 12000-120ff c@0 14000-140ff a@0", text_of(&spy));
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x1000));
    EXPECT_EQ("0-f extra@0 10000-100ff a@0 11000-110ff b@0 12000-120ff c@0", text_of(&spy));
    EXPECT_EQ("1000-10ff a@0 2000-20ff b@0 3000-30ff c@0", text_of(&master));

    // no more through that, but as a child
    ASSERT_EQ(0, memory_region_del_subregion(&top, &peek));
    ASSERT_EQ(0, memory_region_destroy(&peek));
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x5000));
    EXPECT_EQ("0-f extra@0", text_of(&spy));
    ASSERT_EQ(0, memory_region_add_subregion(&top, 0x100000, &bus));
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x1000));
    EXPECT_EQ("0-f extra@0 101000-1010ff a@0 102000-1020ff b@0 103000-1030ff c@0", text_of(&spy));
    ASSERT_EQ(0, memory_region_del_subregion(&top, &bus));
    ASSERT_EQ(0, address_space_destroy(&spy, nullptr));

    // in one transaction: a neighbour parts the view of the bus from the root's, and the root changes before and after
    ASSERT_EQ(0, memory_region_set_address(&bus, 0));
    ASSERT_EQ(0, memory_region_del_subregion(&top, &extra.mr));
    EXPECT_TRUE(share(&as, &master));
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x6000));
    ASSERT_EQ(0, memory_region_add_subregion_overlap(&bus, 0x2000, &extra.mr, 1));
    ASSERT_EQ(0, memory_region_set_address(&dev[2].mr, 0x7000));
    ASSERT_EQ(0, memory_transaction_commit());
    EXPECT_EQ("2000-200f extra@0 2010-20ff b@10 6000-60ff a@0 7000-70ff c@0", text_of(&master));
    EXPECT_EQ("2000-20ff b@0 6000-60ff a@0 7000-70ff c@0", text_of(&as));
    ASSERT_EQ(0, memory_region_set_address(&dev[2].mr, 0x8000));
    EXPECT_EQ("2000-200f extra@0 2010-20ff b@10 6000-60ff a@0 8000-80ff c@0", text_of(&master));

    ASSERT_EQ(0, address_space_destroy(&master, nullptr));
    ASSERT_EQ(0, memory_region_del_subregion(&bus, &extra.mr));
    ASSERT_EQ(0, memory_region_del_subregion(&bus, &window));
    for (MemoryRegion *mr : {&extra.mr, &window, &bus, &top}) {
        ASSERT_EQ(0, memory_region_destroy(mr));
        ASSERT_EQ(0, memory_region_quiesce(mr));
    }
    ASSERT_EQ(1, extra.released);
}

// Both places of a region that moves are followed upward together, until a bus or an alias shows only one of them.
TEST_F(Space, AMoveIsSeenWhereverOneOfItsTwoPlacesIs)
{
    MemoryRegion bus, top, near, far;
    AddressSpace peeking = {};
    Device moving, beside;
    device_init(&moving, "m", 0x100);
    device_init(&beside, "z", 0x100);
    ASSERT_EQ(0, memory_region_init(&bus, "bus", 0x10000));
    ASSERT_EQ(0, memory_region_init(&top, "top", UINT64_MAX));
    ASSERT_EQ(0, memory_region_init_alias(&near, "near", &root, 0x100000, 0x5000));
    ASSERT_EQ(0, memory_region_init_alias(&far, "far", &bus, 0x8000, 0x8000));
    ASSERT_EQ(0, memory_region_add_subregion(&bus, 0x1000, &moving.mr));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x100000, &bus));
    ASSERT_EQ(0, memory_region_add_subregion(&top, 0x10000, &near));
    ASSERT_EQ(0, memory_region_add_subregion(&top, 0x20000, &far));
    ASSERT_EQ(0, memory_region_add_subregion(&top, 0x90000, &beside.mr));
    ASSERT_EQ(0, address_space_init(&peeking, &top, "peeking"));

    const std::string still = "1000-10ff a@0 2000-20ff b@0 3000-30ff c@0", z = "90000-900ff z@0";
    struct {
        hwaddr to;
        std::string seen, peeked;
    } moves[] = {
        {0x1800, " 101800-1018ff m@0", "11800-118ff m@0 "}, /* both by one alias */
        {0x9000, " 109000-1090ff m@0", "21000-210ff m@0 "}, /* each by another */
        {0x6000, " 106000-1060ff m@0", ""},                 /* only the old place */
        {0x4f80, " 104f80-10507f m@0", "14f80-14fff m@0 "}, /* half of the new one */
        {0xff80, " 10ff80-10ffff m@0", "27f80-27fff m@0 "}, /* the bus clips it */
        {0x20000, "", ""},                                  /* beyond the bus */
        {UINT64_MAX - 0x7f, "", ""},
        {0x7f80, " 107f80-10807f m@0", "20000-2007f m@80 "},
        {0x1000, " 101000-1010ff m@0", "11000-110ff m@0 "},
    };
    for (const auto &move : moves) {
        ASSERT_EQ(0, memory_region_set_address(&moving.mr, move.to));
        EXPECT_EQ(still + move.seen, text_of(&as)) << std::hex << move.to;
        EXPECT_EQ(move.peeked + z, text_of(&peeking)) << std::hex << move.to;
    }
    ASSERT_EQ(0, memory_region_set_enabled(&near, false));
    ASSERT_EQ(0, memory_region_set_address(&moving.mr, 0x1400));
    EXPECT_EQ(z, text_of(&peeking));
    ASSERT_EQ(0, memory_region_set_enabled(&near, true));
    EXPECT_EQ("11400-114ff m@0 " + z, text_of(&peeking));

    ASSERT_EQ(0, address_space_destroy(&peeking, nullptr));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &bus));
    ASSERT_EQ(0, memory_region_del_subregion(&bus, &moving.mr));
    for (MemoryRegion *mr : {&near, &far, &beside.mr}) {
        ASSERT_EQ(0, memory_region_del_subregion(&top, mr));
    }
    for (MemoryRegion *mr : {&near, &far, &beside.mr, &moving.mr, &bus, &top}) {
        ASSERT_EQ(0, memory_region_destroy(mr));
    }
    for (MemoryRegion *mr : {&near, &far, &beside.mr, &moving.mr, &bus, &top}) {
        ASSERT_EQ(0, memory_region_quiesce(mr));
    }
}

TEST_F(Space, ASecondChildBesideAnOnlyOneKeepsTheView)
{
    MemoryRegion top;
    Device late;
    AddressSpace over = {};
    ASSERT_EQ(0, memory_region_init(&top, "top", UINT64_MAX));
    ASSERT_EQ(0, address_space_destroy(&as, nullptr));
    ASSERT_EQ(0, memory_region_add_subregion(&top, 0, &root));
    ASSERT_EQ(0, address_space_init(&over, &top, "over"));
    FlatView *before = address_space_get_flatview(&over);
    EXPECT_EQ(&root, flatview_root(before)) << "the only child stands for the container";
    device_init(&late, "late", 0x10);
    ASSERT_EQ(0, memory_region_add_subregion_overlap(&top, 0x2000, &late.mr, 1));
    EXPECT_EQ("1000-10ff a@0 2000-200f late@0 2010-20ff b@10 3000-30ff c@0", text_of(&over));
    FlatView *after = address_space_get_flatview(&over);
    EXPECT_EQ(&top, flatview_root(after));
    int differences = 0;
    flatview_diff(
        before, after,
        [](const MemoryRegionSection *, const MemoryRegionSection *, void *arg) { return ++*(int *)arg, 0; },
        &differences);
    EXPECT_EQ(3, differences) << "b before, late and b after: nothing else was rendered anew";
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_del_subregion(&top, &late.mr));
    MemoryRegionSection s;
    ASSERT_EQ(1, address_space_find_staged(&over, 0x2000, &s));
    EXPECT_EQ(&dev[1].mr, s.mr);
    memory_transaction_abort();
    EXPECT_EQ("1000-10ff a@0 2000-200f late@0 2010-20ff b@10 3000-30ff c@0", text_of(&over));
    ASSERT_EQ(0, memory_region_del_subregion(&top, &late.mr));
    EXPECT_EQ("1000-10ff a@0 2000-20ff b@0 3000-30ff c@0", text_of(&over));
    flatview_unref(before);
    flatview_unref(after);
    ASSERT_EQ(0, address_space_destroy(&over, nullptr));
    ASSERT_EQ(0, memory_region_del_subregion(&top, &root));
    ASSERT_EQ(0, memory_region_destroy(&top));
    ASSERT_EQ(0, memory_region_destroy(&late.mr));
    ASSERT_EQ(0, memory_region_quiesce(&top));
    ASSERT_EQ(0, memory_region_quiesce(&late.mr));
    ASSERT_EQ(0, address_space_init(&as, &root, "memory")); /* for TearDown() */
}

TEST_F(Space, SubstitutionNeverChangesWhatIsSeen)
{
    MemoryRegion bus, window, attic;
    AddressSpace other = {};
    ASSERT_EQ(0, memory_region_init(&bus, "bus", UINT64_MAX));
    ASSERT_EQ(0, memory_region_init(&attic, "attic", UINT64_MAX));
    ASSERT_EQ(0, memory_region_init_alias(&window, "window", &dev[0].mr, 0, UINT64_MAX));
    ASSERT_EQ(0, memory_region_add_subregion(&bus, 0, &window));
    ASSERT_EQ(0, address_space_init(&other, &bus, "other"));
    EXPECT_EQ("0-ff a@0", text_of(&other)) << "not at the offset that a has in root";
    ASSERT_EQ(0, memory_region_set_readonly(&window, true));
    EXPECT_EQ("0-ff a@0r", text_of(&other)) << "what the alias adds is not dropped";
    ASSERT_EQ(0, address_space_destroy(&other, nullptr));
    ASSERT_EQ(0, memory_region_del_subregion(&bus, &window));
    ASSERT_EQ(0, memory_region_destroy(&window));
    ASSERT_EQ(0, memory_region_destroy(&bus));
    ASSERT_EQ(0, memory_region_destroy(&attic));
    ASSERT_EQ(0, memory_region_quiesce(&window));
    ASSERT_EQ(0, memory_region_quiesce(&bus));
    ASSERT_EQ(0, memory_region_quiesce(&attic));
}

TEST_F(Space, InitInsideATransactionAppearsAtCommitAndVanishesAtAbort)
{
    AddressSpace late = {};
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, address_space_init(&late, &root, "late"));
    EXPECT_EQ("", text_of(&late));
    EXPECT_EQ(-EBUSY, address_space_destroy(&late, nullptr)) << "not inside a transaction";
    ASSERT_EQ(0, memory_transaction_commit());
    EXPECT_EQ(text_of(&as), text_of(&late));
    ASSERT_EQ(0, address_space_destroy(&late, nullptr));

    AddressSpace never = {};
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, address_space_init(&never, &root, "never"));
    MemoryRegionSection s;
    EXPECT_EQ(1, address_space_find_staged(&never, 0x1000, &s));
    memory_transaction_abort();
    EXPECT_EQ(-EINVAL, address_space_destroy(&never, nullptr));
    int spaces = 0;
    address_space_foreach([](AddressSpace *, void *arg) { return ++*(int *)arg, 0; }, &spaces);
    EXPECT_EQ(1, spaces);
}

/* A change shown in more ways than a walk follows marks every view, also one that all spaces left in this transaction. */
TEST_F(Space, AViewLeftAndFoundAgainInATransactionKnowsWhatChangedMeanwhile)
{
    enum { DEEP = 140 }; /* more than REGION_WALK_BRANCHES */
    static MemoryRegion top, between, bottom, level[DEEP], window[DEEP];
    Device leaf, beside;
    AddressSpace late = {};
    MemoryRegionSection s;
    ASSERT_EQ(0, memory_region_init(&top, "top", 0x10000));
    ASSERT_EQ(0, memory_region_init(&between, "between", 0x10000));
    ASSERT_EQ(0, memory_region_init(&bottom, "bottom", 0x10000));
    device_init(&leaf, "leaf", 0x10);
    device_init(&beside, "beside", 0x10);
    for (int i = 0; i < DEEP; i++) {
        ASSERT_EQ(0, memory_region_init(&level[i], "level", 0x1000));
        ASSERT_EQ(0, memory_region_init_alias(&window[i], "window", &level[i], 0, 0x1000));
        ASSERT_EQ(0, memory_region_add_subregion(i ? &level[i - 1] : &bottom, 0, &level[i]));
    }
    ASSERT_EQ(0, memory_region_add_subregion(&level[DEEP - 1], 0, &leaf.mr));
    ASSERT_EQ(0, memory_region_add_subregion(&bottom, 0x2000, &beside.mr));
    ASSERT_EQ(0, memory_region_add_subregion(&between, 0, &bottom));
    ASSERT_EQ(0, memory_region_add_subregion(&top, 0, &between));

    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, address_space_init(&late, &top, "late"));
    EXPECT_EQ(1, address_space_find_staged(&late, 0, &s));
    ASSERT_EQ(0, memory_region_del_subregion(&top, &between));
    EXPECT_EQ(0, address_space_find_staged(&late, 0, &s)) << "nobody looks at bottom any more";
    ASSERT_EQ(0, memory_region_del_subregion(&level[DEEP - 1], &leaf.mr));
    ASSERT_EQ(0, memory_region_destroy(&leaf.mr));
    ASSERT_EQ(0, memory_region_add_subregion(&top, 0, &between));
    EXPECT_EQ(0, address_space_find_staged(&late, 0, &s));
    ASSERT_EQ(0, memory_transaction_commit());
    EXPECT_EQ("2000-200f beside@0", text_of(&late));

    ASSERT_EQ(0, memory_region_quiesce(&leaf.mr));
    ASSERT_EQ(0, address_space_destroy(&late, nullptr));
    ASSERT_EQ(0, memory_region_del_subregion(&bottom, &beside.mr));
    ASSERT_EQ(0, memory_region_destroy(&beside.mr));
    for (int i = DEEP; i-- > 0;) {
        ASSERT_EQ(0, memory_region_destroy(&window[i]));
        ASSERT_EQ(0, memory_region_del_subregion(i ? &level[i - 1] : &bottom, &level[i]));
        ASSERT_EQ(0, memory_region_destroy(&level[i]));
    }
    ASSERT_EQ(0, memory_region_del_subregion(&between, &bottom));
    ASSERT_EQ(0, memory_region_del_subregion(&top, &between));
    ASSERT_EQ(0, memory_region_destroy(&bottom));
    ASSERT_EQ(0, memory_region_destroy(&between));
    ASSERT_EQ(0, memory_region_destroy(&top));
    for (MemoryRegion *mr : {&beside.mr, &bottom, &between, &top}) {
        ASSERT_EQ(0, memory_region_quiesce(mr));
    }
    for (int i = 0; i < DEEP; i++) {
        ASSERT_EQ(0, memory_region_quiesce(&window[i]));
        ASSERT_EQ(0, memory_region_quiesce(&level[i]));
    }
}

TEST_F(Space, AmongThousandsEachIsStillKnown)
{
    enum { N = 3000 };
    std::unique_ptr<AddressSpace[]> many(new AddressSpace[N]);
    memset(static_cast<void *>(many.get()), 0xa5, N * sizeof(many[0])); /* what is not yet a space may hold anything */
    for (int i = 0; i < N; i++) {
        ASSERT_EQ(0, address_space_init(&many[i], &root, "one of many"));
        ASSERT_EQ(-EBUSY, address_space_init(&many[i / 2], &root, "twice"));
    }
    EXPECT_EQ(-EBUSY, memory_region_destroy(&root)) << "the root of all of them";
    for (int i = 0; i < N; i += 2) {
        ASSERT_EQ(0, address_space_destroy(&many[i], nullptr));
    }
    ASSERT_EQ(0, memory_reclaim());
    for (int i = 0; i < N; i++) {
        ASSERT_EQ(i % 2 ? -EBUSY : 0, address_space_init(&many[i], &root, "again"));
        ASSERT_TRUE(share(&as, &many[i]));
    }
    for (int i = 0; i < N; i++) {
        ASSERT_EQ(0, address_space_destroy(&many[i], nullptr));
    }
}

// The first of the spaces of a root keeps what changed there for all of them: it may go while it does.
TEST_F(Space, WhatChangedAtARootOutlivesTheSpaceThatKeptIt)
{
    MemoryRegion top, only;
    Device shown, late;
    AddressSpace stays = {}, goes = {};
    MemoryRegionSection section;
    ASSERT_EQ(0, memory_region_init(&top, "top", UINT64_MAX));
    ASSERT_EQ(0, memory_region_init(&only, "only", UINT64_MAX));
    device_init(&shown, "shown", 0x100);
    device_init(&late, "late", 0x100);
    ASSERT_EQ(0, memory_region_add_subregion(&only, 0x100, &shown.mr));
    ASSERT_EQ(0, memory_region_add_subregion(&top, 0, &only));
    ASSERT_EQ(0, address_space_init(&stays, &top, "stays")); /* sees the view of only */
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, address_space_init(&goes, &top, "goes"));
    ASSERT_EQ(0, memory_region_add_subregion(&top, 0x7000, &late.mr));
    EXPECT_EQ(1, address_space_find_staged(&stays, 0x7000, &section));
    memory_transaction_abort();
    EXPECT_EQ(0, address_space_find_staged(&stays, 0x7000, &section));
    ASSERT_EQ(0, memory_region_add_subregion(&top, 0x9000, &late.mr));
    ASSERT_EQ(0, memory_transaction_commit());
    EXPECT_EQ("100-1ff shown@0 9000-90ff late@0", text_of(&stays));
    ASSERT_EQ(0, address_space_destroy(&stays, nullptr));
    ASSERT_EQ(0, memory_region_del_subregion(&top, &late.mr));
    ASSERT_EQ(0, memory_region_del_subregion(&top, &only));
    ASSERT_EQ(0, memory_region_del_subregion(&only, &shown.mr));
    for (MemoryRegion *mr : {&shown.mr, &late.mr, &only, &top}) {
        ASSERT_EQ(0, memory_region_destroy(mr));
        ASSERT_EQ(0, memory_region_quiesce(mr));
    }
}

TEST_F(Space, ForeachWithoutAFunctionIsRefused)
{
    MemoryRegion root;
    ASSERT_EQ(0, memory_region_init(&root, "root", UINT64_MAX));
    EXPECT_EQ(-EINVAL, address_space_foreach(nullptr, nullptr));
    EXPECT_EQ(-EINVAL, memory_region_foreach_child(&root, nullptr, nullptr));
    ASSERT_EQ(0, memory_region_destroy(&root));
    ASSERT_EQ(0, memory_region_quiesce(&root));
}

TEST_F(Space, AnEmptySpaceHasAViewToo)
{
    MemoryRegion nothing;
    AddressSpace empty = {};
    uint32_t value = 7;
    ASSERT_EQ(0, memory_region_init(&nothing, "nothing", UINT64_MAX));
    ASSERT_EQ(0, address_space_init(&empty, &nothing, "empty"));
    FlatView *view = address_space_get_flatview(&empty);
    EXPECT_EQ(0u, flatview_count(view));
    EXPECT_EQ(nullptr, flatview_root(view));
    flatview_unref(view);
    EXPECT_EQ(MEMTX_DECODE_ERROR, address_space_ldl_le(&empty, 0, MEMTXATTRS_UNSPECIFIED, &value));
    EXPECT_EQ(7u, value);
    EXPECT_EQ(-EBUSY, memory_region_destroy(&nothing)) << "the root of a space";
    static int released;
    released = 0;
    ASSERT_EQ(0, address_space_destroy(&empty, [](AddressSpace *) { __atomic_fetch_add(&released, 1, __ATOMIC_RELEASE); }));
    for (int i = 0; i < 10000 && !__atomic_load_n(&released, __ATOMIC_ACQUIRE); i++) {
        ASSERT_EQ(0, memory_reclaim()); /* does not wait for a release that the worker is in the middle of */
        sched_yield();
    }
    EXPECT_EQ(1, __atomic_load_n(&released, __ATOMIC_ACQUIRE));
    ASSERT_EQ(0, memory_region_destroy(&nothing));
    ASSERT_EQ(0, memory_region_quiesce(&nothing));
}

} // namespace
