#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Test the command mmn ladder: what it prints, and every exit status.

usage: ladder-test.py MMN
"""
import pathlib
import subprocess
import sys
import tempfile
import xml.dom.minidom

MMN = sys.argv[1]
results = []


def ladder(*args):
    done = subprocess.run([MMN, 'ladder', *args], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def expect(good, text):
    results.append((good, text))


def expect_usage(words, *args):
    status, out, err = ladder(*args)
    expect(status == 2 and not out and words in err and 'usage:' in err,
           f'"{" ".join(args)}" is wrong usage')


def test_list():
    status, out, _ = ladder('--list')
    expect(status == 0 and 'bool-valid           fails' in out and
           'notifier-fault       holds' in out, 'the scenarios are listed')


def test_failing():
    status, out, _ = ladder('--explain', 'bool-valid')
    expect(status == 1, 'a failing scenario has status 1')
    expect('CPU2: elsewhere' in out and '*** assertion' in out and
           'mail_valid' in out, 'it is shown as a ladder')
    expect('No barrier would forbid it' in out and 'No barrier helps' in out,
           'it is explained')
    expect(all(len(line) <= 80 for line in out.splitlines()[:-1]),
           'nothing but the figures is wider than 80 columns')
    again = ladder('--explain', 'bool-valid')[1]
    expect(out.splitlines()[:-1] == again.splitlines()[:-1],
           'and the next time in the same words')


def test_holding():
    for model in 'c11', 'tso', 'sc':
        status, out, _ = ladder('--model', model, 'notifier-fault')
        expect(status == 0 and f'model {model}: holds' in out and
               'all there are' in out, f'the notifier holds under {model}')


def test_weakened():
    status, out, _ = ladder('--weaken', 'open_count:acquire@read_begin',
                            '--explain', 'notifier-fault')
    expect(status == 1 and '(old: is' in out and
           'One pair would forbid it' in out and 'pair(open_count)' in out,
           'a missing acquire is found and named')


def test_bounds():
    status, out, _ = ladder('--runs', '3', 'notifier-fault')
    expect(status == 4 and 'no failure found' in out and
           'not all there are' in out, 'a bound of runs is told')
    status, out, _ = ladder('--events', '5', 'notifier-fault')
    expect(status == 4 and ' 0 cut short' not in out,
           'a bound of events is told')


def test_svg():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / 'ladder.svg'
        ladder('--svg', str(path), 'bool-valid')
        svg = xml.dom.minidom.parse(str(path))
        texts = [node.firstChild.data
                 for node in svg.getElementsByTagName('text')]
        expect(any('valid = 1' in text for text in texts) and
               svg.getElementsByTagName('line'), 'the ladder is drawn')
        status, _, err = ladder('--svg', folder, 'bool-valid')
        expect(status == 125 and folder in err,
               'a file that cannot be written is told')


def main():
    test_list()
    test_failing()
    test_holding()
    test_weakened()
    test_bounds()
    test_svg()
    expect_usage('name one scenario')
    expect_usage('no-such-model', '--model', 'no-such-model', 'bool-valid')
    expect_usage('no pair(no_such_tag)', '--weaken', 'no_such_tag',
                 'bool-valid')
    expect_usage('the side is', '--weaken', 'open_count:both', 'bool-valid')
    expect_usage('a number', '--runs', '0', 'bool-valid')
    expect_usage('a number', '--events', '100000', 'bool-valid')
    status, _, err = ladder('no-such-scenario')
    expect(status == 2 and 'no such scenario' in err,
           'a scenario that is not there is wrong usage')
    print(f'1..{len(results)}')
    for i, (good, text) in enumerate(results, 1):
        print(f'{"ok" if good else "not ok"} {i} - {text}')
    sys.exit(not all(good for good, _ in results))


main()
