# SPDX-License-Identifier: MIT
"""tables.py - what was measured, in tables: one for each scenario and kind of figure."""

import collections
import os

# Scenario: which parameter (or 'subject') makes the columns, per metric. Rows are all other parameters.
COLUMNS = {'publish': 'n', 'machine': 'map', 'populate': 'n', 'dispatch': 'subject', 'access': 'subject', 'find': 'subject',
           'memory': 'subject', 'flavour': 'subject'}
POINTS = ('p50', 'p99', 'p99.9', 'max')
SAMPLES = ('retired at',)       # for plots
BEST = ('time', 'cpu time')        # noise only adds to these: the best batch is shown; of all others the median


def number(value):
    if value is None:
        return '-'
    if value >= 1000000:
        return f'{value / 1e6:,.4g} M'
    if value >= 1000:
        return f'{value:,.0f}'
    return f'{value:.3g}' if value < 100 else f'{value:.0f}'


def shown(line):
    return line['min'] if line['metric'] in BEST else line['median']


printed = []    # what print_table() has printed, for the page


def print_table(title, header, rows):
    printed.append((title, header, rows))
    widths = [max(len(r[i]) for r in [header] + rows) for i in range(len(header))]
    print(f'\n{title}')
    for row in [header, ['-' * w for w in widths]] + rows:
        print('  ' + '  '.join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip())


def pivot(lines, column):
    """Rows by everything but the column; cells by the column; both in order of appearance."""
    columns, rows = [], collections.OrderedDict()
    for line in lines:
        params = dict(line['params'])
        if column == 'subject':
            cell = line['subject']
        else:
            cell = params.pop(column, '')
            if line['subject'] != 'flatview':
                params['subject'] = line['subject']
        if cell not in columns:
            columns.append(cell)
        rows.setdefault(tuple(params.items()), {})[cell] = shown(line)
    if column == 'n':
        columns.sort()
    return columns, rows


def print_scenario(scenario, metric, unit, lines):
    column = COLUMNS[scenario]
    columns, rows = pivot(lines, column)
    what = 'best batch' if metric in BEST else 'median' if any(l['reps'] > 1 for l in lines) else ''
    title = f'{scenario}: {metric}, {unit}' + (f' ({what})' if what else '')
    names = list(collections.OrderedDict.fromkeys(k for row in rows for k, _ in row))
    varying = [k for k in names if len({dict(r).get(k) for r in rows}) > 1] or names[:1]
    header = [', '.join(varying)] + [f'{column}={c}' if column != 'subject' else str(c) for c in columns]
    body = [[', '.join(str(dict(r)[k]) for k in varying if k in dict(r))] + [number(cells.get(c)) for c in columns]
            for r, cells in rows.items()]
    print_table(title, header, body)


def print_list(scenario, lines):
    rows = []
    for l in lines:
        params = ', '.join(f'{k} {v}' for k, v in l['params'].items())
        rows.append([params, l['metric'], number(l['min']), number(l['median']), number(l['max']), str(l['reps']),
                     l['unit']])
    print_table(scenario, ['case', 'what', 'min', 'median', 'max', 'reps', 'unit'], rows)


def print_scale(lines):
    """One row a case: what each side did, and how long single operations took."""
    columns = ['readers'] + [f'read latency {p}' for p in POINTS] + ['writers'] + [f'commit latency {p}' for p in POINTS]
    cases, rest = collections.OrderedDict(), []
    for line in lines:
        if line['metric'] in columns:
            cases.setdefault((line['subject'], *line['params'].items()), {})[line['metric']] = line['median']
        else:
            rest.append(line)
    rows = []
    for (subject, *params), cells in cases.items():
        p = dict(params)
        rate = p['commits'] if p['commits'] > 0 else 'unbounded' if p['writers'] else '-'
        rows.append([f"{subject}, {p['kind']}, {p['region']}", str(p['readers']), str(p['writers']), str(rate),
                     'yes' if p.get('crowded') else ''] + [number(cells.get(c)) for c in columns])
    print_table('scale: loads/us of all readers, commits/s of all writers, latencies in ns (medians of windows)',
                ['case', 'readers', 'writers', 'commits/s wanted', 'crowded', 'loads/us', *POINTS, 'commits/s', *POINTS], rows)
    if rest:
        print_list('scale: the rest', rest)


def print_maps(lines):
    """One line a capture would be hundreds: the spread over them, and the ends of it by name."""
    kinds = collections.OrderedDict()
    for line in lines:
        kinds.setdefault((line['params']['op'], line['subject'], line['metric'], line['unit']), []).append(line)
    rows = []
    for (op, subject, metric, unit), some in kinds.items():
        some = sorted(some, key=shown)
        rows.append([f'{op}, {subject}', f'{metric}, {unit}', str(len(some)), number(shown(some[0])),
                     number(shown(some[len(some) // 2])), number(shown(some[-1])), some[-1]['params']['map']])
    print_table('maps: over all captures', ['what', 'unit', 'captures', 'least', 'median', 'most', 'the most is'], rows)


SPECIAL = {'scale': print_scale, 'maps': print_maps}


def print_tables(results):
    print(f'{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}. Ratios count, between figures of one run; '
          'instructions are exact.')
    groups = collections.OrderedDict()
    for line in results:
        groups.setdefault(line['scenario'], []).append(line)
    for scenario, lines in groups.items():
        lines = [line for line in lines if line['metric'] not in SAMPLES]
        if scenario in SPECIAL:
            SPECIAL[scenario](lines)
            continue
        if scenario not in COLUMNS:
            print_list(scenario, lines)
            continue
        kinds = collections.OrderedDict()
        for line in lines:
            kinds.setdefault((line['metric'], line['unit']), []).append(line)
        for (metric, unit), some in kinds.items():
            print_scenario(scenario, metric, unit, some)
