/* SPDX-License-Identifier: MIT */
/*
 * mtree.c - `info mtree`, line by line, into trees of lines.
 *
 *     address-space: NAME        one or more, which share a root
 *       START-END (prio N, [nv-]TYPE): NAME [disabled] owner:{...}
 *         START-END (prio N, [nv-]TYPE): alias NAME @TARGET START-END
 *
 *     memory-region: NAME        one for each target of an alias
 *       ...
 *
 * Invariant: in every tree that leaves here siblings ascend by (offset, falling priority), as QEMU prints them, and no
 * alias contains anything. What contradicts that in the text is explained by containers that were not printed because
 * they are disabled; if they explain nothing, the text is refused.
 */
#include "mtree.h"

#include <stdlib.h>
#include <string.h>

/* A gap costs its file two bytes a level, its reader a hundred. */
#define MTREE_MAX_HIDDEN (1u << 20)

/* Where the reader stands. */
typedef struct Reader {
    Mtree tree;
    enum { BETWEEN, HEADING, INSIDE } state;
    MtreeTree *at;   /* being read; points into groups or sections, which do not grow meanwhile */
    uint32_t *path;  /* the line above, and all that contain it: path[level - 1] */
    size_t depth, room_path, n_hidden;
    InputError *err;
    unsigned long number;
} Reader;

MtreeLine *mtree_add_line(Mtree *tree)
{
    MtreeLine *l;

    if (tree->n_lines == TOPO_NONE ||
        !array_room((void **)&tree->lines, tree->n_lines, &tree->room_lines, sizeof(MtreeLine))) {
        return NULL;
    }
    l = &tree->lines[tree->n_lines++];
    *l = (MtreeLine){ .name = "", .up = TOPO_NONE, .last_child = TOPO_NONE, .target = TOPO_NONE };
    return l;
}

/* ---- one line ---- */

static bool take_hex16(const char **p, uint64_t *ret)
{
    uint64_t value = 0;

    for (int i = 0; i < 16; i++) {
        char c = (*p)[i];

        if (c >= '0' && c <= '9') {
            value = value << 4 | (unsigned)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            value = value << 4 | (unsigned)(c - 'a' + 10);
        } else {
            return false;
        }
    }
    *p += 16;
    *ret = value;
    return true;
}

static bool take(const char **p, const char *word)
{
    size_t len = strlen(word);

    if (strncmp(*p, word, len) != 0) {
        return false;
    }
    *p += len;
    return true;
}

static bool take_int(const char **p, int32_t *ret)
{
    char *end;
    long value;

    if ((**p < '0' || **p > '9') && **p != '-') {
        return false;
    }
    value = strtol(*p, &end, 10);
    if (end == *p || end - *p > 11 || value < INT32_MIN || value > INT32_MAX) {
        return false;
    }
    *p = end;
    *ret = (int32_t)value;
    return true;
}

static bool take_window(const char **p, uint64_t *ret_first, uint64_t *ret_last)
{
    return take_hex16(p, ret_first) && take(p, "-") && take_hex16(p, ret_last);
}

/* Does an owner, as option -o prints it, begin here? */
static bool is_owner(const char *p)
{
    return (take(&p, "owner:{") || take(&p, "parent:{")) && (take(&p, "dev ") || take(&p, "obj "));
}

/* Cut ` owner:{dev path=...}` and the like from the end. */
static void cut_owners(char *text)
{
    size_t len = strlen(text);

    while (len > 0 && text[len - 1] == '}') {
        size_t from = len - 1;

        while (from > 0 && text[from - 1] != '}' && !(text[from - 1] == ' ' && is_owner(text + from))) {
            from--;
        }
        if (from == 0 || text[from - 1] != ' ') {
            return;
        }
        len = from - 1;
        text[len] = '\0';
    }
}

static bool cut_end(char *text, const char *end)
{
    size_t len = strlen(text), cut = strlen(end);

    if (len < cut || strcmp(text + len - cut, end) != 0) {
        return false;
    }
    text[len - cut] = '\0';
    return true;
}

/* `alias NAME @TARGET START-END`, if the rest of a line is that. */
static bool take_alias(MtreeLine *l, char *rest)
{
    size_t len = strlen(rest);
    const char *window = rest + len - 33;
    uint64_t last;

    if (len < strlen("alias  @ ") + 33 || strncmp(rest, "alias ", 6) != 0 || window[-1] != ' ' ||
        !take_window(&window, &l->alias_offset, &last)) {
        return false;
    }
    rest[len - 34] = '\0';
    if (!strstr(rest + 5, " @")) {
        return false; /* some region's name */
    }
    l->name = l->text = rest + 6;
    l->alias = true;
    return true;
}

static bool take_line(Reader *r, char *text, MtreeLine *l, bool *ret_wraps)
{
    static const char *const kinds[] = { "i/o): ", "ramd): ", "ram): ", "romd): ", "rom): " };
    static const MtreeKind kind_of[] = { MTREE_IO, MTREE_RAMD, MTREE_RAM, MTREE_ROMD, MTREE_ROM };
    const char *p = text;
    size_t spaces;
    unsigned k = 0;
    uint64_t last;

    for (*ret_wraps = false; take(&p, "[DETECTED OVERFLOW!] "); *ret_wraps = true) {
    }
    spaces = strspn(p, " ");
    p += spaces;
    if (spaces < 2 || spaces % 2 || !take_window(&p, &l->start, &last) || !take(&p, " (prio ") ||
        !take_int(&p, &l->priority) || !take(&p, ", ")) {
        return input_fail(r->err, r->number, "not a line of `info mtree`");
    }
    l->level = (uint32_t)(spaces / 2);
    if (l->level > TOPO_MAX_DEPTH) {
        return input_fail(r->err, r->number, "nested deeper than %u levels", TOPO_MAX_DEPTH);
    }
    l->nonvolatile = take(&p, "nv-");
    while (k < 5 && !take(&p, kinds[k])) {
        k++;
    }
    if (k == 5) {
        return input_fail(r->err, r->number, "no type is called '%.10s'", p);
    }
    l->kind = (uint8_t)kind_of[k];
    l->line = (uint32_t)r->number;
    l->size = last - l->start == UINT64_MAX ? UINT64_MAX : last - l->start + 1;
    if (last - l->start == UINT64_MAX - 1) {
        return input_fail(r->err, r->number, "a size of 2^64 - 1 cannot be told from 2^64");
    }
    text += p - text;
    cut_owners(text);
    l->enabled = !cut_end(text, " [disabled]");
    if (!take_alias(l, text)) {
        l->name = text;
    } else if (l->size == 1) {
        l->size = 0;
    }
    return true;
}

/* ---- where it stands ---- */

static MtreeLine *line_at(const Reader *r, size_t level)
{
    return &r->tree.lines[r->path[level - 1]];
}

/* May a line of this start and priority be the next one directly inside @up? */
static bool fits(const Reader *r, const MtreeLine *up, uint64_t start, int32_t priority)
{
    const MtreeLine *before = up->last_child == TOPO_NONE ? NULL : &r->tree.lines[up->last_child];

    return !up->alias && start >= up->start &&
           (!before || before->offset < start - up->start ||
            (before->offset == start - up->start && before->priority >= priority));
}

/* Add @l below the line at @level - 1 of the path, and make it the path's end. */
static bool push(Reader *r, size_t level, const MtreeLine *l)
{
    MtreeLine *added = mtree_add_line(&r->tree);
    uint32_t index = (uint32_t)(r->tree.n_lines - 1);

    if (!added || !array_room((void **)&r->path, level - 1, &r->room_path, sizeof(*r->path))) {
        return input_no_memory(r->err, r->number);
    }
    *added = *l;
    added->level = (uint32_t)level;
    added->last_child = TOPO_NONE;
    added->target = TOPO_NONE;
    added->place = 2 * (uint64_t)index + 1; /* room for one between any two */
    if (level == 1) {
        added->up = TOPO_NONE;
        added->root = index;
        added->offset = added->start;
        r->at->root = index;
    } else {
        added->up = r->path[level - 2];
        added->root = r->path[0];
        added->offset = added->start - r->tree.lines[added->up].start;
        r->tree.lines[added->up].last_child = index;
    }
    r->path[level - 1] = index;
    r->depth = level;
    return true;
}

/* Containers that were not printed, from @level down to just above @l; the first where its predecessor stands. */
static bool push_hidden(Reader *r, size_t level, const MtreeLine *l)
{
    const MtreeLine *up = level > 1 ? line_at(r, level - 1) : NULL;
    const MtreeLine *before = up && up->last_child != TOPO_NONE ? &r->tree.lines[up->last_child] : NULL;
    MtreeLine hidden = {
        .name = "", .size = UINT64_MAX, .hidden = true, .line = l->line,
        .start = before ? before->start : up ? up->start : 0,
        .priority = before ? before->priority : INT32_MAX,
    };

    r->n_hidden += l->level - level;
    if (r->n_hidden > MTREE_MAX_HIDDEN) {
        return input_fail(r->err, r->number, "more than %u containers are missing", MTREE_MAX_HIDDEN);
    }
    for (; level < l->level; level++) {
        if (!push(r, level, &hidden)) {
            return false;
        }
        hidden.priority = INT32_MAX;
    }
    return push(r, level, l);
}

static bool place_line(Reader *r, const MtreeLine *l, bool wraps)
{
    size_t level = l->level;

    if (level == 1) {
        return r->at->root == TOPO_NONE ? push(r, 1, l) : input_fail(r->err, r->number, "a second tree");
    }
    if (level <= r->depth + 1) {
        const MtreeLine *up = line_at(r, level - 1);

        if (wraps ? !up->alias : fits(r, up, l->start, l->priority)) {
            return push(r, level, l);
        }
    }
    /* Some container is missing. Its place is after what was printed last at its level, the lowest that will do. */
    for (size_t k = level - 1 < r->depth + 1 ? level - 1 : r->depth + 1; k > 1; k--) {
        const MtreeLine *up = line_at(r, k - 1);
        const MtreeLine *before = up->last_child == TOPO_NONE ? up : &r->tree.lines[up->last_child];

        if (!up->alias && l->start >= before->start) {
            return push_hidden(r, k, l);
        }
    }
    return r->depth == 0 ? push_hidden(r, 1, l) : input_fail(r->err, r->number, "out of order");
}

static bool start_tree(Reader *r, MtreeTree **trees, size_t *n, size_t *room, const char *name)
{
    if (!array_room((void **)trees, *n, room, sizeof(MtreeTree))) {
        return input_no_memory(r->err, r->number);
    }
    r->at = &(*trees)[(*n)++];
    *r->at = (MtreeTree){ .name = name, .root = TOPO_NONE, .line = (uint32_t)r->number, .twin = TOPO_NONE };
    r->depth = 0;
    return true;
}

static bool read_heading(Reader *r, const char *text)
{
    Mtree *t = &r->tree;

    if (take(&text, "memory-region: ")) {
        if (r->state != BETWEEN) {
            return input_fail(r->err, r->number, "no empty line before the heading");
        }
        r->state = INSIDE;
        return start_tree(r, &t->sections, &t->n_sections, &t->room_sections, text);
    }
    if (!take(&text, "address-space: ")) {
        return input_fail(r->err, r->number, "neither 'address-space: ' nor 'memory-region: '");
    }
    if (r->state == INSIDE || t->n_sections) {
        return input_fail(r->err, r->number, t->n_sections ? "an address space after the memory regions"
                                                           : "no empty line before the heading");
    }
    if (r->state == BETWEEN && !start_tree(r, &t->groups, &t->n_groups, &t->room_groups, "")) {
        return false;
    }
    r->state = HEADING;
    if (!array_room((void **)&t->spaces, t->n_spaces, &t->room_spaces, sizeof(MtreeSpace))) {
        return input_no_memory(r->err, r->number);
    }
    t->spaces[t->n_spaces++] = (MtreeSpace){ text, (uint32_t)t->n_groups - 1, (uint32_t)r->number };
    return true;
}

static bool read_text(Reader *r, Input *in)
{
    char *text;
    size_t len;

    while ((text = input_line(in, &len, r->err))) {
        r->number = in->line;
        if (len == 0) {
            r->state = BETWEEN;
        } else if (text[0] != ' ' && strncmp(text, "[DETECTED", 9) != 0) {
            if (!read_heading(r, text)) {
                return false;
            }
        } else if (r->state == BETWEEN) {
            return input_fail(r->err, r->number, "a line without a heading");
        } else {
            MtreeLine l = {0};
            bool wraps;

            r->state = INSIDE;
            if (!take_line(r, text, &l, &wraps) || !place_line(r, &l, wraps)) {
                return false;
            }
        }
    }
    return !r->err->cause[0] && (r->tree.n_spaces || input_fail(r->err, 0, "no address spaces"));
}

/* The end of each subtree: lines stand in depth-first order. */
static void find_ends(Mtree *t)
{
    for (size_t i = t->n_lines; i > 0; i--) {
        MtreeLine *l = &t->lines[i - 1];

        l->end = l->end ? l->end : (uint32_t)i;
        if (l->up != TOPO_NONE && !t->lines[l->up].end) {
            t->lines[l->up].end = l->end;
        }
    }
}

bool mtree_finish(TopoFile *topo, InputError *err)
{
    Reader r = { .err = err };
    bool ok = read_text(&r, &topo->input);

    if (ok) {
        find_ends(&r.tree);
        ok = mtree_bind(&r.tree, err) && mtree_find_twins(&r.tree, err) && mtree_emit(&r.tree, topo, err) &&
             topo_index(topo, err) && topo_check_aliases(topo, err);
    }
    free(r.tree.lines);
    free(r.tree.groups);
    free(r.tree.sections);
    free(r.tree.spaces);
    free(r.path);
    if (!ok) {
        topo_free(topo);
    }
    return ok;
}

bool mtree_read(TopoFile *topo, const char *path, InputError *err)
{
    *topo = (TopoFile){0};
    return input_open(&topo->input, path, err) && mtree_finish(topo, err);
}

bool mtree_parse(TopoFile *topo, const char *text, size_t len, InputError *err)
{
    *topo = (TopoFile){0};
    return input_copy(&topo->input, text, len, err) && mtree_finish(topo, err);
}
