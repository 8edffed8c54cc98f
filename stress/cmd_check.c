/* SPDX-License-Identifier: MIT */
/*
 * cmd_check.c - `flatview check FILE...`: each map built from nothing, its views compared with the recorded ones.
 */
#include "commands.h"

#include "compare.h"
#include "verdict.h"

#include <stdio.h>

static void check(const char *path, Verdict *verdict)
{
    TopoFile topo;
    Machine machine;
    InputError err;
    char difference[512];

    if (!topo_read(&topo, path, &err)) {
        verdict_unusable(verdict, path, &err);
        return;
    }
    machine_init(&machine, NULL);
    if (!topo.n_views) {
        input_fail(&err, 0, "no views recorded, nothing to compare with");
        verdict_unusable(verdict, path, &err);
    } else if (!machine_become(&machine, &topo, NULL, &err)) {
        verdict_unusable(verdict, path, &err);
    } else if (!compare_views(&machine, difference, sizeof(difference))) {
        verdict_differs(verdict, path, difference);
    } else {
        verdict_ok(verdict, path);
    }
    machine_fini(&machine, NULL);
    topo_free(&topo);
}

int check_main(int argc, char **argv)
{
    Verdict verdict = {0};

    if (argc < 2) {
        fprintf(stderr, "usage: flatview check FILE...\n");
        return EXIT_UNUSABLE;
    }
    for (int i = 1; i < argc; i++) {
        check(argv[i], &verdict);
    }
    return verdict_end(&verdict);
}
