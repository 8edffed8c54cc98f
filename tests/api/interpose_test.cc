/* SPDX-License-Identifier: MIT */
/* Interposers: containers that see what is done to what lies below them. */
#include "actor.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include <sys/eventfd.h>
#include <unistd.h>

namespace {

/* Writes down what it sees, and does with it what the test says. */
struct Spy {
    MemoryRegion mr;
    const char *name;
    std::vector<std::string> *log; /* may be NULL */
    std::function<MemTxResult(MemoryInterposed *, hwaddr, uint64_t *)> on_read;
    std::function<MemTxResult(MemoryInterposed *, hwaddr, uint64_t)> on_write;
    uint64_t seen;
};

Spy *spy_of(MemoryRegion *mr)
{
    return reinterpret_cast<Spy *>(mr);
}

void note(Spy *spy, const char *what, hwaddr addr, uint64_t data, unsigned size)
{
    __atomic_add_fetch(&spy->seen, 1, __ATOMIC_RELAXED);
    if (spy->log) {
        std::ostringstream out;
        out << spy->name << what << size * 8 << "@" << std::hex << addr << "=" << data;
        spy->log->push_back(out.str());
    }
}

MemTxResult spy_read(MemoryRegion *mr, MemoryInterposed *access, hwaddr addr, uint64_t *data, unsigned size, MemTxAttrs)
{
    Spy *spy = spy_of(mr);
    MemTxResult result = spy->on_read ? spy->on_read(access, addr, data) : memory_interposer_pass_read(access, data);

    note(spy, " r", addr, *data, size);
    return result;
}

MemTxResult spy_write(MemoryRegion *mr, MemoryInterposed *access, hwaddr addr, uint64_t data, unsigned size, MemTxAttrs)
{
    Spy *spy = spy_of(mr);

    note(spy, " w", addr, data, size);
    return spy->on_write ? spy->on_write(access, addr, data) : memory_interposer_pass_write(access, data);
}

const MemoryInterposerOps little = {spy_read, spy_write, MEMORY_LITTLE_ENDIAN};
const MemoryInterposerOps big = {spy_read, spy_write, MEMORY_BIG_ENDIAN};
const MemoryInterposerOps writes_only = {nullptr, spy_write, MEMORY_LITTLE_ENDIAN};

using Log = std::vector<std::string>;

/* Device a at 0x10 in spy "o" at 0x100 in spy "O" of 0x1000 bytes at 0x40000; RAM at 0x400 in "o". */
class Interpose : public Actors {
protected:
    static constexpr hwaddr TOP = 0x40000, DEV = TOP + 0x110, MEM = TOP + 0x500;

    void SetUp() override
    {
        Actors::SetUp();
        ASSERT_EQ(0, memory_region_init_interposer(&outer.mr, &little, "outer", 0x1000));
        ASSERT_EQ(0, memory_region_init_interposer(&inner.mr, &big, "inner", 0x800));
        outer.name = "O";
        inner.name = "o";
        outer.log = inner.log = &log;
        ASSERT_EQ(0, memory_region_del_subregion(&root, &a.mr));
        ASSERT_EQ(0, memory_region_del_subregion(&root, &ram));
        ASSERT_EQ(0, memory_region_set_size(&ram, 0x400));
        ASSERT_EQ(0, memory_region_add_subregion(&inner.mr, 0x10, &a.mr));
        ASSERT_EQ(0, memory_region_add_subregion(&inner.mr, 0x400, &ram));
        ASSERT_EQ(0, memory_region_add_subregion(&outer.mr, 0x100, &inner.mr));
        ASSERT_EQ(0, memory_region_add_subregion(&root, TOP, &outer.mr));
        a.on_read = [this](hwaddr addr, uint64_t *data, unsigned size) {
            note(&device, " r", addr, *data = 0x11223344, size);
            return MEMTX_OK;
        };
        a.on_write = [this](hwaddr addr, uint64_t data, unsigned size) {
            return note(&device, " w", addr, data, size), MEMTX_OK;
        };
        device.name = "a";
        device.log = &log;
    }

    void TearDown() override
    {
        ASSERT_EQ(0, memory_region_del_subregion(&root, &outer.mr));
        ASSERT_EQ(0, memory_region_del_subregion(&outer.mr, &inner.mr));
        for (MemoryRegion *mr : {&a.mr, &ram}) {
            if (memory_region_get_parent(mr)) {
                ASSERT_EQ(0, memory_region_del_subregion(memory_region_get_parent(mr), mr));
            }
        }
        for (Spy *spy : {&inner, &outer}) {
            ASSERT_EQ(0, memory_region_destroy(&spy->mr));
            ASSERT_EQ(0, memory_region_quiesce(&spy->mr));
        }
        Actors::TearDown();
    }

    Log take()
    {
        Log taken;
        std::swap(taken, log);
        return taken;
    }

    Spy outer = {}, inner = {}, device = {};
    Log log;
};

TEST_F(Interpose, TheOutermostIsAskedFirstEachAtItsOwnOffsetsInItsOwnOrder)
{
    uint32_t value = 0;

    EXPECT_EQ(MEMTX_OK, load(DEV + 4, &value));
    EXPECT_EQ(0x11223344u, value);
    EXPECT_EQ((Log{"a r32@4=11223344", "o r32@14=44332211", "O r32@114=11223344"}), take());
    EXPECT_EQ(MEMTX_OK, store(DEV + 8, 0xa1b2c3d4));
    EXPECT_EQ((Log{"O w32@118=a1b2c3d4", "o w32@18=d4c3b2a1", "a w32@8=a1b2c3d4"}), take());
    EXPECT_EQ(MEMTX_OK, address_space_stw_be(&as, DEV, MEMTXATTRS_UNSPECIFIED, 0x1234));
    EXPECT_EQ((Log{"O w16@110=3412", "o w16@10=1234", "a w16@0=3412"}), take());
}

TEST_F(Interpose, MayChangeRefuseOrAnswer)
{
    uint32_t value = 7;

    outer.on_write = [](MemoryInterposed *access, hwaddr, uint64_t data) {
        return data == 13 ? MEMTX_ACCESS_ERROR : memory_interposer_pass_write(access, data + 1);
    };
    outer.on_read = [](MemoryInterposed *access, hwaddr addr, uint64_t *data) {
        return addr == 0x110 ? (*data = 42, MEMTX_OK) : addr == 0x114 ? MEMTX_ERROR : memory_interposer_pass_read(access, data);
    };
    EXPECT_EQ(MEMTX_OK, store(DEV, 1));
    EXPECT_EQ(MEMTX_ACCESS_ERROR, store(DEV, 13));
    EXPECT_EQ((Log{"O w32@110=1", "o w32@10=2000000", "a w32@0=2", "O w32@110=d"}), take());
    EXPECT_EQ(MEMTX_OK, load(DEV, &value));
    EXPECT_EQ(42u, value);
    EXPECT_EQ(MEMTX_ERROR, load(DEV + 4, &value));
    EXPECT_EQ(42u, value) << "untouched";
    EXPECT_EQ((Log{"O r32@110=2a", "O r32@114=0"}), take());
    EXPECT_EQ(MEMTX_OK, load(DEV + 8, &value));
    EXPECT_EQ(0x11223344u, value);
}

TEST_F(Interpose, MemoryBelowIsNotAccessedDirectly)
{
    uint8_t *host = static_cast<uint8_t *>(memory_region_get_ram_ptr(&ram)), buf[13];
    MemoryRegionSection section;
    uint64_t quad;

    FlatView *view = address_space_get_flatview(&as);
    ASSERT_TRUE(flatview_find(view, MEM, &section));
    flatview_unref(view);
    EXPECT_EQ(&ram, section.mr);
    EXPECT_EQ(nullptr, section.host);
    EXPECT_TRUE(section.interposed);
    for (unsigned i = 0; i < 64; i++) {
        host[i] = (uint8_t)i;
    }
    for (int again = 0; again < 3; again++) {
        EXPECT_EQ(MEMTX_OK, address_space_ldq_le(&as, MEM + 3, MEMTXATTRS_UNSPECIFIED, &quad));
        EXPECT_EQ(0x0a09080706050403u, quad) << "as it was made, aligned or not";
        EXPECT_EQ((Log{"o r64@403=30405060708090a", "O r64@503=a09080706050403"}), take());
    }
    inner.log = nullptr;
    EXPECT_EQ(MEMTX_OK, address_space_read(&as, MEM + 1, MEMTXATTRS_UNSPECIFIED, buf, 13));
    EXPECT_EQ(0, memcmp(buf, host + 1, 13));
    EXPECT_EQ((Log{"O r8@501=1", "O r16@502=302", "O r32@504=7060504", "O r32@508=b0a0908", "O r16@50c=d0c"}), take());
    EXPECT_EQ(MEMTX_OK, address_space_write(&as, MEM + 8, MEMTXATTRS_UNSPECIFIED, "abcdefgh", 8));
    EXPECT_EQ(0, memcmp(host + 8, "abcdefgh", 8));
    EXPECT_EQ((Log{"O w64@508=6867666564636261"}), take());
    ASSERT_EQ(0, memory_region_set_readonly(&ram, true));
    EXPECT_EQ(MEMTX_ACCESS_ERROR, store(MEM, 1)) << "the interposer is asked, but what it passes is refused";
    EXPECT_EQ((Log{"O w32@500=1"}), take());
    ASSERT_EQ(0, memory_region_set_readonly(&ram, false));
}

TEST_F(Interpose, AnotherWayToTheSameRegionIsNotInterposed)
{
    MemoryRegion past, through, half;

    ASSERT_EQ(0, memory_region_init_alias(&past, "past", &a.mr, 0, 0x100));
    ASSERT_EQ(0, memory_region_init_alias(&through, "through", &outer.mr, 0x100, 0x800));
    ASSERT_EQ(0, memory_region_init_alias(&half, "half", &inner.mr, 0, 0x800));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x50000, &past));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x60000, &through));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x70000, &half));
    EXPECT_EQ(MEMTX_OK, store(0x50000, 1));
    EXPECT_EQ((Log{"a w32@0=1"}), take());
    EXPECT_EQ(MEMTX_OK, store(0x60014, 1));
    EXPECT_EQ((Log{"O w32@114=1", "o w32@14=1000000", "a w32@4=1"}), take());
    EXPECT_EQ(MEMTX_OK, store(0x70014, 1));
    EXPECT_EQ((Log{"o w32@14=1000000", "a w32@4=1"}), take());
    for (MemoryRegion *mr : {&past, &through, &half}) {
        ASSERT_EQ(0, memory_region_del_subregion(&root, mr));
        ASSERT_EQ(0, memory_region_destroy(mr));
        ASSERT_EQ(0, memory_region_quiesce(mr));
    }
}

TEST_F(Interpose, ComesGoesAndMovesLikeAnyChange)
{
    Device fast;

    device_init(&fast, "fast", 0x100);
    ASSERT_EQ(0, memory_region_add_subregion(&outer.mr, 0, &fast.mr));
    ASSERT_EQ(0, memory_region_set_interposer(&outer.mr, nullptr));
    ASSERT_EQ(0, memory_region_set_interposer(&inner.mr, nullptr));
    EXPECT_FALSE(memory_region_is_interposer(&outer.mr));
    for (int i = 0; i < 3; i++) { /* the thread's cache has them now */
        EXPECT_EQ(MEMTX_OK, store(TOP + 4, 5));
        EXPECT_EQ(MEMTX_OK, load(MEM));
    }
    EXPECT_EQ((Log{}), take());
    ASSERT_EQ(0, memory_transaction_begin());
    ASSERT_EQ(0, memory_region_set_interposer(&outer.mr, &little));
    EXPECT_EQ(MEMTX_OK, store(TOP + 4, 5));
    EXPECT_EQ((Log{}), take()) << "not yet";
    memory_transaction_abort();
    EXPECT_FALSE(memory_region_is_interposer(&outer.mr));
    EXPECT_EQ(MEMTX_OK, store(TOP + 4, 5));
    EXPECT_EQ((Log{}), take());
    ASSERT_EQ(0, memory_region_set_interposer(&outer.mr, &little));
    EXPECT_TRUE(memory_region_is_interposer(&outer.mr));
    EXPECT_EQ(MEMTX_OK, store(TOP + 4, 6));
    EXPECT_EQ(6u, fast.written);
    EXPECT_EQ(MEMTX_OK, load(MEM));
    EXPECT_EQ((Log{"O w32@4=6", "O r32@500=0"}), take());
    ASSERT_EQ(0, memory_region_set_interposer(&outer.mr, &writes_only));
    EXPECT_EQ(MEMTX_OK, store(TOP + 4, 6));
    EXPECT_EQ(MEMTX_OK, load(TOP + 4));
    EXPECT_EQ((Log{"O w32@4=6"}), take());
    ASSERT_EQ(0, memory_region_set_address(&outer.mr, 0x80000));
    EXPECT_EQ(MEMTX_OK, store(0x80004, 7));
    EXPECT_EQ((Log{"O w32@4=7"}), take()) << "sees offsets in itself, wherever it is";
    ASSERT_EQ(0, memory_region_set_address(&inner.mr, 0x200));
    EXPECT_EQ(MEMTX_OK, store(0x80210, 7));
    EXPECT_EQ((Log{"O w32@210=7", "a w32@0=7"}), take());
    ASSERT_EQ(0, memory_region_set_enabled(&outer.mr, false));
    EXPECT_EQ(MEMTX_DECODE_ERROR, store(0x80004, 7));
    EXPECT_EQ((Log{}), take());
    ASSERT_EQ(0, memory_region_set_enabled(&outer.mr, true));
    ASSERT_EQ(0, memory_region_del_subregion(&outer.mr, &fast.mr));
    ASSERT_EQ(0, memory_region_destroy(&fast.mr));
    ASSERT_EQ(0, memory_region_quiesce(&fast.mr));
}

TEST_F(Interpose, ASpaceWhoseRootIsAnInterposerSeesThroughIt)
{
    AddressSpace own = {};

    ASSERT_EQ(0, address_space_init(&own, &inner.mr, "own"));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&own, 0x100 + 0x14, MEMTXATTRS_UNSPECIFIED, 1)) << "painted at its own offset";
    EXPECT_EQ((Log{"o w32@14=1000000", "a w32@4=1"}), take());
    ASSERT_EQ(0, memory_region_del_subregion(&inner.mr, &ram)); /* one child left: no reason to go past the interposer */
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&own, 0x100 + 0x14, MEMTXATTRS_UNSPECIFIED, 1));
    EXPECT_EQ((Log{"o w32@14=1000000", "a w32@4=1"}), take());
    ASSERT_EQ(0, memory_region_set_interposer(&inner.mr, nullptr));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&own, 0x100 + 0x14, MEMTXATTRS_UNSPECIFIED, 1));
    EXPECT_EQ((Log{"a w32@4=1"}), take());
    ASSERT_EQ(0, memory_region_set_interposer(&inner.mr, &big));
    EXPECT_EQ(MEMTX_OK, address_space_stl_le(&own, 0x100 + 0x14, MEMTXATTRS_UNSPECIFIED, 1));
    EXPECT_EQ((Log{"o w32@14=1000000", "a w32@4=1"}), take());
    ASSERT_EQ(0, address_space_destroy(&own, nullptr));
}

TEST_F(Interpose, HolesAreHolesAndReservationsAreAsked)
{
    MemoryRegion reserved;

    EXPECT_EQ(MEMTX_DECODE_ERROR, store(TOP + 0xf00, 1));
    EXPECT_EQ((Log{}), take());
    ASSERT_EQ(0, memory_region_init_reservation(&reserved, "reserved", 0x100));
    ASSERT_EQ(0, memory_region_add_subregion(&outer.mr, 0xf00, &reserved));
    EXPECT_EQ(MEMTX_DECODE_ERROR, store(TOP + 0xf00, 1));
    EXPECT_EQ((Log{"O w32@f00=1"}), take());
    ASSERT_EQ(0, memory_region_del_subregion(&outer.mr, &reserved));
    ASSERT_EQ(0, memory_region_destroy(&reserved));
    ASSERT_EQ(0, memory_region_quiesce(&reserved));
}

TEST_F(Interpose, AnAccessStaysInItsViewWhateverTheInterposerPublishes)
{
    outer.on_write = [this](MemoryInterposed *access, hwaddr, uint64_t data) {
        hwaddr offset;
        EXPECT_EQ(&a.mr, memory_interposed_region(access, &offset));
        EXPECT_EQ(4u, offset);
        EXPECT_EQ(0, memory_region_set_interposer(&inner.mr, nullptr));
        EXPECT_EQ(0, memory_region_set_enabled(&a.mr, false));
        return memory_interposer_pass_write(access, data);
    };
    EXPECT_EQ(MEMTX_OK, store(DEV + 4, 1));
    EXPECT_EQ((Log{"O w32@114=1", "o w32@14=1000000", "a w32@4=1"}), take());
    EXPECT_EQ(MEMTX_DECODE_ERROR, store(DEV + 4, 1));
}

TEST_F(Interpose, WhatAsksBeforeAnAccessOrGoesAroundItKnows)
{
    const MemTxAttrs attrs = MEMTXATTRS_UNSPECIFIED;
    MemoryRegionSection section;
    hwaddr len = 16;

    EXPECT_EQ(MEMTX_OK, address_space_translate(&as, MEM, true, attrs, &section));
    EXPECT_EQ(nullptr, section.host);
    EXPECT_TRUE(address_space_is_io(&as, MEM));
    EXPECT_TRUE(address_space_access_valid(&as, MEM + 1, 21, true, attrs));
    EXPECT_EQ(MEMTX_OK, address_space_set(&as, MEM, 0x5a, 16, attrs));
    EXPECT_EQ((Log{"O w64@500=5a5a5a5a5a5a5a5a", "o w64@400=5a5a5a5a5a5a5a5a", "O w64@508=5a5a5a5a5a5a5a5a",
                   "o w64@408=5a5a5a5a5a5a5a5a"}),
              take());
    void *copy = nullptr;
    ASSERT_EQ(0, address_space_map(&as, MEM, &len, MEMORY_MAP_READ, attrs, &copy));
    EXPECT_NE(memory_region_get_ram_ptr(&ram), copy) << "DMA is seen, so it goes through a copy";
    EXPECT_EQ(0x5a, static_cast<uint8_t *>(copy)[15]);
    EXPECT_EQ(4u, take().size());
    ASSERT_EQ(0, address_space_unmap(&as, copy, len, MEMORY_MAP_READ, len, nullptr));
}

TEST_F(Interpose, GuardsAndLocksHoldBelow)
{
    int refused = 0;

    a.on_write = [&](hwaddr, uint64_t, unsigned) { return refused += store(DEV, 1) == MEMTX_ACCESS_ERROR, MEMTX_OK; };
    ASSERT_EQ(0, memory_region_set_reentrancy(&a.mr, MEMORY_REENTRANCY_REFUSE));
    EXPECT_EQ(MEMTX_OK, store(DEV, 1));
    EXPECT_EQ(1, refused);
}

TEST_F(Interpose, BadInputIsRefused)
{
    MemoryInterposerOps none = {}, orderless = little;
    MemoryRegion mr;

    orderless.endianness = (MemoryEndianness)0;
    EXPECT_EQ(-EINVAL, memory_region_init_interposer(&mr, nullptr, "x", 1));
    EXPECT_EQ(-EINVAL, memory_region_init_interposer(&mr, &none, "x", 1));
    EXPECT_EQ(-EINVAL, memory_region_init_interposer(&mr, &orderless, "x", 1));
    EXPECT_EQ(-EINVAL, memory_region_set_interposer(&a.mr, &little)) << "no container";
    EXPECT_EQ(-EINVAL, memory_region_set_interposer(nullptr, &little));
    EXPECT_EQ(-EINVAL, memory_region_set_interposer(&root, &none));
    MemTxResult wrong = MEMTX_OK;
    outer.on_write = [&](MemoryInterposed *access, hwaddr, uint64_t) {
        uint64_t data;
        return wrong = memory_interposer_pass_read(access, &data), MEMTX_OK;
    };
    EXPECT_EQ(MEMTX_OK, store(DEV, 1));
    EXPECT_EQ(MEMTX_ERROR, wrong);
    outer.on_read = [&](MemoryInterposed *access, hwaddr, uint64_t *data) {
        return wrong = memory_interposer_pass_write(access, *data = 0), MEMTX_OK;
    };
    wrong = MEMTX_OK;
    EXPECT_EQ(MEMTX_OK, load(DEV));
    EXPECT_EQ(MEMTX_ERROR, wrong);
}

struct Doorbells {
    MemoryListener listener;
    int told;
};

TEST_F(Interpose, AnIoeventfdBelowIsNotTheAccelerators)
{
    Doorbells bells = {};
    int fd = eventfd(0, EFD_NONBLOCK);
    uint64_t kicks = 0;

    bells.listener.eventfd_add = [](MemoryListener *l, const MemoryRegionSection *, bool, uint64_t, int) {
        reinterpret_cast<Doorbells *>(l)->told++;
    };
    bells.listener.eventfd_del = [](MemoryListener *l, const MemoryRegionSection *, bool, uint64_t, int) {
        reinterpret_cast<Doorbells *>(l)->told--;
    };
    ASSERT_EQ(0, memory_region_add_eventfd(&a.mr, 4, 4, false, 0, fd));
    ASSERT_EQ(0, memory_listener_register(&bells.listener, &as));
    EXPECT_EQ(0, bells.told);
    EXPECT_EQ(MEMTX_OK, store(DEV + 4, 1));
    EXPECT_EQ((Log{"O w32@114=1", "o w32@14=1000000"}), take());
    EXPECT_EQ((ssize_t)sizeof(kicks), read(fd, &kicks, sizeof(kicks)));
    outer.on_write = [](MemoryInterposed *, hwaddr, uint64_t) { return MEMTX_ACCESS_ERROR; };
    EXPECT_EQ(MEMTX_ACCESS_ERROR, store(DEV + 4, 1));
    EXPECT_EQ(-1, read(fd, &kicks, sizeof(kicks))) << "refused means refused";
    for (Spy *spy : {&outer, &inner}) {
        ASSERT_EQ(0, memory_region_set_interposer(&spy->mr, nullptr));
    }
    EXPECT_EQ(1, bells.told);
    ASSERT_EQ(0, memory_region_set_interposer(&outer.mr, &little));
    EXPECT_EQ(0, bells.told);
    ASSERT_EQ(0, memory_region_set_interposer(&outer.mr, nullptr));
    ASSERT_EQ(0, memory_region_set_interposer(&inner.mr, &big));
    ASSERT_EQ(0, memory_listener_unregister(&bells.listener));
    EXPECT_EQ(0, bells.told);
    ASSERT_EQ(0, memory_region_del_eventfd(&a.mr, 4, 4, false, 0, fd));
    close(fd);
}

struct Heard {
    MemoryListener listener;
    std::string text;
};

TEST_F(Interpose, ListenersHearThatItIsNotMemoryAnyMore)
{
    Heard heard = {};
    auto tell = [](MemoryListener *l, const char *sign, const MemoryRegionSection *s) {
        std::ostringstream out;
        out << " " << sign << memory_region_name(s->mr) << (s->host ? " direct" : " trapped");
        reinterpret_cast<Heard *>(l)->text += out.str();
    };
    static auto told = tell;

    heard.listener.region_add = [](MemoryListener *l, const MemoryRegionSection *s) { told(l, "+", s); };
    heard.listener.region_del = [](MemoryListener *l, const MemoryRegionSection *s) { told(l, "-", s); };
    ASSERT_EQ(0, memory_listener_register(&heard.listener, &as));
    heard.text.clear();
    ASSERT_EQ(0, memory_region_set_interposer(&outer.mr, nullptr));
    EXPECT_EQ(" -a trapped -ram trapped +a trapped +ram trapped", heard.text);
    heard.text.clear();
    ASSERT_EQ(0, memory_region_set_interposer(&inner.mr, nullptr));
    EXPECT_EQ(" -a trapped -ram trapped +a trapped +ram direct", heard.text);
    heard.text.clear();
    ASSERT_EQ(0, memory_region_set_interposer(&outer.mr, &little));
    EXPECT_EQ(" -a trapped -ram direct +a trapped +ram trapped", heard.text);
    ASSERT_EQ(0, memory_listener_unregister(&heard.listener));
}

/* Each place of a device in an interposer is a way of its own; what no view shows must not stay for ever. */
TEST_F(Interpose, WaysThatNobodyTakesAnyMoreAreForgotten)
{
    MemoryStats before, after;
    uint64_t seen = 0;

    outer.log = inner.log = device.log = nullptr;
    auto wander = [&](hwaddr at) {
        ASSERT_EQ(0, memory_region_set_address(&inner.mr, at));
        for (unsigned i = 0; i < 700; i++) {
            ASSERT_EQ(0, memory_region_set_address(&a.mr, i));
            ASSERT_EQ(MEMTX_OK, store(TOP + at + i, 1));
            ASSERT_EQ(++seen, inner.seen);
        }
    };
    wander(0x100);
    FlatView *view = address_space_get_flatview(&as);
    memory_get_stats(&before);
    for (hwaddr round = 1; round < 30; round++) {
        wander(0x100 + round); /* 20,000 ways, of 100 bytes each */
    }
    flatview_unref(view);
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(0, memory_reclaim());
    }
    memory_get_stats(&after);
    EXPECT_LT(after.live_bytes, before.live_bytes + 300000);
}

TEST_F(Interpose, ThreadsSeeEveryAccessWhileTheTreeChanges)
{
    std::atomic<bool> end{false};
    std::vector<std::thread> threads;

    outer.log = inner.log = device.log = nullptr;
    for (int i = 0; i < 2; i++) {
        threads.emplace_back([&] {
            uint64_t bytes[4];
            while (!end) {
                store(DEV, 1);
                load(MEM);
                address_space_read(&as, TOP, MEMTXATTRS_UNSPECIFIED, bytes, sizeof(bytes));
                address_space_write(&as, MEM, MEMTXATTRS_UNSPECIFIED, bytes, sizeof(bytes));
            }
        });
    }
    for (unsigned i = 0; i < 1500 || !__atomic_load_n(&inner.seen, __ATOMIC_RELAXED); i++) { /* the threads may be late */
        Spy *extra = new Spy();
        ASSERT_EQ(0, memory_region_init_interposer(&extra->mr, i % 2 ? &little : &big, "extra", 0x100));
        ASSERT_EQ(0, memory_region_set_release(&extra->mr, [](MemoryRegion *mr) { delete spy_of(mr); }));
        ASSERT_EQ(0, memory_transaction_begin());
        ASSERT_EQ(0, memory_region_del_subregion(memory_region_get_parent(&a.mr), &a.mr));
        ASSERT_EQ(0, memory_region_add_subregion(&extra->mr, 0, &a.mr));
        ASSERT_EQ(0, memory_region_add_subregion(&inner.mr, 0x10 + i % 7 * 0x10, &extra->mr));
        ASSERT_EQ(0, memory_transaction_commit());
        ASSERT_EQ(0, memory_region_set_interposer(&outer.mr, i % 3 ? &little : nullptr));
        ASSERT_EQ(0, memory_transaction_begin());
        ASSERT_EQ(0, memory_region_del_subregion(&extra->mr, &a.mr));
        ASSERT_EQ(0, memory_region_del_subregion(&inner.mr, &extra->mr));
        ASSERT_EQ(0, memory_region_add_subregion(&inner.mr, 0x10 + i % 5 * 0x10, &a.mr));
        ASSERT_EQ(0, memory_region_destroy(&extra->mr));
        ASSERT_EQ(0, memory_transaction_commit());
    }
    end = true;
    for (auto &t : threads) {
        t.join();
    }
    EXPECT_GT(inner.seen, 0u);
}

/*
 * Random trees of interposers, containers, aliases and devices, changed at random; after each change every address is asked who
 * sees an access to it, and the answer compared with one that follows the rules of visibility from the root, naively.
 */
struct Node {
    Spy spy; /* the region is its first member */
    enum Kind { CONTAINER, DEVICE, ALIAS } kind;
    int parent, target;
    hwaddr addr, offset, size;
    int priority;
    bool enabled, interposes;
    uint64_t order;
};

class InterposeModel : public testing::Test {
protected:
    static constexpr int N = 14;
    static constexpr hwaddr SPACE = 64;

    /* The chain of those who see an access to addr of node n, outermost first, the device last; empty if nobody answers. */
    std::string resolve(int n, hwaddr addr, int depth)
    {
        const Node &node = nodes[n];
        if (!node.enabled || addr >= node.size || depth > 40) {
            return "";
        }
        if (node.kind == Node::DEVICE) {
            return " " + std::to_string(n) + "@" + std::to_string(addr);
        }
        if (node.kind == Node::ALIAS) {
            return resolve(node.target, addr + node.offset, depth + 1);
        }
        std::vector<int> children;
        for (int c = 0; c < N; c++) {
            if (nodes[c].parent == n && addr >= nodes[c].addr) {
                children.push_back(c);
            }
        }
        std::sort(children.begin(), children.end(), [&](int x, int y) {
            return nodes[x].priority != nodes[y].priority ? nodes[x].priority > nodes[y].priority :
                                                            nodes[x].order > nodes[y].order;
        });
        for (int c : children) {
            std::string below = resolve(c, addr - nodes[c].addr, depth + 1);
            if (!below.empty()) {
                return (node.interposes ? " " + std::to_string(n) + "@" + std::to_string(addr) : "") + below;
            }
        }
        return "";
    }

    static MemTxResult see(MemoryRegion *mr, MemoryInterposed *access, hwaddr addr, uint64_t *data, unsigned, MemTxAttrs)
    {
        Node *node = reinterpret_cast<Node *>(mr);
        *seen += " " + std::to_string(node->order & 0xff) + "@" + std::to_string(addr);
        return memory_interposer_pass_read(access, data);
    }

    static std::string *seen;
    Node nodes[N] = {};
};

std::string *InterposeModel::seen;

TEST_F(InterposeModel, EveryAccessIsSeenByThoseWhoseTreeItGoesThrough)
{
    const MemoryInterposerOps ops = {see, nullptr, MEMORY_LITTLE_ENDIAN};
    MemoryRegionOps device = *device_ops();
    std::mt19937 random(20230330);
    std::string text;
    AddressSpace as = {};
    uint64_t counter = 0;
    int deep = 0;
    auto pick = [&](unsigned n) { return (int)(random() % n); };

    seen = &text;
    device.read = [](MemoryRegion *mr, hwaddr addr, unsigned) -> uint64_t {
        *seen += " " + std::to_string(reinterpret_cast<Node *>(mr)->order & 0xff) + "@" + std::to_string(addr);
        return 0;
    };
    for (int n = 0; n < N; n++) {
        Node &node = nodes[n];
        node.kind = n < 6 ? Node::CONTAINER : n < 10 ? Node::DEVICE : Node::ALIAS;
        node.size = n == 0 ? SPACE : node.kind == Node::DEVICE ? 4 + (hwaddr)pick(20) : 30 + (hwaddr)pick(34);
        node.enabled = true;
        node.parent = -1;
        node.order = (uint64_t)n;
        if (node.kind == Node::CONTAINER) {
            ASSERT_EQ(0, memory_region_init(&node.spy.mr, "container", node.size));
        } else if (node.kind == Node::DEVICE) {
            ASSERT_EQ(0, memory_region_init_io(&node.spy.mr, &device, "device", node.size));
        } else {
            node.target = 1 + pick(9);
            ASSERT_EQ(0, memory_region_init_alias(&node.spy.mr, "alias", &nodes[node.target].spy.mr, 0, node.size));
        }
    }
    ASSERT_EQ(0, address_space_init(&as, &nodes[0].spy.mr, "memory"));
    for (int step = 0; step < 1500; step++) {
        int n = 1 + pick(N - 1), p = n < 6 ? pick((unsigned)n) : pick(6);
        Node &node = nodes[n];
        int err = memory_transaction_begin();
        ASSERT_EQ(0, err);
        Node old = node;
        switch (pick(7)) {
        case 0:
        case 1:
            if (node.parent >= 0 && pick(3) == 0) {
                err = memory_region_del_subregion(&nodes[node.parent].spy.mr, &node.spy.mr);
                node.parent = -1;
            } else if (node.parent < 0) {
                node.addr = (hwaddr)pick(20);
                node.priority = pick(3);
                err = memory_region_add_subregion_overlap(&nodes[p].spy.mr, node.addr, &node.spy.mr, node.priority);
                if (err == 0) {
                    node.parent = p;
                    node.order = (++counter << 8) | (uint64_t)n;
                }
            }
            break;
        case 2:
            node.addr = (hwaddr)pick(20);
            err = memory_region_set_address(&node.spy.mr, node.addr);
            break;
        case 3:
            node.enabled = pick(8) != 0;
            err = memory_region_set_enabled(&node.spy.mr, node.enabled);
            break;
        case 4:
            if (node.kind == Node::ALIAS) {
                node.offset = (hwaddr)pick(20);
                err = memory_region_set_alias_offset(&node.spy.mr, node.offset);
            }
            break;
        default:
            if (nodes[p].enabled) {
                nodes[p].interposes = !nodes[p].interposes;
                err = memory_region_set_interposer(&nodes[p].spy.mr, nodes[p].interposes ? &ops : nullptr);
                ASSERT_EQ(0, err);
            }
            break;
        }
        if (err == 0) {
            err = memory_transaction_commit();
        } else {
            memory_transaction_abort();
        }
        if (err < 0) { /* a loop */
            node.parent = old.parent;
            node.addr = old.addr;
            node.priority = old.priority;
            node.enabled = old.enabled;
            node.offset = old.offset;
            node.order = old.order;
        }
        for (hwaddr addr = 0; addr < SPACE; addr++) {
            uint8_t byte;
            text.clear();
            MemTxResult result = address_space_ldub(&as, addr, MEMTXATTRS_UNSPECIFIED, &byte);
            std::string want = resolve(0, addr, 0);
            ASSERT_EQ(want, text) << "step " << step << " address " << addr;
            deep += std::count(want.begin(), want.end(), '@') > 2;
            ASSERT_EQ(want.empty() ? MEMTX_DECODE_ERROR : MEMTX_OK, result);
        }
    }
    EXPECT_GT(deep, 1000) << "through two interposers or more";
    ASSERT_EQ(0, address_space_destroy(&as, nullptr));
    for (int n = N - 1; n >= 0; n--) {
        if (nodes[n].parent >= 0) {
            ASSERT_EQ(0, memory_region_del_subregion(&nodes[nodes[n].parent].spy.mr, &nodes[n].spy.mr));
        }
    }
    for (int n = N - 1; n >= 0; n--) {
        ASSERT_EQ(0, memory_region_destroy(&nodes[n].spy.mr));
        ASSERT_EQ(0, memory_region_quiesce(&nodes[n].spy.mr));
    }
}

} // namespace
