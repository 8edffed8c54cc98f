/* SPDX-License-Identifier: MIT */
/*
 * sections.c - the simplest thing that can hold a view: a sorted array. It is the judge, so it shares nothing with what
 * it judges.
 */
#include "sections.h"

#include "input.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sections_free(Sections *s)
{
    free(s->list);
    *s = (Sections){0};
}

/* Index of the first that ends at or after addr. */
static size_t place_of(const Sections *s, hwaddr addr)
{
    size_t low = 0, high = s->n;

    if (s->n && s->list[s->n - 1].last < addr) {
        return s->n;
    }
    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (s->list[mid].last < addr) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

const char *sections_put(Sections *s, const MemoryRegionSection *section)
{
    size_t i = place_of(s, section->offset_within_address_space);

    if (section->last < section->offset_within_address_space) {
        return "ends before it begins";
    }
    if (i < s->n && s->list[i].offset_within_address_space <= section->last) {
        return "overlaps what is there";
    }
    if (!array_room((void **)&s->list, s->n, &s->room, sizeof(*s->list))) {
        return "out of memory";
    }
    memmove(s->list + i + 1, s->list + i, (s->n - i) * sizeof(*s->list));
    s->list[i] = *section;
    s->n++;
    return NULL;
}

const char *sections_take(Sections *s, const MemoryRegionSection *section)
{
    size_t i = place_of(s, section->offset_within_address_space);

    if (i == s->n || !section_equal(&s->list[i], section)) {
        return "is not there";
    }
    memmove(s->list + i, s->list + i + 1, (s->n - i - 1) * sizeof(*s->list));
    s->n--;
    return NULL;
}

bool sections_has(const Sections *s, const MemoryRegionSection *section)
{
    size_t i = place_of(s, section->offset_within_address_space);

    return i < s->n && section_equal(&s->list[i], section);
}

bool section_equal(const MemoryRegionSection *a, const MemoryRegionSection *b)
{
    return a->mr == b->mr && a->offset_within_address_space == b->offset_within_address_space && a->last == b->last &&
           a->offset_within_region == b->offset_within_region && a->host == b->host && a->readonly == b->readonly &&
           a->nonvolatile == b->nonvolatile && a->romd == b->romd;
}

const char *section_text(const MemoryRegionSection *section, char buf[SECTION_TEXT])
{
    snprintf(buf, SECTION_TEXT, "%" PRIx64 "-%" PRIx64 " of %.60s +%" PRIx64 " %c%c%c",
             section->offset_within_address_space, section->last, memory_region_name(section->mr),
             section->offset_within_region, section->readonly ? 'r' : '-', section->nonvolatile ? 'v' : '-',
             section->romd ? 'o' : '-');
    return buf;
}

static int put_one(const MemoryRegionSection *section, void *arg)
{
    return sections_put(arg, section) ? 1 : 0;
}

const char *sections_of(Sections *s, const FlatView *view)
{
    s->n = 0;
    return flatview_for_each_range(view, 0, UINT64_MAX, put_one, s) ? "ranges not ascending, or out of memory" : NULL;
}

struct Match {
    const Sections *sections;
    size_t i;
    char *buf;
    size_t len;
};

static int match_one(const MemoryRegionSection *section, void *arg)
{
    struct Match *m = arg;
    char has[SECTION_TEXT], should[SECTION_TEXT];

    if (m->i < m->sections->n && section_equal(&m->sections->list[m->i], section)) {
        m->i++;
        return 0;
    }
    snprintf(m->buf, m->len, "view has %s, not %s", section_text(section, has),
             m->i < m->sections->n ? section_text(&m->sections->list[m->i], should) : "its end");
    return 1;
}

bool sections_match(const Sections *s, const FlatView *view, char *buf, size_t len)
{
    struct Match m = { s, 0, buf, len };
    char should[SECTION_TEXT];

    if (flatview_for_each_range(view, 0, UINT64_MAX, match_one, &m)) {
        return false;
    }
    if (m.i < s->n) {
        snprintf(buf, len, "view ends before %s", section_text(&s->list[m.i], should));
        return false;
    }
    return true;
}
