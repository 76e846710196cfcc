/* SPDX-License-Identifier: MIT */
/*
 * A change from its start to its end, where somebody cares.
 */
#include "notifier/state.h"

#include <errno.h>

#include "base/probe.h"
#include "base/wait.h"

static bool desc_is_valid(const struct mmn_invalidate_desc *desc)
{
	return desc && desc->state && desc->start <= desc->last &&
	       desc->event < MMN_NR_EVENTS;
}

/* Is there a subscriber that must be told?  S held. */
static bool somebody_cares(struct mmn_state *state,
			   const struct mmn_invalidate_desc *desc)
{
	struct itree_node *node;

	if (state->nr_watching)
		return true;
	itree_for_each_overlap (node, &state->tree, desc->start, desc->last)
		if (range_cares(range_of_node(node), desc))
			return true;
	return false;
}

/* Nobody holds a slot while S is held: this cannot fail. */
static void leave_slot(struct mmn_state *state, struct change *change)
{
	/* relaxed: S orders it with the only readers that matter, inserts */
	mmn_store_relaxed(&state->slots[change->slot].word, 0);
	change->slot = NO_SLOT;
}

/*
 * From the slot to the list, unless an insert has done that already, or nobody
 * is there: then a change with a slot stays in it.  S held.  False when there is
 * nobody to be told.
 */
static bool enter_list(struct mmn_state *state,
		       struct mmn_invalidate_desc *desc)
{
	struct change *change = change_of(desc);

	if (!change->id) {
		if (change->slot != NO_SLOT && !somebody_cares(state, desc))
			return false;
		if (change->slot != NO_SLOT)
			leave_slot(state, change);
		change_register(state, desc);
	}
	/* Its slot, if it had one, is somebody else's by now. */
	change->slot = NO_SLOT;
	return true;
}

static void uncount_range(struct range_sub *sub)
{
	uint32_t open;

	/*
	 * pair(open_count): release, with the acquire in read_begin().  Without
	 * it a reader sees no change open and memory as it was before.
	 */
	open = mmn_fetch_sub_release(&sub->open, OPEN_ONE);
	if (open != (OPEN_ONE | OPEN_WAITER))
		return;
	/*
	 * Nobody sets the bit while the count is 0.
	 * relaxed: a reader that reads this one reads on from the release above
	 */
	mmn_fetch_and_relaxed(&sub->open, ~OPEN_WAITER);
	mmn_wake(&sub->open, INT32_MAX);
}

/* The reverse of change_register(); S held. */
static void change_unregister(struct mmn_state *state,
			      struct mmn_invalidate_desc *desc)
{
	struct change *change = change_of(desc);
	struct itree_node *node;

	list_del(&change->link);
	change->id = 0;
	itree_for_each_overlap (node, &state->tree, desc->start, desc->last)
		if (range_cares(range_of_node(node), desc))
			uncount_range(range_of_node(node));
	state_wake_drain(state);
}

/* The change is on the list: call everybody.  S held. */
static int tell(struct mmn_state *state, struct mmn_invalidate_desc *desc)
{
	struct change *change = change_of(desc);
	uint64_t id = change->id;

	if (!ranges_tell(state, desc, id) ||
	    !classics_tell_start(state, desc, id)) {
		change_unregister(state, desc);
		change->opener = NULL;
		change->phase = PHASE_READY;
		return -EAGAIN;
	}
	change->classic_told = true;
	return 0;
}

int mmn_invalidate_notify(struct mmn_invalidate_desc *desc)
{
	struct change *change;
	struct mmn_sigmask saved;
	int ret = 0;

	if (!desc_is_valid(desc))
		return -EINVAL;
	change = change_of(desc);
	if (change->phase != PHASE_OPEN)
		return -EINVAL;
	change->phase = PHASE_TOLD;
	if (!state_is_live(desc->state))
		return 0;
	state_lock(desc->state, &saved);
	MMN_PROBE(change_notify, desc, desc->start, desc->last, desc->event);
	if (enter_list(desc->state, desc))
		ret = tell(desc->state, desc);
	state_unlock(desc->state, &saved);
	return ret;
}

int mmn_invalidate_start(struct mmn_invalidate_desc *desc)
{
	if (!desc_is_valid(desc) || change_of(desc)->phase != PHASE_READY)
		return -EINVAL;
	change_of(desc)->opener = mmn_context_self();
	if (!mmn_invalidate_open(desc))
		return 0;
	return mmn_invalidate_notify(desc);
}

int mmn_invalidate_start_nonblock(struct mmn_invalidate_desc *desc)
{
	if (!desc_is_valid(desc) || change_of(desc)->phase != PHASE_READY)
		return -EINVAL;
	desc->flags &= ~MMN_INVALIDATE_BLOCKABLE;
	return mmn_invalidate_start(desc);
}

/* Somebody came to depend on it, or an insert is just looking. */
static void end_slowly(struct mmn_invalidate_desc *desc)
{
	struct change *change = change_of(desc);
	struct mmn_state *state = desc->state;
	struct mmn_sigmask saved;
	uint64_t id;

	state_lock(state, &saved);
	id = change->id;
	if (id)
		change_unregister(state, desc);
	else if (change->slot != NO_SLOT)
		leave_slot(state, change);
	MMN_PROBE(change_end, desc, desc->start, desc->last, id);
	if (change->classic_told)
		classics_tell_end(state, desc, id);
	state_unlock(state, &saved);
	change->slot = NO_SLOT;
	change->opener = NULL;
	change->phase = PHASE_READY;
}

void mmn_invalidate_abandon(struct mmn_invalidate_desc *desc)
{
	struct change *change = change_of(desc);
	struct mmn_state *state = desc->state;
	struct mmn_sigmask saved;
	uint32_t i;

	if (!state_is_live(state))
		goto ready;
	state_lock(state, &saved);
	if (change->id)
		change_unregister(state, desc);
	/* change->slot may not be written yet, or stand for somebody else. */
	for (i = 0; i < NR_SLOTS; i++) {
		uintptr_t open = (uintptr_t)desc;

		/*
		 * pair(close_insert): release, with the acquire in hold_slot().
		 * Without it readers of a subscription that finds the slot
		 * free see old memory.
		 */
		mmn_cmpxchg_release(&state->slots[i].word, &open, 0);
	}
	state_unlock(state, &saved);
ready:
	change->slot = NO_SLOT;
	change->opener = NULL;
	change->phase = PHASE_READY;
}

int mmn_invalidate_end(struct mmn_invalidate_desc *desc)
{
	uint32_t phase = desc ? change_of(desc)->phase : 0;

	if (phase != PHASE_OPEN && phase != PHASE_TOLD) {
		mmn_bug("a change is ended that is not open");
		return -EINVAL;
	}
	if (!mmn_invalidate_close(desc))
		end_slowly(desc);
	return 0;
}
