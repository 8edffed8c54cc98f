/* SPDX-License-Identifier: MIT */
/*
 * cmd_events.c - `flatview events [--each] FILE...`: what a listener of each address space is told while a machine goes through
 * the steps of a scenario. With --each every single call is a commit.
 */
#include "commands.h"

#include "machine.h"
#include "step.h"
#include "verdict.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flatview/accel/recorder.h>

typedef struct Recorded {
    MachineSpace *space;
    FlatviewRecorder *recorder;
    struct Recorded *next;
} Recorded;

static bool space_made(Machine *machine, MachineSpace *space, void *arg, InputError *err)
{
    Recorded *r = calloc(1, sizeof(*r)), **end = arg;
    int error;

    (void)machine;
    if (!r) {
        return input_no_memory(err, 0);
    }
    while (*end) {
        end = &(*end)->next;
    }
    *end = r;
    r->space = space;
    error = flatview_recorder_new(&space->as, 0, 0, &r->recorder);
    return !error || input_fail(err, 0, "%.80s: listener: %s", address_space_name(&space->as), strerror(-error));
}

static void print(Recorded *r)
{
    uint64_t lost;

    if (r->recorder && flatview_recorder_count(r->recorder, &lost)) {
        printf("space %s\n", address_space_name(&r->space->as));
        flatview_recorder_print(r->recorder, stdout);
        if (lost) {
            printf("(%llu more: out of memory)\n", (unsigned long long)lost);
        }
        flatview_recorder_clear(r->recorder);
    }
}

static void space_going(Machine *machine, MachineSpace *space, void *arg)
{
    Recorded **at = arg, *r;

    (void)machine;
    while (*at && (*at)->space != space) {
        at = &(*at)->next;
    }
    r = *at;
    if (r) {
        if (r->recorder) {
            print(r);
            flatview_recorder_free(r->recorder); /* what the end of the machine says is the inverse of all that was said */
        }
        *at = r->next;
        free(r);
    }
}

static bool op_done(Machine *machine, void *arg, InputError *err)
{
    (void)machine;
    (void)arg;
    (void)err;
    return true;
}

int events_main(int argc, char **argv)
{
    bool each = argc > 1 && strcmp(argv[1], "--each") == 0;
    Recorded *recorded = NULL, *r;
    MachineWatch watch = {.space_made = space_made, .space_going = space_going, .arg = &recorded};
    TopoFile topos[2] = {topo_nothing, topo_nothing};
    Machine machine;
    InputError err;
    int status = EXIT_OK;

    if (argc < 2 + each) {
        fprintf(stderr, "usage: flatview events [--each] FILE...\n");
        return EXIT_UNUSABLE;
    }
    watch.op_done = each ? op_done : NULL;
    machine_init(&machine, NULL);
    for (int i = 1 + each; i < argc && status == EXIT_OK; i++) {
        TopoFile *topo = &topos[i & 1];

        topo_free(topo);
        printf("== %s\n", argv[i]);
        if (!topo_read(topo, argv[i], &err) || !machine_become(&machine, topo, &watch, &err)) {
            fprintf(stderr, "%s:%lu: %s\n", argv[i], err.line, err.cause);
            status = EXIT_UNUSABLE;
        }
        for (r = recorded; r; r = r->next) {
            print(r);
        }
    }
    machine_fini(&machine, &watch);
    topo_free(&topos[0]);
    topo_free(&topos[1]);
    return status;
}
