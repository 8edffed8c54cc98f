/* SPDX-License-Identifier: MIT */
/*
 * main.c - `flatview`: picks the subcommand, and the twin binary when faults are wanted.
 *
 * Faults exist only in flatview-sabotaged, built from the same sources, so that no fault can be switched on in the
 * code that is measured and shipped. The user never sees the difference: --sabotage re-executes the twin. So does
 * --accel unicorn: flatview-unicorn is this command with Unicorn, which is under the GPL, and with which it is not shipped.
 */
#include "commands.h"
#include "storm_accel.h"

#include <flatview/version.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct Command {
    const char *name;
    const char *arguments;
    const char *help;
    const char *options; /* for --help; NULL: there are none but those in arguments */
    int (*run)(int argc, char **argv);
};

static int help_main(int argc, char **argv);
static int version_main(int argc, char **argv);

/* .ci/run asks `flatview help` which of these exist, so a name stands first on its line. */
static const struct Command commands[] = {
    { "check", "FILE...", "compare the views of each map with the recorded ones", NULL, check_main },
    { "events", "[--each] FILE...", "print what listeners are told in the steps of a scenario", NULL, events_main },
    { "flat", "FILE", "print the flat views of a map, as `info mtree -f`", NULL, flat_main },
    { "help", "", "list the commands", NULL, help_main },
    { "info", "[--json] FILE", "count what is in a map, and what it costs", NULL, info_main },
    { "migrate", "[OPTION...]", "copy RAM while it is written and moved, and compare", migrate_options, migrate_main },
    { "replay", "[--each] FILE...", "lead a machine through the steps of a scenario", NULL, replay_main },
    { "storm", "[OPTION...]", "access a map while it changes, and judge every answer", storm_options, storm_main },
    { "tree", "[-D] FILE", "print the tree of a map, as `info mtree`", NULL, tree_main },
    { "version", "", "print the version of the library", NULL, version_main },
};
static const size_t command_count = sizeof(commands) / sizeof(commands[0]);

static int help_main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("usage: flatview COMMAND [ARGUMENT...]\n"
           "       flatview COMMAND --help\n\n");
    for (size_t i = 0; i < command_count; i++) {
        printf("  %-8s %-24s %s\n", commands[i].name, commands[i].arguments, commands[i].help);
    }
    return EXIT_OK;
}

static int command_help(const struct Command *command)
{
    printf("usage: flatview %s %s\n\n  %s\n", command->name, command->arguments, command->help);
    if (command->options) {
        printf("\n%s", command->options);
    }
    return EXIT_OK;
}

static int version_main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("flatview %s\n", flatview_version());
    return EXIT_OK;
}

#ifndef FLATVIEW_SABOTAGE
/* The value of an option: "" if it has none, NULL if it is not there. */
static const char *find_option(int argc, char **argv, const char *option)
{
    size_t len = strlen(option);

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], option) == 0) {
            return i + 1 < argc ? argv[i + 1] : "";
        }
        if (strncmp(argv[i], option, len) == 0 && argv[i][len] == '=') {
            return argv[i] + len + 1;
        }
    }
    return NULL;
}

/* Returns only on failure: the twin stands beside this binary, or nowhere. */
static int become(const char *suffix, char **argv)
{
    char path[PATH_MAX + 32];
    ssize_t len = readlink("/proc/self/exe", path, PATH_MAX);

    if (len < 0) {
        fprintf(stderr, "flatview: /proc/self/exe: %s\n", strerror(errno));
        return EXIT_UNUSABLE;
    }
    memcpy(path + len, suffix, strlen(suffix) + 1);
    execv(path, argv);
    fprintf(stderr, "flatview: %s: %s\n", path, strerror(errno));
    return EXIT_UNUSABLE;
}
#endif

/* Output that was lost must not look like output that was empty. */
static int finish(int status)
{
    errno = 0;
    if ((fflush(stdout) != 0 || ferror(stdout)) && status != EXIT_UNUSABLE) { /* with that a cause was given already */
        fprintf(stderr, "flatview: standard output: %s\n", strerror(errno ? errno : EIO));
        return status == EXIT_OK ? EXIT_UNUSABLE : status;
    }
    return status;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "help";

#ifndef FLATVIEW_SABOTAGE
    const char *accel = find_option(argc, argv, "--accel");

    if (accel && strcmp(accel, "unicorn") == 0 && !accel_find(accel)) {
        return become("-unicorn", argv);
    }
    if (find_option(argc, argv, "--sabotage")) {
        return become("-sabotaged", argv);
    }
#endif
    if (strcmp(name, "--version") == 0 || strcmp(name, "--help") == 0) {
        name += 2;
    }
    for (size_t i = 0; i < command_count; i++) {
        if (strcmp(name, commands[i].name) == 0) {
            return finish(argc == 3 && strcmp(argv[2], "--help") == 0 ? command_help(&commands[i])
                                                                      : commands[i].run(argc - 1, argv + 1));
        }
    }
    fprintf(stderr, "flatview: no command '%s'; `flatview help` lists them\n", name);
    return EXIT_UNUSABLE;
}
