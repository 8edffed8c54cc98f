#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""report.py BUILD [--quick] [--instructions] NAME... - run benchmarks, collect their lines, print tables, judge targets.

A target is a ratio within one run, or a number of instructions. A ratio of times is judged by the best batches. If it is
missed, but would not be if the denominator had been measured in its median batch, the scenario is run again and the best
of all runs counts; if that stays so the target is unclear, which is said and is no failure.
"""
import glob
import json
import os
import subprocess
import sys
import tempfile

from tables import print_tables
from targets import MISSED, judge, unclear_scenarios

PROGRAMS = {
    'publish': ['publish'], 'dispatch': ['dispatch'], 'scale': ['scale'], 'reclaim': ['reclaim'],
    'flavour': ['flavour_memb', 'flavour_bp', 'flavour_mb', 'flavour_qsbr'],
}
COUNTED = ('publish', 'dispatch', 'flavour')   # those with single-threaded cases
RUNS = 3                                       # of a scenario whose targets stay unclear


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


def run_program(build, program, options, progress):
    command = [os.path.join(build, 'bench', program + '_bench')] + [o for o in options if o == '--quick']
    counting = '--instructions' in options
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
                value = round(totals[line.pop('dump')] / line['ops'], 1)
                line.update(metric='instructions', unit='instructions/op', median=value, min=value, max=value, reps=1)
                del line['ops']
    return lines


def main():
    build, *rest = sys.argv[1:]
    options = [a for a in rest if a.startswith('--')]
    names = [a for a in rest if not a.startswith('--')]
    if '--instructions' in options:
        names = [n for n in names if n in COUNTED]
    results, progress = {}, Progress()
    wanted = names
    for attempt in range(1 if '--instructions' in options else RUNS):
        for name in wanted:
            for program in PROGRAMS[name]:
                for line in run_program(build, program, options, progress):
                    merge(results, line)
        wanted = unclear_scenarios(results.values())
        if not wanted:
            break
    progress.done()

    path = os.path.join(build, 'results.jsonl')
    with open(path, 'w', encoding='utf-8') as out:
        for line in results.values():
            out.write(json.dumps(line) + '\n')
    print_tables(results.values())
    verdicts = judge(results.values(), say=True)
    print(f'\nAll figures: {path}')
    return 1 if MISSED in verdicts else 0


if __name__ == '__main__':
    sys.exit(main())
