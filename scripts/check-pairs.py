#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Check that every ordered memory access names its pair.

An ordered access is a call of a macro of src/base/atomic.h that orders more
than relaxed.  The comment above its statement has to say

    pair(tag): <side>, with the <side> in <function>().  Without it <outcome>.

P1  no memory order is spelled outside atomic.h
P2  every ordered access has a pair(tag) in the comment above it
P3  the side in the comment is a side of the access; for a full barrier any
    words will do
P4  the comment says what goes wrong without it
P5  a tag has an acquiring and a releasing site; one access may be both, and
    meet itself in another thread
P6  a function that the comment names as the other side has a site of that tag;
    when the other side is not in this tree, pair(tag, external) says so
P7  a pair comment stands at an ordered access and not elsewhere
P8  a relaxed access has a comment that says why relaxed is enough: the word
    relaxed occurs in a comment earlier in its function or macro, or above it

P9  doc/ORDERING.md, if it is there, is what --markdown prints

P10 each order of an access has a twin in tests/ladder/twins.tsv: somebody
    notices when it is taken away
P11 a line there is about an order that exists
P12 a line there names a scenario or a model that exists
P13 each order of an access is argued for by one of its pairs

usage: check-pairs.py [-v | --markdown | --c-table FILE] [--root DIR]
  -v          print the table of pairs
  --markdown  print doc/ORDERING.md
  --c-table FILE  write the table for src/ladder/pairs.c, and FILE.d, which says
              what it depends on
"""
import argparse
import collections
import pathlib
import re
import sys
import textwrap

import csource
import twins

ATOMIC = ('src/base/atomic.h',)
RAW = re.compile(r'__ATOMIC_\w+|\bmemory_order_\w+|\b__sync_\w+|'
                 r'\batomic_thread_fence\b|\b_Atomic\b|\bstdatomic\.h\b')
TAG = re.compile(r'\bpair\((\w+)(,\s*external)?\):\s*'
                 r'(.*?)(?=\bpair\(\w+(?:,\s*external)?\):|$)')
SIDES = {'ACQUIRE': {'acquire'}, 'RELEASE': {'release'},
         'CONSUME': {'acquire'}, 'ACQ_REL': {'acquire', 'release'},
         'SEQ_CST': {'acquire', 'release'}, 'RELAXED': set()}

Site = collections.namedtuple('Site', 'source offset function macro sides text')


def macros(root):
    """name -> sides, of the macros of atomic.h that touch memory."""
    found = {}
    for source in (csource.Source(root / name, root) for name in ATOMIC
                   if (root / name).exists()):
        for m in csource.DEFINE.finditer(source.code):
            start, end = source.directive(m.start())
            # The failure order of a compare-and-exchange is the weaker one.
            orders = re.findall(r'__ATOMIC_(\w+)', source.code[start:end])
            if orders:
                found[m[1]] = set().union(*(SIDES[order] for order in orders))
    return found


def comments_between(source, start, end):
    return [c for c in source.comments if start <= c.start and c.end <= end]


def has_relaxed_reason(source, offset, start):
    """In the comment above, or in an earlier one of the same function; the
    comment above the function says it for all of it."""
    line = source.directive(offset)
    opened = line[0] if line else source.code.rfind('\n{', 0, offset)
    start = min(start, source.statement_start(max(opened, 0)))
    end = source.text.find('\n', offset)
    return any('relaxed' in c.text
               for c in comments_between(source, start, end))


def check_file(source, orders, sites, errors):
    used = set()
    for m in RAW.finditer(source.code):
        errors.append(f'{source.where(m.start())}: P1: {m[0]} outside '
                      f'{ATOMIC[0]}')
    for m in re.finditer(r'\b(\w+)\s*\(', source.code):
        if m[1] not in orders:
            continue
        start = source.statement_start(m.start())
        if not orders[m[1]]:
            if not has_relaxed_reason(source, m.start(), start):
                errors.append(f'{source.where(m.start())}: P8: no comment says '
                              f'why relaxed is enough for {m[1]}()')
            continue
        end = source.text.find('\n', m.start())
        above = comments_between(source, start, end)
        tags = [(c, t) for c in above for t in TAG.finditer(c.text)]
        if not tags:
            errors.append(f'{source.where(m.start())}: P2: '
                          f'{m[1]}() names no pair')
        for comment, tag in tags:
            used.add((comment.start, tag[1]))
            sites[tag[1]].append(Site(source, m.start(),
                                      source.function(m.start()), m[1],
                                      orders[m[1]], (tag[3], bool(tag[2]))))
    for comment in source.comments:
        for tag in TAG.finditer(comment.text):
            if (comment.start, tag[1]) not in used:
                errors.append(f'{source.where(comment.start)}: P7: '
                              f'pair({tag[1]}) stands at no ordered access')


def named_functions(text):
    """The functions named before the first 'without'."""
    return re.findall(r'\b(\w+)\(\)', re.split(r'\bwithout\b', text,
                                               flags=re.I)[0])


def check_site(tag, site, known, errors):
    text, external = site.text
    where = f'{site.source.where(site.offset)}: '
    if not re.search(r'\bwithout\b', text, re.I):
        errors.append(f'{where}P4: pair({tag}) does not say what goes wrong '
                      'without it')
    first = re.split(r'[,.:;]|\bwith\b', text)[0].lower()
    said = {side for side in ('acquire', 'release') if side in first}
    # A full barrier orders whatever the words say that it orders.
    full = 'seq_cst' in site.macro or site.macro.endswith('_mb')
    if not full and (not said or not said <= site.sides):
        errors.append(f'{where}P3: pair({tag}) says "{first.strip()}" at '
                      f'{site.macro}()')
    names = named_functions(text)
    if not external and not any(name in known for name in names):
        errors.append(f'{where}P6: pair({tag}) names no function with another '
                      f'site of it ({", ".join(names) or "none named"})')


def check_tags(sites, errors):
    for tag, found in sorted(sites.items()):
        sides = set().union(*(site.sides for site in found))
        external = any(site.text[1] for site in found)
        known = {site.function for site in found}
        if not external and len(sides) < 2:
            errors.append(f'{found[0].source.where(found[0].offset)}: P5: '
                          f'pair({tag}) has no partner')
        for site in found:
            check_site(tag, site, known, errors)


def print_table(sites):
    for tag, found in sorted(sites.items()):
        print(f'{tag}:')
        for site in found:
            print(f'\t{site.source.where(site.offset)} {site.function}() '
                  f'{site.macro}')


HEAD = '''<!-- SPDX-License-Identifier: MIT -->
<!-- Made by `make ordering`, do not edit. -->
# Memory ordering

Every access in libmmn that orders more than itself, by the pair it belongs to.
The comment at each site says the same; `scripts/check-pairs.py` compares the two
sides and fails the build when one is missing.
'''


def markdown(sites, table):
    lines = [HEAD, twins.markdown(sites, table)]
    for tag, found in sorted(sites.items()):
        lines.append(f'## {tag}\n')
        for site in sorted(found, key=lambda s: (s.source.name, s.offset)):
            text, external = site.text
            outside = ', the other side is outside of this tree' * external
            lines.append(f'* `{site.source.name}`, `{site.function}()`: '
                         f'`{site.macro}`{outside}\n')
            lines.append(textwrap.fill(' '.join(text.split()), 78, initial_indent='  ',
                                       subsequent_indent='  ') + '\n')
    return '\n'.join(lines)


C_HEAD = '''/* Made by check-pairs.py --c-table. */
#include "ladder/pairs.h"

const struct pair pairs[] = {'''


def places(site, read):
    """Where an access is made: that of a macro where the macro is used."""
    if not site.source.directive(site.offset):
        yield site.source, site.offset
        return
    for source in read:
        for m in re.finditer(rf'\b{site.function}\s*\(', source.code):
            if not source.directive(m.start()):
                yield source, m.start()


def write_c_table(path, sites, read):
    lines = [C_HEAD]
    for tag, found in sorted(sites.items()):
        for site, nr, _ in twins.numbers(found):
            for source, offset in places(site, read):
                line = source.text.count('\n', 0, offset) + 1
                lines.append(f'\t{{ "{tag}", "{source.name}", '
                             f'"{site.function}", "{site.macro}", {line}, '
                             f'{nr} }},')
    lines.append('\t{ 0 },\n};\n')
    path.write_text('\n'.join(lines), encoding='utf-8')
    needed = ' '.join(str(source.path) for source in read)
    path.with_name(path.name + '.d').write_text(f'{path}: {needed}\n',
                                                encoding='utf-8')


def check_markdown(root, sites, table, errors):
    path = root / 'doc/ORDERING.md'
    if path.exists() and \
            path.read_text(encoding='utf-8') != markdown(sites, table):
        errors.append('doc/ORDERING.md:1: P9: is out of date, `make ordering` '
                      'writes it anew')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('-v', action='store_true')
    parser.add_argument('--markdown', action='store_true')
    parser.add_argument('--c-table', type=pathlib.Path)
    parser.add_argument('--root', type=pathlib.Path,
                        default=csource.default_root())
    args = parser.parse_args()
    errors, sites = [], collections.defaultdict(list)
    orders = macros(args.root)
    read = list(csource.files(args.root, ['include', 'src'],
                              {'.c', '.h', '.S'}))
    for source in read:
        if source.name not in ATOMIC:
            check_file(source, orders, sites, errors)
    check_tags(sites, errors)
    if args.c_table:
        write_c_table(args.c_table, sites, read)
        sys.exit(0)
    table = twins.read(args.root, errors)
    twins.check(args.root, sites, table, errors)
    if args.markdown and not errors:
        print(markdown(sites, table), end='')
        sys.exit(0)
    check_markdown(args.root, sites, table, errors)
    if args.v:
        print_table(sites)
    count = sum(len(found) for found in sites.values())
    csource.finish(errors, f'{len(sites)} pairs, {count} ordered accesses')


main()
