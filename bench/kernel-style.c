/* SPDX-License-Identifier: MIT */
#include "kernel-style.h"

#include "base/atomic.h"
#include "base/rcu.h"

void kernel_style_init(struct kernel_style *state)
{
	pthread_mutexattr_t attr;

	*state = (struct kernel_style){ .seq = 2 };
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
	pthread_mutex_init(&state->lock, &attr);
	pthread_mutex_init(&state->wait_lock, &attr);
	pthread_mutexattr_destroy(&attr);
	pthread_cond_init(&state->wait, NULL);
}

void kernel_style_destroy(struct kernel_style *state)
{
	pthread_mutex_destroy(&state->lock);
	pthread_mutex_destroy(&state->wait_lock);
	pthread_cond_destroy(&state->wait);
}

static bool is_full(const struct kernel_style *state)
{
	return state->seq & 1;
}

static void link_sub(struct kernel_style *state, struct kernel_style_sub *sub)
{
	itree_insert(&state->tree, &sub->node);
	sub->in_tree = true;
}

static void unlink_sub(struct kernel_style *state, struct kernel_style_sub *sub)
{
	itree_remove(&state->tree, &sub->node);
	sub->in_tree = false;
}

static void defer(struct kernel_style *state, struct kernel_style_sub *sub)
{
	sub->is_deferred = true;
	sub->next_deferred = state->deferred;
	state->deferred = sub;
}

static void undefer(struct kernel_style *state, struct kernel_style_sub *sub)
{
	struct kernel_style_sub **at = &state->deferred;

	while (*at != sub)
		at = &(*at)->next_deferred;
	*at = sub->next_deferred;
	sub->is_deferred = false;
}

/* What is in the tree was to be removed, what is not was to be inserted. */
static void carry_out_deferred(struct kernel_style *state)
{
	struct kernel_style_sub *sub, *next;

	for (sub = state->deferred; sub; sub = next) {
		next = sub->next_deferred;
		sub->is_deferred = false;
		if (sub->in_tree)
			unlink_sub(state, sub);
		else
			link_sub(state, sub);
	}
	state->deferred = NULL;
}

static void set_state_seq(struct kernel_style *state, uint64_t seq)
{
	/* release: who sleeps reads it without the lock */
	mmn_store_release(&state->seq, seq);
}

static void wait_while(struct kernel_style *state, uint64_t seq)
{
	pthread_mutex_lock(&state->wait_lock);
	/* acquire: what the changes wrote */
	while (mmn_load_acquire(&state->seq) == seq)
		pthread_cond_wait(&state->wait, &state->wait_lock);
	pthread_mutex_unlock(&state->wait_lock);
}

void kernel_style_insert(struct kernel_style *state,
			 struct kernel_style_sub *sub, uintptr_t start,
			 uintptr_t last, kernel_style_invalidate *invalidate)
{
	*sub = (struct kernel_style_sub){
		.node = { .start = start, .last = last },
		.invalidate = invalidate,
	};
	pthread_mutex_lock(&state->lock);
	sub->node.birth = ++state->births;
	if (!state->open) {
		sub->seq = state->seq - 1;
		link_sub(state, sub);
	} else {
		if (is_full(state)) {
			defer(state, sub);
		} else {
			set_state_seq(state, state->seq | 1);
			link_sub(state, sub);
		}
		sub->seq = state->seq;
	}
	pthread_mutex_unlock(&state->lock);
}

void kernel_style_remove(struct kernel_style *state,
			 struct kernel_style_sub *sub)
{
	uint64_t seq = 0;

	pthread_mutex_lock(&state->lock);
	if (!is_full(state)) {
		unlink_sub(state, sub);
	} else if (!sub->in_tree) {
		undefer(state, sub);
	} else {
		defer(state, sub);
		seq = state->seq;
	}
	pthread_mutex_unlock(&state->lock);
	if (!seq)
		return;
	wait_while(state, seq);
	/* The sequence moves before the deferred work is done. */
	pthread_mutex_lock(&state->lock);
	pthread_mutex_unlock(&state->lock);
}

static bool call_ranges(struct kernel_style *state,
			const struct kernel_style_desc *desc, uint64_t cur_seq)
{
	struct itree_node *node;

	/* No lock: the tree is frozen. */
	itree_for_each_overlap (node, &state->tree, desc->start, desc->last) {
		struct kernel_style_sub *sub = (struct kernel_style_sub *)node;

		if (!sub->invalidate(sub, desc, cur_seq) && !desc->blockable)
			return false;
	}
	return true;
}

static void close_change(struct kernel_style *state)
{
	pthread_mutex_lock(&state->lock);
	if (--state->open || !is_full(state)) {
		pthread_mutex_unlock(&state->lock);
		return;
	}
	set_state_seq(state, state->seq + 1);
	carry_out_deferred(state);
	pthread_mutex_unlock(&state->lock);
	pthread_mutex_lock(&state->wait_lock);
	pthread_cond_broadcast(&state->wait);
	pthread_mutex_unlock(&state->wait_lock);
}

static void call_classics(struct kernel_style *state,
			  const struct kernel_style_desc *desc, bool start)
{
	struct kernel_style_classic *classic;

	/* acquire: a registration that is seen is seen whole */
	if (!mmn_load_acquire(&state->classics))
		return;
	mmn_rcu_read_lock();
	for (classic = mmn_rcu_dereference(state->classics); classic;
	     classic = mmn_rcu_dereference(classic->next)) {
		if (start && classic->start)
			classic->start(classic, desc);
		if (!start && classic->end)
			classic->end(classic, desc);
	}
	mmn_rcu_read_unlock();
}

bool kernel_style_start(struct kernel_style *state,
			const struct kernel_style_desc *desc)
{
	uint64_t cur_seq;
	bool hit;

	pthread_mutex_lock(&state->lock);
	state->open++;
	hit = itree_first_overlap(&state->tree, desc->start, desc->last);
	if (hit)
		set_state_seq(state, state->seq | 1);
	cur_seq = state->seq;
	pthread_mutex_unlock(&state->lock);
	if (hit && !call_ranges(state, desc, cur_seq)) {
		close_change(state);
		return false;
	}
	call_classics(state, desc, true);
	return true;
}

void kernel_style_end(struct kernel_style *state,
		      const struct kernel_style_desc *desc)
{
	close_change(state);
	call_classics(state, desc, false);
}

uint64_t kernel_style_read_begin(struct kernel_style *state,
				 struct kernel_style_sub *sub)
{
	uint64_t seq;
	bool is_hit;

	pthread_mutex_lock(&state->lock);
	/* relaxed: whether it is old is found out by read_retry() */
	seq = mmn_load_relaxed(&sub->seq);
	is_hit = seq == state->seq;
	pthread_mutex_unlock(&state->lock);
	if (is_hit)
		wait_while(state, seq);
	return seq;
}

bool kernel_style_read_retry(const struct kernel_style_sub *sub, uint64_t seq)
{
	/* relaxed: the driver's lock orders it */
	return mmn_load_relaxed(&sub->seq) != seq;
}

void kernel_style_set_seq(struct kernel_style_sub *sub, uint64_t cur_seq)
{
	/* relaxed: the driver's lock orders it */
	mmn_store_relaxed(&sub->seq, cur_seq);
}

void kernel_style_register(struct kernel_style *state,
			   struct kernel_style_classic *classic)
{
	pthread_mutex_lock(&state->lock);
	classic->next = state->classics;
	mmn_rcu_publish(state->classics, classic);
	pthread_mutex_unlock(&state->lock);
}

void kernel_style_unregister(struct kernel_style *state,
			     struct kernel_style_classic *classic)
{
	struct kernel_style_classic **at;

	pthread_mutex_lock(&state->lock);
	for (at = &state->classics; *at != classic; at = &(*at)->next)
		;
	mmn_rcu_publish(*at, classic->next);
	pthread_mutex_unlock(&state->lock);
	mmn_rcu_synchronize();
}
