/* SPDX-License-Identifier: MIT */
/*
 * commits.h - that what was timed as commits were commits, by the library's own count.
 *
 * Not for scenarios in which several threads commit.
 */
#ifndef FLATVIEW_BENCH_COMMITS_H
#define FLATVIEW_BENCH_COMMITS_H

#include <stdint.h>

/* From here on. */
void commits_mark(void);
/* Since the last mark or check there were exactly n. When counting instructions, also lets the library free what they
   replaced, on this thread, before the worker comes to it: see BenchCase.after. */
void commits_check(uint64_t n);

#endif
