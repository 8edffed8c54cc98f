/* SPDX-License-Identifier: MIT */
/*
 * plane_mirror.h - a listener that keeps what it was told of ioeventfds and coalesced ranges, and nothing else.
 *
 * It complains at once about a removal of what was never added, an addition of what is there, and anything outside a round.
 */
#ifndef FLATVIEW_TESTS_API_PLANE_MIRROR_H
#define FLATVIEW_TESTS_API_PLANE_MIRROR_H

#include <gtest/gtest.h>

#include <set>
#include <tuple>

#include <flatview/memory.h>

/* address, size, whether a value is matched, the value: what two of one space never have in common */
using PlaneEventfd = std::tuple<hwaddr, uint64_t, bool, uint64_t>;
using PlaneRange = std::pair<hwaddr, hwaddr>;

struct PlaneMirror {
    MemoryListener listener;
    std::set<PlaneEventfd> eventfds;
    std::set<PlaneRange> coalesced;
    std::set<hwaddr> ranges; /* first addresses */
    int fd;                  /* of the last ioeventfd that was added */
    unsigned rounds, calls;
    int refuse_with;
    bool open;
    size_t n_old, n_new; /* ioeventfds in the last prepare */
};

inline PlaneMirror *plane_mirror_of(MemoryListener *l)
{
    return reinterpret_cast<PlaneMirror *>(l);
}

inline void plane_mirror_init(PlaneMirror *m)
{
    *m = PlaneMirror();
    m->listener.name = "planes";
    m->listener.begin = [](MemoryListener *l) {
        EXPECT_FALSE(plane_mirror_of(l)->open);
        plane_mirror_of(l)->open = true;
    };
    m->listener.prepare = [](MemoryListener *l, const MemoryDelta *d) {
        PlaneMirror *mirror = plane_mirror_of(l);
        mirror->n_old = d->planes[MEMORY_PLANE_EVENTFD].n_old;
        mirror->n_new = d->planes[MEMORY_PLANE_EVENTFD].n_new;
        if (mirror->refuse_with) {
            mirror->open = false;
        }
        return mirror->refuse_with;
    };
    m->listener.abort = [](MemoryListener *l, const MemoryDelta *) { plane_mirror_of(l)->open = false; };
    m->listener.commit = [](MemoryListener *l) {
        EXPECT_TRUE(plane_mirror_of(l)->open);
        plane_mirror_of(l)->open = false;
        plane_mirror_of(l)->rounds++;
    };
    m->listener.region_del = [](MemoryListener *l, const MemoryRegionSection *s) {
        EXPECT_EQ(1u, plane_mirror_of(l)->ranges.erase(s->offset_within_address_space));
    };
    m->listener.region_add = [](MemoryListener *l, const MemoryRegionSection *s) {
        EXPECT_TRUE(plane_mirror_of(l)->ranges.insert(s->offset_within_address_space).second);
    };
    m->listener.eventfd_add = [](MemoryListener *l, const MemoryRegionSection *s, bool match, uint64_t data, int fd) {
        PlaneMirror *mirror = plane_mirror_of(l);
        hwaddr addr = s->offset_within_address_space;
        EXPECT_TRUE(mirror->open);
        EXPECT_GE(fd, 0);
        auto range = mirror->ranges.upper_bound(addr);
        EXPECT_NE(range, mirror->ranges.begin()) << "what a range carries comes after it";
        EXPECT_TRUE(mirror->eventfds.insert(PlaneEventfd(addr, s->last - addr + 1, match, match ? data : 0)).second);
        mirror->fd = fd;
        mirror->calls++;
    };
    m->listener.eventfd_del = [](MemoryListener *l, const MemoryRegionSection *s, bool match, uint64_t data, int) {
        PlaneMirror *mirror = plane_mirror_of(l);
        hwaddr addr = s->offset_within_address_space;
        EXPECT_TRUE(mirror->open);
        EXPECT_EQ(1u, mirror->eventfds.erase(PlaneEventfd(addr, s->last - addr + 1, match, match ? data : 0)));
        mirror->calls++;
    };
    m->listener.coalesced_io_add = [](MemoryListener *l, const MemoryRegionSection *s, hwaddr addr, hwaddr len) {
        PlaneMirror *mirror = plane_mirror_of(l);
        EXPECT_EQ(addr, s->offset_within_address_space);
        EXPECT_TRUE(mirror->open);
        EXPECT_TRUE(mirror->coalesced.insert(PlaneRange(addr, len)).second);
        mirror->calls++;
    };
    m->listener.coalesced_io_del = [](MemoryListener *l, const MemoryRegionSection *, hwaddr addr, hwaddr len) {
        PlaneMirror *mirror = plane_mirror_of(l);
        EXPECT_TRUE(mirror->open);
        EXPECT_EQ(1u, mirror->coalesced.erase(PlaneRange(addr, len)));
        mirror->calls++;
    };
}

#endif
