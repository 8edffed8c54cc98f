/* SPDX-License-Identifier: MIT */
/*
 * memory_cache.c - the public side of cached windows.
 *
 * Invariant: a window has bytes only if it has a space, and ends before 2^64. Each access is a read section, in which what the
 * cache remembers is compared with the map before it is used (access/cached.h). Concurrency: a cache is one thread's.
 */
#include <errno.h>

#include <flatview/memory_cache.h>

#include "access/cached.h"
#include "base/live.h"

int address_space_cache_init(MemoryRegionCache *cache, AddressSpace *as, hwaddr addr, hwaddr len)
{
    if (!cache || !as || !len || len - 1 > UINT64_MAX - addr) {
        return -EINVAL;
    }
    *cache = (MemoryRegionCache){.as = as, .addr = addr, .len = len};
    live_add(LIVE_CACHED_WINDOWS, 1);
    return 0;
}

void address_space_cache_destroy(MemoryRegionCache *cache)
{
    if (cache->as) {
        live_sub(LIVE_CACHED_WINDOWS, 1);
    }
    *cache = (MemoryRegionCache){.as = NULL};
}

#define STEP static __attribute__((noinline)) MemTxResult

/*
 * Two functions each: a hit, which needs no saved register, and the rest, in the same section. A thread that is not
 * registered yet comes to the rest with a section opened the slow way.
 */
#define DEFINE_LOAD(name, type, big_endian) \
    STEP name##_rest(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs, type *ret_val) \
    { \
        const uint8_t *host = cached_find(cache, addr, sizeof(type), false, attrs); \
\
        if (host) { \
            *ret_val = (type)value_order(ram_load(host, sizeof(type)), sizeof(type), big_endian); \
            reader_exit(); \
            return MEMTX_OK; \
        } \
        if (!cached_holds(cache, addr, sizeof(type))) { \
            reader_exit(); \
            return MEMTX_DECODE_ERROR; \
        } \
        return dispatch_load_slow(cache->as, cache->addr + addr, attrs, sizeof(type), big_endian, ret_val); \
    } \
\
    MemTxResult address_space_##name##_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs, type *ret_val) \
    { \
        if (__builtin_expect(!reader_try_enter(), 0)) { \
            reader_enter(); \
            return name##_rest(cache, addr, attrs, ret_val); \
        } \
        if (__builtin_expect(cached_hit(cache, addr, sizeof(type)), 1)) { \
            *ret_val = (type)value_order(ram_load(cache->host + addr, sizeof(type)), sizeof(type), big_endian); \
            reader_exit_entered(); \
            return MEMTX_OK; \
        } \
        return name##_rest(cache, addr, attrs, ret_val); \
    }

#define DEFINE_STORE(name, type, big_endian) \
    STEP name##_rest(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs, type val) \
    { \
        uint8_t *host = cached_find(cache, addr, sizeof(type), true, attrs); \
\
        if (host && cache->unasked) { \
            ram_store(host, sizeof(type), value_order(val, sizeof(type), big_endian)); \
            reader_exit(); \
            return MEMTX_OK; \
        } \
        if (!cached_holds(cache, addr, sizeof(type))) { \
            reader_exit(); \
            return MEMTX_DECODE_ERROR; \
        } \
        return dispatch_store_slow(cache->as, cache->addr + addr, attrs, sizeof(type), big_endian, val); \
    } \
\
    MemTxResult address_space_##name##_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs, type val) \
    { \
        if (__builtin_expect(!reader_try_enter(), 0)) { \
            reader_enter(); \
            return name##_rest(cache, addr, attrs, val); \
        } \
        if (__builtin_expect(cached_hit(cache, addr, sizeof(type)), 1) && __builtin_expect(cache->unasked, 1)) { \
            ram_store(cache->host + addr, sizeof(type), value_order(val, sizeof(type), big_endian)); \
            reader_exit_entered(); \
            return MEMTX_OK; \
        } \
        return name##_rest(cache, addr, attrs, val); \
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

MemTxResult address_space_read_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs, void *buf, hwaddr len)
{
    return cached_rw(cache, addr, attrs, buf, len, false);
}

MemTxResult address_space_write_cached(MemoryRegionCache *cache, hwaddr addr, MemTxAttrs attrs, const void *buf,
                                       hwaddr len)
{
    return cached_rw(cache, addr, attrs, (void *)(uintptr_t)buf, len, true);
}

void *address_space_cache_ptr(MemoryRegionCache *cache, hwaddr addr, hwaddr len, bool is_write)
{
    return len && reader_ongoing() ? cached_ptr(cache, addr, len, is_write) : NULL;
}

int address_space_cache_invalidate(MemoryRegionCache *cache, hwaddr addr, hwaddr access_len)
{
    /* Not refreshed: what was written to is what the pointer was of, whatever has been committed since. */
    return reader_ongoing() && cached_written(cache, addr, access_len) ? 0 : -EINVAL;
}
