#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run a protocol through GenMC and compare with the verdicts expected.

usage: run.py [--genmc PATH] [--model rc11|imm|tso|sc]... [MODEL]

GenMC (https://github.com/MPI-SWS/genmc) is not a Debian package, so this is a
tool for whoever changes the protocol, not a part of the test suite.
"""
import argparse
import pathlib
import shutil
import subprocess
import sys
import time

NOTIFIER = {
    1: 'insert A, then a fault, against one change',
    2: 'a fault against one change, A inserted',
    3: 'insert A and a fault against two changes that share the slot',
    4: 'insert A and a fault against one descriptor used twice',
    5: 'insert A against a change beside it, descriptor reused',
    6: 'remove A and free it against one change',
    7: 'remove A, insert it again, fault, against one change',
    8: 'a fault against two changes over A',
    9: 'a fault that sleeps against one change',
    10: 'a fault that sleeps against two changes',
    11: 'insert A and publish it, another thread faults, against one change',
    12: 'remove A and tear down, a fault goes on, against one change',
    13: 'insert, remove, insert A, a fault, against one change',
    14: 'the map of the filter is replaced, insert A, a fault',
    15: 'the map is replaced with A in it, a fault',
    16: 'insert A, the map is replaced, a fault, against one change',
    17: 'the map is replaced with A in it, a fault, against two changes',
    18: 'remove A deferred, against two changes that call it',
    19: 'insert A beside a change, then over it',
}
RLX, ACQ, REL = ('memory_order_' + order
                 for order in ('relaxed', 'acquire', 'release'))
ARQ = 'memory_order_acq_rel'
# what is changed, how, in which scenario it must show (None: in none); and in
# which model, if others do not show it
NOTIFIER_CHANGED = [
    ('claim_slot(): acq_rel', {'O_CLAIM': ARQ}, 1),
    ('filter_overlaps(), hull: acquire', {'O_HULL': ACQ}, 1),
    ('filter_set_hull(): release', {'O_SETHULL': REL}, 1),
    ('filter_set_hull() of a remove: relaxed', {'O_SHRINK': RLX}, None),
    ('hold_slot(), load: acquire', {'O_SCAN': ACQ}, 1),
    ('hold_slot(), exchange: relaxed', {'O_HOLD': RLX}, 4),
    ('hold_slot(), load relaxed and exchange relaxed',
     {'O_HOLD': RLX, 'O_SCAN': RLX}, 1),
    ('restore_slot(): relaxed', {'O_RESTORE': RLX}, 5),
    ('mmn_invalidate_close(): relaxed', {'O_CLOSE': RLX}, 1),
    ('mmn_invalidate_close(): release only', {'O_CLOSE': REL}, 5),
    ('mmn_invalidate_close(): acquire only', {'O_CLOSE': ACQ}, 1),
    ('range_uncount(): relaxed', {'O_UNCOUNT': RLX}, 2),
    ('range_uncount(), waiter bit: release', {'O_UNBIT': REL}, None),
    ('dismiss_readers(): release', {'O_DISMISS': REL}, None),
    ('set_seq(): relaxed', {'O_SETSEQ': RLX}, 2),
    ('read_begin(), sequence: relaxed', {'O_SEQ': RLX}, 2),
    ('read_begin(), count: relaxed', {'O_OPEN': RLX}, 2),
    ('a fresh subscription published relaxed (misuse)',
     {'O_PUBLISH': RLX}, 11),
    ('a change is not counted', {'BUG': 1}, 2),
    ('a callback does not set the sequence', {'BUG': 2}, 2),
    ('a callback does not tear down', {'BUG': 3}, 2),
    ('the range is read before the slot is held', {'BUG': 4}, 5),
    ('an insert does not adopt', {'BUG': 5}, 1),
    ('an insert scans the slots before it widens the hull', {'BUG': 6}, 1),
    ('an insert does not count', {'BUG': 7}, 1),
    ('remove does not wait for callbacks', {'BUG': 8}, 6),
    ('read_begin() reads the count first', {'BUG': 9}, 2),
    ('read_begin() does not wait', {'BUG': 10}, 2),
    ('a callback is not counted as running', {'BUG': 11}, 6),
    ('set_seq() stores without looking for a removal', {'BUG': 12}, 12),
    ('the hull does not shrink', {'BUG': 13}, None),
    ('a reader sleeps without setting the bit', {'BUG': 14}, 9),
    ('filter_overlaps(), map: acquire', {'O_MAP': ACQ}, 14),
    ('filter_block_has(): acquire', {'O_BITS': ACQ}, 16),
    ('set_bit(): release', {'O_SETBITS': REL}, 16),
    ('publish(): release', {'O_PUBLISHMAP': REL}, 14),
    ('forget_lookers(): acquire', {'O_QUIET': ACQ}, 15),
    ('a map is published before it is filled', {'BUG': 15}, 15),
    ('a map is freed without a look at the slots', {'BUG': 16}, 15),
    ('raise_door(): acq_rel', {'O_RAISE': REL}, 6),
    ('hall_phase(): acquire', {'O_PHASE': ACQ}, 6),
    ('hall_close(): release', {'O_HALLCLOSE': REL}, 6),
    ('hall_await_door(): acquire', {'O_AWAIT': ACQ}, 6),
    ('hall_lower_own(): relaxed', {'O_LOWER': RLX}, 6),
    ('hall_open(): relaxed', {'O_HALLOPEN': RLX}, 1),
    ('free_slot(): relaxed', {'O_FREE': RLX}, 3),
    ('state_count_calls(), load: relaxed', {'O_CALLING': RLX}, 6),
    ('stop_calling(): relaxed', {'O_STOP': RLX}, 6),
    ('drop_running(): release only', {'O_DROP': REL}, 18),
    ('drop_running(): acquire only', {'O_DROP': ACQ}, 6),
    ('wait_idle(): relaxed', {'O_IDLE': RLX}, 6),
    ('a writer does not look at the door of the slot', {'BUG': 18}, 6),
    ('a writer does not look at the common door', {'BUG': 19}, 3),
    ('an end that nobody counts on leaves its slot open', {'BUG': 21}, 19),
    ('a slot is freed before its door is lowered', {'BUG': 22}, 18),
    ('remove_deferred does not count itself', {'BUG': 23}, 18),
    ('remove_deferred counts itself as a callback', {'BUG': 24}, 18, 'imm'),
]

FENCE = {
    1: 'a callback is added while the fence signals',
    2: 'a callback is removed and freed meanwhile',
    3: 'somebody goes to sleep while the fence signals',
    4: 'the enable op, and the producer who signals and leaves',
    5: 'two signal, and ask for the time',
    6: 'the flag, and the data of the device',
    7: 'a safe reference to recycled memory',
    8: 'a look at a pending fence in a slot, recycled as one that signals',
    9: 'a look at a signalled fence in a slot, recycled as a pending one',
    10: 'a fence is put into a slot and found there',
    11: 'two put their references, one frees',
    12: 'the last member signals the array, or the last of two the node',
}
FENCE_CHANGED = [
    ('mark_signaled(): acquire only', {'O_SIGNAL': ACQ}, 6),
    ('mark_signaled(): release only', {'O_SIGNAL': REL}, 4),
    ('fence_flags_acquire(): relaxed', {'O_TEST': RLX}, 6),
    ('append_callback(): relaxed', {'O_APPEND': RLX}, 1),
    ('mark_signaled(), the time: relaxed', {'O_TIME': RLX}, 5),
    ('await_flags(), the time: relaxed', {'O_GETTIME': RLX}, 5),
    ('fence_end_enable(): relaxed', {'O_ENDENABLE': RLX}, 4),
    ('await_flags(), the enable op: relaxed', {'O_AWAIT': RLX}, 4),
    ('dma_fence_put(): release only', {'O_PUT': REL}, 11),
    ('dma_fence_put(): acquire only', {'O_PUT': ACQ}, 11),
    ('dma_fence_get_rcu(): relaxed', {'O_GET': RLX}, 7),
    ('fence_init(), reference count: relaxed', {'O_BIRTH': RLX}, 7),
    ('fence_init(), flags: relaxed', {'O_REBIRTH': RLX}, 9),
    ('test_slot(), flags: relaxed', {'O_LOOK': RLX}, 9),
    ('dma_fence_slot_set(): relaxed', {'O_SLOTSET': RLX}, 10),
    ('get_from_slot(): relaxed', {'O_SLOTGET': RLX}, 10),
    ('drop_pending(): release only', {'O_PENDING': REL}, 12),
    ('drop_pending(): acquire only', {'O_PENDING': ACQ}, 12),
    ('a callback is added by test, then set', {'BUG': 1}, 1),
    ('a sleeper does not set his bit', {'BUG': 2}, 3),
    ('a running callback is not told', {'BUG': 3}, 2),
    ('a signal does not wait for the enable op', {'BUG': 4}, 4),
    ('the enable op does not say that it runs', {'BUG': 5}, 4),
    ('a reference is not compared with the slot', {'BUG': 6}, 7),
    ('a look is not compared with the slot', {'BUG': 7}, 8),
]

RESV = {
    1: 'a fence is made, added and found',
    2: 'the device writes, and the fence signals',
    3: 'a fence takes the place of another one, which then signals',
    4: 'likewise, signalled by a third who has seen it',
    5: 'one is added to a list that has grown, another one signals',
    6: 'an old list, and its fence is another one that signals',
    7: 'a reference to the fence in a place, recycled meanwhile',
    8: 'a later fence of the same timeline',
    9: 'a copy over an object that a walk goes through',
    10: 'a fence has signalled and leaves',
    11: 'one is added behind another one, which then signals',
    12: 'one fence after the other, never none',
    13: 'a fence has signalled, a third drops it and the list is shorter',
    14: 'likewise, the list stays as long',
}
RESV_CHANGED = [
    ('set_word(): relaxed', {'O_WORDSET': RLX}, 1),
    ('set_word(): relaxed, seen by another one', {'O_WORDSET': RLX}, 4),
    ('load_word(): relaxed', {'O_WORDGET': RLX}, 1),
    ('set_num(): relaxed', {'O_NUMSET': RLX}, 13),
    ('load_num(): relaxed', {'O_NUMGET': RLX}, 13),
    ('prune(): relaxed', {'O_DROP': RLX}, 14),
    ('end_put(): relaxed', {'O_SEQEND': RLX}, 3),
    ('dma_resv_test_signaled_strict(): relaxed', {'O_SEQGET': RLX}, 3),
    ('word_look(): relaxed', {'O_LOOK': RLX}, 2),
    ('word_look(): relaxed, strict', {'O_LOOK': RLX}, 3),
    ('mark_signaled(): relaxed', {'O_SIGNAL': RLX}, 2),
    ('mmn_rcu_publish(): relaxed', {'O_PUBLISH': RLX}, 5),
    ('mmn_rcu_dereference(): relaxed', {'O_DEREF': RLX}, 5),
    ('fence_init(), flags: relaxed', {'O_REBIRTH': RLX}, 6),
    ('word_look(), a new life: relaxed', {'O_LOOK': RLX}, 6),
    ('fence_init(), reference count: relaxed', {'O_BIRTH': RLX}, 7),
    ('dma_fence_get_rcu(): relaxed', {'O_GET': RLX}, 7),
    ('the number changes after the store only', {'BUG': 1}, 4),
    ('the number changes before the store only', {'BUG': 2}, 3),
    ('an odd number is not refused', {'BUG': 3}, 4),
    ('the number is not looked at again', {'BUG': 4}, 3),
    ('the number is not looked at again, two places', {'BUG': 4}, 12),
    ('the later fence is put at another place', {'BUG': 5}, 8),
    ('lives are not compared', {'BUG': 6}, 6),
    ('lives are not compared, with a reference', {'BUG': 6}, 7),
    ('the place is looked at again instead of the life', {'BUG': 7}, 6),
    ('a copy has a fence at another place', {'BUG': 8}, 9),
    ('the list is closed up', {'BUG': 9}, 10),
]
SYNC = {
    1: 'a sleeper on several fences, one of which signals',
    2: 'a sleeper for what is not there yet, and it comes',
    3: 'a sleeper leaves while it comes',
    4: 'two put their references, one frees',
    5: 'two arm one poller',
    6: 'an object goes while its notice is told',
    7: 'a notice is attached, told and freed',
    8: 'a timeline goes on while a point goes',
}
SYNC_CHANGED = [
    ('fence_sleeper_wake(): relaxed', {'O_WAKE': RLX}, 1),
    ('fence_sleeper_look(): relaxed', {'O_LOOK': RLX}, 1),
    ('sync_ref_put(): release only', {'O_PUT': REL}, 4),
    ('sync_ref_put(): acquire only', {'O_PUT': ACQ}, 4),
    ('claim(): relaxed', {'O_CLAIM': RLX}, 5),
    ('let_go(): relaxed', {'O_LETGO': RLX}, 5),
    ('the word is read after the entries', {'BUG': 1}, 2),
    ('an entry is found without a wake-up', {'BUG': 2}, 2),
    ('a sleeper does not take its entry off', {'BUG': 3}, 3),
    ('a poller is armed by two at once', {'BUG': 4}, 5),
    ('an object goes without removing its callback', {'BUG': 5}, 6),
    ('a notice does not look whether it is on the list', {'BUG': 6}, 6),
    ('a notice is put on the list after its callback', {'BUG': 7}, 7),
    ('a notice is attached without a reference', {'BUG': 8}, 7),
    ('a point gets a reference although it has none', {'BUG': 9}, 8),
    ('a point is put with the lock held', {'BUG': 10}, 8),
]
WW = {
    1: 'two want a lock',
    2: 'two contexts want a lock, and end',
    3: 'two want two locks crosswise, wait-die',
    4: 'two want two locks crosswise, wound-wait',
    5: 'one backs off and comes back, the holder ends its context',
    6: 'the lock is handed to one who frees it',
    7: 'an older one comes while a younger one waits with a lock',
    8: 'likewise, and is done before the younger one looks',
}
WW_CHANGED = [
    ('take_free(): release only', {'O_TAKE': REL}, 1),
    ('take_free(): acquire only', {'O_TAKE': ACQ}, 5),
    ('announce(): relaxed', {'O_ANNOUNCE': RLX}, 5),
    ('ww_mutex_unlock(): acquire only', {'O_UNLOCK': ACQ}, 1),
    ('ww_mutex_unlock(): release only', {'O_UNLOCK': REL}, 5),
    ('hand_over(): relaxed', {'O_HAND': RLX}, 5),
    ('leave_queue(): relaxed', {'O_LEAVE': RLX}, 5),
    ('tell(): relaxed', {'O_TELL': RLX}, 1),
    ('was_told(): relaxed', {'O_TOLD': RLX}, 1),
    ('the lock is granted under the guard', {'BUG': 1}, 6),
    ('a waiter does not say so in the word', {'BUG': 2}, 1),
    ('an older waiter does not disturb the younger', {'BUG': 3}, 7),
    ('an older waiter does not wound the holder', {'BUG': 4}, 4),
    ('nobody backs off', {'BUG': 5}, 3),
    ('who was chosen backs off', {'BUG': 6}, 8),
]
HALL = {
    1: 'a handler before the door is raised',
    2: 'a handler between the door and the look at the phase',
    3: 'a handler of a reader that steps back',
    4: 'a handler between the look and the note that we are inside',
    5: 'a handler after that note',
    6: 'a handler of a reader that is inside',
    7: 'a handler in the middle of what a reader reads',
    8: 'a handler before the door is lowered',
    9: 'a handler after the door is lowered',
    10: 'a handler before the writer is woken',
}
HALL_CHANGED = [
    ('raise_door(): release', {'O_RAISE': REL}, 1),
    ('hall_phase(): acquire', {'O_PHASE': ACQ}, 1),
    ('hall_close(): release', {'O_CLOSE': REL}, 1),
    ('hall_await_door(): acquire', {'O_AWAIT': ACQ}, 1),
    ('hall_lower_own(): relaxed', {'O_LOWER': RLX}, 1),
    ('hall_open(): relaxed', {'O_OPEN': RLX}, 1),
    ('a handler goes in although its thread is on its way', {'BUG': 1}, 2),
    ('a handler does not lower the door of its thread', {'BUG': 2}, 2),
    ('a reader does not notice that its door was lowered', {'BUG': 3}, 2),
    ('a reader that leaves counts as inside', {'BUG': 4}, 9),
    ('a handler does not wake the writer', {'BUG': 5}, 10),
]
CACHE = {
    1: 'a get, and the region is retired',
    2: 'a put, and the region is retired',
    3: 'a fence is added, and the memory changes',
    4: 'a look at an entry that is being replaced',
    5: 'a region is registered and found',
    6: 'the worker naps and goes to sleep, and somebody rings',
    7: 'a region is kicked while the worker looks at it',
    8: 'a thread ends, its reference does not',
    9: 'the last transfer is over, and the memory changes',
    10: 'a put, and the worker looks at the region again',
    11: 'the worker naps and goes to sleep, somebody rings who has time',
    12: 'a region is published, and the memory changes',
    13: 'two changes of one region',
    14: 'a look at an entry that is replaced and shown',
    15: 'a change while a registration begins and ends',
    16: 'a change leaves a region to who has the lock',
}
CACHE_CHANGED = [
    ('bucket_write(), even: relaxed', {'O_BUCKET': RLX}, 4),
    ('bucket_find(), number: relaxed', {'O_BUCKETGET': RLX}, 4),
    ('bucket_write(), entries: relaxed', {'O_ENTRY': RLX}, 4),
    ('bucket_find(), entries: relaxed', {'O_ENTRYGET': RLX}, 4),
    ('hold_leave(): relaxed', {'O_LEAVE': RLX}, 1),
    ('wait_for_section(): relaxed', {'O_WAIT': RLX}, 1),
    ('hold_set(): relaxed', {'O_PUT': RLX}, 10),
    ('count_in(): relaxed', {'O_SUM': RLX}, 2),
    ('move_place(): relaxed', {'O_PUT': RLX}, 8),
    ('hold_sum(): relaxed', {'O_SUM': RLX}, 8),
    ('kill(): relaxed', {'O_RETIRE': RLX}, 3),
    ('kill(): no acquire', {'O_KILL': REL}, 12),
    ('region_publish(): relaxed', {'O_PUBLISH': RLX}, 12),
    ('index_show(): relaxed', {'O_SHOW': RLX}, 14),
    ('kill(): acquire', {'O_KILL': ACQ}, 15),
    ('begin_reading(): relaxed', {'O_MARK': RLX}, 15),
    ('push_dead(): relaxed', {'O_DEAD': RLX}, 16),
    ('cache_bury(): relaxed', {'O_BURY': RLX}, 16),
    ('a region is shown before it is LIVE', {'BUG': 12}, 12),
    ('who is second does not help to hide', {'BUG': 13}, 13),
    ('the mark is taken off after open changes were waited for', {'BUG': 14},
     15),
    ('mmn_cache_add_fence(): relaxed', {'O_ADD': RLX}, 3),
    ('sleep_until_rung(): relaxed', {'O_ASLEEP': RLX}, 6),
    ('cache_ring(): relaxed', {'O_RING': RLX}, 6),
    ('sleep_until_rung(): relaxed', {'O_ASLEEP': RLX}, 11),
    ('cache_ring_soon(): relaxed', {'O_RING': RLX}, 11),
    ('push(): acquire', {'O_QUEUE': ACQ}, 7),
    ('look_again(): release', {'O_UNQUEUE': REL}, 7),
    ('land(): relaxed', {'O_LAND': RLX}, 9),
    ('wait_for_flight(): relaxed', {'O_FLIGHT': RLX}, 9),
    ('the kernel has no barrier', {'O_KERNEL': ARQ}, 1),
    ('a get is no section', {'BUG': 1}, 1),
    ('a put is no section', {'BUG': 1}, 2),
    ('the number does not become odd', {'BUG': 2}, 4),
    ('the number is not looked at again', {'BUG': 3}, 4),
    ('a put does not kick', {'BUG': 4}, 2),
    ('the worker does not wait for sections', {'BUG': 5}, 1),
    ('the sum begins with the region', {'BUG': 6}, 8),
    ('a fence is added by test, then counted', {'BUG': 7}, 3),
    ('the worker looks before it says that it sleeps', {'BUG': 8}, 6),
    ('the worker looks before it takes the mark off', {'BUG': 9}, 7),
    ('who has time looks before it rings', {'BUG': 11}, 11),
    ('a place is cleared before it is moved', {'BUG': 10}, 8),
]
MODELS = {
    'hall': (HALL, HALL_CHANGED),
    'notifier': (NOTIFIER, NOTIFIER_CHANGED),
    'fence': (FENCE, FENCE_CHANGED),
    'resv': (RESV, RESV_CHANGED),
    'sync': (SYNC, SYNC_CHANGED),
    'cache': (CACHE, CACHE_CHANGED),
    'ww': (WW, WW_CHANGED),
}
# Sleepers are loops there, which somebody has to end.
LIVENESS = {'ww'}


def verdict(genmc, name, model, scenario, defines):
    source = pathlib.Path(__file__).with_name(f'{name}.c')
    flags = [f'-D{key}={value}' for key, value in defines.items()]
    checks = ['--check-liveness'] if name in LIVENESS else []
    began = time.monotonic()
    run = subprocess.run(
        [genmc, f'--{model}', '--disable-estimation', *checks, '--',
         f'-DSCENARIO={scenario}', *flags, str(source)],
        capture_output=True, text=True, timeout=600, check=False)
    text = run.stdout + run.stderr
    seconds = time.monotonic() - began
    if 'No errors were detected' in text:
        explored = [line.rsplit(' ', 1)[1] for line in text.splitlines()
                    if 'complete executions explored' in line]
        return 'verified', int(explored[0]), seconds
    if 'unsuccessful' in text:
        lower = text.lower()
        kind = ('race' if 'race' in lower else
                'sleep' if 'spinloop' in lower else 'assertion')
        return f'fails ({kind})', 0, seconds
    sys.exit(f'genmc did not run:\n{text}')


def first_failure(genmc, name, model, defines, wanted):
    order = [wanted] if wanted else list(MODELS[name][0])
    for scenario in order:
        if wanted is None and scenario in (8, 10, 18):
            continue
        result, _, _ = verdict(genmc, name, model, scenario, defines)
        if result != 'verified':
            return scenario, result
    return None, 'verified'


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--genmc', default=shutil.which('genmc') or 'genmc')
    parser.add_argument('--model', action='append')
    parser.add_argument('name', nargs='?', default='notifier',
                        choices=sorted(MODELS))
    args = parser.parse_args()
    scenarios, changed = MODELS[args.name]
    models = args.model or ['rc11']
    wrong = 0
    for model in models:
        for scenario, text in scenarios.items():
            result, explored, seconds = verdict(args.genmc, args.name,
                                                model, scenario, {})
            wrong += result != 'verified'
            print(f'| {scenario} | {text} | {model} | {result} | {explored} '
                  f'| {seconds:.1f} |', flush=True)
    for text, defines, wanted, *own in changed:
        for model in own or models:
            scenario, result = first_failure(args.genmc, args.name, model,
                                             defines, wanted)
            # the other models have no data races, or hide the orders
            if model == 'rc11' or own:
                wrong += (result == 'verified') != (wanted is None)
            print(f'| {text} | {model} | {result} '
                  f'| {scenario or "-"} |', flush=True)
    return bool(wrong)


sys.exit(main())
