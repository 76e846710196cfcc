#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What mmn run costs a whole program, against the same program without it.

The program imports much of python's library and then allocates and frees 2 MiB
300 times.  Rounds of the variants take turns; the figure is the ratio of the
medians.

    bare     without mmn
    follow   changes are intercepted and counted, nothing is mirrored
    mirror   everything: windows, device, checks

usage: program-bench.py BUILD-DIR [MILLISECONDS]
With MILLISECONDS as few rounds as that needs, 15 rounds without.
"""
import json
import os
import platform
import statistics
import subprocess
import sys
import time

PROGRAM = '''
import asyncio, ctypes, decimal, email, http.client, json, logging, sqlite3, ssl
import unittest, xml.dom.minidom, concurrent.futures, multiprocessing
for i in range(300):
    b = bytearray(2 << 20)
    b[0] = 1
    del b
'''


def main():
    mmn = os.path.join(sys.argv[1], 'src/cmd/mmn')
    rounds = 15 if len(sys.argv) < 3 else max(1, int(sys.argv[2]) // 1000)
    program = ['/usr/bin/python3', '-c', PROGRAM]
    variants = {
        'bare': program,
        'follow': [mmn, 'run', '--seconds', '0', '--', *program],
        'mirror': [mmn, 'run', '--', *program],
    }
    env = {k: v for k, v in os.environ.items() if k != 'MALLOC_PERTURB_'}
    times = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, command in variants.items():
            begin = time.perf_counter()
            subprocess.run(command, check=True, env=env,
                           stderr=subprocess.DEVNULL)
            if number:
                times[name].append((time.perf_counter() - begin) * 1e3)
    print(f'# {platform.platform()}, {os.cpu_count()} processors, '
          f'{rounds} rounds')
    bare = statistics.median(times['bare'])
    for name, values in times.items():
        middle = statistics.median(values)
        print(json.dumps({
            'name': 'program ' + name, 'unit': 'ms',
            'min': round(min(values), 1), 'median': round(middle, 1),
            'max': round(max(values), 1), 'ratio': round(middle / bare, 3)}))


main()
