#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""report.py BUILD [OPTION...] NAME... - run benchmarks, collect their lines, print tables, judge targets.

A target is a ratio within one run, or a number of instructions. A ratio of times is judged by the best batches. If it is
missed, but would not be if the denominator had been measured in its median batch, the scenario is run again and the best
of all runs counts; if that stays so the target is unclear, which is said and is no failure.
"""
import argparse
import glob
import json
import os
import subprocess
import sys
import tempfile

import page
import plots
import tables
from against import TOLERANCE, compare, write_baseline
from tables import print_tables
from targets import WORSE, judge, print_targets, unclear_scenarios

FLAVOURS = ['flavour_memb', 'flavour_bp', 'flavour_mb', 'flavour_qsbr']
PROGRAMS = {'flavour': FLAVOURS}    # scenario: what to run, if not <scenario>_bench
# Those with single-threaded cases, or with exact bytes.
COUNTED = ('publish', 'machine', 'populate', 'dispatch', 'access', 'find', 'memory', 'maps', 'planes', 'dirty', 'dma',
           'flavour')
RUNS = 2                                       # of a scenario whose targets stay unclear


def key_of(line):
    return (line['scenario'], line['subject'], json.dumps(line['params']), line['metric'], line['unit'])


def merge(results, line):
    """One more run of the same case: the best, the middle, the worst of all."""
    known = results.setdefault(key_of(line), line)
    if known is not line:
        known['median'] = (known['median'] * known['reps'] + line['median'] * line['reps']) / (known['reps'] + line['reps'])
        known['min'] = min(known['min'], line['min'])
        known['max'] = max(known['max'], line['max'])
        known['reps'] += line['reps']


class Progress:
    def __init__(self):
        self.width = 0

    def say(self, text):
        if sys.stderr.isatty():
            sys.stderr.write('\r' + text.ljust(self.width))
            sys.stderr.flush()
            self.width = len(text)

    def done(self):
        if self.width:
            self.say('')
            sys.stderr.write('\r')
            self.width = 0


def callgrind_totals(folder):
    """Instructions by dump label and thread number: what the measuring thread (1) did, and any other."""
    totals = {}
    for name in glob.glob(os.path.join(folder, 'cg.*')):
        label = thread = total = None
        with open(name, encoding='utf-8', errors='replace') as dump:
            for text in dump:
                if text.startswith('desc: Trigger: Client Request: '):
                    label = text.split(': ', 3)[3].strip()
                elif text.startswith('thread: '):
                    thread = int(text.split()[1])
                elif text.startswith('totals: '):
                    total = int(text.split()[1])
        if label and total:
            totals[label] = totals.get(label, 0) + total
    return totals


def run_program(options, program, progress):
    command = [os.path.join(options.build, 'bench', program + '_bench')] + ['--quick'] * options.quick
    command += ['--rungs=' + options.rungs] if options.rungs else []
    counting = options.instructions
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        if counting:
            command = ['valgrind', '-q', '--tool=callgrind', '--collect-atstart=no', '--separate-threads=yes',
                       '--callgrind-out-file=' + os.path.join(folder, 'cg')] + command + ['--count']
        progress.say(f'{program}: running')
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for text in process.stdout:
                line = json.loads(text)
                lines.append(line)
                progress.say(f'{program}: {len(lines)} figures')
        if process.returncode:
            progress.done()
            sys.exit(f'bench: {program} ended with status {process.returncode}')
        if counting:
            totals = callgrind_totals(folder)
            for line in lines:
                if 'dump' not in line:
                    continue    # exact without callgrind: bytes
                value = round(totals[line.pop('dump')] / line['ops'], 1)
                line.update(metric='instructions', unit='instructions/op', median=value, min=value, max=value, reps=1)
                del line['ops']
    return lines


def parse_options():
    parser = argparse.ArgumentParser()
    parser.add_argument('--quick', action='store_true')
    parser.add_argument('--instructions', action='store_true')
    parser.add_argument('--rungs', metavar='NAME,...')
    parser.add_argument('--against', metavar='FILE')
    parser.add_argument('--tolerance', type=float, default=TOLERANCE, metavar='PERCENT')
    parser.add_argument('--write-baseline', metavar='FILE')
    parser.add_argument('build')
    parser.add_argument('names', nargs='+')
    return parser.parse_args()


def main():
    options = parse_options()
    names = [n for n in options.names if n in COUNTED] if options.instructions else options.names
    results, progress = {}, Progress()
    wanted = names
    for _ in range(1 if options.instructions else RUNS):
        for name in wanted:
            for program in PROGRAMS.get(name, [name]):
                for line in run_program(options, program, progress):
                    merge(results, line)
        wanted = unclear_scenarios(results.values())
        if not wanted:
            break
    progress.done()

    path = os.path.join(options.build, 'results.jsonl')
    with open(path, 'w', encoding='utf-8') as out:
        for line in results.values():
            out.write(json.dumps(line) + '\n')
    print_tables(results.values())
    targets = judge(results.values())
    print_targets(targets)
    progress.say('drawing')
    pictures = plots.draw(results.values(), os.path.join(options.build, 'plots'))
    progress.done()
    page.write(os.path.join(options.build, 'report.html'), pictures, tables.printed)
    print(f'\nAll figures: {path}; tables and ' + ('no pictures, for there is no gnuplot' if pictures is None else
          f'{len(pictures)} pictures') + f": {os.path.join(options.build, 'report.html')}")
    status = 1 if any(row[3] == WORSE for row in targets) else 0
    if options.against and not compare(results.values(), options.against, options.tolerance):
        status = 1
    if options.write_baseline:
        print(f'{write_baseline(options.write_baseline, results.values())} counts written to {options.write_baseline}')
    return status


if __name__ == '__main__':
    sys.exit(main())
