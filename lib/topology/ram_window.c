/* SPDX-License-Identifier: MIT */
/*
 * ram_window.c - memory that a region has for a time, on its way back to its owner.
 *
 * Invariant: released runs exactly once for each window that came into force, after every read section that could have found
 * its memory has ended and no view that could show it is pinned; never with a lock of the library held.
 * Established by: ram_window_retire(), at the end of the commit that replaced it, and region_fini(). Relied on by: owners, who
 * unmap the memory in released.
 */
#include "topology/ram_window.h"

#include "base/mem.h"

RamWindow *ram_window_new(void *ptr, void (*released)(void *ptr, void *arg), void *arg)
{
    RamWindow *window = mem_zalloc(sizeof(*window));

    if (window) {
        window->ptr = ptr;
        window->released = released;
        window->arg = arg;
    }
    return window;
}

void ram_window_discard(RamWindow *window)
{
    mem_free(window, sizeof(*window));
}

void ram_window_end(RamWindow *window)
{
    if (window) {
        if (window->released) {
            window->released(window->ptr, window->arg);
        }
        mem_free(window, sizeof(*window));
    }
}

static void window_free(RetireHead *head)
{
    ram_window_end(container_of(head, RamWindow, retire));
}

void ram_window_retire(RamWindow *window, const MemoryRegion *mr, uint64_t death)
{
    if (window) {
        /* From the region's first view on: it may have got this window later, and then waits for a pin too many. */
        window->retire = (RetireHead){.free = window_free, .birth = mr->first_gen, .death = death,
                                      .bytes = sizeof(*window), .kind = RETIRE_OBJECT};
        retire_push(&window->retire);
    }
}
