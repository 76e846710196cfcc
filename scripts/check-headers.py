#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Check that each header compiles on its own.

H1  a public header compiles as C11 without extensions
H2  a public header compiles as C++17
H3  an internal header compiles with the project's own settings

usage: check-headers.py [--root DIR] [--build DIR]   (--build: has config.h)
"""
import argparse
import pathlib
import shutil
import subprocess

import csource

STRICT = ['-pedantic', '-Wall', '-Wextra', '-Werror', '-fsyntax-only']
PUBLIC = (
    ('H1', ['gcc', '-x', 'c', '-std=c11', *STRICT]),
    ('H1', ['clang', '-x', 'c', '-std=c11', *STRICT]),
    ('H2', ['g++', '-x', 'c++', '-std=c++17', *STRICT]),
    ('H2', ['clang++', '-x', 'c++', '-std=c++17', *STRICT]),
)
INTERNAL = ('H3', ['gcc', '-x', 'c', '-std=gnu11', '-D_GNU_SOURCE', '-Wall',
                   '-Wextra', '-Wno-unused-parameter', '-Werror',
                   '-fsyntax-only'])


def compile_alone(code, command, header, includes, errors):
    if not shutil.which(command[0]):
        return
    # Twice: the guard has to work.
    text = f'#include {header}\n#include {header}\n'
    flags = [arg for folder in includes for arg in ('-I', str(folder))]
    done = subprocess.run([*command, *flags, '-'], input=text, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False)
    if done.returncode:
        first = [line for line in done.stdout.splitlines() if 'error' in line]
        errors.append(f'{code}: {header} with {command[0]}: '
                      f'{(first or [done.stdout])[0]}')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--root', type=pathlib.Path,
                        default=csource.default_root())
    parser.add_argument('--build', type=pathlib.Path)
    args = parser.parse_args()
    root, errors, count = args.root, [], 0
    for path in sorted((root / 'include').rglob('*.h')):
        header = f'<{path.relative_to(root / "include").as_posix()}>'
        for code, command in PUBLIC:
            compile_alone(code, command, header, [root / 'include'], errors)
        count += 1
    if args.build:
        includes = [root / 'include', root / 'src', args.build]
        for path in sorted((root / 'src').rglob('*.h')):
            header = f'"{path.relative_to(root / "src").as_posix()}"'
            compile_alone(*INTERNAL, header, includes, errors)
            count += 1
    csource.finish(errors, f'{count} headers compile on their own')


main()
