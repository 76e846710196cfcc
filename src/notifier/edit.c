/* SPDX-License-Identifier: MIT */
/*
 * Several inserts, removes and resizes as one step.
 *
 * S is closed from the first look to the last change, so that whoever takes S sees
 * all of it or nothing.  Changes that look at the filter only see new ranges
 * before old ones go.  What remains are changes on their way along the
 * subscriptions, between two callbacks.  What is torn down by the callback of an
 * old subscription may belong to a new one when the callback comes: the driver
 * has handed it over under its lock.  Therefore
 *
 *   - a new range takes over from every old range that it overlaps: it is told
 *     of all changes that the old one would have been told of (sub->since);
 *   - a change that has passed the place where such a subscription appears goes
 *     over the subscriptions once more (change->again).
 *
 * It may call somebody twice.  That is harmless: both calls come before the end,
 * so that no reader begins between them.
 */
#include "notifier/state.h"

#include <errno.h>

static struct range_sub *sub_of(const struct mmn_range_edit *edit)
{
	return range_of(edit->sub);
}

static bool is_removal(const struct mmn_range_edit *edit)
{
	return edit->op == MMN_RANGE_REMOVE ||
	       edit->op == MMN_RANGE_REMOVE_DEFERRED;
}

static int check_edit(const struct mmn_range_edit *edit)
{
	if (!edit->sub || edit->op > MMN_RANGE_RESIZE || edit->flags)
		return -EINVAL;
	if (!is_removal(edit) && edit->last < edit->start)
		return -EINVAL;
	if (edit->op == MMN_RANGE_REMOVE && mmn_context_in_callback()) {
		mmn_bug("remove in a callback: use MMN_RANGE_REMOVE_DEFERRED");
		return -EDEADLK;
	}
	return 0;
}

/* ------------------------------------------------------------------ */
/* Claims; S is held from here on                                     */
/* ------------------------------------------------------------------ */

static int claim_idle(struct mmn_state *state, struct range_sub *sub)
{
	uint32_t status = SUB_IDLE;

	if (state->released)
		return -EINVAL;
	/*
	 * pair(range_status): acquire, with the release in give_back() when it
	 * was inserted before.  Without it what was last written then may land
	 * in its next life.
	 */
	if (mmn_cmpxchg_acquire(&sub->status, &status, SUB_BUSY))
		return 0;
	return range_status_is_taken(status) ? -EEXIST : -EINVAL;
}

static void set_status(struct range_sub *sub, uint32_t status)
{
	/*
	 * pair(range_status): release, with the acquire in claim_removal().
	 * Without it a remover may not see the state it has to lock.
	 */
	mmn_store_release(&sub->status, status);
}

static int claim_inserted(struct mmn_state *state, struct range_sub *sub,
			  uint32_t op)
{
	uint32_t status = SUB_INSERTED;
	int ret;

	/*
	 * pair(range_status): acquire, with the release in
	 * mmn_range_subscription_insert(), perhaps into another state, whose S
	 * is not held.  Without it sub->state may be that of an earlier life,
	 * and what is in the tree of one state is taken out of another's.
	 */
	if (!mmn_cmpxchg_acquire(&sub->status, &status, SUB_EDITED))
		return -ENOENT;
	if (sub->state == state &&
	    (op != MMN_RANGE_REMOVE_DEFERRED || sub->ops->release))
		return 0;
	ret = sub->state == state ? -EINVAL : -ENOENT;
	set_status(sub, SUB_INSERTED);
	return ret;
}

static int claim(struct mmn_state *state, const struct mmn_range_edit *edit)
{
	if (edit->op == MMN_RANGE_INSERT)
		return claim_idle(state, sub_of(edit));
	return claim_inserted(state, sub_of(edit), edit->op);
}

/* Then it is our own claim that was in the way. */
static bool is_repeated(const struct mmn_range_edit *edits, size_t i)
{
	size_t j;

	for (j = 0; j < i; j++)
		if (edits[j].sub == edits[i].sub)
			return true;
	return false;
}

static int claim_all(struct mmn_state *state,
		     const struct mmn_range_edit *edits, size_t nr)
{
	size_t i;
	int ret = 0;

	for (i = 0; i < nr && !ret; i++)
		ret = claim(state, &edits[i]);
	if (!ret)
		return 0;
	i--;
	if (is_repeated(edits, i))
		ret = -EINVAL;
	while (i--)
		set_status(sub_of(&edits[i]), edits[i].op == MMN_RANGE_INSERT
						      ? SUB_IDLE
						      : SUB_INSERTED);
	return ret;
}

/* ------------------------------------------------------------------ */
/* Who takes over from whom                                           */
/* ------------------------------------------------------------------ */

/*
 * Has the change yet to finish with @old, and will it not come to @edit?  The
 * one that it is just calling does not count as finished, unless it stays itself.
 */
static bool would_miss(struct change *change, const struct range_sub *old,
		       const struct mmn_range_edit *edit)
{
	const struct itree_node *node = &old->node;
	/*
	 * relaxed: when it is taken away here its callback is over, and what was
	 * handed over has not waited for the driver's lock
	 */
	uintptr_t calling = mmn_load_relaxed(&change->calling);

	if (!id_before(old->since, change->id))
		return false;
	if (change->again & AGAIN_ROUND)
		return true;
	if (edit->start > change->cursor_start)
		return false;
	/* Not told by its key: it may have moved while it is called. */
	if ((calling & ~CALLING_COUNTED) == (uintptr_t)old)
		return old != sub_of(edit);
	return itree_is_above(node, change->cursor_start, change->cursor_birth);
}

static void take_over(struct mmn_state *state,
		      const struct mmn_range_edit *edit,
		      const struct range_sub *old)
{
	struct counted at = { .state = state };
	struct range_sub *sub = sub_of(edit);
	struct mmn_invalidate_desc *desc;

	if (old->node.start > edit->last || old->node.last < edit->start)
		return;
	if (id_before(old->since, sub->since))
		sub->since = old->since;
	while ((desc = counted_next(&at)))
		if (change_overlaps(desc, edit->start, edit->last) &&
		    change_overlaps(desc, old->node.start, old->node.last) &&
		    would_miss(change_of(desc), old, edit))
			change_of(desc)->again |= AGAIN_WANTED;
}

static void take_over_all(struct mmn_state *state,
			  const struct mmn_range_edit *edits, size_t nr)
{
	size_t i, j;

	for (i = 0; i < nr; i++) {
		if (is_removal(&edits[i]))
			continue;
		if (edits[i].op == MMN_RANGE_INSERT)
			sub_of(&edits[i])->since = new_id(state);
		for (j = 0; j < nr; j++)
			if (edits[j].op != MMN_RANGE_INSERT)
				take_over(state, &edits[i], sub_of(&edits[j]));
	}
}

/* ------------------------------------------------------------------ */
/* The step                                                           */
/* ------------------------------------------------------------------ */

/* New ranges first; see mmn_invalidate_open() for the rest of the order. */
static uint32_t show_all(struct mmn_state *state,
			 const struct mmn_range_edit *edits, size_t nr)
{
	uint32_t mark = 0;
	size_t i;

	for (i = 0; i < nr; i++)
		if (!is_removal(&edits[i]))
			state_filter_add(state, edits[i].start, edits[i].last,
					 &mark);
	for (i = 0; i < nr; i++)
		if (!is_removal(&edits[i]))
			state_adopt_slots(state, edits[i].start, edits[i].last);
	return mark;
}

static void insert(struct mmn_state *state, const struct mmn_range_edit *edit,
		   uint32_t mark)
{
	struct range_sub *sub = sub_of(edit);

	sub->state = mmn_state_get(state);
	sub->generation = state->generation;
	sub->node.start = edit->start;
	sub->node.last = edit->last;
	sub->node.mark = mark;
	range_link(state, sub);
	set_status(sub, SUB_INSERTED);
}

static void apply(struct mmn_state *state, const struct mmn_range_edit *edit,
		  uint32_t mark)
{
	struct range_sub *sub = sub_of(edit);

	switch (edit->op) {
	case MMN_RANGE_INSERT:
		insert(state, edit, mark);
		break;
	case MMN_RANGE_RESIZE:
		range_move(state, sub, edit->start, edit->last, mark);
		set_status(sub, SUB_INSERTED);
		break;
	case MMN_RANGE_REMOVE:
		set_status(sub, SUB_LEAVING);
		range_unlink(state, sub, RUNNING_LEAVING);
		break;
	default:
		set_status(sub, SUB_DEFERRED);
		range_unlink(state, sub, RUNNING_DEFERRED + RUNNING_REMOVER);
		break;
	}
}

static int apply_all(struct mmn_state *state,
		     const struct mmn_range_edit *edits, size_t nr)
{
	struct mmn_sigmask saved;
	uint32_t mark;
	size_t i;
	int ret;

	state_lock(state, &saved);
	ret = claim_all(state, edits, nr);
	if (ret)
		goto out;
	mark = show_all(state, edits, nr);
	take_over_all(state, edits, nr);
	for (i = 0; i < nr; i++)
		apply(state, &edits[i], mark);
	state_update_hull(state);
	/* As often as if they came alone: else the next map is never full. */
	for (i = 0; i < nr; i++)
		state_filter_tend(state);
out:
	state_unlock(state, &saved);
	return ret;
}

int mmn_range_subscription_edit(struct mmn_state *state,
				const struct mmn_range_edit *edits, size_t nr)
{
	size_t i;
	int ret;

	if (!state || (nr && !edits))
		return -EINVAL;
	if (!state_is_live(state))
		return -ESTALE;
	if (hall_own_pass(&state->hall))
		return -EDEADLK;
	for (i = 0; i < nr; i++) {
		ret = check_edit(&edits[i]);
		if (ret)
			return ret;
	}
	ret = apply_all(state, edits, nr);
	if (ret)
		return ret;
	for (i = 0; i < nr; i++) {
		if (edits[i].op == MMN_RANGE_REMOVE)
			range_await(sub_of(&edits[i]));
		else if (edits[i].op == MMN_RANGE_REMOVE_DEFERRED)
			range_let_go(sub_of(&edits[i]));
	}
	return 0;
}

int mmn_range_subscription_resize(struct mmn_range_subscription *public_sub,
				  uintptr_t start, uintptr_t last)
{
	struct mmn_range_edit edit = {
		.op = MMN_RANGE_RESIZE,
		.sub = public_sub,
		.start = start,
		.last = last,
	};
	uint32_t status;

	if (!public_sub || last < start)
		return -EINVAL;
	/*
	 * pair(range_status): acquire, with the release in
	 * mmn_range_subscription_insert().  Without it sub->state is not there.
	 */
	status = mmn_load_acquire(&range_of(public_sub)->status);
	if (status != SUB_INSERTED && status != SUB_EDITED)
		return -ENOENT;
	return mmn_range_subscription_edit(range_of(public_sub)->state, &edit,
					   1);
}
