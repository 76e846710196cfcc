#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run an example and compare its output with the comment at its head.

The comment has a line "prints:" and below it, one tab deeper, the output.

An exit status of 77 says that it cannot run here.

usage: check-output.py SOURCE PROGRAM
"""
import pathlib
import re
import subprocess
import sys


def promised(text):
    m = re.search(r'^ \* prints:\n((?: \*\t.*\n)+)', text, re.M)
    if not m:
        raise SystemExit('the head comment does not say what it prints')
    return ''.join(line.removeprefix(' *\t') + '\n'
                   for line in m[1].splitlines())


def main():
    source, program = sys.argv[1:]
    want = promised(pathlib.Path(source).read_text(encoding='utf-8'))
    done = subprocess.run([program], stdout=subprocess.PIPE, text=True,
                          timeout=60, check=False)
    if done.returncode == 77:
        return 77
    if done.returncode or done.stdout != want:
        print(f'exit status {done.returncode}, printed:\n{done.stdout}'
              f'promised:\n{want}')
        return 1
    return 0


sys.exit(main())
