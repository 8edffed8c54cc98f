/* SPDX-License-Identifier: MIT */
/*
 * storm_doorbell.h - what storm_doorbell.c, which changes devices with ioeventfds, shares with storm_doorbell_ring.c, which
 * writes to them.
 */
#ifndef FLATVIEW_STRESS_STORM_DOORBELL_H
#define FLATVIEW_STRESS_STORM_DOORBELL_H

#include "storm_planes.h"

#define DEVICES 4u
#define BELLS 24u
#define CORNER (16 * STORM_PAGE) /* where one device moves about */
#define BUS (DEVICES * CORNER)
#define COVER_AT 0x20u /* what lies there is hidden when the cover is on: bells 8 to 15 */
#define COVER_SIZE 0x20u

typedef struct DoorState { /* each field atomic, for vCPUs read while the writer writes, and then do not believe it */
    uint32_t bells;    /* mask */
    bool shown, covered;
    hwaddr where; /* on the bus */
} DoorState;

typedef struct Bell {
    int fd;
    uint64_t owed; /* atomic: kicks since the last rest */
} Bell;

typedef struct DoorDevice {
    MemoryRegion corner, regs, cover;
    uint64_t seq; /* atomic */
    DoorState now;
    Bell bells[BELLS];
} DoorDevice;

extern AddressSpace doorbell_space;
extern DoorDevice doorbell_devices[DEVICES];

enum { DOORBELL_KICKS, DOORBELL_CALLS, DOORBELL_HIDDEN, DOORBELL_CHANGES, DOORBELL_ABORTS, DOORBELL_KINDS };
extern uint64_t doorbell_did[DOORBELL_KINDS];

/* storm_doorbell_ring.c */
extern const MemoryRegionOps doorbell_ops;
MemoryRegionEventfd doorbell_spec(const DoorDevice *device, unsigned i); /* what bell i of a device is */
void doorbell_ring(StormThread *t);                                   /* a burst of writes */

#endif
