/* SPDX-License-Identifier: MIT */
/*
 * guest_ram.h - loads, stores and copies of guest memory.
 *
 * Invariant: an access of 1, 2, 4 or 8 bytes that is naturally aligned in the host is single-copy atomic, and orders
 * nothing. Everything else may tear, between any two bytes.
 * Relied on by: guests, whose vCPUs race on their memory by design, with barriers of their own making.
 *
 * In C11 a racing memcpy() is undefined, and ThreadSanitizer says so. What we need of a copy is only what every memcpy()
 * does: each byte is some byte that was stored there. So it stays memmove() in what ships; a build for ThreadSanitizer
 * copies in a loop that the sanitizer does not look into.
 *
 * A range that is FLAT_EXACT maps hardware: there every access is volatile, aligned and of a stated width, and never wider
 * than what was asked for.
 */
#ifndef FLATVIEW_ACCESS_GUEST_RAM_H
#define FLATVIEW_ACCESS_GUEST_RAM_H

#include <string.h>

#include "base/reader.h"

/* len bytes; the two may overlap. */
#ifdef READER_TSAN
void ram_copy(void *to, const void *from, size_t len);
void ram_fill(void *to, uint8_t c, size_t len);
#else
static inline void ram_copy(void *to, const void *from, size_t len)
{
    memmove(to, from, len);
}

static inline void ram_fill(void *to, uint8_t c, size_t len)
{
    memset(to, c, len);
}
#endif

static inline bool ram_is_aligned(const uint8_t *host, unsigned size)
{
    return ((uintptr_t)host & (size - 1)) == 0;
}

/* The next access of an exact copy of len bytes: the widest that is naturally aligned and not too long. */
static inline unsigned ram_exact_width(const uint8_t *host, size_t len)
{
    unsigned width = 8;

    while (!ram_is_aligned(host, width) || width > len) {
        width /= 2;
    }
    return width;
}

/* From and to hardware: accesses of ram_exact_width(), ascending. */
void ram_exact_read(void *to, const uint8_t *host, size_t len);
void ram_exact_write(uint8_t *host, const void *from, size_t len);

static inline uint64_t value_swap(uint64_t value, unsigned size)
{
    switch (size) {
    case 1:
        return value;
    case 2:
        return __builtin_bswap16((uint16_t)value);
    case 4:
        return __builtin_bswap32((uint32_t)value);
    default:
        return __builtin_bswap64(value);
    }
}

/* Between host order and the order that is asked for; its own inverse. */
static inline uint64_t value_order(uint64_t value, unsigned size, bool big_endian)
{
    return big_endian != (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__) ? value_swap(value, size) : value;
}

/* A value and its bytes as they lie in memory. */
static inline uint64_t value_from_bytes(const uint8_t *bytes, unsigned size, bool big_endian)
{
    uint64_t value = 0;
    unsigned i;

    for (i = 0; i < size; i++) {
        value |= (uint64_t)bytes[i] << (8 * (big_endian ? size - 1 - i : i));
    }
    return value;
}

static inline void value_to_bytes(uint64_t value, uint8_t *bytes, unsigned size, bool big_endian)
{
    unsigned i;

    for (i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(value >> (8 * (big_endian ? size - 1 - i : i)));
    }
}

/* size is a constant where this is inlined. In host order. */
static inline uint64_t ram_load(const uint8_t *host, unsigned size)
{
    if (__builtin_expect(ram_is_aligned(host, size), 1)) {
        switch (size) {
        case 1:
            return __atomic_load_n(host, __ATOMIC_RELAXED);
        case 2:
            return __atomic_load_n((const uint16_t *)(const void *)host, __ATOMIC_RELAXED);
        case 4:
            return __atomic_load_n((const uint32_t *)(const void *)host, __ATOMIC_RELAXED);
        default:
            return __atomic_load_n((const uint64_t *)(const void *)host, __ATOMIC_RELAXED);
        }
    } else {
        uint16_t half;
        uint32_t word;
        uint64_t quad;

        switch (size) {
        case 2:
            ram_copy(&half, host, sizeof(half));
            return half;
        case 4:
            ram_copy(&word, host, sizeof(word));
            return word;
        default:
            ram_copy(&quad, host, sizeof(quad));
            return quad;
        }
    }
}

static inline void ram_store(uint8_t *host, unsigned size, uint64_t value)
{
    uint16_t half = (uint16_t)value;
    uint32_t word = (uint32_t)value;

    if (__builtin_expect(ram_is_aligned(host, size), 1)) {
        switch (size) {
        case 1:
            __atomic_store_n(host, (uint8_t)value, __ATOMIC_RELAXED);
            break;
        case 2:
            __atomic_store_n((uint16_t *)(void *)host, half, __ATOMIC_RELAXED);
            break;
        case 4:
            __atomic_store_n((uint32_t *)(void *)host, word, __ATOMIC_RELAXED);
            break;
        default:
            __atomic_store_n((uint64_t *)(void *)host, value, __ATOMIC_RELAXED);
            break;
        }
    } else {
        switch (size) {
        case 2:
            ram_copy(host, &half, sizeof(half));
            break;
        case 4:
            ram_copy(host, &word, sizeof(word));
            break;
        default:
            ram_copy(host, &value, sizeof(value));
            break;
        }
    }
}

#endif
