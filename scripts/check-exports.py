#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Check that four lists of public names are one.

E1  what the library exports is what src/libmmn.map names; names without a
    version are the stand-ins that debug builds export, which are marked EXPORT
    in src/base/heap-check.c
E2  what the map names is what public headers declare with MMN_PUBLIC
E3  the map names each of them once
E4  every public function is in the SYNOPSIS of a page in man/

usage: check-exports.py [--root DIR] [--lib LIBRARY]
"""
import argparse
import pathlib
import re
import subprocess

import csource
import mdoc


def map_names(root):
    text = (root / 'src/libmmn.map').read_text(encoding='utf-8')
    names = []
    for block in re.findall(r'global:(.*?)(?:local:|\})', text, re.S):
        names += re.findall(r'(\w+)\s*;', re.sub(r'/\*.*?\*/|#.*', '', block))
    return names


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
    parser.add_argument('--lib')
    args = parser.parse_args()
    errors = []
    names = map_names(args.root)
    declared = csource.public_functions(
        csource.files(args.root, ['include'], {'.h'}))
    pages = mdoc.pages(args.root)
    documented = {f.name for page in pages for f in page.functions()}

    if args.lib:
        compare('E1', exported(args.lib, stand_ins(args.root)),
                'exported', set(names), 'in the map',
                errors)
    compare('E2', set(names), 'in the map', set(declared), 'declared', errors)
    errors += [f'E3: src/libmmn.map names {name} twice'
               for name in sorted(set(names)) if names.count(name) > 1]
    for name in sorted(set(declared) - documented):
        source, offset = declared[name]
        errors.append(f'{source.where(offset)}: E4: {name} has no man page')
    csource.finish(errors, f'{len(names)} public names, declared, exported '
                   f'and documented')


main()
