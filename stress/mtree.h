/* SPDX-License-Identifier: MIT */
/*
 * mtree.h - a map from the text of QEMU's `info mtree`, with or without its options -o and -D.
 *
 * The text is a printout, not a description: much is left out. What is put in its place, so that the map prints as the
 * same text again and shows in its views what QEMU showed wherever the text allows:
 *
 * - Whether an `i/o` region answers or only contains is not printed. What is 2^64 bytes large is taken for a container;
 *   of the rest, the root of an address space for a device that answers, any other with contents for a container,
 *   without for a device: of each sort the more frequent in the captures (tests/oracle), and wrong for some.
 * - A disabled region has no line, but its contents do. Lines that no printed region can contain, for their depth or
 *   their order, are put into a disabled container.
 * - Alias targets are named, not identified. See mtree_bind.c.
 * - Sizes 0 and 1 print alike; an alias of that size is empty, as QEMU's are, anything else is one byte.
 * - Which of two siblings of equal priority is on top is printed only if they start together; otherwise the later start
 *   is.
 * - That an alias is read-only, dirty-log masks and coalesced ranges are not printed; owners are not kept.
 */
#ifndef FLATVIEW_STRESS_MTREE_H
#define FLATVIEW_STRESS_MTREE_H

#include "topo.h"

bool mtree_read(TopoFile *topo, const char *path, InputError *err);
bool mtree_parse(TopoFile *topo, const char *text, size_t len, InputError *err);
bool mtree_finish(TopoFile *topo, InputError *err); /* the text is in topo->input; on failure frees it */

/* ---- between mtree.c, which reads lines, mtree_bind.c, which links them, and mtree_emit.c, which makes a map ---- */

typedef enum MtreeKind { MTREE_IO, MTREE_RAM, MTREE_ROM, MTREE_ROMD, MTREE_RAMD } MtreeKind;

/* One line, or a container that must have been there. The lines of a subtree stand together, in order of printing. */
typedef struct MtreeLine {
    const char *name;
    char *text;       /* of an alias: the name, until it is bound with ` @TARGET` */
    uint64_t start;   /* as printed */
    uint64_t offset;  /* in up; of a root: start */
    uint64_t size;    /* UINT64_MAX is 2^64 */
    uint64_t alias_offset;
    uint32_t up, last_child;
    uint32_t root;   /* the line at the top of this tree */
    uint32_t end;    /* one beyond the last line of the subtree */
    uint64_t place;  /* ascends in the order of printing */
    uint32_t target; /* of an alias: a section */
    uint32_t line;
    uint32_t level;
    int32_t priority;
    uint8_t kind;
    bool nonvolatile, enabled, alias, hidden;
} MtreeLine;

/* What a heading is about: the tree of an address space, or an alias target. */
typedef struct MtreeTree {
    const char *name; /* of a section */
    uint32_t root;    /* TOPO_NONE: nothing printed, so it is disabled */
    uint32_t line;
    uint32_t twin; /* of a section: the line elsewhere that is the same region; TOPO_NONE: there is none. That line may
                      stand in a section that has a twin itself. */
    uint64_t reach; /* of a section: how far its aliases look into it */
    uint8_t kind;   /* of a section: what its aliases say that it is */
} MtreeTree;

typedef struct MtreeSpace {
    const char *name;
    uint32_t group;
    uint32_t line;
} MtreeSpace;

typedef struct Mtree {
    MtreeLine *lines;
    MtreeTree *groups, *sections;
    MtreeSpace *spaces;
    size_t n_lines, n_groups, n_sections, n_spaces;
    size_t room_lines, room_groups, room_sections, room_spaces;
} Mtree;

MtreeLine *mtree_add_line(Mtree *tree);

/* Bind the aliases to sections; then find out which sections repeat a region printed elsewhere. */
bool mtree_bind(Mtree *tree, InputError *err);
bool mtree_find_twins(Mtree *tree, InputError *err);

/* The map; topo->input is there already. */
bool mtree_emit(const Mtree *tree, TopoFile *topo, InputError *err);

#endif
