/* SPDX-License-Identifier: MIT */
/* info.h - parts of what `flatview info` prints, as text or as JSON. */
#ifndef FLATVIEW_STRESS_INFO_H
#define FLATVIEW_STRESS_INFO_H

#include "machine.h"

/* A size or length that is one more than less_one, in hexadecimal. */
void info_print_size(uint64_t less_one);
/* As JSON wants it, quotes included, whatever bytes it has. */
void info_print_string(const char *text);

/* Of each region: where accesses reach it, in every space, through every alias; and what its host memory is found as. */
void info_print_places(const Machine *machine, bool json);
/* All of it. */
void info_print_stats(const MemoryStats *stats, bool json);

#endif
