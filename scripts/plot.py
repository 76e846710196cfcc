#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draw what scale-bench and cache-bench measured, as SVG.

The table has one line for each point: figure, series, x, ns, min, max.  One
file is written for each group of panels below; both axes are logarithmic.  A
point is the fastest repetition, because other work on the machine makes things
slower and never faster; the whisker goes up to the median.

usage: plot.py TABLE FOLDER
"""
import argparse
import collections
import csv
import math
import pathlib
from xml.sax.saxutils import escape

# File, title, axis, and the panels: figure and what stands above it.
GROUPS = (
    ('subscriptions', 'Cost against the number of subscriptions',
     'subscriptions', (
         ('outside', 'change outside of all ranges'),
         ('insert', 'insert + remove'),
         ('miss', 'change between two ranges, the same again'),
         ('miss-scattered', 'change between two ranges, anywhere'),
         ('hit', 'change that hits one range, the same again'),
         ('hit-scattered', 'change that hits one range, anywhere'))),
    ('threads', 'Cost of one operation in a thread, against the threads '
     'at work', 'threads', (
         ('begin-threads', 'read_begin + read_retry'),
         ('miss-threads', 'change between two ranges'),
         ('hit-threads', 'change that hits one range'))),
    ('wait', 'A reader of an idle range is held up', 'an unrelated change '
     'stays open, ms', (
         ('wait', 'read_begin + read_retry'),)),
    ('cache', 'The registration cache and others', 'regions', (
        ('cache-hit', 'get + put, one thread'),
        ('cache-hit-each', 'get + put, two threads, a cache each'),
        ('cache-hit-shared', 'get + put, two threads, one cache'),
        ('cache-change', 'change over one region'))),
)
# Series: class, marker.  Colours that are told apart on both backgrounds, and
# markers for who does not see colours.
LOOK = {'libmmn': ('a', 'circle'), 'kernel-style': ('b', 'square'),
        'UCX': ('b', 'square'), 'nothing': ('d', 'none')}
OTHER = ('c', 'diamond')

STYLE = '''
text { font: 12px sans-serif; fill: #222 }
.title { font-size: 15px; font-weight: bold }
.panel { font-weight: bold }
.small { font-size: 11px }
.paper { fill: #fff }
.grid { stroke: #ddd }
.frame { stroke: #888; fill: none }
.a { stroke: #0a6ed1; color: #0a6ed1 }
.b { stroke: #c0392b; color: #c0392b }
.c { stroke: #6b7280; color: #6b7280 }
.d { stroke: #bbb; color: #bbb; stroke-dasharray: 4 3 }
.line { fill: none; stroke-width: 2 }
.mark { fill: currentColor; stroke: none }
@media (prefers-color-scheme: dark) {
text { fill: #ddd }
.paper { fill: #16181c }
.grid { stroke: #333 }
.a { stroke: #58a6ff; color: #58a6ff }
.b { stroke: #ff7b72; color: #ff7b72 }
.c { stroke: #9aa4b2; color: #9aa4b2 }
}
'''

WIDTH, HEIGHT = 300, 230        # of the plot of a panel
LEFT, TOP, RIGHT, BOTTOM = 66, 30, 16, 46
HEAD = 62


def read_table(path):
    """figure -> series -> [(x, fastest, median)]"""
    table = collections.defaultdict(lambda: collections.defaultdict(list))
    with path.open(encoding='utf-8') as lines:
        for row in csv.DictReader(lines, delimiter='\t'):
            table[row['figure']][row['series']].append(
                tuple(float(row[key]) for key in ('x', 'min', 'ns')))
    return table


def duration(ns):
    for unit, size in (('s', 1e9), ('ms', 1e6), ('us', 1e3)):
        if ns >= size:
            return f'{ns / size:g} {unit}'
    return f'{ns:g} ns'


def count(x):
    for unit, size in (('M', 1e6), ('k', 1e3)):
        if x >= size:
            return f'{x / size:g}{unit}'
    return f'{x:g}'


def mark(kind, x, y):
    if kind == 'none':
        return ''
    if kind == 'circle':
        return f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    if kind == 'square':
        return (f'<rect class="mark" x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" '
                'width="7" height="7"/>')
    return (f'<path class="mark" d="M{x:.1f} {y - 5:.1f} l5 5 l-5 5 l-5 -5 '
            'z"/>')


def text(x, y, words, kind='small', anchor='start', more=''):
    return (f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" '
            f'text-anchor="{anchor}"{more}>{escape(words)}</text>')


class Panel:
    """One plot with its axes."""

    def __init__(self, left, top, series, x_name, y_range):
        self.left, self.top, self.series = left, top, series
        self.x_name = x_name
        self.xs = sorted({p[0] for points in series.values() for p in points})
        self.y_range = y_range

    def x(self, value):
        low, high = math.log(self.xs[0]), math.log(self.xs[-1])
        # Points do not stand on the frame.
        part = (math.log(value) - low) / (high - low) if high > low else 0.5
        return self.left + (0.05 + 0.9 * part) * WIDTH

    def y(self, value):
        low, high = self.y_range
        part = (math.log10(value) - low) / (high - low)
        return self.top + HEIGHT - part * HEIGHT

    def axes(self):
        bottom = self.top + HEIGHT
        for power in range(self.y_range[0], self.y_range[1] + 1):
            y = self.y(10 ** power)
            yield (f'<path class="grid" d="M{self.left} {y:.1f} h{WIDTH}"/>')
            yield text(self.left - 6, y + 4, duration(10 ** power),
                       anchor='end')
        for x in self.xs:
            yield (f'<path class="grid" d="M{self.x(x):.1f} {self.top} '
                   f'v{HEIGHT}"/>')
            yield text(self.x(x), bottom + 16, count(x), anchor='middle')
        yield (f'<rect class="frame" x="{self.left}" y="{self.top}" '
               f'width="{WIDTH}" height="{HEIGHT}"/>')
        yield text(self.left + WIDTH / 2, bottom + 34, self.x_name,
                   anchor='middle')

    def curves(self):
        for name, points in self.series.items():
            kind, marker = LOOK.get(name, OTHER)
            places = [(self.x(x), self.y(ns)) for x, ns, _ in points]
            yield f'<g class="{kind}">'
            yield ('<polyline class="line" points="' +
                   ' '.join(f'{x:.1f},{y:.1f}' for x, y in places) + '"/>')
            for (x, y), (_, _, median) in zip(places, points):
                yield f'<path d="M{x:.1f} {y:.1f} V{self.y(median):.1f}"/>'
                yield mark(marker, x, y)
            yield '</g>'


def legend(names, left, top):
    for name in names:
        kind, marker = LOOK.get(name, OTHER)
        yield (f'<g class="{kind}"><path class="line" d="M{left} {top} h28"/>'
               f'{mark(marker, left + 14, top)}</g>')
        yield text(left + 34, top + 4, name)
        left += 60 + 7 * len(name)


def powers(values):
    """The powers of ten around all of them."""
    return (math.floor(math.log10(min(values))),
            math.ceil(math.log10(max(values))))


def draw(table, title, x_name, panels):
    across = min(len(panels), 2)
    down = -(-len(panels) // across)
    cell = (LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM)
    size = (max(across * cell[0], 10 * len(title)), HEAD + down * cell[1])
    names = list(dict.fromkeys(name for figure, _ in panels
                               for name in table[figure]))
    # One scale for all: panels can be compared.
    y_range = powers([value for figure, _ in panels
                      for points in table[figure].values()
                      for point in points for value in point[1:]])
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" '
           f'height="{size[1]}" viewBox="0 0 {size[0]} {size[1]}" role="img">',
           f'<title>{escape(title)}</title>', f'<style>{STYLE}</style>',
           '<rect class="paper" width="100%" height="100%"/>',
           text(14, 24, title, 'title'), *legend(names, 14, 46)]
    for number, (figure, caption) in enumerate(panels):
        panel = Panel(number % across * cell[0] + LEFT,
                      HEAD + number // across * cell[1] + TOP,
                      table[figure], x_name, y_range)
        out.append(text(panel.left, panel.top - 8, caption, 'panel'))
        out += [*panel.axes(), *panel.curves()]
    return '\n'.join([*out, '</svg>']) + '\n'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('table', type=pathlib.Path)
    parser.add_argument('folder', type=pathlib.Path)
    args = parser.parse_args()
    table = read_table(args.table)
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, title, x_name, panels in GROUPS:
        missing = [figure for figure, _ in panels if figure not in table]
        if len(missing) == len(panels):
            continue        # of another benchmark
        if missing:
            raise SystemExit(f'{args.table}: no points of {missing[0]}')
        path = args.folder / f'{name}.svg'
        path.write_text(draw(table, title, x_name, panels), encoding='utf-8')
        print(f'drawn: {path}')


main()
