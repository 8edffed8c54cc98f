/* SPDX-License-Identifier: MIT */
/*
 * mirror.c - checks each event against what was told before, and against the view that R8 promises at that moment.
 *
 * Invariant: without a fault, sections is the sum of all events so far. The first fault stays; what follows it is
 * noise. Runs under the topology lock, which is also what guards it.
 */
#include "mirror.h"

#include <stdio.h>
#include <string.h>

static void fault(Mirror *m, const char *event, const MemoryRegionSection *section, const char *what)
{
    char text[SECTION_TEXT];

    if (!m->fault[0]) {
        snprintf(m->fault, sizeof(m->fault), "%s: %s %s: %s", m->listener.name, event, section_text(section, text),
                 what);
    }
}

/* R8: removals see the old view, additions the new one. */
static bool is_current(Mirror *m, const MemoryRegionSection *section)
{
    MemoryRegionSection found;

    return flatview_find(address_space_current(m->as), section->offset_within_address_space, &found) &&
           section_equal(&found, section);
}

static void take(Mirror *m, const MemoryRegionSection *section)
{
    const char *wrong = sections_take(&m->sections, section);

    m->events++;
    if (wrong) {
        fault(m, "del", section, wrong);
    } else if (!is_current(m, section)) {
        fault(m, "del", section, "the old view is not current");
    }
}

static void put(Mirror *m, const MemoryRegionSection *section)
{
    const char *wrong = sections_put(&m->sections, section);

    m->events++;
    if (wrong) {
        fault(m, "add", section, wrong);
    } else if (!is_current(m, section)) {
        fault(m, "add", section, "the new view is not current");
    }
}

static void span_del(MemoryListener *listener, const MemorySpan *span)
{
    Mirror *m = container_of(listener, Mirror, listener);

    for (size_t i = span->n_old; i > 0; i--) {
        take(m, &span->old_sections[i - 1]);
    }
}

static void span_add(MemoryListener *listener, const MemorySpan *span)
{
    Mirror *m = container_of(listener, Mirror, listener);

    for (size_t i = 0; i < span->n_new; i++) {
        const MemoryRegionSection *section = &span->new_sections[i];

        if (section->offset_within_address_space < span->first || section->last > span->last) {
            fault(m, "add", section, "outside its span");
        }
        put(m, section);
    }
}

static void region_del(MemoryListener *listener, const MemoryRegionSection *section)
{
    take(container_of(listener, Mirror, listener), section);
}

static void region_add(MemoryListener *listener, const MemoryRegionSection *section)
{
    put(container_of(listener, Mirror, listener), section);
}

int mirror_attach(Mirror *mirror, AddressSpace *as, bool by_spans, int priority)
{
    int error;

    *mirror = (Mirror){ .as = as, .listener = { .priority = priority } };
    if (by_spans) {
        mirror->listener.name = "mirror by spans";
        mirror->listener.span_del = span_del;
        mirror->listener.span_add = span_add;
    } else {
        mirror->listener.name = "mirror by regions";
        mirror->listener.region_del = region_del;
        mirror->listener.region_add = region_add;
    }
    error = memory_listener_register(&mirror->listener, as);
    mirror->attached = !error;
    return error;
}

int mirror_detach(Mirror *mirror)
{
    int error = mirror->attached ? memory_listener_unregister(&mirror->listener) : 0;

    mirror->attached = false;
    if (!error && mirror->sections.n) {
        fault(mirror, "unregister", &mirror->sections.list[0], "was never deleted");
    }
    sections_free(&mirror->sections);
    return error;
}

bool mirror_matches(Mirror *mirror, FlatView *view, char *buf, size_t len)
{
    if (mirror->fault[0]) {
        snprintf(buf, len, "%s", mirror->fault);
        return false;
    }
    if (mirror->events == mirror->seen_events && flatview_generation(view) == mirror->seen_gen) {
        return true;
    }
    if (!sections_match(&mirror->sections, view, buf, len)) {
        return false;
    }
    mirror->seen_events = mirror->events;
    mirror->seen_gen = flatview_generation(view);
    return true;
}
