/* SPDX-License-Identifier: MIT */
/*
 * step.h - what to do to turn one map into another: the calls a machine would have made.
 *
 * Pure: from two values to a list. A machine is built by the step from nothing and taken down by the step to nothing.
 */
#ifndef FLATVIEW_STRESS_STEP_H
#define FLATVIEW_STRESS_STEP_H

#include "topo.h"

/* In the order in which they stand in Step.ops. The index is that of a region in `after`, unless it says otherwise. */
typedef enum StepKind {
    STEP_ADD_SPACE, /* a space in after */
    STEP_DEL,       /* a region in before */
    STEP_SET_SIZE,
    STEP_SET_ALIAS_OFFSET,
    STEP_SET_READONLY,
    STEP_SET_NONVOLATILE,
    STEP_SET_ROMD,
    STEP_SET_LOG,
    STEP_SET_ADDRESS,
    STEP_SET_ENABLED,
    STEP_ADD,
} StepKind;

typedef struct StepOp {
    StepKind kind;
    uint32_t index;
} StepOp;

typedef struct Step {
    const TopoFile *before, *after;
    uint32_t *origin;       /* by region of after: which region of before it is; TOPO_NONE: it has to be made */
    uint32_t *fate;         /* the inverse; TOPO_NONE: it goes */
    uint32_t *space_origin; /* likewise for address spaces */
    uint32_t *space_fate;
    uint32_t *made; /* regions of after to be made, targets before their aliases */
    uint32_t *gone; /* regions of before to be destroyed, aliases before their targets */
    size_t n_made, n_gone, n_spaces_gone;
    StepOp *ops;
    size_t n_ops, room_ops;
} Step;

extern const TopoFile topo_nothing;

/* False for want of memory; then there is nothing to free. Both maps must outlive the step. */
bool step_plan(Step *step, const TopoFile *before, const TopoFile *after);
void step_free(Step *step);

#endif
