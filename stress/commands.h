/* SPDX-License-Identifier: MIT */
/*
 * commands.h - the subcommands of `flatview`, one file each.
 *
 * Each gets the arguments from its own name on and returns the exit status: 0 well, 1 the thing checked is wrong,
 * 2 the input or the command line is unusable.
 */
#ifndef FLATVIEW_STRESS_COMMANDS_H
#define FLATVIEW_STRESS_COMMANDS_H

#include <stdbool.h>

enum { EXIT_OK = 0, EXIT_WRONG = 1, EXIT_UNUSABLE = 2 };

int tree_main(int argc, char **argv);
int flat_main(int argc, char **argv);
int events_main(int argc, char **argv);
int check_main(int argc, char **argv);
int info_main(int argc, char **argv);
int replay_main(int argc, char **argv);
int migrate_main(int argc, char **argv);
extern const char migrate_options[];
int storm_main(int argc, char **argv);
extern const char storm_options[]; /* for `storm --help`: a line each */

#endif
