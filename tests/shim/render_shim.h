/* SPDX-License-Identifier: MIT */
/*
 * render_shim.h - view/render.h for C++: regions (raw ones, of region_shim.h) in, ranges out.
 */
#ifndef FLATVIEW_TESTS_RENDER_SHIM_H
#define FLATVIEW_TESTS_RENDER_SHIM_H

#include <flatview/memory_region.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    RT_READONLY = 1,
    RT_NONVOLATILE = 2,
    RT_ROMD = 4,
    RT_DIRECT_READ = 8,
    RT_DIRECT_WRITE = 16,
    RT_EXACT = 32,
    RT_IO_SHIFT = 16,
};

typedef struct RtRange {
    hwaddr first, last;
    MemoryRegion *mr;
    uint64_t offset, bias;
    uint8_t *host;
    const MemoryRegionOps *ops;
    uint32_t flags;
} RtRange;

/* One edit that is never published: every rendering goes on from the last. */
typedef struct RtView RtView;

RtView *rt_new(uint64_t gen);
void rt_free(RtView *view);
int rt_render(RtView *view, MemoryRegion *root, hwaddr first, hwaddr last);
size_t rt_count(const RtView *view);
size_t rt_ranges(const RtView *view, RtRange *ret, size_t cap); /* ascending; how many there are, at most cap */
void rt_check(const RtView *view); /* view_tree_check() */
uint64_t rt_steps(const RtView *view); /* fills and clears so far */

MemoryRegion *rt_root(MemoryRegion *root, void (*visit)(MemoryRegion *mr, void *arg), void *arg);
unsigned rt_max_depth(void);
uint64_t rt_fail_nth(uint64_t nth); /* mem_fail_nth(), sticky */

#ifdef __cplusplus
}
#endif

#endif
