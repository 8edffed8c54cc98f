# SPDX-License-Identifier: MIT
"""plots.py - the figures of a run as pictures, by gnuplot, in SVG and PNG; each with a sentence on how to read it.

One subject has one colour in all pictures. A picture whose figures were not measured in this run is left out. What is quoted
from measurements of other systems (peers.py) is drawn as points and says so.
"""

import os
import shutil
import subprocess

from peers import QEMU_MOVE
from tables import POINTS, shown

COLOURS = {'flatview': '#0072b2', 'rcu-rebuild': '#d55e00', 'mutex': '#7f7f7f', 'rwlock': '#cc79a7', 'unicorn': '#009e73',
           'uc_mem': '#56b4e9', 'bare': '#e69f00', 'nothing': '#8c6d31', 'generator': '#000000', 'sorted array': '#d55e00',
           'memcpy': '#e69f00', 'QEMU 7.2, quoted': '#000000'}
OTHERS = ('#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#8c6d31', '#7f7f7f')     # for what is no subject
ORDER = list(COLOURS)

COMMON = '''
set border 3 lw 1 lc rgb "#444444"
set tics nomirror tc rgb "#222222"
set grid ytics lt 1 lc rgb "#d0d0d0" lw 1
set key outside right top vertical Left reverse samplen 2 spacing 1.25
set style fill solid 0.9 border -1
set bmargin 4.5
'''


class Curve:
    """Points of one subject; dash and point type tell curves of one subject apart."""
    def __init__(self, label, colour, points, dash=1, points_only=False, lines_only=False):
        self.label, self.points, self.dash = label, sorted(points), dash    # no label: none in the key
        self.colour, self.points_only, self.lines_only = colour, points_only, lines_only


def quote(text):
    return '"' + text.replace('"', "'").replace('_', r'\\_') + '"'


def curves_script(title, xlabel, ylabel, curves, log, extra=''):
    blocks, plots = [], []
    for k, c in enumerate(curves):
        blocks.append(f'$d{k} << EOD\n' + '\n'.join(f'{x:g} {y:g}' for x, y in c.points) + '\nEOD')
        width = 3 if c.colour == COLOURS['flatview'] else 2
        style = 'with points pt 7 ps 1.2' if c.points_only else \
            f'with lines lw {width} dt {c.dash}' if c.lines_only else \
            f'with linespoints lw {width} dt {c.dash} pt {6 + c.dash} ps 0.8'
        plots.append(f'$d{k} using 1:2 {style} lc rgb "{c.colour}" ' + (f'title {quote(c.label)}' if c.label else 'notitle'))
    scale = f'set logscale {log}\n' if log else ''
    return (COMMON + f'set title {quote(title)}\nset xlabel {quote(xlabel)}\nset ylabel {quote(ylabel)}\n' + scale +
            ('set format x "%.0s%c"\n' if 'x' in log else '') + ('set format y "%.0s%c"\n' if 'y' in log else '') +
            extra + '\n' + '\n'.join(blocks) + '\nplot ' + ', \\\n     '.join(plots) + '\n')


def bars_script(title, ylabel, groups, columns, cell, colour, log):
    """A cluster for each group, a bar for each column."""
    rows = [f'{quote(g)} ' + ' '.join('?' if cell(g, c) is None else f'{cell(g, c):g}' for c in columns) for g in groups]
    plots = [f'$d using {k + 2}{":xtic(1)" if k == 0 else ""} lc rgb "{colour(c)}" title {quote(c)}'
             for k, c in enumerate(columns)]
    return (COMMON + f'set title {quote(title)}\nset ylabel {quote(ylabel)}\n' +
            ('set logscale y\nset format y "%.0s%c"\n' if log else 'set yrange [0:*]\n') +
            'set datafile missing "?"\nset style data histograms\nset style histogram clustered gap 1.5\n'
            'set xtics scale 0\n' + '$d << EOD\n' + '\n'.join(rows) + '\nEOD\nplot ' + ', \\\n     '.join(plots) + '\n')


class Figures:
    def __init__(self, results):
        self.results = list(results)

    def lines(self, scenario, metric, subject=None, **params):
        return [l for l in self.results if l['scenario'] == scenario and l['metric'] == metric and
                (subject is None or l['subject'] == subject) and all(l['params'].get(k) == v for k, v in params.items())]

    def curve(self, x, *args, **kwargs):
        return [(l['params'][x], shown(l)) for l in self.lines(*args, **kwargs)]

    def subjects(self, lines):
        found = {l['subject'] for l in lines}
        return [s for s in ORDER if s in found]


def counted(n, what):
    return f'{n} {what}' + ('' if n == 1 else 's')


def plot_publish_rungs(f, metric, unit):
    same = dict(op='move', region='same', listeners=0)
    curves = [Curve(s, COLOURS[s], f.curve('n', 'publish', metric, s, **same), 2 if s == 'rwlock' else 1)
              for s in f.subjects(f.lines('publish', metric, **same))]
    if metric == 'instructions':
        curves.append(Curve('QEMU 7.2, quoted', COLOURS['QEMU 7.2, quoted'], QEMU_MOVE, points_only=True))
    return len(curves) > 1 and curves_script('Moving one of n regions', 'regions in the map', unit, curves, 'xy')


def plot_publish_ours(f, metric, unit):
    curves, k = [], 0
    for region, listeners, dash in (('same', 0, 1), ('random', 0, 2), ('same', 1, 3)):
        for op, colour in (('toggle', '#56b4e9'), ('move', '#0072b2'), ('resize', '#009e73')):
            points = f.curve('n', 'publish', metric, 'flatview', op=op, region=region, listeners=listeners)
            if points:
                what = {('same', 0): 'one region', ('random', 0): 'random regions', ('same', 1): 'one, a listener'}
                curves.append(Curve(f'{op}, {what[region, listeners]}', colour, points, dash))
                k += 1
    return k and curves_script('flatview: one commit', 'regions in the map', unit, curves, 'x', 'set yrange [0:*]')


def plot_dispatch(f, kind, metric, unit):
    cases = [('one region\\n', 'same', 256), ('16\\n', 'random', 16), ('16 hot of\\n4,096', 'hot16', 4096),
             ('random\\n256', 'random', 256), ('random\\n4,096', 'random', 4096)]
    base = dict(op='load', kind=kind, addresses='independent', handlers=1)
    lines = f.lines('dispatch', metric, **base)
    subjects = [s for s in f.subjects(lines)]

    def cell(group, subject):
        region, n = next((r, n) for g, r, n in cases if g == group)
        found = f.lines('dispatch', metric, subject, region=region, n=n, **base)
        return shown(found[0]) if found else None
    groups = [g for g, r, n in cases if f.lines('dispatch', metric, 'flatview', region=r, n=n, **base)]
    return groups and bars_script(f'A 4-byte load, {kind.upper()}, hot caches', unit, groups, subjects, cell, COLOURS.get, True)


def plot_find(f):
    curves = []
    for subject in ('flatview', 'sorted array'):
        for layout, dash in (('dense', 1), ('sparse', 2)):
            for caches, metric in (('hot', 'time'), ('cold', 'cold time')):
                points = f.curve('n', 'find', metric, subject, layout=layout, caches=caches, addresses='dependent')
                if points:
                    curves.append(Curve(f'{subject}, {layout}' if caches == 'hot' else None, COLOURS[subject], points, dash))
    return curves and curves_script('flatview_find(), each look-up waiting for the last', 'ranges in the view',
                                    'ns (cold: two readings of the clock included)', curves, 'xy',
                                    'set label "cold caches" at graph 0.62, 0.82 right\nset label "hot caches" at graph 0.6, 0.28 left')


def plot_readers(f):
    """Rates of readers by what a writer does, rung by rung."""
    groups = [('no writer', dict(writers=0)), ('1,000/s', dict(writers=1, commits=1000)), ('10,000/s', dict(writers=1, commits=10000)),
              ('100,000/s', dict(writers=1, commits=100000)), ('without pause', dict(writers=1, commits=-1))]
    base = dict(kind='mmio', region='random', readers=1)
    subjects = f.subjects(f.lines('scale', 'readers', **base))

    def cell(group, subject):
        found = f.lines('scale', 'readers', subject, **base, **dict(groups)[group])
        return found[0]['median'] if found else None
    return subjects and bars_script('One reader, MMIO at random among 256, beside a writer', 'million loads a second',
                                    [g for g, _ in groups], subjects, cell, COLOURS.get, False)


def plot_threads(f):
    curves = []
    for (label, params), colour in zip((('no writer', dict(writers=0)), ('1 writer, 10,000/s', dict(writers=1, commits=10000)),
                                        ('2 writers, 10,000/s each', dict(writers=2, commits=10000)),
                                        ('1 writer without pause', dict(writers=1, commits=-1)),
                                        ('2 writers without pause', dict(writers=2, commits=-1))), ('#0072b2', *OTHERS)):
        points = f.curve('readers', 'scale', 'readers', 'flatview', kind='mmio', region='random', **params)
        if points:
            curves.append(Curve(label, colour, points))
    return curves and curves_script(f'flatview: all readers together ({os.cpu_count()} CPUs)', 'reader threads', 'million loads a second', curves, 'x',
                                    'set xtics (1, 2, 4, 8)\nset xrange [0.9:9]\nset yrange [0:*]\nset format x "%g"')


def plot_latency(f, side, title):
    cases = [(1, 1, 1000), (1, 1, 10000), (1, 1, 100000), (1, 1, -1), (4, 1, 10000), (8, 2, -1)]
    curves = []
    for (readers, writers, commits), colour in zip(cases, ('#0072b2', *OTHERS)):
        params = dict(kind='mmio', region='random', readers=readers, writers=writers, commits=commits)
        points = [(k, l['median']) for k, p in enumerate(POINTS)
                  for l in f.lines('scale', f'{side} latency {p}', 'flatview', **params)]
        if points:
            rate = f'{commits:,}/s' if commits > 0 else 'without pause'
            curves.append(Curve(f'{counted(readers, "reader")}, {counted(writers, "writer")}, {rate}', colour, points))
    return curves and curves_script(title, 'percentile', 'ns', curves, 'y',
                                    'set xtics (' + ', '.join(f'"{p}" {k}' for k, p in enumerate(POINTS)) +
                                    ')\nset xrange [-0.2:3.2]')


def plot_reclaim(f):
    limit, curves = 8 << 20, []
    for (reader, label), colour in zip((('inside', 'reader inside, then gone'), ('busy', 'reader busy'), ('idle', 'reader idle')),
                                       ('#d55e00', '#e69f00', '#0072b2')):
        points = [(l['params']['ms'], l['median'] / (1 << 20))
                  for l in f.lines('reclaim', 'retired at', reader=reader, limit=limit)]
        if points:
            curves.append(Curve(label, colour, points, lines_only=True))
    if not curves:
        return None
    last = max(x for c in curves for x, _ in c.points)
    curves.append(Curve('limit', '#000000', [(0, limit >> 20), (last, limit >> 20)], 2, lines_only=True))
    return curves_script('Retired and not yet freed, beside a writer without pause', 'ms', 'MiB', curves, '', 'set yrange [0:10]')


def plot_copy(f):
    curves = []
    for subject in ('flatview', 'memcpy'):
        for op, dash in (('read', 1), ('write', 2)):
            points = [(l['params']['len'], l['params']['len'] / shown(l))
                      for l in f.lines('access', 'time', subject, op=op) if 'len' in l['params']]
            if points:
                curves.append(Curve(f'{subject}, {op}', COLOURS[subject], points, dash))
    return curves and curves_script('Bulk copies from and to guest RAM', 'bytes a copy', 'GB/s', curves, 'x', 'set yrange [0:*]')


def plot_memory(f):
    curves = [Curve(s, COLOURS[s], f.curve('n', 'memory', 'live', s, what='range')) for s in ('flatview', 'sorted array')
              if f.lines('memory', 'live', s, what='range')]
    return curves and curves_script('What a range weighs', 'ranges in the view', 'bytes a range', curves, 'x', 'set yrange [0:*]')


def plot_maps(f):
    curves = [Curve(f'look-up, {s}', COLOURS[s], f.curve('n', 'maps', 'time', s, op='look-up'), points_only=True)
              for s in ('flatview', 'sorted array') if f.lines('maps', 'time', s, op='look-up')]
    return curves and curves_script("QEMU's machines: a look-up in the busiest view of each", 'ranges in the view', 'ns', curves, 'x', 'set yrange [0:*]')


TIME, COUNT = ('time', 'ns'), ('instructions', 'instructions')
PLOTS = [
    ('publish-time', lambda f: plot_publish_rungs(f, *TIME),
     'A design that renders everything again, or moves what stands behind, rises with n; one whose cost is that of the change stays '
     'level. Tables under a lock are cheap to change while they are small: their readers pay (see the readers below).'),
    ('publish-instructions', lambda f: plot_publish_rungs(f, *COUNT),
     "The same in instructions. The black points are QEMU's own figures, quoted from a measurement of 7.2; it ends at about 4,100 "
     'sections.'),
    ('commit-time', lambda f: plot_publish_ours(f, *TIME),
     "flatview alone, linear: what a commit costs by kind of change; dashes are random regions (the machine's caches pay) and "
     'a listener that hears of each change.'),
    ('commit-instructions', lambda f: plot_publish_ours(f, *COUNT), 'The same in instructions: the slope is the height of the tree.'),
    ('dispatch-mmio-time', lambda f: plot_dispatch(f, 'mmio', *TIME),
     'Lower is better; generator is the loop itself and is in every bar. Each step of the ladder is what a promise costs.'),
    ('dispatch-ram-time', lambda f: plot_dispatch(f, 'ram', *TIME),
     "The same for RAM. Unicorn's guest loads run as translated code through its software TLB, which is why its first bars are low."),
    ('dispatch-mmio-instructions', lambda f: plot_dispatch(f, 'mmio', *COUNT), 'In instructions, MMIO.'),
    ('dispatch-ram-instructions', lambda f: plot_dispatch(f, 'ram', *COUNT), 'In instructions, RAM.'),
    ('find', plot_find, 'Two families of lines: hot below, cold above. Where blue lies below orange the tree is faster than the array.'),
    ('readers', plot_readers,
     'How much of its speed a reader keeps when the map changes beside it. A lock that the writer holds, or starves on, shows as a '
     'missing or a small bar.'),
    ('threads', plot_threads, 'Beyond the number of CPUs threads take turns: the lines show sharing, not contention.'),
    ('read-latency', lambda f: plot_latency(f, 'read', 'flatview: latency of single loads'),
     'The maximum is the time that the machine had the thread off its CPU; what the library adds is to the left of it.'),
    ('commit-latency', lambda f: plot_latency(f, 'commit', 'flatview: latency of commits'),
     'Waiting for the other writer and, without pause, for the reclaim limit is in it.'),
    ('reclaim', plot_reclaim, 'A saw that never passes its limit, whatever the reader does; with a reader inside, the writer waits at the limit.'),
    ('copy', plot_copy, 'The distance between blue and orange is what looking up and checking costs; it vanishes as copies grow.'),
    ('memory', plot_memory, 'All that the library has allocated, by range. The array has no tree, no sharing and one version.'),
    ('maps', plot_maps, 'One point a captured machine: real views are small, and their look-ups hot.'),
]


def draw(results, folder):
    """Pictures in folder; returns [(name, sentence)] of those drawn, or None without gnuplot."""
    if not shutil.which('gnuplot'):
        return None
    os.makedirs(folder, exist_ok=True)
    drawn, figures = [], Figures(results)
    for name, make, sentence in PLOTS:
        for ending in ('svg', 'png'):
            if os.path.exists(os.path.join(folder, f'{name}.{ending}')):
                os.remove(os.path.join(folder, f'{name}.{ending}'))
        script = make(figures)
        if not script:
            continue
        for terminal, ending in (('svg size 960,540 dynamic font "sans,14" background "#ffffff"', 'svg'),
                                 ('pngcairo size 1280,720 font "sans,14"', 'png')):
            text = f'set terminal {terminal}\nset output {quote(os.path.join(folder, name + "." + ending))}\n{script}'
            done = subprocess.run(['gnuplot'], input=text, text=True, capture_output=True, check=False)
            if done.returncode:
                raise RuntimeError(f'gnuplot: {name}: {done.stderr}')
        drawn.append((name, sentence))
    return drawn
