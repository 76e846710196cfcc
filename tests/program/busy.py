# SPDX-License-Identifier: MIT
"""A python program with threads, fork and subprocesses; output is constant."""
import json
import mmap
import os
import subprocess
import sys
import threading


def work(number, results):
    kept = []
    for i in range(60):
        kept.append(bytearray(256 * 1024 + number))
        kept[-1][i] = i
        if len(kept) > 3:
            kept.pop(0)
        area = mmap.mmap(-1, 128 * 1024)
        area.write(b'x' * 4096 * 20)
        area.close()
    results[number] = sum(kept[-1])


results = {}
for _ in range(3):
    threads = [threading.Thread(target=work, args=(n, results))
               for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print(json.dumps(results, sort_keys=True))
child = os.fork()
if not child:
    work(9, results)
    os._exit(results[9] % 100)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(subprocess.run([sys.executable, '-c', 'import json; print(json.dumps(1))'],
                     capture_output=True, text=True, check=True).stdout)
print(subprocess.run('echo one; exit 3', shell=True).returncode)
sys.exit(11)
