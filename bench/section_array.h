/* SPDX-License-Identifier: MIT */
/*
 * section_array.h - what flatview_find() is measured against: the sections of a view in a sorted array, and a search in it
 * that has no branch which depends on the data. Both give the caller a copy of the section.
 *
 * Invariant: firsts ascends; section k is that of firsts[k]. Never changes once filled.
 */
#ifndef FLATVIEW_BENCH_SECTION_ARRAY_H
#define FLATVIEW_BENCH_SECTION_ARRAY_H

#include "bench.h"

#include <flatview/memory.h>

typedef struct SectionArray {
    size_t n;
    uint64_t *firsts;
    MemoryRegionSection *sections;
} SectionArray;

static inline int section_array_add(const MemoryRegionSection *section, void *arg)
{
    SectionArray *array = arg;

    array->firsts[array->n] = section->offset_within_address_space;
    array->sections[array->n++] = *section;
    return 0;
}

static inline SectionArray *section_array_new(const FlatView *view)
{
    SectionArray *array = bench_alloc(1, sizeof(*array));

    array->firsts = bench_alloc(flatview_count(view) + 1, sizeof(*array->firsts));
    array->sections = bench_alloc(flatview_count(view) + 1, sizeof(*array->sections));
    bench_check(flatview_for_each_range(view, 0, UINT64_MAX, section_array_add, array) == 0);
    bench_check(array->n == flatview_count(view));
    return array;
}

static inline void section_array_free(SectionArray *array)
{
    free(array->firsts);
    free(array->sections);
    free(array);
}

static inline bool section_array_find(const SectionArray *array, uint64_t addr, MemoryRegionSection *ret_section)
{
    const uint64_t *base = array->firsts;
    size_t n = array->n;
    const MemoryRegionSection *found;

    while (n > 1) {
        size_t half = n / 2;

        base += base[half] <= addr ? half : 0;
        n -= half;
    }
    found = &array->sections[base - array->firsts];
    if (addr < found->offset_within_address_space || addr > found->last) {
        return false;
    }
    *ret_section = *found;
    return true;
}

#endif
