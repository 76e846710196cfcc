#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Test the test runner: run tests that must fail and compare their verdicts.

usage: check-tap.py RUNNER_TEST SHORT_TEST {plain|sanitized} {selfcheck|bare}

Prints TAP itself: one line per expected verdict.
"""
import os
import re
import subprocess
import sys

# test -> text that its part of the log must contain
VERDICTS = {
    'good_passes': None,
    'good_skips': 'SKIP there is no device here',
    'good_threads_leave_no_stack': None,
    'good_detached_thread_leaves_no_stack': None,
    'good_keeps_what_it_announced': 'may keep 4096 bytes',
    'good_announced_misuse': None,
    'bad_expression': 'does not hold: 1 + 1 == 3',
    'bad_values': 'left is 2 (0x2), right is -7',
    'bad_errno': 'returned -EINVAL, expected -ENOENT',
    'bad_string': 'left is "pear", right is "apple"',
    'bad_bytes': 'differ at byte 2 of 3: 0x63 and 0x64',
    'bad_in_a_thread': 'does not hold: unused != NULL',
    'bad_in_a_child': 'does not hold: false',
    'bad_child_returns': 'a child process of the test returned from it',
    'bad_segfault': 'killed by SIGSEGV',
    'bad_abort': 'killed by SIGABRT',
    'bad_exit': 'exited before its end',
    'bad_exit_status': 'exited with status 42',
    'bad_hang': 'not done after',
    'bad_hang_with_signals_blocked': 'not done after',
    'bad_leaked_descriptor': 'leaked 1 descriptors',
    'bad_closed_descriptor': 'closed descriptor 0',
    'bad_leaked_page': 'leaked 4096 bytes of mappings',
    'bad_leaked_page_that_merged': 'leaked 4096 bytes of mappings',
    'bad_leaked_big_malloc': 'bytes of mappings',
    'bad_leaked_thread': 'bytes of mappings',
    'bad_expects_nothing': 'the test expected nothing',
    'bad_misuse': 'misuse reported: a mistake',
    'bad_missing_misuse': 'misuse was not reported: a mistake',
    'bad_misuse_of_another_kind': 'misuse reported: another one',
}
# What only builds that are not sanitized can see.
MAPPINGS = {'bad_leaked_page', 'bad_leaked_page_that_merged',
            'bad_leaked_big_malloc', 'bad_leaked_thread'}
# What a sanitizer reports in words of its own.
CRASHES = {'bad_segfault', 'bad_abort'}
# What only builds that report misuse can see.
MISUSE = {'good_announced_misuse', 'bad_missing_misuse',
          'bad_misuse_of_another_kind'}

results = []


def expect(good, text, *notes):
    results.append((good, text, notes))


def run(program, *args):
    # Some of them hang until their time is up: do not make it longer.
    env = dict(os.environ, T_TIMEOUT_SCALE='1')
    done = subprocess.run([program, *args], stdin=subprocess.DEVNULL, env=env,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=300, check=False)
    return done.returncode, done.stdout.decode(errors='replace')


def parts(log):
    """Cut a TAP log: test name -> (passed, its lines, its own lines first)."""
    found, pending, name = {}, [], None
    for line in log.splitlines():
        m = re.match(r'(not )?ok \d+ - (\S+)', line)
        if m:
            name = m[2]
            found[name] = [not m[1], pending + [line]]
            pending = []
        elif name and line.startswith(('# killed', '# exited', '# not done',
                                       '# again')):
            found[name][1].append(line)
        else:
            pending.append(line)
    return found


def check_verdicts(program, sanitized, selfcheck):
    code, log = run(program)
    expect(code == 1, 'a binary with failed tests exits with 1', f'was {code}')
    expect(f'1..{len(VERDICTS)}\n' in log, 'the plan counts every test')
    found = parts(log)
    for name, text in VERDICTS.items():
        if sanitized and name in MAPPINGS:
            continue
        if not selfcheck and name in MISUSE:
            text = 'SKIP'
        if sanitized and name in CRASHES:
            text = None
        passed, lines = found.pop(name, (None, []))
        block = '\n'.join(lines)
        want = name.startswith('good_') or (text or '').startswith('SKIP')
        expect(passed is want and (text or '') in block,
               f'verdict of {name}', f'expected {want} and {text!r}', *lines)
    left = [n for n in found if not (sanitized and n in MAPPINGS)]
    expect(not left, 'no test without an expected verdict', *left)


def check_command_line(program):
    code, log = run(program, '--list')
    expect(code == 0 and log.split() == list(VERDICTS), '--list names them all')
    code, log = run(program, 'good_*')
    expect(code == 0 and 'bad_' not in log, 'a pattern selects tests')
    code, log = run(program, 'good_passes', 'bad_values')
    expect(code == 1 and log.startswith('1..2\n'), 'names select tests')
    code, log = run(program, 'bad_segfault')
    expect(code < 0 or code > 1, 'one name runs in the process itself',
           f'exit status {code}')
    code, log = run(program, 'no_such_test')
    expect(code == 2 and 'no test called no_such_test' in log,
           'an unknown name is an error')


def check_short_plan(program):
    code, log = run(program)
    expect(code != 0 and '1..3\n' in log and 'ok 1 - first_passes' in log and
           'ok 3' not in log, 'a runner that dies leaves its plan unfulfilled',
           f'exit status {code}', *log.splitlines())


def main():
    check_verdicts(sys.argv[1], sys.argv[3] == 'sanitized',
                   sys.argv[4] == 'selfcheck')
    check_command_line(sys.argv[1])
    check_short_plan(sys.argv[2])
    print(f'1..{len(results)}')
    for number, (good, text, notes) in enumerate(results, 1):
        print(f'{"" if good else "not "}ok {number} - {text}')
        if not good:
            print(*(f'#\t{note}' for note in notes), sep='\n')
    return not all(good for good, _, _ in results)


sys.exit(main())
