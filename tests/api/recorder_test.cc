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
