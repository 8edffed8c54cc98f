/* SPDX-License-Identifier: MIT */
/*
 * storm_mirror.c - listeners that check what they are told.
 *
 * Invariant: from its registration to its end, a mirror's sections are the sum of the events that it was told, and at
 * every commit they are the view that is current then. What is demanded on the way (ORDERING: R6, R8):
 * - begin, prepare, removals, additions, commit come in this order, or begin, prepare, abort;
 * - what a removal takes away is in the mirror, and the current view still has it, as old_view;
 * - what an addition puts in overlaps nothing in the mirror, and the current view has it already, as new_view. The two
 *   together are "an accelerator never maps what dispatch would not honour", at every instant at which that can change;
 * - of one commit no removal comes after an addition, in any space; removals go down in priority, additions up.
 * All of it runs under the topology lock, which guards all of it.
 *
 * Mirrors are of three kinds: by spans, by QEMU's region_add and region_del, and with its region_nop.
 */
#include "storm.h"

#include <errno.h>
#include <string.h>

/* The commit that is being delivered, over all listeners here. */
static struct {
    enum { ROUND_OPEN, ROUND_REMOVING, ROUND_ADDING, ROUND_ENDING } phase;
    int priority;
} delivery = { .phase = ROUND_ENDING };

static StormMirror *mirror_of(MemoryListener *listener)
{
    return container_of(listener, StormMirror, listener);
}

static void complain(const StormMirror *m, const char *what, const MemoryRegionSection *s)
{
    char text[SECTION_TEXT] = "";

    storm_violation("mirror %s of %s: %s %s", m->listener.name, address_space_name(m->as), what,
                    s ? section_text(s, text) : "");
}

static void mirror_begin(MemoryListener *listener)
{
    StormMirror *m = mirror_of(listener);

    if (m->phase != MIRROR_IDLE) {
        complain(m, "begin in the middle of a round", NULL);
    }
    m->phase = MIRROR_BEGUN;
    m->delta = NULL;
    m->told = 0;
    delivery.phase = ROUND_OPEN;
}

static int mirror_prepare(MemoryListener *listener, const MemoryDelta *delta)
{
    StormMirror *m = mirror_of(listener);

    if (m->phase != MIRROR_BEGUN) {
        complain(m, "prepare without begin", NULL);
    }
    if (delta->as != m->as || (m->ready && delta->old_view != address_space_current(m->as))) {
        complain(m, "prepare with a delta from something that is not current", NULL);
    }
    m->delta = delta;
    m->phase = MIRROR_PREPARED;
    return 0;
}

static void mirror_abort(MemoryListener *listener, const MemoryDelta *delta)
{
    StormMirror *m = mirror_of(listener);

    if (m->phase != MIRROR_PREPARED || delta != m->delta) {
        complain(m, "abort of what was not prepared", NULL);
    }
    m->phase = MIRROR_IDLE;
    delivery.phase = ROUND_ENDING;
}

static void in_current(const StormMirror *m, const MemoryRegionSection *s, const char *what)
{
    MemoryRegionSection found;

    if (!flatview_find(address_space_current(m->as), s->offset_within_address_space, &found) ||
        !section_equal(&found, s)) {
        complain(m, what, s);
    }
}

static void removal(StormMirror *m, const MemoryRegionSection *s)
{
    const char *wrong = sections_take(&m->sections, s);

    if (wrong) {
        complain(m, wrong, s);
    }
    in_current(m, s, "removed when the view does not honour it any more:");
    if (m->phase == MIRROR_ADDING || m->phase == MIRROR_IDLE ||
        (m->delta && address_space_current(m->as) != m->delta->old_view)) {
        complain(m, "a removal out of order:", s);
    }
    m->phase = MIRROR_REMOVING;
    if (delivery.phase > ROUND_REMOVING ||
        (delivery.phase == ROUND_REMOVING && m->listener.priority > delivery.priority)) {
        complain(m, "a removal after an addition, or after one of lower priority:", s);
    }
    delivery.phase = ROUND_REMOVING;
    delivery.priority = m->listener.priority;
}

/* With region_nop, additions and what stays come as one ascending walk over the new view. */
static void walk_on(StormMirror *m, const MemoryRegionSection *s)
{
    if (!m->listener.region_nop) {
        return;
    }
    if (m->phase == MIRROR_ADDING && s->offset_within_address_space <= m->told_last) {
        complain(m, "told out of ascending order:", s);
    }
    m->told++;
    m->told_last = s->last;
}

static void mirror_region_nop(MemoryListener *listener, const MemoryRegionSection *s)
{
    StormMirror *m = mirror_of(listener);

    in_current(m, s, "said to stay, and is not in the view:");
    if (!sections_has(&m->sections, s)) {
        complain(m, "said to stay, and was never added:", s);
    }
    walk_on(m, s);
    m->phase = MIRROR_ADDING;
}

static void addition(StormMirror *m, const MemoryRegionSection *s)
{
    const char *wrong = sections_put(&m->sections, s);

    if (wrong) {
        complain(m, wrong, s);
    }
    in_current(m, s, "added when the view does not honour it yet:");
    if (!m->delta || m->phase == MIRROR_IDLE || address_space_current(m->as) != m->delta->new_view) {
        complain(m, "an addition out of order:", s);
    }
    walk_on(m, s);
    m->phase = MIRROR_ADDING;
    if (delivery.phase > ROUND_ADDING || (delivery.phase == ROUND_ADDING && m->listener.priority < delivery.priority)) {
        complain(m, "an addition after one of higher priority:", s);
    }
    delivery.phase = ROUND_ADDING;
    delivery.priority = m->listener.priority;
}

static void mirror_span_del(MemoryListener *listener, const MemorySpan *span)
{
    for (size_t i = span->n_old; i > 0; i--) {
        removal(mirror_of(listener), &span->old_sections[i - 1]);
    }
}

static void mirror_span_add(MemoryListener *listener, const MemorySpan *span)
{
    StormMirror *m = mirror_of(listener);

    for (size_t i = 0; i < span->n_new; i++) {
        const MemoryRegionSection *s = &span->new_sections[i];

        if (s->offset_within_address_space < span->first || s->last > span->last) {
            complain(m, "outside its span:", s);
        }
        addition(m, s);
    }
}

static void mirror_region_del(MemoryListener *listener, const MemoryRegionSection *section)
{
    removal(mirror_of(listener), section);
}

static void mirror_region_add(MemoryListener *listener, const MemoryRegionSection *section)
{
    addition(mirror_of(listener), section);
}

static void mirror_commit(MemoryListener *listener)
{
    StormMirror *m = mirror_of(listener);
    char what[400];

    if (m->phase == MIRROR_IDLE) {
        complain(m, "commit without begin", NULL);
    }
    /* The inverse at an unregistration comes without a delta, and leaves nothing. */
    if (m->delta ? !sections_match(&m->sections, address_space_current(m->as), what, sizeof(what)) : m->sections.n) {
        storm_violation("mirror %s of %s differs from the view: %s", listener->name, address_space_name(m->as),
                        m->delta ? what : "it is not empty at the end");
    }
    if (m->listener.region_nop && m->delta && m->told != m->sections.n) {
        complain(m, "not told of every range that stays", NULL);
    }
    m->phase = MIRROR_IDLE;
    m->ready = true;
    m->delta = NULL;
    delivery.phase = ROUND_ENDING;
}

static void mirror_detached(MemoryListener *listener)
{
    __atomic_store_n(&mirror_of(listener)->detached, true, __ATOMIC_RELEASE);
}

bool mirror_start(StormMirror *m, AddressSpace *as, const char *name, MirrorKind kind, int priority)
{
    int error;

    *m = (StormMirror){
        .as = as,
        .listener = {
            .begin = mirror_begin,
            .prepare = mirror_prepare,
            .abort = mirror_abort,
            .commit = mirror_commit,
            .detached = mirror_detached,
            .priority = priority,
            .name = name,
        },
    };
    if (kind == MIRROR_BY_SPANS) {
        m->listener.span_del = mirror_span_del;
        m->listener.span_add = mirror_span_add;
    } else {
        m->listener.region_del = mirror_region_del;
        m->listener.region_add = mirror_region_add;
        m->listener.region_nop = kind == MIRROR_WITH_NOPS ? mirror_region_nop : NULL;
    }
    error = memory_listener_register(&m->listener, as);
    if (error) {
        storm_violation("registering mirror %s: %s", name, strerror(-error));
    }
    return !error;
}

bool mirror_stop(StormMirror *m)
{
    int error = memory_listener_unregister(&m->listener);

    if (error) {
        storm_violation("unregistering mirror %s: %s", m->listener.name, strerror(-error));
    } else if (!__atomic_load_n(&m->detached, __ATOMIC_ACQUIRE)) {
        storm_violation("mirror %s was unregistered without being told so", m->listener.name);
    }
    sections_free(&m->sections);
    return !error;
}

/* ---- the one who says no ---- */

static int refuser_prepare(MemoryListener *listener, const MemoryDelta *delta)
{
    StormThread *t = storm_self;

    (void)listener;
    if (!t || !t->refuse || !delta->old_view || !delta->new_view) {
        return 0;
    }
    if (memory_transaction_begin() != -EBUSY) {
        storm_violation("a listener may begin a transaction");
    }
    t->was_refused = true;
    return t->refuse;
}

bool refuser_start(MemoryListener *listener, AddressSpace *as, int priority)
{
    *listener = (MemoryListener){ .prepare = refuser_prepare, .priority = priority, .name = "refuser" };
    return memory_listener_register(listener, as) == 0;
}
