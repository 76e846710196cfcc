#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Check that README.md tells the truth.

The first C block is compiled, without warnings, and run; it has to print the
block that follows. Every path and link in the text has to exist, and every
make target that it names.

usage: check-readme.py ROOT LIBRARY_FOLDER   (CC names the compiler)
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

results = []


def expect(good, text, *notes):
    results.append((good, text, notes))


def run(command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False,
                          **more)
    return done.returncode, done.stdout


def check_example(root, library, text):
    blocks = re.findall(r'^```(\w*)\n(.*?)^```$', text, re.M | re.S)
    number = next(i for i, block in enumerate(blocks) if block[0] == 'c')
    source, output = blocks[number][1], blocks[number + 1][1]
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / 'example'
        code, log = run(
            [*os.environ.get('CC', 'cc').split(), '-x', 'c', '-std=gnu11',
             '-Wall', '-Wextra', '-Wno-unused-parameter', '-Werror', '-O1',
             '-I', root / 'include', '-o', program, '-',
             '-L', library, '-lmmn', '-pthread', f'-Wl,-rpath,{library}'],
            input=source)
        expect(code == 0, 'the example compiles', *log.splitlines())
        if code:
            return
        code, log = run([program], timeout=60)
        expect(code == 0 and log == output,
               'the example prints what the text says',
               f'exit status {code}', *log.splitlines())


def check_names(root, text):
    links = re.findall(r'\]\(([^)#:]+)\)', text)
    folders = re.findall(r'`((?:\w+/)+)`', text)
    missing = [name for name in links + folders
               if not (root / name).exists()]
    expect(links and folders and not missing, 'files and folders exist',
           *missing)
    makefile = (root / 'Makefile').read_text(encoding='utf-8')
    targets = set(re.findall(r'(?:^    |`)make (\w+)', text, re.M))
    missing = [t for t in sorted(targets)
               if not re.search(rf'^{t}:', makefile, re.M)]
    expect(targets and not missing, 'make targets exist', *missing)


def main():
    root, library = (pathlib.Path(arg).resolve() for arg in sys.argv[1:3])
    text = (root / 'README.md').read_text(encoding='utf-8')
    check_example(root, library, text)
    check_names(root, text)
    print(f'1..{len(results)}')
    for number, (good, what, notes) in enumerate(results, 1):
        print(f'{"" if good else "not "}ok {number} - {what}')
        if not good:
            print(*(f'#\t{note}' for note in notes), sep='\n')
    return not all(good for good, _, _ in results)


sys.exit(main())
