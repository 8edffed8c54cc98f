#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""readme.py ROOT LIBRARY - the programs printed in README.md and docs/ compile without a warning, and run.

A ```c block is a program if it has a main(); other blocks are not looked at.
"""
import glob
import os
import re
import subprocess
import sys
import tempfile

from tap import Tap


def programs(path):
    with open(path, encoding='utf-8') as file:
        text = file.read()
    for match in re.finditer(r'^```c\n(.*?)^```$', text, re.DOTALL | re.MULTILINE):
        if re.search(r'\bint main\(', match.group(1)):
            yield text.count('\n', 0, match.start()) + 1, match.group(1)


def run(root, library, source):
    folder = os.path.dirname(os.path.abspath(library))
    with tempfile.TemporaryDirectory() as build:
        program = os.path.join(build, 'example')
        done = subprocess.run(['gcc', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-I', os.path.join(root, 'include'),
                               '-x', 'c', '-', '-x', 'none', library, f'-Wl,-rpath,{folder}', '-o', program],
                              input=source, capture_output=True, text=True)
        if done.returncode:
            return [done.stderr]
        done = subprocess.run([program], capture_output=True, text=True, timeout=60)
        return [f'exit status {done.returncode}', done.stdout, done.stderr] if done.returncode else []


def main():
    root, library = sys.argv[1:3]
    tap = Tap()
    for path in [os.path.join(root, 'README.md'), *sorted(glob.glob(os.path.join(root, 'docs', '*.md')))]:
        for line, source in programs(path):
            tap.case(f'{os.path.relpath(path, root)}:{line}', run(root, library, source))
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
