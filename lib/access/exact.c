/* SPDX-License-Identifier: MIT */
/*
 * exact.c - accesses to mapped hardware.
 *
 * Invariant: every byte is touched at most once, in ascending order, by an access that is no wider than what is left, no
 * wider than the region takes, and aligned. Hardware has side effects: a memcpy() that reads a byte twice, or four bytes as
 * four, is another program to it (that is what broke network cards in QEMU before 2016).
 * Relied on by: devices behind memory_region_init_ram_device*(). Lock: none.
 *
 * What there is of rules is the widths. Byte order is that of the hardware, accepts() is for callbacks.
 */
#include "access/exact.h"

#include "access/guest_ram.h"

MemTxResult exact_rw(const FlatRange *range, hwaddr addr, uint8_t *buf, hwaddr len, bool is_write)
{
    uint8_t *host = range->host + (addr - range->first);
    unsigned max = range->ops ? range->ops->impl.max_access_size : 8;
    unsigned min = range->ops ? range->ops->valid.min_access_size : 1;
    MemTxResult result = MEMTX_OK;

    while (len) {
        unsigned width = ram_exact_width(host, len);

        if (width > max) {
            width = max;
        }
        if (width < min) {
            result = MEMTX_DECODE_ERROR;
        } else if (is_write) {
            ram_exact_write(host, buf, width);
        } else {
            ram_exact_read(buf, host, width);
        }
        buf += width;
        host += width;
        len -= width;
    }
    return result;
}
