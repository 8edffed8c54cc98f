/* SPDX-License-Identifier: MIT */
/*
 * eventfd.c - a write that is a doorbell.
 *
 * Invariant: the set that an access finds in its region is sealed and stays until the access's read section ends, and so do the
 * files in it (R4): no lock, no count. At most one item matches (api/memory_eventfd.c), so the first one is the one.
 * Established by: plane_publish(), plane_retire(). Relied on by: guests, whose kick is either delivered or, if the ioeventfd
 * went meanwhile, an ordinary write.
 */
#include "access/bus.h"

#include "base/reader.h"
#include "topology/eventfd_file.h"

static bool item_matches(const PlaneItem *item, unsigned size, uint64_t bus_value)
{
    if (item->flags & PLANE_ITEM_ANY_SIZE) {
        return true;
    }
    return item->last - item->first == size - 1 && (!(item->flags & PLANE_ITEM_MATCH) || item->data == bus_value);
}

static const PlaneItem *find(const FlatRange *range, hwaddr offset, unsigned size, uint64_t value)
{
    RegionPlanes *planes = reader_load(&range->mr->planes);
    const PlaneSet *set = planes ? reader_load(&planes->seen[MEMORY_PLANE_EVENTFD]) : NULL;
    uint64_t bus_value = region_bus_order(range->mr, value & UINT64_MAX >> (64 - 8 * size), size);
    uint32_t i;

    if (!set || range->flags & FLAT_READONLY) {
        return NULL;
    }
    for (i = plane_set_at(set, offset); i != PLANE_NO_ITEM && !item_matches(&set->items[i], size, bus_value);
         i = plane_set_at_next(set, i)) {
    }
    return i != PLANE_NO_ITEM ? &set->items[i] : NULL;
}

bool eventfd_is_for(const FlatRange *range, hwaddr offset, unsigned size, uint64_t value)
{
    return find(range, offset, size, value) != NULL;
}

bool eventfd_take_write(const FlatRange *range, hwaddr offset, unsigned size, uint64_t value, MemTxResult *ret_result)
{
    const PlaneItem *item = find(range, offset, size, value);

    if (item) {
        bus_flush_hooked(range->mr, region_hooks(range->mr)); /* whoever is woken looks at what was written before */
        *ret_result = eventfd_file_kick(eventfd_file_of(item)) ? MEMTX_OK : MEMTX_ERROR;
    }
    return item != NULL;
}

/* The widest accesses that are aligned, as a bus would make them. */
MemTxResult eventfd_write_bytes(const FlatRange *range, hwaddr offset, const uint8_t *buf, hwaddr len)
{
    MemTxResult result = MEMTX_OK, kicked;

    while (len) {
        unsigned size = 8, i;
        uint64_t value = 0;

        while (offset & (size - 1) || size > len) {
            size /= 2;
        }
        for (i = 0; i < size; i++) {
            value |= (uint64_t)buf[i] << (8 * i);
        }
        result |= eventfd_take_write(range, offset, size, value, &kicked) ? kicked : MEMTX_DECODE_ERROR;
        offset += size;
        buf += size;
        len -= size;
    }
    return result;
}
