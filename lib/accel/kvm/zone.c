/* SPDX-License-Identifier: MIT */
/*
 * zone.c - writes that KVM has collected in its zones, on their way into the library's rings.
 *
 * Invariant: a write in KVM's ring belongs to a range that the current view coalesces there. A range is registered after the view
 * is published in which it is there; it is unregistered while the old view is still current, and before that callback returns
 * the ring has been emptied. So each write is resolved by a view that has it, whoever takes it out, and the region's own
 * ring has it before the map changes: from there on it is delivered by the rules of memory_coalesced.h, also if the region is
 * shown nowhere any more.
 * Established by: zone_add(), zone_del(), move(). Relied on by: devices. A range that the kernel does not give back keeps
 * vCPUs out of the guest, as a slot does.
 *
 * The lock of the ring makes one order of all who take writes out: vCPUs on each exit, flushes (through the source), the
 * withdrawal, and the thread that bounds the time. Under it nobody is called and nothing is waited for: a write moves from one
 * ring to the other. What runs a device's callbacks is a flush, and that is made with no lock, by a thread that may
 * wait; not by the withdrawal, which has the topology lock that such a callback may want. For that there is room that is used by
 * nobody else, enough for one ring: prepare() refuses the commit if it has not been emptied since the last time, and where
 * one commit withdraws several ranges, vCPUs are held, so that the ring is not filled again between two of them.
 */
#include "accel/kvm/kvm.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define DEFAULT_MS 10

static bool is_empty(FlatviewKvm *kvm)
{
    struct kvm_coalesced_mmio_ring *ring = __atomic_load_n(&kvm->ring, __ATOMIC_ACQUIRE);

    /* first: whoever moves it has put the write into the library's ring before. */
    return !ring || __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE) == __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE);
}

static uint32_t ring_capacity(const FlatviewKvm *kvm)
{
    return (uint32_t)((kvm->page - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio));
}

/*
 * What is in the ring now, and not what comes meanwhile: of a withdrawal that would be more than there is room for. 0: done.
 * -ENOBUFS: a region has no room. -ENOENT: *ret_other is none that waits: it was taken out, make it. Under ring_lock.
 */
static int move(FlatviewKvm *kvm, bool withdrawn, struct kvm_coalesced_mmio *ret_other)
{
    struct kvm_coalesced_mmio_ring *ring = kvm->ring;
    uint32_t first = ring->first, last = __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE);
    int ret = 0;

    while (ret == 0 && first != last) {
        const struct kvm_coalesced_mmio *entry = &ring->coalesced_mmio[first];
        AddressSpace *as = entry->pio ? kvm->config.io : kvm->config.memory;
        uint64_t value = 0;

        memcpy(&value, entry->data, entry->len < 8 ? entry->len : 8);
        ret = address_space_queue_coalesced(as, entry->phys_addr, entry->len, value, MEMTXATTRS_UNSPECIFIED, withdrawn);
        if (ret == -ENOBUFS) {
            return ret;
        }
        if (ret == -EACCES) { /* nobody would take it, and it wakes nobody: done */
            __atomic_add_fetch(&kvm->stats.unassigned, 1, __ATOMIC_RELAXED);
            ret = 0;
        }
        *ret_other = *entry;
        first = (first + 1) % ring_capacity(kvm);
        __atomic_store_n(&ring->first, first, __ATOMIC_RELEASE);
        kvm->coalesced_writes++;
    }
    return ret;
}

/* What is there now: 0; or as far as there is room: -ENOBUFS. */
static int take_out(FlatviewKvm *kvm, bool withdrawn)
{
    struct kvm_coalesced_mmio other;
    int ret;

    do {
        pthread_mutex_lock(&kvm->ring_lock);
        ret = is_empty(kvm) ? 0 : move(kvm, withdrawn, &other);
        pthread_mutex_unlock(&kvm->ring_lock);
        if (ret == -ENOENT || ret == -EINVAL) {
            exit_store(kvm, other.pio, other.phys_addr, other.data, other.len); /* an error, or a kick */
        }
    } while (ret == -ENOENT || ret == -EINVAL);
    return ret;
}

void zone_flush(FlatviewKvm *kvm)
{
    while (!is_empty(kvm) && take_out(kvm, false) == -ENOBUFS) {
        address_space_flush_coalesced(kvm->config.memory); /* of all spaces */
    }
}

static bool collect(MemoryCoalescedSource *source)
{
    FlatviewKvm *kvm = (FlatviewKvm *)((char *)source - offsetof(FlatviewKvm, source));

    return !is_empty(kvm) && take_out(kvm, false) == -ENOBUFS;
}

/* ---- ranges; under the topology lock ---- */

static int reserve_zone(FlatviewKvm *kvm)
{
    size_t cap = kvm->cap_zones ? 2 * kvm->cap_zones : 16;
    KvmZone *grown;

    if (kvm->n_zones < kvm->cap_zones) {
        return 0;
    }
    grown = realloc(kvm->zones, cap * sizeof(*grown));
    if (!grown) {
        return -ENOMEM;
    }
    kvm->zones = grown;
    kvm->cap_zones = cap;
    return 0;
}

static int tell(FlatviewKvm *kvm, unsigned long request, struct kvm_coalesced_mmio_zone *zone)
{
    int err = kvm_ioctl(kvm, kvm->config.vm_fd, request, zone);

    if (err < 0) {
        kvm->stats.failures++;
        kvm->stats.last_error = err;
    }
    return err < 0 ? err : 0;
}

static void zone_add(FlatviewKvm *kvm, bool pio, MemoryRegion *mr, hwaddr addr, hwaddr len)
{
    KvmZone zone = {.zone = {.addr = addr, .size = (uint32_t)len, .pio = pio}, .mr = mr};

    pthread_mutex_lock(&kvm->lock);
    /* Without it each write is an exit, and dispatch puts it into the same ring. */
    if (!kvm->ring_page || (pio && !kvm->coalesced_pio) || len > UINT32_MAX || reserve_zone(kvm) < 0 ||
        tell(kvm, KVM_REGISTER_COALESCED_MMIO, &zone.zone) < 0) {
        kvm->stats.coalesced_refused++;
    } else {
        kvm->zones[kvm->n_zones++] = zone;
        pthread_cond_signal(&kvm->ring_wanted);
    }
    pthread_mutex_unlock(&kvm->lock);
}

static KvmZone *find_zone(FlatviewKvm *kvm, bool pio, hwaddr addr, hwaddr len)
{
    size_t i;

    for (i = 0; i < kvm->n_zones; i++) {
        KvmZone *zone = &kvm->zones[i];

        if (!zone->stuck && zone->zone.addr == addr && zone->zone.size == len && zone->zone.pio == pio) {
            return zone;
        }
    }
    return NULL; /* it was refused */
}

static void zone_del(FlatviewKvm *kvm, bool pio, hwaddr addr, hwaddr len)
{
    KvmZone *zone;

    pthread_mutex_lock(&kvm->lock);
    zone = find_zone(kvm, pio, addr, len);
    if (zone && kvm->n_withdrawn > 1) {
        memory_hold(kvm);
    }
    if (zone && tell(kvm, KVM_UNREGISTER_COALESCED_MMIO, &zone->zone) == 0) {
        *zone = kvm->zones[--kvm->n_zones];
    } else if (zone) {
        memory_hold(kvm);
        zone->stuck = true;
        kvm->n_stuck_zones++;
    }
    pthread_mutex_unlock(&kvm->lock);
    /* No vCPU is in the middle of one: KVM has waited for them. */
    if (zone && take_out(kvm, true) == -ENOBUFS) {
        pthread_mutex_lock(&kvm->lock);
        kvm->stats.coalesced_lost++; /* not lost yet: whoever comes next finds another view */
        pthread_mutex_unlock(&kvm->lock);
    }
}

int zone_unstick(FlatviewKvm *kvm)
{
    size_t i;
    int err = 0;

    for (i = kvm->n_stuck_zones ? kvm->n_zones : 0; i-- > 0 && err == 0;) {
        if (kvm->zones[i].stuck) {
            err = tell(kvm, KVM_UNREGISTER_COALESCED_MMIO, &kvm->zones[i].zone);
            if (err == 0) {
                kvm->zones[i] = kvm->zones[--kvm->n_zones];
                kvm->n_stuck_zones--;
            }
        }
    }
    return err;
}

/* When a range is withdrawn, can what the ring may hold be taken by whom it is for? That is anybody who has a range. */
int zone_prepare(FlatviewKvm *kvm, const MemoryDelta *delta)
{
    const MemoryPlaneDelta *plane = &delta->planes[MEMORY_PLANE_COALESCED];
    int err = 0;
    size_t i;

    if (!plane->n_old || !kvm->ring_page) {
        return 0;
    }
    take_out(kvm, false);
    pthread_mutex_lock(&kvm->lock);
    for (i = 0; i < kvm->n_zones && err == 0; i++) {
        if (!kvm->zones[i].stuck && memory_region_coalesced_room(kvm->zones[i].mr) < ring_capacity(kvm)) {
            err = -EAGAIN;
        }
    }
    kvm->n_withdrawn += err == 0 ? plane->n_old : 0;
    pthread_mutex_unlock(&kvm->lock);
    return err;
}

/* Under lock: the commit is over, or does not come. */
void zone_settle(FlatviewKvm *kvm)
{
    kvm->n_withdrawn = 0;
}

void zone_memory_add(MemoryListener *listener, const MemoryRegionSection *section, hwaddr addr, hwaddr len)
{
    zone_add(listener_kvm(listener), false, section->mr, addr, len);
}

void zone_memory_del(MemoryListener *listener, const MemoryRegionSection *section, hwaddr addr, hwaddr len)
{
    (void)section;
    zone_del(listener_kvm(listener), false, addr, len);
}

void zone_port_add(MemoryListener *listener, const MemoryRegionSection *section, hwaddr addr, hwaddr len)
{
    zone_add(port_listener_kvm(listener), true, section->mr, addr, len);
}

void zone_port_del(MemoryListener *listener, const MemoryRegionSection *section, hwaddr addr, hwaddr len)
{
    (void)section;
    zone_del(port_listener_kvm(listener), true, addr, len);
}

/* ---- in time ---- */

static void wait_a_while(FlatviewKvm *kvm)
{
    unsigned ms = kvm->config.coalesced_ms ? kvm->config.coalesced_ms : DEFAULT_MS;
    struct timespec until;

    if (!kvm->n_zones || ms == UINT_MAX) {
        pthread_cond_wait(&kvm->ring_wanted, &kvm->lock);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&kvm->ring_wanted, &kvm->lock, &until);
}

static void *ring_main(void *arg)
{
    FlatviewKvm *kvm = arg;

    pthread_mutex_lock(&kvm->lock);
    while (!kvm->ring_ending) {
        wait_a_while(kvm);
        pthread_mutex_unlock(&kvm->lock);
        zone_flush(kvm);
        pthread_mutex_lock(&kvm->lock);
    }
    pthread_mutex_unlock(&kvm->lock);
    return NULL;
}

/* ---- life ---- */

int zone_start(FlatviewKvm *kvm)
{
    int page = kvm_check(kvm, KVM_CAP_COALESCED_MMIO), err;
    sigset_t all, before;

    /* The room that is kept for a withdrawal must be enough for a whole ring: of a page of 4 KiB it is. */
    if (page <= 0 || ring_capacity(kvm) > MEMORY_COALESCED_RING) {
        return 0;
    }
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = -pthread_create(&kvm->ring_thread, NULL, ring_main, kvm);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err < 0) {
        return err;
    }
    kvm->ring_page = (uint64_t)page;
    kvm->coalesced_pio = kvm_check(kvm, KVM_CAP_COALESCED_PIO) > 0;
    return 0;
}

/* The ring is the machine's, and there to be mapped from any vCPU. Flushes ask for what is in it from here on, not before: a mirror
   that has had no vCPU may end wherever it was begun, and zone_end() waits for who is asking. */
int zone_map(FlatviewKvm *kvm, int vcpu_fd)
{
    int err = 0;
    void *ring;

    pthread_mutex_lock(&kvm->lock);
    if (kvm->ring_page && !kvm->ring) {
        ring = mmap(NULL, kvm->page, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, (off_t)(kvm->ring_page * kvm->page));
        if (ring == MAP_FAILED) {
            err = -errno;
        } else {
            __atomic_store_n(&kvm->ring, ring, __ATOMIC_RELEASE);
            kvm->source.collect = collect;
            memory_coalesced_source_register(&kvm->source); /* refuses what is there already, which this is not */
        }
    }
    pthread_mutex_unlock(&kvm->lock);
    return err;
}

int zone_end(FlatviewKvm *kvm)
{
    return memory_coalesced_source_unregister(&kvm->source) == -EDEADLK ? -EDEADLK : 0;
}

void zone_stop(FlatviewKvm *kvm)
{
    if (kvm->ring_page) {
        pthread_mutex_lock(&kvm->lock);
        kvm->ring_ending = true;
        pthread_cond_signal(&kvm->ring_wanted);
        pthread_mutex_unlock(&kvm->lock);
        pthread_join(kvm->ring_thread, NULL);
    }
    if (kvm->ring) {
        munmap(kvm->ring, kvm->page);
    }
    free(kvm->zones);
}
