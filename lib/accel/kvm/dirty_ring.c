/* SPDX-License-Identifier: MIT */
/*
 * dirty_ring.c - KVM's dirty rings, one a vCPU, in place of its bitmaps.
 *
 * Invariant: an entry that KVM has put into a ring is marked in the library's bitmaps before its page is protected again, and before
 * the slot that it names is gone. KVM makes the entry before the store that it is for: so a store that was completed before a
 * harvest began is in it or in an earlier one, and one that was not either becomes visible before the page is protected,
 * hence to whoever copies after the harvest, or makes another entry.
 * Established by: dirty_ring_harvest(), under lock, with the gate closed, for two reasons. Processors that log in hardware hand
 * over what they have when they leave the guest. And bits are taken without this lock: a page marked here may have been copied
 * before it is protected, and a store in between would be in no entry.
 * Relied on by: dirty.c.
 *
 * If the kernel does not protect pages again it would not tell of stores to them: all that is logged is taken to be dirty until
 * it has, and once more then, for what was written in between. How far it has come is counted in entries: the kernel leaves
 * off where a signal is pending, and says how many it has done, also none.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <sys/mman.h>

#define RESET_TRIES 100

static Slot *slot_of_number(FlatviewKvm *kvm, uint32_t number)
{
    size_t i;

    for (i = 0; i < kvm->table.n; i++) {
        size_t at = (kvm->dirty_last + i) % kvm->table.n; /* entries come in runs */

        if (memory_slot_number(kvm, &kvm->table.at[at]) == number) {
            kvm->dirty_last = at;
            return &kvm->table.at[at];
        }
    }
    return NULL; /* one of the caller's own */
}

static void mark(FlatviewKvm *kvm, const struct kvm_dirty_gfn *gfn)
{
    Slot *slot = slot_of_number(kvm, gfn->slot);
    uint64_t offset = gfn->offset * kvm->page;

    if (slot && offset < slot->size) {
        memory_region_set_dirty(slot->mr, slot->mr_offset + offset, kvm->page);
    }
}

static unsigned harvest_one(FlatviewKvm *kvm, FlatviewKvmVcpu *vcpu)
{
    unsigned n = 0;

    for (;;) {
        struct kvm_dirty_gfn *gfn = &vcpu->dirty[vcpu->dirty_next % kvm->stats.dirty_ring];

        if (!(__atomic_load_n(&gfn->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY)) {
            return n;
        }
        mark(kvm, gfn);
        __atomic_store_n(&gfn->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
        vcpu->dirty_next++;
        n++;
    }
}

/* A signal that was pending has been delivered by the next call; after as many without progress the rest is left for later. */
static void reset(FlatviewKvm *kvm)
{
    unsigned idle = 0;

    while (kvm->dirty_unreset && idle < RESET_TRIES) {
        int done = kvm_ioctl(kvm, kvm->config.vm_fd, KVM_RESET_DIRTY_RINGS, NULL);

        if (done < 0 && done != -EINTR) {
            kvm->stats.failures++;
            kvm->stats.last_error = done;
            return;
        }
        if (done <= 0) {
            idle++;
            continue;
        }
        idle = 0;
        kvm->dirty_unreset -= (uint32_t)done < kvm->dirty_unreset ? (uint32_t)done : kvm->dirty_unreset;
        kvm->stats.dirty_clears++;
    }
}

void dirty_ring_harvest(FlatviewKvm *kvm)
{
    bool behind = kvm->dirty_unreset;
    GateMember *member;
    unsigned n = 0;
    size_t i;

    pthread_mutex_lock(&kvm->gate.lock);
    for (member = kvm->gate.members; member; member = member->next) {
        n += harvest_one(kvm, member_vcpu(member));
    }
    pthread_mutex_unlock(&kvm->gate.lock);
    kvm->stats.dirty_pages += n;
    kvm->dirty_unreset += n;
    reset(kvm);
    for (i = 0; (behind || kvm->dirty_unreset) && i < kvm->table.n; i++) {
        dirty_take_all(&kvm->table.at[i]);
    }
}

/* The vCPU whose ring it is has left the guest; the others are asked to. */
void dirty_ring_full(FlatviewKvm *kvm)
{
    pthread_mutex_lock(&kvm->lock);
    kvm->stats.dirty_ring_full++;
    gate_close(&kvm->gate);
    dirty_ring_harvest(kvm);
    gate_open(&kvm->gate);
    pthread_mutex_unlock(&kvm->lock);
}

/* ---- life ---- */

/* Not if the kernel cannot, or vCPUs were made before: there are bitmaps. */
void dirty_ring_start(FlatviewKvm *kvm)
{
    struct kvm_enable_cap enable = {.cap = KVM_CAP_DIRTY_LOG_RING};
    int most = kvm->config.dirty_ring ? kvm_check(kvm, KVM_CAP_DIRTY_LOG_RING) : 0;

    enable.args[0] = (uint64_t)kvm->config.dirty_ring * sizeof(struct kvm_dirty_gfn);
    if (most > 0 && enable.args[0] <= (uint64_t)most &&
        kvm_ioctl(kvm, kvm->config.vm_fd, KVM_ENABLE_CAP, &enable) == 0) {
        kvm->stats.dirty_ring = kvm->config.dirty_ring;
    }
}

int dirty_ring_map(FlatviewKvmVcpu *vcpu)
{
    FlatviewKvm *kvm = vcpu->kvm;
    void *ring;

    if (!kvm->stats.dirty_ring) {
        return 0;
    }
    ring = mmap(NULL, kvm->stats.dirty_ring * sizeof(struct kvm_dirty_gfn), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd,
                (off_t)(KVM_DIRTY_LOG_PAGE_OFFSET * kvm->page));
    if (ring == MAP_FAILED) {
        return -errno;
    }
    vcpu->dirty = ring;
    return 0;
}

void dirty_ring_unmap(FlatviewKvmVcpu *vcpu)
{
    if (vcpu->dirty) {
        munmap(vcpu->dirty, vcpu->kvm->stats.dirty_ring * sizeof(struct kvm_dirty_gfn));
    }
}
