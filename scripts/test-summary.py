#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Print one closing line for any number of meson test logs.

Reads testlog.json and not testlog.junit.xml: meson 1.0 leaves aborted TAP
tests, short TAP plans and timeouts unmarked in the latter.  A TAP test counts
one for each of its tests, any other test counts one, and so does a test that
must fail and does.  A log in which nothing passed is a failure: meson is
content with a suite that does not exist.

usage: test-summary.py [--list] TESTLOG.json...
  --list  name what failed first
"""
import json
import re
import sys

TAP = re.compile(r'^(not )?ok\b[^#\n]*(?:#[ \t]*(\w+))?', re.M)


def count(test):
    """(passed, failed, skipped) of one meson test."""
    points = list(TAP.finditer(test.get('stdout') or ''))
    bad = sum(1 for p in points if p[1])
    skipped = sum(1 for p in points if not p[1] and
                  (p[2] or '').upper() == 'SKIP')
    result = test['result']
    if result == 'SKIP':
        return 0, 0, max(1, skipped)
    if result == 'EXPECTEDFAIL' or (result == 'OK' and not points):
        return 1, 0, 0
    if result == 'OK':
        return len(points) - skipped - bad, bad, skipped
    return len(points) - skipped - bad, max(1, bad), skipped


def read(path):
    try:
        with open(path, encoding='utf-8') as log:
            return [json.loads(line) for line in log if line.strip()]
    except (OSError, ValueError) as error:
        print(f'{path}: {error}')
        return []


def main():
    paths = [arg for arg in sys.argv[1:] if arg != '--list']
    total = [0, 0, 0]
    for path in paths:
        here = [0, 0, 0]
        for test in read(path):
            counts = count(test)
            here = [a + b for a, b in zip(here, counts)]
            if counts[1] and '--list' in sys.argv:
                print(f'{path}: {test["name"]}: {test["result"]}')
        if not here[0]:
            here[1] += 1
            print(f'{path}: nothing passed')
        total = [a + b for a, b in zip(total, here)]
    print('{} passed, {} failed, {} skipped'.format(*total))
    return 1 if total[1] or not total[0] else 0


sys.exit(main())
