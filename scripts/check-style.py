#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Check what no compiler looks at.

S1  the first line (the second of a script) names the licence
S2  C is indented with tabs
S3  no blanks at line ends, no carriage returns, one newline at the end
S4  none of the words that mean "not finished"
S5  public headers: no _Atomic, no thread or RCU types, no bit-fields
S6  no lines wider than 100 columns in C; clang-format aims at 80
S7  a file with tests is called <module>-<what>-test.c
S8  an errno that a public header names is explained in doc/ERRORS.md

usage: check-style.py [--root DIR]
"""
import argparse
import pathlib
import re

import csource

FOLDERS = ('.ci', 'bench', 'doc', 'examples', 'include', 'litmus', 'man',
           'scripts', 'src', 'tests')
LICENSED = {'.c', '.h', '.S', '.py', '.sh', '.build', '.cpp'}
C_LIKE = {'.c', '.h', '.S', '.cpp'}
# In two halves, or this file would find itself.
UNFINISHED = re.compile(r'\b(TO' r'DO|FIX' r'ME|XX' r'X|HA' r'CK|for ' r'now|'
                        r'place' r'holder)\b')
NOT_PUBLIC = re.compile(r'\b_Atomic\b|\bpthread_\w+_t\b|\brcu_head\b|'
                        r'^\s*(?:unsigned |u?int\d*_t |int |bool )\s*\w+\s*:\s*\d',
                        re.M)


def text_files(root):
    for path in sorted(root.iterdir()):
        if path.is_file() and path.suffix != '.swp':
            yield path
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob('*')):
            if path.is_file() and '__pycache__' not in path.parts:
                yield path


def check_text(name, text, errors):
    for number, line in enumerate(text.split('\n'), 1):
        if line != line.rstrip():
            errors.append(f'{name}:{number}: S3: blanks at the end')
        m = UNFINISHED.search(line)
        if m:
            errors.append(f'{name}:{number}: S4: "{m[0]}"')
    if text and (not text.endswith('\n') or text.endswith('\n\n')):
        errors.append(f'{name}: S3: does not end with one newline')


def check_c(name, text, errors):
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r'\t* {8}|\t* +\t', line):
            errors.append(f'{name}:{number}: S2: indented with blanks')
        if len(line.expandtabs(8)) > 100:
            errors.append(f'{name}:{number}: S6: wider than 100 columns')


def check_header(source, errors):
    for m in NOT_PUBLIC.finditer(source.code):
        errors.append(f'{source.where(m.start())}: S5: {m[0].strip()} in a '
                      'public header')


def check_errnos(root, errors):
    path = root / 'doc/ERRORS.md'
    if not path.exists():
        return
    known = set(re.findall(r'`-(E\w+)`', path.read_text(encoding='utf-8')))
    for source in csource.files(root, ['include'], {'.h'}):
        for m in re.finditer(r'-(E[A-Z0-9]{2,})\b', source.text):
            if m[1] not in known:
                errors.append(f'{source.where(m.start())}: S8: {m[0]} is not '
                              'in doc/ERRORS.md')


def check(root, path, errors):
    name = path.relative_to(root).as_posix()
    try:
        text = path.read_bytes().decode('utf-8')
    except UnicodeDecodeError:
        errors.append(f'{name}: S3: not UTF-8')
        return
    check_text(name, text, errors)
    script = text.startswith('#!')
    if script or path.suffix in LICENSED:
        if 'SPDX-License-Identifier: MIT' not in text.split('\n')[script]:
            errors.append(f'{name}:{1 + script}: S1: no licence')
    if path.suffix in C_LIKE:
        check_c(name, text, errors)
    if name.startswith('include/') and path.suffix == '.h':
        check_header(csource.Source(path, root), errors)
    if path.suffix == '.c' and re.search(r'^TEST\(', text, re.M) and \
            not re.fullmatch(r'[a-z]+(-[a-z0-9]+)+-test\.c', path.name):
        errors.append(f'{name}: S7: not called <module>-<what>-test.c')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--root', type=pathlib.Path,
                        default=csource.default_root())
    root = parser.parse_args().root
    errors, count = [], 0
    for path in text_files(root):
        check(root, path, errors)
        count += 1
    check_errnos(root, errors)
    csource.finish(errors, f'{count} files')


main()
