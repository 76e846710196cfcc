#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Check the manual pages.

M1  mandoc has nothing to warn of
M2  each prototype in a SYNOPSIS has the type that the header declares
M3  a page of section 3 has the sections NAME, SYNOPSIS, DESCRIPTION,
    RETURN VALUES and SEE ALSO, and ERRORS when a function returns int
M4  a reference to another page of libmmn leads to one
M5  a page names its licence
M6  a page is installed: man/meson.build names it

usage: check-man.py [--root DIR] [--cc COMPILER]
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import csource
import mdoc

SECTIONS = ('NAME', 'SYNOPSIS', 'DESCRIPTION', 'RETURN VALUES', 'SEE ALSO')


def lint(root, page, errors):
    if not shutil.which('mandoc'):
        raise SystemExit('mandoc is not installed; make deps installs it')
    done = subprocess.run(
        ['mandoc', '-T', 'lint', '-W', 'warning', page.name], cwd=root,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False)
    # Whether other pages are installed here says nothing about this one.
    errors += [f'M1: {line}' for line in done.stdout.splitlines()
               if 'Xr' not in line]


def synopsis_source(page):
    """A C file that compiles when the prototypes of the page are true."""
    lines = [f'#include <{header}>' for header in page.headers()]
    for function in page.functions():
        arguments = ', '.join(function.arguments) or 'void'
        lines += [f'#line {function.line} "{page.name}"',
                  '_Static_assert(__builtin_types_compatible_p('
                  f'__typeof__({function.name}), '
                  f'{function.type} ({arguments})), '
                  f'"{function.name} is declared otherwise");']
    return '\n'.join(lines) + '\n'


def compile_synopsis(root, page, compiler, errors):
    if not any(True for _ in page.functions()):
        return
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / 'synopsis.c'
        path.write_text(synopsis_source(page), encoding='utf-8')
        done = subprocess.run(
            [*compiler.split(), '-std=gnu11', '-fsyntax-only', '-w',
             '-I', root / 'include', path], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False)
    found = re.findall(r'^(\S+:\d+).*?error: (.*)$', done.stdout, re.M)
    errors += [f'{where}: M2: {what}' for where, what in found]
    if done.returncode and not found:
        errors.append(f'{page.name}: M2: {done.stdout.strip()}')


def check_sections(page, errors):
    if not page.name.endswith('.3'):
        return
    want = list(SECTIONS)
    functions = list(page.functions())
    if not functions:
        return
    if any(f.type == 'int' for f in functions):
        want.append('ERRORS')
    if all(f.type == 'void' for f in functions):
        want.remove('RETURN VALUES')
    for section in want:
        if section not in page.sections():
            errors.append(f'{page.name}:1: M3: no section {section}')


def check_references(page, known, errors):
    for number, name, section in page.references():
        if name.startswith('mmn') and f'{name}.{section}' not in known:
            errors.append(f'{page.name}:{number}: M4: there is no '
                          f'{name}({section})')


def known_pages(pages):
    """File names, and every name that a page gives itself."""
    known = set()
    for page in pages:
        known.add(page.path.name)
        for _, section, _, args in page.macros('Nm'):
            if section == 'NAME' and args:
                known.add(f'{args[0]}.{page.path.suffix[1:]}')
    return known


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--root', type=pathlib.Path,
                        default=csource.default_root())
    parser.add_argument('--cc', default=os.environ.get('CC', 'cc'))
    args = parser.parse_args()
    errors, pages = [], mdoc.pages(args.root)
    build_file = args.root / 'man/meson.build'
    installed = build_file.read_text(encoding='utf-8')
    known = known_pages(pages)
    for page in pages:
        if 'SPDX-License-Identifier: MIT' not in page.lines[0]:
            errors.append(f'{page.name}:1: M5: no licence')
        if f"'{page.path.name}'" not in installed:
            errors.append(f'{page.name}:1: M6: is not in man/meson.build')
        lint(args.root, page, errors)
        compile_synopsis(args.root, page, args.cc, errors)
        check_sections(page, errors)
        check_references(page, known, errors)
    if not pages:
        errors.append('man: no pages')
    csource.finish(errors, f'{len(pages)} pages')


main()
