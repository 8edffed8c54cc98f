/* SPDX-License-Identifier: MIT */
/* Listeners: order (R6), what is current when (R8), refusal, replay, and coming and going meanwhile. */
#include "machine.h"

#include <cerrno>
#include <functional>
#include <vector>

namespace {

std::vector<std::string> heard;

std::string hex(hwaddr a)
{
    std::ostringstream out;
    out << std::hex << a;
    return out.str();
}

struct Ear {
    MemoryListener listener;
    AddressSpace *as;
    int refuse_with;
    bool leave_at_add;
    std::function<void()> during;
};

Ear *ear_of(MemoryListener *l)
{
    return reinterpret_cast<Ear *>(l);
}

void say(MemoryListener *l, const std::string &what)
{
    heard.push_back(std::string(l->name) + ":" + what);
}

/* what the space shows at addr right now */
MemoryRegion *now_at(AddressSpace *as, hwaddr addr)
{
    MemoryRegionSection s;
    return flatview_find(address_space_current(as), addr, &s) ? s.mr : nullptr;
}

void ear_init(Ear *e, const char *name, int priority, AddressSpace *as)
{
    *e = Ear();
    e->as = as;
    e->listener.name = name;
    e->listener.priority = priority;
    e->listener.begin = [](MemoryListener *l) { say(l, "begin"); };
    e->listener.prepare = [](MemoryListener *l, const MemoryDelta *) {
        say(l, "prepare");
        return ear_of(l)->refuse_with;
    };
    e->listener.abort = [](MemoryListener *l, const MemoryDelta *) { say(l, "abort"); };
    e->listener.commit = [](MemoryListener *l) { say(l, "commit"); };
    e->listener.region_del = [](MemoryListener *l, const MemoryRegionSection *s) {
        EXPECT_EQ(s->mr, now_at(ear_of(l)->as, s->offset_within_address_space)) << "R8: the old view is current";
        say(l, "del " + hex(s->offset_within_address_space));
    };
    e->listener.region_add = [](MemoryListener *l, const MemoryRegionSection *s) {
        EXPECT_EQ(s->mr, now_at(ear_of(l)->as, s->offset_within_address_space)) << "R8: the new view is current";
        say(l, "add " + hex(s->offset_within_address_space));
        if (ear_of(l)->during) {
            ear_of(l)->during();
        }
        if (ear_of(l)->leave_at_add) {
            ear_of(l)->leave_at_add = false;
            EXPECT_EQ(0, memory_listener_unregister(l));
            EXPECT_EQ(-EINVAL, memory_listener_unregister(l)) << "it is leaving already";
        }
    };
    e->listener.detached = [](MemoryListener *l) { say(l, "detached"); };
}

using Strings = std::vector<std::string>;

class Listener : public Machine {
protected:
    void SetUp() override
    {
        Machine::SetUp();
        heard.clear();
    }
};

TEST_F(Listener, RegistrationReplaysAndUnregistrationReplaysTheInverse)
{
    Ear e;
    ear_init(&e, "x", 0, &as);
    ASSERT_EQ(0, memory_listener_register(&e.listener, &as));
    EXPECT_EQ((Strings{"x:begin", "x:prepare", "x:add 1000", "x:add 2000", "x:add 3000", "x:commit"}), heard);
    EXPECT_EQ(-EBUSY, memory_listener_register(&e.listener, &as)) << "twice";
    EXPECT_EQ(-EBUSY, address_space_destroy(&as, nullptr));
    heard.clear();
    ASSERT_EQ(0, memory_listener_unregister(&e.listener));
    EXPECT_EQ((Strings{"x:begin", "x:del 3000", "x:del 2000", "x:del 1000", "x:commit", "x:detached"}), heard);
    EXPECT_EQ(-EINVAL, memory_listener_unregister(&e.listener));
}

TEST_F(Listener, RemovalsDescendAndAdditionsAscendInPriority)
{
    Ear low, high;
    ear_init(&high, "high", 10, &as);
    ear_init(&low, "low", 0, &as);
    ASSERT_EQ(0, memory_listener_register(&high.listener, &as));
    ASSERT_EQ(0, memory_listener_register(&low.listener, &as));
    heard.clear();
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x5000));
    EXPECT_EQ((Strings{"low:begin", "low:prepare", "high:begin", "high:prepare", "high:del 1000", "low:del 1000",
                       "low:add 5000", "high:add 5000", "low:commit", "high:commit"}),
              heard);
    ASSERT_EQ(0, memory_listener_unregister(&low.listener));
    ASSERT_EQ(0, memory_listener_unregister(&high.listener));
}

TEST_F(Listener, ARefusalUndoesEverythingAndAbortsInReverse)
{
    Ear ears[3];
    const char *names[] = {"1", "2", "3"};
    for (int i = 0; i < 3; i++) {
        ear_init(&ears[i], names[i], i, &as);
        ASSERT_EQ(0, memory_listener_register(&ears[i].listener, &as));
    }
    heard.clear();
    std::string before = text_of(&as);
    uint64_t gen = generation_of(&as);
    ears[2].refuse_with = -ENOSPC;
    EXPECT_EQ(-ENOSPC, memory_region_set_address(&dev[0].mr, 0x5000));
    EXPECT_EQ((Strings{"1:begin", "1:prepare", "2:begin", "2:prepare", "3:begin", "3:prepare", "2:abort", "1:abort"}),
              heard);
    EXPECT_EQ(before, text_of(&as));
    EXPECT_EQ(gen, generation_of(&as));
    EXPECT_EQ(0x1000u, memory_region_get_addr(&dev[0].mr));
    Ear late;
    ear_init(&late, "late", 0, &as);
    late.refuse_with = -ENODEV;
    EXPECT_EQ(-ENODEV, memory_listener_register(&late.listener, &as)) << "registration can be refused too";
    ears[2].refuse_with = 0;
    EXPECT_EQ(0, memory_region_set_address(&dev[0].mr, 0x5000));
    for (auto &e : ears) {
        ASSERT_EQ(0, memory_listener_unregister(&e.listener));
    }
}

TEST_F(Listener, ChangesFromACallbackAreRefusedButAccessesAreNot)
{
    Ear e;
    ear_init(&e, "x", 0, &as);
    bool asked = false;
    e.during = [&] {
        MemoryListener other = {};
        uint32_t value = 0;
        asked = true;
        EXPECT_EQ(-EBUSY, memory_region_set_enabled(&dev[0].mr, false));
        EXPECT_EQ(-EBUSY, memory_transaction_begin());
        EXPECT_EQ(-EBUSY, memory_listener_register(&other, &as));
        EXPECT_EQ(-EINVAL, memory_transaction_commit());
        EXPECT_EQ(-EDEADLK, memory_reclaim());
        EXPECT_EQ(MEMTX_OK, address_space_ldl_le(&as, 0x2004, MEMTXATTRS_UNSPECIFIED, &value));
        EXPECT_EQ(4u, value);
    };
    ASSERT_EQ(0, memory_listener_register(&e.listener, &as));
    EXPECT_TRUE(asked);
    ASSERT_EQ(0, memory_listener_unregister(&e.listener));
}

TEST_F(Listener, UnregisteringFromACallbackTakesEffectAfterTheRound)
{
    Ear first, second;
    ear_init(&first, "1", 0, &as);
    ear_init(&second, "2", 1, &as);
    ASSERT_EQ(0, memory_listener_register(&first.listener, &as));
    ASSERT_EQ(0, memory_listener_register(&second.listener, &as));
    heard.clear();
    first.leave_at_add = true;
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x5000));
    EXPECT_EQ((Strings{"1:begin", "1:prepare", "2:begin", "2:prepare", "2:del 1000", "1:del 1000", "1:add 5000",
                       "2:add 5000", "1:commit", "2:commit", "1:begin", "1:del 5000", "1:del 3000", "1:del 2000",
                       "1:commit", "1:detached"}),
              heard);
    heard.clear();
    ASSERT_EQ(0, memory_region_set_address(&dev[0].mr, 0x1000));
    EXPECT_EQ((Strings{"2:begin", "2:prepare", "2:del 5000", "2:add 1000", "2:commit"}), heard);
    ASSERT_EQ(0, memory_listener_unregister(&second.listener));
}

TEST_F(Listener, LeavingACommitThatIsThenRefusedUndoesWhatWasSeen)
{
    MemoryRegion bus, window, empty;
    AddressSpace master = {};
    Ear leaver, refuser;
    ASSERT_EQ(0, memory_region_init(&bus, "bus", UINT64_MAX));
    ASSERT_EQ(0, memory_region_init(&empty, "empty", 0));
    ASSERT_EQ(0, memory_region_init_alias(&window, "window", &root, 0, UINT64_MAX));
    ASSERT_EQ(0, memory_region_add_subregion(&bus, 0, &window));
    ASSERT_EQ(0, memory_region_add_subregion(&bus, 0, &empty));
    ASSERT_EQ(0, memory_region_set_enabled(&empty, false));
    ASSERT_EQ(0, address_space_init(&master, &bus, "master"));
    ear_init(&leaver, "1", 0, &master);
    ear_init(&refuser, "2", 1, &master);
    ASSERT_EQ(0, memory_listener_register(&leaver.listener, &master));
    ASSERT_EQ(0, memory_listener_register(&refuser.listener, &master));
    leaver.listener.prepare = [](MemoryListener *l, const MemoryDelta *) {
        say(l, "prepare");
        return memory_listener_unregister(l);
    };
    refuser.refuse_with = -ENOSPC;
    heard.clear();
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_set_enabled(&empty, true)) << "the space turns to a view of its own";
    ASSERT_EQ(0, memory_region_set_alias_offset(&window, 0x1000));
    EXPECT_EQ(-ENOSPC, memory_transaction_commit());
    EXPECT_EQ((Strings{"1:begin", "1:prepare", "2:begin", "2:prepare", "1:abort", "1:begin", "1:del 3000", "1:del 2000",
                       "1:del 1000", "1:commit", "1:detached"}),
              heard);
    ASSERT_EQ(0, memory_listener_unregister(&refuser.listener));
    ASSERT_EQ(0, address_space_destroy(&master, nullptr));
    ASSERT_EQ(0, memory_region_del_subregion(&bus, &window));
    ASSERT_EQ(0, memory_region_del_subregion(&bus, &empty));
    ASSERT_EQ(0, memory_region_destroy(&window));
    ASSERT_EQ(0, memory_region_destroy(&bus));
    ASSERT_EQ(0, memory_region_destroy(&empty));
    ASSERT_EQ(0, memory_region_quiesce(&window));
    ASSERT_EQ(0, memory_region_quiesce(&bus));
    ASSERT_EQ(0, memory_region_quiesce(&empty));
}

TEST_F(Listener, LeavingDuringItsOwnRegistrationWorksToo)
{
    Ear e;
    ear_init(&e, "x", 0, &as);
    e.leave_at_add = true;
    ASSERT_EQ(0, memory_listener_register(&e.listener, &as));
    EXPECT_EQ("x:detached", heard.back());
    EXPECT_EQ(-EINVAL, memory_listener_unregister(&e.listener));
}

TEST_F(Listener, ACommitThatChangesNothingOfASpaceIsNotHeardThere)
{
    Ear e;
    MemoryRegion elsewhere;
    ear_init(&e, "x", 0, &as);
    ASSERT_EQ(0, memory_listener_register(&e.listener, &as));
    heard.clear();
    ASSERT_EQ(0, memory_region_init(&elsewhere, "elsewhere", 0x1000));
    ASSERT_EQ(0, memory_region_set_size(&elsewhere, 0x2000));
    ASSERT_EQ(0, memory_region_set_enabled(&dev[0].mr, true)) << "it is";
    Device hidden;
    device_init(&hidden, "hidden", 0x10);
    ASSERT_EQ(0, memory_region_add_subregion_overlap(&root, 0x1000, &hidden.mr, -1));
    EXPECT_EQ(Strings(), heard) << "what is covered is not seen";
    ASSERT_EQ(0, memory_region_del_subregion(&root, &hidden.mr));
    ASSERT_EQ(0, memory_listener_unregister(&e.listener));
    ASSERT_EQ(0, memory_region_destroy(&hidden.mr));
    ASSERT_EQ(0, memory_region_destroy(&elsewhere));
    ASSERT_EQ(0, memory_region_quiesce(&hidden.mr));
    ASSERT_EQ(0, memory_region_quiesce(&elsewhere));
}

TEST_F(Listener, ASplitArrivesAsOneSpanWithBothSides)
{
    struct SpanEar {
        MemoryListener listener;
        std::vector<std::string> spans;
    } e = {};
    e.listener.prepare = [](MemoryListener *l, const MemoryDelta *d) {
        for (size_t i = 0; i < d->n_spans; i++) {
            const MemorySpan &s = d->spans[i];
            reinterpret_cast<SpanEar *>(l)->spans.push_back(hex(s.first) + "-" + hex(s.last) + " " +
                                                            std::to_string(s.n_old) + ">" + std::to_string(s.n_new));
        }
        return 0;
    };
    ASSERT_EQ(0, memory_listener_register(&e.listener, &as));
    e.spans.clear();
    ASSERT_EQ(0, memory_region_set_address(&dev[2].mr, 0x2040)) << "into the middle of b: added later, so on top";
    EXPECT_EQ((Strings{"2000-213f 1>2", "3000-30ff 1>0"}), e.spans);
    e.spans.clear();
    ASSERT_EQ(0, memory_region_set_size(&dev[2].mr, 0x40));
    EXPECT_EQ((Strings{"2040-213f 1>2"}), e.spans) << "the rest of b reappears above";
    ASSERT_EQ(0, memory_listener_unregister(&e.listener));
}

TEST_F(Listener, ASpaceThatTurnsToAnotherViewHearsTheDifference)
{
    MemoryRegion bus, window;
    AddressSpace master = {};
    Ear e;
    ASSERT_EQ(0, memory_region_init(&bus, "bus", UINT64_MAX));
    ASSERT_EQ(0, memory_region_init_alias(&window, "window", &root, 0, UINT64_MAX));
    ASSERT_EQ(0, memory_region_add_subregion(&bus, 0, &window));
    ASSERT_EQ(0, address_space_init(&master, &bus, "master"));
    ear_init(&e, "x", 0, &master);
    ASSERT_EQ(0, memory_listener_register(&e.listener, &master));
    heard.clear();
    ASSERT_EQ(0, memory_region_set_enabled(&window, false));
    EXPECT_EQ((Strings{"x:begin", "x:prepare", "x:del 1000", "x:del 2000", "x:del 3000", "x:commit"}), heard);
    heard.clear();
    ASSERT_EQ(0, memory_region_set_enabled(&window, true));
    EXPECT_EQ((Strings{"x:begin", "x:prepare", "x:add 1000", "x:add 2000", "x:add 3000", "x:commit"}), heard);
    ASSERT_EQ(0, memory_listener_unregister(&e.listener));
    ASSERT_EQ(0, address_space_destroy(&master, nullptr));
    ASSERT_EQ(0, memory_region_del_subregion(&bus, &window));
    ASSERT_EQ(0, memory_region_destroy(&window));
    ASSERT_EQ(0, memory_region_destroy(&bus));
    ASSERT_EQ(0, memory_region_quiesce(&window));
    ASSERT_EQ(0, memory_region_quiesce(&bus));
}

} // namespace
