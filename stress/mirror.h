/* SPDX-License-Identifier: MIT */
/*
 * mirror.h - an address space as an accelerator sees it: built from listener events alone.
 */
#ifndef FLATVIEW_STRESS_MIRROR_H
#define FLATVIEW_STRESS_MIRROR_H

#include "sections.h"

typedef struct Mirror {
    MemoryListener listener;
    AddressSpace *as;
    Sections sections;
    bool attached;
    uint64_t events;        /* changes received */
    uint64_t seen_events;   /* at the last comparison that succeeded, */
    uint64_t seen_gen;      /* with the view of this generation */
    char fault[400];        /* the first event that made no sense; empty: none */
} Mirror;

/* Follow the space, by span_del/span_add or by region_del/region_add: memory_listener_register()'s return. */
int mirror_attach(Mirror *mirror, AddressSpace *as, bool by_spans, int priority);

/* memory_listener_unregister()'s return; afterwards the mirror must be empty, or it has a fault. */
int mirror_detach(Mirror *mirror);

/* Is the mirror what the view is? If not, why, in buf. */
bool mirror_matches(Mirror *mirror, FlatView *view, char *buf, size_t len);

#endif
