#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""docs.py ROOT - what the documents name exists.

In *.md at the top and in docs/, outside code blocks: a link leads somewhere; in backticks, `name()` and NAMES_LIKE_THIS
occur in the sources, a path with a / is a file or folder of the repository or of lib/, Suite.Case is a test. Documents
rot silently; renames are what they rot by.
"""
import glob
import os
import re
import sys

from tap import Tap

CODE = ('.c', '.h', '.cc', '.py', '.sh', '.build', '.map', '.supp')
FOLDERS = ('include', 'lib', 'stress', 'bench', 'tests')
# What others define and documents may speak of.
FOREIGN = {'malloc', 'free', 'exit', '_exit', 'exec', 'fork', 'dlopen', 'dlclose', 'longjmp', 'mmap', 'munmap', 'close',
           'memfd_create', 'pthread_create', 'assert', 'main', 'setjmp', 'LD_PRELOAD', 'LD_DEBUG'}


def texts(root):
    for folder in FOLDERS:
        for where, _, names in os.walk(os.path.join(root, folder)):
            for name in names:
                if name.endswith(CODE) or where.endswith('/tests') or name == 'run':
                    with open(os.path.join(where, name), encoding='utf-8') as file:
                        yield file.read()
    for name in ('meson.build', 'meson_options.txt'):
        if os.path.exists(os.path.join(root, name)):
            with open(os.path.join(root, name), encoding='utf-8') as file:
                yield file.read()


def names_of(root):
    words, tests = set(FOREIGN), set()
    for text in texts(root):
        words.update(re.findall(r'\w+', text))
        for suite, case in re.findall(r'\bTEST(?:_F|_P)?\((\w+),\s*(\w+)\)', text):
            tests.update((f'{suite}.{case}', f'{suite}.*'))
    return words, tests


def exists(root, path, at):
    """As written: from the top, from lib/, beside the document; a * stands for anything, a missing suffix for .c and .h."""
    return any(glob.glob(os.path.join(root, base, path)) or glob.glob(os.path.join(root, base, path + '.[ch]'))
               for base in ('', 'lib', os.path.dirname(at)))


def check(root, document, words, tests):
    with open(os.path.join(root, document), encoding='utf-8') as file:
        text = re.sub(r'^```.*?^```', lambda m: '\n' * m.group(0).count('\n'), file.read(), flags=re.DOTALL | re.MULTILINE)
    complaints = []
    for number, line in enumerate(text.splitlines(), 1):
        where = f'{document}:{number}'
        for target in re.findall(r'\]\(([^)#:]+)\)', line):
            if not os.path.exists(os.path.join(root, os.path.dirname(document), target)):
                complaints.append(f'{where}: a link to {target}, which is not there')
        if line.startswith('    '):
            continue        # commands
        for token in re.findall(r'`([^`]+)`', line):
            function = re.match(r'^(\w+)\(.*\)$', token)
            if function and function.group(1) not in words:
                complaints.append(f'{where}: no function {function.group(1)}()')
            elif re.match(r'^[A-Z][A-Z0-9]*(_[A-Z0-9]+)+$', token) and token not in words:
                complaints.append(f'{where}: no {token}')
            elif re.match(r'^[A-Z]\w+\.(\w+|\*)$', token) and not token.endswith(('.md', '.tsv')) and token not in tests:
                complaints.append(f'{where}: no test {token}')
            elif re.match(r'^[\w.]+(/[\w.*-]+)+/?$', token) and re.match(r'^(docs|lib|include|tests|stress|bench)/', token) \
                    and not exists(root, token, document):
                complaints.append(f'{where}: no {token}')
    return complaints


def main():
    root = sys.argv[1]
    words, tests = names_of(root)
    tap = Tap()
    for path in sorted(glob.glob(os.path.join(root, '*.md')) + glob.glob(os.path.join(root, 'docs', '*.md'))):
        document = os.path.relpath(path, root)
        tap.case(document, check(root, document, words, tests))
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
