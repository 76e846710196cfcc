/* SPDX-License-Identifier: MIT */
/*
 * A program that knows its own changes announces them itself: here a pool hands
 * out memory and takes it back, and somebody has subscribed to all of it.
 *
 * prints:
 *	bytes 4096 to 8191 go away
 *	taken back
 */
#include <mmn/notifier.h>

#include <stdio.h>

static char pool[16384];

/* Callbacks use neither stdio nor the heap: keep what is to be told. */
static uintptr_t first, last;

static bool note(struct mmn_range_subscription *sub,
		 const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	mmn_range_set_seq(sub, cur_seq);
	first = desc->start - (uintptr_t)pool;
	last = desc->last - (uintptr_t)pool;
	return true;
}

int main(void)
{
	static const struct mmn_range_ops ops = { .invalidate = note };
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &ops };
	uintptr_t start = (uintptr_t)pool;
	struct mmn_range_subscription sub;
	struct mmn_invalidate_desc change;
	struct mmn_state *state;

	if (mmn_state_create(&state) ||
	    mmn_range_subscription_init(&sub, &config) ||
	    mmn_range_subscription_insert(&sub, state, start,
					  start + sizeof(pool) - 1))
		return 1;

	mmn_invalidate_desc_init(&change, state, MMN_EVENT_UNMAP, start + 4096,
				 start + 8191);
	if (mmn_invalidate_start(&change))
		return 1;
	printf("bytes %zu to %zu go away\n", (size_t)first, (size_t)last);
	puts("taken back");
	mmn_invalidate_end(&change);

	mmn_range_subscription_remove(&sub);
	mmn_state_put(state);
	return 0;
}
