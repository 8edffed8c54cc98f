#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""words.py ROOT ARCHIVE - words that must not stand in lib/ and include/.

Names beginning with rcu_, urcu_, cds_, cmm_ or caa_ belong to liburcu: nobody defines one, and only the file that
includes liburcu uses any. TODO and FIXME belong in an issue or in docs/CAVEATS.md. Lines beginning // are scaffolding.
"""
import os
import re
import subprocess
import sys

from floors import URCU_FILES, sources
from tap import Tap, strip_comments

FOREIGN = r'(?:rcu|urcu|cds|cmm|caa)_\w+'
# A macro; a type; or a name at the left margin's declaration whose body or value follows.
DEFINES = [
    re.compile(rf'^[ \t]*#[ \t]*define[ \t]+({FOREIGN})', re.MULTILINE),
    re.compile(rf'\b(?:struct|union|enum)\s+({FOREIGN})\s*\{{'),
    re.compile(rf'\btypedef\b[^;]*\b({FOREIGN})\s*;'),
    re.compile(rf'^(?!return\b)[A-Za-z_][\w \t*]*[ \t*]({FOREIGN})\s*\([^;{{}}]*\)\s*\{{', re.MULTILINE),
    re.compile(rf'^[A-Za-z_][\w \t*]*[ \t*]({FOREIGN})\s*(?:=|;|\[)', re.MULTILINE),
]


def check(path, name, may_use):
    with open(path, encoding='utf-8') as file:
        text = file.read()
    code = strip_comments(text, strings=True)
    complaints = []
    if may_use:
        for pattern in DEFINES:
            complaints += [f'{name}: defines {match.group(1)}' for match in pattern.finditer(code)]
    else:
        complaints += [f'{name}: {word} belongs to liburcu' for word in sorted(set(re.findall(rf'\b{FOREIGN}', code)))]
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(r'\b(?:TODO|FIXME|XXX)\b', line):
            complaints.append(f'{name}:{number}: open an issue instead: {line.strip()}')
        if re.match(r'\s*//', line):
            complaints.append(f'{name}:{number}: // is for text that must not be committed: {line.strip()}')
    return complaints


def defined(archive):
    out = subprocess.run(['nm', '--defined-only', archive], check=True, capture_output=True, text=True).stdout
    return sorted({line.split()[-1] for line in out.splitlines() if re.search(rf'\s{FOREIGN}$', line)})


def main():
    root, archive = sys.argv[1:3]
    tap = Tap()
    for folder in ('lib', 'include'):
        for file in sources(os.path.join(root, folder)):
            may_use = folder == 'lib' and file in URCU_FILES
            tap.case(f'{folder}/{file}', check(os.path.join(root, folder, file), f'{folder}/{file}', may_use))
    tap.case('no object defines a name of liburcu', [f'{name}: defined' for name in defined(archive)])
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
