/* SPDX-License-Identifier: MIT */
/*
 * oracle.h - machines that QEMU has had, from its captured maps (tests/oracle).
 */
#ifndef FLATVIEW_BENCH_ORACLE_H
#define FLATVIEW_BENCH_ORACLE_H

#include "../stress/machine.h"

#include <stddef.h>

/* The folder of captures; NULL: there is none, and why was said. */
const char *oracle_folder(void);

/* A capture by its stem, such as "x86_64/q35"; exits if it cannot be read. */
TopoFile *oracle_read(const char *stem);
void oracle_free(TopoFile *topo);

/* All stems that have a topo file, sorted; NULL at the end. */
char **oracle_stems(void);
/* The pairs of steps of a scenario: before, after, before, after, ..., NULL. */
char **oracle_pairs(void);
void oracle_names_free(char **names);

/* The first region of that name in the machine; exits if there is none. */
MemoryRegion *oracle_region(const Machine *machine, const char *name);
/* Likewise an address space. */
AddressSpace *oracle_space(const Machine *machine, const char *name);

#endif
