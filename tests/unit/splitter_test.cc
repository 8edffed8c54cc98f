// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "shim/access_shim.h"

// What model/access_table_test.cc does not reach: vetoes, failing and missing callbacks, the far end of 2^64.

namespace {

struct Call {
    char kind; // r, w, a(ccepts)
    hwaddr addr;
    uint64_t data;
    unsigned size;

    bool operator==(const Call &other) const
    {
        return kind == other.kind && addr == other.addr && data == other.data && size == other.size;
    }
};

std::ostream &operator<<(std::ostream &out, const Call &call)
{
    return out << call.kind << call.size << "@0x" << std::hex << call.addr << "=0x" << call.data << std::dec;
}

std::vector<Call> calls;
std::vector<MemTxResult> results; // of the next callbacks with attributes, then MEMTX_OK
bool accept;

uint64_t read(MemoryRegion *, hwaddr addr, unsigned size)
{
    calls.push_back(Call{ 'r', addr, 0, size });
    return UINT64_C(0x8877665544332211);
}

void write(MemoryRegion *, hwaddr addr, uint64_t data, unsigned size)
{
    calls.push_back(Call{ 'w', addr, data, size });
}

MemTxResult next_result()
{
    if (results.empty()) {
        return MEMTX_OK;
    }
    MemTxResult result = results.front();
    results.erase(results.begin());
    return result;
}

MemTxResult read_with_attrs(MemoryRegion *mr, hwaddr addr, uint64_t *data, unsigned size, MemTxAttrs)
{
    *data = read(mr, addr, size);
    return next_result();
}

MemTxResult write_with_attrs(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size, MemTxAttrs)
{
    write(mr, addr, data, size);
    return next_result();
}

bool accepts(MemoryRegion *, hwaddr addr, unsigned size, bool is_write, MemTxAttrs)
{
    calls.push_back(Call{ 'a', addr, is_write, size });
    return accept;
}

class Splitter : public ::testing::Test {
protected:
    MemoryRegionOps ops = {};
    ShimRange range = {};
    MemTxAttrs attrs = {};
    uint64_t value = 0x5555;

    void SetUp() override
    {
        calls.clear();
        results.clear();
        accept = true;
        ops.read_with_attrs = read_with_attrs;
        ops.write_with_attrs = write_with_attrs;
        ops.endianness = MEMORY_LITTLE_ENDIAN;
        valid(1, 8, true);
        impl(1, 8, false, MEMORY_NARROW_WRITE_REFUSE);
        range.last = UINT64_MAX;
        range.kind = SHIM_IO;
        range.ops = &ops;
    }

    void valid(unsigned min, unsigned max, bool unaligned)
    {
        ops.valid.min_access_size = min;
        ops.valid.max_access_size = max;
        ops.valid.unaligned = unaligned;
    }

    void impl(unsigned min, unsigned max, bool unaligned, MemoryNarrowWrite narrow_write)
    {
        ops.impl.min_access_size = min;
        ops.impl.max_access_size = max;
        ops.impl.unaligned = unaligned;
        ops.impl.narrow_write = narrow_write;
    }

    MemTxResult load(hwaddr offset, unsigned size)
    {
        return shim_splitter_read(&range, offset, size, attrs, &value);
    }

    MemTxResult store(hwaddr offset, unsigned size, uint64_t data)
    {
        return shim_splitter_write(&range, offset, size, attrs, data);
    }
};

TEST_F(Splitter, ReservationAnswersNothing)
{
    range.ops = nullptr;
    EXPECT_EQ(load(0, 4), MEMTX_DECODE_ERROR);
    EXPECT_EQ(store(0, 4, 0), MEMTX_DECODE_ERROR);
    range.readonly = true;
    EXPECT_EQ(store(0, 4, 0), MEMTX_DECODE_ERROR);
}

TEST_F(Splitter, ReadOnlyRangeRefusesWritesWithoutACallback)
{
    range.readonly = true;
    ops.valid.accepts = accepts;
    EXPECT_EQ(store(0, 4, 0), MEMTX_ACCESS_ERROR);
    EXPECT_TRUE(calls.empty());
    EXPECT_EQ(load(0, 4), MEMTX_OK);
}

TEST_F(Splitter, MissingCallbackIsAnAccessError)
{
    ops.read_with_attrs = nullptr;
    EXPECT_EQ(load(0, 4), MEMTX_ACCESS_ERROR);
    EXPECT_EQ(value, 0x5555u);
    ops.read_with_attrs = read_with_attrs;
    ops.write_with_attrs = nullptr;
    EXPECT_EQ(store(0, 4, 0), MEMTX_ACCESS_ERROR);
    EXPECT_TRUE(calls.empty());
}

TEST_F(Splitter, WrongSizeComesBeforeMissingCallback)
{
    ops.write_with_attrs = nullptr;
    valid(1, 4, true);
    EXPECT_EQ(store(0, 8, 0), MEMTX_DECODE_ERROR);
}

// CVE-2020-13754: a wider access than valid allows reached devices that index tables by offset.
TEST_F(Splitter, AccessWiderThanValidNeverReachesTheDevice)
{
    valid(1, 4, false);
    impl(1, 4, false, MEMORY_NARROW_WRITE_MERGE);
    EXPECT_EQ(load(0, 8), MEMTX_DECODE_ERROR);
    EXPECT_EQ(store(0, 8, ~UINT64_C(0)), MEMTX_DECODE_ERROR);
    EXPECT_TRUE(calls.empty());
    EXPECT_EQ(value, 0x5555u);
}

TEST_F(Splitter, AcceptsIsAskedOnceWithTheWholeAccessAndMayVeto)
{
    ops.valid.accepts = accepts;
    impl(1, 2, false, MEMORY_NARROW_WRITE_REFUSE);
    range.bias = 0x1000;
    EXPECT_EQ(load(4, 4), MEMTX_OK);
    EXPECT_EQ(calls, (std::vector<Call>{ { 'a', 0x1004, 0, 4 }, { 'r', 0x1004, 0, 2 }, { 'r', 0x1006, 0, 2 } }));
    calls.clear();
    accept = false;
    EXPECT_EQ(store(4, 4, 1), MEMTX_DECODE_ERROR);
    EXPECT_EQ(calls, (std::vector<Call>{ { 'a', 0x1004, 1, 4 } }));
}

TEST_F(Splitter, AcceptsIsNotAskedAboutWhatIsInvalidAnyway)
{
    ops.valid.accepts = accepts;
    valid(2, 4, false);
    EXPECT_EQ(load(0, 1), MEMTX_DECODE_ERROR);
    EXPECT_EQ(load(1, 2), MEMTX_DECODE_ERROR);
    EXPECT_TRUE(calls.empty());
}

TEST_F(Splitter, AttributesFormIsPreferred)
{
    ops.read = read;
    ops.write = write;
    results = { MEMTX_ERROR, MEMTX_ERROR };
    EXPECT_EQ(load(0, 4), MEMTX_ERROR);
    EXPECT_EQ(store(0, 4, 0), MEMTX_ERROR);
}

TEST_F(Splitter, AllCallbacksRunAndTheirResultsAreOred)
{
    impl(1, 1, false, MEMORY_NARROW_WRITE_REFUSE);
    results = { MEMTX_OK, MEMTX_ERROR, MEMTX_OK, MEMTX_ACCESS_ERROR };
    EXPECT_EQ(load(0, 4), MEMTX_ERROR | MEMTX_ACCESS_ERROR);
    EXPECT_EQ(calls.size(), 4u);
    EXPECT_EQ(value, 0x5555u);
    calls.clear();
    results = { MEMTX_DECODE_ERROR };
    EXPECT_EQ(store(0, 4, 0x04030201), MEMTX_DECODE_ERROR);
    EXPECT_EQ(calls, (std::vector<Call>{ { 'w', 0, 1, 1 }, { 'w', 1, 2, 1 }, { 'w', 2, 3, 1 }, { 'w', 3, 4, 1 } }));
}

TEST_F(Splitter, RefusedNarrowWriteRunsNoCallbackOfTheWholeAccess)
{
    impl(2, 2, false, MEMORY_NARROW_WRITE_REFUSE);
    EXPECT_EQ(store(1, 4, 0), MEMTX_ACCESS_ERROR); // bytes 2 and 3 alone would fit
    EXPECT_TRUE(calls.empty());
}

TEST_F(Splitter, MergeReadsTheWindowAndWritesItBack)
{
    impl(4, 4, false, MEMORY_NARROW_WRITE_MERGE);
    EXPECT_EQ(store(5, 2, 0xfffeaabb), MEMTX_OK);
    EXPECT_EQ(calls, (std::vector<Call>{ { 'r', 4, 0, 4 }, { 'w', 4, 0x44aabb11, 4 } }));
    calls.clear();
    ops.endianness = MEMORY_BIG_ENDIAN;
    EXPECT_EQ(store(4, 1, 0xaa), MEMTX_OK);
    EXPECT_EQ(calls, (std::vector<Call>{ { 'r', 4, 0, 4 }, { 'w', 4, 0xaa332211, 4 } }));
}

TEST_F(Splitter, MergeLeavesAWindowAloneThatCannotBeRead)
{
    impl(4, 4, false, MEMORY_NARROW_WRITE_MERGE);
    results = { MEMTX_ERROR };
    EXPECT_EQ(store(2, 4, 0xddccbbaa), MEMTX_ERROR);
    EXPECT_EQ(calls, (std::vector<Call>{ { 'r', 0, 0, 4 }, { 'r', 4, 0, 4 }, { 'w', 4, 0x4433ddcc, 4 } }));
}

TEST_F(Splitter, MergeWithoutAReadCallbackIsRefused)
{
    impl(4, 4, false, MEMORY_NARROW_WRITE_MERGE);
    ops.read_with_attrs = nullptr;
    EXPECT_EQ(store(2, 4, 0), MEMTX_ACCESS_ERROR);
    EXPECT_TRUE(calls.empty());
    EXPECT_EQ(store(4, 4, 7), MEMTX_OK); // needs no merging
}

TEST_F(Splitter, ExtendKeepsTheAddressAndClearsTheRest)
{
    impl(4, 4, false, MEMORY_NARROW_WRITE_EXTEND);
    EXPECT_EQ(store(5, 2, 0xeeeeaabb), MEMTX_OK); // what lies above the access's size is not data
    ops.endianness = MEMORY_BIG_ENDIAN;
    EXPECT_EQ(store(5, 2, 0xaabb), MEMTX_OK);
    EXPECT_EQ(calls, (std::vector<Call>{ { 'w', 5, 0xaabb, 4 }, { 'w', 5, 0xaabb0000, 4 } }));
}

TEST_F(Splitter, ExtendSendsAMisalignedWriteAtItsOwnAddress)
{
    impl(4, 4, false, MEMORY_NARROW_WRITE_EXTEND);
    EXPECT_EQ(store(2, 8, UINT64_C(0x8877665544332211)), MEMTX_OK);
    EXPECT_EQ(calls, (std::vector<Call>{ { 'w', 2, 0x44332211, 4 }, { 'w', 6, 0x88776655, 4 } }));
}

TEST_F(Splitter, LastBytesOfARegionOf2To64)
{
    impl(4, 4, false, MEMORY_NARROW_WRITE_MERGE);
    EXPECT_EQ(load(UINT64_MAX, 1), MEMTX_OK);
    EXPECT_EQ(value, 0x44u);
    EXPECT_EQ(load(UINT64_MAX - 7, 8), MEMTX_OK);
    EXPECT_EQ(store(UINT64_MAX - 1, 2, 0xaabb), MEMTX_OK);
    EXPECT_EQ(calls, (std::vector<Call>{ { 'r', UINT64_MAX - 3, 0, 4 },
                                         { 'r', UINT64_MAX - 7, 0, 4 },
                                         { 'r', UINT64_MAX - 3, 0, 4 },
                                         { 'r', UINT64_MAX - 3, 0, 4 },
                                         { 'w', UINT64_MAX - 3, 0xaabb2211, 4 } }));
}

TEST_F(Splitter, BulkPiecesAreAlignedUnlessTheRegionTakesUnalignedAccessesAllTheWay)
{
    EXPECT_EQ(shim_splitter_bulk_size(&ops, 0, UINT64_MAX), 8u);
    EXPECT_EQ(shim_splitter_bulk_size(&ops, 6, 100), 2u);
    EXPECT_EQ(shim_splitter_bulk_size(&ops, 8, 7), 4u);
    ops.impl.unaligned = true;
    EXPECT_EQ(shim_splitter_bulk_size(&ops, 6, 100), 8u);
    ops.valid.unaligned = false;
    EXPECT_EQ(shim_splitter_bulk_size(&ops, 6, 100), 2u);
    valid(1, 2, true);
    EXPECT_EQ(shim_splitter_bulk_size(&ops, 7, 100), 2u);
    EXPECT_EQ(shim_splitter_bulk_size(&ops, 7, 1), 1u);
}

} // namespace
