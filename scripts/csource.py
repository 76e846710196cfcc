# SPDX-License-Identifier: MIT
"""What the checkers know about C: comments, strings, functions, includes.

Not a parser.  A file is cut into code and comments once, with every character
staying at its place, so that positions and line numbers agree.
"""
import bisect
import pathlib
import re
import sys

PIECE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'
                   r"'(?:\\.|[^'\\\n])*'", re.S)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">\n]+)[">]', re.M)
# A definition at the left margin: name, parameters, and the brace that follows.
FUNCTION = re.compile(r'^[A-Za-z_][^;{}#=]*?\b(\w+)\s*\([^;{}]*\)[^;{}()=]*\{',
                      re.M)
DIRECTIVE = re.compile(r'^[ \t]*#(?:[^\n\\]|\\.|\\\n)*', re.M)
DEFINE = re.compile(r'^#[ \t]*define[ \t]+(\w+)', re.M)


class Comment:
    """One comment; start and end are offsets, text has no decoration."""

    def __init__(self, start, end, raw):
        self.start, self.end = start, end
        lines = raw.removeprefix('/*').removesuffix('*/').splitlines()
        self.text = ' '.join(line.strip().removeprefix('*').strip()
                             for line in lines)


class Source:
    """One C file."""

    def __init__(self, path, root):
        self.path = path
        self.name = path.relative_to(root).as_posix()
        self.text = path.read_text(encoding='utf-8')
        self.comments = []
        self.code = PIECE.sub(self._blank, self.text)
        self._directives = [m.span() for m in DIRECTIVE.finditer(self.code)]
        self._ends = list(self._statement_ends())
        self._lines = [m.start() for m in re.finditer(r'^', self.text, re.M)]

    def _blank(self, m):
        if m[0].startswith('/'):
            self.comments.append(Comment(m.start(), m.end(), m[0]))
            return re.sub(r'[^\n]', ' ', m[0])
        return m[0][0] + re.sub(r'[^\n]', 'x', m[0][1:-1]) + m[0][-1]

    def line(self, offset):
        return bisect.bisect_right(self._lines, offset)

    def where(self, offset):
        return f'{self.name}:{self.line(offset)}'

    def includes(self):
        """(offset, '<' or '"', name) of each; comments do not count."""
        for m in INCLUDE.finditer(self.text):
            if self.code[m.start():m.start(1)].strip():
                yield m.start(), m[1], m[2]

    def directive(self, offset):
        """(start, end) of the preprocessor line around offset, or None."""
        for start, end in self._directives:
            if start <= offset < end:
                return start, end
        return None

    def _statement_ends(self):
        """Where statements end: behind ; { } outside parentheses, and behind
        each preprocessor line, which is one statement whatever is in it."""
        yield 0
        depth = 0
        for m in re.finditer(DIRECTIVE.pattern + r'|[(){};]', self.code,
                             re.M):
            piece = m[0].lstrip()[0]
            depth += {'(': 1, ')': -1}.get(piece, 0)
            if piece == '#' or piece in ';{}' and depth <= 0:
                depth = 0
                yield m.end()

    def statement_start(self, offset):
        """Behind the statement before the one at offset.  What leads to a
        while () behind a brace is the loop's body: its last comment counts."""
        i = bisect.bisect_right(self._ends, offset) - 1
        at = self._ends[i]
        if at and self.code[at - 1] == '}' and \
                re.match(r'\s*while\b', self.code[at:]):
            at = self._ends[i - 1]
        return at

    def function(self, offset):
        """The name of the function or macro around offset, or None."""
        line = self.directive(offset)
        if line:
            m = DEFINE.match(self.code, line[0])
            return m[1] if m else None
        name = None
        for m in FUNCTION.finditer(self.code, 0, offset):
            close = self.code.find('\n}', m.end())
            name = m[1] if close < 0 or close > offset else None
        return name


def public_functions(headers):
    """name -> (source, offset) of each MMN_PUBLIC declaration."""
    found = {}
    for source in headers:
        code = DIRECTIVE.sub(lambda m: ' ' * len(m[0]), source.code)
        for m in re.finditer(r'\bMMN_PUBLIC\b([^;{]*)', code):
            text = re.sub(r'__attribute__\s*\(\(.*?\)\)', '', m[1])
            name = re.search(r'\b([a-z]\w*)\s*\(', text)
            if name:
                found[name[1]] = (source, m.start())
    return found


def files(root, folders, suffixes):
    """The C files below these folders, sorted."""
    for folder in folders:
        for path in sorted((root / folder).rglob('*')):
            if path.suffix in suffixes and path.is_file():
                yield Source(path, root)


def finish(errors, done):
    """Print the errors, or one line that says what was checked."""
    for error in errors:
        print(error)
    if not errors:
        print(done)
    sys.exit(1 if errors else 0)


def default_root():
    return pathlib.Path(__file__).resolve().parent.parent
