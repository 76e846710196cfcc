#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Check that four lists of public names are one.

E1  what a library exports is what its map, src/**/NAME.map, names; names
    without a version are the stand-ins that debug builds export, which are marked EXPORT
    in src/base/heap-check.c
E2  what the maps name is what public headers declare with MMN_PUBLIC
E3  the maps name each of them once
E4  every public function is in the SYNOPSIS of a page in man/

usage: check-exports.py [--root DIR] [LIBRARY...]
"""
import argparse
import pathlib
import re
import subprocess

import csource
import mdoc


def map_names(path):
    text = path.read_text(encoding='utf-8')
    names = []
    for block in re.findall(r'global:(.*?)(?:local:|\})', text, re.S):
        names += re.findall(r'(\w+)\s*;', re.sub(r'/\*.*?\*/|#.*', '', block))
    return names


def read_maps(root):
    """library name -> names of its map."""
    return {path.stem: map_names(path)
            for path in sorted((root / 'src').rglob('*.map'))}


def stand_ins(root):
    path = root / 'src/base/heap-check.c'
    if not path.exists():
        return set()
    return set(re.findall(r'^EXPORT .*?(\w+)\(',
                          path.read_text(encoding='utf-8'), re.M))


def exported(lib, unversioned):
    out = subprocess.run(['nm', '-D', '--defined-only', lib], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    symbols = (line.split() for line in out.splitlines())
    # A is the version node itself.
    names = {s[-1] for s in symbols if s[-2] != 'A'}
    return {name.split('@')[0] for name in names - unversioned}


def compare(code, one, of_one, two, of_two, errors):
    for name in sorted(one - two):
        errors.append(f'{code}: {name} is {of_one} but not {of_two}')
    for name in sorted(two - one):
        errors.append(f'{code}: {name} is {of_two} but not {of_one}')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--root', type=pathlib.Path,
                        default=csource.default_root())
    parser.add_argument('libraries', nargs='*', type=pathlib.Path)
    args = parser.parse_args()
    errors = []
    maps = read_maps(args.root)
    names = sum(maps.values(), [])
    declared = csource.public_functions(
        csource.files(args.root, ['include'], {'.h'}))
    pages = mdoc.pages(args.root)
    documented = {f.name for page in pages for f in page.functions()}

    for lib in args.libraries:
        name = lib.name.split('.so')[0]
        compare('E1', exported(lib, stand_ins(args.root)), 'exported',
                set(maps.get(name, [])), f'in {name}.map', errors)
    compare('E2', set(names), 'in a map', set(declared), 'declared', errors)
    errors += [f'E3: {name} is in the maps twice'
               for name in sorted(set(names)) if names.count(name) > 1]
    for name in sorted(set(declared) - documented):
        source, offset = declared[name]
        errors.append(f'{source.where(offset)}: E4: {name} has no man page')
    csource.finish(errors, f'{len(names)} public names agree')


main()
