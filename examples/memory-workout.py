#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A program that works its memory hard, for `mmn run` to follow.

It knows nothing of libmmn. Threads sort, hash and compress large buffers that
come and go; mappings grow, move and lose pages in the middle; a forked child and
a subprocess do the same. What it prints is the same in every run.
"""
import hashlib
import mmap
import os
import random
import subprocess
import sys
import threading
import time
import zlib

MEGABYTE = 1 << 20
SECONDS = 3.0


def churn(seed, until, results):
    """Buffers that are allocated, filled, used and dropped."""
    source = random.Random(seed)
    rounds = 0
    while time.monotonic() < until:
        size = source.choice([1, 2, 4, 8]) * MEGABYTE
        data = bytearray(source.randbytes(4096)) * (size // 4096)
        data.extend(b'tail')
        packed = zlib.compress(data, 1)
        if zlib.decompress(packed) != data:
            raise SystemExit('memory was corrupted')
        rounds += 1
    results[seed] = rounds


def mappings(until, results):
    """Mappings that are resized, which moves them, and that lose pages."""
    rounds = 0
    while time.monotonic() < until:
        area = mmap.mmap(-1, MEGABYTE)
        for page in range(0, MEGABYTE, mmap.PAGESIZE):
            area[page] = page // mmap.PAGESIZE % 251
        area.resize(4 * MEGABYTE)
        area.madvise(mmap.MADV_DONTNEED, 2 * MEGABYTE, MEGABYTE)
        good = all(area[page] == page // mmap.PAGESIZE % 251
                   for page in range(0, MEGABYTE, mmap.PAGESIZE))
        area.close()
        if not good:
            raise SystemExit('a mapping was corrupted')
        rounds += 1
    results['mappings'] = rounds


def in_a_child():
    """The same work in a copy of this process."""
    pid = os.fork()
    if pid == 0:
        results = {}
        churn(1000, time.monotonic() + 0.3, results)
        os._exit(0 if results[1000] else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def in_a_subprocess():
    """And in another program."""
    code = 'x = [bytes(1 << 20) for _ in range(50)]; print(len(x))'
    return subprocess.run([sys.executable, '-c', code], check=True,
                          stdout=subprocess.PIPE).stdout.decode().strip()


def main():
    until = time.monotonic() + SECONDS
    results = {}
    threads = [threading.Thread(target=churn, args=(i, until, results))
               for i in range(3)]
    threads.append(threading.Thread(target=mappings, args=(until, results)))
    for thread in threads:
        thread.start()
    print('child:', in_a_child())
    print('subprocess:', in_a_subprocess())
    for thread in threads:
        thread.join()
    print('workers:', sum(1 for rounds in results.values() if rounds))
    print('digest:', hashlib.sha256(bytes(MEGABYTE)).hexdigest()[:16])


main()
