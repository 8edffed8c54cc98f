/* SPDX-License-Identifier: MIT */
/*
 * change.c - every way in which a transaction may alter the tree, and the way back.
 *
 * Invariant: around each change to a region that a view may show, the window it can affect is marked both as it stood
 * before and as it stands after; and the inverse is in the log before the change is made.
 * Established by: the three steps - log, mark, apply, mark - that each function here consists of.
 * Relied on by:   staging (spans), txn_abort() and a refused commit (log).
 *
 * Undoing walks the same apply functions with the old values, so there is no second description of any change.
 */
#include "publish/change.h"

#include <errno.h>

#include "publish/change_calls.h"
#include "publish/dirty.h"
#include "publish/logging.h"
#include "topology/ram_window.h"
#include "publish/plane.h"

static void mark_whole(MemoryRegion *mr, bool mark)
{
    if (mark) {
        dirty_mark_whole(mr);
        dirty_resolve(mr);
    }
}

static void apply_link(MemoryRegion *parent, MemoryRegion *child, hwaddr addr, int32_t priority, uint64_t order,
                       bool mark)
{
    mark_whole(child, mark); /* a root of a space is painted at its own offset, which this changes */
    region_link(parent, child, addr, priority, order);
    mark_whole(child, mark);
}

static void apply_unlink(MemoryRegion *child, bool mark)
{
    mark_whole(child, mark);
    region_unlink(child);
}

static void apply_addr(MemoryRegion *mr, hwaddr addr, bool mark)
{
    hwaddr from = mr->addr;

    if (mark && mr->parent && !mr->aliases && !mr->cell && !mr->rooted) {
        region_move(mr, addr);
        dirty_mark_move(mr, from);
        dirty_resolve(mr); /* once: whose chain asks where mr stands does not depend on that */
    } else {
        mark_whole(mr, mark);
        region_move(mr, addr);
        mark_whole(mr, mark);
    }
}

static void apply_size(MemoryRegion *mr, uint64_t size, bool mark)
{
    uint64_t old = region_size(mr);
    uint64_t small = old < size ? old : size, large = old < size ? size : old;
    /* What lies below both sizes stays as it is: everything is anchored at local 0. */
    AddrRange window = {small, large == UINT64_MAX ? UINT64_MAX : large - 1};

    if (mark) {
        if (old == large) {
            dirty_mark(mr, window);
        }
        region_resize(mr, size);
        if (size == large) {
            dirty_mark(mr, window);
        }
        dirty_resolve(mr);
    } else {
        region_resize(mr, size);
    }
}

static void apply_enabled(MemoryRegion *mr, bool enabled, bool mark)
{
    mark_whole(mr, mark); /* sees something only if it was enabled */
    region_enable(mr, enabled);
    mark_whole(mr, mark); /* only if it is now */
}

int change_link(MemoryRegion *parent, MemoryRegion *child, hwaddr addr, int32_t priority)
{
    UndoEntry *entry = txn_log(UNDO_LINK, child);

    if (!entry) {
        return -ENOMEM;
    }
    entry->a = child->addr;
    entry->b = (uint32_t)child->priority;
    apply_link(parent, child, addr, priority, region_next_order(), true);
    return 0;
}

int change_unlink(MemoryRegion *child)
{
    UndoEntry *entry = txn_log(UNDO_UNLINK, child);

    if (!entry) {
        return -ENOMEM;
    }
    entry->parent = child->parent;
    entry->a = child->addr;
    entry->b = (uint32_t)child->priority;
    entry->c = child->order;
    apply_unlink(child, true);
    return 0;
}

int change_addr(MemoryRegion *mr, hwaddr addr)
{
    UndoEntry *entry;

    if (mr->addr == addr) {
        return 0;
    }
    entry = txn_log(UNDO_ADDR, mr);
    if (!entry) {
        return -ENOMEM;
    }
    entry->a = mr->addr;
    apply_addr(mr, addr, true);
    return 0;
}

int change_size(MemoryRegion *mr, uint64_t size)
{
    UndoEntry *entry;

    if (region_size(mr) == size) {
        return 0;
    }
    entry = txn_log(UNDO_SIZE, mr);
    if (!entry) {
        return -ENOMEM;
    }
    entry->a = region_size(mr);
    apply_size(mr, size, true);
    return 0;
}

int change_enabled(MemoryRegion *mr, bool enabled)
{
    UndoEntry *entry;

    if (mr->enabled == enabled) {
        return 0;
    }
    entry = txn_log(UNDO_ENABLED, mr);
    if (!entry) {
        return -ENOMEM;
    }
    entry->a = mr->enabled;
    apply_enabled(mr, enabled, true);
    return 0;
}

int change_alias_offset(MemoryRegion *mr, hwaddr offset)
{
    UndoEntry *entry;

    if (mr->alias_offset == offset) {
        return 0;
    }
    entry = txn_log(UNDO_ALIAS_OFFSET, mr);
    if (!entry) {
        return -ENOMEM;
    }
    entry->a = mr->alias_offset;
    region_poke(mr->alias_offset, offset);
    mark_whole(mr, true);
    return 0;
}

/* A flag that alters what shows through the region, not where. */
static int change_flag(MemoryRegion *mr, bool *flag, bool value, enum UndoOp op)
{
    UndoEntry *entry;

    if (*flag == value) {
        return 0;
    }
    entry = txn_log(op, mr);
    if (!entry) {
        return -ENOMEM;
    }
    entry->a = *flag;
    region_poke(*flag, value);
    mark_whole(mr, true);
    return 0;
}

int change_readonly(MemoryRegion *mr, bool readonly)
{
    return change_flag(mr, &mr->readonly, readonly, UNDO_READONLY);
}

int change_nonvolatile(MemoryRegion *mr, bool nonvolatile)
{
    return change_flag(mr, &mr->nonvolatile, nonvolatile, UNDO_NONVOLATILE);
}

int change_romd(MemoryRegion *mr, bool romd)
{
    return change_flag(mr, &mr->romd, romd, UNDO_ROMD);
}

int change_bias(MemoryRegion *mr, uint64_t bias)
{
    UndoEntry *entry;

    if (mr->bias == bias) {
        return 0;
    }
    entry = txn_log(UNDO_BIAS, mr);
    if (!entry) {
        return -ENOMEM;
    }
    entry->a = mr->bias;
    region_poke(mr->bias, bias);
    mark_whole(mr, true);
    return 0;
}

/*
 * Hooks in force never lose one that was in force before the transaction: between two pokes any thread may fill its cache
 * from them, under a generation that an abort would leave current.
 */
int change_hooks(MemoryRegion *mr, uint32_t set, uint32_t clear)
{
    uint32_t wanted = (mr->hooks_wanted & ~clear) | set;
    UndoEntry *entry;

    if (wanted == mr->hooks_wanted) {
        return 0;
    }
    entry = txn_log(UNDO_HOOKS, mr);
    if (!entry) {
        return -ENOMEM;
    }
    entry->a = mr->hooks_wanted;
    entry->b = mr->hooks;
    mr->hooks_wanted = wanted;
    if (wanted & ~mr->hooks) {
        region_hook(mr, mr->hooks | wanted);
        dirty_renew(mr);
    }
    return 0;
}

void change_hooks_settle(MemoryRegion *mr)
{
    region_hook(mr, mr->hooks_wanted);
}

int change_interposer(MemoryRegion *mr, const struct MemoryInterposerOps *ops)
{
    UndoEntry *entry;

    if (mr->interposer == ops) {
        return 0;
    }
    entry = txn_log(UNDO_INTERPOSER, mr);
    if (!entry) {
        return -ENOMEM;
    }
    entry->a = (uintptr_t)mr->interposer;
    region_poke(mr->interposer, ops);
    mark_whole(mr, true);
    return 0;
}

static void put_window(MemoryRegion *mr, RamWindow *window)
{
    mr->window = window;
    region_poke(mr->host, window ? window->ptr : NULL);
}

int change_window(MemoryRegion *mr, RamWindow *window)
{
    UndoEntry *entry;

    if (!window && !mr->window) {
        return 0;
    }
    entry = txn_log(UNDO_WINDOW, mr);
    if (!entry) {
        return -ENOMEM;
    }
    entry->a = (uintptr_t)mr->window;
    put_window(mr, window);
    mark_whole(mr, true);
    return 0;
}

void change_window_settle(const UndoEntry *entry)
{
    ram_window_retire((RamWindow *)(uintptr_t)entry->a, entry->mr, generation_newest());
}

int change_destroy(MemoryRegion *mr)
{
    if (!txn_log(UNDO_DESTROY, mr)) {
        return -ENOMEM;
    }
    if (mr->alias) {
        region_alias_unlink(mr); /* so that its target may be destroyed in the same transaction */
    }
    mr->state = REGION_STATE_DYING;
    return 0;
}

void change_undo(const UndoEntry *entry, bool mark)
{
    MemoryRegion *mr = entry->mr;

    switch (entry->op) {
    case UNDO_LINK:
        apply_unlink(mr, mark);
        region_move(mr, entry->a);
        region_poke(mr->priority, (int32_t)(uint32_t)entry->b);
        mark_whole(mr, mark);
        break;
    case UNDO_UNLINK:
        apply_link(entry->parent, mr, entry->a, (int32_t)(uint32_t)entry->b, entry->c, mark);
        break;
    case UNDO_ADDR:
        apply_addr(mr, entry->a, mark);
        break;
    case UNDO_SIZE:
        apply_size(mr, entry->a, mark);
        break;
    case UNDO_ENABLED:
        apply_enabled(mr, entry->a, mark);
        break;
    case UNDO_ALIAS_OFFSET:
        region_poke(mr->alias_offset, entry->a);
        mark_whole(mr, mark);
        break;
    case UNDO_READONLY:
        region_poke(mr->readonly, entry->a);
        mark_whole(mr, mark);
        break;
    case UNDO_NONVOLATILE:
        region_poke(mr->nonvolatile, entry->a);
        mark_whole(mr, mark);
        break;
    case UNDO_ROMD:
        region_poke(mr->romd, entry->a);
        mark_whole(mr, mark);
        break;
    case UNDO_BIAS:
        region_poke(mr->bias, entry->a);
        mark_whole(mr, mark);
        break;
    case UNDO_LOG:
    case UNDO_GRANULE:
    case UNDO_GLOBAL_LOG:
    case UNDO_RAM_SIZE:
        logging_undo(entry);
        break;
    case UNDO_HOOKS:
        if ((mr->hooks_wanted ^ entry->a) & REGION_HOOK_COUNT) {
            calls_count_put_back(mr->calls, entry->a & REGION_HOOK_COUNT);
        }
        mr->hooks_wanted = (uint32_t)entry->a;
        region_hook(mr, (uint32_t)entry->b);
        break;
    case UNDO_INTERPOSER:
        region_poke(mr->interposer, (const struct MemoryInterposerOps *)(uintptr_t)entry->a);
        mark_whole(mr, mark);
        break;
    case UNDO_WINDOW:
        ram_window_discard(mr->window);
        put_window(mr, (RamWindow *)(uintptr_t)entry->a);
        mark_whole(mr, mark);
        break;
    case UNDO_CALLS:
        change_calls_undo(entry);
        break;
    case UNDO_PLANE:
        plane_undo(entry, mark);
        break;
    case UNDO_DESTROY:
        mr->state = REGION_STATE_LIVE;
        if (mr->alias) {
            region_alias_link(mr, mr->alias);
        }
        break;
    case UNDO_SPACE_INIT:
        break; /* txn_undo_to() does it: it is not a change of the tree */
    }
}
