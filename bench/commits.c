/* SPDX-License-Identifier: MIT */
/*
 * commits.c - counting commits.
 */
#include "commits.h"

#include "bench.h"

#include <flatview/memory.h>

static uint64_t marked;

static uint64_t commits_now(void)
{
    MemoryStats stats;

    memory_get_stats(&stats);
    return stats.commits;
}

void commits_mark(void)
{
    marked = commits_now();
}

void commits_check(uint64_t n)
{
    bench_check(commits_now() - marked == n);
    commits_mark();
    if (bench_options.count) {
        bench_check(memory_reclaim() == 0);
    }
}
