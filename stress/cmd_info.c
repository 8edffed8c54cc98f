/* SPDX-License-Identifier: MIT */
/*
 * cmd_info.c - `flatview info [--json] FILE`: what there is in a map, and what it costs.
 *
 * The regions are counted in the file, everything else is asked of the library, which has built it: so what `info` says
 * about views is what the machine would see. Numbers in JSON are exact as long as the reader's are 64 bits wide; addresses
 * and sizes, which may be 2^64, are strings in hexadecimal.
 */
#include "commands.h"

#include "info.h"
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

static void print_text(const TopoFile *topo, const MapInfo *map, const FlatView *const *views, size_t n_views,
                       const size_t *view_of)
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
            info_print_size(info.last_covered);
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
}

static void print_json_view(const TopoFile *topo, const FlatView *view, size_t v, const size_t *view_of)
{
    ViewInfo info = view_info(view);
    const MemoryRegion *root = flatview_root(view);
    const char *comma = "";

    printf("{\"root\": ");
    if (root) {
        info_print_string(memory_region_name(root));
    } else {
        printf("null");
    }
    printf(", \"ranges\": %zu, \"bytes\": \"", info.ranges);
    if (info.ranges) {
        info_print_size(info.last_covered);
        printf("\", \"first\": \"%" PRIx64 "\", \"last\": \"%" PRIx64 "\"", info.first, info.last);
    } else {
        printf("0\", \"first\": null, \"last\": null");
    }
    printf(", \"spaces\": [");
    for (size_t i = 0; i < topo->n_spaces; i++) {
        if (view_of[i] == v) {
            printf("%s", comma);
            info_print_string(topo->spaces[i].name);
            comma = ", ";
        }
    }
    printf("]}");
}

static void print_json(const char *path, const TopoFile *topo, const MapInfo *map, const FlatView *const *views,
                       size_t n_views, const size_t *view_of)
{
    printf("{\"file\": ");
    info_print_string(path);
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
    printf("],\n");
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
            print_json(path, topo, &map, views, n_views, view_of);
        } else {
            print_text(topo, &map, views, n_views, view_of);
        }
        memory_read_end();
        info_print_places(machine, json);
        info_print_stats(&stats, json);
        if (json) {
            printf("}\n");
        }
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
