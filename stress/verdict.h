/* SPDX-License-Identifier: MIT */
/*
 * verdict.h - what check and replay say: a line a file, a sum, an exit status.
 */
#ifndef FLATVIEW_STRESS_VERDICT_H
#define FLATVIEW_STRESS_VERDICT_H

#include "input.h"

typedef struct Verdict {
    unsigned passed, failed, unusable;
} Verdict;

void verdict_ok(Verdict *v, const char *path);
void verdict_differs(Verdict *v, const char *path, const char *difference);
void verdict_unusable(Verdict *v, const char *path, const InputError *err); /* said on standard error */
int verdict_end(const Verdict *v); /* prints the sum; the exit status */

#endif
