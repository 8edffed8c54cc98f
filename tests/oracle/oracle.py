#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""oracle.py FLATVIEW PART - what `flatview` makes of QEMU's maps, against what QEMU made of them (FORMAT.md).

  check        each .topo: our views are the recorded ones
  replay       each scenario of PAIRS.tsv: step by step, each step one transaction
  each         the same, call by call
  tree         `flatview tree X.topo` is X.mtree
  flat         `flatview flat X.topo` is X.flat
  roundtrip    `flatview tree` of the text of `info mtree`, with and without -o -D, is that text
  teeth        a map with one recorded fact changed is found wrong, whatever the fact
  info         `flatview info --json` is JSON and counts what the file has, whatever its names are; regions are found in every
               space where the recorded views have a range, and their host memory leads back to them
  hostile      maps that are well-formed but cannot be built end in status 2 with a cause, soon and in little memory
"""
import json
import os
import re
import subprocess
import sys
import tempfile

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, '..', 'meta'))
from tap import Tap  # noqa: E402

# Data that is lost must not look like tests that pass.
CAPTURES, WITH_DISABLED, PAIRS, SCENARIOS = 242, 161, 86, 10
OWNERS = re.compile(r'(?: (?:owner|parent):\{(?:dev|obj) [^}]*\})+$', re.MULTILINE)


def stems(suffix):
    found = []
    for folder, _, files in os.walk(here):
        found += [os.path.relpath(os.path.join(folder, f[:-len(suffix)]), here) for f in files if f.endswith(suffix)]
    return sorted(found)


def read(stem, suffix):
    with open(os.path.join(here, stem + suffix), encoding='utf-8') as file:
        return file.read()


def scenarios():
    """Rows that follow each other, as lists of stems."""
    with open(os.path.join(here, 'PAIRS.tsv'), encoding='utf-8') as file:
        rows = [line.rstrip('\n').split('\t')[:2] for line in file][1:]
    chains = []
    for before, after in rows:
        if chains and chains[-1][-1] == before:
            chains[-1].append(after)
        else:
            chains.append([before, after])
    return rows, chains


def run(*args):
    done = subprocess.run(args, capture_output=True, text=True, cwd=here, check=False)
    return done.returncode, done.stdout, done.stderr


def difference(have, want, name):
    """The first line that differs."""
    have, want = have.splitlines(), want.splitlines()
    for number, (a, b) in enumerate(zip(have, want), 1):
        if a != b:
            return [f'{name}, canonical line {number}', f'  ours   {a}', f"  QEMU's {b}"]
    return [] if len(have) == len(want) else [f'{name}: {len(have)} canonical lines, QEMU has {len(want)}']


def blocks(text):
    return [block for block in text.split('\n\n') if block]


def canonical_tree(text):
    """The order of address spaces that share a root, of groups, and so of sections, is not part of the map."""
    done = []
    for block in blocks(text):
        lines = block.split('\n')
        heads = sorted(line for line in lines if not line.startswith(' '))
        done.append('\n'.join(heads + [line for line in lines if line.startswith(' ')]))
    return '\n\n'.join(sorted(done))


def canonical_flat(text):
    """Neither are the numbers and the order of views."""
    done = []
    for block in blocks(text):
        lines = block.split('\n')[1:]
        heads = sorted(line for line in lines if line.startswith(' AS '))
        done.append('\n'.join(heads + [line for line in lines if not line.startswith(' AS ')]))
    return '\n\n'.join(sorted(done))


def verdicts(tap, flatview, args, files):
    """One case for each file of a check or replay: its line of output."""
    status, out, err = run(flatview, *args, *files)
    lines = out.splitlines()
    said = set(lines)
    for file in files:
        wrong = [line for line in lines + err.splitlines() if line.startswith((f'differs {file}:', f'{file}:'))]
        tap.case(file, [] if f'ok {file}' in said and not wrong else wrong or ['no verdict', err[-400:]])
    tap.case('status and sum', [] if status == 0 and lines[-1:] == [f'{len(files)} passed, 0 failed']
             else [f'status {status}', *lines[-1:], err[-400:]])


def part_check(tap, flatview):
    verdicts(tap, flatview, ['check'], [stem + '.topo' for stem in stems('.topo')])


def part_replay(tap, flatview, *args):
    rows, chains = scenarios()
    tap.case('all pairs are there', [] if (len(rows), len(chains)) == (PAIRS, SCENARIOS)
             else [f'{len(rows)} pairs, {len(chains)} scenarios'])
    for chain in chains:
        verdicts(tap, flatview, ['replay', *args], [stem + '.topo' for stem in chain])


def part_each(tap, flatview):
    part_replay(tap, flatview, '--each')


def printed(tap, flatview, args, suffix, want, canonical, name):
    status, out, err = run(flatview, *args)
    wrong = [f'status {status}', err[-400:]] if status else difference(canonical(out), canonical(want), name)
    tap.case(name + suffix, wrong)


def part_tree(tap, flatview):
    for stem in stems('.topo'):
        printed(tap, flatview, ['tree', stem + '.topo'], '.topo', read(stem, '.mtree'), canonical_tree, stem)


def part_flat(tap, flatview):
    for stem in stems('.topo'):
        printed(tap, flatview, ['flat', stem + '.topo'], '.topo', read(stem, '.flat'), canonical_flat, stem)


def part_roundtrip(tap, flatview):
    """Here the order is the text's own, so nothing is made canonical."""
    for stem in stems('.mtree'):
        printed(tap, flatview, ['tree', stem + '.mtree'], '.mtree', read(stem, '.mtree'), str, stem)
    for stem in stems('.mtree-oD'):
        want = OWNERS.sub('', read(stem, '.mtree-oD'))
        printed(tap, flatview, ['tree', '-D', stem + '.mtree-oD'], '.mtree-oD', want, str, stem)


def damaged(text):
    """(what, text): each with one fact changed; all remain well-formed."""
    lines = text.split('\n')

    def changed(word, field, change):
        for number, line in enumerate(lines):
            fields = line.split(' ')
            new = change(fields[field]) if fields[0] == word else None
            if new is not None and new != fields[field]:
                fields[field] = new
                return '\n'.join(lines[:number] + [' '.join(fields)] + lines[number + 1:])
        return None

    def swap(letter, place):
        return lambda flags: flags[:place] + ('-' if flags[place] != '-' else letter) + flags[place + 1:]

    yield 'size of a range', changed('range', 2, lambda f: f'{int(f, 16) - 1:x}' if int(f, 16) > 1 else None)
    yield 'offset of a range', changed('range', 4, lambda f: f'{int(f, 16) ^ 1:x}')
    yield 'dirty mask of a range', changed('range', 5, lambda f: f'{int(f, 16) ^ 1:x}')
    yield 'read-only flag of a range', changed('range', 6, swap('r', 0))
    yield 'non-volatile flag of a range', changed('range', 6, swap('v', 1))
    yield 'read mode of a range', changed('range', 6, swap('o', 2))
    yield 'root of a view', changed('view', 2, lambda f: '-' if f != '-' else None)
    yield 'view of a space', changed('as', 3, lambda f: '0' if f != '0' else None)
    yield 'offset of a region', changed('region', 3, lambda f: f'{int(f, 16) + 0x1000:x}' if int(f, 16) else None)
    yield 'dirty mask of a region', changed('region', 9, lambda f: f'{int(f, 16) ^ 1:x}' if f != '0' else None)
    last = max(number for number, line in enumerate(lines) if line.startswith('range '))
    view = max(number for number, line in enumerate(lines[:last]) if line.startswith('view '))
    head, count = lines[view].rsplit(' ', 1)
    lines[view] = f'{head} {int(count) - 1}'
    yield 'a range too few', '\n'.join(lines[:last] + lines[last + 1:])


def part_teeth(tap, flatview):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'damaged.topo')
        for what, text in damaged(read('x86_64/q35.linux.linux', '.topo')):
            if text is None:
                tap.case(what, ['the capture has nothing of the kind'])
                continue
            with open(path, 'w', encoding='utf-8') as file:
                file.write(text)
            for args in (['check'], ['replay']):
                status, out, err = run(flatview, *args, path)
                tap.case(f'{args[0]}: {what}', [] if status == 1 and out.startswith(f'differs {path}: ')
                         else [f'status {status}', out, err])


def hostile():
    """(what, text, status, what standard error begins with after the file's name)"""
    def region(number, container, offset, size, flags='e-----o---', alias='-', alias_offset=0):
        return f'region {number} {container} {offset:x} {size:x} 0 {flags} {alias} {alias_offset:x} 0 r{number}\n'

    io, ram, whole = 'et----o---', 'etm---o--b', 1 << 64
    space = 'as 0 0 - m\n'
    yield 'RAM of 2^64 bytes', region(0, '-', 0, whole, ram), 2, ':2: r0: RAM: '
    yield 'more RAM than addresses', ''.join(region(i, '-', 0, 1 << 46, ram) for i in range(9)), 2, ':'
    bus, alias = region(0, '-', 0, 0x10000), region(1, 0, 0x1000, 0x1000, 'e-----o---', 0, 0x1000)
    yield 'a bus that shows its own place', bus + alias + space, 2, ':3: r1: add_subregion: '
    yield 'a bus that shows itself shifted', (region(0, '-', 0, 1 << 40) + region(1, 0, 0, 1 << 40, 'e-----o---', 0, 1)
                                              + space), 2, ':3: r1: add_subregion: '
    yield 'the same, disabled', (region(0, '-', 0, 0x10000) + region(1, 0, 0x1000, 0x1000, '------o---', 0, 0x1000)
                                 + space), 0, ''
    yield 'a window of a bus on the bus', (region(0, '-', 0, 0x10000) + region(1, 0, 0, 0x1000, io)
                                           + region(2, 0, 0x1000, 0x1000, alias=0) + space), 0, ''
    deep = ''.join(region(i, i - 1, 0, 0x1000) for i in range(1, 512))
    yield 'containers 511 deep', region(0, '-', 0, 0x1000) + deep + space, (0, 2), ''
    yield 'aliases 511 long', (region(511, '-', 0, 0x1000, io) + ''.join(region(i, '-', 0, 0x1000, alias=i + 1)
                                                                         for i in range(511)) + space), (0, 2), ''
    doubling = region(1, '-', 0, 0x1000, io)
    for level in range(40):
        top = 3 * level + 4
        size = 0x1000 << level
        below = top - 3
        doubling += (region(top, '-', 0, whole) + region(top + 1, top, 0, size, alias=below)
                     + region(top + 2, top, size, size, alias=below))
    yield 'aliases that double 40 times', doubling + f'as 0 {top} - m\n', 2, ': transaction: commit: '
    spaces = ''.join(f'as {i} 0 - m\n' for i in range(16385))
    yield 'spaces beyond number', region(0, '-', 0, whole) + spaces, 2, ':16387: more '
    yield '30,000 devices on a bus', region(0, '-', 0, whole) + ''.join(region(i, 0, 16 * i, 8, io)
                                                                        for i in range(1, 30001)) + space, 0, ''
    yield '30,000 devices on one address', region(0, '-', 0, whole) + ''.join(region(i, 0, 0, whole, io)
                                                                              for i in range(1, 30001)) + space, 0, ''


def part_hostile(tap, flatview):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'hostile.topo')
        for what, text, want, cause in hostile():
            with open(path, 'w', encoding='utf-8') as file:
                file.write('# memtopo 1\n' + text)
            for command in ('tree', 'flat'):
                status, _, err = run(flatview, command, path)
                wanted = want if isinstance(want, tuple) else (want,)
                told = err.startswith(path + cause) and err.count('\n') == 1 if status else not err
                tap.case(f'{command}: {what}', [] if status in wanted and told else [f'status {status}', err[-2000:]])


def counted(stem):
    """From the file itself: regions, how many are disabled, are an alias, and for each space its name and the ranges it has."""
    regions, spaces, sizes = [], [], {}
    for line in read(stem, '.topo').splitlines():
        field = line.split(' ')
        if field[0] == 'region':
            regions.append((field[6], field[7]))
        elif field[0] == 'as':
            spaces.append((' '.join(field[4:]), field[3]))
        elif field[0] == 'view':
            sizes[field[1]] = int(field[3])
    return {'total': len(regions), 'disabled': sum('e' not in flags for flags, _ in regions),
            'alias': sum(target != '-' for _, target in regions),
            'iommu': sum('i' in flags for flags, _ in regions)}, sorted((name, sizes[view]) for name, view in spaces)


def part_info(tap, flatview):
    for stem in stems('.topo'):
        status, out, err = run(flatview, 'info', '--json', stem + '.topo')
        try:
            info = json.loads(out)
        except ValueError as error:
            tap.case(stem, [str(error), f'status {status}', err[-400:]])
            continue
        regions, spaces = counted(stem)
        seen = sorted((name, view['ranges']) for view in info['views'] for name in view['spaces'])
        library = info['library']
        wrong = [f'{what}: {info["regions"][what]}, in the file {n}' for what, n in regions.items()
                 if info['regions'][what] != n]
        wrong += [] if seen == spaces else [f'ranges by space: {seen}', f'in the file: {spaces}']
        wrong += [] if (library['regions'], library['address_spaces']) == (regions['total'], len(spaces)) else [str(library)]
        places = [(place['space'], entry['region'], place) for entry in info['places'] for place in entry['places']]
        by_space = sorted((name, sum(space == name for space, _, _ in places)) for name in {name for name, _ in spaces})
        total = {name: sum(n for other, n in spaces if other == name) for name, _ in spaces}
        wrong += [] if by_space == sorted(total.items()) else [f'places by space: {by_space}', f'ranges: {total}']
        wrong += [f'{region}: found as {place["host"]}' for _, region, place in places
                  if place['host'] and place['host'] != {'region': region, 'offset': place['offset']}]
        tap.case(stem, wrong if status == 0 else [f'status {status}', err[-400:]])
    names = ['"', '\\', 'a b', '\xe4\xf6', '\u20ac \U0001f600']
    broken = b'\xff\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80\xe2\x82'
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'names.topo').encode()
        with open(path, 'wb') as file:
            file.write(b'# memtopo 1\nregion 1 - 0 1000 0 et----o--- - 0 0 r\n')
            for number, name in enumerate([name.encode() for name in names] + [broken]):
                file.write(b'as %d 1 - %s\n' % (number, name))
        status, out, err = run(flatview, 'info', '--json', path)
        got = json.loads(out)['views'][0]['spaces'] if status == 0 else [err]
        tap.case('names of all sorts', [] if got[:-1] == names and set(got[-1]) == {'\ufffd'} else [str(got)])
    status, out, _ = run(flatview, 'info', 'x86_64/x-remote.topo')
    tap.case('as text', [] if status == 0 and out.startswith('regions: 3, 0 of them disabled; 2 container, 1 io,')
             else [f'status {status}', out])
    status, out, err = run(flatview, 'info', '--json', '/nonexistent')
    tap.case('no such file', [] if status == 2 and err.startswith('/nonexistent: ') and not out else [out, err])


def main():
    flatview, part = os.path.abspath(sys.argv[1]), sys.argv[2]
    tap = Tap()
    counts = [len(stems(suffix)) for suffix in ('.topo', '.mtree', '.flat', '.mtree-oD')]
    tap.case('all captures are there', [] if counts == [CAPTURES] * 3 + [WITH_DISABLED] else [str(counts)])
    globals()['part_' + part](tap, flatview)
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
