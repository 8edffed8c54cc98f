/* SPDX-License-Identifier: MIT */
/*
 * ram_block.c - host memory behind a region: from the host, or borrowed from the caller.
 *
 * Invariant: host .. host + size - 1 is mapped from new to free, and nothing but ram_block_free() unmaps it; a memfd
 * cannot change its size meanwhile, another file can (then the host's SIGBUS is the owner's business: docs/CAVEATS.md).
 * Relied on by: views, which carry host addresses; the last of them is gone before the region's release, which frees.
 *
 * Not in mem.h's accounts: guest RAM is the guest's.
 */
#include "topology/ram_block.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "topology/dirty_log.h"

/* What a host can map of it, in whole pages; false if it cannot. */
static bool whole_pages(uint64_t size, uint64_t *ret_mapped)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

    if (!size || size > (uint64_t)PTRDIFF_MAX - page) {
        return false;
    }
    *ret_mapped = (size + page - 1) & ~(page - 1);
    return true;
}

/* The block owns fd on success. */
static int block_map(int fd, uint64_t offset, uint64_t size, uint64_t mapped, RamBlock **ret_block)
{
    int flags = (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED) | MAP_NORESERVE;
    RamBlock *block = mem_alloc(sizeof(*block));
    void *host;
    int ret;

    if (!block) {
        return -ENOMEM;
    }
    host = mmap(NULL, mapped, PROT_READ | PROT_WRITE, flags, fd, (off_t)offset);
    if (host == MAP_FAILED) {
        ret = -errno;
        mem_free(block, sizeof(*block));
        return ret;
    }
    *block = (RamBlock){ .host = host, .size = size, .mapped = mapped, .fd = fd };
    *ret_block = block;
    return 0;
}

int ram_block_new_anon(uint64_t size, RamBlock **ret_block)
{
    uint64_t mapped;

    return whole_pages(size, &mapped) ? block_map(-1, 0, size, mapped, ret_block) : -EINVAL;
}

int ram_block_new_memfd(const char *name, uint64_t size, RamBlock **ret_block)
{
    char label[128]; /* what /proc shows; the kernel refuses more than 249 bytes, a reader needs fewer */
    uint64_t mapped;
    int fd, ret = 0;

    if (!whole_pages(size, &mapped)) {
        return -EINVAL;
    }
    label[0] = '\0';
    strncat(label, name ? name : "", sizeof(label) - 1);
    fd = memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -errno;
    }
    if (ftruncate(fd, (off_t)mapped) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        ret = -errno;
    }
    if (ret == 0) {
        ret = block_map(fd, 0, size, mapped, ret_block);
    }
    if (ret < 0) {
        close(fd);
    }
    return ret;
}

int ram_block_new_fd(int fd, uint64_t offset, uint64_t size, RamBlock **ret_block)
{
    uint64_t mapped, page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct stat st;
    int own, ret;

    if (!whole_pages(size, &mapped) || offset % page || offset > (uint64_t)INT64_MAX - mapped) {
        return -EINVAL;
    }
    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size < offset + size) { /* a device file has no size to compare */
        return -EINVAL;
    }
    own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0) {
        return -errno;
    }
    ret = block_map(own, offset, size, mapped, ret_block);
    if (ret < 0) {
        close(own);
    } else {
        (*ret_block)->fd_offset = offset;
    }
    return ret;
}

int ram_block_new_file(const char *path, uint64_t size, RamBlock **ret_block)
{
    uint64_t mapped;
    struct stat st;
    RamBlock *block = NULL;
    int fd, ret;

    if (!path || !whole_pages(size, &mapped)) {
        return -EINVAL;
    }
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    if (fstat(fd, &st) < 0) {
        ret = -errno;
        close(fd);
        return ret;
    }
    ret = block_map(fd, 0, size, mapped, &block);
    if (ret < 0) {
        close(fd);
        return ret;
    }
    /* Growing the file is visible to others, so it comes last. A mapping may reach beyond the end until then. */
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size < size && ftruncate(fd, (off_t)size) < 0) {
        ret = -errno;
        ram_block_free(block);
        return ret;
    }
    *ret_block = block;
    return 0;
}

int ram_block_new_ptr(void *ptr, uint64_t size, RamBlock **ret_block)
{
    RamBlock *block;

    if (!ptr || !size || size > (uint64_t)PTRDIFF_MAX || size - 1 > (uint64_t)(UINTPTR_MAX - (uintptr_t)ptr)) {
        return -EINVAL;
    }
    block = mem_alloc(sizeof(*block));
    if (!block) {
        return -ENOMEM;
    }
    *block = (RamBlock){ .host = ptr, .size = size, .mapped = 0, .fd = -1 };
    *ret_block = block;
    return 0;
}

int ram_block_punch(RamBlock *block, uint64_t offset, uint64_t size)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

    if (!block->mapped) {
        return -EOPNOTSUPP; /* what is behind it, and whether it would read as zeroes, only its owner knows */
    }
    if (!size || offset % page || size % page || offset > block->mapped || size > block->mapped - offset) {
        return -EINVAL;
    }
    return madvise(block->host + offset, size, block->fd < 0 ? MADV_DONTNEED : MADV_REMOVE) < 0 ? -errno : 0;
}

void ram_block_free(RamBlock *block)
{
    if (!block) {
        return;
    }
    dirty_log_leave(block);
    if (block->mapped) {
        munmap(block->host, block->mapped);
    }
    if (block->fd >= 0) {
        close(block->fd);
    }
    mem_free(block, sizeof(*block));
}
