/* SPDX-License-Identifier: MIT */
/*
 * What the library counts: how often a subscription was called, and how much of
 * its readers' work was thrown away.
 *
 * prints:
 *	3 callbacks, 2 retries, 0 waits, 0 open
 *	1 range, 3 hits
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
	pthread_mutex_unlock(&lock);
	return true;
}

static void change_memory(uintptr_t start)
{
	struct mmn_invalidate_desc change;

	mmn_invalidate_desc_init(&change, state, MMN_EVENT_CLEAR, start,
				 start + 9);
	if (mmn_invalidate_start(&change) == 0)
		mmn_invalidate_end(&change);
}

/* Is what was looked at still what it was, with a change in between? */
static bool look(uintptr_t changed)
{
	uint64_t seq = mmn_range_read_begin(&sub);
	bool collided;

	change_memory(changed);
	pthread_mutex_lock(&lock);
	collided = mmn_range_read_retry(&sub, seq);
	pthread_mutex_unlock(&lock);
	return !collided;
}

int main(void)
{
	static const struct mmn_range_ops ops = { .invalidate = invalidate };
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &ops,
					   .lock = mmn_driver_mutex(&lock) };
	struct mmn_range_stats stats = { .size = sizeof(stats) };
	struct mmn_state_stats all = { .size = sizeof(all) };

	if (mmn_state_create(&state) ||
	    mmn_range_subscription_init(&sub, &config) ||
	    mmn_range_subscription_insert(&sub, state, 100, 199))
		return 1;
	/* Two over the range, one elsewhere, and one that nobody reads beside. */
	if (look(150) || look(190) || !look(300))
		return 1;
	change_memory(100);
	if (mmn_range_get_stats(&sub, &stats) ||
	    mmn_state_get_stats(state, &all))
		return 1;
	printf("%d callbacks, %d retries, %d waits, %d open\n",
	       (int)stats.callbacks, (int)stats.retries, (int)stats.waits,
	       (int)stats.open);
	printf("%d range, %d hits\n", (int)all.ranges, (int)all.hits);

	mmn_range_subscription_remove(&sub);
	mmn_state_put(state);
	return 0;
}
