#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""mmn torture: what is broken on purpose is caught, and the command says what
it does.

    torture-test.py BUILD-DIR [GLOB...]

Short runs of what works are tests of their own; see meson.build.
"""
import fnmatch
import os
import re
import subprocess
import sys

BUILD = os.path.abspath(sys.argv[1])
MMN = os.path.join(BUILD, 'src/cmd/mmn')
SCALE = int(os.environ.get('T_TIMEOUT_SCALE', '1'))
# Long enough for a machine that is slow: a failure ends the run at once.
PATIENCE = 60 * SCALE
tests = []


def test(function):
    tests.append((function.__name__, function))
    return function


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def torture(*arguments, broken=False):
    env = dict(os.environ)
    if broken:
        # The harm is done on purpose; it is the command that must find it.
        env['TSAN_OPTIONS'] = env.get('TSAN_OPTIONS', '') + ':report_bugs=0'
    return subprocess.run([MMN, 'torture', *arguments], capture_output=True,
                          text=True, timeout=3 * PATIENCE, env=env)


def last_line(run):
    return run.stdout.splitlines()[-1] if run.stdout else ''


def flavours():
    run = torture('--flavour', 'list')
    rows = [line.split(None, 2) for line in run.stdout.splitlines()]
    return [(row[0], row[1]) for row in rows]


def expect_caught(run, scenario, flavour):
    expect(run.returncode == 1,
           f'exit status {run.returncode}\n{run.stdout}{run.stderr}')
    expect(last_line(run).startswith(
        f'torture: FAILURE: {scenario}, flavour {flavour}: '), last_line(run))
    ladder = re.search(r'^ +us  \S.*\n( *-\d+\.\d  .*\n(?: +\S+\n)?)+\n',
                       run.stdout, re.M)
    expect(ladder, 'no history\n' + run.stdout)
    expect(max(map(len, ladder[0].splitlines())) <= 80, ladder[0])


def add_broken(scenario, flavour):
    def caught():
        run = torture('--flavour', flavour, '--seconds', str(PATIENCE),
                      *stall_of(flavour), scenario, broken=True)
        expect_caught(run, scenario, flavour)
    tests.append((f'{scenario}_with_{flavour}_is_caught'.replace('-', '_'),
                  caught))


def stall_of(flavour):
    """Those that never come to an end are waited for a little less."""
    return ['--stall', '1'] if flavour in ('no-backoff', 'no-signal') else []


@test
def every_scenario_has_a_real_flavour_and_broken_ones():
    scenarios = [s for s, f in flavours() if f == 'real']
    expect(len(scenarios) == len(set(scenarios)) > 0, scenarios)
    for scenario in scenarios:
        broken = [f for s, f in flavours() if s == scenario and f != 'real']
        expect(len(broken) >= 2, scenario)


@test
def every_flavour_is_explained():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                        '../../doc/TORTURE.md')
    with open(path, encoding='utf-8') as file:
        tables = re.findall(r'^\| `(\w+)` \|(.*(?:\n\| \|.*)*)', file.read(),
                            re.M)
    for scenario, flavour in flavours():
        said = [text for name, text in tables if name == scenario]
        expect(len(said) == 2, f'{scenario} is not in both tables')
        expect(flavour == 'real' or f'`{flavour}`' in said[1],
               f'{scenario}: {flavour}')


@test
def a_run_that_finds_nothing_ends_with_success():
    run = torture('--seconds', '0.1', '--seed', '7', '--stat-interval', '0.02',
                  'notifier')
    expect(run.returncode == 0, run.stdout + run.stderr)
    expect(last_line(run) ==
           'torture: SUCCESS: 1 of 1 scenarios, seed 0x7', last_line(run))
    expect(not run.stderr, run.stderr)
    figures = re.findall(r'^torture: notifier \d+\.\d s: changes \d+ '
                         r'installs [1-9]\d* ', run.stdout, re.M)
    expect(figures, run.stdout)
    expect(re.search(r'^torture: reader, ns for a round, below:\n'
                     r'torture:    2\^\d+ +\d+', run.stdout, re.M), run.stdout)
    expect(re.search(r'^torture: how far behind, changes, below:\n'
                     r'torture:    2\^0 +\d+$', run.stdout, re.M), run.stdout)


@test
def figures_come_at_intervals():
    run = torture('--seconds', '0.3', '--stat-interval', '0.1',
                  '--disturb', 'none', 'notifier')
    figures = re.findall(r'^torture: notifier \d+\.\d s: ', run.stdout, re.M)
    expect(len(figures) >= 2, run.stdout)


@test
def all_parameters_are_printed_and_give_the_same_again():
    arguments = ['--seed', '0x1234', '--seconds', '0.05', '--threads', '2',
                 '--stall', '30', '--disturb', 'stutter,inject', '--inject',
                 'delay=0', '--inject', 'refuse=9', 'notifier']
    run = torture(*arguments)
    expect(run.returncode == 0, run.stdout + run.stderr)
    head = run.stdout.splitlines()[:3]
    expect(head[0] == 'torture: notifier, flavour real: range subscriptions, '
           'judged by what a device would see', head[0])
    expect(head[1] == 'torture: mmn torture --seed 0x1234 --seconds 0.05 '
           '--stall 30 --disturb stutter,inject --threads 2 '
           '--inject refuse=9 --inject delay=0 notifier', head[1])
    expect(head[2] == 'torture: threads: writer 2 reader 2 mover 2; faults, '
           'one in: alloc 200 refuse 9 retry 50 ww-deadlock 50', head[2])
    again = torture(*head[1].split()[3:])
    expect(again.stdout.splitlines()[:3] == head, again.stdout)


@test
def without_disturbance_there_are_no_faults():
    run = torture('--disturb', 'none', '--seconds', '0.05', 'notifier')
    expect(run.returncode == 0, run.stdout + run.stderr)
    expect('\ntorture: faults:\n' in run.stdout, run.stdout)
    expect('; faults, one in:\n' in run.stdout, run.stdout)


@test
def a_point_that_breaks_the_library_is_caught():
    run = torture('--inject', 'retry-skip=1', '--seconds', str(PATIENCE),
                  'notifier', broken=True)
    expect_caught(run, 'notifier', 'real')


WRONG = [
    (['--seconds', '0'], '--seconds: seconds, more than 0'),
    (['--seconds', 'x'], '--seconds: seconds, more than 0'),
    (['--seconds', '-1'], '--seconds: seconds, more than 0'),
    (['--seconds', 'nan'], '--seconds: seconds, more than 0'),
    (['--stall', '0'], '--stall: seconds, more than 0'),
    (['--stat-interval', '1x'], '--stat-interval: seconds, more than 0'),
    (['--seed', '-1'], '--seed: a number from 0 to'),
    (['--seed', ''], '--seed: a number from 0 to'),
    (['--threads', '0'], '--threads: a number from 1 to 16, not 0'),
    (['--threads', '17'], '--threads: a number from 1 to 16, not 17'),
    (['--disturb', 'noise'], '--disturb: a list of delay, preempt, shuffle,'),
    (['--disturb', 'delay,'], '--disturb: a list of delay, preempt, shuffle,'),
    (['--disturb', ''], '--disturb: a list of delay, preempt, shuffle,'),
    (['--inject', 'alloc'], '--inject: alloc: POINT=N is wanted'),
    (['--inject', 'moon=1'], '--inject: moon is no point of the library'),
    (['--inject', 'alloc=x'], '--inject: a number from 0 to 4294967295'),
    (['--flavour', 'sweet'], 'no such flavour: sweet'),
    (['--flavour', 'poison-early', 'notifier'],
     'notifier has no flavour poison-early'),
    (['--flavour', 'list', 'notifier'], 'usage: mmn torture'),
    (['chair'], 'no such scenario: chair'),
    (['--colour'], "unrecognized option '--colour'"),
]


@test
def wrong_use_is_explained():
    for arguments, message in WRONG:
        run = torture(*arguments)
        expect(run.returncode == 2, f'{arguments}: {run.returncode}')
        expect(message in run.stderr, f'{arguments}: {run.stderr}')
        expect('usage: mmn torture' in run.stderr, run.stderr)
        expect(not run.stdout, run.stdout)


@test
def help_names_every_option():
    run = subprocess.run([MMN, 'help', 'torture'], capture_output=True,
                         text=True, timeout=PATIENCE)
    expect(run.returncode == 0, run.stderr)
    for option in ('flavour', 'seconds', 'seed', 'threads', 'stat-interval',
                   'stall', 'disturb', 'inject'):
        expect('--' + option in run.stdout, option)


def main():
    for scenario, flavour in flavours():
        if flavour != 'real':
            add_broken(scenario, flavour)
    globs = sys.argv[2:] or ['*']
    chosen = [(name, function) for name, function in tests
              if any(fnmatch.fnmatch(name, glob) for glob in globs)]
    failed = 0
    print(f'1..{len(chosen)}')
    for number, (name, function) in enumerate(chosen, 1):
        try:
            function()
            print(f'ok {number} - {name}', flush=True)
        except (AssertionError, subprocess.TimeoutExpired) as what:
            failed += 1
            for line in str(what).splitlines():
                print('#', line)
            print(f'not ok {number} - {name}', flush=True)
    sys.exit(1 if failed else 0)


main()
