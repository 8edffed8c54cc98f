/* SPDX-License-Identifier: MIT */
/*
 * verdict.c - `ok FILE`, `differs FILE: the first difference`, and in the end `N passed, N failed`.
 */
#include "verdict.h"

#include "commands.h"

#include <stdio.h>

void verdict_ok(Verdict *v, const char *path)
{
    v->passed++;
    printf("ok %s\n", path);
}

void verdict_differs(Verdict *v, const char *path, const char *difference)
{
    v->failed++;
    printf("differs %s: %s\n", path, difference);
}

void verdict_unusable(Verdict *v, const char *path, const InputError *err)
{
    v->failed++;
    v->unusable++;
    fflush(stdout);
    input_complain(path, err);
}

int verdict_end(const Verdict *v)
{
    printf("%u passed, %u failed\n", v->passed, v->failed);
    return v->unusable ? EXIT_UNUSABLE : v->failed ? EXIT_WRONG : EXIT_OK;
}
