/* SPDX-License-Identifier: MIT */
/*
 * storm_accel_unicorn.c - Unicorn in the storm. Linked into flatview-unicorn, not into flatview: Unicorn is under the GPL.
 *
 * Invariant: maps[i] is what engine i has been told and has agreed to: it is kept by whoever carries the calls to Unicorn (the
 * linker wraps them, meson.build), not by the library under test. Guarded by lock, because a vCPU changes its own engine.
 *
 * It counts as lazy: memory that appears where a vCPU's device callback is running is mapped when that is over, and logged memory
 * is not to be written, from log_start on and to log_stop, while what a region says of its log changes a moment earlier or later.
 */
#include "storm_accel.h"

#include <flatview/accel/unicorn.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unicorn/unicorn.h>

static struct {
    FlatviewUnicorn *mirror;
    unsigned n;
    uc_engine *engines[STORM_MAX_THREADS];
    FlatviewUnicornVcpu *vcpus[STORM_MAX_THREADS];
} self;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static AccelPieces maps[STORM_MAX_THREADS];

/* ---- what engines are told ---- */

static AccelPieces *engine_map(const uc_engine *engine)
{
    unsigned i = 0;

    while (self.engines[i] != engine) {
        i++;
    }
    return &maps[i];
}

static AccelPiece *find(AccelPieces *map, hwaddr first)
{
    for (size_t k = 0; k < map->n; k++) {
        if (map->list[k].first == first) {
            return &map->list[k];
        }
    }
    return NULL;
}

uc_err __real_uc_mem_map_ptr(uc_engine *engine, uint64_t addr, size_t size, uint32_t perms, void *host);
uc_err __wrap_uc_mem_map_ptr(uc_engine *engine, uint64_t addr, size_t size, uint32_t perms, void *host);
uc_err __real_uc_mem_protect(uc_engine *engine, uint64_t addr, size_t size, uint32_t perms);
uc_err __wrap_uc_mem_protect(uc_engine *engine, uint64_t addr, size_t size, uint32_t perms);
uc_err __real_uc_mem_unmap(uc_engine *engine, uint64_t addr, size_t size);
uc_err __wrap_uc_mem_unmap(uc_engine *engine, uint64_t addr, size_t size);

uc_err __wrap_uc_mem_map_ptr(uc_engine *engine, uint64_t addr, size_t size, uint32_t perms, void *host)
{
    AccelPiece piece = { .first = addr, .last = addr + (size - 1), .host = host, .readonly = !(perms & UC_PROT_WRITE) };
    uc_err err = __real_uc_mem_map_ptr(engine, addr, size, perms, host);

    if (err == UC_ERR_OK) {
        pthread_mutex_lock(&lock);
        pieces_add(engine_map(engine), &piece);
        pthread_mutex_unlock(&lock);
    }
    return err;
}

uc_err __wrap_uc_mem_protect(uc_engine *engine, uint64_t addr, size_t size, uint32_t perms)
{
    uc_err err = __real_uc_mem_protect(engine, addr, size, perms);
    AccelPiece *piece;

    pthread_mutex_lock(&lock);
    piece = find(engine_map(engine), addr);
    if (!piece || piece->last != addr + (size - 1)) {
        storm_violation("unicorn: a part of what is mapped at %llx is protected", (unsigned long long)addr);
    } else if (err == UC_ERR_OK) {
        piece->readonly = !(perms & UC_PROT_WRITE);
    }
    pthread_mutex_unlock(&lock);
    return err;
}

uc_err __wrap_uc_mem_unmap(uc_engine *engine, uint64_t addr, size_t size)
{
    uc_err err = __real_uc_mem_unmap(engine, addr, size);
    AccelPieces *map;
    AccelPiece *piece;

    pthread_mutex_lock(&lock);
    map = engine_map(engine);
    piece = find(map, addr); /* else it is cover */
    if (piece && piece->last != addr + (size - 1)) {
        storm_violation("unicorn: a part of what is mapped at %llx is unmapped", (unsigned long long)addr);
    } else if (piece && err == UC_ERR_OK) {
        *piece = map->list[--map->n];
    }
    pthread_mutex_unlock(&lock);
    return err;
}

static bool table(unsigned i, AccelPieces *ret_pieces)
{
    FlatviewUnicornStats stats;

    if (i >= self.n) {
        return false;
    }
    flatview_unicorn_get_stats(self.mirror, &stats);
    if (stats.refused) {
        storm_violation("unicorn: %llu mappings refused, the last error is %s", (unsigned long long)stats.refused,
                        uc_strerror((uc_err)stats.last_error));
    }
    pthread_mutex_lock(&lock);
    for (size_t k = 0; k < maps[i].n; k++) {
        pieces_add(ret_pieces, &maps[i].list[k]);
    }
    pthread_mutex_unlock(&lock);
    return true;
}

static bool wants(const MemoryRegionSection *section, bool *ret_readonly)
{
    *ret_readonly = section->readonly || memory_region_is_rom_device(section->mr);
    return !memory_region_is_ram_device(section->mr);
}

/* ---- the guest ---- */

static const char *access_by_guest(unsigned i, Access *a)
{
    uint32_t ebx = (uint32_t)GUEST_PAGE(i);
    int uc_result = UC_ERR_OK, error;

    guest_tell(accel_guest_page(i), a);
    uc_reg_write(self.engines[i], UC_X86_REG_EBX, &ebx);
    error = flatview_unicorn_vcpu_run(self.vcpus[i], GUEST_CODE, &uc_result);
    if (error) {
        return uc_result != UC_ERR_OK ? uc_strerror((uc_err)uc_result) : strerror(-error);
    }
    guest_ask(accel_guest_page(i), a);
    return NULL;
}

/* ---- life ---- */

static void detach(void)
{
    for (unsigned i = 0; i < self.n; i++) {
        if (flatview_unicorn_vcpu_free(self.vcpus[i]) != 0 || maps[i].n) {
            storm_violation("unicorn: engine %u is left with %zu mappings", i, maps[i].n);
        }
        uc_close(self.engines[i]);
        free(maps[i].list);
    }
    if (self.mirror && flatview_unicorn_free(self.mirror) != 0) {
        storm_violation("unicorn: it does not end");
    }
}

static int attach(AddressSpace *as, unsigned n, const char **ret_what)
{
    int error = flatview_unicorn_new(as, MEMORY_LISTENER_PRIORITY_ACCEL, &self.mirror);

    *ret_what = "flatview_unicorn_new()";
    for (unsigned i = 0; i < n && !error; i++) {
        *ret_what = "a vCPU";
        if (uc_open(UC_ARCH_X86, UC_MODE_32, &self.engines[i]) != UC_ERR_OK) {
            return -ENOMEM;
        }
        error = flatview_unicorn_vcpu_new(self.mirror, self.engines[i], &self.vcpus[i]);
        self.n += !error;
    }
    return error;
}

const StormAccel storm_unicorn = {
    .name = "unicorn",
    .attach = attach,
    .detach = detach,
    .access = access_by_guest,
    .table = table,
    .wants = wants,
    .lazy = true,
};
