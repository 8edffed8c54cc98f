/* SPDX-License-Identifier: MIT */
/*
 * storm_planes.c - `flatview storm --planes`: the threads that storm what lies beside the map, and their moments of rest.
 *
 * Invariant: whoever is in a turn holds `turns` for reading, and is in no transaction or read section between two, nor in a
 * mapping but those of storm_dma_map.c. Who holds it for writing therefore finds each part as its last commit left it: what is
 * counted must add up, what is mirrored must be equal, what is copied must be the original.
 *
 * No callback of the library takes `turns`, and whoever waits for it for writing holds nothing else.
 */
#include "storm_planes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const StormPlane *const all[] = {
    &storm_dirty,
    &storm_doorbell,
    &storm_coalesced,
    &storm_iommu,
    &storm_dma,
    &storm_serial,
    &storm_resize,
    &storm_interpose,
};

#define PLANES (sizeof(all) / sizeof(all[0]))
#define THREADS (PLANE_VCPUS + PLANE_ROLES - 1)

static struct {
    pthread_rwlock_t turns;
    StormThread *threads[THREADS];
    const StormPlane *planes[PLANES];
    unsigned n_planes;             /* chosen */
    unsigned n_running, n_started; /* threads; planes whose start() was called */
    unsigned focus;                /* changed at rest: the plane where most turns are taken, so that threads meet */
    uint64_t rests;
} self;

static void choose(const StormPlane *plane)
{
    for (unsigned k = 0; k < self.n_planes; k++) {
        if (self.planes[k] == plane) {
            return;
        }
    }
    self.planes[self.n_planes++] = plane;
}

bool planes_choose(const char *name)
{
    bool found = false;

    for (unsigned i = 0; i < PLANES; i++) {
        if (!name || strcmp(name, all[i]->name) == 0) {
            choose(all[i]);
            found = true;
        }
    }
    return found;
}

bool planes_choose_for(const char *sabotage)
{
    bool found = false;

    for (unsigned i = 0; i < PLANES; i++) {
        for (const char *const *s = all[i]->sabotages; *s; s++) {
            if (strcmp(*s, sabotage) == 0) {
                choose(all[i]);
                found = true;
            }
        }
    }
    return found;
}

bool plane_ok(const StormPlane *plane, const char *what, int error)
{
    if (error) {
        storm_violation("%s: %s: %s", plane->name, what, strerror(-error));
    }
    return !error;
}

void plane_end(const StormPlane *plane, AddressSpace *const *spaces, MemoryRegion *const *regions)
{
    for (; *spaces; spaces++) {
        plane_ok(plane, "the end of a space", address_space_destroy(*spaces, NULL));
    }
    for (; *regions; regions++) {
        plane_ok(plane, "the end of a region", memory_region_destroy(*regions));
    }
}

static PlaneRole role_of(unsigned index)
{
    return index < PLANE_VCPUS ? PLANE_VCPU : (PlaneRole)(PLANE_WRITER + (index - PLANE_VCPUS));
}

static void *plane_main(void *arg)
{
    StormThread *t = storm_self = arg;
    PlaneRole role = role_of(t->index);

    if (role == PLANE_VCPU && memory_thread_register() < 0) {
        storm_violation("a thread cannot be registered");
        return NULL;
    }
    for (unsigned turn = 0; !storm_stopping(); turn++) {
        const StormPlane *plane;

        pthread_rwlock_rdlock(&self.turns);
        plane = self.planes[(turn % 4 ? self.focus : turn / 4) % self.n_planes];
        if (plane->turn[role]) {
            plane->turn[role](t);
        }
        pthread_rwlock_unlock(&self.turns);
        if (role != PLANE_VCPU) {
            usleep((useconds_t)storm_below(t, 400)); /* changes are for the vCPUs to meet, not to live in */
        }
    }
    if (role == PLANE_VCPU) {
        memory_thread_unregister();
    }
    return NULL;
}

bool planes_start(void)
{
    pthread_rwlockattr_t attr;
    bool ok;

    /* The ones who rest must come to it, however many there are that turn. */
    ok = pthread_rwlockattr_init(&attr) == 0 &&
         pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) == 0 &&
         pthread_rwlock_init(&self.turns, &attr) == 0;
    for (unsigned i = 0; i < THREADS && ok; i++) {
        StormThread *t = self.threads[i] = aligned_alloc(64, sizeof(*t));

        if ((ok = t != NULL)) {
            memset(t, 0, sizeof(*t));
            t->index = i;
            t->rng = backing_word((uint32_t)storm.seed, 8ull * (i + 1 + STORM_MAX_THREADS)) | 1;
        }
    }
    while (ok && self.n_started < self.n_planes) {
        ok = self.planes[self.n_started++]->start();
    }
    return ok;
}

bool planes_blow(void)
{
    for (; self.n_running < THREADS; self.n_running++) {
        StormThread *t = self.threads[self.n_running];

        if (pthread_create(&t->thread, NULL, plane_main, t) != 0) {
            storm_violation("a thread cannot be made");
            return false;
        }
    }
    return true;
}

void planes_rest(void)
{
    if (self.n_running) {
        pthread_rwlock_wrlock(&self.turns);
        for (unsigned i = 0; i < self.n_planes; i++) {
            self.planes[i]->judge();
        }
        self.rests++;
        self.focus++;
        pthread_rwlock_unlock(&self.turns);
    }
}

bool planes_complete(void)
{
    for (unsigned i = 0; i < self.n_planes; i++) {
        const StormPlane *plane = self.planes[i];

        for (unsigned kind = 0; plane->kinds[kind]; kind++) {
            if (!__atomic_load_n(&plane->did[kind], __ATOMIC_RELAXED)) {
                return false;
            }
        }
    }
    return true;
}

static void demand_complete(const StormPlane *plane)
{
    for (unsigned kind = 0; plane->kinds[kind]; kind++) {
        if (!plane->did[kind]) {
            storm_violation("%s: nothing was tested of this: %s", plane->name, plane->kinds[kind]);
        }
    }
}

void planes_stop(void)
{
    bool whole = !__atomic_load_n(&storm.violations, __ATOMIC_RELAXED); /* else it may have ended early */

    for (unsigned i = 0; i < self.n_running; i++) {
        pthread_join(self.threads[i]->thread, NULL);
    }
    planes_rest();
    while (self.n_started > 0) {
        const StormPlane *plane = self.planes[--self.n_started];

        plane->finish();
        if (whole) {
            demand_complete(plane);
        }
    }
    for (unsigned i = 0; i < THREADS; i++) {
        free(self.threads[i]);
    }
}

void planes_print(void)
{
    for (unsigned i = 0; i < self.n_planes; i++) {
        const StormPlane *plane = self.planes[i];

        printf("%-11s", plane->name);
        for (unsigned kind = 0; plane->kinds[kind]; kind++) {
            printf("%s%" PRIu64 " %s", kind ? ", " : " ", plane->did[kind], plane->kinds[kind]);
        }
        putchar('\n');
    }
    if (self.rests) {
        printf("%" PRIu64 " times all stood still and were judged\n", self.rests);
    }
}
