/* SPDX-License-Identifier: MIT */
/*
 * exit.c - what a guest wanted from memory or a port, carried out by the library.
 *
 * Invariant: one exit is one access (one an item of a string instruction): as wide as KVM reports it, in the byte order of
 * the guest's bytes; splitting to what a device implements is the library's business. The result of a read is in kvm_run
 * before the vCPU runs again.
 * Established by: exit_handle(), on the vCPU's thread, outside the guest. Lock: none.
 */
#include "accel/kvm/kvm.h"

#include <string.h>

static void count(uint64_t *what)
{
    __atomic_add_fetch(what, 1, __ATOMIC_RELAXED);
}

/* Typed where a width has a type, so that the guest's atomicity is that of the host's memory. */
static MemTxResult load(AddressSpace *as, hwaddr addr, void *data, unsigned size)
{
    MemTxResult result;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;

    switch (size) {
    case 1:
        return address_space_ldub(as, addr, MEMTXATTRS_UNSPECIFIED, data);
    case 2:
        result = address_space_lduw_le(as, addr, MEMTXATTRS_UNSPECIFIED, &u16);
        if (result == MEMTX_OK) {
            memcpy(data, &u16, 2); /* KVM's hosts of this library are little-endian */
        }
        return result;
    case 4:
        result = address_space_ldl_le(as, addr, MEMTXATTRS_UNSPECIFIED, &u32);
        if (result == MEMTX_OK) {
            memcpy(data, &u32, 4);
        }
        return result;
    case 8:
        result = address_space_ldq_le(as, addr, MEMTXATTRS_UNSPECIFIED, &u64);
        if (result == MEMTX_OK) {
            memcpy(data, &u64, 8);
        }
        return result;
    default:
        return address_space_read(as, addr, MEMTXATTRS_UNSPECIFIED, data, size);
    }
}

static MemTxResult store(AddressSpace *as, hwaddr addr, const void *data, unsigned size)
{
    uint64_t value = 0;

    switch (size) {
    case 1:
    case 2:
    case 4:
    case 8:
        memcpy(&value, data, size);
        break;
    default:
        return address_space_write(as, addr, MEMTXATTRS_UNSPECIFIED, data, size);
    }
    switch (size) {
    case 1:
        return address_space_stb(as, addr, MEMTXATTRS_UNSPECIFIED, (uint8_t)value);
    case 2:
        return address_space_stw_le(as, addr, MEMTXATTRS_UNSPECIFIED, (uint16_t)value);
    case 4:
        return address_space_stl_le(as, addr, MEMTXATTRS_UNSPECIFIED, (uint32_t)value);
    default:
        return address_space_stq_le(as, addr, MEMTXATTRS_UNSPECIFIED, value);
    }
}

static void carry_out(FlatviewKvm *kvm, AddressSpace *as, hwaddr addr, void *data, unsigned size, bool is_write)
{
    MemTxResult result = MEMTX_DECODE_ERROR;

    if (as) {
        result = is_write ? store(as, addr, data, size) : load(as, addr, data, size);
    }
    if (result != MEMTX_OK) {
        count(&kvm->stats.unassigned);
        if (!is_write) {
            memset(data, 0xff, size);
        }
    }
}

void exit_store(FlatviewKvm *kvm, bool pio, hwaddr addr, const void *data, unsigned size)
{
    AddressSpace *as = pio ? kvm->config.io : kvm->config.memory;

    if (!as || store(as, addr, data, size) != MEMTX_OK) {
        count(&kvm->stats.unassigned);
    }
}

int exit_handle(FlatviewKvmVcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    FlatviewKvm *kvm = vcpu->kvm;
    uint32_t i;

    zone_flush(kvm); /* this one comes after */
    switch (run->exit_reason) {
    case KVM_EXIT_MMIO:
        count(&kvm->stats.mmio_exits);
        carry_out(kvm, kvm->config.memory, run->mmio.phys_addr, run->mmio.data, run->mmio.len, run->mmio.is_write);
        return 1;
    case KVM_EXIT_IO:
        count(&kvm->stats.pio_exits);
        for (i = 0; i < run->io.count; i++) {
            carry_out(kvm, kvm->config.io, run->io.port, (uint8_t *)run + run->io.data_offset + i * run->io.size,
                      run->io.size, run->io.direction == KVM_EXIT_IO_OUT);
        }
        return 1;
    case KVM_EXIT_DIRTY_RING_FULL:
        dirty_ring_full(kvm);
        return 1;
    default:
        return 0;
    }
}
