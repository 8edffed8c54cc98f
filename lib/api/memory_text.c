/* SPDX-License-Identifier: MIT */
/*
 * memory_text.c - the map, to the letter as QEMU's `info mtree` and `info mtree -f` print it.
 *
 * Invariant: one printout shows one state, because the topology lock is held from the first line to the last. It costs
 * what it prints: the stack is the heap's, each child is sorted once, and whether an alias's target has its section
 * already is one comparison of walk marks. Indentation grows with depth, so depth has a limit.
 *
 * QEMU's oddities are kept, since people compare: the end of an empty region is its start; the children of a disabled
 * region that is not shown are, one level deeper than what is above them; aliases that are not shown still introduce
 * their targets; an alias has the type of what it leads to in the end.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include <flatview/address_space.h>
#include <flatview/memory_text.h>

#include "base/mem.h"
#include "publish/cell.h"
#include "publish/transaction.h"
#include "topology/region.h"

#define PRINT_MAX_DEPTH 1024

/* ---- address spaces, gathered by what they share -------------------------------------------------------------- */

typedef struct Entry {
    AddressSpace *as;
    const FlatView *view; /* current, and so for as long as the topology lock is held */
    uintptr_t key;        /* equal in spaces that are printed together */
    size_t index;         /* order of creation */
    size_t group;         /* index of the first space with this key */
} Entry;

typedef struct Entries {
    Entry *entry;
    size_t n, cap;
} Entries;

static int add_entry(AddressSpace *as, void *arg)
{
    Entries *entries = arg;

    if (mem_vec_reserve((void **)&entries->entry, &entries->cap, entries->n + 1, sizeof(Entry)) < 0) {
        return -ENOMEM;
    }
    entries->entry[entries->n] = (Entry){ .as = as, .index = entries->n };
    entries->n++;
    return 0;
}

static int by_key(const void *a, const void *b)
{
    const Entry *x = a, *y = b;

    if (x->key != y->key) {
        return x->key < y->key ? -1 : 1;
    }
    return x->index < y->index ? -1 : x->index > y->index;
}

static int by_group(const void *a, const void *b)
{
    const Entry *x = a, *y = b;

    if (x->group != y->group) {
        return x->group < y->group ? -1 : 1;
    }
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Spaces of one key one after the other, otherwise in order of creation. */
static void group_entries(Entries *entries)
{
    Entry *entry = entries->entry;
    size_t i;

    if (!entries->n) {
        return;
    }
    qsort(entry, entries->n, sizeof(*entry), by_key);
    for (i = 0; i < entries->n; i++) {
        entry[i].group = i && entry[i].key == entry[i - 1].key ? entry[i - 1].group : entry[i].index;
    }
    qsort(entry, entries->n, sizeof(*entry), by_group);
}

static void drop_entries(Entries *entries)
{
    mem_vec_free((void **)&entries->entry, &entries->cap, sizeof(Entry));
}

/* ---- trees ---------------------------------------------------------------------------------------------------- */

/* A region whose turn comes. */
typedef struct Line {
    const MemoryRegion *mr;
    hwaddr base; /* where its container starts */
    int level;
} Line;

typedef struct TreePrinter {
    FILE *out;
    bool show_disabled;
    uint64_t walk;     /* marks the targets that have a section */
    Line *line;        /* a stack: the next line is the last one */
    size_t n, cap;
    MemoryRegion **section; /* in order of first meeting */
    size_t n_sections, cap_sections;
} TreePrinter;

/* The last address of what starts at first, as QEMU has it: modulo 2^64, and the same for sizes 0 and 1. */
static hwaddr printed_last(hwaddr first, const MemoryRegion *mr)
{
    return mr->size_is_zero ? first : first + mr->last;
}

static const char *type_name(const MemoryRegion *mr, bool readonly, bool romd)
{
    switch (mr->kind) {
    case MEMORY_KIND_RAM_DEVICE:
        return "ramd";
    case MEMORY_KIND_ROM_DEVICE:
        return romd ? "romd" : "i/o";
    case MEMORY_KIND_RAM:
    case MEMORY_KIND_ROM:
        return readonly ? "rom" : "ram";
    default:
        return "i/o";
    }
}

static int alias_end(const MemoryRegion *mr, const MemoryRegion **ret_end)
{
    int hops;

    for (hops = 0; mr->alias; hops++) {
        if (hops == PRINT_MAX_DEPTH) {
            return -E2BIG;
        }
        mr = mr->alias;
    }
    *ret_end = mr;
    return 0;
}

static int meet_target(TreePrinter *p, MemoryRegion *target)
{
    if (!region_walk_first_visit(target, p->walk)) {
        return 0;
    }
    if (mem_vec_reserve((void **)&p->section, &p->cap_sections, p->n_sections + 1, sizeof(*p->section)) < 0) {
        return -ENOMEM;
    }
    p->section[p->n_sections++] = target;
    return 0;
}

static int print_line(TreePrinter *p, const Line *line, hwaddr start)
{
    const MemoryRegion *mr = line->mr, *end;
    hwaddr last = printed_last(start, mr);
    int ret;

    ret = alias_end(mr, &end);
    if (ret < 0) {
        return ret;
    }
    if (start < line->base || last < start) {
        fputs("[DETECTED OVERFLOW!] ", p->out); /* even before a line that is then hidden */
    }
    if (mr->enabled || p->show_disabled) {
        fprintf(p->out, "%*s%016" PRIx64 "-%016" PRIx64 " (prio %d, %s%s): ", 2 * line->level, "", start, last,
                (int)mr->priority, mr->nonvolatile ? "nv-" : "", type_name(end, end->readonly, end->romd));
        if (mr->alias) {
            fprintf(p->out, "alias %s @%s %016" PRIx64 "-%016" PRIx64, memory_region_name(mr),
                    memory_region_name(mr->alias), mr->alias_offset, printed_last(mr->alias_offset, mr));
        } else {
            fputs(memory_region_name(mr), p->out);
        }
        fputs(mr->enabled ? "\n" : " [disabled]\n", p->out);
    }
    return ferror(p->out) ? -EIO : 0;
}

/* For a stack: what is printed first comes last. */
static int printed_later(const void *a, const void *b)
{
    const MemoryRegion *x = ((const Line *)a)->mr, *y = ((const Line *)b)->mr;

    if (x->addr != y->addr) {
        return x->addr > y->addr ? -1 : 1;
    }
    if (x->priority != y->priority) {
        return x->priority < y->priority ? -1 : 1;
    }
    return x->order < y->order ? -1 : x->order > y->order;
}

static int push_children(TreePrinter *p, const MemoryRegion *mr, hwaddr base, int level)
{
    const MemoryRegion *child;
    size_t n = p->n;

    if (!mr->n_children) {
        return 0;
    }
    if (level > PRINT_MAX_DEPTH) {
        return -E2BIG;
    }
    if (mem_vec_reserve((void **)&p->line, &p->cap, n + mr->n_children, sizeof(*p->line)) < 0) {
        return -ENOMEM;
    }
    for (child = children_begin(mr); child; child = children_after(child)) {
        p->line[p->n++] = (Line){ child, base, level };
    }
    qsort(p->line + n, p->n - n, sizeof(*p->line), printed_later);
    return 0;
}

static int print_subtree(TreePrinter *p, const MemoryRegion *root)
{
    int ret = 0;

    if (mem_vec_reserve((void **)&p->line, &p->cap, 1, sizeof(*p->line)) < 0) {
        return -ENOMEM;
    }
    p->line[0] = (Line){ root, 0, 1 };
    p->n = 1;
    while (p->n && ret == 0) {
        Line line = p->line[--p->n];
        hwaddr start = line.base + line.mr->addr;

        if (line.mr->alias) {
            ret = meet_target(p, line.mr->alias);
        }
        if (ret == 0) {
            ret = print_line(p, &line, start);
        }
        if (ret == 0) {
            ret = push_children(p, line.mr, start, line.level + 1);
        }
    }
    return ret;
}

static int print_groups(TreePrinter *p, const Entries *spaces)
{
    size_t i;
    int ret;

    for (i = 0; i < spaces->n; i++) {
        const Entry *entry = &spaces->entry[i];

        fprintf(p->out, "address-space: %s\n", address_space_name(entry->as));
        if (i + 1 < spaces->n && entry[1].group == entry->group) {
            continue;
        }
        ret = print_subtree(p, address_space_root(entry->as));
        if (ret < 0) {
            return ret;
        }
        fputc('\n', p->out);
    }
    return 0;
}

/* Sections may introduce further ones. */
static int print_sections(TreePrinter *p)
{
    size_t i;
    int ret;

    for (i = 0; i < p->n_sections; i++) {
        fprintf(p->out, "memory-region: %s\n", memory_region_name(p->section[i]));
        ret = print_subtree(p, p->section[i]);
        if (ret < 0) {
            return ret;
        }
        fputc('\n', p->out);
    }
    return ferror(p->out) ? -EIO : 0;
}

int memory_print_tree(FILE *out, bool show_disabled)
{
    TreePrinter p = { .out = out, .show_disabled = show_disabled };
    Entries spaces = { 0 };
    size_t i;
    int ret;

    ret = txn_enter();
    if (ret < 0) {
        return ret;
    }
    p.walk = region_walk_begin();
    ret = address_space_foreach(add_entry, &spaces);
    if (ret == 0) {
        for (i = 0; i < spaces.n; i++) {
            spaces.entry[i].key = (uintptr_t)address_space_root(spaces.entry[i].as);
        }
        group_entries(&spaces);
        ret = print_groups(&p, &spaces);
    }
    if (ret == 0) {
        ret = print_sections(&p);
    }
    mem_vec_free((void **)&p.line, &p.cap, sizeof(*p.line));
    mem_vec_free((void **)&p.section, &p.cap_sections, sizeof(*p.section));
    drop_entries(&spaces);
    txn_leave();
    return ret;
}

/* ---- views ---------------------------------------------------------------------------------------------------- */

static int print_range(const MemoryRegionSection *section, void *arg)
{
    const MemoryRegion *mr = section->mr;
    FILE *out = arg;

    fprintf(out, "  %016" PRIx64 "-%016" PRIx64 " (prio %d, %s%s): %s", section->offset_within_address_space,
            section->last, memory_region_get_priority(mr), section->nonvolatile ? "nv-" : "",
            section->readonly ? "rom" : type_name(mr, false, section->romd), memory_region_name(mr));
    if (section->offset_within_region) {
        fprintf(out, " @%016" PRIx64, section->offset_within_region);
    }
    fputc('\n', out);
    return ferror(out) ? -EIO : 0;
}

int flatview_print(const FlatView *view, FILE *out)
{
    if (!flatview_count(view)) {
        fputs("  No rendered FlatView\n", out);
        return ferror(out) ? -EIO : 0;
    }
    return flatview_for_each_range(view, 0, UINT64_MAX, print_range, out);
}

static int print_views(FILE *out, const Entries *spaces)
{
    unsigned n_views = 0;
    size_t i;
    int ret;

    for (i = 0; i < spaces->n; i++) {
        const Entry *entry = &spaces->entry[i];
        const MemoryRegion *root = address_space_root(entry->as), *seen = flatview_root(entry->view);

        if (i == 0 || entry[-1].group != entry->group) {
            fprintf(out, "FlatView #%u\n", n_views++);
        }
        fprintf(out, " AS \"%s\", root: %s", address_space_name(entry->as), memory_region_name(root));
        if (root->alias) {
            fprintf(out, ", alias %s", memory_region_name(root->alias));
        }
        fputc('\n', out);
        if (i + 1 < spaces->n && entry[1].group == entry->group) {
            continue;
        }
        fprintf(out, " Root memory region: %s\n", seen ? memory_region_name(seen) : "(none)");
        ret = flatview_print(entry->view, out);
        if (ret < 0) {
            return ret;
        }
        fputc('\n', out);
    }
    return ferror(out) ? -EIO : 0;
}

int memory_print_flatviews(FILE *out)
{
    Entries spaces = { 0 };
    size_t i;
    int ret;

    ret = txn_enter();
    if (ret < 0) {
        return ret;
    }
    ret = address_space_foreach(add_entry, &spaces);
    if (ret == 0) {
        for (i = 0; i < spaces.n; i++) {
            Entry *entry = &spaces.entry[i];

            entry->view = cell_view(space_cell(entry->as));
            /* Spaces that show nothing are one group, as there is but one nothing. */
            entry->key = flatview_root(entry->view) ? (uintptr_t)entry->view : 0;
        }
        group_entries(&spaces);
        ret = print_views(out, &spaces);
    }
    drop_entries(&spaces);
    txn_leave();
    return ret;
}
