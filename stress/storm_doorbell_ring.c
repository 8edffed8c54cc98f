/* SPDX-License-Identifier: MIT */
/*
 * storm_doorbell_ring.c - ioeventfds rung by vCPUs, and what is demanded of each write.
 *
 * Invariant: a write by dispatch kicks exactly one file, or reaches exactly one callback, or nothing is there; and which of
 * these is known if its device was not being changed meanwhile. Every kick is owed to its file, where it is found at rest.
 * Relied on by storm_doorbell.c's judge(). Lock: none; it looks at devices as that file says.
 */
#include "storm_doorbell.h"

#include <string.h>

#define BURST 64

/* What callbacks were told by this thread's write. */
static __thread struct {
    unsigned calls, size;
    const MemoryRegion *mr;
    hwaddr addr;
    uint64_t data;
} heard;

/* Two bells to 8 bytes: two values of one word, or one for any size and one for two bytes. */
MemoryRegionEventfd doorbell_spec(const DoorDevice *device, unsigned i)
{
    bool by_value = i / 2 % 2 == 0;
    MemoryRegionEventfd spec = { .addr = i / 2 * 8, .size = 4, .match_data = by_value, .fd = device->bells[i].fd };

    if (by_value) {
        spec.data = 1 + i % 2;
    } else {
        spec.size = i % 2 ? 2 : 0;
        spec.addr += i % 2 ? 4 : 0;
    }
    return spec;
}

static int matching(hwaddr addr, unsigned size, uint64_t value)
{
    for (unsigned i = 0; i < BELLS; i++) {
        MemoryRegionEventfd s = doorbell_spec(&doorbell_devices[0], i);

        if (s.addr == addr && (!s.size || s.size == size) && (!s.match_data || s.data == value)) {
            return (int)i;
        }
    }
    return -1;
}

static MemTxResult on_write(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size, MemTxAttrs attrs)
{
    (void)attrs;
    heard.calls++;
    heard.mr = mr;
    heard.addr = addr;
    heard.data = data;
    heard.size = size;
    return MEMTX_OK;
}

const MemoryRegionOps doorbell_ops = {
    .write_with_attrs = on_write,
    .endianness = MEMORY_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8 },
    .impl = { .min_access_size = 1, .max_access_size = 8 },
};

/* ---- ringing -------------------------------------------------------------------------------------------------- */

static DoorState look(const DoorDevice *device, uint64_t *ret_seq)
{
    DoorState s;

    *ret_seq = __atomic_load_n(&device->seq, __ATOMIC_ACQUIRE);
    s.bells = __atomic_load_n(&device->now.bells, __ATOMIC_RELAXED);
    s.shown = __atomic_load_n(&device->now.shown, __ATOMIC_RELAXED);
    s.covered = __atomic_load_n(&device->now.covered, __ATOMIC_RELAXED);
    s.where = __atomic_load_n(&device->now.where, __ATOMIC_RELAXED);
    return s;
}

static MemTxResult ring(StormThread *t, hwaddr addr, unsigned size, uint64_t value)
{
    uint8_t bytes[8];

    if (storm_chance(t, 4)) { /* as a bulk write that is one bus access */
        for (unsigned i = 0; i < 8; i++) {
            bytes[i] = (uint8_t)(value >> 8 * i);
        }
        return address_space_write(&doorbell_space, addr, MEMTXATTRS_UNSPECIFIED, bytes, size);
    }
    switch (size) {
    case 1:
        return address_space_stb(&doorbell_space, addr, MEMTXATTRS_UNSPECIFIED, (uint8_t)value);
    case 2:
        return address_space_stw_le(&doorbell_space, addr, MEMTXATTRS_UNSPECIFIED, (uint16_t)value);
    case 4:
        return address_space_stl_le(&doorbell_space, addr, MEMTXATTRS_UNSPECIFIED, (uint32_t)value);
    default:
        return address_space_stq_le(&doorbell_space, addr, MEMTXATTRS_UNSPECIFIED, value);
    }
}

/* What a device in this state must do: 'n' nothing there, 'c' the cover, 'k' a kick, 'd' the device's callback. */
static char owed(const DoorState *s, hwaddr addr, int bell)
{
    if (!s->shown) {
        return 'n';
    }
    if (s->covered && addr - COVER_AT < COVER_SIZE) {
        return 'c';
    }
    return bell >= 0 && s->bells >> bell & 1 ? 'k' : 'd';
}

/* What it did; '?' if it was more than one of these, or half of one. */
static char done(const DoorDevice *device, MemTxResult result, hwaddr addr, unsigned size, uint64_t value)
{
    bool cover = heard.mr == &device->cover;

    if (result == MEMTX_DECODE_ERROR) {
        return heard.calls ? '?' : 'n';
    }
    if (result != MEMTX_OK || heard.calls > 1) {
        return '?';
    }
    if (!heard.calls) {
        return 'k';
    }
    if ((heard.mr != &device->regs && !cover) || heard.size != size || heard.data != value ||
        heard.addr != (cover ? addr - COVER_AT : addr)) {
        return '?';
    }
    return cover ? 'c' : 'd';
}

static void ring_one(StormThread *t)
{
    unsigned which = (unsigned)storm_below(t, DEVICES), size = 1u << storm_below(t, 4);
    DoorDevice *device = &doorbell_devices[which];
    hwaddr addr = storm_below(t, BELLS / 2) * 8 + (size < 8 && storm_chance(t, 4) ? 4 : 0);
    uint64_t value = storm_below(t, 4), before, after;
    int bell = matching(addr, size, value);
    DoorState s = look(device, &before);
    MemTxResult result;
    char must, did;

    memset(&heard, 0, sizeof(heard));
    result = ring(t, (storm_chance(t, 4) ? BUS : 0) + which * CORNER + s.where + addr, size, value);
    after = __atomic_load_n(&device->seq, __ATOMIC_ACQUIRE);
    did = done(device, result, addr, size, value);
    must = owed(&s, addr, bell);
    if (did == '?' || (did == 'k' && bell < 0) || (before == after && before % 2 == 0 && did != must)) {
        storm_violation("%s: device %u: a write of %u bytes, value %u, at %llx did '%c' (result %d, %u callbacks); "
                        "'%c' would be right%s",
                        storm_doorbell.name, which, size, (unsigned)value, (unsigned long long)addr, did, (int)result,
                        heard.calls, must, before == after && before % 2 == 0 ? "" : " or was a moment ago");
    }
    plane_did(&doorbell_did[did == 'k' ? DOORBELL_KICKS : did == 'd' ? DOORBELL_CALLS : DOORBELL_HIDDEN], 1);
    if (did == 'k' && bell >= 0) {
        __atomic_fetch_add(&device->bells[bell].owed, 1, __ATOMIC_RELAXED);
    }
}

void doorbell_ring(StormThread *t)
{
    for (unsigned i = 0; i < BURST; i++) {
        ring_one(t);
    }
}

