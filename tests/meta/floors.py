#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""floors.py ROOT - #include goes down only.

A file in lib/ includes files of its own folder or of lower ones. One pair of files may include liburcu, one file
jemalloc. An accelerator is a user: <flatview/...> and files of its own folder. A public header includes public headers and
the plainest of the C library's, so that it compiles alone, as C and as C++, beside any other library.
"""
import os
import re
import sys

from tap import Tap, strip_comments

FLOORS = ['base', 'topology', 'view', 'publish', 'access', 'api', 'accel']
URCU_FILES = {'base/reader.h', 'base/reader.c'}
JEMALLOC_FILES = {'base/mem.c'}
PUBLIC_SYSTEM = {'limits.h', 'stdarg.h', 'stdbool.h', 'stddef.h', 'stdint.h', 'stdio.h', 'sys/types.h', 'sys/uio.h'}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include(?:_next)?[ \t]*(.*)$', re.MULTILINE)


def sources(top):
    for folder, _, names in sorted(os.walk(top)):
        for name in sorted(names):
            if name.endswith(('.c', '.h', '.inc', '.def')):
                yield os.path.relpath(os.path.join(folder, name), top)


def includes(path):
    """(line number, '<' or '"' or '?', name) of each include."""
    with open(path, encoding='utf-8') as source:
        text = strip_comments(source.read())
    for match in INCLUDE.finditer(text):
        line = text.count('\n', 0, match.start()) + 1
        quoted = re.match(r'(["<])([^">]+)[">]', match.group(1))
        yield (line, *quoted.groups()) if quoted else (line, '?', match.group(1))


def is_urcu(name):
    return name.startswith('urcu')


def is_jemalloc(name):
    return name.startswith('jemalloc')


def private(lib, file):
    complaints = []
    folder = file.split('/')[0]
    if '/' not in file or folder not in FLOORS:
        return [f'lib/{file}: on no floor; the floors are {", ".join(FLOORS)}']
    for line, kind, name in includes(os.path.join(lib, file)):
        where = f'lib/{file}:{line}'
        if kind == '?':
            complaints.append(f'{where}: cannot tell what this includes: {name}')
        elif kind == '<':
            if is_urcu(name) and file not in URCU_FILES:
                complaints.append(f'{where}: <{name}>, but only {", ".join(sorted(URCU_FILES))} may know liburcu')
            if is_jemalloc(name) and file not in JEMALLOC_FILES:
                complaints.append(f'{where}: <{name}>, but only {", ".join(sorted(JEMALLOC_FILES))} may know jemalloc')
        else:
            beside = os.path.normpath(os.path.join(os.path.dirname(file), name))
            target = next((t for t in (beside, os.path.normpath(name)) if os.path.exists(os.path.join(lib, t))), None)
            if target is None:
                complaints.append(f'{where}: no "{name}" in lib/ (public headers are written <flatview/...>)')
                continue
            other = target.split('/')[0]
            if other not in FLOORS:
                complaints.append(f'{where}: "{name}" is on no floor')
            elif folder == 'accel' and other != 'accel':
                complaints.append(f'{where}: "{name}": an accelerator sees include/ and its own files only')
            elif FLOORS.index(other) > FLOORS.index(folder):
                complaints.append(f'{where}: "{name}" is upward: {folder} is below {other}')
    return complaints


def public(top, file):
    complaints = []
    for line, kind, name in includes(os.path.join(top, file)):
        where = f'include/{file}:{line}'
        if kind == '<' and name.startswith('flatview/'):
            if not os.path.exists(os.path.join(top, name)):
                complaints.append(f'{where}: no public header <{name}>')
        elif kind != '<' or name not in PUBLIC_SYSTEM:
            complaints.append(f'{where}: {name} is not for a public header (allowed: <flatview/...>, '
                              f'{", ".join(sorted(PUBLIC_SYSTEM))})')
    return complaints


def main():
    root = sys.argv[1]
    tap = Tap()
    for file in sources(os.path.join(root, 'lib')):
        tap.case(f'lib/{file} includes downwards', private(os.path.join(root, 'lib'), file))
    for file in sources(os.path.join(root, 'include')):
        tap.case(f'include/{file} includes public headers', public(os.path.join(root, 'include'), file))
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
