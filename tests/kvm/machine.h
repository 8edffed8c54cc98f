/* SPDX-License-Identifier: MIT */
/*
 * machine.h - a small machine on real KVM: memory at 0, a vCPU or two, and guests that carry out lists of operations.
 */
#ifndef FLATVIEW_TESTS_KVM_MACHINE_H
#define FLATVIEW_TESTS_KVM_MACHINE_H

#include <linux/kvm.h>

#include <string>
#include <vector>

#include <flatview/accel/kvm.h>
#include <flatview/memory.h>

#include "shim/guest_x86.h"

constexpr uint64_t RAM_SIZE = 16 << 20;

class Machine {
public:
    explicit Machine(unsigned vcpus = 1, const FlatviewKvmConfig &more = {});
    ~Machine();
    Machine(const Machine &) = delete;

    /* Let a vCPU carry out ops, and return them with what they became. In the caller's thread. */
    std::vector<Op> run(unsigned vcpu, std::vector<Op> ops);
    uint32_t load32(hwaddr addr, unsigned vcpu = 0) { return run(vcpu, {{OP_LOAD32, uint32_t(addr), 0, 0}})[0].value; }
    void store32(hwaddr addr, uint32_t value) { run(0, {{OP_STORE32, uint32_t(addr), value, 0}}); }

    FlatviewKvmStats stats();
    std::vector<FlatviewKvmSlot> slots();
    /* What differs between the slots and what the current view asks for; empty if nothing does. */
    std::string difference();

    int error = 0; /* of the last run, if it did not end in HLT */
    MemoryRegion root, ram, io_root;
    AddressSpace memory, io;
    FlatviewKvm *kvm = nullptr;
    int vm_fd = -1;
    std::vector<FlatviewKvmVcpu *> vcpus;

private:
    int kvm_fd = -1;
    std::vector<int> vcpu_fds;
};

#endif
