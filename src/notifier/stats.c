/* SPDX-License-Identifier: MIT */
/*
 * What is counted, put together by who asks for it.
 *
 * Nobody else pays.  Idle readers and changes that hit nobody count nothing.  A
 * callback is counted by the addition that counts its change open, a hit in the
 * line of the change's own slot; the rest by who has lost its work or sleeps
 * anyway, and only there is a clock read.
 */
#include "notifier/state.h"

#include <errno.h>
#include <string.h>

/* As mmn_mirror_get_stats(): as far as the caller knows the struct. */
static void copy_out(void *stats, uint32_t size, const void *known,
		     size_t known_size)
{
	memset(stats, 0, size);
	memcpy(stats, known, size < known_size ? size : known_size);
}

int mmn_range_get_stats(const struct mmn_range_subscription *public_sub,
			struct mmn_range_stats *ret_stats)
{
	const struct range_sub *sub = range_of(public_sub);
	struct mmn_range_stats stats;
	uint32_t status;

	if (!sub || !ret_stats || ret_stats->size < sizeof(stats.size))
		return -EINVAL;
	/* relaxed: is it one at all? */
	status = mmn_load_relaxed(&sub->status);
	if (status != SUB_IDLE && !range_status_is_taken(status))
		return -EINVAL;
	if (!range_is_live(sub))
		return -ESTALE;
	stats.size = ret_stats->size;
	stats.callbacks = range_nr_callbacks(sub);
	/* relaxed, all: statistics */
	stats.open = open_count(mmn_load_relaxed(&sub->open));
	stats.retries = mmn_load_relaxed(&sub->nr_retries);
	stats.waits = mmn_load_relaxed(&sub->nr_waits);
	stats.longest_wait_ns = mmn_load_relaxed(&sub->longest_wait_ns);
	copy_out(ret_stats, ret_stats->size, &stats, sizeof(stats));
	return 0;
}

/* Of those in slots, and of what they counted. */
static void add_slots(struct mmn_state *state, struct mmn_state_stats *stats)
{
	uint32_t i;

	for (i = 0; i < NR_SLOTS; i++) {
		struct slot *slot = &state->slots[i];
		/* relaxed, all: statistics */
		uintptr_t word = mmn_load_relaxed(&slot->word);

		stats->open += word && !(word & SLOT_OVER);
		stats->hits += mmn_load_relaxed(&slot->nr_hits);
		stats->callbacks += mmn_load_relaxed(&slot->nr_callbacks);
	}
}

static void add_overflow(struct mmn_state *state, struct mmn_state_stats *stats)
{
	struct list_head *link;

	mmn_mutex_lock(&state->overflow_lock);
	for (link = state->overflow.next; link != &state->overflow;
	     link = link->next)
		stats->open++;
	stats->hits += state->nr_hits;
	stats->callbacks += state->nr_callbacks;
	mmn_mutex_unlock(&state->overflow_lock);
}

/* Inside S: nobody comes or goes. */
static void add_subscriptions(struct mmn_state *state,
			      struct mmn_state_stats *stats)
{
	struct list_head *link;

	stats->ranges = state->tree.nr;
	for (link = state->classics.next; link != &state->classics;
	     link = link->next)
		stats->classics++;
	stats->memory_bytes =
		sizeof(*state) + CACHE_LINE + filter_bytes(&state->filter);
}

int mmn_state_get_stats(struct mmn_state *state,
			struct mmn_state_stats *ret_stats)
{
	struct mmn_state_stats stats = { .open = 0 };
	struct visit visit;

	if (!state || !ret_stats || ret_stats->size < sizeof(stats.size))
		return -EINVAL;
	if (!state_is_live(state))
		return -ESTALE;
	stats.size = ret_stats->size;
	visit_begin(&visit, state, NULL);
	add_subscriptions(state, &stats);
	add_slots(state, &stats);
	add_overflow(state, &stats);
	visit_leave(&visit);
	visit_end(&visit);
	/* relaxed: a statistic */
	stats.longest_wait_ns = mmn_load_relaxed(&state->longest_wait_ns);
	copy_out(ret_stats, ret_stats->size, &stats, sizeof(stats));
	return 0;
}
