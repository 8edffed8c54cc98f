/* SPDX-License-Identifier: MIT */
/*
 * dma.c - mappings of guest memory.
 *
 * Invariant: as in dma.h. RAM is found, and held, in one read section and one view; what can fail comes before anything that
 * others can see, but for device callbacks that fill copies, which come last.
 *
 * Copies are read and written by dispatch_rw(), each time through the map of that moment. To remember the region instead
 * and call back into it at the end was considered and is wrong: a device that was unplugged meanwhile is not to hear of it,
 * and the holder of the mapping is.
 */
#include "access/dma.h"

#include <errno.h>

#include "access/dirty.h"
#include "access/dispatch.h"
#include "access/reach.h"
#include "base/live.h"
#include "base/mem.h"
#include "publish/space.h"
#include "topology/release.h"

static uint64_t live_mappings; /* atomic */

uint64_t dma_mappings_live(void)
{
    return __atomic_load_n(&live_mappings, __ATOMIC_RELAXED);
}

static bool is_ram(const ReachPiece *piece, uint32_t direction)
{
    return (!(direction & MEMORY_MAP_READ) || range_is_direct(piece->range, false)) &&
           (!(direction & MEMORY_MAP_WRITE) || range_is_direct(piece->range, true));
}

/* Can a piece, looked up for the one direction, be mapped for all of them? */
static int check_piece(const ReachPiece *piece, uint32_t direction)
{
    MemTxResult result = piece->result;

    if (result == MEMTX_OK && direction == MEMORY_MAP_READ_WRITE) {
        result = piece->perm & IOMMU_RO ? range_result(piece->range, false) : MEMTX_ACCESS_ERROR;
    }
    return result == MEMTX_OK ? 0 : result & MEMTX_DECODE_ERROR ? -EFAULT : result & MEMTX_ACCESS_ERROR ? -EACCES : -EIO;
}

/* ---- parts ---- */

static FlatviewMapPart *last_part(MemoryMapping *m)
{
    return m->n_parts ? &m->parts[m->n_parts - 1] : NULL;
}

static bool part_goes_on(const FlatviewMapPart *last, const ReachPiece *piece, bool ram)
{
    if (!last || (last->mr != NULL) != ram) {
        return false;
    }
    return ram ? last->mr == piece->range->mr && last->host + last->len == piece->host : last->at + last->len == piece->addr;
}

static int reserve_part(MemoryMapping *m)
{
    size_t i;
    int err;

    if (m->n_parts < MEMORY_MAPPING_INLINE) {
        return 0;
    }
    if (m->n_parts == MEMORY_MAP_MAX_IOV) {
        return -E2BIG;
    }
    if (m->parts != m->inline_parts) {
        return mem_vec_reserve((void **)&m->parts, &m->cap_parts, m->n_parts + 1, sizeof(*m->parts));
    }
    m->parts = NULL;
    err = mem_vec_reserve((void **)&m->parts, &m->cap_parts, m->n_parts + 1, sizeof(*m->parts));
    if (err < 0) {
        m->parts = m->inline_parts;
        return err;
    }
    for (i = 0; i < m->n_parts; i++) {
        m->parts[i] = m->inline_parts[i];
    }
    return 0;
}

static int add_piece(MemoryMapping *m, const ReachPiece *piece)
{
    bool ram = is_ram(piece, m->direction);
    FlatviewMapPart *last = last_part(m);
    int err;

    m->bounced |= !ram;
    m->bounce_bytes += ram ? 0 : piece->len;
    m->len += piece->len;
    if (part_goes_on(last, piece, ram)) {
        last->len += piece->len;
        return 0;
    }
    err = reserve_part(m);
    if (err < 0) {
        return err;
    }
    if (ram) {
        region_hold(piece->range->mr);
        live_add(LIVE_MAP_HOLDS, 1);
        m->parts[m->n_parts++] = (FlatviewMapPart){
            .mr = piece->range->mr, .at = piece->offset, .host = piece->host, .len = piece->len};
    } else {
        m->parts[m->n_parts++] = (FlatviewMapPart){.at = piece->addr, .len = piece->len};
    }
    return 0;
}

/* ---- host memory ---- */

static bool iov_goes_on(const MemoryMapping *m, const FlatviewMapPart *part)
{
    const struct iovec *last = m->n_iov ? &m->iov[m->n_iov - 1] : NULL;

    return last && (uint8_t *)last->iov_base + last->iov_len == part->host;
}

/* Memory for copies is zeroed: what the holder leaves as it was must not show the guest anything of ours. */
static int lay_out(MemoryMapping *m)
{
    size_t iov_bytes = m->n_parts > MEMORY_MAPPING_INLINE ? m->n_parts * sizeof(*m->iov) : 0;
    size_t i, copies = (m->bounce_bytes + sizeof(void *) - 1) & ~(sizeof(void *) - 1);
    uint8_t *copy;

    m->iov = m->inline_iov;
    m->memory_size = copies + iov_bytes;
    if (m->memory_size) {
        m->memory = mem_zalloc(m->memory_size);
        if (!m->memory) {
            return -ENOMEM;
        }
    }
    copy = m->memory;
    if (iov_bytes) {
        m->iov = (struct iovec *)(void *)(copy + copies);
    }
    for (i = 0; i < m->n_parts; i++) {
        FlatviewMapPart *part = &m->parts[i];

        if (!part->mr) {
            part->host = copy;
            copy += part->len;
        }
        if (iov_goes_on(m, part)) {
            m->iov[m->n_iov - 1].iov_len += part->len;
        } else {
            m->iov[m->n_iov++] = (struct iovec){.iov_base = part->host, .iov_len = part->len};
        }
    }
    return 0;
}

/* Give back all that a mapping has; also one that was never finished. Clients that are told may use its memory anew. */
static void let_go(MemoryMapping *m)
{
    MapPool *pool = m->borrowed ? &((Space *)m->as->space)->maps : NULL;
    uint64_t bounce_bytes = m->bounce_bytes;
    size_t i;

    for (i = 0; i < m->n_parts; i++) {
        if (m->parts[i].mr) {
            region_unhold(m->parts[i].mr);
            live_sub(LIVE_MAP_HOLDS, 1);
        }
    }
    mem_free(m->memory, m->memory_size);
    if (m->parts != m->inline_parts) {
        mem_vec_free((void **)&m->parts, &m->cap_parts, sizeof(*m->parts));
    }
    /* All but live, on which another thread may be failing to end it a second time. */
    m->iov = NULL;
    m->n_iov = 0;
    m->bounced = m->borrowed = false;
    m->len = 0;
    m->parts = NULL;
    m->n_parts = 0;
    m->memory = NULL;
    if (pool) {
        map_pool_give(pool, bounce_bytes);
    }
}

static MemTxResult copies_rw(MemoryMapping *m, hwaddr len, bool is_write)
{
    MemTxResult result = MEMTX_OK;
    size_t i;

    for (i = 0; i < m->n_parts && len; i++) {
        FlatviewMapPart *part = &m->parts[i];
        hwaddr touched = part->len < len ? part->len : len;

        if (!part->mr) {
            result |= dispatch_rw(m->as, part->at, m->attrs, part->host, touched, is_write);
        } else if (is_write) {
            /* After the holder's stores; collectors wait for sections, and the hold alone is none. */
            reader_enter();
            dirty_mark_region(part->mr, part->at, touched);
            reader_exit();
        }
        len -= touched;
    }
    return result;
}

/* ---- map and unmap ---- */

static void begin(MemoryMapping *m, AddressSpace *as, uint32_t direction, MemTxAttrs attrs)
{
    /* All but what is inline, which is the larger part and nobody reads before it is written. */
    m->iov = NULL;
    m->n_iov = 0;
    m->bounced = m->borrowed = false;
    m->len = m->bounce_bytes = 0;
    m->direction = direction;
    m->attrs = attrs;
    m->as = as;
    m->memory = NULL;
    m->memory_size = 0;
    m->parts = m->inline_parts;
    m->n_parts = m->cap_parts = 0;
}

static int collect(MemoryMapping *m, Reach *reach)
{
    ReachPiece piece;
    int err = 0;

    while (err == 0 && reach_next(reach, m->direction & MEMORY_MAP_WRITE, &piece)) {
        err = check_piece(&piece, m->direction);
        err = err < 0 ? err : add_piece(m, &piece);
    }
    return err;
}

/* RAM as far as it adjoins in the host; or registers of one region, to be cut to the memory there is. */
static int collect_prefix(MemoryMapping *m, Reach *reach)
{
    ReachPiece piece;
    int err;

    reach_next(reach, m->direction & MEMORY_MAP_WRITE, &piece);
    err = check_piece(&piece, m->direction);
    if (err == 0) {
        err = add_piece(m, &piece);
    }
    while (err == 0 && !m->bounced && reach_next(reach, m->direction & MEMORY_MAP_WRITE, &piece) &&
           check_piece(&piece, m->direction) == 0 && is_ram(&piece, m->direction) &&
           last_part(m)->host + last_part(m)->len == piece.host) {
        if (add_piece(m, &piece) < 0) {
            break; /* what there is will do */
        }
    }
    return err;
}

/* Borrow what copies need, from a space that may be on its way out. In a read section, as collecting. */
static int borrow(MemoryMapping *m, uint64_t min)
{
    Space *space = m->as->space;
    uint64_t taken = 0;
    int err = space ? map_pool_take(&space->maps, min, m->bounce_bytes, &taken) : -EINVAL;

    m->borrowed = err == 0;
    m->bounce_bytes = taken;
    return err;
}

/* Outside the section: callbacks may run. */
static int finish(MemoryMapping *m, int err)
{
    err = err < 0 ? err : lay_out(m);
    if (err == 0 && m->bounced && (m->direction & MEMORY_MAP_READ) && copies_rw(m, m->len, false) != MEMTX_OK) {
        err = -EIO;
    }
    if (err < 0) {
        let_go(m);
        return err;
    }
    __atomic_add_fetch(&live_mappings, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&m->live, 1, __ATOMIC_RELEASE);
    return 0;
}

int dma_map(AddressSpace *as, const MemoryMapRange *ranges, size_t n, uint32_t direction, MemTxAttrs attrs,
            MemoryMapping *ret_mapping)
{
    Reach reach;
    size_t i;
    int err = 0;

    begin(ret_mapping, as, direction, attrs);
    reader_enter();
    reach_begin(&reach, as, attrs);
    for (i = 0; i < n && err == 0; i++) {
        reach_over(&reach, ranges[i].addr, ranges[i].len);
        err = collect(ret_mapping, &reach);
    }
    if (err == 0 && ret_mapping->bounced) {
        err = borrow(ret_mapping, ret_mapping->bounce_bytes);
    }
    reader_exit();
    return finish(ret_mapping, err);
}

int dma_map_prefix(AddressSpace *as, hwaddr addr, hwaddr len, uint32_t direction, MemTxAttrs attrs,
                   MemoryMapping *ret_mapping)
{
    Reach reach;
    int err;

    begin(ret_mapping, as, direction, attrs);
    reader_enter();
    reach_begin(&reach, as, attrs);
    reach_over(&reach, addr, len);
    err = collect_prefix(ret_mapping, &reach);
    err = err < 0 ? err : borrow(ret_mapping, ret_mapping->bounced);
    if (err == 0 && ret_mapping->bounced) {
        ret_mapping->len = ret_mapping->parts[0].len = ret_mapping->bounce_bytes;
    }
    reader_exit();
    return finish(ret_mapping, err);
}

MemTxResult dma_unmap(MemoryMapping *mapping, hwaddr access_len)
{
    MemTxResult result = MEMTX_OK;

    if (mapping->direction & MEMORY_MAP_WRITE) {
        result = copies_rw(mapping, access_len, true);
    }
    let_go(mapping);
    __atomic_sub_fetch(&live_mappings, 1, __ATOMIC_RELAXED);
    return result;
}
