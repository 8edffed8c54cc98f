/* SPDX-License-Identifier: MIT */
/*
 * memory_dma.h - guest memory by host pointer, for whoever copies it himself: a block back end, a network card, io_uring.
 *
 * A mapping gives host pointers to what an address leads to at the time of the call. RAM is mapped where it is. Anything
 * else (registers, mapped hardware, flash that is written, what an interposer watches) is bounced: through a copy in memory that the address space
 * lends, filled by the call if it is to be read, written back when the mapping ends if it was to be written.
 *
 * - The RAM that a mapping names stays valid until the mapping ends, also when it was unplugged and destroyed meanwhile: its
 *   release function runs after that, and memory_region_quiesce() waits for it. Nothing else is kept, and no writer waits.
 *   Whether the guest still sees that RAM is another question: what moves or vanishes meanwhile is written where it was.
 * - What is written through a mapping is marked in the dirty log when the mapping ends, as far as its holder says; who must
 *   have seen it all (a migration) has ended its mappings.
 * - A copy is read and written back by ordinary accesses, each through the map of its moment. If what was there is gone by
 *   then, the end of the mapping says so.
 * - Source: QEMU's address_space_map(), which maps no more than one piece, drops errors of the write back, and has no
 *   direction for both.
 *
 * Mappings do not nest read sections: they may be made and ended in one or outside, on different threads.
 */
#ifndef FLATVIEW_MEMORY_DMA_H
#define FLATVIEW_MEMORY_DMA_H

#include <sys/uio.h>

#include <flatview/address_space.h>

FLATVIEW_BEGIN_DECLS

/** MemoryMapDirection - what the holder of a mapping does with the memory */
typedef enum MemoryMapDirection {
    MEMORY_MAP_READ = 1,       /* it only reads */
    MEMORY_MAP_WRITE = 2,      /* it writes, from the first byte up, and does not read what was there */
    MEMORY_MAP_READ_WRITE = 3, /* read, modify, write */
} MemoryMapDirection;

/** MemoryMapRange - a piece of an address space: [@addr, @addr + @len), @len bytes */
typedef struct MemoryMapRange {
    hwaddr addr;
    hwaddr len;
} MemoryMapRange;

/** MEMORY_MAP_MAX_IOV - pieces of host memory in one mapping, what readv() and io_uring take in one call (IOV_MAX) */
#define MEMORY_MAP_MAX_IOV 1024

/** MEMORY_BOUNCE_DEFAULT_LIMIT - bytes of bounce memory that a space lends at a time, unless told otherwise */
#define MEMORY_BOUNCE_DEFAULT_LIMIT 65536u

/* Private: what a piece of a mapping is. */
typedef struct FlatviewMapPart {
    MemoryRegion *mr; /* RAM, held; NULL: a copy */
    uint64_t at;      /* offset in the region; of a copy: address in the space */
    uint8_t *host;
    hwaddr len;
} FlatviewMapPart;

#define MEMORY_MAPPING_INLINE 4 /* private: pieces for which nothing is allocated */

/**
 * MemoryMapping - a mapping; memory of the caller, all zeroes before its first use
 *
 * Must not be moved or copied while it is mapped. After its end it may be used again.
 */
typedef struct MemoryMapping {
    struct iovec *iov; /* host memory, in the order of the ranges; pieces that adjoin in the host are one */
    unsigned n_iov;
    bool bounced;      /* some of it is a copy */
    hwaddr len;        /* bytes in all */
    /* private: */
    uint32_t live; /* atomic: whether there is something to end */
    uint32_t direction;
    MemTxAttrs attrs;
    bool borrowed; /* the space's pool has a user for it, and lends it bounce_bytes */
    uint64_t bounce_bytes;
    AddressSpace *as;
    void *memory; /* iov beyond what is inline, and copies; memory_size bytes */
    size_t memory_size;
    FlatviewMapPart *parts; /* inline, or cap_parts of them allocated */
    size_t n_parts, cap_parts;
    struct iovec inline_iov[MEMORY_MAPPING_INLINE];
    FlatviewMapPart inline_parts[MEMORY_MAPPING_INLINE];
} MemoryMapping;

/**
 * address_space_map_sg() - map ranges of an address space, all of them or none
 * @ranges:      @n_ranges of them, in the order in which @ret_mapping->iov will have their bytes; of any length above 0, over
 *               any number of regions. They may overlap: RAM is then mapped twice, a copy is made twice
 * @attrs:       of the accesses that fill and write back copies
 * @ret_mapping: on failure without anything to end, as before
 *
 * All RAM is found in one view (ORDERING: R1), through IOMMU regions. What they translate may change while RAM is mapped: who
 * must not go on then ends the mapping when a notifier tells (memory_iommu.h). A copy is written back through what they say
 * at the end.
 * To fill copies, device callbacks may run and may call back.
 *
 * Context:   any thread, also in a read section, an access callback, a listener.
 * Locking:   none for RAM; for copies the bounce lock of the space, for a few instructions.
 * Ownership: @ret_mapping is to be ended with address_space_unmap_sg(), before the space is destroyed if it is bounced.
 * Return:    0, or with nothing changed:
 *            -EINVAL   no ranges, one without bytes or beyond 2^64, a wrong direction, @ret_mapping is in use, no such space
 *            -EFAULT   at some address nothing answers
 *            -EACCES   something there refuses this direction: a write to ROM, a read of a write-only device; an IOMMU
 *            -E2BIG    more than MEMORY_MAP_MAX_IOV pieces
 *            -EMSGSIZE more bounce memory than the space's limit allows, ever
 *            -ENOBUFS  more bounce memory than is free just now: address_space_register_map_client() tells when to retry
 *            -EIO      a device failed to be read for a copy (what it did for that, it has done); an IOMMU's tables make no sense
 *            -ENOMEM
 * Since:     0.1, as everything in this header.
 */
FLATVIEW_API int address_space_map_sg(AddressSpace *as, const MemoryMapRange *ranges, size_t n_ranges,
                                      MemoryMapDirection direction, MemTxAttrs attrs, MemoryMapping *ret_mapping);

/**
 * address_space_unmap_sg() - end a mapping
 * @access_len: how many bytes, from the beginning of the mapping, were really written; copies are written back and RAM is
 *              marked dirty as far as that. Not looked at for MEMORY_MAP_READ, but for being @mapping->len at most
 * @ret_result: how the write back went, MEMTX_OK if there was none; may be NULL; untouched unless 0 or -EIO
 *
 * Context: as for address_space_map_sg(). Map clients may be called, and release functions run soon on another thread.
 * Return:  0; -EIO: ended, but some of the write back failed, as @ret_result says; with nothing changed: -EINVAL if the
 *          mapping has been ended before or was never made, or if @access_len is too large. Of threads that end one mapping
 *          at once, one succeeds.
 */
FLATVIEW_API int address_space_unmap_sg(MemoryMapping *mapping, hwaddr access_len, MemTxResult *ret_result);

/**
 * address_space_map() - map as much as one host pointer can reach
 * @plen:     in: bytes wanted, above 0; out: bytes mapped, at least 1. RAM goes on as long as it adjoins in the host; a copy
 *            is as long as one device, and not longer than the bounce memory that is free
 * @ret_host: the pointer; untouched on failure, as @plen
 *
 * QEMU's form, for code that has it. The space keeps a record of each, under its bounce lock; address_space_map_sg() needs
 * none for RAM, and maps all of a range.
 *
 * Return: as for address_space_map_sg(); -EMSGSIZE if the limit is 0. The space cannot be destroyed before the mapping has
 *         ended.
 */
FLATVIEW_API int address_space_map(AddressSpace *as, hwaddr addr, hwaddr *plen, MemoryMapDirection direction,
                                   MemTxAttrs attrs, void **ret_host);

/**
 * address_space_unmap() - end what address_space_map() made
 * @host, @len, @direction: as it was returned and asked for
 *
 * Return: as for address_space_unmap_sg(); -EINVAL with nothing changed if @as has no such mapping (any more).
 */
FLATVIEW_API int address_space_unmap(AddressSpace *as, void *host, hwaddr len, MemoryMapDirection direction,
                                     hwaddr access_len, MemTxResult *ret_result);

/* ---- bounce memory -------------------------------------------------------------------------------------------- */

/**
 * address_space_set_bounce_limit() - how many bytes a space lends at a time
 *
 * A guest decides how much is asked for, so there is a limit. Less than is lent now takes nothing back. Raised, it may call
 * map clients. Return: 0, -EINVAL (no such space).
 */
FLATVIEW_API int address_space_set_bounce_limit(AddressSpace *as, uint64_t bytes);
FLATVIEW_API uint64_t address_space_get_bounce_limit(AddressSpace *as);
FLATVIEW_API uint64_t address_space_get_bounce_used(AddressSpace *as); /* bytes lent now */

/**
 * MemoryMapClient - who wants to know when bounce memory comes back; embed it
 *
 * Zeroed but for the two public fields. Belongs to the library from a successful registration until @notify is called or
 * the client is unregistered.
 */
typedef struct MemoryMapClient MemoryMapClient;
struct MemoryMapClient {
    void (*notify)(MemoryMapClient *client);
    uint64_t bytes; /* told when so many are free; 0 is as 1 */
    /* private: */
    MemoryMapClient *next;
    uint32_t registered;
};

/**
 * address_space_register_map_client() - to be told once that a mapping which was refused with -ENOBUFS may be tried again
 *
 * @client->notify runs once, on the thread that ends a mapping or raises the limit, after that is done and without a lock of
 * the library; in a read section if that thread is in one. It may map, end mappings, register again, and free the client.
 * What it is told is no reservation: all whose bytes fit are told, in the order of registration, and who comes first wins.
 *
 * Return: 0: registered; 1: not registered, for there is room just now: try again at once (so no wake-up is lost between a
 *         refused mapping and this call); -EINVAL (no such space, no function, more than the limit), -EBUSY (is
 *         registered).
 */
FLATVIEW_API int address_space_register_map_client(AddressSpace *as, MemoryMapClient *client);

/**
 * address_space_unregister_map_client() - not to be told after all
 *
 * When it returns, @notify neither runs nor will run; if it runs on another thread now, that is waited for, so no lock may be
 * held that @notify takes. From within @notify it does not wait.
 *
 * Return: 0; -ENOENT if it was not registered, or had been told.
 */
FLATVIEW_API int address_space_unregister_map_client(AddressSpace *as, MemoryMapClient *client);

/* ---- more accesses -------------------------------------------------------------------------------------------- */

/**
 * address_space_set() - fill: write byte @c to @len bytes
 *
 * As address_space_write() of so many bytes, without a buffer; a device gets the bytes in several writes, each of which may
 * see a newer map (QEMU's address_space_set()).
 */
FLATVIEW_API MemTxResult address_space_set(AddressSpace *as, hwaddr addr, uint8_t c, hwaddr len, MemTxAttrs attrs);

/**
 * address_space_write_rom() - write to what backs the addresses, also where the guest may not: load firmware, patch flash
 *
 * RAM, ROM, ROM devices in either mode, mapped hardware, read-only windows of each: the host memory is written, no callback
 * runs, not an interposer's either. What has no host memory: MEMTX_ACCESS_ERROR (QEMU skips it in silence); a hole: MEMTX_DECODE_ERROR. The rest is
 * written all the same.
 */
FLATVIEW_API MemTxResult address_space_write_rom(AddressSpace *as, hwaddr addr, MemTxAttrs attrs, const void *buf,
                                                 hwaddr len);

/**
 * address_space_access_valid() - would a bulk access be taken everywhere?
 *
 * Holes, read-only, missing callbacks, valid sizes and accepts() of devices are asked for each bus access that it would be cut
 * into, in one view; whether a device would then fail cannot be known. True for @len 0.
 */
FLATVIEW_API bool address_space_access_valid(AddressSpace *as, hwaddr addr, hwaddr len, bool is_write, MemTxAttrs attrs);

/**
 * memory_region_access_valid() - would @mr itself take this one access?
 * @addr: offset in the region; @size: 1, 2, 4 or 8
 *
 * Whether it is mapped anywhere does not matter, nor what is above it: only its own kind, size, flags and ops.
 */
FLATVIEW_API bool memory_region_access_valid(MemoryRegion *mr, hwaddr addr, unsigned size, bool is_write,
                                             MemTxAttrs attrs);

/** address_space_is_io() - is a load from @addr anything but a load from host memory? True for a hole, as in QEMU. */
FLATVIEW_API bool address_space_is_io(AddressSpace *as, hwaddr addr);

/**
 * address_space_flush_icache_range() - code was written there for the host's processor to execute (KVM): make it visible to
 * instruction fetch
 *
 * Of RAM that is mapped there; the rest is skipped. Nothing on x86, where the processor looks itself.
 */
FLATVIEW_API void address_space_flush_icache_range(AddressSpace *as, hwaddr addr, hwaddr len);

FLATVIEW_END_DECLS

#endif
