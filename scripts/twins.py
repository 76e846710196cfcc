# SPDX-License-Identifier: MIT
"""The table of twins: for each side of each pair(tag), who finds it missing.

tests/ladder/twins.tsv has one line for each weakened side, its fields separated
by tabs:

    tag  side  function  rejecter  by what  what is seen

  side      acquire, release: it is taken from the accesses; seq_cst: of the
            order with accesses to other words only acquire and release stay
  function  where it is taken away, or - for everywhere
  rejecter  and by what:
            ladder  a scenario of the gallery, real code in the explorer
            tsan    a test and a case of it, under ThreadSanitizer
            genmc   a model of model/, and what is changed there: for code that
                    cannot be explored
  seen      how it fails: for ladder and tsan the kind of failure, a colon, and
            what that means
"""
import collections
import re

TABLE = 'tests/ladder/twins.tsv'
OWED = 'tests/ladder/owed.txt'
KINDS = ('assertion', 'data race', 'deadlock', 'lost wake-up',
         'use after free', 'bad free')

Twin = collections.namedtuple('Twin', 'line tag side function rejecter by seen')


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
                          'tag, side, function, rejecter, by what, seen')
            continue
        twins.append(Twin(number, *fields))
    return twins


def said_sides(site):
    """Of the two, those that the comment names; none: a full barrier."""
    first = re.split(r'[,.:;]|\bwith\b', site.text[0])[0].lower()
    return {side for side in ('acquire', 'release') if side in first}


def is_load(site):
    return '_load_' in site.macro


def needed(found):
    """(side, functions that will do) of each twin that a tag has to have."""
    wanted = []
    for side in ('release', 'acquire'):
        functions = {site.function for site in found
                     if side in said_sides(site)}
        if functions:
            wanted.append((side, functions))
    # Who stores and then looks, and who looks: each has to be needed.
    full = [site for site in found if not said_sides(site)]
    for group in (True, False):
        functions = {site.function for site in full if is_load(site) == group}
        if functions:
            wanted.append(('seq_cst', functions))
    return wanted


def is_met(twins, tag, side, functions):
    return any(twin.tag == tag and twin.side == side and
               (twin.function == '-' or twin.function in functions)
               for twin in twins)


def missing(sites, twins):
    """tag -> the sides without a twin, with the functions they are in."""
    result = {}
    for tag, found in sorted(sites.items()):
        if any(site.text[1] for site in found):
            continue
        lacking = [(side, functions) for side, functions in needed(found)
                   if not is_met(twins, tag, side, functions)]
        if lacking:
            result[tag] = lacking
    return result


def has_text(root, pattern, what):
    return any(what in path.read_text(encoding='utf-8')
               for path in root.glob(pattern))


def rejecter_exists(root, twin):
    if twin.rejecter == 'ladder':
        return has_text(root, 'src/ladder/gallery/*.c',
                        f'.name = "{twin.by}",')
    if twin.rejecter == 'tsan':
        test, _, case = twin.by.partition(' ')
        return bool(case) and has_text(root, f'tests/*/{test}-test.c',
                                       f'TEST({case})')
    if twin.rejecter == 'genmc':
        model, _, change = twin.by.partition(': ')
        return bool(change) and (root / f'model/{model}.c').exists() and \
            has_text(root, 'model/run.py', f"('{change}', ")
    return False


def takes_away(twin, site):
    """Is it a side of this tag that goes there?  None: nothing goes."""
    said = said_sides(site)
    if twin.side == 'seq_cst':
        return not said if 'seq_cst' in site.macro else None
    if twin.side not in site.sides or \
            twin.side == 'release' and '_load_' in site.macro or \
            twin.side == 'acquire' and '_store_' in site.macro:
        return None
    return twin.side in said


def check_twin(root, twin, sites, errors):
    where = f'{TABLE}:{twin.line}: '
    found = [takes_away(twin, site) for site in sites.get(twin.tag, ())
             if twin.function in ('-', site.function)]
    if True not in found:
        errors.append(f'{where}P11: there is no {twin.side} of '
                      f'pair({twin.tag}) in {twin.function}')
    elif False in found:
        errors.append(f'{where}P11: the {twin.side} of another pair would go '
                      'as well: name a function')
    if not rejecter_exists(root, twin):
        errors.append(f'{where}P12: there is no {twin.rejecter} "{twin.by}"')
    if twin.seen.split(':')[0] not in KINDS:
        errors.append(f'{where}P12: it does not say which kind of failure is '
                      f'seen: {", ".join(KINDS)}')


def check(root, sites, twins, errors):
    owed = {line: number for number, line in lines_of(root / OWED)}
    lacking = missing(sites, twins)
    for twin in twins:
        check_twin(root, twin, sites, errors)
    for tag, sides in lacking.items():
        if tag in owed:
            continue
        for side, functions in sides:
            names = ', '.join(sorted(f'{name}()' for name in functions))
            site = sites[tag][0]
            errors.append(f'{site.source.where(site.offset)}: P10: '
                          f'pair({tag}) has no twin without its {side} in '
                          f'{names}; see {TABLE}')
    for tag, number in owed.items():
        if tag not in lacking:
            errors.append(f'{OWED}:{number}: P13: {tag} has its twins, or no '
                          'site')


def functions_of(found, fits):
    names = dict.fromkeys(site.function for site in found if fits(site))
    return ', '.join(f'`{name}()`' for name in names) or '-'


def without(twin):
    return twin.side if twin.function == '-' else \
        f'{twin.side} in `{twin.function}()`'


def who(twin):
    if twin.rejecter.startswith('ladder'):
        return f'`mmn ladder {twin.by}`'
    if twin.rejecter == 'tsan':
        return f'ThreadSanitizer, `{twin.by}`'
    return f'GenMC, model {twin.by}'


def markdown(sites, twins):
    lines = ['## The sides, each of them needed\n',
             'Each side was taken away, and somebody noticed: the explorer '
             '(doc/LADDER.md),\nwhich runs this code, ThreadSanitizer with a '
             'test, or GenMC with a model. The tests\nof the explorer try it '
             'each time.\n',
             '| tag | release, or first store | acquire, or later load '
             '| without | what is seen | by whom |',
             '|---|---|---|---|---|---|']
    for tag, found in sorted(sites.items()):
        stores = functions_of(found, lambda site: 'release' in said_sides(site)
                              or not said_sides(site) and not is_load(site))
        loads = functions_of(found, lambda site: 'acquire' in said_sides(site)
                             or not said_sides(site) and is_load(site))
        own = [twin for twin in twins if twin.tag == tag]
        head = f'| {tag} | {stores} | {loads} '
        for twin in own:
            lines.append(f'{head}| {without(twin)} | {twin.seen} '
                         f'| {who(twin)} |')
            head = '| | | '
    return '\n'.join(lines) + '\n'
