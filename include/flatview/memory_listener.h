/* SPDX-License-Identifier: MIT */
/*
 * memory_listener.h - how an accelerator mirrors an address space.
 *
 * The view is the truth, an accelerator is a cache of it. Per outermost commit, for the listeners of the spaces that it
 * changes (ORDERING: R6, R8):
 *
 *   1. begin, prepare          listener by listener, low priority to high; any may refuse in prepare: it hears no more of
 *                              this commit, those prepared before it get abort, in reverse, and nothing has changed
 *   2. span_del, region_del    high to low; the old views are still current
 *   3. the new views are published, in every space
 *   4. region_nop, span_add, region_add    low to high; the new views are current
 *   5. commit                  low to high
 *
 * So what an accelerator maps is at every instant contained in a view that dispatch would honour; what it does not map
 * falls back to dispatch.
 *
 * Every callback may be NULL. They run on the committing thread, under the topology lock, one at a time; possibly inside
 * a read section (a commit made by an access callback), so they must not wait for a grace period. They may access memory
 * and look at views. Calls that change the topology, begin transactions or register listeners return -EBUSY;
 * memory_listener_unregister() is deferred (below). What is passed is valid until the callback returns; @delta until the
 * listener's commit or abort returns.
 */
#ifndef FLATVIEW_MEMORY_LISTENER_H
#define FLATVIEW_MEMORY_LISTENER_H

#include <flatview/types.h>
#include <flatview/flatview.h>

FLATVIEW_BEGIN_DECLS

/**
 * MemorySpan - a stretch of addresses that changes, with all that was and will be there
 *
 * Within [@first, @last] every old range and every new range differs from each of the other side. Spans are disjoint and
 * ascending; ranges lie wholly inside their span; a range that is the same in both views is in no span. So a resize, a
 * split or a flag change arrives as one span with both sides.
 */
typedef struct MemorySpan {
    hwaddr first, last;
    size_t n_old, n_new;
    const MemoryRegionSection *old_sections; /* ascending */
    const MemoryRegionSection *new_sections; /* ascending */
} MemorySpan;

/**
 * MemoryPlane - what regions carry beside what they show
 *
 * An attribute of places in a region, which follows the region wherever it is visible. Changing one makes no new map: it
 * is a commit like any other for listeners of that plane, with no span in it.
 */
typedef enum MemoryPlane {
    MEMORY_PLANE_LOG,       /* which clients log writes */
    MEMORY_PLANE_COALESCED, /* memory_coalesced.h */
    MEMORY_PLANE_EVENTFD,   /* memory_eventfd.h */
    MEMORY_PLANE_COUNT
} MemoryPlane;

/** MemoryPlaneItem - one attribute at one place of an address space, by value */
typedef struct MemoryPlaneItem {
    /* Where, within one range of the view. An ioeventfd of any size has last == offset_within_address_space - 1: so the
       size is always last - offset_within_address_space + 1, with 0 for any. */
    MemoryRegionSection section;
    uint64_t data; /* eventfd: the value to match, of the bytes as a little-endian number. Log: the mask of clients */
    uint64_t peer; /* log: the mask of the same place on the other side; 0 if there is none */
    int fd;        /* eventfd: the library's own duplicate, valid until this is removed; else -1 */
    bool match_data; /* log: the range is there on both sides, and only its mask changes */
} MemoryPlaneItem;

/** MemoryPlaneDelta - what changes in one plane: what goes (@old_items) and what comes (@new_items), ascending. */
typedef struct MemoryPlaneDelta {
    size_t n_old, n_new;
    const MemoryPlaneItem *old_items, *new_items;
} MemoryPlaneDelta;

/** MemoryDelta - what one commit (or one registration) changes in one address space. */
typedef struct MemoryDelta {
    AddressSpace *as;
    FlatView *old_view; /* NULL in the replay of a registration */
    FlatView *new_view; /* in prepare and abort not published: to be looked at, but not to be pinned */
    size_t n_spans;
    const MemorySpan *spans; /* ascending */
    /* Told to listeners that have a callback for the plane; to others it may look empty. */
    MemoryPlaneDelta planes[MEMORY_PLANE_COUNT];
} MemoryDelta;

#define MEMORY_LISTENER_PRIORITY_MIN 0
#define MEMORY_LISTENER_PRIORITY_ACCEL 10
#define MEMORY_LISTENER_PRIORITY_DEV_BACKEND 10

/** MemoryListener - fill in the callbacks, @priority and @name; zero the rest. */
struct MemoryListener {
    void (*begin)(MemoryListener *listener);
    /* Reserve what span_add and region_add will need. Returns 0, or a negative errno to refuse the whole commit. */
    int (*prepare)(MemoryListener *listener, const MemoryDelta *delta);
    /* The commit was refused, by a later listener or for lack of memory: give back what prepare reserved. */
    void (*abort)(MemoryListener *listener, const MemoryDelta *delta);
    void (*commit)(MemoryListener *listener);

    /* By spans: take away what changes (spans with old ranges); put in place what is new (spans with new ranges). */
    void (*span_del)(MemoryListener *listener, const MemorySpan *span);
    void (*span_add)(MemoryListener *listener, const MemorySpan *span);

    /* QEMU's way, on top of the spans: one call for each old and each new range of each span, after the span's own call.
       region_nop, for each unchanged range, costs a walk over the whole view: leave it NULL unless you need it; with it,
       step 4 runs over the view in ascending order. */
    void (*region_del)(MemoryListener *listener, const MemoryRegionSection *section);
    void (*region_add)(MemoryListener *listener, const MemoryRegionSection *section);
    void (*region_nop)(MemoryListener *listener, const MemoryRegionSection *section);

    /*
     * Planes. A listener that has neither callback of a plane hears nothing of it, also not begin and commit if nothing else
     * has changed. Removals come before the spans' own, additions after them (step 2: eventfd_del, coalesced_io_del,
     * span_del, region_del; step 4: span_add, region_add, coalesced_io_add, eventfd_add); what is the same in both views is
     * not told. All of it is in prepare's @delta, to be refused there.
     */
    /* @section: of the ioeventfd itself. See MemoryPlaneItem for the meaning of all. */
    void (*eventfd_del)(MemoryListener *listener, const MemoryRegionSection *section, bool match_data, uint64_t data,
                        int fd);
    void (*eventfd_add)(MemoryListener *listener, const MemoryRegionSection *section, bool match_data, uint64_t data,
                        int fd);
    /* @addr and @len: of @section; bytes, UINT64_MAX standing for 2^64. */
    void (*coalesced_io_del)(MemoryListener *listener, const MemoryRegionSection *section, hwaddr addr, hwaddr len);
    void (*coalesced_io_add)(MemoryListener *listener, const MemoryRegionSection *section, hwaddr addr, hwaddr len);

    /*
     * The dirty log (memory_dirty.h). A range that comes into view logged is announced by span_add, then log_start; one that
     * goes is asked by log_sync, then taken away by span_del, without log_stop: its guest may write until then, and whoever
     * keeps bits of its own merges the last of them in span_del, when nobody writes there any more. Likewise it maps what
     * span_add brings with logging on if memory_region_get_dirty_log_mask() says so, not only when log_start follows.
     * A change of flags is both.
     */
    /* The clients (bits 1 << DIRTY_MEMORY_*) of a section that stays, or has come (@old_mask 0): more of them, or fewer. */
    void (*log_start)(MemoryListener *listener, const MemoryRegionSection *section, unsigned old_mask, unsigned new_mask);
    void (*log_stop)(MemoryListener *listener, const MemoryRegionSection *section, unsigned old_mask, unsigned new_mask);
    /* Somebody is about to collect, or the log of @section ends: memory_region_merge_dirty() what is known. Not bracketed by
       begin and commit, but in a removal. */
    void (*log_sync)(MemoryListener *listener, const MemoryRegionSection *section);
    /* The same for all sections at once, by whoever cannot tell them apart. @last_stage: the guest stands still. */
    void (*log_sync_global)(MemoryListener *listener, bool last_stage);
    /* @section was collected and cleaned: protect its pages again. May be a part of what log_sync was called with. */
    void (*log_clear)(MemoryListener *listener, const MemoryRegionSection *section);
    /* All RAM is to be logged. 0, or a negative errno that memory_global_dirty_log_start() returns: then those that had agreed
       hear log_global_stop, in reverse, and nothing has changed. Also in the registration while it is so. */
    int (*log_global_start)(MemoryListener *listener);
    void (*log_global_stop)(MemoryListener *listener);
    void (*log_global_after_sync)(MemoryListener *listener);

    /* The listener has been unregistered and its memory is the caller's again. Last call; no lock is held. */
    void (*detached)(MemoryListener *listener);

    int priority; /* ascending for what adds, descending for what removes; equal: order of registration */
    const char *name;

    /* private: */
    void *space;
    MemoryListener *next, *prev;
    uint64_t seq;
    int state;
    const MemoryDelta *delta;
    MemoryListener *round_next, *round_prev;
    void *reserved[2];
};

/**
 * memory_listener_register() - start to mirror @as
 *
 * Replays the current view in one round: begin, prepare (may refuse), span_add/region_add for every range in ascending
 * order, commit.
 *
 * Context:   any thread outside transactions and listener callbacks, else -EBUSY.
 * Locking:   the topology lock.
 * Ownership: @listener is the library's until unregistered; on error it stays the caller's.
 * Return:    0, -EINVAL, -EBUSY (also: already registered), -ENOMEM, -EAGAIN as configured in memory_stats.h, or what
 *            prepare returned.
 * Since:     0.1
 */
FLATVIEW_API int memory_listener_register(MemoryListener *listener, AddressSpace *as);

/**
 * memory_listener_unregister() - stop
 *
 * Replays the inverse: begin, span_del/region_del for every range in descending order, commit, detached; no prepare, for
 * nothing could be refused. From a callback
 * of any listener it takes effect when the present commit has been delivered to its end; detached tells when.
 *
 * Context: any thread; inside a transaction -EBUSY.
 * Return:  0, -EINVAL (not registered, or leaving already), -EBUSY. Never for lack of memory.
 * Since:   0.1
 */
FLATVIEW_API int memory_listener_unregister(MemoryListener *listener);

FLATVIEW_END_DECLS

#endif
