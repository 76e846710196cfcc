/* SPDX-License-Identifier: MIT */
/*
 * The way of a change that nobody cares about.
 *
 * Event sources call this in the middle of foreign code: this file is compiled
 * with general registers only, and calls nothing outside of it: no libc, no
 * lock, no system call, no thread-local storage.
 *
 * The race it has to win is the one against an insert over the same range:
 *
 *	CPU0: mmn_invalidate_open()       CPU1: insert, S closed
 *
 *	[W] slot = desc                   [W] filter, a word of each sieve
 *	MB                                MB
 *	[R] filter                        [R] slot
 *
 * Not both may read what was there before.  If CPU0 sees the new words it goes
 * on to mmn_invalidate_notify(), enters S after CPU1 has opened it, and finds the
 * subscription in the tree.  If CPU1 sees the slot it counts the change as open on the new
 * subscription, whose readers then wait for its end.
 */
#include "base/probe.h"
#include "notifier/state.h"

void mmn_invalidate_desc_init(struct mmn_invalidate_desc *desc,
			      struct mmn_state *state, uint32_t event,
			      uintptr_t start, uintptr_t last)
{
	struct change *change = change_of(desc);

	desc->state = state;
	desc->start = start;
	desc->last = last;
	desc->event = event;
	desc->flags = MMN_INVALIDATE_BLOCKABLE;
	desc->owner = NULL;
	list_init(&change->link);
	change->id = 0;
	change->calling = 0;
	change->opener = NULL;
	change->phase = PHASE_READY;
	change->slot = NO_SLOT;
	change->classic_told = false;
}

/*
 * Threads come back to the slot they had last: descriptors of one thread lie on
 * its stack, so their addresses differ from those of another thread in the upper
 * bits.
 */
static uint32_t home_slot(const struct mmn_invalidate_desc *desc)
{
	uint64_t page = (uintptr_t)desc >> 14;

	return (uint32_t)((page * UINT64_C(0x9e3779b97f4a7c15)) >> 59) %
	       NR_SLOTS;
}

static uint16_t claim_slot(struct mmn_state *state,
			   struct mmn_invalidate_desc *desc)
{
	uint32_t home = home_slot(desc);
	uint32_t n;

	for (n = 0; n < NR_SLOTS; n++) {
		uint16_t i = (home + n) % NR_SLOTS;
		uintptr_t *word, free = 0;

		word = &state->slots[i].word;
		/* relaxed: a guess, the exchange decides */
		if (mmn_load_relaxed(word))
			continue;
		/*
		 * pair(open_insert): the opener's store, with the loads of the
		 * slots in hold_slot().  Without it an insert finds the slot
		 * free, this change finds the old filter, and readers of the new
		 * subscription do not wait.
		 * pair(slot_owner): acquire, with the release in free_slot().
		 * Without it the ids in the slot are those of its last owner but
		 * one, and are given twice.
		 * pair(slot_range): release, with the acquire in hold_slot().
		 * Without it an insert compares its range with one that the
		 * descriptor had before.
		 */
		if (mmn_cmpxchg_seq_cst(word, &free, (uintptr_t)desc))
			return i;
	}
	return NO_SLOT;
}

/* On its own, so that a change that misses needs few registers. */
bool filter_levels_overlap(uintptr_t map, uint32_t used, uintptr_t start,
			   uintptr_t last)
{
	for (; used; used &= used - 1)
		if (filter_level_overlaps(map, (uint32_t)__builtin_ctz(used),
					  start, last))
			return true;
	return false;
}

bool mmn_invalidate_open(struct mmn_invalidate_desc *desc)
{
	struct change *change = change_of(desc);
	struct mmn_state *state = desc->state;
	struct filter_guess guess;

	/* mmn_invalidate_notify() finds out what is wrong. */
	if (unlikely(!state || desc->start > desc->last ||
		     change->phase != PHASE_READY))
		return true;
	change->slot = NO_SLOT;
	change->classic_told = false;
	change->phase = PHASE_OPEN;
	if (unlikely(!state_is_live(state)))
		return false;
	guess = filter_guess(&state->filter, desc->start, desc->last);
	change->slot = claim_slot(state, desc);
	MMN_PROBE(change_open, desc, desc->start, desc->last, desc->event);
	if (unlikely(change->slot == NO_SLOT))
		return true;
	return filter_overlaps(&state->filter, &guess, desc->start, desc->last);
}

bool mmn_invalidate_close(struct mmn_invalidate_desc *desc)
{
	struct change *change = change_of(desc);
	uintptr_t open = (uintptr_t)desc;

	if (unlikely(change->phase != PHASE_OPEN &&
		     change->phase != PHASE_TOLD))
		return false;
	if (unlikely(!state_is_live(desc->state)))
		goto closed;
	if (change->slot == NO_SLOT)
		return false;
	/*
	 * pair(close_insert): release, with the loads of the slots in
	 * hold_slot().  Without it an insert finds the slot free, lets its
	 * readers go, and they see the memory as it was before the change.
	 * pair(slot_restore): acquire, with the release in restore_slot().
	 * Without it an insert may still read the descriptor afterwards.
	 */
	if (!mmn_cmpxchg_acq_rel(&desc->state->slots[change->slot].word, &open,
				 0))
		return false;
	MMN_PROBE(change_close, desc, desc->start, desc->last);
closed:
	change->slot = NO_SLOT;
	change->opener = NULL;
	change->phase = PHASE_READY;
	return true;
}

bool mmn_state_has_subscriptions(const struct mmn_state *state)
{
	/* relaxed: a hint, by contract */
	return state_is_live(state) &&
	       mmn_load_relaxed(&state->filter.hull_lo) <=
		       mmn_load_relaxed(&state->filter.hull_hi);
}
