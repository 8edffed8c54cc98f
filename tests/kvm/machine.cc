/* SPDX-License-Identifier: MIT */
/*
 * machine.cc - see machine.h. What a virtual machine needs besides its memory is done here with plain ioctls, as a user of
 * the library would do it.
 */
#include "kvm/machine.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include <gtest/gtest.h>

constexpr hwaddr CODE = 0x1000, OPS = 0x8000;

Machine::Machine(unsigned n, const FlatviewKvmConfig &more)
{
    EXPECT_EQ(memory_region_init(&root, "memory", UINT64_MAX), 0);
    EXPECT_EQ(memory_region_init_ram(&ram, "ram", RAM_SIZE), 0);
    EXPECT_EQ(memory_region_init(&io_root, "io", 0x10000), 0);
    EXPECT_EQ(memory_region_add_subregion(&root, 0, &ram), 0);
    EXPECT_EQ(address_space_init(&memory, &root, "memory"), 0);
    EXPECT_EQ(address_space_init(&io, &io_root, "io"), 0);
    kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    EXPECT_GE(kvm_fd, 0);
    vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
    EXPECT_GE(vm_fd, 0);

    FlatviewKvmConfig config = more;
    config.vm_fd = vm_fd;
    config.memory = &memory;
    config.io = &io;
    EXPECT_EQ(flatview_kvm_new(&config, &kvm), 0);
    EXPECT_EQ(address_space_write(&memory, CODE, MEMTXATTRS_UNSPECIFIED, const_cast<char *>(x86_guest_begin),
                                  hwaddr(x86_guest_end - x86_guest_begin)), MEMTX_OK);
    for (unsigned i = 0; i < n; i++) {
        int fd = ioctl(vm_fd, KVM_CREATE_VCPU, i);
        FlatviewKvmVcpu *vcpu = nullptr;

        EXPECT_GE(fd, 0);
        EXPECT_EQ(flatview_kvm_vcpu_new(kvm, fd, &vcpu), 0);
        vcpu_fds.push_back(fd);
        vcpus.push_back(vcpu);
    }
}

Machine::~Machine()
{
    for (FlatviewKvmVcpu *vcpu : vcpus) {
        EXPECT_EQ(flatview_kvm_vcpu_free(vcpu), 0);
    }
    EXPECT_EQ(flatview_kvm_free(kvm), 0);
    for (int fd : vcpu_fds) {
        close(fd);
    }
    close(vm_fd);
    close(kvm_fd);
    EXPECT_EQ(address_space_destroy(&memory, nullptr), 0);
    EXPECT_EQ(address_space_destroy(&io, nullptr), 0);
    if (memory_region_get_parent(&ram)) {
        EXPECT_EQ(memory_region_del_subregion(&root, &ram), 0);
    }
    for (MemoryRegion *mr : {&ram, &root, &io_root}) {
        EXPECT_EQ(memory_region_destroy(mr), 0);
        EXPECT_EQ(memory_region_quiesce(mr), 0);
    }
}

static void flat_segment(kvm_segment *segment, unsigned type)
{
    *segment = {};
    segment->limit = 0xffffffff;
    segment->type = uint8_t(type);
    segment->present = segment->db = segment->s = segment->g = 1;
    segment->selector = type == 11 ? 8 : 16;
}

std::vector<Op> Machine::run(unsigned i, std::vector<Op> ops)
{
    const hwaddr list = OPS + 0x1000 * i;
    struct kvm_sregs sregs;
    struct kvm_regs regs = {};
    size_t n = ops.size();

    ops.push_back({OP_END, 0, 0, 0});
    EXPECT_EQ(address_space_write(&memory, list, MEMTXATTRS_UNSPECIFIED, ops.data(), ops.size() * sizeof(Op)), MEMTX_OK);
    EXPECT_EQ(ioctl(vcpu_fds[i], KVM_GET_SREGS, &sregs), 0);
    flat_segment(&sregs.cs, 11);
    for (kvm_segment *segment : {&sregs.ds, &sregs.es, &sregs.fs, &sregs.gs, &sregs.ss}) {
        flat_segment(segment, 3);
    }
    sregs.cr0 |= 1;
    EXPECT_EQ(ioctl(vcpu_fds[i], KVM_SET_SREGS, &sregs), 0);
    regs.rip = CODE;
    regs.rbx = list;
    regs.rflags = 2;
    EXPECT_EQ(ioctl(vcpu_fds[i], KVM_SET_REGS, &regs), 0);

    struct kvm_mp_state state = {KVM_MP_STATE_RUNNABLE};
    ioctl(vcpu_fds[i], KVM_SET_MP_STATE, &state); /* of the HLT before; unknown without an interrupt controller */
    error = flatview_kvm_vcpu_run(vcpus[i]);
    if (error == 0 && flatview_kvm_vcpu_state(vcpus[i])->exit_reason != KVM_EXIT_HLT) {
        error = int(flatview_kvm_vcpu_state(vcpus[i])->exit_reason);
        ADD_FAILURE() << "vCPU " << i << " left with exit reason " << error;
    }
    EXPECT_EQ(address_space_read(&memory, list, MEMTXATTRS_UNSPECIFIED, ops.data(), n * sizeof(Op)), MEMTX_OK);
    ops.resize(n);
    return ops;
}

FlatviewKvmStats Machine::stats()
{
    FlatviewKvmStats stats;

    flatview_kvm_get_stats(kvm, &stats);
    return stats;
}

static int push_slot(const FlatviewKvmSlot *slot, void *arg)
{
    static_cast<std::vector<FlatviewKvmSlot> *>(arg)->push_back(*slot);
    return 0;
}

std::vector<FlatviewKvmSlot> Machine::slots()
{
    std::vector<FlatviewKvmSlot> all;

    flatview_kvm_for_each_slot(kvm, push_slot, &all);
    return all;
}

static int push_section(const MemoryRegionSection *section, void *arg)
{
    static_cast<std::vector<MemoryRegionSection> *>(arg)->push_back(*section);
    return 0;
}

/* Page by page: what the view says, against the slot that is there. */
std::string Machine::difference()
{
    std::vector<MemoryRegionSection> sections;
    std::vector<FlatviewKvmSlot> table = slots();
    FlatView *view = address_space_get_flatview(&memory);
    size_t k = 0;
    char text[160];

    flatview_for_each_range(view, 0, UINT64_MAX, push_section, &sections);
    flatview_unref(view);
    for (const MemoryRegionSection &s : sections) {
        hwaddr page = (s.offset_within_address_space + 4095) & ~hwaddr(4095);

        for (; s.host && page <= s.last && s.last - page >= 4095; page += 4096) {
            char *host = static_cast<char *>(s.host) + (page - s.offset_within_address_space);

            while (k < table.size() && table[k].first + table[k].size <= page) {
                k++;
            }
            bool there = k < table.size() && table[k].first <= page;
            bool readonly = s.readonly || memory_region_is_rom_device(s.mr);

            if ((uintptr_t(host) & 4095) != (page & 4095)) {
                continue;
            }
            if (!there || static_cast<char *>(table[k].host) + (page - table[k].first) != host ||
                bool(table[k].flags & KVM_MEM_READONLY) != readonly || table[k].missing) {
                snprintf(text, sizeof(text), "page %#llx of '%s' is %s", (unsigned long long)page,
                         memory_region_name(s.mr), there ? "another memory in its slot" : "in no slot");
                return text;
            }
        }
    }
    for (const FlatviewKvmSlot &slot : table) {
        for (hwaddr page = slot.first; page < slot.first + slot.size; page += 4096) {
            bool found = false;

            for (const MemoryRegionSection &s : sections) {
                found |= s.host && s.offset_within_address_space <= page && s.last >= page + 4095;
            }
            if (!found) {
                snprintf(text, sizeof(text), "page %#llx is in slot %u and in no memory of the view",
                         (unsigned long long)page, slot.id);
                return text;
            }
        }
    }
    return "";
}
