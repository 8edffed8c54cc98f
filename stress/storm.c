/* SPDX-License-Identifier: MIT */
/*
 * storm.c - `flatview storm`: a machine's map under vCPUs that access it and writers that change it, all at once.
 *
 * The property: storm.h. How to run it:
 *
 *     flatview storm [--machine FILE] [--seconds N] [--vcpus N] [--writers N] [--seed N] [--planes[=NAME]] [--accel NAME]
 *                    [--json] [--quiet]
 *     flatview storm --sabotage list
 *     flatview storm --sabotage NAME      breaks one rule of the library on purpose: must end with status 1
 *
 * How to read the output. Each violation is one line on standard error: where, what was expected by which views, what
 * came; the first few are printed, all are counted. On a terminal there is a line each second:
 *
 *     seconds  lookups/s  commits/s  refused  aborted  retired  pinned  violations
 *
 * lookups are accesses and translations, each of them judged, so lookups/s measures the judge more than the library,
 * which bench/ measures. commits are those of writers and of device callbacks. retired is what waits for readers to
 * leave, pinned what is kept for pinned views, of which this command has many. Latencies are of one load without the
 * judge, and of one commit with all listeners here, with more threads than the machine may have CPUs. The last line
 * begins with `ok:` or `FAILED:`; with --json it is one JSON object. --quiet leaves out all but that line. Exit status: 0
 * well, 1 a violation, 2 unusable input.
 *
 * A seed repeats the decisions of each thread, not the schedule.
 */
#include "storm_accel.h"
#include "storm_planes.h"

#include "commands.h"

#ifdef FLATVIEW_SABOTAGE
#include "accel/sabotage.h"
#include "base/sabotage.h"
#endif

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SHOW_VIOLATIONS 10
#ifdef FLATVIEW_SABOTAGE
#define STOP_AFTER_VIOLATIONS 20 /* it is known that there are more */
#else
#define STOP_AFTER_VIOLATIONS 1000
#endif
#define GRACE_SECONDS 60 /* for the end of a run on a slow machine; longer is a hang */
#define PATIENCE_SECONDS 30 /* longer than that, no part of a storm is missing for lack of time */

Storm storm;
__thread StormThread *storm_self;

typedef struct Options {
    const char *machine;
    unsigned long seconds, vcpus, writers, seed;
    bool json, quiet, planes;
    const StormAccel *accel;
} Options;

const char storm_options[] =
    "  --machine FILE    the map, .topo or .mtree, in place of the PC that is built in\n"
    "  --seconds N       how long it blows; 10 unless said\n"
    "  --vcpus N         threads that access; 2\n"
    "  --writers N       threads that change the map; 2\n"
    "  --seed N          of the decisions, not of the schedule; 1\n"
    "  --planes[=NAME]   storm what is beside the map, too: dirty log, ioeventfds...; or of that only the part NAME\n"
    "  --accel NAME      an accelerator mirrors the map, and its guest makes accesses: kvm, unicorn\n"
    "  --json            the result as one JSON object\n"
    "  --quiet           the last line only\n"
    "  --sabotage NAME   break a rule of the library on purpose: must end with status 1; `list` prints the names\n";

static Options options = { .seconds = 10, .vcpus = 2, .writers = 2, .seed = 1 };

uint64_t storm_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void storm_violation(const char *format, ...)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    uint64_t n = __atomic_add_fetch(&storm.violations, 1, __ATOMIC_RELAXED);
    va_list args;

    if (n <= SHOW_VIOLATIONS) {
        pthread_mutex_lock(&lock);
        fprintf(stderr, "violation %" PRIu64 " (seed %" PRIu64 "): ", n, storm.seed);
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fputc('\n', stderr);
        pthread_mutex_unlock(&lock);
    }
    if (n >= STOP_AFTER_VIOLATIONS) {
        __atomic_store_n(&storm.stop, true, __ATOMIC_RELAXED);
    }
}

/* ---- the command line ---- */

static bool parse_number(const char *text, unsigned long min, unsigned long max, unsigned long *ret)
{
    char *end;
    unsigned long value;

    errno = 0;
    value = strtoul(text, &end, 0);
    if (errno || end == text || *end || text[0] == '-' || value < min || value > max) {
        fprintf(stderr, "flatview: storm: '%s' is not a number from %lu to %lu\n", text, min, max);
        return false;
    }
    *ret = value;
    return true;
}

#ifdef FLATVIEW_SABOTAGE
/* EXIT_OK: go on; else the status to end with, or -1 for a list that was printed. */
static int choose_sabotage(const char *name)
{
    for (int i = 0; options.accel && i < ACCEL_SABOTAGE_COUNT; i++) {
        if (strcmp(name, "list") == 0 && i != ACCEL_SABOTAGE_NONE) {
            printf("%s\n", accel_sabotage_name(i));
        } else if (strcmp(name, accel_sabotage_name(i)) == 0) {
            accel_sabotage_active = (enum AccelSabotage)i;
            return EXIT_OK;
        }
    }
    for (int i = 0; i < SABOTAGE_COUNT; i++) {
        if (strcmp(name, "list") == 0 && i != SABOTAGE_NONE) {
            printf("%s\n", sabotage_name(i));
        } else if (strcmp(name, sabotage_name(i)) == 0) {
            sabotage_active = (enum Sabotage)i;
            options.planes |= planes_choose_for(name);
            return EXIT_OK;
        }
    }
    if (strcmp(name, "list") == 0) {
        return -1;
    }
    fprintf(stderr, "flatview: storm: no sabotage '%s'; --sabotage list prints them\n", name);
    return EXIT_UNUSABLE;
}
#else
static int choose_sabotage(const char *name)
{
    (void)name;
    return EXIT_UNUSABLE; /* main() has handed over to the sabotaged twin, or reported that it cannot */
}
#endif

static int parse(int argc, char **argv)
{
    static const struct option longs[] = {
        { "accel", required_argument, NULL, 'a' },
        { "json", no_argument, NULL, 'j' },
        { "machine", required_argument, NULL, 'm' },
        { "planes", optional_argument, NULL, 'p' },
        { "quiet", no_argument, NULL, 'q' },
        { "sabotage", required_argument, NULL, 'x' },
        { "seconds", required_argument, NULL, 's' },
        { "seed", required_argument, NULL, 'r' },
        { "vcpus", required_argument, NULL, 'v' },
        { "writers", required_argument, NULL, 'w' },
        { NULL, 0, NULL, 0 },
    };
    const char *sabotage = NULL;
    int option, status = EXIT_OK;
    bool ok = true;

    while (ok && (option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (option) {
        case 'a':
            options.accel = accel_find(optarg);
            if (!options.accel) {
                fprintf(stderr, "flatview: storm: no accelerator '%s' in this build; there is: %s\n", optarg, accel_names());
                ok = false;
            }
            break;
        case 'j':
            options.json = true;
            break;
        case 'm':
            options.machine = optarg;
            break;
        case 'p':
            options.planes = true;
            ok = planes_choose(optarg);
            if (!ok) {
                fprintf(stderr, "flatview: storm: no part '%s' of --planes\n", optarg);
            }
            break;
        case 'q':
            options.quiet = true;
            break;
        case 'x':
            sabotage = optarg;
            break;
        case 's':
            ok = parse_number(optarg, 1, 1000000, &options.seconds);
            break;
        case 'r':
            ok = parse_number(optarg, 0, ULONG_MAX, &options.seed);
            break;
        case 'v':
            ok = parse_number(optarg, 1, STORM_MAX_THREADS / 2, &options.vcpus);
            break;
        case 'w':
            ok = parse_number(optarg, 1, STORM_MAX_THREADS / 2, &options.writers);
            break;
        default:
            ok = false; /* getopt_long() has said why */
        }
    }
    if (ok && optind < argc) {
        fprintf(stderr, "flatview: storm: unexpected '%s'\n", argv[optind]);
        ok = false;
    }
    if (ok && sabotage) {
        status = choose_sabotage(sabotage); /* which there are depends on the accelerator */
    }
    return ok ? status : EXIT_UNUSABLE;
}

/* ---- when the process itself comes to harm ---- */

static void say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0) {
        _exit(EXIT_WRONG);
    }
}

static void on_alarm(int number)
{
    (void)number;
    say("FAILED: the storm hangs: a thread waits for something that does not come\n");
    _exit(EXIT_WRONG);
}

#ifdef FLATVIEW_SABOTAGE
static void on_crash(int number)
{
    (void)number;
    say("FAILED: caught: the sabotaged library crashed the process\n");
    _exit(EXIT_WRONG);
}
#endif

static void catch_signals(void)
{
    struct sigaction action = { .sa_handler = on_alarm };

    sigaction(SIGALRM, &action, NULL);
#ifdef FLATVIEW_SABOTAGE
    {
        static const int crashes[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP };

        action.sa_handler = on_crash;
        for (unsigned i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++) {
            sigaction(crashes[i], &action, NULL);
        }
    }
#endif
    alarm((unsigned)options.seconds + GRACE_SECONDS);
}

/* ---- the run ---- */

static bool make_threads(void)
{
    storm.n_vcpus = (unsigned)options.vcpus;
    storm.n_writers = (unsigned)options.writers;
    for (unsigned i = 0; i < storm.n_vcpus + storm.n_writers; i++) {
        StormThread *t = aligned_alloc(64, sizeof(*t));

        if (!t) {
            return false;
        }
        memset(t, 0, sizeof(*t));
        t->index = i;
        t->is_writer = i >= storm.n_vcpus;
        t->rng = backing_word((uint32_t)storm.seed, 8ull * (i + 1)) | 1;
        drop_history(t);
        storm.threads[storm.n_threads++] = t;
        if (!(t->is_writer ? writer_init(t) : vcpu_init(t))) {
            return false;
        }
    }
    return true;
}

/* On a machine that is busy with other things, the storm blows until all that it is to test has happened. */
static bool is_awaited(uint64_t end)
{
    return options.planes && !__atomic_load_n(&storm.violations, __ATOMIC_RELAXED) && !planes_complete() &&
           storm_clock_ns() < end + PATIENCE_SECONDS * UINT64_C(1000000000);
}

static void watch_threads(uint64_t start)
{
    bool table = isatty(STDOUT_FILENO) && !options.json && !options.quiet;
    uint64_t end = start + options.seconds * UINT64_C(1000000000);
    unsigned long second = 0;
    StormTotals before = { 0 }, now;

    while (!storm_stopping() && (storm_clock_ns() < end || is_awaited(end))) {
        usleep(50000);
        planes_rest();
        accel_rest();
        if (storm_clock_ns() - start >= (second + 1) * UINT64_C(1000000000)) {
            second++;
            now = storm_totals();
            if (table) {
                storm_print_second(second, &now, &before);
            }
            before = now;
            storm_check_pins();
            audit_everything(storm_self, storm.spaces[second % storm.n_spaces]); /* it stops all writers */
        }
    }
    __atomic_store_n(&storm.stop, true, __ATOMIC_RELAXED);
}

static double blow(void)
{
    StormThread self = { .rng = storm.seed | 1 };
    uint64_t start = storm_clock_ns();
    unsigned n;

    storm_self = &self;
    for (n = 0; n < storm.n_threads; n++) {
        StormThread *t = storm.threads[n];
        int error = pthread_create(&t->thread, NULL, t->is_writer ? writer_main : vcpu_main, t);

        if (error) {
            storm_violation("a thread cannot be made: %s", strerror(error));
            __atomic_store_n(&storm.stop, true, __ATOMIC_RELAXED);
            break;
        }
    }
    if (options.planes) {
        planes_blow();
    }
    watch_threads(start);
    while (n > 0) {
        pthread_join(storm.threads[--n]->thread, NULL);
    }
    storm_self = storm.threads[0];
    return (double)(storm_clock_ns() - start) / 1e9;
}

int storm_main(int argc, char **argv)
{
    int status = parse(argc, argv);
    InputError err = { .line = 0 };
    double seconds;

    if (status != EXIT_OK) {
        return status < 0 ? EXIT_OK : status;
    }
    catch_signals();
    storm.seed = options.seed;
    if (!storm_setup(options.machine, options.accel, &err)) {
        input_complain(options.machine ? options.machine : "the machine that ships", &err);
        return EXIT_UNUSABLE;
    }
    if (!make_threads() || !storm_watch() || (options.planes && !planes_start()) || (options.accel && !accel_start())) {
        fprintf(stderr, "flatview: storm: it cannot begin: no memory, or a listener is not accepted\n");
        return EXIT_UNUSABLE;
    }
    seconds = blow();
    if (options.planes) {
        planes_stop();
    }
    storm_calm();
    if (options.json) {
        storm_print_json(seconds);
    } else {
        if (!options.quiet) {
            planes_print();
            accel_print();
        }
        storm_print_report(seconds, !options.quiet);
    }
    status = storm.violations ? EXIT_WRONG : EXIT_OK;
    storm_teardown();
    for (unsigned i = 0; i < storm.n_threads; i++) {
        writer_fini(storm.threads[i]);
        free(storm.threads[i]);
    }
    return status;
}
