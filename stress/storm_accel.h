/* SPDX-License-Identifier: MIT */
/*
 * storm_accel.h - `flatview storm --accel NAME`: an accelerator in the storm. Its table follows the storm's commits and is
 * compared with the views; its guest makes accesses that are judged like all others.
 *
 *   storm_accel.c        the space that is mirrored, the listener that checks, the comparison
 *   storm_accel_guest.c  x86 code for guests that carry out one access at a time
 *   storm_accel_kvm.c    KVM
 *   storm_accel_unicorn.c    Unicorn, in an executable of its own
 *
 * To add one: fill in a StormAccel and put it in storm_accels[].
 */
#ifndef FLATVIEW_STRESS_STORM_ACCEL_H
#define FLATVIEW_STRESS_STORM_ACCEL_H

#include "storm.h"

/* A stretch of guest addresses that the accelerator has mapped. */
typedef struct AccelPiece {
    hwaddr first, last;
    uint8_t *host;
    bool readonly;
} AccelPiece;

typedef struct AccelPieces {
    AccelPiece *list; /* sorted by whoever asked */
    size_t n, room;
} AccelPieces;

bool pieces_add(AccelPieces *pieces, const AccelPiece *piece);

struct StormAccel {
    const char *name;
    /* Mirror @as, for vCPUs 0 to @n - 1 (as many as the storm has, whose threads they are). 0, or an errno, with what failed. */
    int (*attach)(AddressSpace *as, unsigned n, const char **ret_what);
    void (*detach)(void); /* after the vCPUs' threads have ended */
    /*
     * Have the guest of a vCPU carry out @a: an aligned load or store of 1, 2 or 4 bytes, little-endian. The data is in
     * @a->data, before or after; what nothing answers is ones. NULL, or what went wrong. On the vCPU's thread, which holds
     * the history, so be brief. NULL callback: it has no guest.
     */
    const char *(*access)(unsigned vcpu, Access *a);
    /* What is mapped now, of table @i; false: there is no such table. Under the topology lock. */
    bool (*table)(unsigned i, AccelPieces *ret_pieces);
    /* Is this memory to be mapped, and how? Of memory that is the guest's: section->host is not NULL. */
    bool (*wants)(const MemoryRegionSection *section, bool *ret_readonly);
    bool lazy; /* what is missing, or not to be written, is no fault: it is not there yet */
};

extern const StormAccel storm_kvm;
extern const StormAccel storm_unicorn __attribute__((weak)); /* there, or not, by what is linked */

const StormAccel *accel_find(const char *name); /* NULL: there is none here */
const char *accel_names(void);

/* ---- for storm.c and the others ---- */

bool accel_setup(const StormAccel *accel); /* the space, when the machine is there */
bool accel_start(void);                    /* listeners; complains on standard error */
void accel_rest(void);                     /* compare, and disturb the guest's own memory. Main thread */
void accel_stop(void);                     /* compare and detach; after all threads */
void accel_teardown(void);
void accel_print(void);
StormSpace *accel_space(void); /* that is mirrored; NULL: there is none */
bool accel_take(StormThread *t, const StormSpace *space, Access *a); /* make @a one for the guest; false: as it was */
const char *accel_access(StormThread *t, Access *a);                 /* NULL, or what went wrong */

/* ---- guests (storm_accel_guest.c) ---- */

/*
 * The guest's own memory, at fixed addresses in the space: a page of code, and one page for each vCPU by which it is told
 * what to do. The code is x86: 32-bit, flat segments, no paging, position-independent, without a stack. %ebx is the
 * address of the vCPU's page; entered at its first byte; after each access it halts, and goes on with the next
 * when it is resumed behind the halt, or entered anew.
 */
#define GUEST_BASE UINT64_C(0xffe00000) /* below it the guest sees what the storm's first space shows */
#define GUEST_CODE (GUEST_BASE + 0x1000)
#define GUEST_PAGES (GUEST_BASE + 0x4000) /* the pages between are in no memory: vCPUs that look across an edge find little */
#define GUEST_PAGE(vcpu) (GUEST_PAGES + (hwaddr)(vcpu) * STORM_PAGE)

typedef struct GuestOp {
    uint32_t what; /* size, and 8 for a store */
    uint32_t addr, value, spin; /* how often to go round before */
} GuestOp;

extern const char storm_guest_code[], storm_guest_code_end[];

void guest_tell(GuestOp *page, const Access *a);
void guest_ask(const GuestOp *page, Access *a);

/* For accelerators: the host's side of GUEST_PAGE(vcpu). */
GuestOp *accel_guest_page(unsigned vcpu);

#endif
