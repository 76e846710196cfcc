#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Check that includes point down.

L1  a file in src/ includes its own folder and folders of lower rank; folders
    of equal rank do not see each other
L2  src/cmd/ is a user: of the project it includes installed headers only, its
    own, and "base/atomic.h", the one place where memory orders are spelled:
    macros, with nothing behind them to link to; and "ladder/ladder.h", the
    explorer, which is a part of the command
L3  a public header includes public headers and the C library, nothing else
L4  an include in quotes names its folder: "base/lock.h"; config.h has none.
    src/cmd/ does not see the others and names its own as seen from the file
L5  liburcu is known to src/base/rcu.[ch] only
L6  a header that is included exists
L7  mmn/mmn.h includes every public header but those of adapters, which belong
    to libraries of their own, and those that give things other names

usage: check-layers.py [--root DIR]
"""
import argparse
import pathlib

import csource

RANK = {'base': 0, 'tree': 1, 'notifier': 2, 'fence': 2, 'resv': 3, 'compat': 3,
        'source': 3, 'mirror': 4, 'cache': 4, 'sync': 4, 'adapt': 5,
        'cmd': 6, 'ladder': 7}
ORDERS = 'base/atomic.h'
# The explorer is no part of the library: it is linked into the command.
EXPLORER = 'ladder/ladder.h'
# What a program in C or C++ finds on any system without further packages.
PUBLIC_SYSTEM = {'errno.h', 'limits.h', 'stdbool.h', 'stddef.h', 'stdint.h',
                 'time.h', 'sys/types.h'}


def check_source(root, source, errors):
    here = source.name.split('/')[1]
    if here not in RANK:
        errors.append(f'{source.name}:1: L1: {here}/ has no rank')
        return
    for offset, quote, name in source.includes():
        where = source.where(offset)
        folder = name.split('/')[0]
        if quote == '<':
            if folder == 'urcu' or name == 'urcu.h':
                if not source.name.startswith('src/base/rcu.'):
                    errors.append(f'{where}: L5: <{name}> outside base/rcu.[ch]')
            if folder == 'mmn' and not (root / 'include' / name).exists():
                errors.append(f'{where}: L6: there is no <{name}>')
            continue
        if name == 'config.h' or (here == 'cmd' and name == EXPLORER):
            continue
        if here == 'cmd' and name != ORDERS:
            target = (source.path.parent / name).resolve()
            own = (root / 'src/cmd').resolve()
            if folder in RANK or not target.is_relative_to(own):
                errors.append(f'{where}: L2: cmd/ must not include "{name}"')
            elif not target.exists():
                errors.append(f'{where}: L6: there is no "{name}"')
        elif folder not in RANK:
            errors.append(f'{where}: L4: "{name}" names no folder of src/')
        elif folder != here and RANK[folder] >= RANK[here]:
            errors.append(f'{where}: L1: {here}/ must not include "{name}"')
        elif not (root / 'src' / name).exists():
            errors.append(f'{where}: L6: there is no "{name}"')


def check_header(root, source, errors):
    for offset, quote, name in source.includes():
        where = source.where(offset)
        if quote == '"':
            errors.append(f'{where}: L3: "{name}" in a public header')
        elif name.startswith('mmn/'):
            if not (root / 'include' / name).exists():
                errors.append(f'{where}: L6: there is no <{name}>')
        elif name not in PUBLIC_SYSTEM:
            errors.append(f'{where}: L3: <{name}> in a public header')


def check_umbrella(root, errors):
    path = root / 'include/mmn/mmn.h'
    if not path.exists():
        return
    source = csource.Source(path, root)
    included = {name for _, _, name in source.includes()}
    for header in sorted((root / 'include/mmn').glob('*.h')):
        apart = any((root / folder / f'{header.stem}.c').exists()
                    for folder in ('src/adapt', 'src/compat'))
        if header != path and not apart and \
                f'mmn/{header.name}' not in included:
            errors.append(f'{source.name}:1: L7: does not include '
                          f'<mmn/{header.name}>')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--root', type=pathlib.Path,
                        default=csource.default_root())
    root = parser.parse_args().root
    errors, count = [], 0
    for source in csource.files(root, ['src'], {'.c', '.h', '.S'}):
        check_source(root, source, errors)
        count += 1
    for source in csource.files(root, ['include'], {'.h'}):
        check_header(root, source, errors)
        count += 1
    check_umbrella(root, errors)
    csource.finish(errors, f'{count} files include downwards')


main()
