/* SPDX-License-Identifier: MIT */
/*
 * Is an access to mapped hardware one load or store of the right width? Seen from the hardware's side: the page traps, the
 * instruction that trapped is decoded, single-stepped, and the page traps again.
 */
#include <gtest/gtest.h>

#include <csignal>
#include <cstring>
#include <vector>

#include <sys/mman.h>
#include <ucontext.h>

#include <flatview/memory.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#if defined(__x86_64__) && defined(__linux__) && !defined(SANITIZED)

namespace {

constexpr size_t PAGE = 4096;
constexpr greg_t TRAP_FLAG = 0x100;

struct Touch {
    size_t offset;
    bool is_write;
    unsigned width; /* 0: not a plain load or store */

    bool operator==(const Touch &t) const
    {
        return offset == t.offset && is_write == t.is_write && width == t.width;
    }
};

std::ostream &operator<<(std::ostream &out, const Touch &t)
{
    return out << (t.is_write ? "store" : "load") << t.width * 8 << "@" << t.offset;
}

uint8_t *page;
Touch touches[256];
size_t n_touches;

unsigned width_of(const uint8_t *code)
{
    bool half = false, wide = false;

    for (; *code == 0x66 || (*code & 0xf0) == 0x40; code++) {
        half |= *code == 0x66;
        wide = (*code & 0xf8) == 0x48;
    }
    switch (code[0]) {
    case 0x0f:
        return code[1] == 0xb6 || code[1] == 0xbe ? 1 : code[1] == 0xb7 || code[1] == 0xbf ? 2 : 0;
    case 0x88:
    case 0x8a:
    case 0xc6:
        return 1;
    case 0x89:
    case 0x8b:
    case 0xc7:
        return wide ? 8 : half ? 2 : 4;
    default:
        return 0;
    }
}

void on_fault(int, siginfo_t *info, void *context)
{
    ucontext_t *uc = static_cast<ucontext_t *>(context);
    uint8_t *at = static_cast<uint8_t *>(info->si_addr);

    if (at < page || at >= page + PAGE || n_touches == sizeof(touches) / sizeof(touches[0])) {
        signal(SIGSEGV, SIG_DFL); /* a real one: it comes again */
        return;
    }
    touches[n_touches++] = {static_cast<size_t>(at - page), (uc->uc_mcontext.gregs[REG_ERR] & 2) != 0,
                            width_of(reinterpret_cast<const uint8_t *>(uc->uc_mcontext.gregs[REG_RIP]))};
    mprotect(page, PAGE, PROT_READ | PROT_WRITE);
    uc->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

void on_step(int, siginfo_t *, void *context)
{
    static_cast<ucontext_t *>(context)->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
    mprotect(page, PAGE, PROT_NONE);
}

class Exact : public testing::Test {
protected:
    void SetUp() override
    {
        struct sigaction action = {};

        page = static_cast<uint8_t *>(mmap(nullptr, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        ASSERT_NE(MAP_FAILED, page);
        action.sa_flags = SA_SIGINFO;
        action.sa_sigaction = on_fault;
        ASSERT_EQ(0, sigaction(SIGSEGV, &action, &old_fault));
        action.sa_sigaction = on_step;
        ASSERT_EQ(0, sigaction(SIGTRAP, &action, &old_step));
        ASSERT_EQ(0, memory_region_init(&root, "root", UINT64_MAX));
        ASSERT_EQ(0, memory_region_init_ram_device_ptr(&any, "any", PAGE, page));
        ASSERT_EQ(0, memory_region_init_ram_device(&word, word_ops(), "word", PAGE));
        ASSERT_EQ(0, memory_region_ram_device_set_ptr(&word, page, nullptr, nullptr));
        ASSERT_EQ(0, memory_region_init_ram_ptr(&plain, "plain", PAGE, page));
        ASSERT_EQ(0, memory_region_add_subregion(&root, ANY, &any));
        ASSERT_EQ(0, memory_region_add_subregion(&root, WORD, &word));
        ASSERT_EQ(0, memory_region_add_subregion(&root, PLAIN, &plain));
        ASSERT_EQ(0, address_space_init(&as, &root, "memory"));
    }

    void TearDown() override
    {
        ASSERT_EQ(0, address_space_destroy(&as, nullptr));
        for (MemoryRegion *mr : {&any, &word, &plain}) {
            ASSERT_EQ(0, memory_region_del_subregion(&root, mr));
            ASSERT_EQ(0, memory_region_destroy(mr));
            ASSERT_EQ(0, memory_region_quiesce(mr));
        }
        ASSERT_EQ(0, memory_region_destroy(&root));
        ASSERT_EQ(0, memory_region_quiesce(&root));
        ASSERT_EQ(0, sigaction(SIGSEGV, &old_fault, nullptr));
        ASSERT_EQ(0, sigaction(SIGTRAP, &old_step, nullptr));
        ASSERT_EQ(0, munmap(page, PAGE));
    }

    static const MemoryRegionOps *word_ops()
    {
        static const MemoryRegionOps ops = [] {
            MemoryRegionOps o = {};
            o.read = [](MemoryRegion *, hwaddr, unsigned) -> uint64_t { return 0; };
            o.endianness = MEMORY_LITTLE_ENDIAN;
            o.valid.min_access_size = o.impl.min_access_size = 1;
            o.valid.max_access_size = o.impl.max_access_size = 4;
            return o;
        }();
        return &ops;
    }

    std::vector<Touch> read(hwaddr addr, hwaddr len)
    {
        uint8_t buf[128];

        n_touches = 0;
        EXPECT_EQ(MEMTX_OK, address_space_read(&as, addr, MEMTXATTRS_UNSPECIFIED, buf, len));
        return std::vector<Touch>(touches, touches + n_touches);
    }

    std::vector<Touch> write(hwaddr addr, hwaddr len)
    {
        uint8_t buf[128] = {};

        n_touches = 0;
        EXPECT_EQ(MEMTX_OK, address_space_write(&as, addr, MEMTXATTRS_UNSPECIFIED, buf, len));
        return std::vector<Touch>(touches, touches + n_touches);
    }

    static constexpr hwaddr ANY = 0x10000, WORD = 0x20000, PLAIN = 0x30000;
    MemoryRegion root, any, word, plain;
    AddressSpace as = {};
    struct sigaction old_fault, old_step;
};

using Touches = std::vector<Touch>;

TEST_F(Exact, AnAlignedAccessIsOneLoadOrStoreOfItsWidth)
{
    uint64_t quad;
    uint32_t word_value;
    uint16_t half;
    uint8_t byte;
    const MemTxAttrs attrs = MEMTXATTRS_UNSPECIFIED;

    for (int again = 0; again < 3; again++) { /* also when the thread has seen the range before */
        n_touches = 0;
        EXPECT_EQ(MEMTX_OK, address_space_ldq_le(&as, ANY + 8, attrs, &quad));
        EXPECT_EQ(MEMTX_OK, address_space_ldl_be(&as, ANY + 4, attrs, &word_value));
        EXPECT_EQ(MEMTX_OK, address_space_lduw_le(&as, ANY + 2, attrs, &half));
        EXPECT_EQ(MEMTX_OK, address_space_ldub(&as, ANY + 1, attrs, &byte));
        EXPECT_EQ(MEMTX_OK, address_space_stq_be(&as, ANY + 8, attrs, 1));
        EXPECT_EQ(MEMTX_OK, address_space_stl_le(&as, ANY + 4, attrs, 1));
        EXPECT_EQ(MEMTX_OK, address_space_stw_be(&as, ANY + 2, attrs, 1));
        EXPECT_EQ(MEMTX_OK, address_space_stb(&as, ANY + 1, attrs, 1));
        EXPECT_EQ((Touches{{8, false, 8}, {4, false, 4}, {2, false, 2}, {1, false, 1}, {8, true, 8}, {4, true, 4},
                           {2, true, 2}, {1, true, 1}}),
                  Touches(touches, touches + n_touches));
    }
}

TEST_F(Exact, CopiesAreCutIntoAlignedAccessesAndTouchNothingTwice)
{
    EXPECT_EQ((Touches{{1, false, 1}, {2, false, 2}, {4, false, 4}, {8, false, 8}, {16, false, 2}, {18, false, 1}}),
              read(ANY + 1, 18));
    EXPECT_EQ((Touches{{6, true, 2}, {8, true, 8}, {16, true, 8}, {24, true, 4}}), write(ANY + 6, 22));
    EXPECT_EQ(12u, read(ANY, 96).size());
}

TEST_F(Exact, NoAccessIsWiderThanTheHardwareTakes)
{
    uint64_t quad;

    EXPECT_EQ((Touches{{0, false, 4}, {4, false, 4}, {8, false, 4}}), read(WORD, 12));
    EXPECT_EQ((Touches{{2, true, 2}, {4, true, 4}, {8, true, 1}}), write(WORD + 2, 7));
    n_touches = 0;
    EXPECT_EQ(MEMTX_OK, address_space_ldq_le(&as, WORD + 8, MEMTXATTRS_UNSPECIFIED, &quad));
    EXPECT_EQ((Touches{{8, false, 4}, {12, false, 4}}), Touches(touches, touches + n_touches));
}

TEST_F(Exact, OrdinaryMemoryIsNotSoCareful)
{
    EXPECT_NE((Touches{{1, false, 1}, {2, false, 2}, {4, false, 4}, {8, false, 8}, {16, false, 2}, {18, false, 1}}),
              read(PLAIN + 1, 18))
        << "or the spy sees nothing";
}

} // namespace

#else

TEST(Exact, NeedsToDecodeInstructions)
{
    GTEST_SKIP() << "x86-64 Linux without sanitizers";
}

#endif
