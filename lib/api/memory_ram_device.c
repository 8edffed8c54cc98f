/* SPDX-License-Identifier: MIT */
/*
 * memory_ram_device.c - regions of mapped hardware: check the contract, begin, change, end.
 *
 * Invariant: only a region that was made without memory of its own can be given some: its memory is a RamWindow or nothing, and
 * block is NULL.
 */
#include <errno.h>

#include <flatview/memory_ram_device.h>

#include "publish/change.h"
#include "topology/ram_window.h"

int memory_region_ram_device_set_ptr(MemoryRegion *mr, void *ptr, void (*released)(void *ptr, void *arg), void *arg)
{
    RamWindow *window = NULL;
    int err, end;

    if (!mr || (!ptr && released)) {
        return -EINVAL;
    }
    err = txn_begin();
    if (err < 0) {
        return err;
    }
    err = region_adopt(mr);
    if (err == 0 && (mr->kind != MEMORY_KIND_RAM_DEVICE || mr->block)) {
        err = -EINVAL;
    }
    if (err == 0 && ptr) {
        window = ram_window_new(ptr, released, arg);
        err = window ? 0 : -ENOMEM;
    }
    if (err == 0) {
        err = change_window(mr, window);
        if (err < 0) {
            ram_window_discard(window);
        }
    }
    end = txn_end();
    return err < 0 ? err : end;
}
