/* SPDX-License-Identifier: MIT */
/*
 * memory_dma.c - the public side of mappings, and of the accesses that go with them.
 *
 * Invariant: a mapping is ended by exactly one caller: whoever takes live from 1 to 0, or, of one that is known by its
 * pointer, whoever takes the record out. Ranges that are passed down are not empty and end before 2^64.
 * Concurrency: any thread. The writers' side of a space is looked at in a read section: it is retired, not freed.
 */
#include <errno.h>

#include <flatview/memory_dma.h>

#include "access/dma.h"
#include "access/reach.h"
#include "base/mem.h"
#include "publish/space.h"

static bool direction_is_valid(MemoryMapDirection direction)
{
    return direction >= MEMORY_MAP_READ && direction <= MEMORY_MAP_READ_WRITE;
}

static bool ranges_are_valid(const MemoryMapRange *ranges, size_t n)
{
    hwaddr sum = 0;
    size_t i;

    for (i = 0; i < n; i++) {
        if (!ranges[i].len || ranges[i].len - 1 > UINT64_MAX - ranges[i].addr || ranges[i].len > UINT64_MAX - sum) {
            return false;
        }
        sum += ranges[i].len;
    }
    return n > 0;
}

int address_space_map_sg(AddressSpace *as, const MemoryMapRange *ranges, size_t n_ranges, MemoryMapDirection direction,
                         MemTxAttrs attrs, MemoryMapping *ret_mapping)
{
    if (!as || !ranges || !ret_mapping || !direction_is_valid(direction) || !ranges_are_valid(ranges, n_ranges) ||
        __atomic_load_n(&ret_mapping->live, __ATOMIC_ACQUIRE)) {
        return -EINVAL;
    }
    return dma_map(as, ranges, n_ranges, direction, attrs, ret_mapping);
}

static int ended(MemTxResult result, MemTxResult *ret_result)
{
    if (ret_result) {
        *ret_result = result;
    }
    return result == MEMTX_OK ? 0 : -EIO;
}

int address_space_unmap_sg(MemoryMapping *mapping, hwaddr access_len, MemTxResult *ret_result)
{
    uint32_t live = 1;

    if (!mapping ||
        !__atomic_compare_exchange_n(&mapping->live, &live, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        return -EINVAL;
    }
    if (access_len > mapping->len) {
        __atomic_store_n(&mapping->live, 1, __ATOMIC_RELEASE); /* its length is ours to look at only meanwhile */
        return -EINVAL;
    }
    return ended(dma_unmap(mapping, access_len), ret_result);
}

int address_space_map(AddressSpace *as, hwaddr addr, hwaddr *plen, MemoryMapDirection direction, MemTxAttrs attrs,
                      void **ret_host)
{
    MapRecord *record;
    Space *space;
    int err;

    if (!as || !plen || !*plen || !ret_host || !direction_is_valid(direction) || *plen - 1 > UINT64_MAX - addr) {
        return -EINVAL;
    }
    record = mem_alloc(sizeof(*record));
    if (!record) {
        return -ENOMEM;
    }
    record->mapping.live = 0;
    err = dma_map_prefix(as, addr, *plen, direction, attrs, &record->mapping);
    if (err == 0) {
        /* The mapping has borrowed, so the space stays. From put on the record may be found, by whoever guesses. */
        hwaddr len = record->mapping.len;
        void *host = record->mapping.iov[0].iov_base;

        space = as->space;
        err = map_pool_put(&space->maps, record);
        if (err == 0) {
            *plen = len;
            *ret_host = host;
            return 0;
        }
        dma_unmap(&record->mapping, 0);
    }
    mem_free(record, sizeof(*record));
    return err;
}

int address_space_unmap(AddressSpace *as, void *host, hwaddr len, MemoryMapDirection direction, hwaddr access_len,
                        MemTxResult *ret_result)
{
    MapRecord *record = NULL;
    MemTxResult result;
    Space *space;

    if (!as || access_len > len) {
        return -EINVAL;
    }
    reader_enter();
    space = as->space;
    if (space) {
        record = map_pool_find(&space->maps, host, len, direction);
    }
    reader_exit();
    if (!record) {
        return -EINVAL;
    }
    result = dma_unmap(&record->mapping, access_len);
    mem_free(record, sizeof(*record));
    return ended(result, ret_result);
}

/* ---- bounce memory ---- */

/* The caller says that as is a space that is not being destroyed; asked is only whether it ever was or still is one. */
static MapPool *pool_of(AddressSpace *as)
{
    Space *space = as ? as->space : NULL;

    return space ? &space->maps : NULL;
}

int address_space_set_bounce_limit(AddressSpace *as, uint64_t bytes)
{
    MapPool *pool = pool_of(as);

    if (!pool) {
        return -EINVAL;
    }
    map_pool_set_limit(pool, bytes);
    return 0;
}

uint64_t address_space_get_bounce_limit(AddressSpace *as)
{
    MapPool *pool = pool_of(as);

    return pool ? region_peek(pool->limit) : 0;
}

uint64_t address_space_get_bounce_used(AddressSpace *as)
{
    MapPool *pool = pool_of(as);

    return pool ? region_peek(pool->used) : 0;
}

int address_space_register_map_client(AddressSpace *as, MemoryMapClient *client)
{
    MapPool *pool = pool_of(as);

    return !pool || !client || !client->notify ? -EINVAL : map_pool_register(pool, client);
}

int address_space_unregister_map_client(AddressSpace *as, MemoryMapClient *client)
{
    MapPool *pool = pool_of(as);

    return !pool || !client ? -ENOENT : map_pool_unregister(pool, client);
}

/* ---- more accesses ---- */

MemTxResult address_space_set(AddressSpace *as, hwaddr addr, uint8_t c, hwaddr len, MemTxAttrs attrs)
{
    return reach_set(as, addr, c, len, attrs);
}

MemTxResult address_space_write_rom(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, const void *buf, hwaddr len)
{
    return reach_write_rom(as, addr, buf, len, attrs);
}

bool address_space_access_valid(AddressSpace *as, hwaddr addr, hwaddr len, bool is_write, MemTxAttrs attrs)
{
    return reach_valid(as, addr, len, is_write, attrs);
}

bool memory_region_access_valid(MemoryRegion *mr, hwaddr addr, unsigned size, bool is_write, MemTxAttrs attrs)
{
    bool is_size = size == 1 || size == 2 || size == 4 || size == 8;

    return mr && is_size && reach_region_valid(mr, addr, size, is_write, attrs);
}

bool address_space_is_io(AddressSpace *as, hwaddr addr)
{
    return reach_is_io(as, addr);
}

void address_space_flush_icache_range(AddressSpace *as, hwaddr addr, hwaddr len)
{
    reach_flush_icache(as, addr, len);
}
