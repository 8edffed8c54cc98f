/* SPDX-License-Identifier: MIT */
/*
 * memory_dirty.c - the public face of the dirty log: topology/dirty_log.h has the bits, publish/logging.c the clients.
 *
 * Invariant: what passes the checks here names bytes of a block that exists, so that the floors below need not ask. The block of
 * a region is constant from init to release.
 */
#include <errno.h>

#include <flatview/memory_dirty.h>

#include "access/dirty.h"
#include "base/grace.h"
#include "base/live.h"
#include "base/mem.h"
#include "publish/log_tell.h"
#include "publish/logging.h"

struct DirtyBitmapSnapshot {
    DirtyTaken taken;
    hwaddr first, last; /* the granules that were asked for, as far as there is memory: what was cleared is told, all of it */
};

/* ---- who wants it --------------------------------------------------------------------------------------------- */

/* A transaction around a change of a client of mr. 0, or an error and none. */
static int begin_on(MemoryRegion *mr, unsigned client)
{
    int err;

    if (!mr || client >= DIRTY_CLIENTS) {
        return -EINVAL;
    }
    err = txn_begin();
    if (err < 0) {
        return err;
    }
    err = region_adopt(mr);
    if (err == 0 && !mr->block) {
        err = -EINVAL;
    }
    if (err < 0) {
        txn_end();
    }
    return err;
}

static int end_with(int err)
{
    int end = txn_end();

    return err < 0 ? err : end;
}

int memory_region_set_log(MemoryRegion *mr, bool log, unsigned client)
{
    int err = begin_on(mr, client);
    const RamBlock *block;

    if (err < 0) {
        return err;
    }
    block = mr->block;
    /* The one of global logging is not anybody's to take. */
    if (!log && block->dirty.users[client] == (client == DIRTY_MEMORY_MIGRATION && block->dirty.global)) {
        return end_with(-EINVAL);
    }
    return end_with(change_log(mr, client, log));
}

bool memory_region_is_logging(const MemoryRegion *mr, unsigned client)
{
    return mr && client < DIRTY_CLIENTS && region_peek(mr->dirty_log_mask) >> client & 1;
}

int memory_region_set_dirty_granule(MemoryRegion *mr, unsigned client, uint64_t granule)
{
    unsigned shift = granule ? (unsigned)__builtin_ctzll(granule) : 0;
    int err;

    if (shift < DIRTY_SHIFT_MIN || shift > DIRTY_SHIFT_MAX || granule != UINT64_C(1) << shift) {
        return -EINVAL;
    }
    err = begin_on(mr, client);
    if (err < 0) {
        return err;
    }
    return end_with(((RamBlock *)mr->block)->dirty.users[client] ? -EBUSY : change_granule(mr, client, shift));
}

uint64_t memory_region_get_dirty_granule(const MemoryRegion *mr, unsigned client)
{
    const RamBlock *block = mr ? mr->block : NULL;
    unsigned shift;

    if (!block || client >= DIRTY_CLIENTS) {
        return 0;
    }
    shift = region_peek(block->dirty.shift[client]);
    return UINT64_C(1) << (shift ? shift : DIRTY_SHIFT_DEFAULT);
}

int memory_dirty_log_wait(void)
{
    if (reader_ongoing() || txn_holds_lock()) {
        return -EDEADLK;
    }
    grace_wait();
    return 0;
}

/* ---- marking and collecting ----------------------------------------------------------------------------------- */

/* The block of which [addr, addr + size) is a part; NULL if there is none. */
static RamBlock *block_of(const MemoryRegion *mr, hwaddr addr, uint64_t size)
{
    RamBlock *block = mr ? mr->block : NULL;
    uint64_t bytes = block ? ram_block_bytes(block) : 0;

    return size && addr < bytes && size - 1 <= bytes - 1 - addr ? block : NULL;
}

int memory_region_set_dirty(MemoryRegion *mr, hwaddr addr, uint64_t size)
{
    if (!block_of(mr, addr, size)) {
        return -EINVAL;
    }
    reader_enter();
    dirty_mark_region(mr, addr, size);
    reader_exit();
    return 0;
}

int memory_region_merge_dirty(MemoryRegion *mr, hwaddr addr, unsigned clients, uint64_t page_size, const uint64_t *bitmap,
                              uint64_t first_bit, uint64_t n_bits)
{
    unsigned shift = page_size ? (unsigned)__builtin_ctzll(page_size) : 0;
    RamBlock *block = mr ? mr->block : NULL;

    if (!block || !bitmap || shift < DIRTY_SHIFT_MIN || shift > DIRTY_SHIFT_MAX || page_size != UINT64_C(1) << shift ||
        n_bits > UINT64_MAX - first_bit) {
        return -EINVAL;
    }
    dirty_log_merge(block, clients, addr, shift, bitmap, first_bit, n_bits);
    return 0;
}

static int snapshot(MemoryRegion *mr, hwaddr addr, uint64_t size, unsigned client, bool clear,
                    DirtyBitmapSnapshot **ret_snapshot)
{
    RamBlock *block = block_of(mr, addr, size);
    DirtyBitmapSnapshot *copy;
    uint64_t bytes;
    int err;

    if (!block || client >= DIRTY_CLIENTS || !ret_snapshot) {
        return -EINVAL;
    }
    copy = mem_alloc(sizeof(*copy)); /* before bits are taken away that could not be handed out */
    if (!copy) {
        return -ENOMEM;
    }
    err = dirty_log_collect(block, client, addr, addr + size - 1, clear, &copy->taken);
    if (err < 0) {
        mem_free(copy, sizeof(*copy));
        return err;
    }
    /* Read now: what grew before its bit was taken is told, and what shrinks may yet be undone. There is memory behind all of it. */
    bytes = ram_block_bytes(block);
    bytes = bytes > ram_block_bytes_told(block) ? bytes : ram_block_bytes_told(block);
    bytes = bytes > addr + size ? bytes : addr + size;
    copy->first = copy->taken.first << copy->taken.shift;
    copy->last = ((copy->taken.last + 1) << copy->taken.shift) - 1;
    if (copy->last >= bytes) {
        copy->last = bytes - 1;
    }
    live_add(LIVE_SNAPSHOTS, 1);
    *ret_snapshot = copy;
    return 0;
}

int memory_region_snapshot_dirty(MemoryRegion *mr, hwaddr addr, uint64_t size, unsigned client,
                                 DirtyBitmapSnapshot **ret_snapshot)
{
    return snapshot(mr, addr, size, client, false, ret_snapshot);
}

/* Is there a listener to talk to, and is this not a call from one? */
static bool must_talk(void)
{
    return log_listening() && !txn_delivering();
}

/* Under the topology lock, so that who is asked is told as well: 0, or an error without it and with nobody asked. */
static int talk_begin(MemoryRegion *mr, hwaddr first, hwaddr last)
{
    int err = txn_enter();

    if (err == 0) {
        err = log_list_region(mr, first, last);
        if (err < 0) {
            txn_leave();
        }
    }
    return err;
}

int memory_region_snapshot_and_clear_dirty(MemoryRegion *mr, hwaddr addr, uint64_t size, unsigned client,
                                           DirtyBitmapSnapshot **ret_snapshot)
{
    int err;

    if (!block_of(mr, addr, size)) {
        return -EINVAL;
    }
    if (!must_talk()) {
        return snapshot(mr, addr, size, client, true, ret_snapshot);
    }
    err = talk_begin(mr, addr, addr + size - 1);
    if (err < 0) {
        return err;
    }
    log_tell_sync();
    err = snapshot(mr, addr, size, client, true, ret_snapshot);
    if (err == 0 && (*ret_snapshot)->taken.any) {
        log_tell_clear();
    }
    txn_leave();
    return err;
}

bool memory_region_snapshot_next_dirty(const DirtyBitmapSnapshot *copy, hwaddr addr, hwaddr *ret_addr, uint64_t *ret_size)
{
    const DirtyTaken *taken;
    uint64_t base, first, last;
    hwaddr begin, end;

    if (!copy || !copy->taken.any || addr > copy->last) {
        return false;
    }
    taken = &copy->taken;
    base = taken->first_word_bit;
    addr = addr > copy->first ? addr : copy->first;
    if (!dirty_words_run(taken->words, (addr >> taken->shift) - base, taken->last - base + 1, &first, &last)) {
        return false;
    }
    begin = (base + first) << taken->shift;
    end = ((base + last + 1) << taken->shift) - 1;
    begin = begin > addr ? begin : addr;
    end = end < copy->last ? end : copy->last;
    *ret_addr = begin;
    *ret_size = end - begin + 1;
    return true;
}

bool memory_region_snapshot_get_dirty(const DirtyBitmapSnapshot *copy, hwaddr addr, uint64_t size)
{
    hwaddr first;
    uint64_t run;

    if (!size || !memory_region_snapshot_next_dirty(copy, addr, &first, &run)) {
        return false;
    }
    return first - addr <= size - 1;
}

void memory_region_snapshot_free(DirtyBitmapSnapshot *copy)
{
    if (copy) {
        mem_free(copy->taken.words, copy->taken.n_words * sizeof(copy->taken.words[0]));
        mem_free(copy, sizeof(*copy));
        live_sub(LIVE_SNAPSHOTS, 1);
    }
}

bool memory_region_get_dirty(MemoryRegion *mr, hwaddr addr, uint64_t size, unsigned client)
{
    RamBlock *block = block_of(mr, addr, size);

    return block && client < DIRTY_CLIENTS && dirty_log_any(block, client, addr, addr + size - 1);
}

int memory_region_reset_dirty(MemoryRegion *mr, hwaddr addr, uint64_t size, unsigned client)
{
    RamBlock *block = block_of(mr, addr, size);
    int err;

    if (!block || client >= DIRTY_CLIENTS) {
        return -EINVAL;
    }
    if (!must_talk()) {
        dirty_log_clean(block, client, addr, addr + size - 1);
        return 0;
    }
    err = talk_begin(mr, addr, addr + size - 1);
    if (err == 0) {
        if (dirty_log_clean(block, client, addr, addr + size - 1)) {
            log_tell_clear();
        }
        txn_leave();
    }
    return err;
}

/* ---- listeners ------------------------------------------------------------------------------------------------ */

static int talk(MemoryRegion *mr, hwaddr first, hwaddr last, void (*tell)(void))
{
    int err;

    if (!log_listening() || txn_delivering()) {
        return txn_delivering() ? -EBUSY : 0;
    }
    err = talk_begin(mr, first, last);
    if (err == 0) {
        tell();
        txn_leave();
    }
    return err;
}

int memory_region_sync_dirty(MemoryRegion *mr)
{
    return mr && mr->block ? talk(mr, 0, UINT64_MAX, log_tell_sync) : -EINVAL;
}

int memory_region_clear_dirty_bitmap(MemoryRegion *mr, hwaddr addr, uint64_t size)
{
    return block_of(mr, addr, size) ? talk(mr, addr, addr + size - 1, log_tell_clear) : -EINVAL;
}
