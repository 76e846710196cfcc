# SPDX-License-Identifier: MIT
"""The table of twins: for each order of each access, who finds it missing.

tests/ladder/twins.tsv has one line for each of them, its fields separated by
tabs:

    tag  side  access  rejecter  by what  what is seen

  side      acquire, release: it is taken from the access; seq_cst: of the order
            with accesses to other words only acquire and release stay
  access    the function or macro that it stands in; function.2 where it is the
            second of this tag in there
  rejecter  and by what:
            ladder  a scenario of the gallery, real code in the explorer
            genmc   a model of model/, and what is changed there: for code that
                    cannot be explored
  seen      how it fails: for ladder the kind of failure, a colon, and what that
            means
"""
import collections
import re

TABLE = 'tests/ladder/twins.tsv'
KINDS = ('assertion', 'data race', 'deadlock', 'lost wake-up',
         'use after free', 'bad free')

Twin = collections.namedtuple('Twin', 'line tag side access rejecter by seen')


def lines_of(path):
    if not path.exists():
        return
    text = path.read_text(encoding='utf-8')
    for number, line in enumerate(text.splitlines(), 1):
        if line and not line.startswith('#'):
            yield number, line


def read(root, errors):
    twins = []
    for number, line in lines_of(root / TABLE):
        fields = line.split('\t')
        if len(fields) != 6 or not all(fields):
            errors.append(f'{TABLE}:{number}: P11: has not the six fields '
                          'tag, side, access, rejecter, by what, seen')
            continue
        twins.append(Twin(number, *fields))
    return twins


def said_sides(site):
    """Of the two, those that the comment names; none: a full barrier."""
    first = re.split(r'[,.:;]|\bwith\b', site.text[0])[0].lower()
    return {side for side in ('acquire', 'release') if side in first}


def numbers(found):
    """(site, which one in its function, how many there are) of a tag."""
    count = collections.Counter(site.function for site in found)
    seen = collections.Counter()
    for site in sorted(found, key=lambda s: (s.source.name, s.offset)):
        seen[site.function] += 1
        yield site, seen[site.function], count[site.function]


def accesses(found):
    """(name, site) of each access of a tag, in the order of the source."""
    for site, nr, count in numbers(found):
        yield site.function if count == 1 else f'{site.function}.{nr}', site


def needed(found):
    """(name, side, site) of each twin that a tag has to have."""
    for name, site in accesses(found):
        for side in sorted(said_sides(site)) or ['seq_cst']:
            yield name, side, site


def missing(sites, twins):
    """tag -> what has no twin."""
    there = {(twin.tag, twin.access, twin.side) for twin in twins}
    result = {}
    for tag, found in sorted(sites.items()):
        lacking = [(name, side, site) for name, side, site in needed(found)
                   if (tag, name, side) not in there]
        if lacking and not any(site.text[1] for site in found):
            result[tag] = lacking
    return result


def has_text(root, pattern, what):
    return any(what in path.read_text(encoding='utf-8')
               for path in root.glob(pattern))


def rejecter_exists(root, twin):
    if twin.rejecter == 'ladder':
        return has_text(root, 'src/ladder/gallery/*.c',
                        f'.name = "{twin.by}",')
    if twin.rejecter == 'genmc':
        model, _, change = twin.by.partition(': ')
        return bool(change) and (root / f'model/{model}.c').exists() and \
            has_text(root, 'model/run.py', f"('{change}', ")
    return False


def check_twin(root, twin, sites, errors):
    where = f'{TABLE}:{twin.line}: '
    if (twin.access, twin.side) not in {
            (name, side) for name, side, _ in needed(sites.get(twin.tag, ()))}:
        errors.append(f'{where}P11: there is no {twin.side} of '
                      f'pair({twin.tag}) in {twin.access}')
    if not rejecter_exists(root, twin):
        errors.append(f'{where}P12: there is no {twin.rejecter} "{twin.by}"')
    if twin.seen.split(':')[0] not in KINDS:
        errors.append(f'{where}P12: it does not say which kind of failure is '
                      f'seen: {", ".join(KINDS)}')


def check_orders(sites, errors):
    """Is each order of an access argued for by one of its comments?"""
    said = collections.defaultdict(set)
    for found in sites.values():
        for site in found:
            said[site.source.name, site.offset] |= \
                said_sides(site) or {'seq_cst'}
    for found in sites.values():
        for site in found:
            full = 'seq_cst' in site.macro or site.macro.endswith('_mb')
            wanted = {'seq_cst'} if full else site.sides
            lacking = wanted - said.pop((site.source.name, site.offset),
                                        wanted)
            for side in sorted(lacking):
                errors.append(f'{site.source.where(site.offset)}: P13: no pair '
                              f'of {site.macro}() says why it is {side}')


def check(root, sites, twins, errors):
    for twin in twins:
        check_twin(root, twin, sites, errors)
    check_orders(sites, errors)
    for tag, ways in missing(sites, twins).items():
        for name, side, site in ways:
            errors.append(f'{site.source.where(site.offset)}: P10: '
                          f'pair({tag}) has no twin without {side} in '
                          f'{name}; see {TABLE}')


def who(twin):
    if twin.rejecter == 'ladder':
        return f'`mmn ladder {twin.by}`'
    return f'GenMC, model {twin.by}'


def markdown(sites, twins):
    lines = ['## The orders, each of them needed\n',
             'Each order of each access was taken away alone, and somebody '
             'noticed: the explorer\n(doc/LADDER.md), which runs this code, or '
             'GenMC with a model. The tests of the\nexplorer try it each time. '
             '`pop.2` is the second access of the tag in `pop()`.\n',
             '| tag | access | what it is | without | what is seen | by whom |',
             '|---|---|---|---|---|---|']
    by = {(twin.tag, twin.access, twin.side): twin for twin in twins}
    for tag, found in sorted(sites.items()):
        head = tag
        for name, side, site in needed(found):
            twin = by.get((tag, name, side))
            if not twin:
                continue
            lines.append(f'| {head} | `{name}` | `{site.macro}` | {side} '
                         f'| {twin.seen} | {who(twin)} |')
            head = ''
    return '\n'.join(lines) + '\n'
