/* SPDX-License-Identifier: MIT */
/*
 * storm_log_mirror.c - a listener that knows which ranges are logged for whom.
 *
 * Invariant: between commits, told[] is the logged ranges of the view with their masks. Established by the callbacks: log_start
 * adds and widens, log_stop narrows, span_del takes away, and what is taken away was asked by log_sync in the same round (R7).
 * Judged at rest. Under the topology lock, as all listeners.
 */
#include "storm_planes.h"

#define MAX_TOLD 64

typedef struct Told {
    hwaddr first, last;
    unsigned mask;
    bool synced; /* in this round */
} Told;

static struct {
    MemoryListener listener;
    AddressSpace *as;
    Told told[MAX_TOLD];
    unsigned n_told;
    uint64_t *did; /* how often log_start was told */
} m;

static void complain(const char *what, hwaddr first, unsigned mask, unsigned wanted)
{
    storm_violation("%s: at %llx: %s: mask %u, and not %u", storm_dirty.name, (unsigned long long)first, what, mask, wanted);
}

static Told *find(hwaddr first, hwaddr last)
{
    for (unsigned i = 0; i < m.n_told; i++) {
        if (m.told[i].first == first && m.told[i].last == last) {
            return &m.told[i];
        }
    }
    return NULL;
}

static void begin(MemoryListener *l)
{
    (void)l;
    for (unsigned i = 0; i < m.n_told; i++) {
        m.told[i].synced = false;
    }
}

/* A change that both adds clients and takes some away is told by both, log_stop first, with the same masks. */
static void log_start(MemoryListener *l, const MemoryRegionSection *s, unsigned old_mask, unsigned new_mask)
{
    Told *told = find(s->offset_within_address_space, s->last);
    unsigned mask = told ? told->mask : 0;

    (void)l;
    plane_did(m.did, 1);
    if ((mask != old_mask && (mask != new_mask || !(old_mask & ~new_mask))) || !(new_mask & ~old_mask)) {
        complain("a log_start that does not follow", s->offset_within_address_space, mask, old_mask);
    }
    if (!told && m.n_told < MAX_TOLD) {
        told = &m.told[m.n_told++];
        *told = (Told){ .first = s->offset_within_address_space, .last = s->last };
    }
    if (told) {
        told->mask = new_mask;
    }
}

static void log_stop(MemoryListener *l, const MemoryRegionSection *s, unsigned old_mask, unsigned new_mask)
{
    Told *told = find(s->offset_within_address_space, s->last);

    (void)l;
    if (!told || told->mask != old_mask || !(old_mask & ~new_mask)) {
        complain("a log_stop that does not follow", s->offset_within_address_space, told ? told->mask : 0, old_mask);
    }
    if (told) {
        told->mask = new_mask;
        *told = new_mask ? *told : m.told[--m.n_told];
    }
}

static void log_sync(MemoryListener *l, const MemoryRegionSection *s)
{
    Told *told = find(s->offset_within_address_space, s->last);

    (void)l;
    if (told) {
        told->synced = true;
    }
}

static void span_del(MemoryListener *l, const MemorySpan *span)
{
    (void)l;
    for (size_t i = 0; i < span->n_old; i++) {
        Told *told = find(span->old_sections[i].offset_within_address_space, span->old_sections[i].last);

        if (told && !told->synced) {
            complain("a logged range goes without a last log_sync", told->first, told->mask, told->mask);
        }
        if (told) {
            *told = m.told[--m.n_told];
        }
    }
}

bool log_mirror_start(AddressSpace *as, uint64_t *did)
{
    m.did = did;
    m.listener = (MemoryListener){
        .name = "log masks", .priority = 6, .begin = begin, .log_start = log_start, .log_stop = log_stop, .log_sync = log_sync,
        .span_del = span_del
    };
    m.as = plane_ok(&storm_dirty, "listener", memory_listener_register(&m.listener, as)) ? as : NULL;
    return m.as != NULL;
}

static int judge_range(const MemoryRegionSection *s, void *arg)
{
    unsigned mask = memory_region_get_dirty_log_mask(s->mr), *n_seen = arg;
    const Told *told = find(s->offset_within_address_space, s->last);

    if ((told ? told->mask : 0) != mask) {
        complain("what a listener knows of the log is wrong", s->offset_within_address_space, told ? told->mask : 0, mask);
    }
    *n_seen += told != NULL;
    return 0;
}

void log_mirror_judge(void)
{
    FlatView *view = address_space_get_flatview(m.as);
    unsigned n_seen = 0;

    flatview_for_each_range(view, 0, UINT64_MAX, judge_range, &n_seen);
    flatview_unref(view);
    if (n_seen != m.n_told) {
        storm_violation("%s: a listener believes in %u logged ranges that are not there", storm_dirty.name, m.n_told - n_seen);
    }
}

void log_mirror_stop(void)
{
    if (m.as && plane_ok(&storm_dirty, "listener", memory_listener_unregister(&m.listener)) && m.n_told) {
        storm_violation("%s: a listener that leaves keeps %u ranges", storm_dirty.name, m.n_told);
    }
}
