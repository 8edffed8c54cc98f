/* SPDX-License-Identifier: MIT */
/*
 * storm_report.c - the live table, the report. storm.c says how to read them.
 *
 * Counters belong to their threads; read while these run, each is a moment old and they are not of one instant.
 */
#include "storm.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static uint64_t get(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

StormTotals storm_totals(void)
{
    StormTotals sum = { 0 };

    for (unsigned i = 0; i < storm.n_threads; i++) {
        const StormThread *t = storm.threads[i];

        sum.lookups += get(&t->accesses) + get(&t->translations) + get(&t->slot_accesses);
        sum.commits += get(&t->commits);
        sum.refused += get(&t->refused);
        sum.aborted += get(&t->aborted);
        sum.audits += get(&t->audits);
    }
    return sum;
}

void storm_print_second(unsigned long second, const StormTotals *now, const StormTotals *before)
{
    MemoryStats stats;

    memory_get_stats(&stats);
    if (second % 20 == 1) {
        printf("%7s %11s %10s %8s %8s %9s %9s %10s\n", "seconds", "lookups/s", "commits/s", "refused", "aborted",
               "retired", "pinned", "violations");
    }
    printf("%7lu %11" PRIu64 " %10" PRIu64 " %8" PRIu64 " %8" PRIu64 " %7" PRIu64 " K %7" PRIu64 " K %10" PRIu64 "\n",
           second, now->lookups - before->lookups, now->commits - before->commits, now->refused, now->aborted,
           stats.retired_bytes >> 10, stats.pinned_bytes >> 10, get(&storm.violations));
    fflush(stdout);
}

static void add_histograms(Histogram *sum, size_t offset)
{
    memset(sum, 0, sizeof(*sum));
    for (unsigned i = 0; i < storm.n_threads; i++) {
        histogram_merge(sum, (const Histogram *)(const void *)((const char *)storm.threads[i] + offset));
    }
}

static void print_percentiles(const char *what, size_t offset)
{
    static Histogram sum;

    add_histograms(&sum, offset);
    printf("%s p50 %" PRIu64 " ns, p99 %" PRIu64 " ns, p99.9 %" PRIu64 " ns, max %" PRIu64 " ns\n", what,
           histogram_percentile(&sum, 500), histogram_percentile(&sum, 990), histogram_percentile(&sum, 999), sum.max);
}

static void print_json_percentiles(const char *what, size_t offset)
{
    static Histogram sum;

    add_histograms(&sum, offset);
    printf(", \"%s\": {\"p50\": %" PRIu64 ", \"p99\": %" PRIu64 ", \"p99.9\": %" PRIu64 ", \"max\": %" PRIu64 "}", what,
           histogram_percentile(&sum, 500), histogram_percentile(&sum, 990), histogram_percentile(&sum, 999), sum.max);
}

void storm_print_json(double seconds)
{
    StormTotals sum = storm_totals();
    uint64_t violations = get(&storm.violations);
    MemoryStats stats;

    memory_get_stats(&stats);
    printf("{\"ok\": %s, \"violations\": %" PRIu64 ", \"accesses\": %" PRIu64 ", \"commits\": %" PRIu64
           ", \"refused\": %" PRIu64 ", \"aborted\": %" PRIu64 ", \"retired_bytes_peak\": %" PRIu64
           ", \"seconds\": %.2f, \"accesses_per_second\": %.0f, \"commits_per_second\": %.0f, \"audits\": %" PRIu64
           ", \"live_bytes\": %" PRIu64 ", \"live_bytes_at_start\": %" PRIu64 ", \"seed\": %" PRIu64,
           violations ? "false" : "true", violations, sum.lookups, sum.commits, sum.refused, sum.aborted,
           stats.retired_peak, seconds, (double)sum.lookups / seconds, (double)sum.commits / seconds, sum.audits,
           stats.live_bytes, storm.start.live_bytes, storm.seed);
    print_json_percentiles("access_ns", offsetof(StormThread, access_ns));
    print_json_percentiles("commit_ns", offsetof(StormThread, commit_ns));
    printf("}\n");
}

void storm_print_report(double seconds, bool details)
{
    StormTotals sum = storm_totals();
    uint64_t violations = get(&storm.violations);
    MemoryStats stats;

    memory_get_stats(&stats);
    if (details) {
        print_percentiles("one load:  ", offsetof(StormThread, access_ns));
        print_percentiles("one commit:", offsetof(StormThread, commit_ns));
        printf("memory: at most %" PRIu64 " K retired; live %" PRIu64 " K before the storm, %" PRIu64 " K after it\n",
               stats.retired_peak >> 10, storm.start.live_bytes >> 10, stats.live_bytes >> 10);
    }
    printf("%s: %" PRIu64 " lookups (%.0f/s), %" PRIu64 " commits (%.0f/s), %" PRIu64 " refused, %" PRIu64
           " aborted, %" PRIu64 " audits, %" PRIu64 " violations in %.1f s\n",
           violations ? "FAILED" : "ok", sum.lookups, (double)sum.lookups / seconds, sum.commits,
           (double)sum.commits / seconds, sum.refused, sum.aborted, sum.audits, violations, seconds);
}
