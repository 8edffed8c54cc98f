/* SPDX-License-Identifier: MIT */
/*
 * ram_window.h - memory that a region has for a time.
 */
#ifndef FLATVIEW_TOPOLOGY_RAM_WINDOW_H
#define FLATVIEW_TOPOLOGY_RAM_WINDOW_H

#include "base/retire.h"
#include "topology/region.h"

typedef struct RamWindow {
    RetireHead retire;
    void *ptr;
    void (*released)(void *ptr, void *arg); /* may be NULL */
    void *arg;
} RamWindow;

RamWindow *ram_window_new(void *ptr, void (*released)(void *ptr, void *arg), void *arg); /* NULL: -ENOMEM */
void ram_window_discard(RamWindow *window); /* nobody has seen it: its memory stays the caller's; NULL is a no-op */
void ram_window_end(RamWindow *window);     /* nobody can see it any more: tell its owner; NULL is a no-op */
/* Its region shows something else from generation death on. Under the topology lock. NULL is a no-op. */
void ram_window_retire(RamWindow *window, const MemoryRegion *mr, uint64_t death);

#endif
