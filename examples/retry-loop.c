/* SPDX-License-Identifier: MIT */
/*
 * The loop that every driver has: look without a lock, lock, ask whether the
 * look was too early.  Here a change comes in between the first time round.
 *
 * prints:
 *	too early, again
 *	installed after 2 looks
 */
#include <mmn/notifier.h>

#include <pthread.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mmn_range_subscription sub;
static struct mmn_state *state;

static bool invalidate(struct mmn_range_subscription *which,
		       const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	(void)desc;
	pthread_mutex_lock(&lock);
	mmn_range_set_seq(which, cur_seq);
	/* What is installed would be torn down here. */
	pthread_mutex_unlock(&lock);
	return true;
}

static void change_memory(void)
{
	struct mmn_invalidate_desc change;

	mmn_invalidate_desc_init(&change, state, MMN_EVENT_CLEAR, 150, 160);
	if (mmn_invalidate_start(&change) == 0)
		mmn_invalidate_end(&change);
}

int main(void)
{
	static const struct mmn_range_ops ops = { .invalidate = invalidate };
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &ops,
					   .lock = mmn_driver_mutex(&lock) };
	unsigned int looks = 0;

	if (mmn_state_create(&state) ||
	    mmn_range_subscription_init(&sub, &config) ||
	    mmn_range_subscription_insert(&sub, state, 100, 199))
		return 1;
	for (;;) {
		uint64_t seq = mmn_range_read_begin(&sub);

		if (looks++ == 0)
			change_memory();
		pthread_mutex_lock(&lock);
		if (!mmn_range_read_retry(&sub, seq))
			break;
		pthread_mutex_unlock(&lock);
		puts("too early, again");
	}
	printf("installed after %u looks\n", looks);
	pthread_mutex_unlock(&lock);

	mmn_range_subscription_remove(&sub);
	mmn_state_put(state);
	return 0;
}
