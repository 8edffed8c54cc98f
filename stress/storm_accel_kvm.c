/* SPDX-License-Identifier: MIT */
/*
 * storm_accel_kvm.c - KVM in the storm.
 *
 * Invariant: taken[] is what the kernel has been told and has agreed to, slot by slot: it is kept by whoever carries the ioctl to
 * the kernel, not by the library under test. Guarded by lock, because a vCPU may give back a slot at any time.
 */
#include "storm_accel.h"

#include <flatview/accel/kvm.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SLOTS 4096u

static struct {
    int kvm_fd, vm_fd;
    FlatviewKvm *kvm;
    unsigned n;
    FlatviewKvmVcpu *vcpus[STORM_MAX_THREADS];
    int vcpu_fds[STORM_MAX_THREADS];
} self = { .kvm_fd = -1, .vm_fd = -1 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct kvm_userspace_memory_region taken[SLOTS];

static int carry(void *arg, int fd, unsigned long request, void *data)
{
    const struct kvm_userspace_memory_region *region = data;
    int ret = ioctl(fd, request, data);

    (void)arg;
    if (request == KVM_SET_USER_MEMORY_REGION && ret == 0) {
        pthread_mutex_lock(&lock);
        taken[region->slot] = *region;
        pthread_mutex_unlock(&lock);
    }
    return ret;
}

static bool table(unsigned i, AccelPieces *ret_pieces)
{
    FlatviewKvmStats stats;

    if (i > 0) {
        return false;
    }
    flatview_kvm_get_stats(self.kvm, &stats);
    if (stats.missing || stats.stuck) {
        storm_violation("kvm: %llu slots missing, %llu stuck, the last error is %d", (unsigned long long)stats.missing,
                        (unsigned long long)stats.stuck, stats.last_error);
    }
    pthread_mutex_lock(&lock);
    for (unsigned k = 0; k < SLOTS; k++) {
        const struct kvm_userspace_memory_region *r = &taken[k];

        if (r->memory_size) {
            AccelPiece piece = {
                .first = r->guest_phys_addr,
                .last = r->guest_phys_addr + r->memory_size - 1,
                .host = (uint8_t *)(uintptr_t)r->userspace_addr,
                .readonly = r->flags & KVM_MEM_READONLY,
            };

            pieces_add(ret_pieces, &piece);
        }
    }
    pthread_mutex_unlock(&lock);
    return true;
}

static bool wants(const MemoryRegionSection *section, bool *ret_readonly)
{
    *ret_readonly = section->readonly || memory_region_is_rom_device(section->mr);
    return true;
}

/* ---- the guest ---- */

static void flat_segment(struct kvm_segment *segment, uint8_t type)
{
    memset(segment, 0, sizeof(*segment));
    segment->limit = UINT32_MAX;
    segment->type = type;
    segment->present = segment->db = segment->s = segment->g = 1;
    segment->selector = type == 11 ? 8 : 16;
}

static int set_registers(unsigned i)
{
    struct kvm_regs regs = { .rip = GUEST_CODE, .rbx = GUEST_PAGE(i), .rflags = 2 };
    struct kvm_sregs sregs;

    if (ioctl(self.vcpu_fds[i], KVM_GET_SREGS, &sregs) < 0) {
        return -errno;
    }
    flat_segment(&sregs.cs, 11);
    flat_segment(&sregs.ds, 3);
    sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.ds;
    sregs.cr0 |= 1; /* protected mode */
    if (ioctl(self.vcpu_fds[i], KVM_SET_SREGS, &sregs) < 0 || ioctl(self.vcpu_fds[i], KVM_SET_REGS, &regs) < 0) {
        return -errno;
    }
    return 0;
}

static int make_vcpu(unsigned i)
{
    int error;

    self.vcpu_fds[i] = ioctl(self.vm_fd, KVM_CREATE_VCPU, i);
    if (self.vcpu_fds[i] < 0) {
        return -errno;
    }
    error = flatview_kvm_vcpu_new(self.kvm, self.vcpu_fds[i], &self.vcpus[i]);
    if (error) {
        close(self.vcpu_fds[i]);
        return error;
    }
    self.n++;
    return set_registers(i);
}

static const char *access_by_guest(unsigned i, Access *a)
{
    static __thread char what[80];
    GuestOp *page = accel_guest_page(i);
    int error;

    guest_tell(page, a);
    do {
        error = flatview_kvm_vcpu_run(self.vcpus[i]);
    } while (error == -EINTR);
    if (error) {
        return strerror(-error);
    }
    if (flatview_kvm_vcpu_state(self.vcpus[i])->exit_reason != KVM_EXIT_HLT) {
        snprintf(what, sizeof(what), "it leaves with exit reason %u", flatview_kvm_vcpu_state(self.vcpus[i])->exit_reason);
        return what;
    }
    guest_ask(page, a);
    return NULL;
}

/* ---- life ---- */

static void detach(void)
{
    for (unsigned i = 0; i < self.n; i++) {
        flatview_kvm_vcpu_free(self.vcpus[i]);
        close(self.vcpu_fds[i]);
    }
    if (self.kvm && flatview_kvm_free(self.kvm) != 0) {
        storm_violation("kvm: it does not end");
    }
    for (unsigned k = 0; k < SLOTS; k++) {
        if (taken[k].memory_size) {
            storm_violation("kvm: slot %u is left behind", k);
        }
    }
    close(self.vm_fd);
    close(self.kvm_fd);
}

static int attach(AddressSpace *as, unsigned n, const char **ret_what)
{
    FlatviewKvmConfig config = {
        .memory = as, .priority = MEMORY_LISTENER_PRIORITY_ACCEL, .max_slots = SLOTS, .ioctl = carry
    };
    int error = 0;

    *ret_what = "/dev/kvm";
    self.kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (self.kvm_fd < 0) {
        return -errno;
    }
    *ret_what = "KVM_CREATE_VM";
    self.vm_fd = config.vm_fd = ioctl(self.kvm_fd, KVM_CREATE_VM, 0);
    if (self.vm_fd < 0) {
        return -errno;
    }
    *ret_what = "flatview_kvm_new()";
    error = flatview_kvm_new(&config, &self.kvm);
    for (unsigned i = 0; i < n && !error; i++) {
        *ret_what = "a vCPU";
        error = make_vcpu(i);
    }
    return error;
}

const StormAccel storm_kvm = {
    .name = "kvm",
    .attach = attach,
    .detach = detach,
    .access = access_by_guest,
    .table = table,
    .wants = wants,
};
