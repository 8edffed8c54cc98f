/* SPDX-License-Identifier: MIT */
/*
 * unicorn.h - Unicorn engines as mirrors of an address space. Library: flatview-unicorn (Unicorn itself is under the GPL, version
 * 2; this library links it, the core does not).
 *
 * One engine a vCPU, one thread an engine. RAM of the view is mapped into each engine (uc_mem_map_ptr), everything else is
 * covered by uc_mmio_map, piece by piece as the guest comes to it, and dispatched through the library. So a mapping only makes
 * an access fast; an engine that refuses one is slow and right.
 *
 * A commit waits until no engine is executing guest code, changes all of them, and lets them go on. An engine whose thread is
 * in a callback of this library, or outside flatview_unicorn_vcpu_run(), is not executing: nobody waits for it, so commits
 * from inside the guest's own accesses work, on any number of vCPUs at once.
 *
 * Errors. Memory that an engine refuses to map is dispatched, and offered again at the next commit of the space and the next
 * run. Memory that it refuses to unmap must not be used: the engine is not run until it is gone. If it refuses to map even cover,
 * after all other cover has been given up for it, the access is not made and ends the run (-EIO, UC_ERR_READ_UNMAPPED or
 * UC_ERR_WRITE_UNMAPPED) in the middle of a block: the guest cannot go on. Lack of memory never comes to that. All are in
 * FlatviewUnicornStats.
 *
 * Limits, all of them Unicorn's (2.0.1): a block that is executing finishes with its old code; code that is not written by the
 * engine itself, at the address where it executes it, must be announced (flatview_unicorn_forget_code()); guests use no
 * paging, or map addresses to themselves; atomic instructions of two engines are not atomic to each other (docs/ACCELERATORS.md
 * has remedies).
 */
#ifndef FLATVIEW_ACCEL_UNICORN_H
#define FLATVIEW_ACCEL_UNICORN_H

#include <flatview/types.h>

struct uc_struct; /* uc_engine */

FLATVIEW_BEGIN_DECLS

typedef struct FlatviewUnicorn FlatviewUnicorn;
typedef struct FlatviewUnicornVcpu FlatviewUnicornVcpu;

/**
 * flatview_unicorn_new() - a mirror of @memory for engines
 *
 * Context: outside transactions and listener callbacks: registers a listener of @priority.
 * Return:  0, -EINVAL, -ENOMEM, -EBUSY, or what memory_listener_register() gave.
 * Since:   0.1, as everything in this header.
 */
FLATVIEW_API int flatview_unicorn_new(AddressSpace *memory, int priority, FlatviewUnicorn **ret_mirror);

/**
 * flatview_unicorn_free() - -EBUSY while it has vCPUs, and inside transactions
 *
 * In a callback of a listener that takes effect when the present commit has been delivered.
 */
FLATVIEW_API int flatview_unicorn_free(FlatviewUnicorn *mirror);

/**
 * flatview_unicorn_vcpu_new() - mirror into one more engine
 * @engine: in which nothing is mapped; the caller's, open until flatview_unicorn_vcpu_free(). Its hooks for unmapped and
 *          write-protected memory and for blocks are taken; others may be added.
 *
 * Context: outside transactions and callbacks.
 * Return:  0, -EINVAL (also: no processor that we know the program counter of), -ENOMEM, -EIO (Unicorn refuses a hook).
 */
FLATVIEW_API int flatview_unicorn_vcpu_new(FlatviewUnicorn *mirror, struct uc_struct *engine,
                                           FlatviewUnicornVcpu **ret_vcpu);

/** flatview_unicorn_vcpu_free() - unmap everything and forget the engine. -EBUSY while it runs. */
FLATVIEW_API int flatview_unicorn_vcpu_free(FlatviewUnicornVcpu *vcpu);

/**
 * flatview_unicorn_vcpu_run() - execute from @begin until the guest halts, a hook stops the engine, or a kick
 * @ret_uc_err: uc_err of the last uc_emu_start(); may be NULL
 *
 * Stops for commits and goes on by itself, always between two blocks, so that a halt or a hook's uc_emu_stop() is never taken
 * for one of these; the program counter is in the engine's registers afterwards.
 * Context: one thread at a time; outside read sections and transactions.
 * Return:  0: the engine stopped by itself or by a hook; -EINTR: kicked; -EIO: *ret_uc_err; -EDEADLK: wrong context.
 */
FLATVIEW_API int flatview_unicorn_vcpu_run(FlatviewUnicornVcpu *vcpu, uint64_t begin, int *ret_uc_err);

/** flatview_unicorn_vcpu_kick() - make the present or the next run return -EINTR at the end of a block. Any thread; no lock. */
FLATVIEW_API void flatview_unicorn_vcpu_kick(FlatviewUnicornVcpu *vcpu);

/**
 * flatview_unicorn_begin_callback() - in a hook of the caller's own, on the vCPU's thread: from here on, do not wait for me
 *
 * Between this and flatview_unicorn_end_callback() the hook may change the map, or take locks that a thread which changes it
 * may have; it must not touch the engine. Accesses to memory need neither.
 */
FLATVIEW_API void flatview_unicorn_begin_callback(FlatviewUnicornVcpu *vcpu);
FLATVIEW_API void flatview_unicorn_end_callback(FlatviewUnicornVcpu *vcpu);

/**
 * flatview_unicorn_forget_code() - bytes [@addr, @addr + @size) of the address space may hold other code than before
 *
 * After a device, another vCPU, this one at another address of the same memory, or the program itself has written code. Waits
 * until no engine executes, as a commit does.
 * Context: any thread; a vCPU's own hook between flatview_unicorn_begin_callback() and flatview_unicorn_end_callback().
 */
FLATVIEW_API void flatview_unicorn_forget_code(FlatviewUnicorn *mirror, hwaddr addr, uint64_t size);

/** FlatviewUnicornPiece - one mapping, by value. */
typedef struct FlatviewUnicornPiece {
    hwaddr first;
    uint64_t size; /* bytes */
    void *host;    /* of first; NULL: cover, dispatched */
    bool readonly; /* writes are dispatched */
} FlatviewUnicornPiece;

/** flatview_unicorn_for_each_piece() - what is mapped into an engine, ascending; the vCPU must not be running: -EBUSY. */
FLATVIEW_API int flatview_unicorn_for_each_piece(FlatviewUnicornVcpu *vcpu,
                                                 int (*fn)(const FlatviewUnicornPiece *piece, void *arg), void *arg);

/** FlatviewUnicornStats - counts since flatview_unicorn_new(). */
typedef struct FlatviewUnicornStats {
    uint64_t stops;      /* commits that had to wait for engines */
    uint64_t mapped, unmapped, covers; /* uc_mem_map_ptr(), uc_mem_unmap() of RAM, uc_mmio_map() */
    uint64_t refused;    /* mappings that an engine did not take (dispatched instead) or not give back, retries included */
    uint64_t last_error; /* uc_err of the latest of these; UC_ERR_NOMEM also if it was our own memory */
    uint64_t dispatched; /* accesses */
    uint64_t unassigned; /* of these: ended in other than MEMTX_OK */
} FlatviewUnicornStats;

/** flatview_unicorn_get_stats() - any thread. */
FLATVIEW_API void flatview_unicorn_get_stats(FlatviewUnicorn *mirror, FlatviewUnicornStats *ret_stats);

FLATVIEW_END_DECLS

#endif
