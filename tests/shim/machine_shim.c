/* SPDX-License-Identifier: MIT */
#include "shim/machine_shim.h"

#include "compare.h"
#include "mirror.h"
#include "sections.h"
#include "step.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SPACES 8

typedef struct Watch {
    struct {
        MachineSpace *space;
        Mirror mirror;
    } spaces[MAX_SPACES];
    char fault[512];
} Watch;

static bool space_made(Machine *machine, MachineSpace *space, void *arg, InputError *err)
{
    Watch *w = arg;

    (void)machine;
    for (unsigned i = 0; i < MAX_SPACES; i++) {
        if (!w->spaces[i].space) {
            w->spaces[i].space = space;
            return mirror_attach(&w->spaces[i].mirror, &space->as, i & 1, (int)i) == 0 ||
                   input_fail(err, 0, "mirror_attach");
        }
    }
    return input_fail(err, 0, "too many spaces");
}

static void space_going(Machine *machine, MachineSpace *space, void *arg)
{
    Watch *w = arg;

    (void)machine;
    for (unsigned i = 0; i < MAX_SPACES; i++) {
        if (w->spaces[i].space == space) {
            mirror_detach(&w->spaces[i].mirror);
            if (w->spaces[i].mirror.fault[0] && !w->fault[0]) {
                snprintf(w->fault, sizeof(w->fault), "%s", w->spaces[i].mirror.fault);
            }
            w->spaces[i].space = NULL;
        }
    }
}

static bool mirrors_match(Watch *w)
{
    for (unsigned i = 0; i < MAX_SPACES && !w->fault[0]; i++) {
        if (w->spaces[i].space) {
            FlatView *view = address_space_get_flatview(&w->spaces[i].space->as);

            mirror_matches(&w->spaces[i].mirror, view, w->fault, sizeof(w->fault));
            flatview_unref(view);
        }
    }
    return !w->fault[0];
}

static bool op_done(Machine *machine, void *arg, InputError *err)
{
    (void)machine;
    return mirrors_match(arg) || input_fail(err, 0, "mirror");
}

/* A range in terms that mean the same in two machines. */
static int print_range(const MemoryRegionSection *s, void *arg)
{
    fprintf(arg, "%" PRIx64 "-%" PRIx64 " %" PRIu64 " +%" PRIx64 " %d%d%d %x\n", s->offset_within_address_space, s->last,
            container_of(s->mr, MachineRegion, mr)->id, s->offset_within_region, s->readonly, s->nonvolatile, s->romd,
            memory_region_get_dirty_log_mask(s->mr));
    return 0;
}

static char *print_machine(const Machine *m)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    for (size_t i = 0; i < m->topo->n_spaces; i++) {
        FlatView *view = address_space_get_flatview(&m->spaces[i]->as);
        MemoryRegion *root = flatview_root(view);

        fprintf(out, "space %s root %s\n", m->topo->spaces[i].name, root ? memory_region_name(root) : "-");
        flatview_for_each_range(view, 0, UINT64_MAX, print_range, out);
        flatview_unref(view);
    }
    fclose(out);
    return text;
}

/* What the two have to say, where they part. */
static void first_difference(const char *led, const char *built, char *ret, size_t len)
{
    size_t i = 0, line = 0;

    for (; led[i] == built[i] && led[i]; i++) {
        line = led[i] == '\n' ? i + 1 : line;
    }
    snprintf(ret, len, "led:   %.*s\nbuilt: %.*s", (int)strcspn(led + line, "\n"), led + line,
             (int)strcspn(built + line, "\n"), built + line);
}

static bool agree(Machine *led, bool became, const InputError *why, const TopoFile *topo, char *complaint, size_t len)
{
    Machine built;
    InputError err;
    bool could, ok;

    machine_init(&built, NULL);
    could = machine_become(&built, topo, NULL, &err);
    ok = could == became;
    if (!ok) {
        snprintf(complaint, len, "only one machine can be built; the other: line %lu: %s", could ? why->line : err.line,
                 could ? why->cause : err.cause);
    } else if (could) {
        char *a = print_machine(led), *b = print_machine(&built);

        ok = strcmp(a, b) == 0;
        if (!ok) {
            first_difference(a, b, complaint, len);
        }
        free(a);
        free(b);
    }
    machine_fini(&built, NULL);
    return ok;
}

bool machine_shim_lead(const char *const *texts, size_t n, bool each, char *complaint, size_t complaint_len)
{
    Watch *w = calloc(1, sizeof(*w));
    MachineWatch watch = { space_made, space_going, each ? op_done : NULL, w };
    TopoFile *topos = calloc(n, sizeof(*topos));
    Machine led;
    InputError err;
    bool ok = w && topos, became = true;

    machine_init(&led, NULL);
    for (size_t i = 0; ok && became && i < n; i++) {
        ok = topo_parse(&topos[i], texts[i], strlen(texts[i]), &err);
        if (!ok) {
            snprintf(complaint, complaint_len, "%lu: %s", err.line, err.cause);
            break;
        }
        became = machine_become(&led, &topos[i], &watch, &err);
        ok = agree(&led, became, &err, &topos[i], complaint, complaint_len);
        if (ok && became && !mirrors_match(w)) {
            snprintf(complaint, complaint_len, "map %zu: %s", i, w->fault);
            ok = false;
        }
    }
    machine_fini(&led, &watch);
    if (ok && w->fault[0]) {
        snprintf(complaint, complaint_len, "at the end: %s", w->fault);
        ok = false;
    }
    for (size_t i = 0; topos && i < n; i++) {
        topo_free(&topos[i]);
    }
    free(topos);
    free(w);
    return ok;
}

bool machine_shim_step(const char *before, const char *after, char *ret, size_t ret_len)
{
    TopoFile a, b;
    InputError err;
    Step step;
    size_t at = 0;

    if (!topo_parse(&a, before, strlen(before), &err)) {
        return false;
    }
    if (!topo_parse(&b, after, strlen(after), &err)) {
        topo_free(&a);
        return false;
    }
    if (!step_plan(&step, &a, &b)) {
        abort();
    }
    ret[0] = '\0';
    for (size_t i = 0; i < step.n_made; i++) {
        at += (size_t)snprintf(ret + at, ret_len - at, "M%" PRIu64 " ", b.regions[step.made[i]].id);
    }
    for (size_t i = 0; i < step.n_ops && at < ret_len; i++) {
        static const char letters[] = "+DSSSSSSSSA";
        StepOp op = step.ops[i];
        uint64_t id = op.kind == STEP_ADD_SPACE ? op.index
                      : op.kind == STEP_DEL     ? a.regions[op.index].id
                                                : b.regions[op.index].id;

        at += (size_t)snprintf(ret + at, ret_len - at, "%c%" PRIu64 " ", letters[op.kind], id);
    }
    for (size_t i = 0; i < step.n_gone && at < ret_len; i++) {
        at += (size_t)snprintf(ret + at, ret_len - at, "G%" PRIu64 " ", a.regions[step.gone[i]].id);
    }
    for (size_t i = 0; i < a.n_spaces && at < ret_len; i++) {
        if (step.space_fate[i] == TOPO_NONE) {
            at += (size_t)snprintf(ret + at, ret_len - at, "-%zu ", i);
        }
    }
    step_free(&step);
    topo_free(&a);
    topo_free(&b);
    return true;
}
