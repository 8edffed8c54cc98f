/* SPDX-License-Identifier: MIT */
/* Population as virtio-mem and an accelerator have it; with several sources against bytes that say what should be. */
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <sys/mman.h>

#include <flatview/memory.h>

namespace {

constexpr uint64_t kSize = 0x10000, kGranule = 0x1000;

/* Mirrors what is populated of its section, by the byte; may refuse. */
struct Mirror : RamDiscardListener {
    std::vector<uint8_t> bytes;
    std::string heard;
    int refuse_after = -1; /* so many calls of populate */
    std::function<void(const MemoryRegionSection *)> hook;

    Mirror() : RamDiscardListener(), bytes(kSize)
    {
        populate = [](RamDiscardListener *l, const MemoryRegionSection *s) {
            auto *self = static_cast<Mirror *>(l);
            if (self->refuse_after >= 0 && self->refuse_after-- == 0) {
                return -ENOSPC;
            }
            self->hear('+', s);
            return 0;
        };
        discard = [](RamDiscardListener *l, const MemoryRegionSection *s) { static_cast<Mirror *>(l)->hear('-', s); };
    }

    void hear(char what, const MemoryRegionSection *s)
    {
        char text[80];
        uint64_t len = s->last - s->offset_within_address_space + 1;

        snprintf(text, sizeof(text), "%c%llx+%llx ", what, (unsigned long long)s->offset_within_region,
                 (unsigned long long)len);
        heard += text;
        EXPECT_EQ(s->offset_within_address_space - 0x100000, s->offset_within_region);
        auto from = bytes.begin() + static_cast<long>(s->offset_within_region), to = from + static_cast<long>(len);
        EXPECT_EQ(static_cast<long>(len), std::count(from, to, what == '-')) << text;
        std::fill(from, to, what == '+');
        if (hook) {
            hook(s);
        }
    }

    std::string take()
    {
        std::string text = heard.empty() ? heard : heard.substr(0, heard.size() - 1);
        heard.clear();
        return text;
    }
};

class Population : public testing::Test {
protected:
    void SetUp() override
    {
        ASSERT_EQ(0, memory_region_init_ram(&ram, "ram", kSize));
    }

    void TearDown() override
    {
        for (auto *s : {&source, &other}) {
            memory_region_del_ram_discard_source(&ram, s); /* -EINVAL: is none */
        }
        ASSERT_EQ(0, memory_region_destroy(&ram));
        ASSERT_EQ(0, memory_region_quiesce(&ram));
    }

    MemoryRegionSection section(uint64_t first = 0, uint64_t len = kSize)
    {
        MemoryRegionSection s = {};
        s.mr = &ram;
        s.offset_within_region = first;
        s.offset_within_address_space = 0x100000 + first;
        s.last = s.offset_within_address_space + len - 1;
        return s;
    }

    int add(RamDiscardListener *l, uint64_t first = 0, uint64_t len = kSize)
    {
        MemoryRegionSection s = section(first, len);
        return memory_region_register_ram_discard_listener(l, &s);
    }

    std::string replayed(bool populated, uint64_t first = 0, uint64_t len = kSize)
    {
        MemoryRegionSection s = section(first, len);
        std::string text;
        auto fn = [](const MemoryRegionSection *piece, void *arg) {
            char one[80];
            snprintf(one, sizeof(one), "%llx+%llx ", (unsigned long long)piece->offset_within_region,
                     (unsigned long long)(piece->last - piece->offset_within_address_space + 1));
            *static_cast<std::string *>(arg) += one;
            return 0;
        };
        EXPECT_EQ(0, populated ? memory_region_replay_populated(&s, fn, &text)
                               : memory_region_replay_discarded(&s, fn, &text));
        return text.empty() ? text : text.substr(0, text.size() - 1);
    }

    MemoryRegion ram;
    RamDiscardSource source = {}, other = {};
    Mirror a, b;
};

TEST_F(Population, WithoutSourcesAllIsPopulated)
{
    EXPECT_FALSE(memory_region_has_ram_discard_source(&ram));
    EXPECT_TRUE(memory_region_is_populated(&ram, 0, kSize));
    EXPECT_FALSE(memory_region_is_populated(&ram, 1, kSize)) << "not beyond the region";
    EXPECT_FALSE(memory_region_is_populated(&ram, 0, 0));
    EXPECT_EQ("0+10000", replayed(true));
    EXPECT_EQ("", replayed(false));
    ASSERT_EQ(0, add(&a, 0x800, 0x1000));
    EXPECT_EQ("+800+1000", a.take());
    EXPECT_EQ(0, memory_region_unregister_ram_discard_listener(&a));
    EXPECT_EQ("-800+1000", a.take());
}

TEST_F(Population, ListenersHearOfTheirSectionOnly)
{
    ASSERT_EQ(0, add(&a));
    ASSERT_EQ(0, memory_region_add_ram_discard_source(&ram, &source, kGranule, false));
    EXPECT_EQ("+0+10000 -0+10000", a.take());
    ASSERT_EQ(0, add(&b, 0x2800, 0x1000));
    EXPECT_EQ("", b.take());
    ASSERT_EQ(0, ram_discard_source_populate(&source, 0x1000, 0x2000));
    EXPECT_EQ("+1000+2000", a.take());
    EXPECT_EQ("+2800+800", b.take());
    ASSERT_EQ(0, ram_discard_source_populate(&source, 0, 0x5000)) << "part of it is";
    EXPECT_EQ("+0+1000 +3000+2000", a.take());
    EXPECT_EQ("+3000+800", b.take());
    ASSERT_EQ(0, ram_discard_source_discard(&source, 0x3000, 0x1000));
    ASSERT_EQ(0, ram_discard_source_discard(&source, 0x3000, 0x1000));
    EXPECT_EQ("-3000+1000", a.take());
    EXPECT_EQ("-3000+800", b.take());
    EXPECT_TRUE(memory_region_is_populated(&ram, 0, 0x3000));
    EXPECT_FALSE(memory_region_is_populated(&ram, 0x2fff, 2));
    EXPECT_EQ("0+3000 4000+1000", replayed(true));
    EXPECT_EQ("3000+1000 5000+b000", replayed(false));
    EXPECT_EQ("2800+800 4000+800", replayed(true, 0x2800, 0x2000));
    ASSERT_EQ(0, memory_region_unregister_ram_discard_listener(&a));
    EXPECT_EQ("-0+3000 -4000+1000", a.take());
    ASSERT_EQ(0, memory_region_unregister_ram_discard_listener(&b));
    EXPECT_EQ("-2800+800", b.take());
    ASSERT_EQ(0, memory_region_del_ram_discard_source(&ram, &source));
    EXPECT_TRUE(memory_region_is_populated(&ram, 0, kSize));
}

TEST_F(Population, AVetoIsTakenBackFromThoseWhoWereTold)
{
    ASSERT_EQ(0, memory_region_add_ram_discard_source(&ram, &source, kGranule, false));
    ASSERT_EQ(0, ram_discard_source_populate(&source, 0x2000, 0x1000));
    ASSERT_EQ(0, add(&a));
    ASSERT_EQ(0, add(&b));
    a.take();
    b.take();
    b.refuse_after = 1; /* the second piece */
    EXPECT_EQ(-ENOSPC, ram_discard_source_populate(&source, 0, 0x8000));
    EXPECT_EQ("+0+2000 +3000+5000 -3000+5000 -0+2000", a.take());
    EXPECT_EQ("+0+2000 -0+2000", b.take());
    EXPECT_EQ("2000+1000", replayed(true));
    EXPECT_EQ(0, ram_discard_source_populate(&source, 0, 0x8000));
    EXPECT_EQ("0+8000", replayed(true));
    b.refuse_after = 0;
    b.take();
    EXPECT_EQ(-ENOSPC, memory_region_del_ram_discard_source(&ram, &source)) << "it would populate the rest";
    EXPECT_TRUE(memory_region_has_ram_discard_source(&ram));
    EXPECT_EQ("0+8000", replayed(true));
    EXPECT_EQ(0, memory_region_unregister_ram_discard_listener(&a));
    EXPECT_EQ(0, memory_region_unregister_ram_discard_listener(&b));
}

TEST_F(Population, AVetoDuringReplayMeansNotRegistered)
{
    ASSERT_EQ(0, memory_region_add_ram_discard_source(&ram, &source, kGranule, true));
    ASSERT_EQ(0, ram_discard_source_discard(&source, 0x1000, 0x1000));
    ASSERT_EQ(0, ram_discard_source_discard(&source, 0x3000, 0x1000));
    a.refuse_after = 2;
    EXPECT_EQ(-ENOSPC, add(&a));
    EXPECT_EQ("+0+1000 +2000+1000 -0+1000 -2000+1000", a.take());
    EXPECT_EQ(-EINVAL, memory_region_unregister_ram_discard_listener(&a));
    ASSERT_EQ(0, ram_discard_source_populate(&source, 0, kSize));
    EXPECT_EQ("", a.take());
    ASSERT_EQ(0, add(&a)) << "it may try again";
    EXPECT_EQ(-EBUSY, add(&a));
    EXPECT_EQ(0, memory_region_unregister_ram_discard_listener(&a));
}

TEST_F(Population, PopulatedIsWhatAllSourcesAgreeOn)
{
    std::mt19937 random(3);
    std::vector<uint8_t> mine(kSize, 0), theirs(kSize, 1), whole(kSize), part(kSize);

    ASSERT_EQ(0, memory_region_add_ram_discard_source(&ram, &source, 0x1000, false));
    ASSERT_EQ(0, memory_region_add_ram_discard_source(&ram, &other, 0x400, true));
    ASSERT_EQ(0, add(&a));
    ASSERT_EQ(0, add(&b, 0x1234, 0x9876));
    for (int round = 0; round < 600; round++) {
        bool first = random() % 2, populate = random() % 2, refused = random() % 4 == 0;
        uint64_t granule = first ? 0x1000 : 0x400;
        uint64_t n = kSize / granule, from = random() % n, count = 1 + random() % (n - from);
        RamDiscardSource *s = first ? &source : &other;
        auto &bits = first ? mine : theirs;

        b.refuse_after = populate && refused ? static_cast<int>(random() % 3) : -1;
        int err = populate ? ram_discard_source_populate(s, from * granule, count * granule)
                           : ram_discard_source_discard(s, from * granule, count * granule);
        ASSERT_TRUE(err == 0 || (populate && refused && err == -ENOSPC)) << err;
        if (err == 0) {
            memset(&bits[from * granule], populate, count * granule);
        }
        for (uint64_t i = 0; i < kSize; i++) {
            whole[i] = mine[i] & theirs[i];
        }
        memcpy(&part[0x1234], &whole[0x1234], 0x9876);
        ASSERT_EQ(whole, a.bytes) << round;
        ASSERT_EQ(part, b.bytes) << round;
        uint64_t at = random() % kSize, len = 1 + random() % (kSize - at);
        ASSERT_EQ(!memchr(&whole[at], 0, len), memory_region_is_populated(&ram, at, len));
    }
    std::string pieces;
    for (uint64_t i = 0, from = 0; i <= kSize; i++) {
        bool now = i < kSize && mine[i] && theirs[i], before = i && mine[i - 1] && theirs[i - 1];
        char text[40];
        if (now && !before) {
            from = i;
        } else if (!now && before) {
            snprintf(text, sizeof(text), "%s%llx+%llx", pieces.empty() ? "" : " ", (unsigned long long)from,
                     (unsigned long long)(i - from));
            pieces += text;
        }
    }
    EXPECT_EQ(pieces, replayed(true)) << "coalesced, whatever the granules";
    b.refuse_after = -1;
    EXPECT_EQ(0, memory_region_unregister_ram_discard_listener(&a));
    EXPECT_EQ(0, memory_region_unregister_ram_discard_listener(&b));
    EXPECT_EQ(0, std::count(a.bytes.begin(), a.bytes.end(), 1));
    EXPECT_EQ(0, std::count(b.bytes.begin(), b.bytes.end(), 1));
}

TEST_F(Population, BadArgumentsChangeNothing)
{
    MemoryRegion io;
    MemoryRegionSection s = section();

    EXPECT_EQ(-EINVAL, memory_region_add_ram_discard_source(&ram, &source, 0, true));
    EXPECT_EQ(-EINVAL, memory_region_add_ram_discard_source(&ram, &source, 0x1800, true));
    EXPECT_EQ(-EINVAL, memory_region_add_ram_discard_source(&ram, &source, 32, true));
    EXPECT_EQ(-EINVAL, memory_region_add_ram_discard_source(&ram, nullptr, kGranule, true));
    EXPECT_EQ(-EINVAL, memory_region_add_ram_discard_source(nullptr, &source, kGranule, true));
    ASSERT_EQ(0, memory_region_init_reservation(&io, "io", kSize));
    EXPECT_EQ(-EINVAL, memory_region_add_ram_discard_source(&io, &source, kGranule, true));
    s.mr = &io;
    EXPECT_EQ(-EINVAL, memory_region_register_ram_discard_listener(&a, &s));
    EXPECT_EQ(-EINVAL, memory_region_discard_range(&io, 0, 0x1000));
    EXPECT_FALSE(memory_region_is_populated(&io, 0, 1));
    ASSERT_EQ(0, memory_region_destroy(&io));
    ASSERT_EQ(0, memory_region_quiesce(&io));

    EXPECT_EQ(-EINVAL, ram_discard_source_populate(&source, 0, kGranule)) << "is none";
    ASSERT_EQ(0, memory_region_add_ram_discard_source(&ram, &source, kGranule, false));
    EXPECT_EQ(-EBUSY, memory_region_add_ram_discard_source(&ram, &source, kGranule, false));
    EXPECT_EQ(-EINVAL, memory_region_del_ram_discard_source(&ram, &other));
    EXPECT_EQ(-EINVAL, ram_discard_source_populate(&source, 0x800, kGranule));
    EXPECT_EQ(-EINVAL, ram_discard_source_populate(&source, 0, 0x800));
    EXPECT_EQ(-EINVAL, ram_discard_source_populate(&source, 0, 0));
    EXPECT_EQ(-EINVAL, ram_discard_source_populate(&source, kSize, kGranule));
    EXPECT_EQ(-EINVAL, ram_discard_source_populate(&source, kGranule, UINT64_MAX - kGranule + 1));
    EXPECT_EQ("", replayed(true));
    EXPECT_EQ(-EBUSY, memory_region_destroy(&ram)) << "has a source";
    EXPECT_EQ(-EINVAL, add(&a, 0, kSize + 1));
    EXPECT_EQ(-EINVAL, add(&a, kSize, 1));
    EXPECT_EQ(-EINVAL, memory_region_register_ram_discard_listener(nullptr, &s));
    EXPECT_EQ(-EINVAL, memory_region_register_ram_discard_listener(&a, nullptr));
    EXPECT_EQ("", a.take());
}

TEST_F(Population, ACallbackMayAskAndNotChange)
{
    int asked = 0;

    ASSERT_EQ(0, memory_region_add_ram_discard_source(&ram, &source, kGranule, false));
    ASSERT_EQ(0, add(&a));
    a.hook = [&](const MemoryRegionSection *s) {
        asked++;
        EXPECT_FALSE(memory_region_is_populated(&ram, s->offset_within_region, 1)) << "as before the change";
        EXPECT_EQ("", replayed(true));
        EXPECT_EQ(-EBUSY, ram_discard_source_populate(&source, 0, kGranule));
        EXPECT_EQ(-EBUSY, ram_discard_source_discard(&source, 0, kGranule));
        EXPECT_EQ(-EBUSY, memory_region_add_ram_discard_source(&ram, &other, kGranule, true));
        EXPECT_EQ(-EBUSY, memory_region_del_ram_discard_source(&ram, &source));
        EXPECT_EQ(-EBUSY, add(&b));
        EXPECT_EQ(-EBUSY, memory_region_unregister_ram_discard_listener(&a));
        EXPECT_EQ(-EBUSY, memory_region_set_enabled(&ram, false));
        EXPECT_EQ(-EBUSY, memory_transaction_begin());
    };
    ASSERT_EQ(0, ram_discard_source_populate(&source, 0, kGranule));
    EXPECT_EQ(1, asked);
    a.hook = nullptr;
    EXPECT_EQ(0, memory_region_unregister_ram_discard_listener(&a));
    EXPECT_EQ(0, memory_region_set_enabled(&ram, false)) << "and then it may again";
}

/* An accelerator: for each section of RAM a mirror, from region_add to region_del. */
struct Accelerator : MemoryListener {
    Mirror mirror;
    int added = 77, deleted = 77;
};

TEST_F(Population, ListenersRegisterFromRegionAddAndLeaveFromRegionDel)
{
    MemoryRegion root;
    AddressSpace as = {};
    Accelerator accel = {};

    ASSERT_EQ(0, memory_region_add_ram_discard_source(&ram, &source, kGranule, false));
    ASSERT_EQ(0, ram_discard_source_populate(&source, 0x1000, 0x1000));
    ASSERT_EQ(0, memory_region_init(&root, "root", UINT64_MAX));
    ASSERT_EQ(0, memory_region_add_subregion(&root, 0x100000, &ram));
    ASSERT_EQ(0, address_space_init(&as, &root, "as"));
    accel.region_add = [](MemoryListener *l, const MemoryRegionSection *s) {
        auto *self = static_cast<Accelerator *>(l);
        self->added = memory_region_register_ram_discard_listener(&self->mirror, s);
    };
    accel.region_del = [](MemoryListener *l, const MemoryRegionSection *) {
        auto *self = static_cast<Accelerator *>(l);
        self->deleted = memory_region_unregister_ram_discard_listener(&self->mirror);
    };
    ASSERT_EQ(0, memory_listener_register(&accel, &as));
    EXPECT_EQ(0, accel.added);
    EXPECT_EQ("+1000+1000", accel.mirror.take());
    FlatView *before = address_space_get_flatview(&as);
    ASSERT_EQ(0, ram_discard_source_populate(&source, 0x4000, 0x2000));
    EXPECT_EQ("+4000+2000", accel.mirror.take());
    FlatView *after = address_space_get_flatview(&as);
    EXPECT_EQ(before, after) << "no view is rendered";
    flatview_unref(before);
    flatview_unref(after);
    ASSERT_EQ(0, memory_region_del_subregion(&root, &ram));
    EXPECT_EQ(0, accel.deleted);
    EXPECT_EQ("-1000+1000 -4000+2000", accel.mirror.take());
    ASSERT_EQ(0, memory_listener_unregister(&accel));
    ASSERT_EQ(0, address_space_destroy(&as, nullptr));
    ASSERT_EQ(0, memory_region_destroy(&root));
    ASSERT_EQ(0, memory_region_quiesce(&root));
}

TEST_F(Population, DiscardingAndRelyingExcludeEachOther)
{
    EXPECT_FALSE(ram_block_discard_is_disabled() || ram_block_discard_is_required());
    ASSERT_EQ(0, ram_block_discard_disable(true));
    EXPECT_TRUE(ram_block_discard_is_disabled());
    EXPECT_EQ(-EBUSY, ram_block_discard_require(true));
    EXPECT_EQ(-EBUSY, ram_block_coordinated_discard_require(true));
    EXPECT_EQ(-EBUSY, memory_region_discard_range(&ram, 0, 0x1000));
    ASSERT_EQ(0, ram_block_uncoordinated_discard_disable(true));
    ASSERT_EQ(0, ram_block_discard_disable(false));
    EXPECT_TRUE(ram_block_discard_is_disabled());
    EXPECT_EQ(-EBUSY, ram_block_discard_require(true));
    ASSERT_EQ(0, ram_block_coordinated_discard_require(true));
    EXPECT_TRUE(ram_block_discard_is_required());
    EXPECT_EQ(-EBUSY, ram_block_discard_disable(true));
    ASSERT_EQ(0, ram_block_uncoordinated_discard_disable(false));
    ASSERT_EQ(0, ram_block_discard_require(true));
    ASSERT_EQ(0, ram_block_discard_require(true));
    EXPECT_EQ(-EBUSY, ram_block_uncoordinated_discard_disable(true));
    ASSERT_EQ(0, ram_block_discard_require(false));
    EXPECT_EQ(-EBUSY, ram_block_uncoordinated_discard_disable(true)) << "counted";
    ASSERT_EQ(0, ram_block_discard_require(false));
    ASSERT_EQ(0, ram_block_coordinated_discard_require(false));
    EXPECT_EQ(-EINVAL, ram_block_discard_require(false));
    EXPECT_EQ(-EINVAL, ram_block_discard_disable(false));
    EXPECT_FALSE(ram_block_discard_is_disabled() || ram_block_discard_is_required());
}

/* Pages of the host that are there. */
size_t resident(void *host, size_t size)
{
    std::vector<unsigned char> pages(size / 0x1000);

    EXPECT_EQ(0, mincore(host, size, pages.data()));
    return static_cast<size_t>(std::count_if(pages.begin(), pages.end(), [](unsigned char p) { return p & 1; }));
}

TEST_F(Population, DiscardedHostMemoryIsGoneAndReadsAsZeroes)
{
    MemoryRegion shared, mine;
    alignas(0x1000) static uint8_t bytes[0x2000];

    ASSERT_EQ(0, memory_region_init_ram_memfd(&shared, "memfd", kSize));
    ASSERT_EQ(0, memory_region_init_ram_ptr(&mine, "ptr", sizeof(bytes), bytes));
    for (MemoryRegion *mr : {&ram, &shared}) {
        uint8_t *host = static_cast<uint8_t *>(memory_region_get_ram_ptr(mr));
        memset(host, 1, kSize);
        EXPECT_EQ(kSize / 0x1000, resident(host, kSize));
        EXPECT_EQ(0, memory_region_discard_range(mr, 0x1000, 0x3000));
        EXPECT_EQ(kSize / 0x1000 - 3, resident(host, kSize));
        EXPECT_EQ(1, host[0xfff]);
        EXPECT_EQ(0, host[0x1000]);
        EXPECT_EQ(0, host[0x3fff]);
        EXPECT_EQ(1, host[0x4000]);
        EXPECT_EQ(-EINVAL, memory_region_discard_range(mr, 0x800, 0x1000));
        EXPECT_EQ(-EINVAL, memory_region_discard_range(mr, 0, 0));
        EXPECT_EQ(-EINVAL, memory_region_discard_range(mr, 0x1000, kSize));
    }
    EXPECT_EQ(-EOPNOTSUPP, memory_region_discard_range(&mine, 0, 0x1000));
    for (MemoryRegion *mr : {&shared, &mine}) {
        ASSERT_EQ(0, memory_region_destroy(mr));
        ASSERT_EQ(0, memory_region_quiesce(mr));
    }
}

/* A page mirror that is checked by the lock alone: it is plain memory, which the sanitizer watches. */
TEST_F(Population, ThreadsPopulateDiscardRegisterAndAskAtOnce)
{
    std::vector<std::thread> threads;
    std::atomic<int> asked{0};

    ASSERT_EQ(0, memory_region_add_ram_discard_source(&ram, &source, kGranule, false));
    ASSERT_EQ(0, memory_region_add_ram_discard_source(&ram, &other, kGranule, true));
    ASSERT_EQ(0, add(&a));
    for (int t = 0; t < 2; t++) {
        threads.emplace_back([&, t] {
            std::mt19937 random(t);
            for (int i = 0; i < 300; i++) {
                uint64_t from = random() % 16, n = 1 + random() % (16 - from);
                RamDiscardSource *s = t ? &source : &other;
                EXPECT_EQ(0, random() % 2 ? ram_discard_source_populate(s, from * kGranule, n * kGranule)
                                          : ram_discard_source_discard(s, from * kGranule, n * kGranule));
            }
        });
    }
    threads.emplace_back([&] {
        for (int i = 0; i < 100; i++) {
            Mirror mine;
            EXPECT_EQ(0, add(&mine, 0x800, 0x8000));
            std::this_thread::yield();
            EXPECT_EQ(0, memory_region_unregister_ram_discard_listener(&mine));
            EXPECT_EQ(0, std::count(mine.bytes.begin(), mine.bytes.end(), 1));
        }
    });
    threads.emplace_back([&] {
        for (int i = 0; i < 1000; i++) {
            asked += memory_region_is_populated(&ram, 0, kGranule);
            EXPECT_EQ(0, memory_region_set_address(&ram, i)); /* and the map changes beside it */
        }
    });
    for (auto &t : threads) {
        t.join();
    }
    for (uint64_t i = 0; i < kSize; i += 0x100) {
        EXPECT_EQ(a.bytes[i] != 0, memory_region_is_populated(&ram, i, 0x100));
    }
    EXPECT_EQ(0, memory_region_unregister_ram_discard_listener(&a));
}

} // namespace
