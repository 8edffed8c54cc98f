/* SPDX-License-Identifier: MIT */
/*
 * machine.h - a live machine made from a map, through the public API and nothing else.
 */
#ifndef FLATVIEW_STRESS_MACHINE_H
#define FLATVIEW_STRESS_MACHINE_H

#include "topo.h"

#include <flatview/memory.h>

typedef struct Machine Machine;
typedef struct MachineOptions MachineOptions;

/* One region; callbacks find it by container_of(mr, MachineRegion, mr). Freed when the library releases it. */
typedef struct MachineRegion {
    MemoryRegion mr;
    uint64_t id;
    uint32_t index; /* in machine->topo; means nothing once the region is gone */
    void (*released)(struct MachineRegion *region);
    void *mapping; /* memory that the machine mapped for it: device RAM */
    size_t mapping_len;
    void *user;
} MachineRegion;

typedef struct MachineSpace {
    AddressSpace as;
    uint32_t index; /* in machine->topo */
    void (*released)(struct MachineSpace *space);
    void *user;
} MachineSpace;

/* How to make what the map leaves open. Zero gives a machine to look at: nothing answers, RAM is mapped on demand. */
struct MachineOptions {
    /* How an I/O region answers. NULL, or a return of NULL: it is a reservation. */
    const MemoryRegionOps *(*io_ops)(const TopoRegion *topo, const MachineOptions *options);
    const MemoryRegionOps *rom_ops; /* of ROM devices; NULL: an error to every access that calls back */
    /* Make a region with TOPO_RAM among its flags (the others say which sort): the return of an init function. NULL:
       the library allocates. */
    int (*init_ram)(MachineRegion *region, const TopoRegion *topo, const MachineOptions *options);
    void (*region_released)(MachineRegion *region); /* just before it is freed; any thread; may be NULL */
    void (*space_released)(MachineSpace *space);
    void *user;
};

/*
 * Who wants to follow a machine while it changes. Any may be NULL; returning false stops the change with the error set.
 */
typedef struct MachineWatch {
    bool (*space_made)(Machine *machine, MachineSpace *space, void *arg, InputError *err);
    void (*space_going)(Machine *machine, MachineSpace *space, void *arg);
    /* If set, every op is a commit of its own, and this runs after each. Meanwhile machine->topo is the old map and its
       arrays are as before. */
    bool (*op_done)(Machine *machine, void *arg, InputError *err);
    void *arg;
} MachineWatch;

struct Machine {
    const TopoFile *topo;    /* the map it stands for; the caller's */
    MachineRegion **regions; /* by index in topo */
    MachineSpace **spaces;
    MachineOptions options;
};

/* An empty machine. */
void machine_init(Machine *machine, const MachineOptions *options);

/*
 * Turn the machine into @topo, in one transaction (or op by op, see MachineWatch). @topo must outlive it. On failure,
 * with @err naming the line in @topo, the machine is what it was; only op by op it is something between, good for
 * nothing but machine_fini().
 */
bool machine_become(Machine *machine, const TopoFile *topo, const MachineWatch *watch, InputError *err);

/* Take everything down and wait until the library has given back what it can. */
void machine_fini(Machine *machine, const MachineWatch *watch);

#endif
