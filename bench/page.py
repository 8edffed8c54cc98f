# SPDX-License-Identifier: MIT
"""page.py - one HTML page of a run: targets, pictures with a sentence each, all tables."""

import html
import os
import platform
import time

STYLE = '''
body { font: 16px/1.5 sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em; color: #222; }
figure { margin: 2.5em 0; } figure img { width: 100%; max-width: 60em; border: 1px solid #ddd; }
figcaption { max-width: 50em; } h2 { margin-top: 2.5em; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; font-size: 13px; margin: 1em 0 2em; } th, td { padding: 2px 10px; text-align: right; }
th { border-bottom: 1px solid #888; } th:first-child, td:first-child { text-align: left; } tr:nth-child(even) td { background: #f6f6f6; }
.reached { color: #00694a; } .missed, .unclear { color: #a04000; } .WORSE { color: #b00000; font-weight: bold; }
'''


def table(title, header, rows):
    def row(cells, tag):
        return '<tr>' + ''.join(f'<{tag}' + (f' class="{html.escape(c)}"' if c in ('reached', 'missed', 'unclear', 'WORSE') else '') +
                                f'>{html.escape(c)}</{tag}>' for c in cells) + '</tr>'
    return (f'<h3>{html.escape(title)}</h3>\n<table>\n' + row(header, 'th') + '\n' + '\n'.join(row(r, 'td') for r in rows) +
            '\n</table>\n')


def write(path, pictures, tables):
    """pictures: [(name, sentence)] in plots/ beside the page. tables: [(title, header, rows)], the targets last."""
    targets = [t for t in tables if t[0] == 'Targets']
    with open(path, 'w', encoding='utf-8') as out:
        out.write('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>flatview: measurements</title>'
                  f'<style>{STYLE}</style></head>\n<body>\n<h1>flatview: measurements</h1>\n')
        out.write(f'<p>{time.strftime("%Y-%m-%d %H:%M")}, {os.cpu_count()} CPUs, {html.escape(platform.platform())}, load '
                  f'{os.getloadavg()[0]:.1f} at the end. Times are compared only within this run; instructions between any two '
                  'of one compiler.</p>\n')
        for t in targets:
            out.write(table(*t))
        out.write('<h2>Pictures</h2>\n')
        if pictures is None:
            out.write('<p>Not drawn: gnuplot is not installed.</p>\n')
        for name, sentence in pictures or []:
            out.write(f'<figure><img src="plots/{name}.svg" alt="{name}"><figcaption>{html.escape(sentence)} '
                      f'(<a href="plots/{name}.png">PNG</a>)</figcaption></figure>\n')
        out.write('<h2>Tables</h2>\n')
        for t in tables:
            if t not in targets:
                out.write(table(*t))
        out.write('</body></html>\n')
