#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Check doc/KERNEL-MAP.md, which has Linux's names and ours.

K1  a name of libmmn in a table is one that a public header has
K2  a public name that sounds like the kernel's is in a table
K3  a row has four cells; for a name that is kept the difference is named and
    why it is safe, or there is none
K4  a name of Linux is explained once in a section

usage: check-kernel-map.py [--root DIR]
"""
import argparse
import pathlib
import re

import csource

MAP = 'doc/KERNEL-MAP.md'
KERNEL = re.compile(r'(__)?(dma_fence_|dma_resv_|to_dma_|ww_|mmu_|mmgrab$|'
                    r'mmdrop$|mm_has_|reservation_ww_|'
                    r'mmn_(sync_file|sw_sync|syncobj|exec|resv)_)\w*$')
IDENTIFIER = re.compile(r'[A-Za-z_]\w*')
INLINE = re.compile(r'^static inline\b[^;{}()]*?\b(\w+)\s*\(', re.M)
MACRO = re.compile(r'^#[ \t]*define[ \t]+(\w+)(?=\(|[ \t]+\S)', re.M)


class Row:
    """One row of a table."""

    def __init__(self, number, section, line):
        self.where = f'{MAP}:{number}'
        self.section = section
        self.cells = [cell.strip() for cell in line.strip().strip('|')
                      .split('|')]

    def names(self, cell):
        """The identifiers in backticks; keywords and braces do not count."""
        for quoted in re.findall(r'`([^`]*)`', self.cells[cell]):
            m = IDENTIFIER.search(re.sub(r'^(struct|enum) ', '', quoted))
            if m:
                yield m[0]

    def is_unexplained(self):
        """Does a name that is kept hide a difference?"""
        _, ours, differs, why = self.cells
        return ours.startswith('the same') and (
            not differs or not why and not differs.startswith('none'))

    def ours(self):
        """What is promised to exist."""
        yield from self.names(1)
        if self.cells[1].startswith('the same'):
            yield from self.names(0)


def read_rows(path):
    section = ''
    lines = path.read_text(encoding='utf-8').splitlines()
    for number, line in enumerate(lines, 1):
        if line.startswith('#'):
            section = line
        if not line.startswith('|') or re.match(r'\|[-| ]+\|$', line) or \
                line.startswith('| Linux |'):
            continue
        yield Row(number, section, line)


def declared(headers):
    """(everything that is named, what can be called) in public headers."""
    named, callable_ = set(), set()
    functions = csource.public_functions(headers)
    callable_ |= set(functions)
    for source in headers:
        named |= set(IDENTIFIER.findall(source.code))
        callable_ |= set(INLINE.findall(source.code))
        callable_ |= set(MACRO.findall(source.code))
    # What ends in an underscore is private.
    return named, {name for name in callable_
                   if KERNEL.match(name) and not name.endswith('_')}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--root', type=pathlib.Path,
                        default=csource.default_root())
    root = parser.parse_args().root
    errors, ours, seen = [], set(), {}
    named, kernel_like = declared(list(csource.files(root, ['include'],
                                                     {'.h'})))
    rows = list(read_rows(root / MAP))
    for row in rows:
        if len(row.cells) != 4:
            errors.append(f'{row.where}: K3: {len(row.cells)} cells')
            continue
        if row.is_unexplained():
            errors.append(f'{row.where}: K3: what differs, or why that is '
                          'safe, is not said')
        for name in row.ours():
            ours.add(name)
            if name not in named:
                errors.append(f'{row.where}: K1: there is no {name}')
        for name in row.names(0):
            if seen.setdefault((row.section, name), row) is not row:
                errors.append(f'{row.where}: K4: {name} is explained in '
                              f'{seen[row.section, name].where} too')
    errors += [f'{MAP}: K2: {name} is missing'
               for name in sorted(kernel_like - ours)]
    if not rows:
        errors.append(f'{MAP}: K3: no rows')
    csource.finish(errors, f'{len(rows)} rows, {len(ours)} names')


main()
