# SPDX-License-Identifier: MIT
"""against.py - this run's counts beside those of an earlier one.

Only what is ours and does not depend on the machine's mood is compared: flatview's instructions, and bytes of structures. A count beyond the
tolerance is a loss and makes the command fail; one as far below is a gain, which is said and asks for a new baseline, so that
what was gained cannot be lost unnoticed. A case of the earlier run that this one should have had and has not is a loss,
too: otherwise a renamed case would be a case that nobody watches. So like is compared with like: runs of the same options.
"""

import collections
import json

from tables import number, print_table

OURS = 'flatview'    # of the others' rungs some depend on when a worker frees, or on a package's version
EXACT = ('instructions/op', 'instructions/range', 'bytes/range', 'bytes/region', 'bytes/space', 'bytes/change')
TOLERANCE = 3.0     # per cent
SLACK = 2.0         # instructions or bytes: what an access of 40 instructions may differ by, whatever the per cent say


def counts(results):
    """The exact figures by case."""
    found = collections.OrderedDict()
    for line in results:
        if line['unit'] in EXACT and line['subject'] == OURS:
            key = (line['scenario'], OURS, json.dumps(line['params'], sort_keys=True), line['metric'], line['unit'])
            found[key] = line['median']
    return found


def read(path):
    with open(path, encoding='utf-8') as file:
        return [json.loads(text) for text in file if text.strip()]


def write_baseline(path, results):
    """The exact figures, one a line and in a fixed order, so that the difference between two baselines can be read."""
    lines = [{'scenario': s, 'subject': subject, 'params': json.loads(params), 'metric': metric, 'unit': unit, 'median': value}
             for (s, subject, params, metric, unit), value in sorted(counts(results).items())]
    with open(path, 'w', encoding='utf-8') as out:
        for line in lines:
            out.write(json.dumps(line) + '\n')
    return len(lines)


def case_text(key):
    scenario, subject, params, metric, _ = key
    values = ', '.join(f'{k} {v}' for k, v in json.loads(params).items())
    return f'{scenario} {subject}: {values}' + ('' if metric == 'instructions' else f'; {metric}')


def median_of(values):
    values = sorted(values)
    return values[len(values) // 2]


def compare(results, path, tolerance):
    """Print ratios to the figures in path; True if nothing is lost beyond the tolerance (per cent)."""
    now, before = counts(results), counts(read(path))
    measured = {key[0] for key in now}
    common = [key for key in before if key in now]
    gone = [key for key in before if key[0] in measured and key not in now]
    if not common:
        print(f'\nNothing in {path} was counted in this run: nothing to compare.')
        return False
    ratios = {key: (now[key] / before[key] if before[key] else 1.0 if now[key] == 0 else float('inf')) for key in common}
    lost = [k for k in common if now[k] > before[k] * (1 + tolerance / 100) and now[k] - before[k] > SLACK]
    gained = [k for k in common if now[k] < before[k] * (1 - tolerance / 100) and before[k] - now[k] > SLACK]

    by_scenario = collections.OrderedDict()
    for key in common:
        by_scenario.setdefault((key[0], key[1], key[4]), []).append(ratios[key])
    print_table(f'Against {path}: ratios, below 1 is better; tolerance {tolerance:g} %',
                ['scenario, subject', 'unit', 'cases', 'least', 'median', 'most'],
                [[f'{s}, {subject}', unit, str(len(r)), f'{min(r):.3f}', f'{median_of(r):.3f}', f'{max(r):.3f}']
                 for (s, subject, unit), r in by_scenario.items()])
    for title, keys in (('Lost', lost), ('Gained', gained)):
        if keys:
            print_table(f'{title}: beyond {tolerance:g} %', ['case', 'before', 'now', 'ratio'],
                        [[case_text(k), number(before[k]), number(now[k]), f'{ratios[k]:.3f}']
                         for k in sorted(keys, key=lambda k: -abs(ratios[k] - 1))])
    if gone:
        print_table('Gone: in the earlier run and not in this one', ['case'], [[case_text(k)] for k in gone])
    new = sum(1 for key in now if key not in before)
    print(f'\n{len(common)} counts compared, {len(lost)} lost, {len(gained)} gained, {len(gone)} gone, {new} new.')
    return not lost and not gone
