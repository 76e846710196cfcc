/* SPDX-License-Identifier: MIT */
/*
 * A buffer grows at one end and shrinks at the other while a device mirrors it.
 * The subscription moves with it in one step: what stays is watched at every
 * moment, and who has looked before the step looks again.
 *
 * prints:
 *	a look from before: too early
 *	a change in what was added: 1 callback
 *	a change in what was given up: 0 callbacks
 */
#include <mmn/notifier.h>

#include <pthread.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mmn_range_subscription sub;
static struct mmn_state *state;
static unsigned int callbacks;

static bool invalidate(struct mmn_range_subscription *which,
		       const struct mmn_invalidate_desc *desc, uint64_t cur_seq)
{
	(void)desc;
	pthread_mutex_lock(&lock);
	mmn_range_set_seq(which, cur_seq);
	/* What is mirrored of the changed range would be torn down here. */
	callbacks++;
	pthread_mutex_unlock(&lock);
	return true;
}

static unsigned int callbacks_of_change(uintptr_t start, uintptr_t last)
{
	struct mmn_invalidate_desc change;

	callbacks = 0;
	mmn_invalidate_desc_init(&change, state, MMN_EVENT_CLEAR, start, last);
	if (mmn_invalidate_start(&change) == 0)
		mmn_invalidate_end(&change);
	return callbacks;
}

/*
 * Under the driver's lock, with what leaves the range torn down: a reader that
 * has looked at the old range installs nothing afterwards.
 */
static int move_to(uintptr_t start, uintptr_t last)
{
	int ret;

	pthread_mutex_lock(&lock);
	ret = mmn_range_subscription_resize(&sub, start, last);
	pthread_mutex_unlock(&lock);
	return ret;
}

int main(void)
{
	static const struct mmn_range_ops ops = { .invalidate = invalidate };
	struct mmn_range_config config = { .size = sizeof(config),
					   .ops = &ops,
					   .lock = mmn_driver_mutex(&lock) };
	uint64_t seq;

	if (mmn_state_create(&state) ||
	    mmn_range_subscription_init(&sub, &config) ||
	    mmn_range_subscription_insert(&sub, state, 100, 199))
		return 1;
	seq = mmn_range_read_begin(&sub);
	if (move_to(150, 299))
		return 1;
	pthread_mutex_lock(&lock);
	printf("a look from before: %s\n",
	       mmn_range_read_retry(&sub, seq) ? "too early" : "good");
	pthread_mutex_unlock(&lock);
	printf("a change in what was added: %u callback\n",
	       callbacks_of_change(200, 209));
	printf("a change in what was given up: %u callbacks\n",
	       callbacks_of_change(100, 109));

	mmn_range_subscription_remove(&sub);
	mmn_state_put(state);
	return 0;
}
