/* SPDX-License-Identifier: MIT */
/*
 * topo.c - the records of a `.topo` file, one line each.
 *
 * Invariant: what is stored here is well-formed line by line; that the lines fit together is topo_link.c's business. A
 * count in the file (NRANGES) is compared with what follows, never used to size anything.
 *
 *     # memtopo 1
 *     region ID CONTAINER OFFSET SIZE PRIO FLAGS ALIAS ALIAS_OFFSET DIRTY NAME
 *     coalesced ID START SIZE
 *     as N ROOT VIEW NAME
 *     view N ROOT NRANGES
 *     range START SIZE ID OFFSET DIRTY RFLAGS
 *
 * Records come in this order. A VIEW of `-` says that the view was not recorded, for maps written by hand.
 */
#include "topo.h"

#include "mtree.h"

#include <stdlib.h>
#include <string.h>

static const char header[] = "# memtopo 1";
static const char flag_letters[] = "etmrvdoixb";

#define DIRTY_MAX 7 /* VGA, code, migration */

static bool read_id(Fields *f, const char *what, bool may_be_none, uint64_t *ret)
{
    const char *word;

    if (may_be_none && f->at && f->at[0] == '-' && (f->at[1] == ' ' || f->at[1] == '\0')) {
        *ret = UINT64_MAX;
        return fields_word(f, what, &word);
    }
    return fields_dec(f, what, TOPO_ID_MAX, ret);
}

static bool read_flags(Fields *f, uint16_t *ret)
{
    const char *word;
    uint16_t flags = 0;

    if (!fields_word(f, "FLAGS", &word)) {
        return false;
    }
    if (strlen(word) != strlen(flag_letters)) {
        return input_fail(f->err, f->line, "FLAGS '%.40s' are not %zu letters", word, strlen(flag_letters));
    }
    for (unsigned i = 0; flag_letters[i]; i++) {
        if (word[i] == flag_letters[i]) {
            flags |= (uint16_t)(1u << i);
        } else if (word[i] != '-') {
            return input_fail(f->err, f->line, "FLAGS '%s': letter %u is neither '%c' nor '-'", word, i + 1,
                              flag_letters[i]);
        }
    }
    *ret = flags;
    return true;
}

/* The kinds of region there are; QEMU makes no others. */
static const char *kind_fault(const TopoRegion *r)
{
    unsigned kind = r->flags & TOPO_KIND_FLAGS;

    if (r->alias_id != UINT64_MAX) {
        return kind ? "an alias has no kind of its own" : NULL;
    }
    if (kind & ~TOPO_TERMINATES && !(kind & TOPO_TERMINATES)) {
        return "a region with a kind must terminate";
    }
    if (!!(kind & TOPO_RAM) + !!(kind & TOPO_ROM_DEVICE) + !!(kind & TOPO_IOMMU) > 1) {
        return "RAM, ROM device and IOMMU exclude each other";
    }
    if (kind & TOPO_RAM_DEVICE && !(kind & TOPO_RAM)) {
        return "device RAM that is not RAM";
    }
    if (!(kind & TOPO_BLOCK) != !(kind & (TOPO_RAM | TOPO_ROM_DEVICE))) {
        return "RAM and ROM devices, and only they, are backed by a block";
    }
    if (!(kind & TOPO_ROM_DEVICE) && !(r->flags & TOPO_ROMD)) {
        return "only a ROM device can leave read mode";
    }
    return NULL;
}

TopoRegion *topo_add_region(TopoFile *topo)
{
    if (topo->n_regions == TOPO_NONE ||
        !array_room((void **)&topo->regions, topo->n_regions, &topo->room_regions, sizeof(TopoRegion))) {
        return NULL;
    }
    topo->regions[topo->n_regions] = (TopoRegion){
        .container_id = UINT64_MAX, .alias_id = UINT64_MAX, .container = TOPO_NONE, .alias = TOPO_NONE,
        .first_child = TOPO_NONE, .last_child = TOPO_NONE, .below = TOPO_NONE, .above = TOPO_NONE,
    };
    return &topo->regions[topo->n_regions++];
}

static bool read_region(TopoFile *topo, Fields *f)
{
    TopoRegion *r = topo_add_region(topo);
    uint64_t dirty;
    const char *fault;

    if (!r) {
        return input_no_memory(f->err, f->line);
    }
    r->line = (uint32_t)f->line;
    if (!read_id(f, "ID", false, &r->id) || !read_id(f, "CONTAINER", true, &r->container_id) ||
        !fields_hex(f, "OFFSET", UINT64_MAX, &r->offset) || !fields_size(f, "SIZE", &r->size) ||
        !fields_int(f, "PRIO", &r->priority) || !read_flags(f, &r->flags) ||
        !read_id(f, "ALIAS", true, &r->alias_id) ||
        !fields_hex(f, "ALIAS_OFFSET", UINT64_MAX, &r->alias_offset) || !fields_hex(f, "DIRTY", DIRTY_MAX, &dirty) ||
        !fields_rest(f, "NAME", &r->name)) {
        return false;
    }
    r->dirty = (uint8_t)dirty;
    fault = kind_fault(r);
    if (fault) {
        return input_fail(f->err, f->line, "%s", fault);
    }
    if (r->alias_id == UINT64_MAX && r->alias_offset) {
        return input_fail(f->err, f->line, "ALIAS_OFFSET without ALIAS");
    }
    return true;
}

static bool read_coalesced(TopoFile *topo, Fields *f)
{
    TopoCoalesced *c;

    if (!array_room((void **)&topo->coalesced, topo->n_coalesced, &topo->room_coalesced, sizeof(*c))) {
        return input_no_memory(f->err, f->line);
    }
    c = &topo->coalesced[topo->n_coalesced++];
    c->line = (uint32_t)f->line;
    return read_id(f, "ID", false, &c->region_id) && fields_hex(f, "START", UINT64_MAX, &c->start) &&
           fields_size(f, "SIZE", &c->size) && fields_end(f);
}

/* Records of a kind are numbered from 0, which finds lost lines. */
static bool read_number(Fields *f, size_t expected)
{
    uint64_t n;

    if (!fields_dec(f, "N", TOPO_NONE - 1, &n)) {
        return false;
    }
    return n == expected ||
           input_fail(f->err, f->line, "number %llu where %zu is due", (unsigned long long)n, expected);
}

TopoSpace *topo_add_space(TopoFile *topo, unsigned long line, InputError *err)
{
    if (topo->n_spaces == TOPO_MAX_SPACES) {
        input_fail(err, line, "more than %u address spaces", TOPO_MAX_SPACES);
        return NULL;
    }
    if (!array_room((void **)&topo->spaces, topo->n_spaces, &topo->room_spaces, sizeof(TopoSpace))) {
        input_no_memory(err, line);
        return NULL;
    }
    topo->spaces[topo->n_spaces] = (TopoSpace){ .view = TOPO_NONE, .line = (uint32_t)line };
    return &topo->spaces[topo->n_spaces++];
}

static bool read_space(TopoFile *topo, Fields *f)
{
    TopoSpace *s = topo_add_space(topo, f->line, f->err);
    uint64_t view;

    if (!s || !read_number(f, topo->n_spaces - 1) || !read_id(f, "ROOT", false, &s->root_id)) {
        return false;
    }
    if (f->at && f->at[0] == '-' && f->at[1] == ' ') {
        f->at += 2;
    } else if (!fields_dec(f, "VIEW", TOPO_NONE - 1, &view)) {
        return false;
    } else {
        s->view = (uint32_t)view;
    }
    return fields_rest(f, "NAME", &s->name);
}

/* Before a new view, and at the end: are the ranges of the last one all there? */
static bool view_complete(const TopoFile *topo, InputError *err)
{
    const TopoView *v = topo->n_views ? &topo->views[topo->n_views - 1] : NULL;
    size_t got = v ? topo->n_ranges - v->first_range : 0;

    return !v || got == v->n_ranges ||
           input_fail(err, v->line, "%zu ranges announced, %zu present", v->n_ranges, got);
}

static bool read_view(TopoFile *topo, Fields *f)
{
    TopoView *v;
    uint64_t n_ranges;

    if (!view_complete(topo, f->err)) {
        return false;
    }
    if (!array_room((void **)&topo->views, topo->n_views, &topo->room_views, sizeof(*v))) {
        return input_no_memory(f->err, f->line);
    }
    v = &topo->views[topo->n_views];
    v->line = (uint32_t)f->line;
    if (!read_number(f, topo->n_views++) || !read_id(f, "ROOT", true, &v->root_id) ||
        !fields_dec(f, "NRANGES", SIZE_MAX, &n_ranges) || !fields_end(f)) {
        return false;
    }
    v->first_range = topo->n_ranges;
    v->n_ranges = (size_t)n_ranges;
    return true;
}

static bool read_range_flags(Fields *f, uint16_t *ret)
{
    static const struct {
        char letter;
        uint16_t flag;
    } letters[] = { { 'r', TOPO_READONLY }, { 'v', TOPO_NONVOLATILE }, { 'o', TOPO_ROMD } };
    const char *word;
    uint16_t flags = 0;

    if (!fields_word(f, "RFLAGS", &word)) {
        return false;
    }
    for (unsigned i = 0; i < 3; i++) {
        if (strlen(word) != 3 || (word[i] != '-' && word[i] != letters[i].letter)) {
            return input_fail(f->err, f->line, "RFLAGS '%.40s' are not 'rvo' or '-' in their places", word);
        }
        flags |= word[i] == '-' ? 0 : letters[i].flag;
    }
    *ret = flags;
    return true;
}

static bool read_range(TopoFile *topo, Fields *f)
{
    const TopoView *v = topo->n_views ? &topo->views[topo->n_views - 1] : NULL;
    TopoRange *r;
    uint64_t size, dirty;

    if (!v || topo->n_ranges - v->first_range == v->n_ranges) {
        return input_fail(f->err, f->line, "a range beyond what its view announced");
    }
    if (!array_room((void **)&topo->ranges, topo->n_ranges, &topo->room_ranges, sizeof(*r))) {
        return input_no_memory(f->err, f->line);
    }
    r = &topo->ranges[topo->n_ranges++];
    r->line = (uint32_t)f->line;
    /* Here 2^64-1 bytes are possible, so the size is not read with fields_size(). */
    if (!fields_hex(f, "START", UINT64_MAX, &r->first)) {
        return false;
    }
    if (f->at && strncmp(f->at, "10000000000000000 ", 18) == 0 && r->first == 0) {
        f->at += 18;
        r->last = UINT64_MAX;
    } else if (!fields_hex(f, "SIZE", UINT64_MAX, &size)) {
        return false;
    } else if (size == 0 || size - 1 > UINT64_MAX - r->first) {
        return input_fail(f->err, f->line, "a range of no bytes, or beyond 2^64");
    } else {
        r->last = r->first + (size - 1);
    }
    if (!read_id(f, "ID", false, &r->region_id) || !fields_hex(f, "OFFSET", UINT64_MAX, &r->offset) ||
        !fields_hex(f, "DIRTY", DIRTY_MAX, &dirty) || !read_range_flags(f, &r->flags) || !fields_end(f)) {
        return false;
    }
    r->dirty = (uint8_t)dirty;
    return topo->n_ranges - 1 == v->first_range || r[-1].last < r->first ||
           input_fail(f->err, f->line, "ranges of a view overlap or descend");
}

static const struct {
    const char *word;
    bool (*read)(TopoFile *topo, Fields *f);
    unsigned stage; /* never descends; views and ranges alternate */
} records[] = {
    { "region", read_region, 0 }, { "coalesced", read_coalesced, 1 }, { "as", read_space, 2 },
    { "view", read_view, 3 },     { "range", read_range, 3 },
};

static bool read_records(TopoFile *topo, InputError *err)
{
    unsigned stage = 0;
    size_t len, i;
    char *line = input_line(&topo->input, &len, err);

    if (!line || strcmp(line, header) != 0) {
        return !line && err->cause[0] ? false : input_fail(err, 1, "the first line is not '%s'", header);
    }
    while ((line = input_line(&topo->input, &len, err))) {
        Fields fields = { line, topo->input.line, err };
        const char *word;

        if (line[0] == '#' || line[0] == '\0') {
            continue;
        }
        if (!fields_word(&fields, "the record's name", &word)) {
            return false;
        }
        for (i = 0; i < sizeof(records) / sizeof(records[0]) && strcmp(word, records[i].word) != 0; i++) {
        }
        if (i == sizeof(records) / sizeof(records[0])) {
            return input_fail(err, topo->input.line, "no record is called '%.40s'", word);
        }
        if (records[i].stage < stage) {
            return input_fail(err, topo->input.line, "'%s' too late: regions, coalesced, as, views come in this order",
                              word);
        }
        stage = records[i].stage;
        if (!records[i].read(topo, &fields)) {
            return false;
        }
    }
    return !err->cause[0] && view_complete(topo, err);
}

static bool finish(TopoFile *topo, InputError *err)
{
    if (read_records(topo, err) && topo_link(topo, err)) {
        return true;
    }
    topo_free(topo);
    return false;
}

bool topo_read(TopoFile *topo, const char *path, InputError *err)
{
    *topo = (TopoFile){0};
    return input_open(&topo->input, path, err) && finish(topo, err);
}

bool topo_read_any(TopoFile *topo, const char *path, InputError *err)
{
    static const char tree[] = "address-space: ";

    *topo = (TopoFile){0};
    if (!input_open(&topo->input, path, err)) {
        return false;
    }
    if (topo->input.len >= strlen(tree) && memcmp(topo->input.text, tree, strlen(tree)) == 0) {
        return mtree_finish(topo, err);
    }
    return finish(topo, err);
}

bool topo_parse(TopoFile *topo, const char *text, size_t len, InputError *err)
{
    *topo = (TopoFile){0};
    return input_copy(&topo->input, text, len, err) && finish(topo, err);
}

void topo_free(TopoFile *topo)
{
    input_close(&topo->input);
    free(topo->regions);
    free(topo->coalesced);
    free(topo->spaces);
    free(topo->views);
    free(topo->ranges);
    free(topo->by_id);
    *topo = (TopoFile){0};
}
