/* SPDX-License-Identifier: MIT */
/*
 * Classic subscriptions: told of every change of an address space.
 *
 * The list is in the order of birth.  A walk is a reader of S and leaves it for
 * each callback; the running count keeps the object, the birth of the last one
 * keeps the place.
 */
#include "notifier/state.h"

#include <errno.h>

#include "base/inject.h"
#include "base/probe.h"
#include "base/wait.h"

static bool watches_changes(const struct classic_sub *sub)
{
	return sub->ops->invalidate_range_start ||
	       sub->ops->invalidate_range_end;
}

/* ------------------------------------------------------------------ */
/* Frees that are under way                                           */
/* ------------------------------------------------------------------ */

/*
 * Frees that a put left to a running callback, counted in two rounds.  New ones
 * go to the current round, so that the count of the other can come to 0 however
 * many follow.
 */
static uint32_t frees_round;
static uint32_t nr_frees[2];
static uint32_t frees_generation;

void classics_adopt(uint32_t generation)
{
	/* relaxed: a fork child has one thread when it makes its first state */
	uint32_t seen = mmn_load_relaxed(&frees_generation);

	if (seen == generation ||
	    !mmn_cmpxchg_relaxed(&frees_generation, &seen, generation))
		return;
	if (!seen)
		return;
	/* relaxed: as above; the threads that would have freed are not here */
	mmn_store_relaxed(&nr_frees[0], 0);
	mmn_store_relaxed(&nr_frees[1], 0);
}

static void free_is_due(struct classic_sub *sub)
{
	sub->counted = true;
	/* relaxed: either round will do, both are waited for */
	sub->round = mmn_load_relaxed(&frees_round) & 1;
	/* relaxed: who must see it comes after this put has returned */
	mmn_fetch_add_relaxed(&nr_frees[sub->round], 1);
}

static void free_is_done(uint32_t round)
{
	/*
	 * pair(frees): release, with the acquire in wait_frees().  Without it
	 * synchronize returns before what the free wrote is visible.
	 */
	if (mmn_fetch_sub_release(&nr_frees[round], 1) == 1)
		mmn_wake(&nr_frees[round], INT32_MAX);
}

static void wait_frees(uint32_t round)
{
	uint32_t nr;

	/*
	 * pair(frees): acquire, with the release in free_is_done().  Without it
	 * the caller may unload the code that another thread just left.
	 */
	while ((nr = mmn_load_acquire(&nr_frees[round])))
		mmn_wait_on(&nr_frees[round], nr, NULL);
}

int mmn_subscription_synchronize(void)
{
	uint32_t round, n;

	if (mmn_context_in_callback()) {
		mmn_bug("synchronize in a callback");
		return -EDEADLK;
	}
	if (!mmn_process_is_owner())
		return 0;
	for (n = 0; n < 2; n++) {
		/* relaxed: see free_is_due() */
		round = mmn_fetch_add_relaxed(&frees_round, 1) & 1;
		wait_frees(round);
	}
	return 0;
}

/* Its last user has gone and nobody runs in it; S dropped. */
static void free_classic(struct classic_sub *sub)
{
	struct mmn_state *state = sub->state;
	struct mmn_callback_frame frame;
	bool counted = sub->counted;
	uint32_t round = sub->round;

	mmn_context_enter_callback(&frame, NULL, false);
	sub->ops->free_subscription(public_classic(sub));
	mmn_context_leave_callback(&frame);
	if (counted)
		free_is_done(round);
	mmn_state_put(state);
}

/* ------------------------------------------------------------------ */
/* Walks                                                              */
/* ------------------------------------------------------------------ */

/* Inside S, or S held. */
static void call_begins(struct classic_sub *sub)
{
	/* relaxed: S orders it with removers */
	mmn_fetch_add_relaxed(&sub->running, 1);
}

static bool is_listed(const struct classic_sub *sub)
{
	return !list_is_empty(&sub->link);
}

/*
 * Inside S, or S held.  True when the last one has left an object whose users
 * are gone: the caller frees it.  Otherwise it may be gone.
 */
static bool call_ends(struct classic_sub *sub)
{
	bool listed = is_listed(sub), orphan = sub->orphan;
	uint32_t running;

	/*
	 * pair(classic_running): release and acquire, with itself in
	 * call_ends() of other threads.  Without it the last one frees what
	 * another callback still writes.
	 */
	running = mmn_fetch_sub_acq_rel(&sub->running, 1) - 1;
	if (listed)
		return false;
	if (orphan)
		return !running;
	mmn_wake(&sub->running, INT32_MAX);
	return false;
}

static void wait_idle(struct mmn_state *state, struct classic_sub *sub,
		      struct mmn_sigmask *saved)
{
	uint32_t running;

	/* relaxed: whoever changes it is inside S */
	while ((running = mmn_load_relaxed(&sub->running))) {
		state_unlock(state, saved);
		mmn_wait_on(&sub->running, running, NULL);
		state_lock(state, saved);
	}
}

/* The first one born after @birth, 0 for the first of all; inside S. */
static struct classic_sub *classic_after(struct mmn_state *state,
					 uint64_t birth)
{
	struct classic_sub *sub;

	list_for_each (sub, &state->classics, link)
		if (!birth || id_before(birth, sub->birth))
			return sub;
	return NULL;
}

/*
 * struct classic_call - what a walk asks each subscription
 *
 * @one calls the right op and keeps what it answered.  False ends the walk.
 */
struct classic_call {
	bool (*one)(struct classic_call *call, struct classic_sub *sub);
	struct visit *visit;
	struct mmn_invalidate_desc *desc;
	uintptr_t start;
	uintptr_t last;
	/* of the change; only older subscriptions are asked.  0 for all */
	uint64_t id;
	bool ends;
	bool blockable;
	bool answer;
};

static bool is_asked(const struct classic_call *call,
		     const struct classic_sub *sub)
{
	if (!call->id)
		return true;
	/* relaxed: see refuses() */
	return id_before(call->ends ? mmn_load_relaxed(&sub->ends_after)
				    : sub->birth,
			 call->id);
}

/* One callback; inside S, left for the call. */
static bool ask(struct classic_call *call, struct classic_sub *sub)
{
	struct mmn_callback_frame frame;
	bool go_on = true;

	call_begins(sub);
	visit_leave(call->visit);
	visit_block(call->visit);
	if (call->id && mmn_context_in_callback_of(sub)) {
		mmn_bug("a change is made by a callback that is told of it");
	} else {
		MMN_INJECT_PAUSE();
		mmn_context_enter_callback(&frame, sub, call->blockable);
		go_on = call->one(call, sub);
		mmn_context_leave_callback(&frame);
	}
	visit_enter(call->visit);
	if (call_ends(sub)) {
		visit_leave(call->visit);
		free_classic(sub);
		visit_enter(call->visit);
	}
	return go_on;
}

/* Inside S. */
static void walk(struct classic_call *call)
{
	struct mmn_state *state = call->visit->state;
	struct classic_sub *sub = classic_after(state, 0);

	while (sub) {
		uint64_t birth = sub->birth;

		if (is_asked(call, sub) && !ask(call, sub))
			return;
		sub = classic_after(state, birth);
	}
}

static void refuses(struct classic_call *call, struct classic_sub *sub)
{
	struct mmn_state *state = call->visit->state;
	uint64_t next;

	call->answer = false;
	mmn_bug_on(call->blockable, "a change that may sleep was refused");
	mmn_bug_on(sub->ops->invalidate_range_end,
		   "a subscriber that wants ends has refused a change");
	/*
	 * Ids that slots have taken ahead must not be given any more.
	 * relaxed, all: a change that is open has its id by now, and others
	 * are defended from a defective subscriber only
	 */
	mmn_fetch_add_relaxed(&state->version, 1);
	next = mmn_load_relaxed(&state->next_seq);
	mmn_store_relaxed(&sub->ends_after, next);
}

static bool call_start(struct classic_call *call, struct classic_sub *sub)
{
	if (!sub->ops->invalidate_range_start)
		return true;
	if (sub->ops->invalidate_range_start(public_classic(sub), call->desc))
		refuses(call, sub);
	return true;
}

static bool call_end(struct classic_call *call, struct classic_sub *sub)
{
	if (sub->ops->invalidate_range_end)
		sub->ops->invalidate_range_end(public_classic(sub), call->desc);
	return true;
}

static void tell_end(struct visit *visit, struct mmn_invalidate_desc *desc,
		     uint64_t id)
{
	struct classic_call call = {
		.one = call_end,
		.visit = visit,
		.desc = desc,
		.id = id,
		.ends = true,
		.blockable = mmn_invalidate_is_blockable(desc),
	};

	walk(&call);
}

void classics_tell_end(struct visit *visit, struct mmn_invalidate_desc *desc,
		       uint64_t id)
{
	visit_enter(visit);
	tell_end(visit, desc, id);
	visit_leave(visit);
}

bool classics_tell_start(struct visit *visit, struct mmn_invalidate_desc *desc,
			 uint64_t id)
{
	struct classic_call call = {
		.one = call_start,
		.visit = visit,
		.desc = desc,
		.id = id,
		.blockable = mmn_invalidate_is_blockable(desc),
		.answer = true,
	};
	bool refused;

	visit_enter(visit);
	walk(&call);
	refused = !call.answer && !call.blockable;
	if (refused)
		tell_end(visit, desc, id);
	visit_leave(visit);
	return !refused;
}

/* ------------------------------------------------------------------ */
/* Questions                                                          */
/* ------------------------------------------------------------------ */

static bool call_clear_flush_young(struct classic_call *call,
				   struct classic_sub *sub)
{
	if (sub->ops->clear_flush_young &&
	    sub->ops->clear_flush_young(public_classic(sub), call->visit->state,
					call->start, call->last))
		call->answer = true;
	return true;
}

static bool call_clear_young(struct classic_call *call, struct classic_sub *sub)
{
	if (sub->ops->clear_young &&
	    sub->ops->clear_young(public_classic(sub), call->visit->state,
				  call->start, call->last))
		call->answer = true;
	return true;
}

static bool call_test_young(struct classic_call *call, struct classic_sub *sub)
{
	if (sub->ops->test_young)
		call->answer = sub->ops->test_young(
			public_classic(sub), call->visit->state, call->start);
	return !call->answer;
}

static bool call_secondary_tlbs(struct classic_call *call,
				struct classic_sub *sub)
{
	if (sub->ops->invalidate_secondary_tlbs)
		sub->ops->invalidate_secondary_tlbs(public_classic(sub),
						    call->visit->state,
						    call->start, call->last);
	return true;
}

static bool ask_all(struct mmn_state *state,
		    bool (*one)(struct classic_call *, struct classic_sub *),
		    uintptr_t start, uintptr_t last)
{
	struct classic_call call = {
		.one = one,
		.start = start,
		.last = last,
	};
	struct visit visit;

	if (!state_is_live(state))
		return false;
	call.visit = &visit;
	visit_begin(&visit, state, NULL);
	walk(&call);
	visit_leave(&visit);
	visit_end(&visit);
	return call.answer;
}

bool mmn_clear_flush_young(struct mmn_state *state, uintptr_t start,
			   uintptr_t last)
{
	return ask_all(state, call_clear_flush_young, start, last);
}

bool mmn_clear_young(struct mmn_state *state, uintptr_t start, uintptr_t last)
{
	return ask_all(state, call_clear_young, start, last);
}

bool mmn_test_young(struct mmn_state *state, uintptr_t addr)
{
	return ask_all(state, call_test_young, addr, addr);
}

void mmn_invalidate_secondary_tlbs(struct mmn_state *state, uintptr_t start,
				   uintptr_t last)
{
	ask_all(state, call_secondary_tlbs, start, last);
}

/* ------------------------------------------------------------------ */
/* Register                                                           */
/* ------------------------------------------------------------------ */

static bool ops_are_valid(const struct mmn_subscription_ops *ops)
{
	if (!ops)
		return false;
	return !ops->invalidate_secondary_tlbs ||
	       (!ops->invalidate_range_start && !ops->invalidate_range_end);
}

static void link_classic(struct mmn_state *state, struct classic_sub *sub)
{
	sub->state = mmn_state_get(state);
	sub->generation = state->generation;
	sub->birth = new_id(state);
	/* relaxed, both: nobody else has it yet */
	mmn_store_relaxed(&sub->ends_after, sub->birth);
	mmn_store_relaxed(&sub->running, 0);
	list_add_tail(&sub->link, &state->classics);
	MMN_PROBE(classic_register, sub, sub->birth);
}

static void unlink_classic(struct mmn_state *state, struct classic_sub *sub)
{
	list_del(&sub->link);
	if (watches_changes(sub)) {
		state->nr_watching--;
		state_filter_remove(state, 0, UINTPTR_MAX, 0);
	}
	state_wake_drain(state);
	MMN_PROBE(classic_unregister, sub, sub->birth);
}

/* Changes that were open before the subscription was linked have a smaller id. */
static void wait_drained(struct mmn_state *state, uint64_t birth,
			 struct mmn_sigmask *saved)
{
	uint32_t drain;

	state->nr_draining++;
	while (state_has_change_before(state, birth)) {
		/* relaxed: S is held, and who bumps it is inside */
		drain = mmn_load_relaxed(&state->drain);
		state_unlock(state, saved);
		mmn_wait_on(&state->drain, drain, NULL);
		state_lock(state, saved);
	}
	state->nr_draining--;
}

static int register_locked(struct mmn_state *state, struct classic_sub *sub,
			   struct mmn_sigmask *saved)
{
	uint32_t mark;

	if (state->released)
		return -EINVAL;
	if (state_thread_has_change(state, 0, UINTPTR_MAX))
		return -EDEADLK;
	if (watches_changes(sub)) {
		state->nr_watching++;
		state_filter_add(state, 0, UINTPTR_MAX, &mark);
	}
	state_adopt_slots(state, 0, UINTPTR_MAX);
	link_classic(state, sub);
	/*
	 * pair(classic_status): release, with the acquire in claim_classic().
	 * Without it who unregisters may not see the state it has to lock.
	 */
	mmn_store_release(&sub->status, SUB_INSERTED);
	wait_drained(state, sub->birth, saved);
	return 0;
}

static bool claim_classic(struct classic_sub *sub, uint32_t from, uint32_t to)
{
	/*
	 * pair(classic_status): acquire, with the release in register_locked()
	 * and with those that give the object back.  Without it the object is
	 * used while another thread still writes it.
	 */
	return mmn_cmpxchg_acquire(&sub->status, &from, to);
}

int mmn_subscription_register(struct mmn_subscription *public_sub,
			      struct mmn_state *state)
{
	struct classic_sub *sub = classic_of(public_sub);
	struct mmn_sigmask saved;
	int ret;

	if (!sub || !state || !ops_are_valid(sub->ops))
		return -EINVAL;
	if (!state_is_live(state))
		return -ESTALE;
	if (mmn_context_in_callback()) {
		mmn_bug("register in a callback");
		return -EDEADLK;
	}
	if (!claim_classic(sub, 0, SUB_BUSY) &&
	    !claim_classic(sub, SUB_IDLE, SUB_BUSY))
		return -EEXIST;
	state_lock(state, &saved);
	ret = register_locked(state, sub, &saved);
	state_unlock(state, &saved);
	if (ret)
		/* relaxed: nothing of it was written */
		mmn_store_relaxed(&sub->status, SUB_IDLE);
	return ret;
}

/* ------------------------------------------------------------------ */
/* Unregister                                                         */
/* ------------------------------------------------------------------ */

/* S held; opened for the free. */
static void free_orphan(struct mmn_state *state, struct classic_sub *sub)
{
	state_drop(state);
	free_classic(sub);
	state_relock(state);
}

/*
 * The subscriber is still told of changes while its release runs: until it
 * returns its device may use the memory.  S held.
 */
static void release_and_unlink(struct mmn_state *state, struct classic_sub *sub)
{
	struct mmn_callback_frame frame;

	call_begins(sub);
	state_drop(state);
	mmn_context_enter_callback(&frame, NULL, true);
	if (sub->ops->release)
		sub->ops->release(public_classic(sub), state);
	mmn_context_leave_callback(&frame);
	state_relock(state);
	unlink_classic(state, sub);
}

/* Who called release gives it back; S held; the object may be gone after. */
static void give_back(struct classic_sub *sub)
{
	/*
	 * pair(classic_status): release, with the acquire in claim_classic().
	 * Without it the next life may see writes of this one.
	 */
	mmn_store_release(&sub->status, SUB_IDLE);
	mmn_wake(&sub->status, INT32_MAX);
}

/* mmn_state_release() has it in its hands: all is over when that is. */
static void wait_released(struct classic_sub *sub)
{
	/*
	 * pair(classic_status): acquire, with the release in give_back().
	 * Without it the caller may free what is still being written.
	 */
	while (mmn_load_acquire(&sub->status) == SUB_RELEASED &&
	       sub->generation == mmn_process_generation())
		mmn_wait_on(&sub->status, SUB_RELEASED, NULL);
}

int mmn_subscription_unregister(struct mmn_subscription *public_sub)
{
	struct classic_sub *sub = classic_of(public_sub);
	struct mmn_sigmask saved;
	struct mmn_state *state;

	if (!sub)
		return -ENOENT;
	if (mmn_context_in_callback()) {
		mmn_bug("unregister in a callback");
		return -EDEADLK;
	}
	if (!claim_classic(sub, SUB_INSERTED, SUB_LEAVING)) {
		wait_released(sub);
		return -ENOENT;
	}
	state = sub->state;
	if (!state_is_live(state)) {
		give_back(sub);
		return 0;
	}
	state_lock(state, &saved);
	release_and_unlink(state, sub);
	if (call_ends(sub))
		free_orphan(state, sub);
	wait_idle(state, sub, &saved);
	give_back(sub);
	state_unlock(state, &saved);
	mmn_state_put(state);
	return 0;
}

/* S held by the caller, who has signals blocked and a reference. */
static void release_one(struct mmn_state *state, struct classic_sub *sub)
{
	uint32_t running;
	bool orphan;

	release_and_unlink(state, sub);
	/* relaxed: whoever changes it is inside S; 1 is our own */
	while ((running = mmn_load_relaxed(&sub->running)) > 1) {
		state_drop(state);
		mmn_wait_on(&sub->running, running, NULL);
		state_relock(state);
	}
	orphan = sub->orphan;
	if (call_ends(sub))
		free_orphan(state, sub);
	if (!orphan)
		give_back(sub);
	mmn_state_put(state);
}

/*
 * Whoever ends the address space frees its memory next: the release op of one
 * that another thread unregisters must have returned as well.
 */
static void wait_unregistered(struct mmn_state *state)
{
	uint32_t drain;

	state->nr_draining++;
	while (!list_is_empty(&state->classics)) {
		/* relaxed: as in wait_drained() */
		drain = mmn_load_relaxed(&state->drain);
		state_drop(state);
		mmn_wait_on(&state->drain, drain, NULL);
		state_relock(state);
	}
	state->nr_draining--;
}

void classics_release(struct mmn_state *state)
{
	struct classic_sub *sub = classic_after(state, 0);

	while (sub) {
		uint64_t birth = sub->birth;

		/* One that loses here is just being unregistered. */
		if (claim_classic(sub, SUB_INSERTED, SUB_RELEASED))
			release_one(state, sub);
		sub = classic_after(state, birth);
	}
	wait_unregistered(state);
}

/* ------------------------------------------------------------------ */
/* Shared subscriptions                                               */
/* ------------------------------------------------------------------ */

#define MAX_USERS UINT32_MAX

/* One more user of an object that has one; S held. */
static int add_user(struct classic_sub *sub)
{
	/* relaxed: a user exists as long as it is not 0 */
	uint32_t users = mmn_load_relaxed(&sub->users);

	do {
		if (!users)
			return -ENOENT;
		if (users == MAX_USERS)
			return -EOVERFLOW;
		/* relaxed: S orders what else happens to it */
	} while (!mmn_cmpxchg_relaxed(&sub->users, &users, users + 1));
	return 0;
}

static int find_shared(struct mmn_state *state,
		       const struct mmn_subscription_ops *ops,
		       struct classic_sub **ret_sub)
{
	struct classic_sub *sub;
	struct mmn_sigmask saved;
	int ret = -ENOENT;

	state_lock(state, &saved);
	list_for_each (sub, &state->classics, link) {
		if (sub->ops != ops)
			continue;
		ret = add_user(sub);
		if (ret == -ENOENT)
			continue;
		if (!ret)
			*ret_sub = sub;
		break;
	}
	state_unlock(state, &saved);
	return ret;
}

static int make_shared(struct mmn_state *state,
		       const struct mmn_subscription_ops *ops,
		       struct classic_sub **ret_sub)
{
	struct mmn_subscription *public_sub = NULL;
	struct classic_sub *sub;
	int ret;

	ret = ops->alloc_subscription(state, &public_sub);
	if (ret)
		return ret;
	sub = classic_of(public_sub);
	sub->ops = ops;
	sub->state = state;
	/* relaxed: nobody else has it yet */
	mmn_store_relaxed(&sub->users, 1);
	ret = mmn_subscription_register(public_sub, state);
	if (ret) {
		ops->free_subscription(public_sub);
		return ret;
	}
	/* The users hold a reference of their own, beside the registration's. */
	mmn_state_get(state);
	*ret_sub = sub;
	return 0;
}

static bool has_own_change(struct mmn_state *state)
{
	struct mmn_sigmask saved;
	bool own;

	state_lock(state, &saved);
	own = state_thread_has_change(state, 0, UINTPTR_MAX);
	state_unlock(state, &saved);
	return own;
}

int mmn_subscription_get(const struct mmn_subscription_ops *ops,
			 struct mmn_state *state,
			 struct mmn_subscription **ret_sub)
{
	struct classic_sub *sub = NULL;
	int ret;

	if (!state || !ops_are_valid(ops) || !ops->alloc_subscription ||
	    !ops->free_subscription)
		return -EINVAL;
	if (!state_is_live(state))
		return -ESTALE;
	if (mmn_context_in_callback()) {
		mmn_bug("mmn_subscription_get() in a callback");
		return -EDEADLK;
	}
	if (has_own_change(state))
		return -EDEADLK;
	mmn_mutex_lock(&state->get_lock);
	ret = find_shared(state, ops, &sub);
	if (ret == -ENOENT)
		ret = make_shared(state, ops, &sub);
	mmn_mutex_unlock(&state->get_lock);
	if (!ret)
		*ret_sub = public_classic(sub);
	return ret;
}

static bool drop_user(struct classic_sub *sub, bool *last)
{
	/* relaxed: a user exists as long as it is not 0 */
	uint32_t users = mmn_load_relaxed(&sub->users);

	do {
		if (!users)
			return false;
		/*
		 * pair(shared_users): release and acquire, with itself in
		 * drop_user() of other threads.  Without it the object is freed
		 * while another user still writes it.
		 */
	} while (!mmn_cmpxchg_acq_rel(&sub->users, &users, users - 1));
	*last = users == 1;
	return true;
}

int mmn_subscription_put(struct mmn_subscription *public_sub)
{
	struct classic_sub *sub = classic_of(public_sub);
	struct mmn_state *state;
	struct mmn_sigmask saved;
	bool last, registered, idle;

	if (!sub)
		return -ENOENT;
	/* Without a user of our own, the last one may free it at any moment. */
	state = sub->state;
	if (!drop_user(sub, &last)) {
		mmn_bug("a shared subscription is put that has no user");
		return -ENOENT;
	}
	if (!last || !state_is_live(state))
		return 0;
	state_lock(state, &saved);
	registered = claim_classic(sub, SUB_INSERTED, SUB_LEAVING);
	if (registered)
		unlink_classic(state, sub);
	sub->orphan = true;
	/* relaxed: S is held */
	idle = !mmn_load_relaxed(&sub->running);
	if (!idle)
		free_is_due(sub);
	state_unlock(state, &saved);
	if (idle)
		free_classic(sub);
	if (registered)
		mmn_state_put(state);
	return 0;
}
