# SPDX-License-Identifier: MIT
"""targets.py - what must be reached, and whether it was.

Each target says which figures it is made of; a target whose figures were not measured in this run is skipped. One that is
not reached makes the command fail, unless it has a ceiling: then it is a goal, what is found up to the ceiling is reached
later, and only what is beyond has got worse. Ceilings of instructions leave room for what differs between runs: how many
blocks the worker has given back when the writer wants one.
"""

from tables import number, print_table

OK, UNCLEAR, MISSED, SHORT = 'ok', 'unclear', 'MISSED', 'not yet'
ENOUGH = 10     # repetitions below which a median says nothing


def pick(results, scenario, metric, subject='flatview', **params):
    for line in results:
        if (line['scenario'], line['metric'], line['subject']) == (scenario, metric, subject) and \
                all(line['params'].get(k) == v for k, v in params.items()):
            return line
    return None


class Target:
    def __init__(self, text, scenario, limit, value, ceiling=None):
        self.text, self.scenario, self.limit, self.value, self.ceiling = text, scenario, limit, value, ceiling

    def judge(self, results):
        """(what it came to, as a text; the verdict), or None."""
        found = self.value(results)
        if not found:
            return None
        likely, kindest = found
        sign, bound = self.limit
        holds = (lambda v: v <= bound) if sign == '<=' else (lambda v: v >= bound)
        if holds(likely):
            verdict = OK
        elif holds(kindest):
            verdict = UNCLEAR
        else:
            verdict = SHORT if self.ceiling and likely <= self.ceiling else MISSED
        return number(likely), verdict


def times_ratio(scenario, over, under, metric='time'):
    """Of best batches; the kindest reading puts the median below the line."""
    def value(results):
        a, b = pick(results, scenario, metric, **over), pick(results, scenario, metric, **under)
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


def figure(scenario, metric, field='min', subject='flatview', scale=1, **params):
    def value(results):
        line = pick(results, scenario, metric, subject, **params)
        return line and (line[field] * scale, line[field] * scale)
    return value


def net(**params):
    """Instructions of an access less those of the loop that makes the addresses."""
    def value(results):
        a = pick(results, 'dispatch', 'instructions', **params)
        b = pick(results, 'dispatch', 'instructions', 'generator', **params)
        return a and b and (a['min'] - b['min'],) * 2
    return value


def bounded(results):
    limit = pick(results, 'scale', 'reclaim limit')
    peaks = [l['max'] for l in results if l['scenario'] == 'scale' and l['metric'] == 'retired_peak']
    return peaks and limit and (max(peaks) / limit['max'],) * 2


def stood_still(results):
    found = [l for l in results if l['metric'].startswith('windows in which')]
    return found and (sum(l['max'] for l in found),) * 2


PUBLISH = {'listeners': 0, 'spaces': 1}
TARGETS = []
for op in ('toggle', 'move'):
    for metric, name in (('time', 'time'), ('instructions', 'instructions')):
        TARGETS.append(Target(
            f'{op} one of 65,536 regions against one of 64, {name}', 'publish', ('<=', 4),
            times_ratio('publish', dict(op=op, n=65536, region='same', **PUBLISH),
                        dict(op=op, n=64, region='same', **PUBLISH), metric)))
TARGETS += [
    Target('populate 1,000,000 regions in one transaction, s', 'publish', ('<=', 2),
           figure('publish', 'time', op='load', n=1000000, scale=1e-3), ceiling=20),
    Target('bytes for each of 1,000,000 ranges', 'publish', ('<=', 400), figure('publish', 'live', op='load', n=1000000)),
]
for n in (16, 65536):
    TARGETS.append(Target(f'move one of {n} regions, instructions', 'publish', ('<=', 4000),
                          figure('publish', 'instructions', op='move', n=n, region='same', **PUBLISH), ceiling=6000))
TARGETS.append(Target('move one of 4,096 regions below 64 bus masters, instructions', 'publish', ('<=', 10000),
                      figure('publish', 'instructions', op='move', n=4096, spaces=65)))
for kind, region, n, bound, ceiling in (('ram', 'same', 256, 45, 90), ('mmio', 'same', 256, 70, 120),
                                        ('ram', 'random', 4096, 120, 300), ('mmio', 'random', 4096, 150, 320)):
    TARGETS.append(Target(
        f'{kind} load, {region} region{"" if region == "same" else f" of {n}"}, instructions', 'dispatch', ('<=', bound),
        net(op='load', kind=kind, region=region, n=n, addresses='independent'), ceiling=ceiling))
for kind in ('ram', 'mmio'):
    for region in ('same', 'own', 'random'):
        TARGETS.append(Target(
            f'2 readers against 1, {kind}, {region} region', 'scale', ('>=', 1.9),
            rates_ratio(dict(kind=kind, region=region, readers=2, commits=0),
                        dict(kind=kind, region=region, readers=1, commits=0))))
for region in ('same', 'random'):
    TARGETS.append(Target(
        f'a reader beside 10,000 commits/s against none, {region} region', 'scale', ('>=', 0.85),
        rates_ratio(dict(kind='mmio', region=region, readers=1, commits=10000),
                    dict(kind='mmio', region=region, readers=1, commits=0))))
TARGETS += [
    Target('windows in which a reader stood still beside an unbounded writer', 'scale', ('<=', 0), stood_still),
    Target('retired memory beside an unbounded writer, of its limit', 'scale', ('<=', 1.01), bounded),
]


def unclear_scenarios(results):
    results = list(results)
    found = [t.scenario for t in TARGETS if (t.judge(results) or (0, OK))[1] in (UNCLEAR, MISSED)]
    return sorted(set(found))


def judge(results, say=False):
    results = list(results)
    rows, verdicts = [], []
    for target in TARGETS:
        outcome = target.judge(results)
        if outcome:
            rows.append([target.text, f'{target.limit[0]} {number(target.limit[1])}', outcome[0], outcome[1]])
            verdicts.append(outcome[1])
    if say and rows:
        print_table('Targets', ['what', 'wanted', 'found', ''], rows)
    return verdicts
