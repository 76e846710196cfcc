#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Test the checkers: seed one fault at a time and see that it is found.

A small healthy tree is written to a temporary folder.  Every checker must be
content with it.  Then one file is changed and the checker must fail with the
code of the rule that was broken.

usage: check-checkers.py SCRIPTS_FOLDER
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

MIT = '/* SPDX-License-Identifier: MIT */\n'

TREE = {
    'src/base/atomic.h': MIT + '''#ifndef A_H
#define A_H
#define mmn_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define mmn_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define mmn_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define mmn_smp_mb() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#endif
''',
    'src/base/flag.h': MIT + '''#ifndef FLAG_H
#define FLAG_H
#include "base/atomic.h"

/*
 * pair(flag): release, with the acquire in flag_get().  Without it the reader
 * sees the flag before the data.
 */
#define flag_set(p) \\
	mmn_store_release((p), 1)

static inline int flag_get(const int *p)
{
	/*
	 * pair(flag): acquire, with the release in flag_set().  Without it the
	 * data may be read first.
	 */
	if (!mmn_load_acquire(p))
		return 0;
	/* relaxed: a hint */
	return mmn_load_relaxed(p);
}

static inline void flag_fence(void)
{
	/*
	 * pair(fence, external): the stores, before the loads of the kernel.
	 * Without it a page is lost.
	 */
	mmn_smp_mb();
}
#endif
''',
    'src/tree/tree.c': MIT + '#include "base/flag.h"\n#include <mmn/a.h>\n',
    'src/cmd/main.c': MIT + '#include <mmn/a.h>\n#include "main.h"\n',
    'src/cmd/main.h': MIT,
    'src/cmd/part/part.c': MIT + '#include "../main.h"\n',
    'src/libmmn.map': 'LIBMMN_0.1 {\nglobal:\n\tmmn_a;\nlocal:\n\t*;\n};\n',
    'src/base/a.c': MIT + '''#include <mmn/a.h>
int mmn_a(const char *name, int (*call)(void *))
{
	return name && call ? 0 : -1;
}
''',
    'include/mmn/a.h': MIT + '''#ifndef MMN_A_H
#define MMN_A_H
#include <stddef.h>
/* Return: -ENOENT */
#ifdef __cplusplus
extern "C" {
#endif
#define MMN_PUBLIC __attribute__((visibility("default")))
struct mmn_x {
	unsigned int size;
	/* private: */
	long a[2];
	int (*call)(void *);
};
MMN_PUBLIC int mmn_a(const char *name,
		     int (*call)(void *));
#ifdef __cplusplus
}
#endif
#endif
''',
    'doc/abi/layout.txt': '''\
# sizes and offsets in bytes, 64-bit; `make abi` writes this file
mmn_x 32
\tsize 0
\ta 8
\tcall 24
''',
    'doc/KERNEL-MAP.md': '''\
<!-- SPDX-License-Identifier: MIT -->
# A

| Linux | libmmn | what differs | why that is safe |
|---|---|---|---|
| `a` | `mmn_a` | none | |
| `struct mmn_x` | the same | none | |
''',
    'man/mmn_a.3': r'''.\" SPDX-License-Identifier: MIT
.Dd November 21, 2026
.Dt MMN_A 3
.Os
.Sh NAME
.Nm mmn_a
.Nd do something
.Sh SYNOPSIS
.In mmn/a.h
.Ft int
.Fo mmn_a
.Fa "const char *name"
.Fa "int (*call)(void *)"
.Fc
.Sh DESCRIPTION
Does it.
.Sh RETURN VALUES
0.
.Sh ERRORS
None.
.Sh SEE ALSO
.Xr mmn_a 3
''',
    'man/meson.build': "# SPDX-License-Identifier: MIT\n"
                       "install_man('mmn_a.3')\n",
    'tests/unit/tree-order-test.c': MIT + 'TEST(order)\n{\n}\n',
    'src/ladder/gallery/flag.c': MIT + '''const struct flag a = {
	.name = "flag-raised",
};
''',
    'tests/ladder/twins.tsv':
        'flag\tacquire\tflag_get\tladder\tflag-raised\tdata race: data\n'
        'flag\trelease\tflag_set\tgenmc\tflag: flag_set(): relaxed\t'
        'data race: data\n',
    'model/flag.c': MIT,
    'model/run.py': "change = ('flag_set(): relaxed', '')\n",
}

# checker, expected code, what to change: file, old, new.  None for old: append;
# for a file that is not there: create.
FAULTS = [
    ('pairs', 'P1', 'src/base/flag.h', 'mmn_store_release((p), 1)',
     '__atomic_store_n((p), 1, __ATOMIC_RELEASE)'),
    ('pairs', 'P1', 'src/tree/tree.c', None, '#include <stdatomic.h>\n'),
    ('pairs', 'P1', 'src/cmd/main.c', None, '#include <stdatomic.h>\n'),
    ('pairs', 'P2', 'src/base/flag.h', 'pair(flag): acquire', 'Acquire'),
    ('pairs', 'P2', 'src/tree/tree.c', None, '''static int f(int *a, int *b)
{
	/* pair(flag): acquire, with flag_set().  Without it all is lost. */
	int x = mmn_load_acquire(a);

	return x + mmn_load_acquire(b);
}
'''),
    ('pairs', 'P3', 'src/base/flag.h', 'pair(flag): acquire',
     'pair(flag): release'),
    ('pairs', 'P3', 'src/base/flag.h', 'mmn_store_release((p), 1)',
     'mmn_load_acquire(p)'),
    ('pairs', 'P4', 'src/base/flag.h', 'Without it the\n\t * data may',
     'The\n\t * data may not'),
    ('pairs', 'P5', 'src/base/flag.h', 'pair(flag): acquire',
     'pair(glag): acquire'),
    ('pairs', 'P6', 'src/base/flag.h', 'in flag_set()', 'in flag_sat()'),
    ('pairs', 'P6', 'src/base/flag.h', 'the acquire in flag_get()',
     'somebody'),
    ('pairs', 'P7', 'src/tree/tree.c', None,
     '/* pair(flag): acquire, with flag_set().  Without it nothing. */\n'
     'int x;\n'),
    ('pairs', 'P7', 'src/base/flag.h', 'mmn_load_acquire(p)',
     'mmn_load_relaxed(p)'),
    ('pairs', 'P8', 'src/base/flag.h', '/* relaxed: a hint */', ''),
    ('pairs', 'P9', 'doc/ORDERING.md', None, '# Memory ordering\n'),
    ('pairs', 'P10', 'tests/ladder/twins.tsv', 'flag\tacquire', '#'),
    ('pairs', 'P10', 'tests/ladder/twins.tsv',
     'flag\trelease\tflag_set', '#'),
    ('pairs', 'P10', 'tests/ladder/twins.tsv', 'flag_get', 'flag_get.1'),
    ('pairs', 'P11', 'tests/ladder/twins.tsv', '\tdata race: data\n', '\n'),
    ('pairs', 'P11', 'tests/ladder/twins.tsv', 'flag\trelease', 'glag\trelease'),
    ('pairs', 'P11', 'tests/ladder/twins.tsv', 'flag_get', 'flag_got'),
    ('pairs', 'P11', 'tests/ladder/twins.tsv', 'flag\tacquire\tflag_get',
     'flag\trelease\tflag_get'),
    ('pairs', 'P11', 'src/base/flag.h', 'pair(flag): acquire, with',
     'pair(flag): release, with'),
    ('pairs', 'P12', 'tests/ladder/twins.tsv', 'flag-raised', 'flag-lowered'),
    ('pairs', 'P12', 'tests/ladder/twins.tsv', 'flag: flag_set()', 'flag: odd()'),
    ('pairs', 'P12', 'tests/ladder/twins.tsv', 'genmc', 'nobody'),
    ('pairs', 'P12', 'tests/ladder/twins.tsv', 'data race:', 'trouble:'),
    ('pairs', 'P13', 'src/base/atomic.h', '__ATOMIC_ACQUIRE)',
     '__ATOMIC_ACQ_REL)'),
    ('layers', 'L1', 'src/base/flag.h', '#include "base/atomic.h"',
     '#include "tree/tree.h"'),
    ('layers', 'L1', 'src/fence/f.c', None, '#include "notifier/n.h"\n'),
    ('layers', 'L1', 'src/odd/x.c', None, ''),
    ('layers', 'L2', 'src/cmd/main.c', None, '#include "base/flag.h"\n'),
    ('layers', 'L2', 'src/cmd/main.c', None, '#include "../base/flag.h"\n'),
    ('layers', 'L6', 'src/cmd/main.c', None, '#include "none.h"\n'),
    ('layers', 'L3', 'include/mmn/a.h', '#include <stddef.h>',
     '#include <pthread.h>'),
    ('layers', 'L3', 'include/mmn/a.h', '#include <stddef.h>',
     '#include "a.h"'),
    ('layers', 'L4', 'src/tree/tree.c', None, '#include "tree.h"\n'),
    ('layers', 'L5', 'src/tree/tree.c', None, '#include <urcu/urcu-memb.h>\n'),
    ('layers', 'L6', 'src/tree/tree.c', None, '#include <mmn/none.h>\n'),
    ('layers', 'L7', 'include/mmn/mmn.h', None, MIT),
    ('exports', 'E1', 'src/base/a.c', None,
     'MMN_PUBLIC int mmn_b;\nint mmn_b;\n'),
    ('exports', 'E1', 'src/base/a.c', 'int mmn_a(',
     '__attribute__((visibility("hidden"))) int other(const char *name,\n'
     'int (*call)(void *));\nint other('),
    ('exports', 'E2', 'include/mmn/a.h', 'MMN_PUBLIC int', 'int'),
    ('exports', 'E2', 'src/libmmn.map', 'mmn_a;', 'mmn_a;\n\tmmn_b;'),
    ('exports', 'E3', 'src/libmmn.map', 'mmn_a;', 'mmn_a;\n\tmmn_a;'),
    ('exports', 'E4', 'man/mmn_a.3', '.Fo mmn_a', '.Fo mmn_b'),
    ('man', 'M1', 'man/mmn_a.3', '.Sh NAME', '.Sh NAME\n.Bogus'),
    ('man', 'M2', 'man/mmn_a.3', 'const char *name', 'char *name'),
    ('man', 'M2', 'man/mmn_a.3', '(*call)(void *)', '(*call)(int)'),
    ('man', 'M2', 'man/mmn_a.3', '.Ft int', '.Ft void'),
    ('man', 'M2', 'man/mmn_a.3', '.Fo mmn_a', '.Fo mmn_b'),
    ('man', 'M3', 'man/mmn_a.3', '.Sh ERRORS', '.Sh NOTES'),
    ('man', 'M4', 'man/mmn_a.3', '.Xr mmn_a 3', '.Xr mmn_z 3'),
    ('man', 'M5', 'man/mmn_a.3', 'SPDX', 'spdx'),
    ('man', 'M6', 'man/meson.build', 'mmn_a.3', 'mmn_b.3'),
    ('kernel-map', 'K1', 'doc/KERNEL-MAP.md', '`mmn_a`', '`mmn_b`'),
    ('kernel-map', 'K1', 'doc/KERNEL-MAP.md', '`struct mmn_x`', '`mmn_y`'),
    ('kernel-map', 'K1', 'include/mmn/a.h', 'mmn_a(', 'mmn_c('),
    ('kernel-map', 'K2', 'include/mmn/a.h', '#include <stddef.h>',
     'MMN_PUBLIC int mmu_b(void);'),
    ('kernel-map', 'K2', 'include/mmn/a.h', '#include <stddef.h>',
     '#define dma_resv_b(x) (x)'),
    ('kernel-map', 'K2', 'include/mmn/a.h', '#include <stddef.h>',
     'static inline int ww_mutex_b(void)\n{\n\treturn 0;\n}'),
    ('kernel-map', 'K3', 'doc/KERNEL-MAP.md', ' | none | |\n| `str',
     ' | none |\n| `str'),
    ('kernel-map', 'K3', 'doc/KERNEL-MAP.md', 'the same | none | |',
     'the same | it is faster | |'),
    ('kernel-map', 'K3', 'doc/KERNEL-MAP.md', 'the same | none | |',
     'the same | | |'),
    ('kernel-map', 'K4', 'doc/KERNEL-MAP.md', '`a` |', '`a`, `mmn_x` |'),
    ('style', 'S1', 'src/tree/tree.c', 'SPDX', 'spdx'),
    ('style', 'S2', 'src/tree/tree.c', None, '        int x;\n'),
    ('style', 'S3', 'src/tree/tree.c', None, 'int x; \n'),
    ('style', 'S3', 'src/tree/tree.c', None, 'int x;\r\n'),
    ('style', 'S3', 'src/tree/tree.c', None, 'int x;\n\n'),
    ('style', 'S3', 'src/tree/tree.c', None, 'int x;'),
    ('style', 'S4', 'src/tree/tree.c', None, '/* TO' 'DO: all */\n'),
    ('style', 'S4', 'man/mmn_a.3', 'Does it', 'Enough for' ' now'),
    ('style', 'S5', 'include/mmn/a.h', '#include <stddef.h>',
     'struct x {\n\t_Atomic int y;\n};'),
    ('style', 'S5', 'include/mmn/a.h', '#include <stddef.h>',
     'struct x {\n\tunsigned y : 3;\n};'),
    ('style', 'S6', 'src/tree/tree.c', None, '/* ' + 'x' * 100 + ' */\n'),
    ('style', 'S7', 'tests/unit/issue.c', None, MIT + 'TEST(x)\n{\n}\n'),
    ('style', 'S8', 'doc/ERRORS.md', None, '`-EINVAL`\n'),
    ('abi', 'A1', 'include/mmn/a.h', 'long a[2]', 'long a[3]'),
    ('abi', 'A1', 'include/mmn/a.h', 'unsigned int size;\n', ''),
    ('abi', 'A1', 'include/mmn/a.h', 'struct mmn_x {',
     'struct mmn_y {\n\tint a;\n};\nstruct mmn_x {'),
    ('headers', 'H1', 'include/mmn/a.h', '#include <stddef.h>',
     'struct x {\n\tuint32_t size;\n};'),
    ('headers', 'H1', 'include/mmn/a.h', '#ifndef MMN_A_H',
     'enum { TWICE };\n#ifndef MMN_A_H'),
    ('headers', 'H2', 'include/mmn/a.h', '#include <stddef.h>',
     'struct x {\n\tint class;\n};'),
    ('headers', 'H3', 'src/base/flag.h', '#include "base/atomic.h"', ''),
]

OK = {'name': 'a', 'result': 'OK', 'stdout': '1..2\nok 1 - x\nok 2 - y\n'}
# What meson logged, and the closing line and exit status that must follow.
LOGS = [
    ('passed TAP counts each test', [OK], '2 passed, 0 failed, 0 skipped', 0),
    ('a plain test counts one', [{'name': 'a', 'result': 'OK', 'stdout': 'hi'}],
     '1 passed, 0 failed, 0 skipped', 0),
    ('skips are counted apart',
     [OK, {'name': 'b', 'result': 'OK',
           'stdout': '1..2\nok 1 - x # SKIP no\nok 2 - y\n'}],
     '3 passed, 0 failed, 1 skipped', 0),
    ('a test that is skipped whole', [OK, {'name': 'b', 'result': 'SKIP'}],
     '2 passed, 0 failed, 1 skipped', 0),
    ('a failure within TAP',
     [{'name': 'a', 'result': 'FAIL',
       'stdout': '1..2\nok 1 - x\nnot ok 2 - y\n'}],
     '1 passed, 1 failed, 0 skipped', 1),
    ('an aborted TAP test, all of whose lines were good',
     [dict(OK, result='ERROR')], '2 passed, 1 failed, 0 skipped', 1),
    ('a timeout', [OK, {'name': 'b', 'result': 'TIMEOUT', 'stdout': ''}],
     '2 passed, 1 failed, 0 skipped', 1),
    ('an unexpected pass', [OK, {'name': 'b', 'result': 'UNEXPECTEDPASS'}],
     '2 passed, 1 failed, 0 skipped', 1),
    ('a log in which nothing passed', [{'name': 'b', 'result': 'SKIP'}],
     '0 passed, 1 failed, 1 skipped', 1),
    ('an empty log', [], '0 passed, 1 failed, 0 skipped', 1),
    ('a missing log', None, '0 passed, 1 failed, 0 skipped', 1),
    ('a test that must fail and does counts as passed',
     [{'name': 'a', 'result': 'EXPECTEDFAIL', 'stdout': '1..1\nnot ok 1\n'}],
     '1 passed, 0 failed, 0 skipped', 0),
    ('a test that must fail and does not counts as failed',
     [{'name': 'a', 'result': 'UNEXPECTEDPASS', 'stdout': '1..2\nok 1\nok 2\n'}],
     '2 passed, 1 failed, 0 skipped', 1),
]

results = []


def expect(good, text, log):
    results.append((good, text, log))


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def plant(root, fault=None):
    """Write the healthy tree, or the tree with one fault."""
    shutil.rmtree(root, ignore_errors=True)
    tree = dict(TREE)
    if fault:
        _, _, name, old, new = fault
        text = tree.get(name, MIT if name.endswith('.c') else '')
        if old is None:
            text = text + new
        else:
            assert old in text, (name, old)
            text = text.replace(old, new)
        tree[name] = text
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())


def command(scripts, checker, root):
    args = [scripts / f'check-{checker}.py', '--root', root]
    if checker == 'exports':
        lib = root / 'libmmn.so'
        # The faults are about names; the map would hide what it does not name.
        code, log = run(['cc', '-shared', '-fPIC', '-I', root / 'include',
                         '-fvisibility=hidden', '-o', lib, root / 'src/base/a.c'])
        assert code == 0, log
        args += [lib]
    if checker == 'headers':
        args += ['--build', root]
    return args


def check_faults(scripts, root):
    for checker in dict.fromkeys(fault[0] for fault in FAULTS):
        plant(root)
        code, log = run(command(scripts, checker, root))
        expect(code == 0, f'check-{checker} is content with a healthy tree',
               log)
    for number, fault in enumerate(FAULTS):
        checker, rule = fault[:2]
        plant(root, fault)
        code, log = run(command(scripts, checker, root))
        expect(code == 1 and f'{rule}:' in log,
               f'check-{checker} finds fault {number} of rule {rule} in '
               f'{fault[2]}', log)


def check_summary(scripts, root):
    log_file = root / 'testlog.json'
    for text, tests, line, status in LOGS:
        log_file.unlink(missing_ok=True)
        if tests is not None:
            log_file.write_text(''.join(json.dumps(t) + '\n' for t in tests))
        code, log = run([scripts / 'test-summary.py', log_file])
        expect(code == status and log.splitlines()[-1] == line,
               f'test-summary: {text}', log)


def main():
    scripts = pathlib.Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        check_faults(scripts, pathlib.Path(folder) / 'tree')
        check_summary(scripts, pathlib.Path(folder))
    print(f'1..{len(results)}')
    for number, (good, text, log) in enumerate(results, 1):
        print(f'{"" if good else "not "}ok {number} - {text}')
        if not good:
            print(*(f'#\t{line}' for line in log.splitlines()), sep='\n')
    return not all(good for good, _, _ in results)


sys.exit(main())
