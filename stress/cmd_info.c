/* SPDX-License-Identifier: MIT */
/*
 * cmd_info.c - `flatview info [--json] FILE`: what there is in a map, and what it costs.
 *
 * The regions are counted in the file, everything else is asked of the library, which has built it: so what `info` says
 * about views is what the machine would see. Numbers in JSON are exact as long as the reader's are 64 bits wide; addresses
 * and sizes, which may be 2^64, are strings in hexadecimal.
 */
#include "commands.h"

#include "machine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum Kind { KIND_CONTAINER, KIND_IO, KIND_RAM, KIND_ROM, KIND_ROM_DEVICE, KIND_RAM_DEVICE, KIND_IOMMU, KIND_ALIAS, N_KINDS };

static const char *const kind_names[N_KINDS] = {
    "container", "io", "ram", "rom", "rom_device", "ram_device", "iommu", "alias",
};

typedef struct MapInfo {
    size_t regions, disabled, by_kind[N_KINDS];
    unsigned depth, alias_depth; /* regions within each other; aliases one after the other; the most there are */
} MapInfo;

typedef struct ViewInfo {
    size_t ranges;
    uint64_t last_covered; /* bytes in ranges, less one; may be 2^64 in all */
    hwaddr first, last;
} ViewInfo;

static enum Kind kind_of(const TopoRegion *r)
{
    if (r->alias != TOPO_NONE) {
        return KIND_ALIAS;
    }
    if (r->flags & TOPO_IOMMU) {
        return KIND_IOMMU;
    }
    if (r->flags & TOPO_ROM_DEVICE) {
        return KIND_ROM_DEVICE;
    }
    if (r->flags & TOPO_RAM) {
        return r->flags & TOPO_RAM_DEVICE ? KIND_RAM_DEVICE : r->flags & TOPO_READONLY ? KIND_ROM : KIND_RAM;
    }
    return r->flags & TOPO_TERMINATES ? KIND_IO : KIND_CONTAINER;
}

static MapInfo map_info(const TopoFile *topo)
{
    MapInfo info = { .regions = topo->n_regions };

    for (size_t i = 0; i < topo->n_regions; i++) {
        const TopoRegion *r = &topo->regions[i];
        unsigned hops = 0;

        info.by_kind[kind_of(r)]++;
        info.disabled += !(r->flags & TOPO_ENABLED);
        info.depth = r->depth + 1u > info.depth ? r->depth + 1u : info.depth;
        for (uint32_t to = r->alias; to != TOPO_NONE; to = topo->regions[to].alias) {
            hops++;
        }
        info.alias_depth = hops > info.alias_depth ? hops : info.alias_depth;
    }
    return info;
}

static int count_range(const MemoryRegionSection *section, void *arg)
{
    ViewInfo *info = arg;

    if (!info->ranges) {
        info->first = section->offset_within_address_space;
    }
    info->last_covered += section->last - section->offset_within_address_space + 1;
    info->last = section->last;
    info->ranges++;
    return 0;
}

static ViewInfo view_info(const FlatView *view)
{
    ViewInfo info = { .last_covered = UINT64_MAX };

    flatview_for_each_range(view, 0, UINT64_MAX, count_range, &info);
    return info;
}

/* A size or length that is one more than @less_one. */
static void print_size(uint64_t less_one)
{
    if (less_one == UINT64_MAX) {
        printf("10000000000000000");
    } else {
        printf("%" PRIx64, less_one + 1);
    }
}

/* As JSON wants it, whatever bytes a name has: what is no UTF-8 becomes U+FFFD. */
static void print_string(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;

    putchar('"');
    while (*s) {
        static const struct {
            unsigned char mask, lead;
            unsigned more;
            uint32_t least;
        } forms[] = { { 0x80, 0x00, 0, 0 }, { 0xe0, 0xc0, 1, 0x80 }, { 0xf0, 0xe0, 2, 0x800 }, { 0xf8, 0xf0, 3, 0x10000 } };
        uint32_t code = 0;
        unsigned form, n;

        for (form = 0; form < 4 && (*s & forms[form].mask) != forms[form].lead; form++) {
        }
        if (form < 4) {
            code = *s & ~forms[form].mask & 0xffu;
            for (n = 1; n <= forms[form].more && (s[n] & 0xc0) == 0x80; n++) {
                code = code << 6 | (s[n] & 0x3fu);
            }
            if (n <= forms[form].more || code < forms[form].least || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
                form = 4;
            }
        }
        if (form == 4) {
            printf("\\ufffd");
            s++;
        } else if (code < 0x20 || code == 0x7f || code == '"' || code == '\\') {
            printf("\\u%04" PRIx32, code);
            s++;
        } else {
            fwrite(s, 1, forms[form].more + 1u, stdout);
            s += forms[form].more + 1;
        }
    }
    putchar('"');
}

/* Views of the machine's spaces, each once, in order of the first space that has it; view_of[space] is its index. */
static size_t gather_views(const Machine *machine, const FlatView **views, size_t *view_of)
{
    size_t n = 0, v;

    for (size_t i = 0; i < machine->topo->n_spaces; i++) {
        const FlatView *view = address_space_current(&machine->spaces[i]->as);

        for (v = 0; v < n && views[v] != view; v++) {
        }
        if (v == n) {
            views[n++] = view;
        }
        view_of[i] = v;
    }
    return n;
}

static void print_stats_text(const MemoryStats *s)
{
    printf("library: %" PRIu64 " regions, %" PRIu64 " address spaces, %" PRIu64 " views alive\n"
           "memory: %" PRIu64 " bytes in structures, %" PRIu64 " retired, %" PRIu64 " pinned; %" PRIu64
           " RAM blocks of %" PRIu64 " bytes\n",
           s->regions, s->address_spaces, s->views, s->live_bytes, s->retired_bytes, s->pinned_bytes, s->ram_blocks,
           s->ram_bytes);
}

static void print_text(const TopoFile *topo, const MapInfo *map, const FlatView *const *views, size_t n_views,
                       const size_t *view_of, const MemoryStats *stats)
{
    printf("regions: %zu, %zu of them disabled;", map->regions, map->disabled);
    for (int kind = 0; kind < N_KINDS; kind++) {
        printf("%s %zu %s", kind ? "," : "", map->by_kind[kind], kind_names[kind]);
    }
    printf("\ndepth: %u regions within each other, %u aliases one after the other\n", map->depth, map->alias_depth);
    printf("address spaces: %zu, seeing %zu views\n", topo->n_spaces, n_views);
    for (size_t v = 0; v < n_views; v++) {
        ViewInfo info = view_info(views[v]);
        const MemoryRegion *root = flatview_root(views[v]);

        printf("view %zu of %s: %zu ranges", v, root ? memory_region_name(root) : "nothing", info.ranges);
        if (info.ranges) {
            printf(", ");
            print_size(info.last_covered);
            printf(" bytes from %016" PRIx64 " to %016" PRIx64, info.first, info.last);
        }
        printf(", seen by");
        for (size_t i = 0; i < topo->n_spaces; i++) {
            if (view_of[i] == v) {
                printf(" \"%s\"", topo->spaces[i].name);
            }
        }
        putchar('\n');
    }
    print_stats_text(stats);
}

static void print_json_view(const TopoFile *topo, const FlatView *view, size_t v, const size_t *view_of)
{
    ViewInfo info = view_info(view);
    const MemoryRegion *root = flatview_root(view);
    const char *comma = "";

    printf("{\"root\": ");
    if (root) {
        print_string(memory_region_name(root));
    } else {
        printf("null");
    }
    printf(", \"ranges\": %zu, \"bytes\": \"", info.ranges);
    if (info.ranges) {
        print_size(info.last_covered);
        printf("\", \"first\": \"%" PRIx64 "\", \"last\": \"%" PRIx64 "\"", info.first, info.last);
    } else {
        printf("0\", \"first\": null, \"last\": null");
    }
    printf(", \"spaces\": [");
    for (size_t i = 0; i < topo->n_spaces; i++) {
        if (view_of[i] == v) {
            printf("%s", comma);
            print_string(topo->spaces[i].name);
            comma = ", ";
        }
    }
    printf("]}");
}

static void print_json(const char *path, const TopoFile *topo, const MapInfo *map, const FlatView *const *views,
                       size_t n_views, const size_t *view_of, const MemoryStats *s)
{
    printf("{\"file\": ");
    print_string(path);
    printf(",\n \"regions\": {\"total\": %zu, \"disabled\": %zu", map->regions, map->disabled);
    for (int kind = 0; kind < N_KINDS; kind++) {
        printf(", \"%s\": %zu", kind_names[kind], map->by_kind[kind]);
    }
    printf(", \"depth\": %u, \"alias_depth\": %u},\n \"spaces\": %zu,\n \"views\": [", map->depth, map->alias_depth,
           topo->n_spaces);
    for (size_t v = 0; v < n_views; v++) {
        printf("%s\n  ", v ? "," : "");
        print_json_view(topo, views[v], v, view_of);
    }
    printf("],\n \"library\": {\"regions\": %" PRIu64 ", \"address_spaces\": %" PRIu64 ", \"views\": %" PRIu64
           ", \"listeners\": %" PRIu64 ", \"iommu_notifiers\": %" PRIu64 ", \"eventfds\": %" PRIu64
           ", \"mappings\": %" PRIu64 ", \"generation\": %" PRIu64
           ", \"commits\": %" PRIu64 ", \"live_bytes\": %" PRIu64 ", \"retired_bytes\": %" PRIu64
           ", \"pinned_bytes\": %" PRIu64 ", \"ram_blocks\": %" PRIu64 ", \"ram_bytes\": %" PRIu64 "}}\n",
           s->regions, s->address_spaces, s->views, s->listeners, s->iommu_notifiers, s->eventfds, s->mappings, s->generation, s->commits,
           s->live_bytes, s->retired_bytes, s->pinned_bytes, s->ram_blocks, s->ram_bytes);
}

static bool describe(const char *path, const Machine *machine, bool json)
{
    const TopoFile *topo = machine->topo;
    const FlatView **views = calloc(topo->n_spaces + 1, sizeof(*views));
    size_t *view_of = calloc(topo->n_spaces + 1, sizeof(*view_of)), n_views;
    MapInfo map = map_info(topo);
    MemoryStats stats;
    bool ok = views && view_of;

    if (ok) {
        memory_get_stats(&stats);
        memory_read_begin();
        n_views = gather_views(machine, views, view_of);
        if (json) {
            print_json(path, topo, &map, views, n_views, view_of, &stats);
        } else {
            print_text(topo, &map, views, n_views, view_of, &stats);
        }
        memory_read_end();
    } else {
        fprintf(stderr, "flatview: %s\n", strerror(ENOMEM));
    }
    free(views);
    free(view_of);
    return ok;
}

int info_main(int argc, char **argv)
{
    bool json = argc == 3 && strcmp(argv[1], "--json") == 0;
    int status = EXIT_UNUSABLE;
    TopoFile topo;
    Machine machine;
    InputError err;

    if (argc != 2 + json) {
        fprintf(stderr, "usage: flatview info [--json] FILE\n");
        return status;
    }
    if (!topo_read_any(&topo, argv[argc - 1], &err)) {
        input_complain(argv[argc - 1], &err);
        return status;
    }
    machine_init(&machine, NULL);
    if (!machine_become(&machine, &topo, NULL, &err)) {
        input_complain(argv[argc - 1], &err);
    } else if (describe(argv[argc - 1], &machine, json)) {
        status = EXIT_OK;
    }
    machine_fini(&machine, NULL);
    topo_free(&topo);
    return status;
}
