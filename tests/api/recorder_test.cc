/* SPDX-License-Identifier: MIT */
/*
 * recorder_test.cc - the recorder records what listeners are told, in order, and outlives what it tells of.
 */
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <sys/eventfd.h>
#include <unistd.h>

#include <flatview/accel/recorder.h>
#include <flatview/memory.h>

namespace {

std::string text_of(FlatviewRecorder *recorder)
{
    char *text = nullptr;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);

    EXPECT_EQ(flatview_recorder_print(recorder, file), 0);
    fclose(file);
    std::string result(text, size);
    free(text);
    return result;
}

class Recorder : public testing::Test {
protected:
    void SetUp() override
    {
        ASSERT_EQ(memory_region_init(&root, "root", 0x10000), 0);
        ASSERT_EQ(memory_region_init_ram(&ram, "ram", 0x4000), 0);
        ASSERT_EQ(memory_region_add_subregion(&root, 0x1000, &ram), 0);
        ASSERT_EQ(address_space_init(&as, &root, "as"), 0);
    }

    void TearDown() override
    {
        EXPECT_EQ(address_space_destroy(&as, nullptr), 0);
        if (memory_region_get_parent(&ram)) {
            EXPECT_EQ(memory_region_del_subregion(&root, &ram), 0);
        }
        for (MemoryRegion *mr : {&ram, &root}) {
            EXPECT_EQ(memory_region_destroy(mr), 0);
            EXPECT_EQ(memory_region_quiesce(mr), 0);
        }
    }

    MemoryRegion root, ram;
    AddressSpace as;
};

TEST_F(Recorder, TellsARegistrationAChangeAndTheEnd)
{
    FlatviewRecorder *r;

    ASSERT_EQ(flatview_recorder_new(&as, 0, 0, &r), 0);
    ASSERT_EQ(memory_region_set_address(&ram, 0x8000), 0);
    ASSERT_EQ(flatview_recorder_stop(r), 0);
    EXPECT_EQ(text_of(r),
              "1 begin\n"
              "1 prepare\n"
              "1 span_add 0000000000001000-0000000000004fff old 0 new 1\n"
              "1 region_add 0000000000001000-0000000000004fff ram ram+0\n"
              "1 commit\n"
              "2 begin\n"
              "2 prepare\n"
              "2 span_del 0000000000001000-0000000000004fff old 1 new 0\n"
              "2 region_del 0000000000001000-0000000000004fff ram ram+0\n"
              "2 span_add 0000000000008000-000000000000bfff old 0 new 1\n"
              "2 region_add 0000000000008000-000000000000bfff ram ram+0\n"
              "2 commit\n"
              "3 begin\n"
              "3 span_del 0000000000008000-000000000000bfff old 1 new 0\n"
              "3 region_del 0000000000008000-000000000000bfff ram ram+0\n"
              "3 commit\n"
              "3 detached\n");
    EXPECT_EQ(flatview_recorder_stop(r), -EINVAL);
    EXPECT_EQ(flatview_recorder_free(r), 0);
}

TEST_F(Recorder, ComparesStreams)
{
    FlatviewRecorder *a, *b;

    ASSERT_EQ(flatview_recorder_new(&as, 0, 0, &a), 0);
    ASSERT_EQ(memory_region_set_enabled(&ram, false), 0);
    ASSERT_EQ(memory_region_set_enabled(&ram, true), 0);
    flatview_recorder_clear(a);
    ASSERT_EQ(flatview_recorder_new(&as, 5, 0, &b), 0);
    flatview_recorder_clear(b);
    for (int i = 0; i < 4; i++) {
        ASSERT_EQ(memory_region_set_address(&ram, 0x1000 * hwaddr(i)), 0);
    }
    EXPECT_EQ(flatview_recorder_compare(a, b), SIZE_MAX) << "however many commits each has seen before";
    ASSERT_EQ(flatview_recorder_stop(b), 0);
    EXPECT_EQ(flatview_recorder_compare(a, b), flatview_recorder_count(a, nullptr)) << "the one that goes on is longer";
    EXPECT_EQ(flatview_recorder_free(a), 0);
    EXPECT_EQ(flatview_recorder_free(b), 0);
}

TEST_F(Recorder, EventsAreValuesAndEveryKindHasItsName)
{
    FlatviewRecorder *r;
    std::vector<FlatviewEvent> events;

    ASSERT_EQ(flatview_recorder_new(&as, 0, 0, &r), 0);
    EXPECT_EQ(flatview_recorder_for_each(r, [](const FlatviewEvent *event, void *arg) {
        static_cast<std::vector<FlatviewEvent> *>(arg)->push_back(*event);
        return event->kind == FLATVIEW_EVENT_REGION_ADD ? 7 : 0;
    }, &events), 7) << "stops where it is told to";
    ASSERT_EQ(events.size(), 4u);
    EXPECT_EQ(events[3].first, 0x1000u);
    EXPECT_EQ(events[3].last, 0x4fffu);
    EXPECT_STREQ(events[3].region, "ram");
    EXPECT_TRUE(events[3].ram);
    for (int kind = 0; kind < FLATVIEW_EVENT_COUNT; kind++) {
        EXPECT_NE(flatview_event_name(FlatviewEventKind(kind)), nullptr) << kind;
    }
    EXPECT_STREQ(flatview_event_name(FLATVIEW_EVENT_SPAN_DEL), "span_del");
    EXPECT_EQ(flatview_event_name(FLATVIEW_EVENT_COUNT), nullptr);
    EXPECT_EQ(flatview_recorder_free(r), 0);
}

TEST_F(Recorder, TellsWhatTheDirtyLogAsks)
{
    FlatviewRecorder *r;
    DirtyBitmapSnapshot *snapshot;

    ASSERT_EQ(flatview_recorder_new(&as, 0, 0, &r), 0);
    flatview_recorder_clear(r);
    ASSERT_EQ(memory_region_set_log(&ram, true, DIRTY_MEMORY_VGA), 0);
    ASSERT_EQ(memory_dirty_log_wait(), 0);
    ASSERT_EQ(memory_region_snapshot_and_clear_dirty(&ram, 0x1000, 0x1000, DIRTY_MEMORY_VGA, &snapshot), 0);
    memory_region_snapshot_free(snapshot);
    ASSERT_EQ(memory_region_set_address(&ram, 0x8000), 0);
    ASSERT_EQ(memory_region_set_log(&ram, false, DIRTY_MEMORY_VGA), 0);
    EXPECT_EQ(text_of(r),
              "2 begin\n"
              "2 prepare\n"
              "2 log_start 0000000000001000-0000000000004fff ram ram+0 clients 0x1 was 0\n"
              "2 commit\n"
              "2 log_sync 0000000000002000-0000000000002fff ram ram+0x1000\n"
              "2 log_clear 0000000000002000-0000000000002fff ram ram+0x1000\n"
              "3 begin\n"
              "3 prepare\n"
              "3 log_sync 0000000000001000-0000000000004fff ram ram+0\n"
              "3 span_del 0000000000001000-0000000000004fff old 1 new 0\n"
              "3 region_del 0000000000001000-0000000000004fff ram ram+0\n"
              "3 span_add 0000000000008000-000000000000bfff old 0 new 1\n"
              "3 region_add 0000000000008000-000000000000bfff ram ram+0\n"
              "3 log_start 0000000000008000-000000000000bfff ram ram+0 clients 0x1 was 0\n"
              "3 commit\n"
              "4 begin\n"
              "4 prepare\n"
              "4 log_sync 0000000000008000-000000000000bfff ram ram+0\n"
              "4 log_stop 0000000000008000-000000000000bfff ram ram+0 clients 0 was 0x1\n"
              "4 commit\n");
    EXPECT_EQ(flatview_recorder_free(r), 0);
}

TEST_F(Recorder, TellsThatAllRamIsLogged)
{
    FlatviewRecorder *a, *b;
    std::string text;

    ASSERT_EQ(flatview_recorder_new(&as, 0, 0, &a), 0);
    ASSERT_EQ(flatview_recorder_new(&as, 0, 0, &b), 0);
    flatview_recorder_clear(a);
    flatview_recorder_clear(b);
    ASSERT_EQ(memory_global_dirty_log_start(GLOBAL_DIRTY_MIGRATION), 0);
    ASSERT_EQ(memory_global_dirty_log_sync(true), 0);
    ASSERT_EQ(memory_global_after_dirty_log_sync(), 0);
    EXPECT_EQ(flatview_recorder_compare(a, b), SIZE_MAX);
    text = text_of(a);
    EXPECT_EQ(text.find("log_global_start\n"), 2u) << text;
    EXPECT_NE(text.find(" log_start 0000000000001000-0000000000004fff ram ram+0 clients 0x4 was 0\n"), std::string::npos) << text;
    EXPECT_NE(text.find(" log_sync 0000000000001000-0000000000004fff ram ram+0\n"), std::string::npos) << text;
    EXPECT_NE(text.find(" log_global_after_sync\n"), std::string::npos) << text;
    EXPECT_EQ(flatview_recorder_free(b), 0);
    ASSERT_EQ(memory_global_dirty_log_stop(GLOBAL_DIRTY_MIGRATION), 0);
    text = text_of(a);
    EXPECT_NE(text.find(" log_stop 0000000000001000-0000000000004fff ram ram+0 clients 0 was 0x4\n"), std::string::npos) << text;
    EXPECT_NE(text.find(" log_global_stop\n"), std::string::npos) << text;
    EXPECT_EQ(flatview_recorder_free(a), 0);
}

TEST_F(Recorder, TellsOfDoorbellsAndOfWritesThatMayWait)
{
    FlatviewRecorder *r;
    MemoryRegion io;
    MemoryRegionOps ops = {};
    int fd = eventfd(0, EFD_CLOEXEC);

    ops.write = [](MemoryRegion *, hwaddr, uint64_t, unsigned) {};
    ops.endianness = MEMORY_LITTLE_ENDIAN;
    ops.valid.min_access_size = ops.impl.min_access_size = 1;
    ops.valid.max_access_size = ops.impl.max_access_size = 4;
    ASSERT_EQ(memory_region_init_io(&io, &ops, "io", 0x1000), 0);
    ASSERT_EQ(memory_region_add_subregion(&root, 0x8000, &io), 0);
    ASSERT_EQ(flatview_recorder_new(&as, 0, 0, &r), 0);
    flatview_recorder_clear(r);
    ASSERT_EQ(memory_region_add_eventfd(&io, 0x10, 4, true, 7, fd), 0);
    ASSERT_EQ(memory_region_add_coalescing(&io, 0x20, 0x10), 0);
    EXPECT_EQ(text_of(r),
              "2 begin\n"
              "2 prepare\n"
              "2 eventfd_add 0000000000008010 size 4 data 0x7 io+0x10\n"
              "2 commit\n"
              "3 begin\n"
              "3 prepare\n"
              "3 coalesced_io_add 0000000000008020-000000000000802f i/o io+0x20\n"
              "3 commit\n");
    EXPECT_EQ(flatview_recorder_free(r), 0);
    ASSERT_EQ(memory_region_del_subregion(&root, &io), 0);
    ASSERT_EQ(memory_region_del_eventfd(&io, 0x10, 4, true, 7, fd), 0);
    close(fd);
    EXPECT_EQ(memory_region_destroy(&io), 0);
    EXPECT_EQ(memory_region_quiesce(&io), 0);
}

TEST_F(Recorder, IsFreedFromACallbackOfAListenerOnceTheCommitIsOver)
{
    static FlatviewRecorder *r;
    MemoryListener other = {};

    ASSERT_EQ(flatview_recorder_new(&as, 0, 0, &r), 0);
    other.name = "other";
    ASSERT_EQ(memory_listener_register(&other, &as), 0);
    ASSERT_EQ(memory_listener_unregister(&other), 0);
    other.span_add = [](MemoryListener *, const MemorySpan *) {
        if (r) {
            EXPECT_EQ(flatview_recorder_free(r), 0);
            r = nullptr;
        }
    };
    ASSERT_EQ(memory_listener_register(&other, &as), 0); /* the address sanitizer sees whether it was freed, and once */
    ASSERT_EQ(r, nullptr);
    ASSERT_EQ(memory_region_set_address(&ram, 0x8000), 0);
    ASSERT_EQ(memory_listener_unregister(&other), 0);
}

TEST_F(Recorder, CountsWhatItDoesNotKeep)
{
    FlatviewRecorder *r;
    uint64_t lost = 0;

    ASSERT_EQ(flatview_recorder_new(&as, 0, 2, &r), 0);
    EXPECT_EQ(flatview_recorder_count(r, &lost), 2u);
    EXPECT_EQ(lost, 3u);
    EXPECT_EQ(text_of(r), "1 begin\n1 prepare\n");
    EXPECT_EQ(flatview_recorder_free(r), 0);
    EXPECT_EQ(flatview_recorder_new(nullptr, 0, 0, &r), -EINVAL);
}

}
