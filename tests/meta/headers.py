#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""headers.py ROOT LISTED... - each public header compiles alone, twice over, as C and as C++, whatever warnings a user asks for.

LISTED are the headers that the build installs: a header in include/ that is not among them would be missing from an
installed flatview.
"""
import os
import shutil
import subprocess
import sys

from tap import Tap

STRICT = ['-Werror', '-Wall', '-Wextra', '-Wpedantic', '-Wshadow', '-Wundef']
MODES = [
    ('gcc', 'c', ['-std=c11', '-pedantic']),
    ('gcc', 'c', ['-std=gnu11']),
    ('g++', 'c++', ['-std=c++11']),
    ('g++', 'c++', ['-std=c++17']),
    ('clang', 'c', ['-std=gnu11']),
    ('clang++', 'c++', ['-std=c++17']),
]


def compile_alone(compiler, language, flags, top, header):
    unit = f'#include <{header}>\n#include <{header}>\n'
    done = subprocess.run([compiler, *flags, '-I', top, '-fsyntax-only', '-x', language, '-'], input=unit,
                          capture_output=True, text=True)
    # A warning in a mode that did not ask for any is a complaint as well.
    return [done.stderr or 'failed silently'] if done.returncode or done.stderr else []


def main():
    top = os.path.join(os.path.abspath(sys.argv[1]), 'include')
    listed = {os.path.relpath(os.path.abspath(path), top) for path in sys.argv[2:]}
    present = set()
    for folder, _, names in os.walk(top):
        present |= {os.path.relpath(os.path.join(folder, name), top) for name in names if name.endswith('.h')}

    tap = Tap()
    tap.case('every header in include/ is installed',
             [f'{header}: not listed in include/flatview/meson.build' for header in sorted(present - listed)])
    for compiler, language, flags in MODES:
        name = ' '.join([compiler, *flags])
        if not shutil.which(compiler):
            tap.skip(name, f'no {compiler}')
            continue
        complaints = []
        for header in sorted(present):
            complaints += compile_alone(compiler, language, flags + STRICT, top, header)
        tap.case(f'each header alone: {name}', complaints)
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
