/* SPDX-License-Identifier: MIT */
/*
 * oracle.c - finding and reading captures. Where they are: in FLATVIEW_ORACLE, or in tests/oracle below the folder that the
 * benchmark runs in, as bench/run runs it.
 */
#include "oracle.h"

#include "bench.h"

#include <glob.h>
#include <string.h>
#include <sys/stat.h>

const char *oracle_folder(void)
{
    const char *folder = getenv("FLATVIEW_ORACLE");
    struct stat st;

    folder = folder ? folder : "tests/oracle";
    if (stat(folder, &st)) {
        fprintf(stderr, "bench: no captured maps in %s (FLATVIEW_ORACLE names another folder): left out\n", folder);
        return NULL;
    }
    return folder;
}

TopoFile *oracle_read(const char *stem)
{
    const char *path = bench_text("%s/%s.topo", oracle_folder(), stem);
    TopoFile *topo = bench_alloc(1, sizeof(*topo));
    InputError err;

    if (!topo_read(topo, path, &err)) {
        fprintf(stderr, "bench: %s: %s\n", path, err.cause);
        exit(3);
    }
    return topo;
}

void oracle_free(TopoFile *topo)
{
    topo_free(topo);
    free(topo);
}

char **oracle_stems(void)
{
    const char *folder = oracle_folder();
    size_t skip = strlen(folder) + 1, i;
    char **names;
    glob_t found;

    bench_check(glob(bench_text("%s/*/*.topo", folder), 0, NULL, &found) == 0);
    names = bench_alloc(found.gl_pathc + 1, sizeof(*names));
    for (i = 0; i < found.gl_pathc; i++) {
        names[i] = strdup(found.gl_pathv[i] + skip);
        bench_check(names[i]);
        names[i][strlen(names[i]) - strlen(".topo")] = '\0';
    }
    globfree(&found);
    return names;
}

char **oracle_pairs(void)
{
    FILE *file = fopen(bench_text("%s/PAIRS.tsv", oracle_folder()), "r");
    size_t n = 0, room = 1024;
    char **names = bench_alloc(room, sizeof(*names)), line[1024], before[512], after[512];

    bench_check(file && fgets(line, sizeof(line), file)); /* the header */
    while (fgets(line, sizeof(line), file)) {
        if (sscanf(line, "%511[^\t]\t%511[^\t\n]", before, after) == 2) {
            bench_check(n + 3 < room);
            names[n++] = strdup(before);
            names[n++] = strdup(after);
        }
    }
    fclose(file);
    bench_check(n > 0);
    return names;
}

void oracle_names_free(char **names)
{
    size_t i;

    for (i = 0; names[i]; i++) {
        free(names[i]);
    }
    free(names);
}

MemoryRegion *oracle_region(const Machine *machine, const char *name)
{
    size_t i;

    for (i = 0; i < machine->topo->n_regions; i++) {
        if (!strcmp(machine->topo->regions[i].name, name)) {
            return &machine->regions[i]->mr;
        }
    }
    fprintf(stderr, "bench: no region %s\n", name);
    exit(3);
}

AddressSpace *oracle_space(const Machine *machine, const char *name)
{
    size_t i;

    for (i = 0; i < machine->topo->n_spaces; i++) {
        if (!strcmp(machine->topo->spaces[i].name, name)) {
            return &machine->spaces[i]->as;
        }
    }
    fprintf(stderr, "bench: no address space %s\n", name);
    exit(3);
}
