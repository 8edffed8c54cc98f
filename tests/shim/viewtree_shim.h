/* SPDX-License-Identifier: MIT */
/*
 * viewtree_shim.h - versions of one tree, in plain values.
 *
 * Version 0 is the empty tree. Every version stays readable until the line is freed, which also checks that each node was
 * freed exactly once.
 */
#ifndef FLATVIEW_TESTS_VIEWTREE_SHIM_H
#define FLATVIEW_TESTS_VIEWTREE_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { VT_REGIONS = 64 };

typedef struct VtRange {
    uint64_t first, last, offset;
    uint32_t region; /* below VT_REGIONS; odd ones have 128 KiB of host memory */
    uint32_t flags;
} VtRange;

typedef struct VtLine VtLine;

VtLine *vt_new(void);
/* Bytes that the line's nodes left behind: 0, or something leaked or was freed twice. */
int64_t vt_free(VtLine *line);

/* What is to be committed begins from the newest version, or from version 0. */
void vt_begin(VtLine *line, unsigned base);
int vt_clear(VtLine *line, uint64_t first, uint64_t last);
int vt_fill(VtLine *line, const VtRange *r);
/* Clear later: what vt_fill() does next, or vt_settle(). */
void vt_clear_later(VtLine *line, uint64_t first, uint64_t last);
int vt_settle(VtLine *line);
bool vt_is_hole(VtLine *line, uint64_t first, uint64_t last); /* of the open edit */
void vt_abort(VtLine *line);
unsigned vt_commit(VtLine *line); /* the number of the new version */
void vt_check_open(VtLine *line); /* the edit that is open; aborts the process if an invariant is broken */
size_t vt_replaced(const VtLine *line); /* nodes that the open edit replaced so far */

void vt_check(VtLine *line, unsigned version);
size_t vt_count(VtLine *line, unsigned version);
size_t vt_bytes(VtLine *line, unsigned version);
unsigned vt_height(VtLine *line, unsigned version);
bool vt_find(VtLine *line, unsigned version, uint64_t addr, VtRange *ret);
bool vt_lower(VtLine *line, unsigned version, uint64_t addr, VtRange *ret);
/* Up to cap ranges, from the first that ends at or after addr; returns how many. */
size_t vt_walk(VtLine *line, unsigned version, uint64_t addr, VtRange *ret, size_t cap);
/* No node of a version is marked dead in a generation that the version is not younger than. */
bool vt_lifetimes_hold(VtLine *line, unsigned version);

typedef int (*VtDiffFn)(const VtRange *old_range, const VtRange *new_range, void *arg);
int vt_diff(VtLine *line, unsigned old_version, unsigned new_version, uint64_t first, uint64_t last, VtDiffFn fn,
            void *arg);
/* Subtrees that the last vt_diff() of this thread looked into; 0 in builds without debug checks. */
size_t vt_diff_entered(void);

uint64_t vt_region_last_gen(VtLine *line, unsigned region);
uint64_t vt_fail_nth(uint64_t nth, bool sticky); /* mem_fail_nth() */

/* Two versions of n ranges, the second with every tenth moved, through the retire queue to the end. Returns the bytes left
   behind, and how many nodes the second version replaced. */
int64_t vt_retire_two_versions(unsigned n, size_t *ret_replaced);

#ifdef __cplusplus
}
#endif

#endif
