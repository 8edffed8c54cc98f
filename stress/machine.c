/* SPDX-License-Identifier: MIT */
/*
 * machine.c - carries out steps (step.h) on live regions.
 *
 * Invariant: regions[] and spaces[] name, by index in topo, exactly the objects that this machine owns; made regions
 * enter them only when the step that made them is committed. A failed step destroys what it made and nothing else.
 */
#include "machine.h"

#include "step.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Present but speechless. */
static MemTxResult mute_read(MemoryRegion *mr, hwaddr addr, uint64_t *data, unsigned size, MemTxAttrs attrs)
{
    (void)mr, (void)addr, (void)data, (void)size, (void)attrs;
    return MEMTX_ERROR;
}

static MemTxResult mute_write(MemoryRegion *mr, hwaddr addr, uint64_t data, unsigned size, MemTxAttrs attrs)
{
    (void)mr, (void)addr, (void)data, (void)size, (void)attrs;
    return MEMTX_ERROR;
}

static const MemoryRegionOps mute_ops = {
    .read_with_attrs = mute_read,
    .write_with_attrs = mute_write,
    .endianness = MEMORY_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8 },
    .impl = { .min_access_size = 1, .max_access_size = 8 },
};

/* One change in progress. */
typedef struct Change {
    Machine *machine;
    Step step;
    MachineRegion **regions; /* by index in step.after */
    MachineSpace **spaces;
    const MachineWatch *watch;
    InputError *err;
} Change;

static void region_released(MemoryRegion *mr)
{
    MachineRegion *region = container_of(mr, MachineRegion, mr);

    if (region->released) {
        region->released(region);
    }
    if (region->mapping) {
        munmap(region->mapping, region->mapping_len);
    }
    free(region);
}

static void space_released(AddressSpace *as)
{
    MachineSpace *space = container_of(as, MachineSpace, as);

    if (space->released) {
        space->released(space);
    }
    free(space);
}

static bool refused(Change *c, uint32_t line, const char *name, const char *what, int error)
{
    return input_fail(c->err, line, "%.80s: %s: %s", name, what, strerror(-error));
}

static int init_ram_device(MachineRegion *region, const TopoRegion *t)
{
    int error;

    region->mapping = mmap(NULL, t->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region->mapping == MAP_FAILED) {
        region->mapping = NULL;
        return -errno;
    }
    region->mapping_len = t->size;
    error = memory_region_init_ram_device_ptr(&region->mr, t->name, t->size, region->mapping);
    if (error) {
        munmap(region->mapping, region->mapping_len);
    }
    return error;
}

static int init_ram(MachineRegion *region, const TopoRegion *t, const MachineOptions *options)
{
    if (options->init_ram) {
        return options->init_ram(region, t, options);
    }
    if (t->flags & TOPO_RAM_DEVICE && t->size) {
        return init_ram_device(region, t);
    }
    if (t->flags & TOPO_READONLY) {
        return memory_region_init_rom(&region->mr, t->name, t->size);
    }
    return memory_region_init_ram(&region->mr, t->name, t->size);
}

/* A map says where an IOMMU stands, not what it translates. */
static IOMMUTLBEntry translate_nothing(MemoryRegion *mr, hwaddr addr, IOMMUAccessFlags flag, unsigned iommu_idx)
{
    (void)mr;
    (void)addr;
    (void)flag;
    (void)iommu_idx;
    return (IOMMUTLBEntry){ .last = UINT64_MAX, .perm = IOMMU_NONE };
}

static const MemoryRegionIOMMUOps mute_iommu_ops = { .translate = translate_nothing };

static int init_region(Change *c, MachineRegion *region, const TopoRegion *t)
{
    const MachineOptions *options = &c->machine->options;
    MemoryRegion *mr = &region->mr;

    if (t->alias != TOPO_NONE) {
        return memory_region_init_alias(mr, t->name, &c->regions[t->alias]->mr, t->alias_offset, t->size);
    }
    if (t->flags & TOPO_RAM) {
        return init_ram(region, t, options);
    }
    if (t->flags & TOPO_ROM_DEVICE) {
        return memory_region_init_rom_device(mr, options->rom_ops ? options->rom_ops : &mute_ops, t->name, t->size);
    }
    if (t->flags & TOPO_IOMMU && !options->io_ops) {
        return memory_region_init_iommu(mr, &mute_iommu_ops, t->name, t->size);
    }
    if (t->flags & TOPO_TERMINATES) {
        return memory_region_init_io(mr, options->io_ops ? options->io_ops(t, options) : NULL, t->name, t->size);
    }
    return memory_region_init(mr, t->name, t->size);
}

static bool make_regions(Change *c, size_t *ret_made)
{
    for (*ret_made = 0; *ret_made < c->step.n_made; ++*ret_made) {
        uint32_t index = c->step.made[*ret_made];
        const TopoRegion *t = &c->step.after->regions[index];
        MachineRegion *region = calloc(1, sizeof(*region));
        int error = region ? 0 : -ENOMEM;

        if (!error) {
            region->id = t->id;
            region->index = index;
            region->released = c->machine->options.region_released;
            error = init_region(c, region, t);
        }
        if (error) {
            free(region);
            return refused(c, t->line, t->name, t->flags & TOPO_RAM ? "RAM" : "region", error);
        }
        memory_region_set_release(&region->mr, region_released);
        c->regions[index] = region;
    }
    return true;
}

static void unmake_regions(Change *c, size_t n)
{
    while (n > 0) {
        memory_region_destroy(&c->regions[c->step.made[--n]]->mr);
    }
}

static int add_space(Change *c, uint32_t index)
{
    const TopoSpace *t = &c->step.after->spaces[index];
    MachineSpace *space = calloc(1, sizeof(*space));
    int error = -ENOMEM;

    if (space) {
        space->released = c->machine->options.space_released;
        space->index = index;
        error = address_space_init(&space->as, &c->regions[t->root]->mr, t->name);
        if (error) {
            free(space);
        } else {
            c->spaces[index] = space;
        }
    }
    return error;
}

static int set_log(MemoryRegion *mr, uint8_t mask)
{
    uint8_t flips = mask ^ memory_region_get_dirty_log_mask(mr);
    int error = 0;

    for (unsigned client = 0; client < 8 && !error; client++) {
        if (flips >> client & 1) {
            error = memory_region_set_log(mr, mask >> client & 1, client);
        }
    }
    return error;
}

static bool do_op(Change *c, StepOp op)
{
    const TopoFile *after = c->step.after, *before = c->step.before;
    const TopoRegion *t = op.kind == STEP_DEL ? &before->regions[op.index]
                          : op.kind == STEP_ADD_SPACE ? NULL : &after->regions[op.index];
    MemoryRegion *mr = op.kind == STEP_DEL ? &c->machine->regions[op.index]->mr
                       : op.kind == STEP_ADD_SPACE ? NULL : &c->regions[op.index]->mr;
    const char *what = "";
    int error = -EINVAL;

    switch (op.kind) {
    case STEP_ADD_SPACE:
        error = add_space(c, op.index);
        return !error || refused(c, after->spaces[op.index].line, after->spaces[op.index].name, "address space", error);
    case STEP_DEL:
        what = "del_subregion";
        error = memory_region_del_subregion(&c->machine->regions[t->container]->mr, mr);
        break;
    case STEP_ADD:
        what = "add_subregion";
        error = memory_region_add_subregion_overlap(&c->regions[t->container]->mr, t->offset, mr, t->priority);
        break;
    case STEP_SET_ADDRESS:
        what = "set_address";
        error = memory_region_set_address(mr, t->offset);
        break;
    case STEP_SET_SIZE:
        what = "set_size";
        error = memory_region_set_size(mr, t->size);
        break;
    case STEP_SET_ALIAS_OFFSET:
        what = "set_alias_offset";
        error = memory_region_set_alias_offset(mr, t->alias_offset);
        break;
    case STEP_SET_READONLY:
        what = "set_readonly";
        error = memory_region_set_readonly(mr, t->flags & TOPO_READONLY);
        break;
    case STEP_SET_NONVOLATILE:
        what = "set_nonvolatile";
        error = memory_region_set_nonvolatile(mr, t->flags & TOPO_NONVOLATILE);
        break;
    case STEP_SET_ROMD:
        what = "set_romd";
        error = memory_region_rom_device_set_romd(mr, t->flags & TOPO_ROMD);
        break;
    case STEP_SET_LOG:
        what = "set_log";
        error = set_log(mr, t->dirty);
        break;
    case STEP_SET_ENABLED:
        what = "set_enabled";
        error = memory_region_set_enabled(mr, t->flags & TOPO_ENABLED);
        break;
    }
    /* A line of the old map says nothing to the reader of the new one. */
    return !error || refused(c, op.kind == STEP_DEL ? 0 : t->line, t->name, what, error);
}

static bool tell_space(Change *c, uint32_t index)
{
    const MachineWatch *w = c->watch;

    return !w || !w->space_made || w->space_made(c->machine, c->spaces[index], w->arg, c->err);
}

static bool do_each_op(Change *c)
{
    for (size_t i = 0; i < c->step.n_ops; i++) {
        StepOp op = c->step.ops[i];

        if (!do_op(c, op) || (op.kind == STEP_ADD_SPACE && !tell_space(c, op.index)) ||
            !c->watch->op_done(c->machine, c->watch->arg, c->err)) {
            return false;
        }
    }
    return true;
}

/*
 * Regions that go with no space are destroyed in the transaction that unmaps them, which is how a device leaves; where
 * a space goes as well, that must come first and cannot be inside, so its regions follow in finish().
 */
static bool do_all_ops(Change *c)
{
    int error = memory_transaction_begin();
    bool ok = true;

    if (error) {
        return refused(c, 0, "transaction", "begin", error);
    }
    for (size_t i = 0; ok && i < c->step.n_ops; i++) {
        ok = do_op(c, c->step.ops[i]);
    }
    for (size_t i = 0; ok && c->step.n_spaces_gone == 0 && i < c->step.n_gone; i++) {
        MachineRegion *region = c->machine->regions[c->step.gone[i]];

        error = memory_region_destroy(&region->mr);
        ok = !error || refused(c, 0, c->step.before->regions[c->step.gone[i]].name, "destroy", error);
    }
    if (!ok) {
        memory_transaction_abort();
    } else {
        error = memory_transaction_commit();
        ok = !error || refused(c, 0, "transaction", "commit", error);
    }
    for (size_t i = 0; !ok && i < c->step.after->n_spaces; i++) {
        free(c->step.space_origin[i] == TOPO_NONE ? c->spaces[i] : NULL);
    }
    return ok;
}

/* What the transaction could not contain: the end of spaces, and of the regions they may have been showing. */
static bool finish(Change *c, bool each)
{
    Machine *m = c->machine;
    const Step *s = &c->step;
    int error;

    for (size_t i = 0; i < s->before->n_spaces; i++) {
        if (s->space_fate[i] == TOPO_NONE) {
            if (c->watch && c->watch->space_going) {
                c->watch->space_going(m, m->spaces[i], c->watch->arg);
            }
            error = address_space_destroy(&m->spaces[i]->as, space_released);
            if (error) {
                return refused(c, 0, s->before->spaces[i].name, "address space destroy", error);
            }
        }
    }
    for (size_t i = 0; (each || s->n_spaces_gone) && i < s->n_gone; i++) {
        error = memory_region_destroy(&m->regions[s->gone[i]]->mr);
        if (error) {
            return refused(c, 0, s->before->regions[s->gone[i]].name, "destroy", error);
        }
    }
    for (uint32_t i = 0; !each && i < s->after->n_spaces; i++) {
        if (s->space_origin[i] == TOPO_NONE && !tell_space(c, i)) {
            return false;
        }
    }
    return true;
}

bool machine_become(Machine *machine, const TopoFile *topo, const MachineWatch *watch, InputError *err)
{
    Change c = { .machine = machine, .watch = watch, .err = err };
    bool each = watch && watch->op_done, ok;
    size_t n_made = 0;

    if (!step_plan(&c.step, machine->topo, topo)) {
        return input_no_memory(err, 0);
    }
    c.regions = calloc(topo->n_regions + 1, sizeof(*c.regions));
    c.spaces = calloc(topo->n_spaces + 1, sizeof(*c.spaces));
    ok = (c.regions && c.spaces) || input_no_memory(err, 0);
    for (size_t i = 0; ok && i < topo->n_regions; i++) {
        c.regions[i] = c.step.origin[i] == TOPO_NONE ? NULL : machine->regions[c.step.origin[i]];
    }
    for (size_t i = 0; ok && i < topo->n_spaces; i++) {
        c.spaces[i] = c.step.space_origin[i] == TOPO_NONE ? NULL : machine->spaces[c.step.space_origin[i]];
    }
    ok = ok && make_regions(&c, &n_made);
    if (!ok || !(each ? do_each_op(&c) : do_all_ops(&c))) {
        /* Op by op some of them may be in use; then they stay, and the process is about to end. */
        unmake_regions(&c, n_made);
        free(c.regions);
        free(c.spaces);
        step_free(&c.step);
        return false;
    }
    for (uint32_t i = 0; i < topo->n_regions; i++) {
        c.regions[i]->index = i;
    }
    for (uint32_t i = 0; i < topo->n_spaces; i++) {
        c.spaces[i]->index = i;
    }
    ok = finish(&c, each);
    free(machine->regions);
    free(machine->spaces);
    machine->regions = c.regions;
    machine->spaces = c.spaces;
    machine->topo = topo;
    step_free(&c.step);
    return ok;
}

void machine_init(Machine *machine, const MachineOptions *options)
{
    *machine = (Machine){ .topo = &topo_nothing, .options = options ? *options : (MachineOptions){0} };
}

void machine_fini(Machine *machine, const MachineWatch *watch)
{
    MachineWatch quiet = watch ? *watch : (MachineWatch){0};
    InputError ignored;

    quiet.op_done = NULL;
    machine_become(machine, &topo_nothing, &quiet, &ignored);
    free(machine->regions);
    free(machine->spaces);
    *machine = (Machine){ .topo = &topo_nothing };
    memory_reclaim();
}
