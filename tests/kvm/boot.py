#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""boot.py [--with FILE]... PROGRAM FOLDER - runs PROGRAM, a googletest, as the init of a small machine that has KVM, and
reports as TAP. Each FILE, a program that it runs, is put into the root folder.

The machine is QEMU's emulation of an AMD processor with its virtualisation; the kernel is Debian's for clouds, downloaded
once into FOLDER by apt-get and unpacked there; nothing is installed. PROGRAM may also be run by hand where there is a
/dev/kvm.
"""
import fcntl
import glob
import os
import re
import select
import shutil
import subprocess
import sys
import time

MODULES = ['kernel/virt/lib/irqbypass.ko', 'kernel/arch/x86/kvm/kvm.ko', 'kernel/arch/x86/kvm/kvm-amd.ko']
SECONDS = 240       # from power-on to power-off; on an idle machine it takes a twelfth of it
SILENCE = 60        # without a word; no test is a tenth as long
TRIES = 4


class Missing(Exception):
    """Why this cannot run here."""


def output(*command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout


def find_kernel(folder):
    """(kernel image, modules folder), from the unpacked package. Of several programs at once the first one gets it."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, 'lock'), 'w', encoding='utf-8') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return find_kernel_locked(folder)


def find_kernel_locked(folder):
    images = glob.glob(os.path.join(folder, 'boot', 'vmlinuz-*'))
    if not images:
        try:
            depends = output('apt-cache', 'depends', '--important', 'linux-image-cloud-amd64')
            names = re.findall(r'Depends: (linux-image-\S*cloud-amd64)', depends)
            if not names:
                raise Missing('no package linux-image-cloud-amd64 is known')
            output('apt-get', 'download', names[0], cwd=folder)
        except (OSError, subprocess.CalledProcessError) as error:
            raise Missing(f'the kernel package cannot be downloaded: {error}') from error
        package = glob.glob(os.path.join(folder, 'linux-image-*.deb'))[0]
        output('dpkg-deb', '-x', package, folder)
        os.remove(package)
        images = glob.glob(os.path.join(folder, 'boot', 'vmlinuz-*'))
    version = os.path.basename(images[0]).removeprefix('vmlinuz-')
    modules = glob.glob(os.path.join(folder, '**', 'lib', 'modules', version), recursive=True)
    return images[0], modules[0]


def libraries(program):
    """What the program needs at run time: (path inside, file)."""
    found = []
    for line in output('ldd', program).splitlines():
        match = re.match(r'\s*(?:\S+ => )?(/\S+) \(0x', line)
        if match:
            found.append(match.group(1))
    return found


def build_initrd(program, more, modules, folder):
    """Each library under its own name in /lib64, where the loader, which is there too, is told to look."""
    root = os.path.join(folder, 'root-' + os.path.basename(program))
    shutil.rmtree(root, ignore_errors=True)
    os.makedirs(os.path.join(root, 'modules'))
    os.makedirs(os.path.join(root, 'lib64'))
    shutil.copy(program, os.path.join(root, 'init'))
    for file in more:
        shutil.copy(file, root)
    for library in {library for file in [program, *more] for library in libraries(file)}:
        shutil.copy(library, os.path.join(root, 'lib64', os.path.basename(library)))
    for module in MODULES:
        shutil.copy(os.path.join(modules, module), os.path.join(root, 'modules'))
    # The run path of a program from a build folder leads nowhere inside.
    os.symlink('lib64', os.path.join(root, 'lib'))
    names = '\n'.join(os.path.relpath(os.path.join(where, name), root)
                      for where, dirs, files in os.walk(root) for name in dirs + files)
    archive = subprocess.run(['cpio', '--quiet', '-o', '-H', 'newc'], cwd=root, check=True, capture_output=True,
                             input=names.encode()).stdout
    path = root + '.cpio'
    with open(path, 'wb') as file:
        file.write(archive)
    shutil.rmtree(root)
    return path


def boot(image, initrd, arguments):
    """(what it said, whether it turned itself off)."""
    command = ['qemu-system-x86_64', '-accel', 'tcg,thread=multi', '-cpu', 'qemu64,+svm,+npt', '-smp', '2', '-m', '768',
               '-display', 'none', '-nodefaults', '-no-user-config', '-serial', 'stdio', '-no-reboot',
               '-kernel', image, '-initrd', initrd,
               '-append', f'console=ttyS0 quiet panic=-1 nokaslr mitigations=off -- {arguments}']
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as machine:
        text, begun, heard = b'', time.monotonic(), time.monotonic()
        while True:
            ready, _, _ = select.select([machine.stdout], [], [], 1)
            chunk = os.read(machine.stdout.fileno(), 65536) if ready else None
            now = time.monotonic()
            if chunk == b'':
                return text.decode(errors='replace'), True
            if chunk:
                text, heard = text + chunk, now
            elif now - heard > SILENCE or now - begun > SECONDS:
                machine.kill()
                return text.decode(errors='replace') + f'\nsilent for {now - heard:.0f} s, not off\n', False


def report(text):
    """TAP from googletest's lines; what the tests said goes along as comments."""
    cases, lines = 0, text.replace('\r', '').splitlines()
    started = set()
    for line in lines:
        run = re.match(r'\[ RUN      \] (\S+)', line)
        verdict = re.search(r'\[       OK \] (\S+)|\[  FAILED  \] (\S+?)(?:,.*)? \(|\[  SKIPPED \] (\S+) \(', line)
        if run:
            started.add(run.group(1))
        if verdict:
            name = next(group for group in verdict.groups() if group)
            started.discard(name)
            cases += 1
            print(f'{"ok" if verdict.group(1) else "not ok"} {cases} - {name}')
        print('# ' + line)
    for name in sorted(started):
        cases += 1
        print(f'not ok {cases} - {name} did not end')
    cases += 1
    ended = any(re.match(r'tests ended with status 0', line) for line in lines)
    print(f'{"ok" if ended and cases > 1 else "not ok"} {cases} - the machine ran all tests and turned itself off')
    print(f'1..{cases}')


def main():
    more, arguments = [], sys.argv[1:]
    while arguments[0] == '--with':
        more.append(arguments[1])
        del arguments[:2]
    program, folder = arguments[:2]
    try:
        for tool in ('qemu-system-x86_64', 'cpio', 'dpkg-deb', 'apt-get', 'ldd'):
            if not shutil.which(tool):
                raise Missing(f'no {tool}')
        image, modules = find_kernel(folder)
    except Missing as why:
        print(f'1..0 # SKIP {why}')
        return 0
    initrd = build_initrd(program, more, modules, folder)
    # An emulated machine in an emulated machine has been seen to stand still, in any test: once in some thirty
    # boots, more often beside other work. A test that hangs by itself does so each time, and fails; one that fails is not tried again.
    for left in reversed(range(TRIES)):
        text, ended = boot(image, initrd, ' '.join(arguments[2:]))
        if ended or not left:
            break
        print(''.join(f'# first try: {line}\n' for line in text.replace('\r', '').splitlines()[-6:]), end='')
    report(text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
