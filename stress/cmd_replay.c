/* SPDX-License-Identifier: MIT */
/*
 * cmd_replay.c - `flatview replay [--each] FILE...`: one machine led through the steps of a scenario.
 *
 * After each step three accounts of every address space must agree: the recorded ranges, the published view, and
 * mirrors that know only what listeners were told; and flatview_diff() must turn the view before the step into the one
 * after. With --each every single call is a commit, and mirrors and views must agree after each of them.
 */
#include "commands.h"

#include "compare.h"
#include "mirror.h"
#include "step.h"
#include "verdict.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An address space and those who watch it; the list is in order of creation. */
typedef struct Watched {
    MachineSpace *space;
    Mirror by_spans, by_regions;
    FlatView *before; /* pinned at the last step */
    struct Watched *next;
} Watched;

typedef struct Replay {
    Machine machine;
    MachineWatch watch;
    Watched *watched;
    char difference[512]; /* the first one in this step; empty: none */
} Replay;

static bool watch_space(Machine *machine, MachineSpace *space, void *arg, InputError *err)
{
    Replay *r = arg;
    Watched *w = calloc(1, sizeof(*w)), **end = &r->watched;
    int error;

    (void)machine;
    if (!w) {
        return input_no_memory(err, 0);
    }
    while (*end) {
        end = &(*end)->next;
    }
    *end = w;
    w->space = space;
    /* Of different priorities, so that both orders of delivery are seen. */
    error = mirror_attach(&w->by_spans, &space->as, true, 1);
    error = error ? error : mirror_attach(&w->by_regions, &space->as, false, 2);
    return !error || input_fail(err, 0, "%.80s: listener: %s", address_space_name(&space->as), strerror(-error));
}

static void note(Replay *r, const Watched *w, const char *what)
{
    if (!r->difference[0]) {
        snprintf(r->difference, sizeof(r->difference), "space %.80s: %.400s", address_space_name(&w->space->as), what);
    }
}

static void unwatch_space(Machine *machine, MachineSpace *space, void *arg)
{
    Replay *r = arg;
    Watched **at = &r->watched, *w;

    (void)machine;
    while (*at && (*at)->space != space) {
        at = &(*at)->next;
    }
    w = *at;
    if (!w) {
        return;
    }
    mirror_detach(&w->by_regions);
    mirror_detach(&w->by_spans);
    if (w->by_spans.fault[0] || w->by_regions.fault[0]) {
        note(r, w, w->by_spans.fault[0] ? w->by_spans.fault : w->by_regions.fault);
    }
    flatview_unref(w->before);
    *at = w->next;
    free(w);
}

static void compare_mirrors(Replay *r)
{
    char what[480];

    for (Watched *w = r->watched; w && !r->difference[0]; w = w->next) {
        FlatView *view = address_space_get_flatview(&w->space->as);

        if (!mirror_matches(&w->by_spans, view, what, sizeof(what)) ||
            !mirror_matches(&w->by_regions, view, what, sizeof(what))) {
            note(r, w, what);
        }
        flatview_unref(view);
    }
}

static bool op_done(Machine *machine, void *arg, InputError *err)
{
    Replay *r = arg;

    (void)machine;
    compare_mirrors(r);
    return !r->difference[0] || input_fail(err, 0, "stopped at the first difference");
}

/* The views that the step will replace stay pinned to its end; of new spaces there is none. */
static void compare_diffs(Replay *r)
{
    char what[480];

    for (Watched *w = r->watched; w; w = w->next) {
        FlatView *view = address_space_get_flatview(&w->space->as);

        if (w->before && !r->difference[0] && !compare_diff(w->before, view, what, sizeof(what))) {
            note(r, w, what);
        }
        flatview_unref(w->before);
        w->before = view;
    }
}

/* False if the machine is beyond going on with. */
static bool replay_step(Replay *r, const char *path, const TopoFile *topo, Verdict *verdict)
{
    InputError err;
    bool became = machine_become(&r->machine, topo, &r->watch, &err);

    if (became) {
        compare_mirrors(r);
        compare_diffs(r);
    }
    if (became && !r->difference[0]) {
        compare_views(&r->machine, r->difference, sizeof(r->difference));
    }
    if (r->difference[0]) {
        verdict_differs(verdict, path, r->difference);
        r->difference[0] = '\0';
    } else if (!became) {
        verdict_unusable(verdict, path, &err);
    } else {
        verdict_ok(verdict, path);
    }
    return became;
}

int replay_main(int argc, char **argv)
{
    bool each = argc > 1 && strcmp(argv[1], "--each") == 0;
    Replay r = { .watch = { .space_made = watch_space, .space_going = unwatch_space, .arg = &r } };
    TopoFile topos[2] = { topo_nothing, topo_nothing }; /* the map before a step lives until the step is done */
    Verdict verdict = {0};
    InputError err;

    if (argc < 2 + each) {
        fprintf(stderr, "usage: flatview replay [--each] FILE...\n");
        return EXIT_UNUSABLE;
    }
    r.watch.op_done = each ? op_done : NULL;
    machine_init(&r.machine, NULL);
    for (int i = 1 + each; i < argc; i++) {
        TopoFile *topo = &topos[i & 1];

        topo_free(topo);
        if (!topo_read(topo, argv[i], &err)) {
            verdict_unusable(&verdict, argv[i], &err);
            break;
        }
        if (!replay_step(&r, argv[i], topo, &verdict)) {
            break; /* the next step would start from nowhere */
        }
    }
    machine_fini(&r.machine, &r.watch);
    if (r.difference[0]) {
        verdict_differs(&verdict, "the end", r.difference);
    }
    topo_free(&topos[0]);
    topo_free(&topos[1]);
    return verdict_end(&verdict);
}
