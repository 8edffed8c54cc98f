/* SPDX-License-Identifier: MIT */
/*
 * ram_block.h - host memory behind a region, and who frees it.
 *
 * Invariant: mr->host and mr->block never change between init and release, so a view may carry the host address. (Of a RAM
 * device without a block host may change: ram_window.h.)
 */
#ifndef FLATVIEW_TOPOLOGY_RAM_BLOCK_H
#define FLATVIEW_TOPOLOGY_RAM_BLOCK_H

#include <flatview/types.h>

/* Who wants to know what is written to a block, and what was: dirty_log.h. */
enum { DIRTY_CLIENTS = 3, DIRTY_SHIFT_DEFAULT = 12, DIRTY_SHIFT_MIN = 6, DIRTY_SHIFT_MAX = 30 };

typedef struct DirtyLog {
    uint32_t on;                             /* atomic: 1 << client for those whose bits a store sets; they have a map */
    struct DirtyBitmap *map[DIRTY_CLIENTS];  /* atomic; once there, always there */
    /* topology lock */
    struct DirtyBitmap *staged[DIRTY_CLIENTS]; /* what the open transaction will need */
    uint32_t users[DIRTY_CLIENTS];
    uint8_t shift[DIRTY_CLIENTS]; /* log2 of the granule; 0: the default */
    bool global;                  /* one of the migration client's users is global logging */
    bool touched;
    struct RamBlock *touched_next;
    /* dirty_log.c's lock */
    MemoryRegion *mr; /* NULL: in no list */
    struct RamBlock *next, **pprev;
    struct RamBlock *logged_next, **logged_pprev; /* NULL pprev: not in the list of logged ones */
} DirtyLog;

/* Its place among all blocks: ram_index.h. */
typedef struct RamNode {
    MemoryRegion *mr; /* NULL: not there */
    uintptr_t first, last, reach;
    struct RamNode *left, *right;
} RamNode;

typedef struct RamBlock {
    uint8_t *host;
    uint64_t size;   /* bytes usable; mapped size is rounded up to pages */
    uint64_t mapped; /* bytes to unmap; 0: the caller's memory */
    int fd;          /* ours, or -1 */
    bool resizable;
    uint64_t used;   /* if so: bytes that it has now, the rest of size is for growth */
    uint64_t told;   /* and that resized was told of */
    void (*resized)(MemoryRegion *mr, uint64_t size);
    DirtyLog dirty;
    uint64_t fd_offset; /* of the first byte */
    RamNode node;
} RamBlock;

/* Bytes that a region may show. Any thread. */
static inline uint64_t ram_block_bytes(const RamBlock *block)
{
    return block->resizable ? __atomic_load_n(&block->used, __ATOMIC_RELAXED) : block->size;
}

/* What it may have been a moment ago, or be again when a transaction aborts. Any thread. */
static inline uint64_t ram_block_bytes_told(const RamBlock *block)
{
    return block->resizable ? __atomic_load_n(&block->told, __ATOMIC_RELAXED) : block->size;
}

/* Each returns 0 and a block, or a negative errno and nothing. size > 0. */
int ram_block_new_anon(uint64_t size, RamBlock **ret_block);
int ram_block_new_memfd(const char *name, uint64_t size, RamBlock **ret_block);
int ram_block_new_fd(int fd, uint64_t offset, uint64_t size, RamBlock **ret_block); /* duplicates fd */
int ram_block_new_file(const char *path, uint64_t size, RamBlock **ret_block);
int ram_block_new_ptr(void *ptr, uint64_t size, RamBlock **ret_block);
void ram_block_free(RamBlock *block); /* NULL is a no-op */

/* Give the host these bytes back; they read as zeroes from then on. 0, -EINVAL (not whole pages inside), -EOPNOTSUPP (borrowed
   memory), or what madvise() says. */
int ram_block_punch(RamBlock *block, uint64_t offset, uint64_t size);

/* ram_discard.c: who may discard; see memory_population.h. */
enum RamDiscardRight { RAM_DISCARD_DISABLE, RAM_DISCARD_DISABLE_UNCOORDINATED, RAM_DISCARD_REQUIRE,
                       RAM_DISCARD_REQUIRE_COORDINATED, RAM_DISCARD_RIGHTS };
/* One more, or one less: 0, -EBUSY, -EINVAL. */
int ram_discard_count(enum RamDiscardRight right, bool more);
bool ram_discard_any(enum RamDiscardRight right); /* now; any context */

#endif
