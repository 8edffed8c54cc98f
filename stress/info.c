/* SPDX-License-Identifier: MIT */
/*
 * info.c - numbers and names, the library's figures, and where regions are.
 *
 * Places are asked of the library region by region (memory_region_for_each_address()), not read from views: so they are a
 * check of one by the other, which tests/oracle makes.
 */
#include "info.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

/* A size or length that is one more than @less_one. */
void info_print_size(uint64_t less_one)
{
    if (less_one == UINT64_MAX) {
        printf("10000000000000000");
    } else {
        printf("%" PRIx64, less_one + 1);
    }
}

/* As JSON wants it, whatever bytes a name has: what is no UTF-8 becomes U+FFFD. */
void info_print_string(const char *text)
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

/* ---- figures ---- */

static const struct {
    const char *name;
    size_t at;
} figures[] = {
#define FIGURE(name) { #name, offsetof(MemoryStats, name) }
    FIGURE(regions),
    FIGURE(address_spaces),
    FIGURE(views),
    FIGURE(kept_views),
    FIGURE(listeners),
    FIGURE(threads),
    FIGURE(iommu_notifiers),
    FIGURE(eventfds),
    FIGURE(coalesced_ranges),
    FIGURE(coalesced_waiting),
    FIGURE(log_clients),
    FIGURE(dirty_snapshots),
    FIGURE(discard_sources),
    FIGURE(discard_listeners),
    FIGURE(discard_rights),
    FIGURE(stopped_regions),
    FIGURE(interposed_ways),
    FIGURE(mappings),
    FIGURE(mapped_parts),
    FIGURE(bounce_bytes),
    FIGURE(map_clients),
    FIGURE(cached_windows),
    FIGURE(ram_blocks),
    FIGURE(ram_bytes),
    FIGURE(generation),
    FIGURE(commits),
    FIGURE(refused),
    FIGURE(aborted),
    FIGURE(live_bytes),
    FIGURE(retired_bytes),
    FIGURE(retired_peak),
    FIGURE(pinned_bytes),
    FIGURE(grace_periods),
    FIGURE(helped),
#undef FIGURE
};
#define N_FIGURES (sizeof(figures) / sizeof(figures[0]))
_Static_assert(N_FIGURES * sizeof(uint64_t) == sizeof(MemoryStats), "each figure is printed");

void info_print_stats(const MemoryStats *stats, bool json)
{
    size_t column = 0;

    printf(json ? " \"library\": {" : "library:");
    for (size_t i = 0; i < N_FIGURES; i++) {
        uint64_t value = *(const uint64_t *)(const void *)((const char *)stats + figures[i].at);

        if (json) {
            printf("%s\"%s\": %" PRIu64, i ? ", " : "", figures[i].name, value);
        } else {
            bool wrap = column > 90;

            column = wrap ? 0 : column;
            column += (size_t)printf("%s %s %" PRIu64, wrap ? ",\n " : i ? "," : "", figures[i].name, value);
        }
    }
    printf(json ? "}" : "\n");
}

/* ---- places ---- */

typedef struct Places {
    const MemoryRegion *mr;
    bool json;
    size_t n_regions, n; /* regions that have a place, and places of this one */
} Places;

static void print_host_text(const MemoryRegionSection *section)
{
    hwaddr offset;
    const MemoryRegion *found = memory_region_from_host(section->host, &offset);

    if (found) {
        printf(", in the host: %s at %" PRIx64, memory_region_name(found), offset);
    }
}

static void print_host_json(const MemoryRegionSection *section)
{
    hwaddr offset;
    const MemoryRegion *found = section->host ? memory_region_from_host(section->host, &offset) : NULL;

    if (found) {
        printf("{\"region\": ");
        info_print_string(memory_region_name(found));
        printf(", \"offset\": \"%" PRIx64 "\"}", offset);
    } else {
        printf("null");
    }
}

static int print_place(AddressSpace *as, const MemoryRegionSection *section, void *arg)
{
    Places *p = arg;

    p->n_regions += !p->n;
    if (p->json) {
        if (p->n++) {
            printf(",\n    ");
        } else {
            printf("%s\n  {\"region\": ", p->n_regions > 1 ? "," : "");
            info_print_string(memory_region_name(section->mr));
            printf(", \"places\": [\n    ");
        }
        printf("{\"space\": ");
        info_print_string(address_space_name(as));
        printf(", \"first\": \"%" PRIx64 "\", \"last\": \"%" PRIx64 "\", \"offset\": \"%" PRIx64
               "\", \"readonly\": %s, \"host\": ",
               section->offset_within_address_space, section->last, section->offset_within_region,
               section->readonly ? "true" : "false");
        print_host_json(section);
        printf("}");
    } else {
        if (!p->n++) {
            printf("region %s\n", memory_region_name(section->mr));
        }
        printf("  %016" PRIx64 "-%016" PRIx64 " of \"%s\": from %" PRIx64 "%s", section->offset_within_address_space,
               section->last, address_space_name(as), section->offset_within_region,
               section->readonly ? ", read-only" : "");
        if (section->host) {
            print_host_text(section);
        }
        putchar('\n');
    }
    return 0;
}

void info_print_places(const Machine *machine, bool json)
{
    Places p = { .json = json };
    size_t mapped = 0;

    printf(json ? " \"places\": [" : "");
    for (size_t i = 0; i < machine->topo->n_regions; i++) {
        MemoryRegion *mr = &machine->regions[i]->mr;

        p.n = 0;
        mapped += memory_region_is_mapped(mr);
        if (memory_region_for_each_address(mr, 0, UINT64_MAX, print_place, &p) < 0) {
            fprintf(stderr, "flatview: out of memory\n");
        }
        if (json && p.n) {
            printf("]}");
        }
    }
    if (json) {
        printf("],\n \"mapped\": %zu,\n", mapped);
    } else {
        printf("mapped: %zu regions; %zu answer at some address\n", mapped, p.n_regions);
    }
}
