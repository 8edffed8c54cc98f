/* SPDX-License-Identifier: MIT */
/* The limit on retired memory, and who pays when it is passed. */
#include "machine.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace {

class Reclaim : public Machine {
protected:
    void TearDown() override
    {
        ASSERT_EQ(0, memory_set_reclaim_limit(MEMORY_RECLAIM_DEFAULT_LIMIT, MEMORY_RECLAIM_WAIT));
        Machine::TearDown();
    }

    int move()
    {
        return memory_region_set_address(&dev[0].mr, at ^= 0x4000);
    }

    hwaddr at = 0x1000;
};

TEST_F(Reclaim, OverTheLimitAWriterIsToldOnlyIfItAskedForThat)
{
    std::atomic<bool> inside(false), leave(false);
    std::thread reader([&] {
        memory_read_begin();
        inside = true;
        while (!leave) {
            std::this_thread::yield();
        }
        memory_read_end();
    });
    while (!inside) {
        std::this_thread::yield();
    }
    EXPECT_EQ(0, move());
    EXPECT_EQ(0, memory_set_reclaim_limit(1, MEMORY_RECLAIM_EAGAIN)); /* what move() retired waits for the reader */
    uint64_t gen = generation_of(&as);
    EXPECT_EQ(-EAGAIN, move());
    at ^= 0x4000;
    EXPECT_EQ(-EAGAIN, memory_transaction_begin());
    EXPECT_EQ(gen, generation_of(&as));
    memory_read_begin();
    EXPECT_EQ(0, move()) << "a commit in a read section is never held up";
    memory_read_end();
    leave = true;
    reader.join();
    EXPECT_EQ(0, memory_set_reclaim_limit(1, MEMORY_RECLAIM_WAIT));
    EXPECT_EQ(0, move()) << "waits for readers, of which there are none now";
    EXPECT_EQ(-EINVAL, memory_set_reclaim_limit(1, static_cast<MemoryReclaimPolicy>(7)));
}

// Sixteen ranges fill a node; one that moves must not need room twice.
TEST_F(Reclaim, MovingOneOfManyDoesNotGrowTheView)
{
    enum { N = 13 };
    static Device more[N];
    MemoryStats before, after;
    ASSERT_EQ(0, memory_transaction_begin());
    for (unsigned i = 0; i < N; i++) {
        device_init(&more[i], "more", 0x100);
        ASSERT_EQ(0, memory_region_add_subregion(&root, 0x10000 + i * 0x1000u, &more[i].mr));
    }
    ASSERT_EQ(0, memory_transaction_commit());
    memory_get_stats(&before);
    while (before.retired_bytes) {
        ASSERT_EQ(0, memory_reclaim());
        memory_get_stats(&before);
    }
    for (unsigned i = 0; i < N; i++) {
        ASSERT_EQ(0, memory_region_set_address(&more[i].mr, 0x10800 + i * 0x1000u)); /* up */
        ASSERT_EQ(0, memory_region_set_address(&more[i].mr, 0x10000 + i * 0x1000u)); /* down */
    }
    do {
        ASSERT_EQ(0, memory_reclaim());
        memory_get_stats(&after);
    } while (after.retired_bytes);
    EXPECT_EQ(before.live_bytes, after.live_bytes);
    for (auto &d : more) {
        ASSERT_EQ(0, memory_region_del_subregion(&root, &d.mr));
        ASSERT_EQ(0, memory_region_destroy(&d.mr));
        ASSERT_EQ(0, memory_region_quiesce(&d.mr));
    }
}

TEST_F(Reclaim, AViewPrintsAsQemuPrintsIt)
{
    char *text = nullptr;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    ASSERT_NE(nullptr, out);
    FlatView *view = address_space_get_flatview(&as);
    EXPECT_EQ(0, flatview_print(view, out));
    flatview_unref(view);
    fclose(out);
    EXPECT_NE(nullptr, strstr(text, "0000000000001000-00000000000010ff (prio 0, i/o): a\n")) << text;
    free(text);
}

} // namespace
