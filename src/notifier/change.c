/* SPDX-License-Identifier: MIT */
/*
 * A change from its start to its end, where somebody cares.
 */
#include "notifier/state.h"

#include <errno.h>

#include "base/probe.h"

static bool desc_is_valid(const struct mmn_invalidate_desc *desc)
{
	return desc && desc->state && desc->start <= desc->last &&
	       desc->event < MMN_NR_EVENTS;
}

/* ------------------------------------------------------------------ */
/* The end                                                            */
/* ------------------------------------------------------------------ */

static void uncount_ranges(struct mmn_state *state,
			   const struct mmn_invalidate_desc *desc,
			   const struct change *change)
{
	struct range_sub *sub;
	struct herd herd;

	herd_init(&herd, &state->tree, desc);
	while ((sub = herd_next(&herd)))
		if (range_cares(sub, desc) && change_counts(change, sub))
			range_uncount(sub);
}

/* The reverse of change_count(); inside S. */
static void uncount(struct mmn_state *state, struct mmn_invalidate_desc *desc)
{
	struct change *change = change_of(desc);
	struct slot *slot = slot_of(state, change);

	/* Nobody came and nobody left: the one that was called is still it. */
	if (slot && slot->only && slot->version == state_version(state))
		range_uncount(slot->only);
	else
		uncount_ranges(state, desc, change);
	change->id = 0;
	if (slot)
		return;
	mmn_mutex_lock(&state->overflow_lock);
	list_del(&change->link);
	mmn_mutex_unlock(&state->overflow_lock);
}

/*
 * Nobody depends on it from now on, nor will: an insert that finds it still
 * open in its slot, when we are not inside any more, would count on its end.
 * Inside S.
 */
static void be_over(struct mmn_state *state, struct mmn_invalidate_desc *desc)
{
	struct change *change = change_of(desc);
	struct slot *slot = slot_of(state, change);
	bool counted = change->id;

	if (counted)
		uncount(state, desc);
	if (slot) {
		slot->only = NULL;
		/* relaxed: inserts look at it when S is closed */
		mmn_store_relaxed(&slot->word, (uintptr_t)desc | SLOT_OVER);
	}
	if (counted)
		state_wake_drain(state);
}

/* Its door is lowered for good. */
static void free_slot(struct slot *slot)
{
	/*
	 * pair(close_insert): release, with the loads of the slots in
	 * hold_slot().  Without it an insert finds the slot free, lets its
	 * readers go, and they see the memory as it was before the change.
	 * pair(slot_owner): release, with the acquire in claim_slot().  Without
	 * it the next owner finds ids that were given before.
	 */
	mmn_store_release(&slot->word, 0);
}

/* The descriptor is its caller's again; not inside S. */
static void be_ready(struct visit *visit, struct change *change)
{
	if (visit->slot)
		free_slot(visit->slot);
	visit_end(visit);
	change->slot = NO_SLOT;
	change->opener = NULL;
	change->phase = PHASE_READY;
}

/* ------------------------------------------------------------------ */
/* The start                                                          */
/* ------------------------------------------------------------------ */

/* Inside S with @sub, not inside on return; it is a counted change. */
static int tell(struct visit *visit, struct mmn_invalidate_desc *desc,
		struct herd *herd, struct range_sub *sub, bool watched)
{
	struct change *change = change_of(desc);

	change->classic_told = watched;
	if (!ranges_tell(visit, desc, herd, sub) ||
	    (watched && !classics_tell_start(visit, desc, change->id))) {
		visit_enter(visit);
		be_over(visit->state, desc);
		visit_leave(visit);
		be_ready(visit, change);
		return -EAGAIN;
	}
	visit_end(visit);
	return 0;
}

/*
 * A change with a slot that concerns nobody stays in it as it is; or it does
 * already count on somebody who came later, because of an insert.
 */
static int notify(struct mmn_invalidate_desc *desc, bool ask_classics)
{
	struct mmn_state *state = desc->state;
	struct change *change = change_of(desc);
	struct range_sub *sub;
	struct visit visit;
	struct herd herd;
	bool watched;

	visit_begin(&visit, state, slot_of(state, change));
	MMN_PROBE(change_notify, desc, desc->start, desc->last, desc->event);
	if (visit.slot)
		visit.slot->only = NULL;
	watched = ask_classics && state->nr_watching;
	herd_init(&herd, &state->tree, desc);
	sub = ranges_next(&herd, desc);
	if (!sub && !watched && visit.slot) {
		visit_leave(&visit);
		return 0;
	}
	if (!change->id)
		change_count(state, desc);
	return tell(&visit, desc, &herd, sub, watched);
}

int mmn_invalidate_notify(struct mmn_invalidate_desc *desc)
{
	struct change *change;

	if (!desc_is_valid(desc))
		return -EINVAL;
	change = change_of(desc);
	if (change->phase != PHASE_OPEN)
		return -EINVAL;
	change->phase = PHASE_TOLD;
	if (!state_is_live(desc->state))
		return 0;
	return notify(desc, true);
}

void change_tell_ranges(struct mmn_invalidate_desc *desc)
{
	change_of(desc)->phase = PHASE_TOLD;
	notify(desc, false);
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
	struct visit visit;
	uint64_t id;

	visit_begin(&visit, state, slot_of(state, change));
	id = change->id;
	be_over(state, desc);
	visit_leave(&visit);
	MMN_PROBE(change_end, desc, desc->start, desc->last, id);
	if (change->classic_told)
		classics_tell_end(&visit, desc, id);
	be_ready(&visit, change);
}

/* change->slot may not be written yet, or stand for somebody else. */
static struct slot *find_slot(struct mmn_state *state,
			      const struct mmn_invalidate_desc *desc)
{
	uint32_t i;

	for (i = 0; i < NR_SLOTS; i++)
		/* relaxed: others do not put this one there */
		if ((mmn_load_relaxed(&state->slots[i].word) & ~SLOT_FLAGS) ==
		    (uintptr_t)desc)
			return &state->slots[i];
	return NULL;
}

void mmn_invalidate_abandon(struct mmn_invalidate_desc *desc)
{
	struct change *change = change_of(desc);
	struct mmn_state *state = desc->state;
	struct visit visit;

	if (!state || !state_is_live(state)) {
		change->slot = NO_SLOT;
		change->opener = NULL;
		change->phase = PHASE_READY;
		return;
	}
	/* Inside S no insert holds it. */
	visit_begin(&visit, state, NULL);
	visit.slot = find_slot(state, desc);
	change->slot = visit.slot ? visit.slot - state->slots : NO_SLOT;
	if (visit.slot)
		visit.slot->only = NULL;
	be_over(state, desc);
	visit_leave(&visit);
	be_ready(&visit, change);
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
