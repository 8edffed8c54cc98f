/* SPDX-License-Identifier: MIT */
/*
 * memory.c - the listener: from the spans of a commit to what the back end may reach.
 *
 * Invariant: what a connected back end has mapped is contained, at every instant, in the view that is current: regions go
 * in the removal phase and come in the addition phase, each acknowledged before the phase ends. No queue runs whose ring
 * lies in memory that the back end has not, so it never looks for one in vain.
 * Established by: the callbacks, under the topology lock and lock. Relied on by: the guest's driver.
 *
 * A disconnected back end has nothing: the table goes on following the view, all of it missing, and memory_share_all()
 * replays it.
 */
#include <errno.h>
#include <string.h>

#include "accel/vhost_user/device.h"

static VhostUserMemory describe(const Slot *slot)
{
    return (VhostUserMemory){
        .guest_addr = slot->first,
        .size = slot->size,
        .user_addr = (uintptr_t)slot->host,
        .mmap_offset = slot->fd_offset,
    };
}

static bool has_slots(const FlatviewVhostUser *dev)
{
    return device_has(dev, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS);
}

/* For back ends without slots: all that the table has. */
static void tell_table(FlatviewVhostUser *dev)
{
    VhostUserTable table = {.n = (uint32_t)dev->table.n};
    int fds[VHOST_USER_TABLE_MAX];
    size_t i;

    if (dev->fd < 0) {
        return;
    }
    if (dev->table.n > VHOST_USER_TABLE_MAX) { /* connected after the commit had counted */
        connection_close(dev, -ENOSPC);
        return;
    }
    for (i = 0; i < dev->table.n; i++) {
        table.region[i] = describe(&dev->table.at[i]);
        fds[i] = dev->table.at[i].fd;
    }
    if (connection_tell(dev, VHOST_USER_SET_MEM_TABLE, &table, 8 + dev->table.n * sizeof(VhostUserMemory), fds,
                        dev->table.n) == 0) {
        dev->stats.tables++;
        for (i = 0; i < dev->table.n; i++) {
            dev->table.at[i].missing = false;
        }
        dev->table.n_missing = 0;
    }
}

static bool tell_add(FlatviewVhostUser *dev, const Slot *slot)
{
    VhostUserOneRegion one = {.region = describe(slot)};

    if (connection_tell(dev, VHOST_USER_ADD_MEM_REG, &one, sizeof(one), &slot->fd, 1) < 0) {
        return false;
    }
    dev->stats.added++;
    return true;
}

static void add_region(FlatviewVhostUser *dev, Slot *slot)
{
    if (tell_add(dev, slot)) {
        dev->table.n_missing--;
        slot->missing = false;
    }
}

static void remove_region(FlatviewVhostUser *dev, Slot *slot)
{
    VhostUserOneRegion one = {.region = describe(slot)};

    if (has_slots(dev) && !slot->missing &&
        connection_tell(dev, VHOST_USER_REM_MEM_REG, &one, sizeof(one), &slot->fd, 1) == 0) {
        dev->stats.removed++;
    }
    if (has_slots(dev)) {
        log_collect_slot(dev, slot);
    }
    dev->table.n_missing -= slot->missing;
    slots_erase(&dev->table, slot);
}

void memory_share_all(FlatviewVhostUser *dev)
{
    size_t i;

    if (!has_slots(dev)) {
        tell_table(dev);
        return;
    }
    for (i = 0; i < dev->table.n; i++) {
        if (dev->table.at[i].missing) {
            add_region(dev, &dev->table.at[i]);
        }
    }
}

void *memory_host(FlatviewVhostUser *dev, hwaddr addr, uint64_t size)
{
    size_t i = slots_lower(&dev->table, addr);
    const Slot *slot = &dev->table.at[i];

    if (i == dev->table.n || addr < slot->first || size > slot->size - (addr - slot->first)) {
        return NULL;
    }
    return slot->host + (addr - slot->first);
}

/* ---- the listener ---- */

static bool want_region(const MemoryRegionSection *section, Slot *ret_slot)
{
    ret_slot->fd = memory_region_get_fd(section->mr);
    ret_slot->fd_offset = memory_region_get_fd_offset(section->mr) + section->offset_within_region;
    return ret_slot->fd >= 0 && memory_region_is_ram(section->mr) && !memory_region_is_rom(section->mr);
}

static const SlotRules rules = {.want = want_region, .max_bytes = UINT64_C(1) << 62, .merges = true};

static int vhost_prepare(MemoryListener *listener, const MemoryDelta *delta)
{
    FlatviewVhostUser *dev = listener_device(listener);
    size_t i;
    int err;

    pthread_mutex_lock(&dev->lock);
    err = slots_plan(&dev->table, &rules, delta, dev->page, &dev->plan);
    if (err == 0 && dev->plan.n_add > dev->plan.n_remove &&
        dev->table.n - dev->plan.n_remove + dev->plan.n_add > dev->stats.max_regions) {
        err = -ENOSPC;
    }
    if (err == 0) {
        err = log_prepare(dev, delta);
    }
    if (err < 0) {
        slots_plan_clear(&dev->plan);
    }
    dev->stats.refused_commits += err == -ENOSPC;
    for (i = 0; i < dev->plan.n_add; i++) {
        dev->plan.add[i].missing = true;
    }
    dev->planned = err == 0;
    dev->removed = dev->added = false;
    pthread_mutex_unlock(&dev->lock);
    return err;
}

static void vhost_abort(MemoryListener *listener, const MemoryDelta *delta)
{
    FlatviewVhostUser *dev = listener_device(listener);

    (void)delta;
    pthread_mutex_lock(&dev->lock);
    dev->planned = false;
    slots_plan_clear(&dev->plan);
    log_abort(dev);
    pthread_mutex_unlock(&dev->lock);
}

static bool survives(const Slot *piece, const Slot *old)
{
    return piece->first - old->first < old->size && piece->size <= old->size - (piece->first - old->first) &&
           piece->host == old->host + (piece->first - old->first);
}

/*
 * What is left of a region that is split is true before and after, so it may come before the whole goes. It has to, where a
 * ring lies in it: libvhost-user, once told of a ring, gives up when a region is added and the ring is in none.
 */
static void add_survivors(FlatviewVhostUser *dev)
{
    size_t i = 0, k;

    for (k = 0; k < dev->plan.n_add && dev->table.n + k < dev->stats.max_regions; k++) {
        Slot *piece = &dev->plan.add[k];

        while (i < dev->plan.n_remove && slot_last(&dev->plan.remove[i]) < piece->first) {
            i++;
        }
        if (i < dev->plan.n_remove && !dev->plan.remove[i].missing && survives(piece, &dev->plan.remove[i])) {
            piece->missing = !tell_add(dev, piece);
        }
    }
}

static void carry_out_removals(FlatviewVhostUser *dev)
{
    size_t i;

    iotlb_close(dev);
    if (has_slots(dev) && dev->plan.n_remove) { /* first the translations, then what they lead to */
        iotlb_invalidate(dev, 0, UINT64_MAX);
    }
    for (i = 0; i < dev->plan.n_remove; i++) {
        queues_suspend(dev, &dev->plan.remove[i]);
    }
    if (has_slots(dev) && dev->fd >= 0) {
        add_survivors(dev);
    }
    for (i = 0; i < dev->plan.n_remove; i++) {
        remove_region(dev, slots_find(&dev->table, dev->plan.remove[i].first));
    }
    if (!has_slots(dev) && dev->plan.n_remove) {
        tell_table(dev);
        for (i = 0; i < dev->plan.n_remove; i++) {
            log_collect_slot(dev, &dev->plan.remove[i]);
        }
        /* A back end that takes a new table forgets all by itself; DPDK's takes one only from queues that have their rings. */
        iotlb_invalidate(dev, 0, UINT64_MAX);
    }
    dev->removed = true;
}

static void vhost_span_del(MemoryListener *listener, const MemorySpan *span)
{
    FlatviewVhostUser *dev = listener_device(listener);
    size_t i;

    pthread_mutex_lock(&dev->lock);
    if (!dev->planned) { /* unregistering, range by range: a region of several goes with the first */
        while ((i = slots_lower(&dev->table, span->first)) < dev->table.n && dev->table.at[i].first <= span->last) {
            queues_suspend(dev, &dev->table.at[i]);
            remove_region(dev, &dev->table.at[i]);
        }
    } else if (!dev->removed) {
        carry_out_removals(dev);
    }
    pthread_mutex_unlock(&dev->lock);
}

static void vhost_span_add(MemoryListener *listener, const MemorySpan *span)
{
    FlatviewVhostUser *dev = listener_device(listener);
    size_t i;

    (void)span;
    pthread_mutex_lock(&dev->lock);
    if (!dev->added) {
        log_apply(dev);
        for (i = 0; i < dev->plan.n_add; i++) {
            dev->table.n_missing += slots_insert(&dev->table, &dev->plan.add[i])->missing;
        }
        if (dev->table.n > dev->stats.max_regions) {
            connection_close(dev, -ENOSPC); /* of a back end that takes fewer, and was connected after prepare */
        }
        if (dev->plan.n_add) {
            memory_share_all(dev);
        }
        dev->added = true;
    }
    pthread_mutex_unlock(&dev->lock);
}

static void vhost_commit(MemoryListener *listener)
{
    FlatviewVhostUser *dev = listener_device(listener);

    pthread_mutex_lock(&dev->lock);
    if (dev->planned) {
        queues_resume(dev);
        log_settle(dev);
        log_abort(dev); /* what was prepared and not needed */
    }
    dev->planned = false;
    slots_plan_clear(&dev->plan);
    iotlb_reopen(dev);
    pthread_mutex_unlock(&dev->lock);
}

const MemoryListener memory_listener_callbacks = {
    .name = "vhost-user",
    .prepare = vhost_prepare,
    .abort = vhost_abort,
    .span_del = vhost_span_del,
    .span_add = vhost_span_add,
    .commit = vhost_commit,
    .log_start = log_start,
    .log_stop = log_stop,
    .log_sync = log_sync,
    .log_global_start = log_global_start,
};
