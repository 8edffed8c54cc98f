/* SPDX-License-Identifier: MIT */
/*
 * topo.h - a machine's memory map as plain data: regions, address spaces and, if recorded, the views they give.
 *
 * Two readers fill it, topo_read() from the complete `.topo` form and mtree_read() from the text of QEMU's `info
 * mtree`. Whoever gets a TopoFile may rely on this: every index is valid or TOPO_NONE; a container stands before its
 * contents and is no alias; siblings are linked topmost first with descending priorities; containers are nested, and
 * aliases lead on to aliases, at most TOPO_MAX_DEPTH deep; recorded ranges are disjoint, ascending and of regions that
 * terminate.
 */
#ifndef FLATVIEW_STRESS_TOPO_H
#define FLATVIEW_STRESS_TOPO_H

#include "input.h"

#include <stdint.h>

#define TOPO_NONE UINT32_MAX
#define TOPO_ID_MAX ((uint64_t)1 << 63)
/* Containers within each other, aliases of aliases. A view that shows more is refused anyway (-E2BIG); this keeps the
   time that any file can cost proportional to its size. */
#define TOPO_MAX_DEPTH 512u
/* Spaces are few in any machine, and the library looks through them all when one is made. */
#define TOPO_MAX_SPACES 16384u

/* TopoRegion.flags, in the order of the letters in the file. */
enum {
    TOPO_ENABLED = 1 << 0,
    TOPO_TERMINATES = 1 << 1, /* answers accesses itself; neither this nor an alias: a pure container */
    TOPO_RAM = 1 << 2,
    TOPO_READONLY = 1 << 3,
    TOPO_NONVOLATILE = 1 << 4,
    TOPO_ROM_DEVICE = 1 << 5,
    TOPO_ROMD = 1 << 6,
    TOPO_IOMMU = 1 << 7,
    TOPO_RAM_DEVICE = 1 << 8,
    TOPO_BLOCK = 1 << 9, /* backed by a RAM block: QEMU's TCG logs code in all of them */
};
#define TOPO_KIND_FLAGS (TOPO_TERMINATES | TOPO_RAM | TOPO_ROM_DEVICE | TOPO_IOMMU | TOPO_RAM_DEVICE | TOPO_BLOCK)

typedef struct TopoRegion {
    uint64_t id;
    uint64_t container_id, alias_id; /* as in the file; UINT64_MAX for none */
    uint64_t offset;                 /* in its container; also a region without one has it */
    uint64_t size;                   /* bytes; UINT64_MAX is 2^64 */
    uint64_t alias_offset;
    const char *name;
    uint32_t container, alias;        /* indices */
    uint32_t first_child, last_child; /* first: topmost */
    uint32_t below, above;            /* siblings */
    uint32_t line;
    int32_t priority;
    uint16_t flags;
    uint16_t depth; /* containers around it */
    uint8_t dirty;  /* bits 1 << DIRTY_MEMORY_* */
} TopoRegion;

typedef struct TopoCoalesced {
    uint64_t region_id, start, size;
    uint32_t region;
    uint32_t line;
} TopoCoalesced;

typedef struct TopoSpace {
    uint64_t root_id;
    const char *name;
    uint32_t root;
    uint32_t view; /* spaces with the same one share one FlatView; TOPO_NONE: not recorded */
    uint32_t line;
} TopoSpace;

typedef struct TopoRange {
    uint64_t first, last;
    uint64_t region_id;
    uint64_t offset;
    uint32_t region;
    uint32_t line;
    uint16_t flags; /* TOPO_READONLY, TOPO_NONVOLATILE, TOPO_ROMD */
    uint8_t dirty;
} TopoRange;

typedef struct TopoView {
    uint64_t root_id;
    size_t first_range, n_ranges;
    uint32_t root; /* the region that the view was made from; TOPO_NONE: nothing to show */
    uint32_t line;
} TopoView;

typedef struct TopoId {
    uint64_t id;
    uint32_t region;
} TopoId;

typedef struct TopoFile {
    Input input; /* the names point into it */
    TopoRegion *regions;
    TopoCoalesced *coalesced;
    TopoSpace *spaces;
    TopoView *views;
    TopoRange *ranges;
    TopoId *by_id; /* all regions, ascending */
    size_t n_regions, n_coalesced, n_spaces, n_views, n_ranges;
    size_t room_regions, room_coalesced, room_spaces, room_views, room_ranges;
} TopoFile;

/* Read a `.topo` file, or its text. False with @err set if it breaks any rule; then there is nothing to free. */
bool topo_read(TopoFile *topo, const char *path, InputError *err);
bool topo_parse(TopoFile *topo, const char *text, size_t len, InputError *err);
void topo_free(TopoFile *topo);

/* Either form, told apart by the first line. */
bool topo_read_any(TopoFile *topo, const char *path, InputError *err);

uint32_t topo_find(const TopoFile *topo, uint64_t id); /* TOPO_NONE if there is none */

/* For the readers. topo_link() turns ids into indices, links siblings and checks all of the above; topo_index() makes
   by_id, topo_check_aliases() is one check alone. */
TopoRegion *topo_add_region(TopoFile *topo);
TopoSpace *topo_add_space(TopoFile *topo, unsigned long line, InputError *err);
bool topo_link(TopoFile *topo, InputError *err);
bool topo_index(TopoFile *topo, InputError *err);
void topo_adopt(TopoFile *topo, uint32_t child); /* as the lowest in its container so far */
bool topo_check_aliases(const TopoFile *topo, InputError *err);

#endif
