/* SPDX-License-Identifier: MIT */
/*
 * cmd_text.c - `flatview tree FILE` and `flatview flat FILE`: a map, built and printed as QEMU's monitor would.
 */
#include "commands.h"

#include "machine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int print_map(const char *path, bool flat, bool disabled)
{
    TopoFile topo;
    Machine machine;
    InputError err;
    int status = EXIT_UNUSABLE, error;

    if (!topo_read_any(&topo, path, &err)) {
        input_complain(path, &err);
        return status;
    }
    machine_init(&machine, NULL);
    if (!machine_become(&machine, &topo, NULL, &err)) {
        input_complain(path, &err);
    } else {
        error = flat ? memory_print_flatviews(stdout) : memory_print_tree(stdout, disabled);
        if (!error && fflush(stdout) != 0) {
            error = -errno;
        }
        if (error) {
            fprintf(stderr, "flatview: printing %s: %s\n", path, strerror(-error));
        } else {
            status = EXIT_OK;
        }
    }
    machine_fini(&machine, NULL);
    topo_free(&topo);
    return status;
}

int tree_main(int argc, char **argv)
{
    bool disabled = argc == 3 && strcmp(argv[1], "-D") == 0;

    if (argc != 2 + disabled) {
        fprintf(stderr, "usage: flatview tree [-D] FILE\n");
        return EXIT_UNUSABLE;
    }
    return print_map(argv[argc - 1], false, disabled);
}

int flat_main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: flatview flat FILE\n");
        return EXIT_UNUSABLE;
    }
    return print_map(argv[1], true, false);
}
