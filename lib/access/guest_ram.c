/* SPDX-License-Identifier: MIT */
/*
 * guest_ram.c - the copies of guest_ram.h that are loops.
 *
 * Invariant: an exact copy touches each byte of hardware once, in ascending order, through one volatile access of
 * ram_exact_width() bytes after the other.
 */
#include "access/guest_ram.h"

void ram_exact_read(void *to, const uint8_t *host, size_t len)
{
    uint8_t *bytes = to;

    while (len) {
        unsigned width = ram_exact_width(host, len);
        const volatile void *at = host;

        switch (width) {
        case 1:
            *bytes = *(const volatile uint8_t *)at;
            break;
        case 2: {
            uint16_t half = *(const volatile uint16_t *)at;

            memcpy(bytes, &half, sizeof(half));
            break;
        }
        case 4: {
            uint32_t word = *(const volatile uint32_t *)at;

            memcpy(bytes, &word, sizeof(word));
            break;
        }
        default: {
            uint64_t quad = *(const volatile uint64_t *)at;

            memcpy(bytes, &quad, sizeof(quad));
            break;
        }
        }
        bytes += width;
        host += width;
        len -= width;
    }
}

void ram_exact_write(uint8_t *host, const void *from, size_t len)
{
    const uint8_t *bytes = from;

    while (len) {
        unsigned width = ram_exact_width(host, len);
        volatile void *at = host;

        switch (width) {
        case 1:
            *(volatile uint8_t *)at = *bytes;
            break;
        case 2: {
            uint16_t half;

            memcpy(&half, bytes, sizeof(half));
            *(volatile uint16_t *)at = half;
            break;
        }
        case 4: {
            uint32_t word;

            memcpy(&word, bytes, sizeof(word));
            *(volatile uint32_t *)at = word;
            break;
        }
        default: {
            uint64_t quad;

            memcpy(&quad, bytes, sizeof(quad));
            *(volatile uint64_t *)at = quad;
            break;
        }
        }
        bytes += width;
        host += width;
        len -= width;
    }
}

#ifdef READER_TSAN
/* volatile, or the compiler would see a memmove() and call the sanitizer's. Words where both sides allow it: races then
   tear no more than they do in what ships. */
__attribute__((no_sanitize("thread"))) void ram_copy(void *to, const void *from, size_t len)
{
    volatile uint8_t *t = to;
    const volatile uint8_t *f = from;
    const bool down = (uintptr_t)to > (uintptr_t)from;
    const size_t word = (((uintptr_t)to | (uintptr_t)from | len) % 8 == 0) ? 8 : 1;
    size_t i;

    for (i = 0; i < len; i += word) {
        size_t at = down ? len - word - i : i;

        if (word == 8) {
            *(volatile uint64_t *)(volatile void *)(t + at) = *(const volatile uint64_t *)(const volatile void *)(f + at);
        } else {
            t[at] = f[at];
        }
    }
}

__attribute__((no_sanitize("thread"))) void ram_fill(void *to, uint8_t c, size_t len)
{
    volatile uint8_t *t = to;
    size_t i;

    for (i = 0; i < len; i++) {
        t[i] = c;
    }
}
#endif
