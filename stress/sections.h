/* SPDX-License-Identifier: MIT */
/*
 * sections.h - a list of ranges of one address space, kept by hand: what a view should be.
 */
#ifndef FLATVIEW_STRESS_SECTIONS_H
#define FLATVIEW_STRESS_SECTIONS_H

#include <flatview/memory.h>

typedef struct Sections {
    MemoryRegionSection *list; /* disjoint, ascending */
    size_t n, room;
} Sections;

void sections_free(Sections *s);

/* NULL, or what is wrong: no memory, an overlap; not there. Put at the end and taken from the end they cost nothing. */
const char *sections_put(Sections *s, const MemoryRegionSection *section);
const char *sections_take(Sections *s, const MemoryRegionSection *section);

bool sections_has(const Sections *s, const MemoryRegionSection *section);

bool section_equal(const MemoryRegionSection *a, const MemoryRegionSection *b);

/* `10 bytes of uart at 3f8 +0 r`: for complaints. Returns buf. */
#define SECTION_TEXT 160
const char *section_text(const MemoryRegionSection *section, char buf[SECTION_TEXT]);

/* All of a view. */
const char *sections_of(Sections *s, const FlatView *view);

/* Does the view have exactly these? If not, the first difference in @buf. */
bool sections_match(const Sections *s, const FlatView *view, char *buf, size_t len);

#endif
