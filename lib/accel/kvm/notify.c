/* SPDX-License-Identifier: MIT */
/*
 * notify.c - ioeventfds in the kernel.
 *
 * Invariant: an ioeventfd that the kernel has is one of the current view; one that it has not (not yet, no more, refused) is
 * kicked by dispatch after an exit, with the same meaning. So who writes to a doorbell cannot tell, and no write is lost in
 * between: removals come while the old view is current, additions when the new one is.
 * Established by: the callbacks here, of a listener for memory and one for ports. Relied on by: device back ends.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>

static int tell(FlatviewKvm *kvm, const MemoryRegionSection *section, bool match_data, uint64_t data, int fd, uint32_t flags)
{
    struct kvm_ioeventfd what = {
        .datamatch = data,
        .addr = section->offset_within_address_space,
        .len = (uint32_t)(section->last - section->offset_within_address_space + 1),
        .fd = fd,
        .flags = flags | (match_data ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0),
    };

    if (!what.len && !kvm->any_length) {
        return -EOPNOTSUPP;
    }
    return kvm_ioctl(kvm, kvm->config.vm_fd, KVM_IOEVENTFD, &what);
}

static void assign(FlatviewKvm *kvm, const MemoryRegionSection *section, bool match_data, uint64_t data, int fd,
                   uint32_t flags)
{
    int err = tell(kvm, section, match_data, data, fd, flags);

    pthread_mutex_lock(&kvm->lock);
    if (err == 0) {
        kvm->stats.eventfds++;
    } else {
        kvm->stats.eventfds_refused++;
        kvm->stats.failures++;
        kvm->stats.last_error = err;
    }
    pthread_mutex_unlock(&kvm->lock);
}

/* One that was refused is not found. Taking away what is there needs no memory: it does not fail. */
static void deassign(FlatviewKvm *kvm, const MemoryRegionSection *section, bool match_data, uint64_t data, int fd,
                     uint32_t flags)
{
    int err = tell(kvm, section, match_data, data, fd, flags | KVM_IOEVENTFD_FLAG_DEASSIGN);

    pthread_mutex_lock(&kvm->lock);
    kvm->stats.eventfds -= err == 0;
    pthread_mutex_unlock(&kvm->lock);
}

void notify_memory_add(MemoryListener *listener, const MemoryRegionSection *section, bool match_data, uint64_t data, int fd)
{
    assign(listener_kvm(listener), section, match_data, data, fd, 0);
}

void notify_memory_del(MemoryListener *listener, const MemoryRegionSection *section, bool match_data, uint64_t data, int fd)
{
    deassign(listener_kvm(listener), section, match_data, data, fd, 0);
}

static void port_add(MemoryListener *listener, const MemoryRegionSection *section, bool match_data, uint64_t data, int fd)
{
    assign(port_listener_kvm(listener), section, match_data, data, fd, KVM_IOEVENTFD_FLAG_PIO);
}

static void port_del(MemoryListener *listener, const MemoryRegionSection *section, bool match_data, uint64_t data, int fd)
{
    deassign(port_listener_kvm(listener), section, match_data, data, fd, KVM_IOEVENTFD_FLAG_PIO);
}

static int port_prepare(MemoryListener *listener, const MemoryDelta *delta)
{
    return zone_prepare(port_listener_kvm(listener), delta);
}

static void port_settle(MemoryListener *listener)
{
    FlatviewKvm *kvm = port_listener_kvm(listener);

    pthread_mutex_lock(&kvm->lock);
    zone_settle(kvm);
    memory_let_go(kvm); /* whatever the memory's listener has added by now is there */
    pthread_mutex_unlock(&kvm->lock);
}

static void port_abort(MemoryListener *listener, const MemoryDelta *delta)
{
    (void)delta;
    port_settle(listener);
}

int notify_start(FlatviewKvm *kvm)
{
    kvm->any_length = kvm_check(kvm, KVM_CAP_IOEVENTFD_ANY_LENGTH) > 0;
    if (!kvm->config.io) {
        return 0;
    }
    kvm->port_listener = (MemoryListener){
        .name = "kvm-ports",
        .priority = kvm->config.priority,
        .prepare = port_prepare,
        .abort = port_abort,
        .commit = port_settle,
        .coalesced_io_add = zone_port_add,
        .coalesced_io_del = zone_port_del,
        .eventfd_add = port_add,
        .eventfd_del = port_del,
    };
    return memory_listener_register(&kvm->port_listener, kvm->config.io);
}

int notify_stop(FlatviewKvm *kvm)
{
    return kvm->config.io ? memory_listener_unregister(&kvm->port_listener) : 0;
}
