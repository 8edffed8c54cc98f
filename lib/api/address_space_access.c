/* SPDX-License-Identifier: MIT */
/*
 * address_space_access.c - the reader's half of address_space.h.
 *
 * Invariant: nothing here writes to anything that another thread reads, but for the count of a pin. Concurrency: any
 * thread, no lock; each call is a read section of its own, nested in the caller's if there is one.
 */
#include <flatview/address_space.h>

#include "access/dispatch.h"
#include "view/flat_view.h"

FlatView *address_space_get_flatview(AddressSpace *as)
{
    FlatView *view;

    reader_enter();
    view = cell_view(space_cell(as));
    retire_pin(&view->pin);
    reader_exit();
    return view;
}

FlatView *address_space_current(AddressSpace *as)
{
    return cell_view(space_cell(as));
}

MemTxResult address_space_read(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, void *buf, hwaddr len)
{
    return dispatch_rw(as, addr, attrs, buf, len, false);
}

MemTxResult address_space_write(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, const void *buf, hwaddr len)
{
    return dispatch_rw(as, addr, attrs, (void *)(uintptr_t)buf, len, true);
}

MemTxResult address_space_rw(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, void *buf, hwaddr len, bool is_write)
{
    return dispatch_rw(as, addr, attrs, buf, len, is_write);
}

/*
 * The steps of access/dispatch.h, one function each. A value is stored before the section is left: so nothing is alive
 * across reader_exit_entered(), whose rare wake-up of a writer would cost the common case a saved register.
 */
#define STEP static __attribute__((noinline)) MemTxResult

#define DEFINE_LOAD(name, type, big_endian) \
    STEP name##_any(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, type *ret_val) \
    { \
        const FlatRange *range = thread_cache_miss(cell_view(space_cell(as)), addr); \
        uint64_t value; \
\
        if (range && dispatch_load_range(range, thread_cache_asks(range), addr, sizeof(type), big_endian, \
                                         &value)) { \
            *ret_val = (type)value; \
            reader_exit_entered(); \
            return MEMTX_OK; \
        } \
        return dispatch_load_slow(as, addr, attrs, sizeof(type), big_endian, ret_val); \
    } \
\
    STEP name##_page(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, type *ret_val, uint64_t now) \
    { \
        unsigned asks; \
        uint64_t value; \
        const FlatRange *range = thread_cache_page(now, cell_page_mask(space_cell(as)), addr, &asks); \
\
        if (__builtin_expect(!range, 0)) { \
            return name##_any(as, addr, attrs, ret_val); \
        } \
        if (__builtin_expect(dispatch_load_range(range, asks, addr, sizeof(type), big_endian, &value), 1)) { \
            *ret_val = (type)value; \
            reader_exit_entered(); \
            return MEMTX_OK; \
        } \
        return dispatch_load_slow(as, addr, attrs, sizeof(type), big_endian, ret_val); \
    } \
\
    STEP name##_device(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, type *ret_val, uint64_t now) \
    { \
        uint64_t value; \
\
        if (__builtin_expect(dispatch_load_device(now, addr, sizeof(type), big_endian, &value), 1)) { \
            *ret_val = (type)value; \
            reader_exit_entered(); \
            return MEMTX_OK; \
        } \
        return name##_page(as, addr, attrs, ret_val, now); \
    } \
\
    MemTxResult address_space_##name(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, type *ret_val) \
    { \
        uint64_t now, value; \
\
        if (__builtin_expect(!reader_try_enter(), 0)) { \
            return dispatch_load_unregistered(as, addr, attrs, sizeof(type), big_endian, ret_val); \
        } \
        now = cell_gen(space_cell(as)); \
        if (__builtin_expect(dispatch_load_memory(now, addr, sizeof(type), big_endian, &value), 1)) { \
            *ret_val = (type)value; \
            reader_exit_entered(); \
            return MEMTX_OK; \
        } \
        return name##_device(as, addr, attrs, ret_val, now); \
    }

#define DEFINE_STORE(name, type, big_endian) \
    STEP name##_any(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, type val) \
    { \
        const FlatRange *range = thread_cache_miss(cell_view(space_cell(as)), addr); \
\
        if (range && dispatch_store_range(range, thread_cache_asks(range), addr, sizeof(type), big_endian, \
                                          val)) { \
            reader_exit_entered(); \
            return MEMTX_OK; \
        } \
        return dispatch_store_slow(as, addr, attrs, sizeof(type), big_endian, val); \
    } \
\
    STEP name##_page(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, type val, uint64_t now) \
    { \
        unsigned asks; \
        const FlatRange *range = thread_cache_page(now, cell_page_mask(space_cell(as)), addr, &asks); \
\
        if (__builtin_expect(!range, 0)) { \
            return name##_any(as, addr, attrs, val); \
        } \
        if (__builtin_expect(dispatch_store_range(range, asks, addr, sizeof(type), big_endian, val), 1)) { \
            reader_exit_entered(); \
            return MEMTX_OK; \
        } \
        return dispatch_store_slow(as, addr, attrs, sizeof(type), big_endian, val); \
    } \
\
    STEP name##_device(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, type val, uint64_t now) \
    { \
        if (__builtin_expect(dispatch_store_device(now, addr, sizeof(type), big_endian, val), 1)) { \
            reader_exit_entered(); \
            return MEMTX_OK; \
        } \
        return name##_page(as, addr, attrs, val, now); \
    } \
\
    MemTxResult address_space_##name(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, type val) \
    { \
        uint64_t now; \
\
        if (__builtin_expect(!reader_try_enter(), 0)) { \
            return dispatch_store_unregistered(as, addr, attrs, sizeof(type), big_endian, val); \
        } \
        now = cell_gen(space_cell(as)); \
        if (__builtin_expect(dispatch_store_memory(now, addr, sizeof(type), big_endian, val), 1)) { \
            reader_exit_entered(); \
            return MEMTX_OK; \
        } \
        return name##_device(as, addr, attrs, val, now); \
    }

DEFINE_LOAD(ldub, uint8_t, false)
DEFINE_LOAD(lduw_le, uint16_t, false)
DEFINE_LOAD(lduw_be, uint16_t, true)
DEFINE_LOAD(ldl_le, uint32_t, false)
DEFINE_LOAD(ldl_be, uint32_t, true)
DEFINE_LOAD(ldq_le, uint64_t, false)
DEFINE_LOAD(ldq_be, uint64_t, true)

DEFINE_STORE(stb, uint8_t, false)
DEFINE_STORE(stw_le, uint16_t, false)
DEFINE_STORE(stw_be, uint16_t, true)
DEFINE_STORE(stl_le, uint32_t, false)
DEFINE_STORE(stl_be, uint32_t, true)
DEFINE_STORE(stq_le, uint64_t, false)
DEFINE_STORE(stq_be, uint64_t, true)

MemTxResult address_space_translate(AddressSpace *as, hwaddr addr, bool is_write, MemTxAttrs attrs,
                                    MemoryRegionSection *ret_section)
{
    MemTxResult result;

    reader_enter();
    result = dispatch_translate(as, addr, is_write, attrs, ret_section);
    reader_exit();
    return result;
}
