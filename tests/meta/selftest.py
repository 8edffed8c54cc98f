#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""selftest.py FAILING_TEST - a checker that cannot fail proves nothing.

Each meta script is run on a small sound tree, where it must pass, and on the same tree with one thing wrong, where it
must fail and name the culprit. FAILING_TEST shows that googletest failures, crashes and early exits reach the totals.
"""
import json
import os
import subprocess
import sys
import tempfile

from tap import Tap

HERE = os.path.dirname(os.path.abspath(__file__))

HEADER = '''#ifndef FLATVIEW_X_H
#define FLATVIEW_X_H
#define FLATVIEW_API __attribute__((visibility("default")))
#ifdef __cplusplus
extern "C" {
#endif
FLATVIEW_API int flatview_x(void);
#ifdef __cplusplus
}
#endif
#endif
'''
MAP = 'FLATVIEW_0 {\nglobal:\n    flatview_x;\nlocal:\n    *;\n};\n'
PROGRAM = '''Text.

```c
#include <flatview/x.h>
int main(void) { return flatview_x() == 1 ? 0 : 1; }
```
'''
DOCUMENT = '''[up](../README.md); `x()`, `FLATVIEW_X_H`, `lib/base/x.c`, `base/x`, `Xs.Work`, `Xs.*`, `malloc()`, `TEXT.md`.

```c
nowhere();
```

    ./tests/nowhere
'''
SOUND = {
    'README.md': PROGRAM,
    'docs/X.md': DOCUMENT,
    'tests/unit/x_test.cc': 'TEST(Xs, Work)\n',
    'include/flatview/x.h': HEADER,
    'lib/flatview.map': MAP,
    'lib/base/x.h': '/* rcu_ in a comment is no use of it, nor is "base/../api/y.h" */\nint x(void);\n',
    'lib/base/x.c': '#include "x.h"\n#include <flatview/x.h>\nint x(void) { return 1; }\nint flatview_x(void) { return x(); }\n',
    'lib/base/reader.c': '#include <stddef.h>\nint reader(void) { return 1; }\n',
    'lib/base/mem.c': '#include <stdlib.h>\n',
    'lib/view/y.c': '#include "base/x.h"\n',
    'lib/api/y.h': '#include "base/x.h"\n',
    'lib/accel/z.c': '#include <flatview/x.h>\n#include "z.h"\n',
    'lib/accel/z.h': '',
}


def append(file, text):
    return {file: SOUND.get(file, '') + text}


BAD = {
    'docs': [
        ('a link to nowhere', append('docs/X.md', '[gone](GONE.md)\n'), 'GONE.md'),
        ('a function that is gone', append('docs/X.md', 'calls `gone(x)`\n'), 'gone()'),
        ('a constant that is gone', append('docs/X.md', 'at most `FLATVIEW_GONE`\n'), 'FLATVIEW_GONE'),
        ('a file that is gone', append('docs/X.md', 'see `lib/base/gone.c`\n'), 'lib/base/gone.c'),
        ('a test that is gone', append('README.md', 'shown by `Xs.Gone`\n'), 'Xs.Gone'),
    ],
    'floors': [
        ('an include that goes upward', append('lib/base/x.c', '#include "api/y.h"\n'), 'upward'),
        ('an upward include spelt with dots', append('lib/view/y.c', '#include "../api/y.h"\n'), 'upward'),
        ('an include of nothing', append('lib/view/y.c', '#include "view/nothing.h"\n'), 'nothing.h'),
        ('a computed include', append('lib/view/y.c', '#define H "api/y.h"\n#include H\n'), 'cannot tell'),
        ('a file on no floor', {'lib/attic/old.c': ''}, 'attic'),
        ('a file above the floors', {'lib/old.c': ''}, 'old.c'),
        ('liburcu outside its file', append('lib/base/x.c', '# include <urcu/urcu-memb.h>\n'), 'liburcu'),
        ('jemalloc outside its file', append('lib/base/reader.c', '#include <jemalloc/jemalloc.h>\n'), 'jemalloc'),
        ('an accelerator that sees internals', append('lib/accel/z.c', '#include "base/x.h"\n'), 'accelerator'),
        ('a public header with liburcu', append('include/flatview/x.h', '#include <urcu.h>\n'), 'urcu.h'),
        ('a public header with a private one', append('include/flatview/x.h', '#include "base/x.h"\n'), 'base/x.h'),
        ('a public header with atomics', append('include/flatview/x.h', '#include <stdatomic.h>\n'), 'stdatomic.h'),
        ('a public header without its friend', append('include/flatview/x.h', '#include <flatview/no.h>\n'), 'no.h'),
    ],
    'headers': [
        ('a header that needs another', append('include/flatview/x.h', 'static inline size_t y(void) { return 0; }\n'),
         'size_t'),
        ('a header without a guard', {'include/flatview/x.h': 'enum X { X };\n'}, 'X'),
        ('a header that is not C++', append('include/flatview/x.h', 'struct Y { int template; };\n'), 'template'),
        ('a header that warns', append('include/flatview/x.h', 'static inline int y(int a) { return 1; }\n'), 'unused'),
        ('a header that is not installed', {'include/flatview/w.h': ''}, 'w.h'),
    ],
    'readme': [
        ('a program that does not compile', {'README.md': PROGRAM.replace('flatview_x', 'flatview_y')}, 'flatview_y'),
        ('a program that fails', {'README.md': PROGRAM.replace('== 1', '== 2')}, 'exit status'),
        ('a document without a program', {'README.md': ''}, None),
    ],
    'symbols': [
        ('a marked function missing from the map', append('include/flatview/x.h', 'FLATVIEW_API int *flatview_w(void);\n'),
         'flatview_w'),
        ('a marked variable missing from the map', append('include/flatview/x.h', 'FLATVIEW_API extern const int flatview_v[2];\n'),
         'flatview_v'),
        ('a function marked by a macro, missing from the map',
         append('include/flatview/x.h', '#define LD(n) FLATVIEW_API int flatview_ld##n(int (*f)(void));\nLD(q)\n'),
         'flatview_ldq'),
        ('a public function without a mark', append('include/flatview/x.h', 'int flatview_u(int a);\n'), 'flatview_u'),
        ('a name in the map that no header has', {'lib/flatview.map': MAP.replace('_x;', '_x;\n    flatview_y;')},
         'flatview_y'),
        ('a name missing from the map', {'lib/flatview.map': MAP.replace('flatview_x', 'flatview_y')}, 'flatview_x'),
        ('a wildcard in the map', {'lib/flatview.map': MAP.replace('flatview_x', 'flatview_*')}, 'wildcard'),
        ('a map out of order', {'lib/flatview.map': MAP.replace('flatview_x', 'flatview_x;\n    flatview_a')},
         'not sorted'),
    ],
    'words': [
        ('a use of a liburcu name', append('lib/base/x.c', 'void y(void) { rcu_read_lock(); }\n'), 'rcu_read_lock'),
        ('a definition of a liburcu name', append('lib/base/reader.c', 'static int urcu_mine(void)\n{\n}\n'), 'urcu_mine'),
        ('a macro with a liburcu name', append('lib/base/reader.c', '#define cmm_mine 1\n'), 'cmm_mine'),
        ('a type with a liburcu name', append('lib/base/reader.c', 'struct cds_mine { int a; };\n'), 'cds_mine'),
        ('an object with a liburcu name', append('lib/base/x.c', '#define NAME(x) r##x\nint NAME(cu_y);\n'), 'rcu_y'),
        ('a TODO', append('lib/view/y.c', '/* TODO: all of it */\n'), 'TODO'),
        ('a FIXME in a public header', append('include/flatview/x.h', '/* FIXME */\n'), 'FIXME'),
        ('scaffolding', append('lib/view/y.c', '// for now\n'), 'for now'),
    ],
}


def write(root, files):
    for name, text in files.items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)


def run_script(script, root):
    """Status and output of a meta script over the tree at root."""
    args = [root]
    if script == 'headers':
        args += [os.path.join(root, 'include/flatview/x.h')]
    if script in ('readme', 'symbols', 'words'):
        product = os.path.join(root, 'x.o' if script == 'words' else 'libx.so')
        kind = ['-shared', '-fPIC', '-Wl,--version-script=' + os.path.join(root, 'lib/flatview.map')]
        # -w and implicit declarations: what is wrong in these sources is for the script to find.
        subprocess.run(['gcc', '-w', *(['-c'] if script == 'words' else kind), '-I', os.path.join(root, 'include'),
                        os.path.join(root, 'lib/base/x.c'), '-o', product], check=True)
        args += [product]
    done = subprocess.run([sys.executable, os.path.join(HERE, script + '.py'), *args], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def check_script(tap, script):
    with tempfile.TemporaryDirectory() as root:
        write(root, SOUND)
        status, output = run_script(script, root)
        tap.case(f'{script} passes a sound tree', [] if status == 0 else [output])
    for what, change, culprit in BAD[script]:
        with tempfile.TemporaryDirectory() as root:
            write(root, {**SOUND, **change})
            status, output = run_script(script, root)
            # Where there is no culprit to name, an empty run is the fault.
            blamed = culprit is None or any(line.startswith('#') and culprit in line for line in output.splitlines())
            tap.case(f'{script} fails on {what}', [] if status == 1 and blamed else [f'status {status}', output])


def check_install(tap):
    """A project that installs a private header, and no pkg-config file."""
    with tempfile.TemporaryDirectory() as root:
        write(root, {'meson.build': "project('x', 'c')\ninstall_headers('lib/base/x.h')\n", 'lib/base/x.h': ''})
        build = os.path.join(root, 'build')
        subprocess.run(['meson', 'setup', build, root], check=True, capture_output=True)
        done = subprocess.run([sys.executable, os.path.join(HERE, 'install.py'), build], capture_output=True, text=True)
        for what, verdict in (('a private header', 'not ok 2'), ('a missing flatview.pc', 'not ok 3')):
            tap.case(f'install fails on {what}', [] if done.returncode == 1 and verdict in done.stdout else
                     [f'status {done.returncode}', done.stdout, done.stderr])


def check_command(tap):
    done = subprocess.run([sys.executable, os.path.join(HERE, 'command.py'), '/bin/true'], capture_output=True, text=True)
    tap.case('command fails on a silent one', [] if done.returncode == 1 and 'not ok 1 - help' in done.stdout else
             [f'status {done.returncode}', done.stdout])


def check_googletest(tap, program):
    for case in ('FailsOnAWrongExpectation', 'FailsOnAnAbort', 'FailsOnASegmentationFault'):
        done = subprocess.run([program, f'--gtest_filter=Harness.{case}'], capture_output=True)
        tap.case(f'googletest {case}', [] if done.returncode else ['exit status 0'])
    done = subprocess.run([program, '--gtest_filter=Harness.Passes*'], capture_output=True)
    tap.case('googletest PassesOnARightExpectation', [] if done.returncode == 0 else [done.stdout])


JUNIT = '''<testsuites><testsuite name="p.p:unit / unit-a.A">{}</testsuite>
<testsuite name="p"><testcase name="p:storm / storm-b"/></testsuite></testsuites>'''
TALLIES = [
    # what, verdicts of unit-a (googletest) and storm-b (status only), cases of unit-a, exit status, the line
    ('passes', 'OK', 'OK', '<testcase name="1"/><testcase name="2"/>', 0, '3 passed, 0 failed, 0 skipped'),
    ('skips', 'OK', 'SKIP', '<testcase name="1" status="notrun"/>', 1, '0 passed, 0 failed, 2 skipped'),
    ('a failed case', 'FAIL', 'OK', '<testcase name="1"><failure/></testcase>', 1, '1 passed, 1 failed, 0 skipped'),
    ('a time-out', 'OK', 'TIMEOUT', '<testcase name="1"/>', 1, '1 passed, 1 failed, 0 skipped'),
    ('a crash after the results', 'FAIL', 'OK', '<testcase name="1"/>', 1, '2 passed, 1 failed, 0 skipped'),
    ('a crash before the results', 'FAIL', 'OK', '', 1, '1 passed, 1 failed, 0 skipped'),
    ('an exit before the results', 'OK', 'OK', '', 1, '1 passed, 1 failed, 0 skipped'),
]


def check_tally(tap):
    for what, verdict_a, verdict_b, cases, status, line in TALLIES:
        with tempfile.TemporaryDirectory() as build:
            write(build, {
                'meson-logs/testlog.json': ''.join(json.dumps({'name': name, 'result': result}) + '\n' for name, result in
                                                   (('p:unit / unit-a', verdict_a), ('p:storm / storm-b', verdict_b))),
                'meson-logs/testlog.junit.xml': JUNIT.format(cases),
                'meson-info/intro-tests.json': json.dumps([{'name': 'unit-a', 'protocol': 'gtest'},
                                                           {'name': 'storm-b', 'protocol': 'exitcode'}]),
            })
            done = subprocess.run([sys.executable, os.path.join(HERE, '..', 'tally.py'), build, '0'],
                                  capture_output=True, text=True)
            tap.case(f'the totals show {what}', [] if (done.returncode, done.stdout.splitlines()[-1:]) == (status, [line])
                     else [f'status {done.returncode}', done.stdout, done.stderr])


def main():
    tap = Tap()
    for script in BAD:
        check_script(tap, script)
    check_install(tap)
    check_command(tap)
    check_googletest(tap, sys.argv[1])
    check_tally(tap)
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
