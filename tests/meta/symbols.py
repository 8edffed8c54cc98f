#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""symbols.py ROOT LIBRARY [ACCELERATOR...] - three lists that must be one: what libflatview.so exports, what lib/flatview.map
names, what the public headers mark FLATVIEW_API. And no public header declares a function that it forgets to mark. The library
of an accelerator, libflatview-NAME.so, exports what include/flatview/accel/NAME.h marks.

The headers are read preprocessed, so prototypes that a macro writes count. With ROOT alone, prints what lib/flatview.map
should say.
"""
import os
import re
import subprocess
import sys
import tempfile

from tap import Tap, strip_comments

MARK = '__flatview_api_mark__'


def exported(library):
    """Dynamic symbols defined here, less the name of the version node itself."""
    out = subprocess.run(['nm', '-D', '--defined-only', library], check=True, capture_output=True, text=True).stdout
    names = set()
    for line in out.splitlines():
        kind, name = line.split()[-2:]
        if kind != 'A':
            names.add(name.split('@')[0])
    return names


def mapped(path):
    with open(path, encoding='utf-8') as file:
        text = re.sub(r'/\*.*?\*/|#[^\n]*', '', file.read(), flags=re.DOTALL)
    names = []
    for block in re.findall(r'global:(.*?)(?=local:|\})', text, re.DOTALL):
        names += [name.strip() for name in block.split(';') if name.strip()]
    return names


def headers(root):
    top = os.path.join(root, 'include')
    found = []
    for folder, _, names in os.walk(top):
        found += [os.path.relpath(os.path.join(folder, n), top) for n in names if n.endswith('.h')]
    return sorted(found)


ACCEL = os.path.join('flatview', 'accel', '')


def preprocessed(root, header):
    """The header's own lines after preprocessing, FLATVIEW_API turned into a mark."""
    top = os.path.join(root, 'include')
    unit = f'#include <{header}>\n'
    with tempfile.TemporaryDirectory() as copy:
        # The mark must survive whatever the headers define FLATVIEW_API to be.
        subprocess.run(['cp', '-r', os.path.join(top, '.'), copy], check=True)
        for name in headers(root):
            path = os.path.join(copy, name)
            with open(path, encoding='utf-8') as file:
                text = file.read()
            text = re.sub(r'(#\s*define\s+FLATVIEW_API\b).*', rf'\1 {MARK}', text)
            with open(path, 'w', encoding='utf-8') as file:
                file.write(text)
        out = subprocess.run(['gcc', '-std=gnu11', '-E', '-I', copy, '-x', 'c', '-'], input=unit, check=True,
                             capture_output=True, text=True).stdout
        ours, lines = False, []
        for line in out.splitlines():
            marker = re.match(r'# \d+ "([^"]*)"', line)
            if marker:
                ours = marker.group(1) == os.path.join(copy, header)
            elif ours:
                lines.append(line)
    return '\n'.join(lines)


def marked(root, header):
    """Names declared after a mark: of a function, what stands before its first parenthesis; of a variable, the last word."""
    names = set()
    text = strip_comments(preprocessed(root, header), strings=True)
    for declaration in re.findall(MARK + r'([^;{]*)', text):
        declaration = re.sub(r'__attribute__\s*\(\(.*?\)\)', '', declaration)
        match = re.search(r'(\w+)\s*(?:\(|\[|$)', declaration.strip())
        names.add(match.group(1) if match else declaration)
    return names


def declared(root, header):
    """Functions that the header declares and does not define, by the compiler's own account."""
    with tempfile.NamedTemporaryFile('r', suffix='.txt') as info:
        subprocess.run(['gcc', '-std=gnu11', '-I', os.path.join(root, 'include'), '-fsyntax-only', '-aux-info',
                        info.name, '-x', 'c', '-'], input=f'#include <{header}>\n', check=True, text=True)
        names = set()
        for line in info.read().splitlines():
            match = re.match(r'/\* (.*?):\d+:\w+ \*/ extern .*?(\w+) \(', line)
            if match and match.group(1).endswith('/include/' + header):
                names.add(match.group(2))
    return names


def differences(left, left_name, right, right_name):
    return ([f'{name}: in {left_name}, not in {right_name}' for name in sorted(left - right)] +
            [f'{name}: in {right_name}, not in {left_name}' for name in sorted(right - left)])


def print_map(root):
    names = set()
    for header in headers(root):
        if not header.startswith(ACCEL):
            names |= marked(root, header)
    with open(os.path.join(root, 'lib', 'flatview.map'), encoding='utf-8') as file:
        before, _, after = re.split(r'(?<=global:\n)(.*?)(?=local:)', file.read(), flags=re.DOTALL)
    print(before + ''.join(f'    {name};\n' for name in sorted(names)) + after, end='')
    return 0


def main():
    root = os.path.abspath(sys.argv[1])
    if len(sys.argv) == 2:
        return print_map(root)
    library = sys.argv[2]
    tap = Tap()
    in_map = mapped(os.path.join(root, 'lib', 'flatview.map'))
    in_headers = set()
    for header in headers(root):
        names = marked(root, header)
        if not header.startswith(ACCEL):
            in_headers |= names
        tap.case(f'{header} marks what it declares',
                 [f'{name}: declared without FLATVIEW_API' for name in sorted(declared(root, header) - names)])
    tap.case('lib/flatview.map is sorted and has no wildcards or doubles',
             [f'{name}: a wildcard' for name in in_map if '*' in name or '?' in name] +
             ([] if in_map == sorted(set(in_map)) else ['not sorted, or a name twice']))
    tap.case('the headers mark what lib/flatview.map names',
             differences(in_headers, 'include/', set(in_map), 'lib/flatview.map'))
    tap.case('the library exports what lib/flatview.map names',
             differences(exported(library), os.path.basename(library), set(in_map), 'lib/flatview.map'))
    for accel in sys.argv[3:]:
        header = ACCEL + re.sub(r'^libflatview-|\.so.*$', '', os.path.basename(accel)) + '.h'
        tap.case(f'{os.path.basename(accel)} exports what its header marks',
                 differences(exported(accel), os.path.basename(accel), marked(root, header), header))
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
