#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""bench.py ROOT - bench/against.py finds what was lost, and nothing else; and bench/baseline.jsonl is one of its files."""
import contextlib
import io
import os
import sys
import tempfile

from tap import Tap


def line(case, value, unit='instructions/op', scenario='publish'):
    return {'scenario': scenario, 'subject': 'flatview', 'params': {'case': case}, 'metric': 'instructions', 'unit': unit,
            'median': value, 'min': value, 'max': value, 'reps': 1}


def main():
    tap, root = Tap(), sys.argv[1]
    sys.path.insert(0, os.path.join(root, 'bench'))
    from against import TOLERANCE, compare, counts, read, write_baseline

    before = [line('a', 1000), line('b', 40), line('c', 500, scenario='dispatch'), line('t', 7, unit='ns/op')]

    def verdict(now, tolerance=TOLERANCE):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            kept = compare(now, path, tolerance)
        return kept, said.getvalue()

    def expect(name, now, wanted, words=(), **options):
        kept, said = verdict(now, **options)
        tap.case(name, [] if kept == wanted and all(w in said for w in words) else [f'kept: {kept}', said])

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'baseline.jsonl')
        write_baseline(path, before)
        tap.case('a baseline holds what is exact and no times', [] if len(read(path)) == 3 else read(path))
        expect('the same counts are kept', before, True, ['3 counts compared, 0 lost'])
        expect('a loss within the tolerance is kept', [line('a', 1029), line('b', 41)], True)
        expect('a loss beyond the tolerance is not', [line('a', 1031), line('b', 40)], False, ['1 lost', 'case a'])
        expect('a wider tolerance forgives it', [line('a', 1031), line('b', 40)], True, tolerance=5)
        expect('a loss hidden among gains is found', [line('a', 500), line('b', 60)], False, ['1 lost', '1 gained'])
        expect('a gain is said and kept', [line('a', 500), line('b', 40)], True, ['1 gained', 'Gained'])
        expect('a case that is no longer measured is a loss', [line('a', 1000)], False, ['1 gone', 'case b'])
        expect('a scenario that was not asked for is none', [line('c', 500, scenario='dispatch')], True, ['0 gone'])
        expect('a new case is no loss', before + [line('d', 9)], True, ['1 new'])
        expect('nothing in common is no comparison', [line('z', 1, scenario='other')], False, ['nothing to compare'])
    stored = read(os.path.join(root, 'bench', 'baseline.jsonl'))
    tap.case('the stored baseline has exact figures only, each once', [] if 0 < len(counts(
        dict(l, min=0, max=0, reps=1) for l in stored)) == len(stored) else ['a figure is a time, or there twice'])
    return tap.end()


if __name__ == '__main__':
    sys.exit(main())
