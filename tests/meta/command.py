#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""command.py FLATVIEW - what the command says about itself, and that lost output is not taken for well."""
import subprocess
import sys

from tap import Tap


def main():
    tap, flatview = Tap(), sys.argv[1]

    def run(*args, **kwargs):
        done = subprocess.run([flatview, *args], stderr=subprocess.PIPE, text=True, check=False,
                              **kwargs or {'stdout': subprocess.PIPE})
        return done.returncode, done.stdout, done.stderr

    status, listed, _ = run('help')
    names = [line.split()[0] for line in listed.splitlines() if line.startswith('  ') and line[2] != ' ']
    tap.case('help lists the commands', [] if status == 0 and {'check', 'storm', 'help'} < set(names) else [status, listed])
    for name in names:
        status, out, err = run(name, '--help')
        tap.case(f'{name} --help shows its usage',
                 [] if status == 0 and out.startswith(f'usage: flatview {name}') and not err else [status, out, err])
    _, out, _ = run('storm', '--help')
    for option in ('--machine', '--seconds', '--vcpus', '--writers', '--seed', '--json', '--quiet', '--sabotage'):
        tap.case(f'storm --help names {option}', [] if f'  {option} ' in out else [out])
    status, out, err = run('blow')
    tap.case('an unknown command is status 2', [] if status == 2 and "'blow'" in err and not out else [status, out, err])
    with open('/dev/full', 'w', encoding='utf-8') as full:
        status, _, err = run('help', stdout=full)
    tap.case('output that nobody gets is status 2', [] if status == 2 and 'standard output' in err else [status, err])
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
