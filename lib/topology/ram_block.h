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

typedef struct RamBlock {
    uint8_t *host;
    uint64_t size;   /* bytes usable; mapped size is rounded up to pages */
    uint64_t mapped; /* bytes to unmap; 0: the caller's memory */
    int fd;          /* ours, or -1 */
} RamBlock;

/* Each returns 0 and a block, or a negative errno and nothing. size > 0. */
int ram_block_new_anon(uint64_t size, RamBlock **ret_block);
int ram_block_new_memfd(const char *name, uint64_t size, RamBlock **ret_block);
int ram_block_new_fd(int fd, uint64_t offset, uint64_t size, RamBlock **ret_block); /* duplicates fd */
int ram_block_new_file(const char *path, uint64_t size, RamBlock **ret_block);
int ram_block_new_ptr(void *ptr, uint64_t size, RamBlock **ret_block);
void ram_block_free(RamBlock *block); /* NULL is a no-op */

#endif
