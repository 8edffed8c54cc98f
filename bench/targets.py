# SPDX-License-Identifier: MIT
"""targets.py - what must be reached, and whether it was.

Each target says which figures it is made of; one whose figures were not measured in this run is skipped. The verdicts:

  reached
  unclear   missed by a ratio of times, but not if the denominator had been measured in its median batch: noise, perhaps
  missed    not reached, which is said and not hidden; up to a ceiling it is no failure, for it has got no worse
  WORSE     beyond the ceiling, or a promise without one is broken: the command fails
"""

from tables import number, print_table

REACHED, UNCLEAR, MISSED, WORSE = 'reached', 'unclear', 'missed', 'WORSE'
ENOUGH = 10     # repetitions below which a median says nothing


def pick(results, scenario, metric, subject='flatview', **params):
    for line in results:
        if (line['scenario'], line['metric'], line['subject']) == (scenario, metric, subject) and \
                all(line['params'].get(k) == v for k, v in params.items()):
            return line
    return None


class Target:
    """value gives (what it came to, the kindest reading of the same figures), or None if they are not there."""
    def __init__(self, text, scenario, limit, value, ceiling=None):
        self.text, self.scenario, self.limit, self.value, self.ceiling = text, scenario, limit, value, ceiling

    def holds(self, value, bound):
        return value <= bound if self.limit[0] == '<=' else value >= bound

    def judge(self, results):
        """(what it came to, as a text; the verdict), or None."""
        found = self.value(results)
        if not found:
            return None
        likely, kindest = found
        if self.holds(likely, self.limit[1]):
            verdict = REACHED
        elif self.holds(kindest, self.limit[1]):
            verdict = UNCLEAR
        else:
            verdict = MISSED if self.ceiling and self.holds(likely, self.ceiling) else WORSE
        return number(likely), verdict


def times_ratio(scenario, over, under, metric='time', under_subject='flatview'):
    """Of best batches; the kindest reading puts the median below the line."""
    def value(results):
        a, b = pick(results, scenario, metric, **over), pick(results, scenario, metric, under_subject, **under)
        return a and b and (a['min'] / b['min'], a['min'] / b['median'])
    return value


def rates_ratio(over, under):
    def value(results):
        a, b = pick(results, 'scale', 'readers', **over), pick(results, 'scale', 'readers', **under)
        if not a or not b:
            return None
        kindest = a['max'] / b['median'] if min(a['reps'], b['reps']) >= ENOUGH else float('inf')
        return a['median'] / b['median'], kindest
    return value


def readers_ratio(kind, region):
    """2 readers to 1. The kindest reading allows for a machine that does not give 2 to loops that share nothing either."""
    def ratio(results, subject, region):
        case = dict(kind=kind, region=region, writers=0)
        a, b = (pick(results, 'scale', 'readers', subject, readers=n, **case) for n in (2, 1))
        return a and b and a['median'] / b['median']

    def value(results):
        ours = ratio(results, 'flatview', region)
        machine = ratio(results, 'nothing', 'same' if region == 'same' else 'random')
        return ours and (ours, 2 * ours / machine if machine else ours)
    return value


def figure(scenario, metric, field='min', subject='flatview', scale=1, **params):
    def value(results):
        line = pick(results, scenario, metric, subject, **params)
        return line and (line[field] * scale, line[field] * scale)
    return value


def populate_seconds(results):
    """By the clock; the kindest reading is the CPU time of the thread."""
    case = dict(n=1048576, transactions='one', order='ascending')
    clock, cpu = pick(results, 'populate', 'time', **case), pick(results, 'populate', 'cpu time', **case)
    return clock and (clock['min'] * case['n'] / 1e9, cpu['min'] * case['n'] / 1e9)


def net(**params):
    """Instructions of an access less those of the loop that makes the addresses."""
    def value(results):
        a = pick(results, 'dispatch', 'instructions', **params)
        b = pick(results, 'dispatch', 'instructions', 'generator', **params)
        return a and b and (a['min'] - b['min'],) * 2
    return value


def find_ratios(results):
    """flatview_find() to the sorted array, cell by cell: hot by best batches, cold by medians less what the clock costs."""
    ratios = []
    for n in (16, 256, 4096):
        for layout in ('dense', 'sparse'):
            for caches, metric, field in (('hot', 'time', 'min'), ('cold', 'cold time', 'median')):
                cell = dict(n=n, layout=layout, caches=caches, addresses='dependent')
                a, b = pick(results, 'find', metric, **cell), pick(results, 'find', metric, 'sorted array', **cell)
                clock = pick(results, 'find', metric, 'clock', **cell)
                if a and b:
                    clock = clock['median'] if clock else 0
                    ratios.append((a[field] - clock) / (b[field] - clock))
    return ratios


def find_worst(results):
    ratios = find_ratios(results)
    return ratios and (max(ratios),) * 2


def find_faster(results):
    ratios = find_ratios(results)
    return ratios and (100 * sum(1 for r in ratios if r < 1) / len(ratios),) * 2


def bounded(scenario, metric, limit_metric):
    """The most that was ever retired, of the limit that was set."""
    def value(results):
        limit = pick(results, scenario, limit_metric)
        peaks = [l['max'] for l in results if l['scenario'] == scenario and l['metric'] == metric]
        return peaks and limit and (max(peaks) / limit['max'],) * 2
    return value


def bounded_by_reader(reader):
    """The most that was seen retired beside such a reader, of the limit, over the limits that were set."""
    def value(results):
        seen = [l['max'] / l['params']['limit'] for l in results
                if l['scenario'] == 'reclaim' and l['metric'] == 'retired, most ever' and l['params']['reader'] == reader]
        return seen and (max(seen),) * 2
    return value


def stood_still(results):
    found = [l for l in results if l['metric'].startswith('windows in which')]
    return found and (sum(l['max'] for l in found),) * 2


def publish_targets():
    same = {'listeners': 0, 'region': 'same'}
    for n in (16, 65536):
        yield Target(f'move one of {n:,} regions, instructions', 'publish', ('<=', 4000),
                     figure('publish', 'instructions', op='move', n=n, **same), ceiling=6000)
    for op in ('move', 'remap'):
        yield Target(f'q35, 1,000 devices, 64 bus masters: {op} of a BAR, instructions', 'machine', ('<=', 10000),
                     figure('machine', 'instructions', map='q35', op=op), ceiling=15000)
    yield Target('populate 1,048,576 regions in one transaction, s', 'populate', ('<=', 2), populate_seconds, ceiling=20)
    yield Target('bytes for each of 1,000,000 ranges', 'memory', ('<=', 400),
                 figure('memory', 'live', what='range', n=1000000))
    for op in ('toggle', 'move'):
        for metric, ceiling in (('time', 10), ('instructions', None)):
            yield Target(f'{op} one of 65,536 regions against one of 64, {metric}', 'publish', ('<=', 4),
                         times_ratio('publish', dict(op=op, n=65536, **same), dict(op=op, n=64, **same), metric),
                         ceiling=ceiling)


def dispatch_targets():
    one = {'op': 'load', 'addresses': 'independent', 'handlers': 1}
    for kind, region, n, bound, ceiling in (('ram', 'same', 256, 45, 90), ('mmio', 'same', 256, 70, 120),
                                            ('ram', 'random', 4096, 120, 300), ('mmio', 'random', 4096, 150, 320)):
        yield Target(f'{kind} load, {region} region{"" if region == "same" else f" of {n:,}"}, instructions', 'dispatch',
                     ('<=', bound), net(kind=kind, region=region, n=n, **one), ceiling=ceiling)
    for region, n, bound in (('same', 256, 3), ('random', 16, 4), ('hot16', 256, 4), ('hot16', 4096, 4), ('hot16', 65536, 4),
                             ('random', 256, 6), ('random', 4096, 10)):
        what = {'same': 'same region', 'hot16': f'16 hot regions of {n:,}', 'random': f'random over {n:,}'}[region]
        case = dict(kind='mmio', region=region, n=n, **one)
        yield Target(f'MMIO load to the bare call, time: {what}', 'dispatch', ('<=', bound),
                     times_ratio('dispatch', case, case, under_subject='bare'), ceiling=3 * bound)
    yield Target('find, dependent: the worst cell to a sorted array', 'find', ('<=', 1.3), find_worst, ceiling=2)
    yield Target('find, dependent: cells faster than a sorted array, per cent', 'find', ('>=', 51), find_faster, ceiling=1)


def scale_targets():
    for region in ('same', 'random'):
        case = dict(kind='mmio', region=region, readers=1)
        yield Target(f'a reader beside 10,000 commits/s to one beside none, {region} region', 'scale', ('>=', 0.9),
                     rates_ratio(dict(commits=10000, writers=1, **case), dict(writers=0, **case)), ceiling=0.5)
    for kind in ('ram', 'mmio'):
        for region in ('same', 'own', 'random'):
            yield Target(f'2 readers to 1, {kind}, {region} region', 'scale', ('>=', 1.9), readers_ratio(kind, region),
                         ceiling=1.2)
    yield Target('windows in which a reader stood still beside an unbounded writer', 'scale', ('<=', 0), stood_still)
    yield Target('most ever retired beside unbounded writers, of the limit', 'scale', ('<=', 1.01),
                 bounded('scale', 'retired_peak', 'reclaim limit'))
    for reader in ('idle', 'busy', 'inside'):
        yield Target(f'most ever retired beside an unbounded writer and a reader that is {reader}, of the limit', 'reclaim',
                     ('<=', 1.01), bounded_by_reader(reader))


def ratio_of(scenario, metric, over, under):
    """Of two cases of a scenario that is no ladder: (subject, params) each."""
    def value(results):
        a, b = (pick(results, scenario, metric, subject, **params) for subject, params in (over, under))
        return a and b and (a['min'] / b['min'], a['min'] / b['median'])
    return value


def planes_targets():
    for how in ('one by one', 'batch of a device', 'one commit'):
        yield Target(f'add an ioeventfd, {how}: 3,200 on 100 devices to 320 on 10, instructions', 'planes', ('<=', 1.3),
                     ratio_of('planes', 'instructions', ('eventfds: add', dict(devices=100, how=how)),
                              ('eventfds: add', dict(devices=10, how=how))), ceiling=1.6)
    for subject, what in (('eventfds: move a device of 32', 'move a device of 32 ioeventfds'),
                          ('eventfds: add and delete one', 'add and delete an ioeventfd')):
        yield Target(f'{what}: among 3,200 to among 320, instructions', 'planes', ('<=', 1.3),
                     ratio_of('planes', 'instructions', (subject, dict(devices=100)), (subject, dict(devices=10))))
    yield Target('toggle logging of one region of 4,096 to one of 16, instructions', 'dirty', ('<=', 1.1),
                 ratio_of('dirty', 'instructions', ('toggle', dict(n=4096)), ('toggle', dict(n=16))))
    for metric in ('instructions', 'time'):
        yield Target(f'collect a clean GiB to reading as many words, {metric}', 'dirty',
                     ('<=', 1.2 if metric == 'time' else 2.2),
                     ratio_of('dirty', metric, ('collect', {}), ('read words', {})), ceiling=3)
        yield Target(f'merge a GiB misaligned to aligned, {metric}', 'dirty', ('<=', 2),
                     ratio_of('dirty', metric, ('merge', dict(bits='misaligned')), ('merge', dict(bits='aligned'))),
                     ceiling=3)
        yield Target(f'load through a cached window to a plain one, {metric}', 'dma', ('<=', 1.2),
                     ratio_of('dma', metric, ('load: cached window', dict(iommu=0)), ('load: plain', dict(iommu=0))))
        yield Target(f'load through a cached window behind an IOMMU to a plain one, {metric}', 'dma', ('<=', 0.5),
                     ratio_of('dma', metric, ('load: cached window', dict(iommu=1)), ('load: plain', dict(iommu=1))))


TARGETS = [*publish_targets(), *dispatch_targets(), *scale_targets(), *planes_targets()]


def unclear_scenarios(results):
    results = list(results)
    found = [t.scenario for t in TARGETS if (t.judge(results) or (0, REACHED))[1] in (UNCLEAR, WORSE)]
    return sorted(set(found))


def judge(results):
    """Rows of what was wanted and found, and the verdicts."""
    results = list(results)
    rows = []
    for target in TARGETS:
        outcome = target.judge(results)
        if outcome:
            rows.append([target.text, f'{target.limit[0]} {number(target.limit[1])}', *outcome])
    return rows


def print_targets(rows):
    if rows:
        print_table('Targets', ['what', 'wanted', 'found', ''], rows)
        counts = {v: sum(1 for r in rows if r[3] == v) for v in (REACHED, UNCLEAR, MISSED, WORSE)}
        print('\n' + ', '.join(f'{n} {verdict}' for verdict, n in counts.items() if n))
