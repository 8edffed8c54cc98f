/* SPDX-License-Identifier: MIT */
/*
 * types.h - the words that every other header uses.
 *
 * Public headers are plain C99 and C++11. They include neither liburcu nor jemalloc nor C11 atomics, so that a program
 * may use any of these, in any version, beside the library.
 */
#ifndef FLATVIEW_TYPES_H
#define FLATVIEW_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define FLATVIEW_API __attribute__((visibility("default")))
#else
#define FLATVIEW_API
#endif

#ifdef __cplusplus
#define FLATVIEW_BEGIN_DECLS extern "C" {
#define FLATVIEW_END_DECLS }
#else
#define FLATVIEW_BEGIN_DECLS
#define FLATVIEW_END_DECLS
#endif

FLATVIEW_BEGIN_DECLS

/** hwaddr - a guest-physical or bus address, or an offset within a region; bytes. Never a host pointer. */
typedef uint64_t hwaddr;

typedef struct MemoryRegion MemoryRegion;
typedef struct MemoryRegionOps MemoryRegionOps;
typedef struct MemoryRegionSection MemoryRegionSection;
typedef struct AddressSpace AddressSpace;
typedef struct FlatView FlatView;
typedef struct MemoryListener MemoryListener;

/** MemTxResult - how an access ended: MEMTX_OK, or the OR of the bits of all its parts. Never dropped. */
typedef uint32_t MemTxResult;
#define MEMTX_OK 0u                  /* every part was carried out */
#define MEMTX_ERROR (1u << 0)        /* a device said that the access failed */
#define MEMTX_DECODE_ERROR (1u << 1) /* nothing answers there, or not to this size or alignment */
#define MEMTX_ACCESS_ERROR (1u << 2) /* something answers, but not to this: a write to read-only, a read of write-only */

/**
 * MemTxAttrs - who makes an access, and why
 *
 * Handed to the callbacks that ask for it; the library itself interprets none of it.
 */
typedef struct MemTxAttrs {
    unsigned int unspecified : 1; /* nothing below was set by the initiator */
    unsigned int secure : 1;      /* as of Arm TrustZone, x86 SMM */
    unsigned int user : 1;        /* unprivileged initiator */
    unsigned int memory : 1;      /* the initiator expects memory, not a device */
    unsigned int debug : 1;       /* a debugger: no side effects, please */
    unsigned int requester_id : 16; /* bus-specific, as the PCI requester id */
} MemTxAttrs;

#ifdef __cplusplus
#define MEMTXATTRS_UNSPECIFIED (MemTxAttrs{1u, 0u, 0u, 0u, 0u, 0u})
#else
#define MEMTXATTRS_UNSPECIFIED ((MemTxAttrs){.unspecified = 1u})
#endif

/** MemoryEndianness - the byte order of a region's registers. There is no default: zero is refused. */
typedef enum MemoryEndianness {
    MEMORY_LITTLE_ENDIAN = 1,
    MEMORY_BIG_ENDIAN = 2,
} MemoryEndianness;

/* Private to the library: how a retired object waits for its readers. See lib/base/retire.h. */
typedef struct FlatviewRetireHead {
    struct FlatviewRetireHead *next;
    void *line;
    void (*free)(struct FlatviewRetireHead *head);
    uint64_t birth, death;
    uint64_t seq;
    uint32_t bytes;
    uint32_t kind;
} FlatviewRetireHead;

/* Private to the library: the same for what can be held by a count as well. */
typedef struct FlatviewRetireCounted {
    FlatviewRetireHead head;
    uint64_t count;
} FlatviewRetireCounted;

#ifndef container_of
/** container_of() - from a pointer to a member to the struct around it: how a callback finds its device. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#endif

FLATVIEW_END_DECLS

#endif
