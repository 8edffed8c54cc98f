#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""install.py BUILD - what `meson install` leaves is enough for a user: pkg-config finds it, a program builds and runs,
and nothing internal is installed.
"""
import os
import re
import subprocess
import sys
import tempfile

from tap import Tap

PROGRAM = '''
#include <flatview/version.h>
int main(void) { return flatview_version()[0] == '\\0'; }
'''
EXPECTED = re.compile(r'/(include/flatview/(accel/)?\w+\.h|lib(/[\w-]+)?/libflatview(-\w+)?\.so[.\d]*|lib(/[\w-]+)?/pkgconfig/flatview(-\w+)?\.pc)$')


def run(command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    return ([f'status {done.returncode}: {" ".join(command)}', done.stdout] if done.returncode else []), done.stdout


def main():
    tap = Tap()
    with tempfile.TemporaryDirectory() as root:
        complaints, _ = run(['meson', 'install', '-C', sys.argv[1], '--no-rebuild', '--destdir', root])
        tap.case('meson install', complaints)
        files = [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names]
        tap.case('only headers, shared libraries and their .pc files are installed',
                 [name for name in files if not EXPECTED.search(name)])

        pc = next((os.path.dirname(name) for name in files if name.endswith('/flatview.pc')), root)
        env = {**os.environ, 'PKG_CONFIG_PATH': pc, 'PKG_CONFIG_SYSROOT_DIR': root}
        complaints, flags = run(['pkg-config', '--cflags', '--libs', 'flatview'], env=env)
        tap.case('pkg-config finds it', complaints)
        tap.case('a program that links it links nothing else', [flags] if re.search('urcu|jemalloc', flags) else [])

        program = os.path.join(root, 'program')
        # With a sysroot, pkg-config prefixes paths; the private requirements' /usr/include is harmless.
        complaints, _ = run(['gcc', '-x', 'c', '-', '-x', 'none', '-o', program, *flags.split()], input=PROGRAM)
        tap.case('a program builds with its flags', complaints)
        complaints, _ = run([program], env={**os.environ, 'LD_LIBRARY_PATH': os.path.dirname(pc)})
        tap.case('and runs', complaints)
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
