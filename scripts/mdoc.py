# SPDX-License-Identifier: MIT
"""What the checkers know about mdoc: sections, prototypes, references.

In mdoc a prototype is data:

    .Ft int                     .Ft "struct x *"
    .Fo name                    .Fn name "int a" "int b"
    .Fa "struct x *x"
    .Fc
"""
import collections
import re
import shlex

Function = collections.namedtuple('Function', 'line type name arguments')


def words(text):
    """The arguments of a macro line; quotes group."""
    return shlex.split(text.replace("'", "\\'").replace('\\&', ''),
                       posix=True)


class Page:
    """One manual page."""

    def __init__(self, path, root):
        self.path = path
        self.name = path.relative_to(root).as_posix()
        self.lines = path.read_text(encoding='utf-8').splitlines()

    def macros(self, *wanted):
        """(line number, section, macro, arguments) of each macro line."""
        section = ''
        for number, line in enumerate(self.lines, 1):
            m = re.match(r"[.']\s*(\w\w)(?:\s+(.*))?$", line)
            if not m:
                continue
            arguments = words(m[2] or '')
            if m[1] == 'Sh':
                section = ' '.join(arguments)
            if not wanted or m[1] in wanted:
                yield number, section, m[1], arguments

    def sections(self):
        return [' '.join(args) for _, _, _, args in self.macros('Sh')]

    def headers(self):
        return [args[0] for _, section, _, args in self.macros('In')
                if section == 'SYNOPSIS']

    def functions(self):
        """The prototypes of the SYNOPSIS."""
        kind, opened = '', None
        for number, section, macro, args in self.macros('Ft', 'Fn', 'Fo', 'Fa',
                                                        'Fc'):
            if section != 'SYNOPSIS':
                continue
            if macro == 'Ft':
                kind = ' '.join(args)
            elif macro == 'Fn':
                yield Function(number, kind, args[0], args[1:])
            elif macro == 'Fo':
                opened = Function(number, kind, args[0], [])
            elif macro == 'Fa' and opened:
                opened.arguments.extend(args)
            elif macro == 'Fc' and opened:
                yield opened
                opened = None

    def references(self):
        """(line number, name, section) of each .Xr."""
        for number, _, _, args in self.macros('Xr'):
            if len(args) >= 2:
                yield number, args[0], args[1]


def pages(root):
    return [Page(path, root) for path in sorted((root / 'man').glob('*.[137]'))]
