/* SPDX-License-Identifier: MIT */
/*
 * log.c - what a device has written, as its back end notes it in memory that we share with it, brought into the library's
 * dirty log.
 *
 * Invariant: while the region of any shared piece is logged, a connected back end logs (VHOST_F_LOG_ALL, and VHOST_VRING_F_LOG of
 * each queue that runs) into a bitmap that has a bit for each page it can reach: a bitmap grows before the memory comes that
 * it grows for. Bits are taken out with one atomic AND, so none is lost to a back end that sets its neighbour; those of a piece
 * that goes are taken after the back end has acknowledged that it is gone (R7). Where a back end cannot log, or the
 * connection ended before it was told to, everything it can reach counts as written: that is `blind`.
 * Established by: log_apply(), log_tell(), log_collect_slot(), under the topology lock and lock. Relied on by: collectors.
 *
 * Memory for a bitmap is found in prepare, where a commit can still be refused.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "accel/vhost_user/device.h"

#define LOG_PAGE UINT64_C(4096) /* VHOST_LOG_PAGE, whatever the host's is */

static void bitmap_free(LogBitmap *bitmap)
{
    if (bitmap->words) {
        munmap(bitmap->words, bitmap->bytes);
        close(bitmap->fd);
        bitmap->words = NULL;
        bitmap->bytes = 0;
    }
}

/* Zero, and without memory where nothing is set: it costs what is dirty, not what there is. */
static int bitmap_new(LogBitmap *bitmap, uint64_t bytes)
{
    void *words = MAP_FAILED;
    int fd = memfd_create("vhost-user log", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0) {
        return -errno;
    }
    /* Sealed: a back end that shortened it would end us at the next look. */
    if (ftruncate(fd, (off_t)bytes) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
        words = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    }
    if (words == MAP_FAILED) {
        close(fd);
        return -ENOMEM;
    }
    *bitmap = (LogBitmap){.words = words, .bytes = bytes, .fd = fd};
    return 0;
}

static uint64_t bytes_for(hwaddr last, uint64_t page)
{
    uint64_t bytes = last / LOG_PAGE / 8 + 1;

    return (bytes + page - 1) / page * page;
}

/* ---- the back end ---- */

static bool can_log(const FlatviewVhostUser *dev)
{
    return dev->offers_log && device_has(dev, VHOST_USER_PROTOCOL_F_LOG_SHMFD);
}

static int tell_base(FlatviewVhostUser *dev)
{
    const VhostUserLog log = {.mmap_size = dev->log.now.bytes};

    return connection_give_log(dev, &log, dev->log.now.fd);
}

static int tell_features(FlatviewVhostUser *dev, bool log)
{
    uint64_t features = dev->told_features | (uint64_t)log << VHOST_F_LOG_ALL;

    return connection_tell(dev, VHOST_USER_SET_FEATURES, &features, sizeof(features), NULL, 0);
}

void log_tell(FlatviewVhostUser *dev)
{
    dev->log.told = false;
    if (!dev->log.on || dev->fd < 0) {
        return;
    }
    if (can_log(dev) && tell_base(dev) == 0 && tell_features(dev, true) == 0) {
        dev->log.told = true;
        queues_readdress(dev);
    }
    if (!dev->log.told) {
        dev->log.blind = true;
    }
}

/* ---- collecting ---- */

/* Takes the bits of pages [first, end) out, a word's worth at most, and hands them over. */
static void collect_word(FlatviewVhostUser *dev, const Slot *slot, uint64_t first, uint64_t end)
{
    uint64_t *word = &dev->log.now.words[first / 64];
    uint64_t mask = ~UINT64_C(0) << (first % 64) & ~UINT64_C(0) >> (63 - (end - 1) % 64), bits;

    mask = htole64(mask); /* the protocol counts in bytes */
    if (!(__atomic_load_n(word, __ATOMIC_RELAXED) & mask)) {
        return;
    }
    bits = le64toh(__atomic_fetch_and(word, ~mask, __ATOMIC_ACQ_REL) & mask);
    memory_region_merge_dirty(slot->mr, slot->mr_offset + (first * LOG_PAGE - slot->first), ~0u, LOG_PAGE, &bits, first % 64,
                              end - first);
}

static void collect_pages(FlatviewVhostUser *dev, const Slot *slot, uint64_t page, uint64_t end)
{
    uint64_t limit = dev->log.now.bytes * 8;

    end = end < limit ? end : limit;
    while (page < end) {
        uint64_t next = (page | 63) + 1 < end ? (page | 63) + 1 : end;

        collect_word(dev, slot, page, next);
        page = next;
    }
}

void log_collect_slot(FlatviewVhostUser *dev, const Slot *slot)
{
    if (!dev->log.on) {
        return;
    }
    if (dev->log.blind) {
        memory_region_set_dirty(slot->mr, slot->mr_offset, slot->size);
    }
    collect_pages(dev, slot, slot->first / LOG_PAGE, slot_last(slot) / LOG_PAGE + 1);
}

void log_collect(FlatviewVhostUser *dev, hwaddr first, hwaddr last)
{
    size_t i;

    for (i = slots_lower(&dev->table, first); i < dev->table.n && dev->table.at[i].first <= last; i++) {
        const Slot *slot = &dev->table.at[i];

        if (dev->log.blind) {
            log_collect_slot(dev, slot);
        } else if (dev->log.on) {
            hwaddr from = first > slot->first ? first : slot->first, to = last < slot_last(slot) ? last : slot_last(slot);

            collect_pages(dev, slot, from / LOG_PAGE, to / LOG_PAGE + 1);
        }
    }
}

/* ---- the course of a commit ---- */

static bool begins(const MemoryDelta *delta)
{
    const MemoryPlaneDelta *log = &delta->planes[MEMORY_PLANE_LOG];
    size_t i;

    for (i = 0; i < log->n_new; i++) {
        if (log->new_items[i].data & ~log->new_items[i].peer) {
            return true;
        }
    }
    return false;
}

int log_prepare(FlatviewVhostUser *dev, const MemoryDelta *delta)
{
    hwaddr last = 0;
    uint64_t bytes;
    size_t i;

    if (!dev->log.on && !begins(delta)) {
        return 0;
    }
    for (i = 0; i < dev->table.n; i++) {
        last = slot_last(&dev->table.at[i]) > last ? slot_last(&dev->table.at[i]) : last;
    }
    for (i = 0; i < dev->plan.n_add; i++) {
        last = slot_last(&dev->plan.add[i]) > last ? slot_last(&dev->plan.add[i]) : last;
    }
    bytes = bytes_for(last, dev->page);
    return bytes > dev->log.now.bytes ? bitmap_new(&dev->log.next, bytes) : 0;
}

void log_abort(FlatviewVhostUser *dev)
{
    bitmap_free(&dev->log.next);
}

/* Only what slots have is looked at: a look at a hole of a sparse file fills it. */
static void carry_over(DeviceLog *log, const LogBitmap *old, const Slot *slots, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        uint64_t word = slots[i].first / LOG_PAGE / 64, last = slot_last(&slots[i]) / LOG_PAGE / 64;

        for (; word <= last && word < old->bytes / 8; word++) {
            if (old->words[word]) {
                __atomic_fetch_or(&log->now.words[word], old->words[word], __ATOMIC_RELAXED);
            }
        }
    }
}

void log_apply(FlatviewVhostUser *dev)
{
    LogBitmap old = dev->log.now;

    if (!dev->log.next.words) {
        return;
    }
    dev->log.now = dev->log.next;
    dev->log.next = (LogBitmap){0};
    dev->log.on = true;
    if (old.words && dev->log.told) {
        dev->log.told = tell_base(dev) == 0;
        dev->log.blind |= !dev->log.told;
    } else {
        log_tell(dev);
    }
    /* The back end has let go of the old one, or is gone. What was removed has been collected; what survives of a slot that was
       split is shared already, but not in the table yet. */
    carry_over(&dev->log, &old, dev->table.at, dev->table.n);
    carry_over(&dev->log, &old, dev->plan.add, dev->plan.n_add);
    bitmap_free(&old);
}

void log_settle(FlatviewVhostUser *dev)
{
    size_t i;

    for (i = 0; i < dev->table.n; i++) {
        if (memory_region_get_dirty_log_mask(dev->table.at[i].mr)) {
            return;
        }
    }
    if (dev->log.on) {
        bool told = dev->log.told;

        dev->log.on = dev->log.blind = dev->log.told = false; /* before queues are addressed anew: without the flag */
        if (told && tell_features(dev, false) == 0) {
            queues_readdress(dev);
        }
        bitmap_free(&dev->log.now);
    }
}

void log_fini(FlatviewVhostUser *dev)
{
    bitmap_free(&dev->log.now);
    bitmap_free(&dev->log.next);
}

/* ---- the listener ---- */

void log_start(MemoryListener *listener, const MemoryRegionSection *section, unsigned old_mask, unsigned new_mask)
{
    FlatviewVhostUser *dev = listener_device(listener);

    (void)section, (void)old_mask, (void)new_mask;
    pthread_mutex_lock(&dev->lock);
    log_apply(dev);
    pthread_mutex_unlock(&dev->lock);
}

void log_stop(MemoryListener *listener, const MemoryRegionSection *section, unsigned old_mask, unsigned new_mask)
{
    (void)old_mask, (void)new_mask;
    log_sync(listener, section);
}

void log_sync(MemoryListener *listener, const MemoryRegionSection *section)
{
    FlatviewVhostUser *dev = listener_device(listener);

    pthread_mutex_lock(&dev->lock);
    log_collect(dev, section->offset_within_address_space, section->last);
    pthread_mutex_unlock(&dev->lock);
}

int log_global_start(MemoryListener *listener)
{
    FlatviewVhostUser *dev = listener_device(listener);
    int err;

    pthread_mutex_lock(&dev->lock);
    err = dev->fd >= 0 && !can_log(dev) ? -EOPNOTSUPP : 0;
    pthread_mutex_unlock(&dev->lock);
    return err;
}
