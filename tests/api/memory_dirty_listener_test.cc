/* SPDX-License-Identifier: MIT */
/*
 * What listeners hear of the dirty log, when, in which order, and who may refuse.
 */
#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <vector>

#include "api/machine.h"

namespace {

constexpr hwaddr Page = 4096, Pages = 16, Size = Pages * Page;

/* Writes down what it hears; on log_sync reports one page of each section as dirty. */
struct Scribe {
    MemoryListener listener;
    std::vector<std::string> *events;
    const char *name;
    int refuse_global, refuse_prepare;
    bool reports;
};

Scribe *scribe_of(MemoryListener *l)
{
    return reinterpret_cast<Scribe *>(l);
}

std::string place(const MemoryRegionSection *s)
{
    std::ostringstream out;
    out << std::hex << memory_region_name(s->mr) << "@" << s->offset_within_address_space << "-" << s->last;
    return out.str();
}

void say(MemoryListener *l, const std::string &what)
{
    scribe_of(l)->events->push_back(std::string(scribe_of(l)->name) + what);
}

class DirtyListener : public Machine {
protected:
    void SetUp() override
    {
        Machine::SetUp();
        for (unsigned i = 0; i < 2; i++) {
            ASSERT_EQ(0, memory_region_init_ram(&ram[i], i ? "high" : "low", Size));
            ASSERT_EQ(0, memory_region_add_subregion(&root, 0x100000 * (i + 1), &ram[i]));
        }
        Make(&first, "", 0);
        Make(&second, "2:", 1);
        ASSERT_EQ(0, memory_listener_register(&first.listener, &as));
        events.clear();
    }
    void TearDown() override
    {
        for (Scribe *s : {&first, &second}) {
            (void)memory_listener_unregister(&s->listener);
        }
        for (auto &r : ram) {
            if (memory_region_get_parent(&r)) {
                EXPECT_EQ(0, memory_region_del_subregion(&root, &r));
            }
            EXPECT_EQ(0, memory_region_destroy(&r));
            EXPECT_EQ(0, memory_region_quiesce(&r));
        }
        EXPECT_EQ(0u, memory_global_dirty_log_reasons());
        Machine::TearDown();
    }
    void Make(Scribe *s, const char *name, int priority)
    {
        *s = Scribe();
        s->events = &events;
        s->name = name;
        s->reports = true;
        s->listener.priority = priority;
        s->listener.prepare = [](MemoryListener *l, const MemoryDelta *) { return scribe_of(l)->refuse_prepare; };
        s->listener.region_add = [](MemoryListener *l, const MemoryRegionSection *s) { say(l, "add " + place(s)); };
        s->listener.region_del = [](MemoryListener *l, const MemoryRegionSection *s) { say(l, "del " + place(s)); };
        s->listener.log_start = [](MemoryListener *l, const MemoryRegionSection *s, unsigned o, unsigned n) {
            say(l, "start " + place(s) + " " + std::to_string(o) + ">" + std::to_string(n));
        };
        s->listener.log_stop = [](MemoryListener *l, const MemoryRegionSection *s, unsigned o, unsigned n) {
            say(l, "stop " + place(s) + " " + std::to_string(o) + ">" + std::to_string(n));
        };
        s->listener.log_sync = [](MemoryListener *l, const MemoryRegionSection *s) {
            const uint64_t bit = 2;
            say(l, "sync " + place(s));
            if (scribe_of(l)->reports) {
                EXPECT_EQ(0, memory_region_merge_dirty(s->mr, s->offset_within_region, ~0u, Page, &bit, 0, 2));
            }
        };
        s->listener.log_clear = [](MemoryListener *l, const MemoryRegionSection *s) { say(l, "clear " + place(s)); };
        s->listener.log_global_start = [](MemoryListener *l) {
            say(l, "global start");
            return scribe_of(l)->refuse_global;
        };
        s->listener.log_global_stop = [](MemoryListener *l) { say(l, "global stop"); };
        s->listener.log_global_after_sync = [](MemoryListener *l) { say(l, "after sync"); };
    }
    std::string Heard()
    {
        std::string all;
        for (const std::string &e : events) {
            all += (all.empty() ? "" : "; ") + e;
        }
        events.clear();
        return all;
    }
    std::string Dirty(MemoryRegion *mr, unsigned client, hwaddr addr = 0, uint64_t size = Size)
    {
        DirtyBitmapSnapshot *s = nullptr;
        std::ostringstream out;
        int err = memory_region_snapshot_and_clear_dirty(mr, addr, size, client, &s);

        if (err < 0) {
            return std::to_string(err);
        }
        hwaddr at = 0;
        uint64_t run;
        for (; memory_region_snapshot_next_dirty(s, at, &at, &run); at += run) {
            out << (out.tellp() ? " " : "") << std::hex << at << "+" << run;
        }
        memory_region_snapshot_free(s);
        return out.str();
    }
    void Begin(MemoryRegion *mr, unsigned client)
    {
        ASSERT_EQ(0, memory_region_set_log(mr, true, client));
        ASSERT_EQ(0, memory_dirty_log_wait());
        Dirty(mr, client);
        events.clear();
    }

    MemoryRegion ram[2];
    Scribe first, second;
    std::vector<std::string> events;
};

TEST_F(DirtyListener, HearsOfClientsAndOfNothingElse)
{
    EXPECT_EQ(0, memory_region_set_log(&ram[0], true, DIRTY_MEMORY_VGA));
    EXPECT_EQ("start low@100000-10ffff 0>1", Heard());
    EXPECT_EQ(0, memory_region_set_log(&ram[0], true, DIRTY_MEMORY_VGA));
    EXPECT_EQ("", Heard()) << "another user of the same client";
    EXPECT_EQ(0, memory_region_set_log(&ram[0], true, DIRTY_MEMORY_MIGRATION));
    EXPECT_EQ("start low@100000-10ffff 1>5", Heard());
    EXPECT_EQ(0, memory_region_set_log(&ram[0], false, DIRTY_MEMORY_MIGRATION));
    EXPECT_EQ("sync low@100000-10ffff; stop low@100000-10ffff 5>1", Heard());
    EXPECT_EQ(0, memory_region_set_log(&ram[0], false, DIRTY_MEMORY_VGA));
    EXPECT_EQ("", Heard());
    EXPECT_EQ(0, memory_region_set_log(&ram[0], false, DIRTY_MEMORY_VGA));
    EXPECT_EQ("sync low@100000-10ffff; stop low@100000-10ffff 1>0", Heard());
}

TEST_F(DirtyListener, TheFinalCollectIsPartOfRemoval)
{
    Begin(&ram[0], DIRTY_MEMORY_MIGRATION);
    ASSERT_EQ(0, memory_region_set_address(&ram[0], 0x500000));
    EXPECT_EQ("sync low@100000-10ffff; del low@100000-10ffff; add low@500000-50ffff; start low@500000-50ffff 0>4", Heard());
    first.reports = false;
    EXPECT_EQ("1000+1000", Dirty(&ram[0], DIRTY_MEMORY_MIGRATION)) << "what it reported then";
    first.reports = true;
    Heard();
    ASSERT_EQ(0, memory_region_set_enabled(&ram[0], false));
    EXPECT_EQ("sync low@500000-50ffff; del low@500000-50ffff", Heard());
    EXPECT_EQ("1000+1000", Dirty(&ram[0], DIRTY_MEMORY_MIGRATION));
    EXPECT_EQ("", Heard()) << "nowhere to be seen, nobody to ask";
    ASSERT_EQ(0, memory_region_set_enabled(&ram[0], true));
    EXPECT_EQ("add low@500000-50ffff; start low@500000-50ffff 0>4", Heard()) << "the mask survived";
    ASSERT_EQ(0, memory_region_set_readonly(&ram[0], true));
    EXPECT_EQ("sync low@500000-50ffff; del low@500000-50ffff; add low@500000-50ffff; start low@500000-50ffff 0>4", Heard());
    ASSERT_EQ(0, memory_region_del_subregion(&root, &ram[0]));
    EXPECT_EQ("sync low@500000-50ffff; del low@500000-50ffff", Heard());
}

TEST_F(DirtyListener, OnlyWhatIsLoggedIsAsked)
{
    Begin(&ram[1], DIRTY_MEMORY_VGA);
    EXPECT_EQ(0, memory_global_dirty_log_sync(false));
    EXPECT_EQ("sync high@200000-20ffff", Heard());
    EXPECT_EQ("1000+1000", Dirty(&ram[1], DIRTY_MEMORY_VGA));
    EXPECT_EQ("sync high@200000-20ffff; clear high@200000-20ffff", Heard());
    EXPECT_EQ(0, memory_region_sync_dirty(&ram[1]));
    EXPECT_EQ("sync high@200000-20ffff", Heard());
    EXPECT_EQ(0, memory_global_after_dirty_log_sync());
    EXPECT_EQ("after sync", Heard());
}

TEST_F(DirtyListener, APartIsAskedForAndClearedAsAPart)
{
    Begin(&ram[0], DIRTY_MEMORY_VGA);
    EXPECT_EQ(0, memory_region_set_dirty(&ram[0], 4 * Page, Page));
    EXPECT_EQ("4000+2000", Dirty(&ram[0], DIRTY_MEMORY_VGA, 4 * Page, 2 * Page)) << "ours and what was reported";
    EXPECT_EQ("sync low@104000-105fff; clear low@104000-105fff", Heard());
    first.reports = false;
    EXPECT_EQ("", Dirty(&ram[0], DIRTY_MEMORY_VGA, 8 * Page, Page));
    EXPECT_EQ("sync low@108000-108fff", Heard()) << "nothing was taken, nothing is to be protected again";
    EXPECT_EQ(0, memory_region_clear_dirty_bitmap(&ram[0], Page, Page));
    EXPECT_EQ("clear low@101000-101fff", Heard());
    EXPECT_EQ(0, memory_region_set_dirty(&ram[0], 0, Page));
    EXPECT_EQ(0, memory_region_reset_dirty(&ram[0], 0, Page, DIRTY_MEMORY_VGA));
    EXPECT_EQ("clear low@100000-100fff", Heard());
}

TEST_F(DirtyListener, EveryPlaceThroughAliasesIsAsked)
{
    MemoryRegion alias;

    ASSERT_EQ(0, memory_region_init_alias(&alias, "alias", &ram[0], 4 * Page, 4 * Page));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x4000000, &alias));
    Begin(&ram[0], DIRTY_MEMORY_VGA);
    ASSERT_EQ(0, memory_region_sync_dirty(&ram[0]));
    std::string heard = Heard();
    EXPECT_NE(std::string::npos, heard.find("sync low@100000-10ffff")) << heard;
    EXPECT_NE(std::string::npos, heard.find("sync low@4000000-4003fff")) << heard;
    ASSERT_EQ(0, memory_region_del_subregion(&root, &alias));
    ASSERT_EQ(0, memory_region_destroy(&alias));
    ASSERT_EQ(0, memory_region_quiesce(&alias));
}

TEST_F(DirtyListener, RegistrationReplaysAndTheEndUndoesIt)
{
    Begin(&ram[0], DIRTY_MEMORY_VGA);
    ASSERT_EQ(0, memory_listener_register(&second.listener, &as));
    std::string heard = Heard();
    EXPECT_NE(std::string::npos, heard.find("2:start low@100000-10ffff 0>1")) << heard;
    EXPECT_EQ(std::string::npos, heard.find("2:start high")) << heard;
    EXPECT_LT(heard.find("2:add low"), heard.find("2:start low"));
    ASSERT_EQ(0, memory_listener_unregister(&second.listener));
    heard = Heard();
    EXPECT_LT(heard.find("2:sync low@100000-10ffff"), heard.find("2:del low@100000-10ffff")) << heard;
}

TEST_F(DirtyListener, AdditionsAscendAndRemovalsDescend)
{
    ASSERT_EQ(0, memory_listener_register(&second.listener, &as));
    Heard();
    ASSERT_EQ(0, memory_region_set_log(&ram[0], true, DIRTY_MEMORY_VGA));
    EXPECT_EQ("start low@100000-10ffff 0>1; 2:start low@100000-10ffff 0>1", Heard());
    ASSERT_EQ(0, memory_region_set_log(&ram[0], false, DIRTY_MEMORY_VGA));
    EXPECT_EQ("2:sync low@100000-10ffff; 2:stop low@100000-10ffff 1>0; sync low@100000-10ffff; stop low@100000-10ffff 1>0",
              Heard());
}

TEST_F(DirtyListener, GlobalLoggingIsOfAllRamThatThereIsAndWillBe)
{
    MemoryRegion later, rom, hardware;
    static uint8_t device[Page];

    ASSERT_EQ(0, memory_region_init_ram_device_ptr(&hardware, "hardware", Page, device));
    ASSERT_EQ(0, memory_region_init_rom(&rom, "rom", Page));
    ASSERT_EQ(0, memory_global_dirty_log_start(GLOBAL_DIRTY_MIGRATION));
    EXPECT_EQ("global start; start low@100000-10ffff 0>4; start high@200000-20ffff 0>4", Heard());
    EXPECT_EQ(4, memory_region_get_dirty_log_mask(&rom)) << "not mapped, and no less RAM";
    EXPECT_EQ(0, memory_region_get_dirty_log_mask(&hardware));
    ASSERT_EQ(0, memory_region_init_ram(&later, "later", Size));
    EXPECT_TRUE(memory_region_is_logging(&later, DIRTY_MEMORY_MIGRATION));
    EXPECT_EQ("0+10000", Dirty(&later, DIRTY_MEMORY_MIGRATION)) << "born dirty";
    EXPECT_EQ("", Dirty(&later, DIRTY_MEMORY_MIGRATION));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x300000, &later));
    EXPECT_EQ("add later@300000-30ffff; start later@300000-30ffff 0>4", Heard());
    EXPECT_EQ(MEMTX_OK, address_space_stb(&as, 0x300000, MEMTXATTRS_UNSPECIFIED, 1));
    first.reports = false;
    EXPECT_EQ("0+1000", Dirty(&later, DIRTY_MEMORY_MIGRATION));
    Heard();
    EXPECT_EQ(-EINVAL, memory_region_set_log(&later, false, DIRTY_MEMORY_MIGRATION)) << "not its to take";
    ASSERT_EQ(0, memory_global_dirty_log_start(GLOBAL_DIRTY_DIRTY_RATE | GLOBAL_DIRTY_MIGRATION));
    EXPECT_EQ(GLOBAL_DIRTY_DIRTY_RATE | GLOBAL_DIRTY_MIGRATION, memory_global_dirty_log_reasons());
    ASSERT_EQ(0, memory_global_dirty_log_stop(GLOBAL_DIRTY_MIGRATION));
    ASSERT_EQ(0, memory_global_dirty_log_stop(GLOBAL_DIRTY_MIGRATION));
    EXPECT_EQ("", Heard()) << "one reason is enough";
    EXPECT_EQ(-EINVAL, memory_global_dirty_log_stop(GLOBAL_DIRTY_MIGRATION));
    ASSERT_EQ(0, memory_global_dirty_log_stop(GLOBAL_DIRTY_DIRTY_RATE));
    std::string heard = Heard();
    EXPECT_EQ("sync low@100000-10ffff; stop low@100000-10ffff 4>0; sync high@200000-20ffff; stop high@200000-20ffff 4>0; "
              "sync later@300000-30ffff; stop later@300000-30ffff 4>0; global stop", heard);
    EXPECT_EQ(0, memory_region_get_dirty_log_mask(&rom));
    ASSERT_EQ(0, memory_region_del_subregion(&root, &later));
    for (MemoryRegion *mr : {&later, &rom, &hardware}) {
        ASSERT_EQ(0, memory_region_destroy(mr));
        ASSERT_EQ(0, memory_region_quiesce(mr));
    }
}

TEST_F(DirtyListener, ARefusalOfGlobalLoggingLeavesNothingBehind)
{
    ASSERT_EQ(0, memory_listener_register(&second.listener, &as));
    Heard();
    second.refuse_global = -EIO;
    EXPECT_EQ(-EIO, memory_global_dirty_log_start(GLOBAL_DIRTY_MIGRATION));
    EXPECT_EQ("global start; 2:global start; global stop", Heard());
    EXPECT_EQ(0u, memory_global_dirty_log_reasons());
    EXPECT_EQ(0, memory_region_get_dirty_log_mask(&ram[0]));
    second.refuse_global = 0;
    second.refuse_prepare = -EPERM;
    EXPECT_EQ(-EPERM, memory_global_dirty_log_start(GLOBAL_DIRTY_MIGRATION));
    EXPECT_EQ("global start; 2:global start; 2:global stop; global stop", Heard());
    EXPECT_EQ(0, memory_region_get_dirty_log_mask(&ram[0]));
    MemoryRegion later;
    ASSERT_EQ(0, memory_region_init_ram(&later, "later", Size));
    EXPECT_EQ(0, memory_region_get_dirty_log_mask(&later)) << "what is made now is not logged either";
    ASSERT_EQ(0, memory_region_destroy(&later));
    ASSERT_EQ(0, memory_region_quiesce(&later));
}

TEST_F(DirtyListener, OneThatJoinsDuringGlobalLoggingIsAskedToo)
{
    ASSERT_EQ(0, memory_global_dirty_log_start(GLOBAL_DIRTY_LIMIT));
    Heard();
    second.refuse_global = -EIO;
    EXPECT_EQ(-EIO, memory_listener_register(&second.listener, &as));
    EXPECT_EQ("2:global start", Heard());
    second.refuse_global = 0;
    ASSERT_EQ(0, memory_listener_register(&second.listener, &as));
    EXPECT_EQ(0u, Heard().find("2:global start; 2:add "));
    ASSERT_EQ(0, memory_listener_unregister(&second.listener));
    std::string heard = Heard();
    EXPECT_EQ(heard.size() - strlen("2:global stop"), heard.find("2:global stop"));
    ASSERT_EQ(0, memory_global_dirty_log_stop(GLOBAL_DIRTY_LIMIT));
}

TEST_F(DirtyListener, OneThatCannotTellSectionsApartIsAskedAtOnce)
{
    ASSERT_EQ(0, memory_listener_unregister(&first.listener));
    first.listener.log_sync = nullptr;
    first.listener.log_sync_global = [](MemoryListener *l, bool last) { say(l, last ? "sync all, last" : "sync all"); };
    ASSERT_EQ(0, memory_listener_register(&first.listener, &as));
    Begin(&ram[0], DIRTY_MEMORY_VGA);
    EXPECT_EQ(0, memory_global_dirty_log_sync(true));
    EXPECT_EQ("sync all, last", Heard());
    EXPECT_EQ("", Dirty(&ram[0], DIRTY_MEMORY_VGA));
    EXPECT_EQ("sync all", Heard());
}

TEST_F(DirtyListener, MisuseIsRefused)
{
    static int from_callback[4];
    static MemoryRegion *mr;

    mr = &ram[0];
    EXPECT_EQ(-EINVAL, memory_global_dirty_log_start(0));
    EXPECT_EQ(-EINVAL, memory_global_dirty_log_start(8));
    EXPECT_EQ(-EINVAL, memory_global_dirty_log_stop(GLOBAL_DIRTY_MIGRATION));
    ASSERT_EQ(0, memory_transaction_begin());
    EXPECT_EQ(-EBUSY, memory_global_dirty_log_start(GLOBAL_DIRTY_MIGRATION));
    memory_transaction_abort();
    EXPECT_EQ(-EINVAL, memory_region_sync_dirty(&root));
    EXPECT_EQ(-EINVAL, memory_region_clear_dirty_bitmap(&ram[0], Size, 1));
    Begin(&ram[0], DIRTY_MEMORY_VGA);
    first.listener.log_sync = [](MemoryListener *, const MemoryRegionSection *) {
        DirtyBitmapSnapshot *s;
        from_callback[0] = memory_region_sync_dirty(mr);
        from_callback[1] = memory_global_dirty_log_sync(false);
        from_callback[2] = memory_region_set_log(mr, true, DIRTY_MEMORY_CODE);
        from_callback[3] = memory_region_snapshot_and_clear_dirty(mr, 0, Page, DIRTY_MEMORY_VGA, &s);
        memory_region_snapshot_free(s);
    };
    EXPECT_EQ(0, memory_region_sync_dirty(&ram[0]));
    EXPECT_EQ(-EBUSY, from_callback[0]);
    EXPECT_EQ(-EBUSY, from_callback[1]);
    EXPECT_EQ(-EBUSY, from_callback[2]);
    EXPECT_EQ(0, from_callback[3]) << "collecting is no change, and asks nobody";
}

} // namespace
