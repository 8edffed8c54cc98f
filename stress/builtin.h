/* SPDX-License-Identifier: MIT */
/*
 * builtin.h - the machine that ships with the command: a q35 with many devices behind bridges, after its firmware has
 * mapped them, captured from QEMU (tests/oracle/x86_64/q35.rich-seabios.t10.topo). For topo_parse().
 */
#ifndef FLATVIEW_STRESS_BUILTIN_H
#define FLATVIEW_STRESS_BUILTIN_H

#include <stddef.h>

extern const char builtin_q35[]; /* not NUL-terminated */
extern const size_t builtin_q35_len;

#endif
