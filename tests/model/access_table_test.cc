// SPDX-License-Identifier: MIT
//
// access_table_test.cc - every way in which a bus access can meet a region, against a model that knows bytes only.
//
// The device is a file of byte-wide registers behind callbacks that check what they are given. The model never cuts an
// access into callbacks. It says which bytes must arrive where:
//   - a read delivers the registers' bytes, or none;
//   - a write replaces its bytes and no other, or none; an EXTEND write that does not fit impl also clears what follows;
//   - whether an access fits impl is asked per byte: is the aligned window of impl.min bytes around it inside the access?
// What remains of the rules (legal callbacks, ascending, as few as possible) is checked on the callbacks as they came.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "shim/access_shim.h"

namespace {

constexpr hwaddr kBase = 0x100000003;    // odd: alignment is that of the offset in the region
constexpr uint64_t kBias = 0x7000000001; // likewise
constexpr unsigned kRegs = 40; // more than 15 + 11 + 7: an access may be extended
constexpr uint8_t kUntouched = 0xee;

using Bytes = std::array<uint8_t, kRegs>;

struct Call {
    bool is_write;
    unsigned offset, size;
};

struct Device {
    MemoryRegion mr;
    MemoryRegionOps ops;
    uint64_t bias;
    MemTxAttrs attrs;
    Bytes regs;
    Call calls[64];
    unsigned n_calls;
    unsigned complaints;
};

Device device;

bool big(const MemoryRegionOps &ops)
{
    return ops.endianness == MEMORY_BIG_ENDIAN;
}

uint64_t compose(const uint8_t *bytes, unsigned size, bool big_endian)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < size; i++) {
        value = value << 8 | bytes[big_endian ? i : size - 1 - i];
    }
    return value;
}

void decompose(uint64_t value, uint8_t *bytes, unsigned size, bool big_endian)
{
    for (unsigned i = 0; i < size; i++) {
        bytes[big_endian ? size - 1 - i : i] = static_cast<uint8_t>(value);
        value >>= 8;
    }
}

// What a device may rely on. Returns the offset.
unsigned note_call(MemoryRegion *mr, hwaddr addr, unsigned size, bool is_write)
{
    const MemoryRegionOps &ops = device.ops;
    hwaddr offset = addr - device.bias;
    bool aligned_only = !ops.impl.unaligned && !(is_write && ops.impl.narrow_write == MEMORY_NARROW_WRITE_EXTEND);

    if (mr != &device.mr || (size != 1 && size != 2 && size != 4 && size != 8) || size < ops.impl.min_access_size ||
        size > ops.impl.max_access_size || (aligned_only && offset % size) || offset > kRegs - size ||
        device.n_calls == 64) {
        device.complaints++;
        return 0;
    }
    device.calls[device.n_calls++] = Call{ is_write, static_cast<unsigned>(offset), size };
    return static_cast<unsigned>(offset);
}

uint64_t device_read(MemoryRegion *mr, hwaddr addr, unsigned size)
{
    uint64_t value = compose(&device.regs[note_call(mr, addr, size, false)], size, big(device.ops));

    return size == 8 ? value : value | UINT64_C(0xa5a5a5a5a5a5a5a5) << 8 * size; // what lies above is nobody's business
}

void device_write(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size)
{
    if (size < 8 && data >> 8 * size) {
        device.complaints++;
    }
    decompose(data, &device.regs[note_call(mr, addr, size, true)], size, big(device.ops));
}

void check_attrs(MemTxAttrs attrs)
{
    if (attrs.requester_id != device.attrs.requester_id || attrs.secure != device.attrs.secure || attrs.unspecified) {
        device.complaints++;
    }
}

MemTxResult device_read_with_attrs(MemoryRegion *mr, hwaddr addr, uint64_t *data, unsigned size, MemTxAttrs attrs)
{
    check_attrs(attrs);
    *data = device_read(mr, addr, size);
    return MEMTX_OK;
}

MemTxResult device_write_with_attrs(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size, MemTxAttrs attrs)
{
    check_attrs(attrs);
    device_write(mr, addr, data, size);
    return MEMTX_OK;
}

// ---- the model -------------------------------------------------------------------------------------------------------

bool fits_impl(const MemoryRegionOps &ops, unsigned offset, unsigned size)
{
    unsigned min = ops.impl.min_access_size;

    if (ops.impl.unaligned) {
        return size >= min;
    }
    for (unsigned byte = offset; byte < offset + size; byte++) {
        unsigned window = byte / min * min;

        if (window < offset || window + min > offset + size) {
            return false;
        }
    }
    return true;
}

// Registers and result after one bus access; whether it reached the device.
MemTxResult model_bus_access(const MemoryRegionOps &ops, Bytes &regs, unsigned offset, unsigned size, bool is_write,
                             uint8_t *bytes)
{
    if (size < ops.valid.min_access_size || size > ops.valid.max_access_size) {
        return MEMTX_DECODE_ERROR;
    }
    if (offset % size && !ops.valid.unaligned) {
        return MEMTX_DECODE_ERROR;
    }
    if (!is_write) {
        memcpy(bytes, &regs[offset], size);
        return MEMTX_OK;
    }
    if (!fits_impl(ops, offset, size)) {
        if (ops.impl.narrow_write == MEMORY_NARROW_WRITE_REFUSE) {
            return MEMTX_ACCESS_ERROR;
        }
        if (ops.impl.narrow_write == MEMORY_NARROW_WRITE_EXTEND) {
            for (unsigned i = size; i < ops.impl.min_access_size; i++) {
                regs[offset + i] = 0;
            }
        }
    }
    memcpy(&regs[offset], bytes, size);
    return MEMTX_OK;
}

MemTxResult model_access(const MemoryRegionOps &ops, Bytes &regs, unsigned offset, unsigned len, bool is_write,
                         bool bulk, uint8_t *bytes)
{
    MemTxResult result = MEMTX_OK;

    if (!bulk) {
        return model_bus_access(ops, regs, offset, len, is_write, bytes);
    }
    for (unsigned at = 0; at < len;) {
        unsigned size = 8;

        while (size > ops.valid.max_access_size || size > len - at ||
               ((offset + at) % size && !(ops.valid.unaligned && ops.impl.unaligned))) {
            size /= 2;
        }
        result |= model_bus_access(ops, regs, offset + at, size, is_write, bytes + at);
        at += size;
    }
    return result;
}

// ---- what callbacks must look like from outside ----------------------------------------------------------------------

// Ascending and disjoint (a MERGE reads and writes the same place), and nowhere two where one would have done.
bool calls_are_tidy(const MemoryRegionOps &ops, unsigned offset, unsigned len, bool bulk)
{
    unsigned end = 0;

    for (unsigned i = 0; i < device.n_calls; i++) {
        const Call &call = device.calls[i];
        bool second_half = i > 0 && call.is_write && !device.calls[i - 1].is_write;

        if (second_half) {
            if (call.offset != device.calls[i - 1].offset || call.size != device.calls[i - 1].size) {
                return false;
            }
        } else if (bulk) {
            // Neighbouring bus accesses may share a window, or be extended one over the next.
            if (i > 0 && call.offset < device.calls[i - 1].offset) {
                return false;
            }
        } else if (call.offset < end) {
            return false;
        }
        if (!bulk && i > 0 && !second_half) {
            const Call &before = device.calls[i - 1];
            unsigned both = call.size + before.size;

            if (call.is_write == before.is_write && call.size == before.size && both <= ops.impl.max_access_size &&
                before.offset >= offset && call.offset + call.size <= offset + len &&
                (ops.impl.unaligned || before.offset % both == 0)) {
                return false;
            }
        }
        end = call.offset + call.size;
    }
    return true;
}

struct Size {
    unsigned min, max;
};

std::vector<Size> all_sizes()
{
    std::vector<Size> sizes;

    for (unsigned min = 1; min <= 8; min *= 2) {
        for (unsigned max = min; max <= 8; max *= 2) {
            sizes.push_back(Size{ min, max });
        }
    }
    return sizes;
}

template <typename T> MemTxResult load(MemTxResult (*fn)(AddressSpace *, hwaddr, MemTxAttrs, T *), AddressSpace *as,
                                       hwaddr addr, MemTxAttrs attrs, uint64_t *value)
{
    T typed = static_cast<T>(*value);
    MemTxResult result = fn(as, addr, attrs, &typed);

    *value = typed;
    return result;
}

MemTxResult typed_load(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, unsigned size, bool big_endian, uint64_t *value)
{
    switch (size) {
    case 1:
        return load(address_space_ldub, as, addr, attrs, value);
    case 2:
        return load(big_endian ? address_space_lduw_be : address_space_lduw_le, as, addr, attrs, value);
    case 4:
        return load(big_endian ? address_space_ldl_be : address_space_ldl_le, as, addr, attrs, value);
    default:
        return load(big_endian ? address_space_ldq_be : address_space_ldq_le, as, addr, attrs, value);
    }
}

MemTxResult typed_store(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, unsigned size, bool big_endian, uint64_t value)
{
    switch (size) {
    case 1:
        return address_space_stb(as, addr, attrs, static_cast<uint8_t>(value));
    case 2:
        return (big_endian ? address_space_stw_be : address_space_stw_le)(as, addr, attrs, static_cast<uint16_t>(value));
    case 4:
        return (big_endian ? address_space_stl_be : address_space_stl_le)(as, addr, attrs, static_cast<uint32_t>(value));
    default:
        return (big_endian ? address_space_stq_be : address_space_stq_le)(as, addr, attrs, value);
    }
}

struct Way {
    unsigned size, offset;
    bool is_write, bulk, big_endian;
};

::testing::AssertionResult check_one(AddressSpace *as, const Way &way)
{
    const MemoryRegionOps &ops = device.ops;
    // A bulk access has no byte order; in its place, a length that is no power of two.
    unsigned len = way.bulk && way.big_endian ? way.size + 3 : way.size;
    uint8_t bytes[12], expected[12];
    Bytes regs;
    MemTxResult result, expected_result;

    for (unsigned i = 0; i < kRegs; i++) {
        device.regs[i] = static_cast<uint8_t>(0x40 + 5 * i);
    }
    regs = device.regs;
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        bytes[i] = expected[i] = way.is_write ? static_cast<uint8_t>(0x91 + 7 * i) : kUntouched;
    }
    device.n_calls = 0;
    device.complaints = 0;

    expected_result = model_access(ops, regs, way.offset, len, way.is_write, way.bulk, expected);
    if (way.bulk) {
        result = address_space_rw(as, kBase + way.offset, device.attrs, bytes, len, way.is_write);
    } else {
        uint64_t value = compose(bytes, len, way.big_endian);

        if (way.is_write) {
            result = typed_store(as, kBase + way.offset, device.attrs, len, way.big_endian, value);
        } else {
            result = typed_load(as, kBase + way.offset, device.attrs, len, way.big_endian, &value);
            decompose(value, bytes, len, way.big_endian);
        }
    }
    if (result == expected_result && !memcmp(bytes, expected, sizeof(bytes)) && device.regs == regs &&
        device.complaints == 0 && calls_are_tidy(ops, way.offset, len, way.bulk) &&
        (expected_result == MEMTX_OK || way.bulk || device.n_calls == 0)) {
        return ::testing::AssertionSuccess();
    }
    ::testing::AssertionResult failure = ::testing::AssertionFailure();
    failure << (way.bulk ? "bulk " : "typed ") << (way.is_write ? "write" : "read") << " of " << len << " at "
            << way.offset << (way.big_endian ? " be" : " le") << ", region " << (big(ops) ? "be" : "le") << " valid "
            << ops.valid.min_access_size << ".." << ops.valid.max_access_size << (ops.valid.unaligned ? "u" : "")
            << " impl " << ops.impl.min_access_size << ".." << ops.impl.max_access_size
            << (ops.impl.unaligned ? "u" : "") << " narrow " << ops.impl.narrow_write << ": result " << result
            << " expected " << expected_result << ", complaints " << device.complaints << ", bytes "
            << (memcmp(bytes, expected, sizeof(bytes)) ? "differ" : "agree") << ", registers "
            << (device.regs == regs ? "agree" : "differ") << ", calls";
    for (unsigned i = 0; i < device.n_calls; i++) {
        failure << " " << (device.calls[i].is_write ? "w" : "r") << device.calls[i].size << "@" << device.calls[i].offset;
    }
    return failure;
}

// All accesses to one region; returns how many.
unsigned check_region(bool with_attrs)
{
    unsigned count = 0;

    device.bias = with_attrs ? kBias : 0;
    device.ops.read = with_attrs ? nullptr : device_read;
    device.ops.write = with_attrs ? nullptr : device_write;
    device.ops.read_with_attrs = with_attrs ? device_read_with_attrs : nullptr;
    device.ops.write_with_attrs = with_attrs ? device_write_with_attrs : nullptr;

    ShimRange range = {};
    range.first = kBase;
    range.last = kBase + kRegs - 1;
    range.kind = SHIM_IO;
    range.bias = device.bias;
    range.ops = &device.ops;
    range.mr = &device.mr;
    ShimSpace *space = shim_space_new(&range, 1);

    for (unsigned size = 1; size <= 8; size *= 2) {
        for (unsigned offset = 0; offset < 16; offset++) {
            for (unsigned bits = 0; bits < 8; bits++) {
                Way way = { size, offset, (bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0 };

                EXPECT_TRUE(check_one(shim_space_as(space), way));
                count++;
            }
        }
    }
    shim_space_free(space);
    return count;
}

TEST(AccessTable, EveryAccessToEveryRegionAgreesWithTheBytewiseModel)
{
    const std::vector<Size> sizes = all_sizes();
    unsigned count = 0;

    device.attrs = MemTxAttrs{ 0, 1, 0, 0, 0, 0xbeef };
    ASSERT_EQ(sizes.size(), 10u);
    for (const Size &valid : sizes) {
        for (const Size &impl : sizes) {
            for (unsigned bits = 0; bits < 16; bits++) {
                for (unsigned narrow = 0; narrow < 3; narrow++) {
                    device.ops = MemoryRegionOps{};
                    device.ops.endianness = bits & 1 ? MEMORY_BIG_ENDIAN : MEMORY_LITTLE_ENDIAN;
                    device.ops.valid.min_access_size = valid.min;
                    device.ops.valid.max_access_size = valid.max;
                    device.ops.valid.unaligned = (bits & 2) != 0;
                    device.ops.impl.min_access_size = impl.min;
                    device.ops.impl.max_access_size = impl.max;
                    device.ops.impl.unaligned = (bits & 4) != 0;
                    device.ops.impl.narrow_write = static_cast<MemoryNarrowWrite>(narrow);
                    count += check_region((bits & 8) != 0);
                    if (::testing::Test::HasFailure()) {
                        FAIL() << "the rest of the table is not looked at";
                    }
                }
            }
        }
    }
    // valid x impl x (order, unaligned, unaligned, attrs) x narrow x size x offset x (write, bulk, order asked for)
    EXPECT_EQ(count, 10u * 10 * 16 * 3 * 4 * 16 * 8);
}

} // namespace
