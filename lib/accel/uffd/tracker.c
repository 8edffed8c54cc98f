/* SPDX-License-Identifier: MIT */
/*
 * tracker.c - the listener: which memory is tracked, and to whom it is reported.
 *
 * Invariant: each range of the space that is logged and tracked is in `ranges`, and each host page of an armed one is armed in the
 * kernel. What the kernel has noted of a page reaches every range that shows it before the note is gone. What is logged and
 * in no armed range is marked dirty as a whole whenever somebody asks.
 * Established by: the callbacks here, under the topology lock, which run one at a time: no other lock is needed.
 * Relied on by: collectors (R7).
 *
 * No callback can fail: a failure of the kernel or for want of memory makes a range coarse, and coarse is right.
 */
#include "accel/uffd/uffd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <flatview/accel/uffd.h>
#include <flatview/memory.h>

typedef struct Range {
    hwaddr first, last;
    MemoryRegion *mr;
    hwaddr offset;        /* in the region, of first */
    uintptr_t host, size; /* of first; bytes */
    bool armed;
} Range;

struct FlatviewUffd {
    MemoryListener listener;
    UffdKernel kernel;
    Range *ranges; /* ascending by first, disjoint */
    size_t n, cap;
    bool attached; /* detached has not been called yet: after unregistering in a callback of a listener it comes later */
    bool doomed;   /* to be freed then */
    FlatviewUffdStats stats; /* atomics */
};

static FlatviewUffd *listener_uffd(MemoryListener *listener)
{
    return (FlatviewUffd *)((char *)listener - offsetof(FlatviewUffd, listener));
}

static void stat_add(uint64_t *count, uint64_t by)
{
    __atomic_add_fetch(count, by, __ATOMIC_RELAXED);
}

static void failed(FlatviewUffd *uffd, int err)
{
    stat_add(&uffd->stats.failures, 1);
    __atomic_store_n(&uffd->stats.last_errno, (uint64_t)-err, __ATOMIC_RELAXED);
}

static size_t lower(const FlatviewUffd *uffd, hwaddr addr)
{
    size_t low = 0, high = uffd->n;

    while (low < high) {
        size_t mid = (low + high) / 2;

        if (uffd->ranges[mid].last < addr) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* ---- pages ---- */

static uintptr_t first_page(const FlatviewUffd *uffd, const Range *range)
{
    return range->host & ~(uffd->kernel.page - 1);
}

static uintptr_t end_page(const FlatviewUffd *uffd, const Range *range)
{
    return (range->host + range->size + uffd->kernel.page - 1) & ~(uffd->kernel.page - 1);
}

/* Host memory was written: whatever shows it is told. One note of the kernel's, and it is gone, so all of them at once. */
static void written(uintptr_t first, uintptr_t end, void *arg)
{
    FlatviewUffd *uffd = arg;
    size_t i;

    stat_add(&uffd->stats.pages, (end - first) / uffd->kernel.page);
    for (i = 0; i < uffd->n; i++) {
        const Range *range = &uffd->ranges[i];
        uintptr_t from = range->host > first ? range->host : first;
        uintptr_t to = range->host + range->size < end ? range->host + range->size : end;

        if (range->armed && from < to) {
            memory_region_set_dirty(range->mr, range->offset + (from - range->host), to - from);
        }
    }
}

static void collect(FlatviewUffd *uffd, const Range *range)
{
    int err = range->armed ? kernel_collect(&uffd->kernel, first_page(uffd, range), end_page(uffd, range), written, uffd) : 0;

    stat_add(&uffd->stats.collects, 1);
    if (err < 0) {
        failed(uffd, err);
    }
    if (err < 0 || !range->armed) {
        memory_region_set_dirty(range->mr, range->offset, range->size);
    }
}

static int disarm(UffdKernel *kernel, uintptr_t first, uintptr_t end)
{
    kernel_disarm(kernel, first, end);
    return 0;
}

/* fn for the pages of a range that no other armed range shows: what is armed already keeps its notes, or stays armed. */
static int for_own_pages(FlatviewUffd *uffd, const Range *range, int (*fn)(UffdKernel *kernel, uintptr_t first, uintptr_t end))
{
    uintptr_t at = first_page(uffd, range), end = end_page(uffd, range);
    int err = 0;

    while (at < end && err == 0) {
        uintptr_t stop = end, skip = 0;
        size_t i;

        for (i = 0; i < uffd->n; i++) {
            const Range *other = &uffd->ranges[i];

            if (other == range || !other->armed || end_page(uffd, other) <= at) {
                continue;
            }
            if (first_page(uffd, other) <= at) {
                skip = end_page(uffd, other) > skip ? end_page(uffd, other) : skip;
            } else if (first_page(uffd, other) < stop) {
                stop = first_page(uffd, other);
            }
        }
        if (!skip) {
            err = fn(&uffd->kernel, at, stop);
        }
        at = skip ? skip : stop;
    }
    return err;
}

/* ---- ranges ---- */

static bool room(FlatviewUffd *uffd)
{
    size_t cap = uffd->cap ? 2 * uffd->cap : 16;
    Range *grown;

    if (uffd->n < uffd->cap) {
        return true;
    }
    grown = realloc(uffd->ranges, cap * sizeof(*grown));
    if (grown) {
        uffd->ranges = grown;
        uffd->cap = cap;
    }
    return grown;
}

static void count(FlatviewUffd *uffd, const Range *range, uint64_t by)
{
    stat_add(range->armed ? &uffd->stats.ranges : &uffd->stats.coarse, by);
}

static void add(FlatviewUffd *uffd, const MemoryRegionSection *section)
{
    size_t i = lower(uffd, section->offset_within_address_space);
    Range *range;
    int err;

    if (i < uffd->n && uffd->ranges[i].first <= section->last) {
        return; /* another client; the range is there */
    }
    if (!room(uffd)) {
        failed(uffd, -ENOMEM);
        return;
    }
    range = &uffd->ranges[i];
    memmove(range + 1, range, (uffd->n++ - i) * sizeof(*range));
    *range = (Range){
        .first = section->offset_within_address_space,
        .last = section->last,
        .mr = section->mr,
        .offset = section->offset_within_region,
        .host = (uintptr_t)section->host,
        .size = (uintptr_t)(section->last - section->offset_within_address_space + 1),
    };
    err = for_own_pages(uffd, range, kernel_arm);
    if (err < 0) {
        failed(uffd, err);
        for_own_pages(uffd, range, disarm);
    }
    range->armed = err == 0;
    count(uffd, range, 1);
    memory_region_set_dirty(range->mr, range->offset, range->size); /* what was written before it was armed */
}

static void drop(FlatviewUffd *uffd, size_t i)
{
    Range *range = &uffd->ranges[i];

    collect(uffd, range);
    if (range->armed) {
        for_own_pages(uffd, range, disarm);
    }
    count(uffd, range, UINT64_MAX);
    uffd->n--;
    memmove(range, range + 1, (uffd->n - i) * sizeof(*range));
}

static void drop_all(FlatviewUffd *uffd, hwaddr first, hwaddr last)
{
    size_t i = lower(uffd, first);

    while (i < uffd->n && uffd->ranges[i].first <= last) {
        drop(uffd, i);
    }
}

/* ---- the callbacks ---- */

static void on_log_start(MemoryListener *listener, const MemoryRegionSection *section, unsigned old_mask, unsigned new_mask)
{
    (void)old_mask;
    (void)new_mask;
    if (section->host) {
        add(listener_uffd(listener), section);
    }
}

static void on_log_stop(MemoryListener *listener, const MemoryRegionSection *section, unsigned old_mask, unsigned new_mask)
{
    (void)old_mask;
    if (!new_mask) {
        drop_all(listener_uffd(listener), section->offset_within_address_space, section->last);
    }
}

static void on_log_sync(MemoryListener *listener, const MemoryRegionSection *section)
{
    FlatviewUffd *uffd = listener_uffd(listener);
    size_t i = lower(uffd, section->offset_within_address_space);

    if (i == uffd->n || uffd->ranges[i].first > section->last) { /* there was no memory to remember it */
        memory_region_set_dirty(section->mr, section->offset_within_region,
                                section->last - section->offset_within_address_space + 1);
        return;
    }
    for (; i < uffd->n && uffd->ranges[i].first <= section->last; i++) {
        Range part = uffd->ranges[i];
        hwaddr first = section->offset_within_address_space;

        if (part.first < first) { /* sections of a sync may be parts */
            part.offset += first - part.first;
            part.host += first - part.first;
            part.size -= first - part.first;
            part.first = first;
        }
        if (part.last > section->last) {
            part.size -= part.last - section->last;
        }
        collect(uffd, &part);
    }
}

static void on_span_del(MemoryListener *listener, const MemorySpan *span)
{
    drop_all(listener_uffd(listener), span->first, span->last);
}

static void discard(FlatviewUffd *uffd)
{
    kernel_close(&uffd->kernel);
    free(uffd->ranges);
    free(uffd);
}

static void on_detached(MemoryListener *listener)
{
    FlatviewUffd *uffd = listener_uffd(listener);

    uffd->attached = false;
    if (uffd->doomed) {
        discard(uffd);
    }
}

/* ---- life ---- */

int flatview_uffd_new(AddressSpace *as, int priority, FlatviewUffd **ret_uffd, const char **ret_reason)
{
    FlatviewUffd *uffd = as && ret_uffd ? calloc(1, sizeof(*uffd)) : NULL;
    const char *reason = NULL;
    int err;

    if (!uffd) {
        return as && ret_uffd ? -ENOMEM : -EINVAL;
    }
    err = kernel_open(&uffd->kernel, &reason);
    if (err < 0) {
        if (ret_reason) {
            *ret_reason = reason;
        }
        free(uffd);
        return err;
    }
    uffd->listener = (MemoryListener){
        .name = "uffd",
        .priority = priority,
        .log_start = on_log_start,
        .log_stop = on_log_stop,
        .log_sync = on_log_sync,
        .span_del = on_span_del,
        .detached = on_detached,
    };
    err = memory_listener_register(&uffd->listener, as);
    if (err < 0) {
        discard(uffd);
        return err;
    }
    uffd->attached = true;
    *ret_uffd = uffd;
    return 0;
}

int flatview_uffd_free(FlatviewUffd *uffd)
{
    int err = memory_listener_unregister(&uffd->listener);

    if (err == 0 && uffd->attached) {
        uffd->doomed = true;
    } else if (err == 0) {
        discard(uffd);
    }
    return err;
}

void flatview_uffd_get_stats(FlatviewUffd *uffd, FlatviewUffdStats *ret_stats)
{
    const uint64_t *from = (const uint64_t *)&uffd->stats;
    uint64_t *to = (uint64_t *)ret_stats;
    size_t i;

    for (i = 0; i < sizeof(*ret_stats) / sizeof(uint64_t); i++) {
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
    }
}
