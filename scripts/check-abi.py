#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Check that the public structures are laid out as they were.

A1  the size of every public structure and the place of every member are those
    of doc/abi/layout.txt; only a version that says so may change them

usage: check-abi.py [--write] [--root DIR]   (CC names the compiler)
  --write  write doc/abi/layout.txt anew
"""
import argparse
import difflib
import os
import pathlib
import re
import subprocess
import tempfile

import csource

STRUCT = re.compile(r'^struct (\w+) \{\n(.*?)^\}', re.M | re.S)
MEMBER = re.compile(r'\(\*(\w+)\)\s*\(|(\w+)(?:\[[^\]]*\])*\s*;')
# A word of the kernel's size: only where it is 64 bits is this comparable.
HEAD = '# sizes and offsets in bytes, 64-bit; `make abi` writes this file\n'


def members(body):
    """Names at the outer level; unions and structs inside are left out."""
    body = re.sub(r'\{[^{}]*\}', '', body)
    for statement in body.split(';'):
        m = MEMBER.search(statement + ';')
        if m:
            yield m[1] or m[2]


def layout_source(root):
    lines = ['#include <stdio.h>', '#include <stddef.h>']
    calls = []
    for source in csource.files(root, ['include'], {'.h'}):
        header = source.path.relative_to(root / 'include').as_posix()
        lines.append(f'#include <{header}>')
        for m in STRUCT.finditer(source.code):
            calls.append(f'printf("{m[1]} %zu\\n", sizeof(struct {m[1]}));')
            calls += [f'printf("\\t{name} %zu\\n", '
                      f'offsetof(struct {m[1]}, {name}));'
                      for name in members(m[2])]
    return '\n'.join([*lines, 'int main(void)', '{', *calls, 'return 0;',
                      '}', ''])


def layout(root):
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / 'layout'
        subprocess.run([*os.environ.get('CC', 'cc').split(), '-x', 'c',
                        '-std=gnu11', '-I', root / 'include', '-o', program,
                        '-'], input=layout_source(root), text=True, check=True)
        return HEAD + subprocess.run([program], stdout=subprocess.PIPE,
                                     text=True, check=True).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--write', action='store_true')
    parser.add_argument('--root', type=pathlib.Path,
                        default=csource.default_root())
    args = parser.parse_args()
    path = args.root / 'doc/abi/layout.txt'
    now = layout(args.root)
    if args.write:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(now, encoding='utf-8')
    before = path.read_text(encoding='utf-8')
    errors = [f'A1: {line}' for line in difflib.unified_diff(
        before.splitlines(), now.splitlines(), 'doc/abi/layout.txt', 'headers',
        lineterm='', n=1)]
    csource.finish(errors, f'{now.count("mmn_")} structures are laid out as '
                   'before')


main()
