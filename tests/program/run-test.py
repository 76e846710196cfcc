#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""mmn run on real programs: they behave as without it, no access is stale, and
every way of breaking libmmn is found.

    run-test.py BUILD-DIR [GLOB...]

BUILD-DIR has src/cmd/mmn and the programs of this folder.
"""
import fnmatch
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BUILD = os.path.abspath(sys.argv[1])
HERE = os.path.dirname(os.path.abspath(__file__))
MMN = os.path.join(BUILD, 'src/cmd/mmn')
SCALE = int(os.environ.get('T_TIMEOUT_SCALE', '1'))
PYTHON = '/usr/bin/python3'
tests = []


class Skip(Exception):
    pass


def test(function):
    tests.append((function.__name__, function))
    return function


def program(name):
    return os.path.join(BUILD, 'tests/program', name)


def clean_env():
    """Without what meson and sanitizers add: programs are to be themselves."""
    env = dict(os.environ)
    env.pop('MALLOC_PERTURB_', None)
    return env


def bare(command, stdin=b''):
    return subprocess.run(command, input=stdin, capture_output=True,
                          timeout=30 * SCALE, env=clean_env())


def mmn(command, *options, stdin=b'', env=None, prefix=()):
    """The result of mmn run, with .json: its report."""
    with tempfile.NamedTemporaryFile(prefix='mmn-test-', suffix='.json') as out:
        os.chmod(out.name, 0o666)
        result = subprocess.run(
            [*prefix, MMN, 'run', '--json', out.name, *options, '--', *command],
            input=stdin, capture_output=True, timeout=40 * SCALE,
            env=env or clean_env())
        text = out.read()
    result.json = json.loads(text) if text else None
    return result


def expect(condition, *what):
    if not condition:
        raise AssertionError(' '.join(str(w) for w in what))


def same_once(command, options, stdin, prefix):
    without = bare(command, stdin)
    result = mmn(command, *options, stdin=stdin, prefix=prefix)
    expect(result.stdout == without.stdout, 'stdout', result.stdout[-300:],
           without.stdout[-300:])
    expect(result.returncode == without.returncode, 'exit status',
           result.returncode, without.returncode, result.stderr.decode())
    report = result.json
    expect(report['stale'] == 0, report['first_stale'])
    for process in report['processes']:
        expect('misuse' not in process['remark'], process['remark'])
    return result


def same(command, *options, stdin=b'', checked=1, changes=1, prefix=()):
    """As without mmn; and figures that are worth something.

    How much is checked in a time is a matter of the machine's load: where
    one run checks too little, the figures of some more are added.
    """
    seen = {'checked': 0, 'changes': 0}
    for _ in range(5):
        result = same_once(command, options, stdin, prefix)
        seen['checked'] += result.json['checked']
        seen['changes'] += result.json['changes']['total']
        if seen['checked'] >= checked and seen['changes'] >= changes:
            return result
    raise AssertionError(f'{seen} after five runs, {checked} and {changes} '
                         f'wanted: {result.stderr.decode()}')


# --- real programs ---------------------------------------------------------

@test
def python_with_threads_fork_and_subprocesses():
    result = same([PYTHON, HERE + '/busy.py'], checked=200, changes=200)
    expect(result.json['forked_copies'] >= 1, 'fork')
    expect(result.json['processes_followed'] >= 2, 'subprocess')


@test
def python_on_the_software_device():
    result = same([PYTHON, HERE + '/busy.py'], '--device', 'soft', checked=100,
                  changes=200)
    expect(result.json['processes'][0]['device'] == 'soft', 'device')


@test
def what_the_mirror_itself_works_with_is_not_mirrored():
    result = mmn([program('odd'), 'change-arena'], '--device', 'soft')
    report = result.json
    expect(result.returncode == 0, 'exit status', result.returncode,
           result.stderr.decode())
    expect(report['changes']['mprotect'] >= 400, report['changes'])
    expect(report['checked'] > 0, 'nothing was mirrored')
    expect(report['changes_hit'] < 40, report['changes_hit'])


@test
def a_compilation_with_gcc():
    source = os.path.join(HERE, 'churn-maps.c')
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, 'out')
        result = same(['gcc', '-O2', '-D_GNU_SOURCE', source, '-o', out],
                      checked=20, changes=10)
        expect(bare([out, '1']).stdout == b'whole\n', 'the compiled program')
    names = {p['name'] for p in result.json['processes']}
    expect({'cc1', 'as', 'ld'} <= names or len(names) >= 4, names)


@test
def perl_with_big_strings_and_a_pipe():
    same(['perl', '-e', '''
        for my $i (1..150) { my @a = map { "x" x 300000 } 1..6; $s += @a; }
        print `echo from a shell`, $s, "\\n"; exit 5'''], checked=50)


@test
def sqlite_with_a_big_table():
    if not shutil.which('sqlite3'):
        raise Skip('no sqlite3')
    sql = b'''create table t(a, b);
        with recursive n(i) as (select 1 union all select i+1 from n
        where i < 60000) insert into t select i, hex(randomblob(40)) from n;
        create index x on t(b); select count(*), count(distinct b) from t;'''
    same(['sqlite3', ':memory:'], stdin=sql, checked=50)


@test
def a_shell_that_forks_all_the_time():
    result = same(['bash', '-c', 'for i in $(seq 60); do /bin/true; done; '
                   'echo $i'], checked=50, changes=100)
    expect(result.json['forked_copies'] >= 60, result.json['forked_copies'])


@test
def threads_that_malloc():
    same([program('churn-malloc')], checked=100, changes=50)


@test
def every_kind_of_change():
    result = same([program('churn-maps'), '400'], checked=60, changes=60)
    changes = result.json['changes']
    for kind in ('munmap', 'mmap-fixed', 'mremap', 'madvise', 'mprotect',
                 'brk'):
        expect(changes.get(kind, 0) > 0, kind, changes)
    expect(result.json['changes_hit'] > 0, 'no change met the mirror')
    expect(result.json['playground_checked'] > 0, 'no device write checked')


# --- the program is left in peace ------------------------------------------

@test
def the_exit_status_is_the_programs():
    for status in (0, 1, 42, 255):
        expect(mmn(['sh', '-c', f'exit {status}']).returncode == status, status)


@test
def death_by_a_signal_is_reproduced():
    for name in ('TERM', 'KILL', 'SEGV', 'INT'):
        result = mmn(['sh', '-c', f'kill -{name} $$'])
        want = -getattr(signal, 'SIG' + name)
        expect(result.returncode == want, name, result.returncode)
        expect(result.json['signal'] == -want, result.json['signal'])
    same([program('odd'), 'abort'], checked=0, changes=0)


@test
def input_and_pipes_pass_through():
    data = os.urandom(300000)
    expect(mmn(['cat'], stdin=data).stdout == data, 'cat')
    result = subprocess.run(f'{MMN} run -- yes 2>/dev/null | head -1',
                            shell=True, capture_output=True,
                            timeout=30 * SCALE, env=clean_env())
    expect(result.stdout == b'y\n', result.stdout)


@test
def the_reader_of_a_pipe_sees_its_end_when_the_program_closes_it():
    process = subprocess.Popen(
        [MMN, 'run', '--', 'sh', '-c', 'exec 1>&-; sleep 3'],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=clean_env())
    begin = time.monotonic()
    process.stdout.read()
    took = time.monotonic() - begin
    process.wait()
    expect(took < 2.5, 'end of file after', took)


@test
def no_descriptor_is_added():
    same([program('odd'), 'descriptors'], checked=0, changes=0)


@test
def a_program_may_close_every_descriptor():
    same([program('odd'), 'close-all'], checked=10)


@test
def a_program_may_block_every_signal():
    same([program('odd'), 'block-all'], checked=10)


@test
def a_program_may_forbid_itself_system_calls():
    result = same([program('odd'), 'sandbox'], checked=10)
    expect('filter' in result.json['processes'][0]['reason'],
           result.json['processes'][0])


@test
def children_of_every_kind_run():
    same([program('odd'), 'spawn'], checked=10)


@test
def a_child_may_outlive_its_parent():
    same([program('odd'), 'daemon'], checked=10)


@test
def a_program_may_change_its_user():
    for options in ([], ['--device', 'soft']):
        same([program('odd'), 'user'], *options, checked=0, changes=0)


@test
def a_program_may_limit_itself():
    same([program('odd'), 'limits'], checked=10)


@test
def a_process_ends_with_its_last_thread():
    for options in ([], ['--device', 'soft'], ['--seconds', '0']):
        same([program('odd'), 'leave-main'], *options, checked=0)


@test
def a_quick_end_is_quick():
    begin = time.monotonic()
    expect(mmn([program('odd'), 'exit-busy']).returncode == 9, 'status')
    expect(time.monotonic() - begin < 10, 'slow')


@test
def a_program_that_is_executed_by_another_is_followed():
    result = same(['sh', '-c', f'exec {program("churn-maps")} 100'],
                  checked=10)
    names = [p['name'] for p in result.json['processes']]
    expect('churn-maps' in names, names)


@test
def signals_to_mmn_reach_the_program():
    process = subprocess.Popen(
        [MMN, 'run', '--', 'sh', '-c',
         'trap "echo caught; exit 7" TERM; echo ready; '
         'while :; do sleep 0.1; done'],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=clean_env())
    expect(process.stdout.readline() == b'ready\n', 'start')
    process.send_signal(signal.SIGTERM)
    out = process.communicate(timeout=20 * SCALE)[0]
    expect(out == b'caught\n', out)
    expect(process.returncode == 7, process.returncode)


@test
def an_existing_preload_stays():
    env = clean_env()
    env['LD_PRELOAD'] = 'libm.so.6'
    result = mmn(['sh', '-c', 'echo $LD_PRELOAD'], env=env)
    expect(result.stdout.endswith(b'libmmn-run.so:libm.so.6\n'), result.stdout)


@test
def nothing_is_left_behind():
    before = {n for n in os.listdir('/dev/shm') if n.startswith('mmn-run-')}
    mmn(['true'])
    after = {n for n in os.listdir('/dev/shm') if n.startswith('mmn-run-')}
    # Others may be running: what was made by this run must be gone.
    expect(len(after - before) <= 1, after - before)


# --- the checker finds what is broken --------------------------------------

def broken(what, *options):
    for milliseconds in (500, 2000, 6000):
        result = mmn([program('churn-maps'), str(milliseconds)], '--break',
                     what, *options)
        expect(result.stdout == b'whole\n', 'the program suffered')
        if result.json['stale']:
            break
    expect(result.json['stale'] > 0, 'not found', result.stderr.decode())
    expect(result.returncode == 3, 'exit status', result.returncode)
    expect(result.json['break'] == what, result.json['break'])
    expect(result.json['first_stale'].startswith('page 0x'),
           result.json['first_stale'])


@test
def a_retry_that_is_not_checked_is_found():
    broken('no-retry')


@test
def a_sequence_that_is_not_set_is_found():
    broken('no-seq')


@test
def events_that_are_dropped_are_found():
    broken('drop-events')


@test
def an_end_before_the_change_is_found():
    broken('end-early')


# --- bad input -------------------------------------------------------------

BAD = [
    (['run'], 2, 'which program'),
    (['run', '--'], 2, 'which program'),
    ([], 2, 'usage'),
    (['walk'], 2, 'no such subcommand'),
    (['run', '--frobnicate', '--', 'true'], 2, 'no such option'),
    (['run', '--device'], 2, 'needs a value'),
    (['run', '--device', 'gpu', '--', 'true'], 2, 'uring and soft'),
    (['run', '--budget', 'much', '--', 'true'], 2, 'not a number of bytes'),
    (['run', '--budget', '-1', '--', 'true'], 2, 'not a number of bytes'),
    (['run', '--budget', '4X', '--', 'true'], 2, 'not a number of bytes'),
    (['run', '--budget', '99999999999999999999', '--', 'true'], 2, 'bytes'),
    (['run', '--budget', '1', '--', 'true'], 2, 'must be from'),
    (['run', '--seconds', 'soon', '--', 'true'], 2, 'not a number of seconds'),
    (['run', '--seconds', '-1', '--', 'true'], 2, 'not a number of seconds'),
    (['run', '--seconds', 'nan', '--', 'true'], 2, 'not a number of seconds'),
    (['run', '--break', 'everything', '--', 'true'], 2,
     'no-retry, no-seq, drop-events, end-early'),
    (['run', '--json', '/nonexistent/x', '--', 'true'], 2, '--json'),
    (['run', '--', '/nonexistent/program'], 127, 'no such program'),
    (['run', '--', 'no-such-program-anywhere'], 127, 'no such program'),
    (['run', '--', ''], 127, 'no such program'),
    (['run', '--', '/'], 126, 'directory'),
    (['run', '--', '/etc/passwd'], 126, 'denied'),
]


@test
def bad_input_is_answered_before_anything_starts():
    for args, status, text in BAD:
        result = subprocess.run([MMN, *args], capture_output=True, text=True,
                                timeout=20 * SCALE, stdin=subprocess.DEVNULL)
        expect(result.returncode == status, args, result.returncode,
               result.stderr)
        expect(text in result.stderr, args, result.stderr)
        expect(result.stdout == '', args, result.stdout)


@test
def programs_that_cannot_be_followed_are_refused():
    with tempfile.TemporaryDirectory() as folder:
        def refused(name, content, text, status=126):
            path = os.path.join(folder, name)
            if content is not None:
                with open(path, 'wb') as file:
                    file.write(content)
                os.chmod(path, 0o755)
            result = mmn([path])
            expect(result.returncode == status, name, result.returncode)
            expect(text in result.stderr.decode(), name, result.stderr)

        with open('/bin/true', 'rb') as file:
            elf = bytearray(file.read())
        other = bytearray(elf)
        other[18] = 183 if elf[18] != 183 else 62
        refused('other', other, 'another machine')
        small = bytearray(elf)
        small[4] = 1
        refused('small', small, 'another machine')
        refused('text', b'hello', 'neither an ELF program')
        refused('cut', bytes(elf[:70]), 'broken ELF')
        refused('script', b'#!/nonexistent/sh\n', 'interpreter', 127)
        refused('empty', b'#! \n', 'no interpreter')
        source = os.path.join(folder, 'x.c')
        with open(source, 'w') as file:
            file.write('int main(void) { return 0; }\n')
        out = os.path.join(folder, 'static')
        if not subprocess.run(['gcc', '-static', source, '-o', out],
                              capture_output=True).returncode:
            refused('static', None, 'statically linked')
            loop = b'#!' + out.encode() + b'\n'
            refused('of-static', loop, 'statically linked')


@test
def set_user_id_programs_are_refused():
    if os.geteuid():
        raise Skip('needs root to make one')
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'true')
        shutil.copy('/bin/true', path)
        os.chown(path, 65534, 65534)
        os.chmod(path, 0o4755)
        result = mmn([path])
        expect(result.returncode == 126, result.returncode)
        expect('gains privileges' in result.stderr.decode(), result.stderr)


@test
def help_and_version_are_there():
    for args in (['help'], ['help', 'run'], ['run', '--help'], ['version']):
        result = subprocess.run([MMN, *args], capture_output=True, text=True)
        expect(result.returncode == 0 and 'mmn' in result.stdout, args)


# --- other conditions ------------------------------------------------------

@test
def without_privileges_contents_are_compared():
    if os.geteuid() or not shutil.which('setpriv'):
        raise Skip('needs root and setpriv')
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        files = ['src/cmd/mmn', 'src/cmd/libmmn-run.so',
                 'src/cmd/libmmn-torture.so', 'src/libmmn.so.0',
                 'src/adapt/libmmn-uring.so.0', 'tests/program/churn-maps']
        for name in files:
            if os.path.exists(os.path.join(BUILD, name)):
                shutil.copy(os.path.join(BUILD, name), folder)
        env = clean_env()
        env['LD_LIBRARY_PATH'] = folder
        report = os.path.join(folder, 'report')
        open(report, 'w').close()
        os.chmod(report, 0o666)
        result = subprocess.run(
            ['setpriv', '--reuid', '65534', '--regid', '65534',
             '--clear-groups', '--inh-caps=-all', folder + '/mmn', 'run',
             '--json', report, '--', folder + '/churn-maps', '400'],
            capture_output=True, timeout=30 * SCALE, env=env)
        expect(result.returncode == 0, result.returncode, result.stderr)
        with open(report) as file:
            figures = json.load(file)
    expect(figures['checked'] > 20, figures['checked'], result.stderr.decode())
    expect(figures['checked_by_contents'] == figures['checked'],
           figures['checked_by_contents'])
    expect(figures['stale'] == 0, figures['first_stale'])
    expect(figures['pinned_peak_bytes'] <= 4 << 20,
           figures['pinned_peak_bytes'])


@test
def without_io_uring_the_device_is_in_software():
    result = same([program('churn-maps'), '300'], checked=10,
                  prefix=[program('odd'), 'no-uring'])
    process = result.json['processes'][0]
    expect(process['device'] == 'soft', process['device'])
    expect('io_uring is refused' in process['remark'], process['remark'])


@test
def checking_can_end_before_the_program():
    result = same([program('churn-maps'), '300'], '--seconds', '0', checked=0)
    process = result.json['processes'][0]
    expect(process['state'] == 'counted', process)
    expect(result.json['changes']['total'] > 50, result.json['changes'])


@test
def the_budget_is_kept():
    result = same([program('churn-malloc')], '--budget', '512K', checked=10)
    expect(0 < result.json['pinned_peak_bytes'] <= 512 << 10,
           result.json['pinned_peak_bytes'])


@test
def the_two_reports_agree():
    result = same([program('churn-maps'), '200'])
    text = result.stderr.decode()
    report = result.json

    def line(name):
        for candidate in text.splitlines():
            if candidate.strip().startswith(name):
                return candidate
        raise AssertionError('no line ' + name + '\n' + text)

    for name, key in (('accesses checked', 'checked'),
                      ('STALE ACCESSES', 'stale'), ('transfers', 'transfers'),
                      ('met the mirror', 'changes_hit'),
                      ('collisions retried', 'collisions')):
        expect(f' {report[key]:,}' in line(name), line(name), report[key])
    expect(f' {report["changes"]["total"]:,}' in line('changes seen'), 'total')
    kinds = {k: v for k, v in report['changes'].items() if k != 'total'}
    expect(sum(kinds.values()) == report['changes']['total'], kinds)
    total = sum(p['checked'] for p in report['processes'])
    expect(total == report['checked'], total)
    expect(report['latency_median_ns'] <= report['latency_p99_ns'] <=
           report['latency_max_ns'], 'latencies')
    expect(report['slow_down'] >= 1, report['slow_down'])
    expect(report['exit_status'] == 0 and report['signal'] is None, 'status')


def main():
    patterns = sys.argv[2:] or ['*']
    chosen = [(n, f) for n, f in tests
              if any(fnmatch.fnmatch(n, p) for p in patterns)]
    print(f'1..{len(chosen)}', flush=True)
    failed = 0
    for number, (name, function) in enumerate(chosen, 1):
        try:
            function()
            print(f'ok {number} - {name}', flush=True)
        except Skip as why:
            print(f'ok {number} - {name} # SKIP {why}', flush=True)
        except (AssertionError, subprocess.TimeoutExpired, KeyError,
                OSError) as error:
            failed += 1
            print(f'not ok {number} - {name}')
            for text in f'{type(error).__name__}: {error}'.splitlines():
                print(f'# {text}', flush=True)
    return 1 if failed else 0


sys.exit(main())
